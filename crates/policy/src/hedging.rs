//! When a second engine is asked though the first has not failed, and how often at most.
//!
//! A request that waits longer for its first byte than nearly all of its model do is likely stuck behind something of its
//! engine's own; a second try elsewhere then costs little and saves much (Dean and Barroso, "The Tail at Scale", 2013).
//! *Invariant*: of any number of requests no more than `percent` in a hundred, and one, are tried twice. Times are kept in
//! buckets an eighth wide; what is old counts half. Pure; O(1) to observe.

use dh_core::time::Span;

/// Buckets of an octave.
const PER_OCTAVE: u64 = 8;
/// The last one holds everything from two hours on.
const BUCKETS: usize = 248;
/// With fewer observations nobody knows what is usual.
const KNOWN_FROM: u32 = 20;
/// After that many what went before counts half.
const HALF_AFTER: u32 = 1_000;
/// What a second try costs; each request brings the share in hundredths.
const TRY: u32 = 100;
/// So much may be saved up.
const CREDIT_MAX: u32 = 10 * TRY;
const MICROS: u64 = 1_000;

/// What is known about the first bytes of one model, and what second tries it still has.
#[derive(Debug, Clone)]
pub struct Hedges {
    counts: Vec<u32>,
    total: u32,
    credit: u32,
}

impl Default for Hedges {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, credit: TRY }
    }
}

impl Hedges {
    /// A request comes; of a hundred, `percent` may be tried twice.
    pub fn came(&mut self, percent: u8) {
        self.credit = (self.credit + u32::from(percent)).min(CREDIT_MAX);
    }

    /// Takes a second try, if there is one left.
    pub fn spend(&mut self) -> bool {
        let left = self.credit.checked_sub(TRY);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    /// Gives back a second try that nobody could make.
    pub fn give_back(&mut self) {
        self.credit = (self.credit + TRY).min(CREDIT_MAX);
    }

    /// A first byte came after `took`.
    pub fn observe(&mut self, took: Span) {
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= HALF_AFTER {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += *count;
            }
        }
    }

    /// The time within which `percent` of first bytes came; nothing before enough is known.
    pub fn within(&self, percent: u8) -> Option<Span> {
        if self.total < KNOWN_FROM {
            return None;
        }
        let wanted = (u64::from(self.total) * u64::from(percent)).div_ceil(100);
        let mut sum = 0_u64;
        let place = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        })?;
        Some(Span(upper(place).saturating_mul(MICROS)))
    }
}

fn bucket(took: Span) -> usize {
    let micros = took.0 / MICROS;
    let place = match micros.checked_ilog2() {
        None | Some(0..=2) => micros,
        Some(octave) => {
            let octave = u64::from(octave);
            (octave - 2) * PER_OCTAVE + ((micros >> (octave - 3)) & (PER_OCTAVE - 1))
        }
    };
    usize::try_from(place).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Microseconds at which a bucket ends.
fn upper(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(0);
    match place / PER_OCTAVE {
        0 => place + 1,
        octaves => (PER_OCTAVE + place % PER_OCTAVE + 1) << (octaves - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;

    #[test]
    fn times_fall_into_buckets_an_eighth_wide() {
        for micros in (0..10_000).chain((0..30).map(|power| 1 << power)) {
            let place = bucket(Span(micros * MICROS));
            assert!(micros < upper(place), "{micros} in {place}");
            assert!(place == 0 || micros >= upper(place - 1), "{micros} in {place}");
            assert!(upper(place) <= micros + 1 + micros / 8, "{micros} in {place}");
        }
        assert_eq!(bucket(Span(u64::MAX)), BUCKETS - 1);
    }

    #[test]
    fn the_usual_time_is_that_of_the_given_share() {
        let mut hedges = Hedges::default();
        for millis in 1..20 {
            hedges.observe(Span(millis * 1_000_000));
        }
        assert_eq!(hedges.within(95), None, "too little is known");
        for millis in 20..=100 {
            hedges.observe(Span(millis * 1_000_000));
        }
        let within = |percent| hedges.within(percent).unwrap().0 / 1_000_000;
        assert!((95..=107).contains(&within(95)), "{}", within(95));
        assert!((50..=57).contains(&within(50)), "{}", within(50));
        // What is new soon counts more.
        for _ in 0..5_000 {
            hedges.observe(Span(1_000_000));
        }
        assert!(hedges.within(95).unwrap().0 < 1_300_000);
    }

    #[test]
    fn second_tries_never_pass_their_share() {
        for seed in 0..100 {
            let mut hedges = Hedges::default();
            let percent = u8::try_from(1 + mix(seed, 0) % 20).unwrap();
            let (mut requests, mut tries) = (0_u64, 0_u64);
            for round in 1..5_000 {
                hedges.came(percent);
                requests += 1;
                if mix(seed, round).is_multiple_of(3) && hedges.spend() {
                    tries += 1;
                }
                assert!(tries * 100 <= requests * u64::from(percent) + 100, "seed {seed}");
            }
            assert!(tries > 10);
        }
    }
}
