//! How long the jobs of one group ran: counts on a scale of four steps an octave, the newer ones counting more.
//!
//! Invariant: the scale is fixed and the counts are whole numbers, so two machines that saw the same lengths in the same
//! order answer alike. Memory is fixed: 128 counts. Cost: O(1) to observe, one pass of at most 128 steps to ask.
//! An answer is the upper edge of a step, so it is at most a quarter above the length that was observed.

use serde::{Deserialize, Serialize};

/// Steps of the scale; the last holds everything from 2^32 seconds on.
pub(super) const STEPS: usize = 128;

/// What one length counts when it is new.
const ONE: u32 = 1024;

/// Lengths in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    total: u32,
}

/// The step in which `seconds` lies: 0, 1, 2, 3 exactly, then four steps an octave.
pub(super) fn step_of(seconds: u64) -> usize {
    if seconds < 4 {
        return usize::try_from(seconds).unwrap_or(0);
    }
    let octave = usize::try_from(seconds.ilog2()).unwrap_or(0);
    let quarter = usize::try_from((seconds >> (octave - 2)) & 3).unwrap_or(0);
    ((octave - 1) * 4 + quarter).min(STEPS - 1)
}

/// The first second that lies beyond `step`.
pub(super) fn end_of(step: usize) -> u64 {
    let next = step + 1;
    if next < 4 {
        return u64::try_from(next).unwrap_or(0);
    }
    let quarter = u64::try_from(next % 4).unwrap_or(0);
    (4 + quarter) << (next / 4 - 1)
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS], total: 0 }
    }
}

impl Histogram {
    /// How many lengths it remembers, rounded up.
    pub(super) fn samples(&self) -> u32 {
        self.total.div_ceil(ONE)
    }

    /// Adds a length. When more than twice `memory` lengths count, all of them count half.
    pub(super) fn observe(&mut self, seconds: u64, memory: u32) {
        if let Some(count) = self.counts.get_mut(step_of(seconds)) {
            *count += ONE;
            self.total += ONE;
        }
        if self.samples() > memory.saturating_mul(2) {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
    }

    /// What is left of the counts beyond `attained` seconds, step by step; the step of `attained` counts in proportion to
    /// what of it lies ahead.
    fn beyond(&self, attained: u64) -> impl Iterator<Item = (usize, u64)> + '_ {
        let first = step_of(attained);
        self.counts.iter().enumerate().skip(first).map(move |(step, &count)| {
            let count = u64::from(count);
            if step > first || step + 1 == STEPS {
                return (step, count);
            }
            let end = end_of(step);
            let width = end - if step == 0 { 0 } else { end_of(step - 1) };
            (step, count * end.saturating_sub(attained) / width)
        })
    }

    /// The length that `per_mille` of the jobs that ran longer than `attained` do not exceed; none if none ran longer.
    pub(super) fn quantile(&self, attained: u64, per_mille: u64) -> Option<u64> {
        let all: u64 = self.beyond(attained).map(|(_, count)| count).sum();
        let wanted = (all * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        self.beyond(attained).find_map(|(step, count)| {
            seen += count;
            (seen >= wanted).then(|| end_of(step))
        })
    }

    /// Seconds of service per job that ends, if a job that ran `attained` seconds is given the quantum that makes them
    /// fewest: the reciprocal of Gittins' index. None if no job ran longer.
    ///
    /// Source: Gittins 1979; Scully, Harchol-Balter and Scheller-Wolf 2018 for jobs of unknown length.
    pub(super) fn per_end(&self, attained: u64) -> Option<u64> {
        let all: u64 = self.beyond(attained).map(|(_, count)| count).sum();
        let (mut ended, mut spent, mut best) = (0, 0, (u64::MAX, 0));
        for (step, count) in self.beyond(attained).filter(|(_, count)| *count > 0) {
            let quantum = end_of(step).saturating_sub(attained);
            ended += count;
            spent += count * quantum;
            // At most 2^21 counts of at most 2^33 seconds each: far below 2^64.
            let service = spent + (all - ended) * quantum;
            if u128::from(service) * u128::from(best.1) < u128::from(best.0) * u128::from(ended) {
                best = (service, ended);
            }
        }
        best.0.checked_div(best.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_lies_in_its_step_and_steps_touch() {
        let mut expected = 0;
        for second in 0..100_000 {
            let step = step_of(second);
            assert!(step == expected || step == expected + 1, "second {second}");
            expected = step;
            assert!(second < end_of(step) && (step == 0 || second >= end_of(step - 1)), "second {second}");
        }
        assert_eq!(step_of(u64::MAX), STEPS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_lengths_within_a_step() {
        let mut histogram = Histogram::default();
        let mut lengths: Vec<u64> = (0..500_u64).map(|i| i * i * 7919 % 40_000).collect();
        for &length in &lengths {
            histogram.observe(length, 10_000);
        }
        lengths.sort_unstable();
        for (per_mille, rank) in [(100, 49), (500, 249), (900, 449), (1000, 499)] {
            let exact = lengths[rank];
            assert_eq!(histogram.quantile(0, per_mille), Some(end_of(step_of(exact))), "at {per_mille}");
        }
    }

    #[test]
    fn what_a_job_has_run_is_known_to_it() {
        let mut histogram = Histogram::default();
        for _ in 0..90 {
            histogram.observe(15, 1000);
        }
        for _ in 0..10 {
            histogram.observe(15_000, 1000);
        }
        assert_eq!(histogram.quantile(0, 500), Some(16));
        assert_eq!(histogram.quantile(16, 500), Some(16_384));
        assert_eq!(histogram.quantile(20_000, 500), None);
        // New: 16 seconds end nine in ten. Once those are past, nothing ends for hours.
        assert_eq!(histogram.per_end(0), Some(17));
        assert_eq!(histogram.per_end(16), Some(16_384 - 16));
    }

    #[test]
    fn the_newer_half_outweighs_the_older() {
        let mut histogram = Histogram::default();
        for _ in 0..100 {
            histogram.observe(10, 20);
        }
        for _ in 0..45 {
            histogram.observe(1000, 20);
        }
        assert_eq!(histogram.quantile(0, 500), Some(end_of(step_of(1000))));
        assert!(histogram.samples() <= 40);
    }
}
