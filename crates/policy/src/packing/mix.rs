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
    samples: Vec<Vec<Request>>,
    /// Thousandths of a core that a request with accelerators needs at least.
    least_cpu: u32,
}

impl Mix {
    /// The mix in which each request comes as often as it is in `requests`.
    pub fn of(requests: impl IntoIterator<Item = Request>) -> Self {
        let mut counts: BTreeMap<Request, u64> = BTreeMap::new();
        for request in requests {
            *counts.entry(request).or_default() += 1;
        }
        let requests: Vec<(Request, u64)> = counts.into_iter().collect();
        let total = requests.iter().map(|(_, count)| count).sum();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = || {
            let at = if total == 0 { 0 } else { splitmix(&mut state) % total };
            let mut before = 0;
            requests.iter().find(|(_, count)| {
                before += count;
                at < before
            })
        };
        let samples =
            (0..SAMPLES).map(|_| (0..LENGTH).filter_map(|_| draw().map(|(request, _)| *request)).collect()).collect();
        let with = requests.iter().filter(|(request, _)| request.accelerators > 0);
        let least_cpu = with.map(|(request, _)| request.cpu_milli).min().unwrap_or(0);
        Self { requests, total, samples, least_cpu }
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
        let free = node.free_milli();
        let fill = |sample: &Vec<Request>| {
            let mut state = *node;
            for request in sample {
                if state.fits(request) {
                    state = state.tightest(request);
                    if state.cpu_milli < self.least_cpu || state.free_milli() == 0 {
                        break;
                    }
                }
            }
            free - state.free_milli()
        };
        if free == 0 || node.cpu_milli < self.least_cpu { 0 } else { self.samples.iter().map(fill).sum() }
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
