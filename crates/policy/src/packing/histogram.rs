//! How often each request has come of late: counts that halve, and when they have moved so far that another mix is due.
//!
//! Invariant: whole numbers only. Cost: a count for each arrival, and a pass over all counts for each thousand.

use serde::{Deserialize, Serialize};

use super::hash::Map;
use super::{Mix, Request};

/// What one arrival counts: it is gone after ten halvings.
const ARRIVAL: u64 = 1024;
/// Arrivals after which all counts halve: the mix is that of the last ten thousand or so.
const HALVING: u64 = 8192;
/// Arrivals between two looks, at least and at most.
const LOOK_MIN: u64 = 64;
const LOOK_MAX: u64 = 1024;
/// The mix is made anew when this much of it is different, in thousandths: an eighth.
const DRIFT: u64 = 125;
/// Requests of a mix: the most frequent.
const MIX_MAX: usize = 256;
/// Requests that are counted: counts halve early when there are more.
const COUNTED_MAX: usize = 8192;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    counts: Vec<(Request, u64)>,
    #[serde(skip)]
    at: Map<Request, usize>,
    arrivals: u64,
    look_at: u64,
    halve_at: u64,
}

impl Histogram {
    /// Counts `request`; the mix that is due, if `held` has drifted too far.
    pub(super) fn arrived(&mut self, request: &Request, held: &Mix) -> Option<Mix> {
        if self.at.len() != self.counts.len() {
            self.number();
        }
        if self.arrivals == 0 {
            (self.look_at, self.halve_at) = (LOOK_MIN, HALVING);
        }
        let next = self.counts.len();
        let at = *self.at.entry(*request).or_insert(next);
        match self.counts.get_mut(at) {
            Some((_, count)) => *count += ARRIVAL,
            None => self.counts.push((*request, ARRIVAL)),
        }
        self.arrivals += 1;
        if self.arrivals >= self.halve_at || self.counts.len() > COUNTED_MAX {
            self.halve_at = self.arrivals + HALVING;
            self.counts.iter_mut().for_each(|(_, count)| *count /= 2);
            self.counts.retain(|(_, count)| *count > 0);
            self.number();
        }
        if self.arrivals < self.look_at {
            return None;
        }
        self.look_at = self.arrivals + self.arrivals.clamp(LOOK_MIN, LOOK_MAX);
        let mix = self.most_frequent();
        (drift(&mix, held.requests()) > DRIFT).then(|| Mix::weighted(mix))
    }

    /// Without what follows from the rest.
    pub(super) fn written(&self) -> Self {
        Self { counts: self.counts.clone(), at: Map::default(), ..*self }
    }

    fn number(&mut self) {
        self.at = self.counts.iter().enumerate().map(|(at, (request, _))| (*request, at)).collect();
    }

    /// The most frequent requests with their counts, in the order of requests.
    fn most_frequent(&self) -> Vec<(Request, u64)> {
        let mut counts = self.counts.clone();
        counts.sort_unstable_by_key(|(request, count)| (std::cmp::Reverse(*count), *request));
        counts.truncate(MIX_MAX);
        counts.sort_unstable();
        counts
    }
}

/// Half of the differences of the shares, in thousandths: 0 if both are the same, 1000 if they have nothing in common.
fn drift(one: &[(Request, u64)], other: &[(Request, u64)]) -> u64 {
    let total = |counts: &[(Request, u64)]| counts.iter().map(|(_, count)| u128::from(*count)).sum::<u128>();
    let (all_one, all_other) = (total(one), total(other));
    if all_one == 0 || all_other == 0 {
        return if all_one == all_other { 0 } else { 1000 };
    }
    // What both have, in millionths.
    let mut shared = 0;
    for (request, count) in one {
        let count_other =
            other.binary_search_by_key(request, |(request, _)| *request).ok().and_then(|at| other.get(at));
        let share_other = count_other.map_or(0, |(_, count)| u128::from(*count) * 1_000_000 / all_other);
        shared += share_other.min(u128::from(*count) * 1_000_000 / all_one);
    }
    1000_u64.saturating_sub(u64::try_from(shared / 1000).unwrap_or(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cpu_milli: u32) -> Request {
        Request { cpu_milli, memory_mib: 0, accelerators: 1, milli: 500, models: 0 }
    }

    /// The mixes that became due.
    fn mixes(histogram: &mut Histogram, held: &mut Mix, requests: impl Iterator<Item = u32>) -> usize {
        let mut due = 0;
        for cpu in requests {
            if let Some(mix) = histogram.arrived(&request(cpu), held) {
                *held = mix;
                due += 1;
            }
        }
        due
    }

    #[test]
    fn a_mix_that_stays_is_made_once_and_one_that_moves_again() {
        let (mut histogram, mut held) = (Histogram::default(), Mix::of([]));
        assert_eq!(mixes(&mut histogram, &mut held, (0..100_000).map(|n| n % 4)), 1);
        assert_eq!(held.requests().len(), 4);
        assert!(mixes(&mut histogram, &mut held, (0..100_000).map(|n| 10 + n % 4)) > 1);
        let old: u64 = held.requests().iter().filter(|(old, _)| old.cpu_milli < 10).map(|(_, count)| count).sum();
        assert!(old * 8 <= held.total(), "the old ones have decayed: {old} of {}", held.total());
    }

    #[test]
    fn requests_that_never_repeat_do_not_pile_up() {
        let (mut histogram, mut held) = (Histogram::default(), Mix::of([]));
        mixes(&mut histogram, &mut held, 0..200_000);
        assert!(histogram.counts.len() <= COUNTED_MAX && held.requests().len() <= MIX_MAX);
    }

    #[test]
    fn drift_is_what_two_mixes_do_not_share() {
        let of = |counts: &[u64]| counts.iter().zip(1..).map(|(count, cpu)| (request(cpu), *count)).collect::<Vec<_>>();
        assert_eq!(drift(&of(&[1, 1]), &of(&[5, 5])), 0);
        assert_eq!(drift(&of(&[1, 1]), &of(&[3, 1])), 250);
        assert_eq!(drift(&of(&[1]), &[(request(9), 1)]), 1000);
        assert_eq!(drift(&of(&[1]), &[]), 1000);
    }
}
