//! Cost of summing a vector over all ranks. Pure; O(1). Source: Patarasuk and Yuan, "Bandwidth optimal all-reduce
//! algorithms for clusters of workstations", 2009.
//!
//! Invariant: the time never falls when the vector or the group grows, or when the network slows.

use dh_units::{Bytes, BytesPerSec, Seconds};
use serde::{Deserialize, Serialize};

/// How ranks exchange. Both move `2 (n-1)/n` of the vector each way, the least possible; they differ in waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Collective {
    /// Every rank sends each other rank its chunk, then its result: two waits whatever the size of the group.
    #[default]
    Direct,
    /// Each rank talks to its neighbours only: `2 (n-1)` waits.
    Ring,
}

impl Collective {
    /// Message times that follow on each other.
    pub fn waits(self, ranks: u32) -> f64 {
        match (self, ranks) {
            (_, 0 | 1) => 0.0,
            (Self::Direct, _) => 2.0,
            (Self::Ring, ranks) => 2.0 * f64::from(ranks - 1),
        }
    }
}

/// Time until every one of `ranks` holds the sum of a vector of `size`; `latency` is one way, `bandwidth` that of one rank.
pub fn all_reduce(how: Collective, ranks: u32, size: Bytes, latency: Seconds, bandwidth: BytesPerSec) -> Seconds {
    if ranks < 2 {
        return Seconds(0.0);
    }
    latency * how.waits(ranks) + size / bandwidth * share(ranks)
}

/// The part of the vector that each rank moves: `2 (n-1)/n`.
pub(crate) fn share(ranks: u32) -> f64 {
    let ranks = f64::from(ranks.max(1));
    2.0 * (ranks - 1.0) / ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ranks_move_the_vector_once_each_way() {
        let time = |how, ranks| all_reduce(how, ranks, Bytes(1_000_000), Seconds(0.001), BytesPerSec(1e9)).0;
        assert!(time(Collective::Ring, 1).abs() < 1e-15);
        // 2 waits of 1 ms and 2 (1/2) of 1 MB at 1 GB/s.
        assert!((time(Collective::Ring, 2) - 0.003).abs() < 1e-12);
        assert!((time(Collective::Direct, 2) - 0.003).abs() < 1e-12);
        // 6 waits and 2 (3/4).
        assert!((time(Collective::Ring, 4) - 0.0075).abs() < 1e-12);
        assert!((time(Collective::Direct, 4) - 0.0035).abs() < 1e-12);
    }
}
