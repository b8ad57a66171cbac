//! The requests that are expected: how often each kind comes, and samples of what may come next.
//!
//! Invariant: the same counts give the same samples; no clock and no randomness but a fixed seed enters.

use std::collections::BTreeMap;

use super::{Node, Request};

/// Samples of the future. More cost more and change little: 64 of 200 pack a cluster of 6,212 accelerators 0.1 points better
/// than 16 of 100.
const SAMPLES: usize = 64;
/// Requests of a sample: enough to fill any node.
const LENGTH: usize = 200;

/// How often each request is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    requests: Vec<(Request, u64)>,
    total: u64,
    /// Which of the requests come, in order.
    samples: Vec<Vec<u32>>,
}

impl Mix {
    /// The mix in which each request comes as often as it is in `requests`.
    pub fn of(requests: impl IntoIterator<Item = Request>) -> Self {
        Self::weighted(requests.into_iter().map(|request| (request, 1)))
    }

    /// The mix in which each request comes as often as its counts say, added.
    pub fn weighted(requests: impl IntoIterator<Item = (Request, u64)>) -> Self {
        let mut counts: BTreeMap<Request, u64> = BTreeMap::new();
        for (request, count) in requests {
            *counts.entry(request).or_default() += count;
        }
        let requests: Vec<(Request, u64)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
        let mut ends = Vec::with_capacity(requests.len());
        let mut total: u64 = 0;
        for (_, count) in &requests {
            total = total.saturating_add(*count);
            ends.push(total);
        }
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = |_| {
            let at = splitmix(&mut state).checked_rem(total)?;
            u32::try_from(ends.partition_point(|end| *end <= at)).ok()
        };
        let samples = (0..SAMPLES).map(|_| (0..LENGTH).filter_map(&mut draw).collect()).collect();
        Self { requests, total, samples }
    }

    /// Each request with its count, in their order.
    pub fn requests(&self) -> &[(Request, u64)] {
        &self.requests
    }

    /// All counts.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The number of samples.
    pub fn samples(&self) -> i64 {
        i64::try_from(self.samples.len()).unwrap_or(1)
    }

    /// Thousandths of accelerators that would be used on `node` if what fits of each sample came to it, over all samples.
    pub fn filled(&self, node: &Node) -> u64 {
        // What does not fit an emptier node does not fit a fuller one: each request is looked at once for all samples.
        let fits: Vec<bool> = self.requests.iter().map(|(request, _)| node.fits(request)).collect();
        let useful =
            || self.requests.iter().zip(&fits).filter(|((request, _), fits)| **fits && request.accelerators > 0);
        let least_cpu = useful().map(|((request, _), _)| request.cpu_milli).min();
        let least_milli = useful().map(|((request, _), _)| request.milli).min();
        let (Some(least_cpu), Some(least_milli)) = (least_cpu, least_milli) else { return 0 };
        let free = node.free_milli();
        let fill = |sample: &Vec<u32>| {
            let mut state = *node;
            for at in sample.iter().filter_map(|at| usize::try_from(*at).ok()) {
                if !fits.get(at).is_some_and(|fits| *fits) {
                    continue;
                }
                let Some((request, _)) = self.requests.get(at) else { continue };
                if state.fits(request) {
                    state = state.tightest(request);
                    if state.cpu_milli < least_cpu || state.most_free() < least_milli.max(1) {
                        break;
                    }
                }
            }
            free - state.free_milli()
        };
        self.samples.iter().map(fill).sum()
    }
}

/// The next number of a stream. Source: Steele, Lea and Flood 2014.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
