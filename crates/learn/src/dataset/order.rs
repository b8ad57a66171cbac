//! Who reads which sample when: a pure function of (seed, epoch, rank, ranks).
//!
//! The shards are put in a random order for the epoch, and the samples inside each shard too. Laid end to end they are
//! the epoch's sequence. The sequence is cut into one contiguous run per rank, all equally long, so that every rank
//! takes the same number of steps, reads few shards that another also reads (only the one at a cut), and no sample is
//! read twice. The remainder that does not fill a global batch is left out; it is another remainder in each epoch.
//! Because nothing but the arguments enters, a resumed run continues exactly at (epoch, step).

use std::ops::Range;

use crate::number;
use crate::random::Generator;

const SHARDS: u64 = 11;
const SAMPLES: u64 = 12;

/// What the order depends on, besides the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    seed: u64,
    shard_samples: Vec<u32>,
    rank: u32,
    ranks: u32,
    global_batch: usize,
}

/// A part of one shard, read in the order of `indices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Which shard, by its place in the manifest.
    pub shard: usize,
    /// Samples of the shard, in the order in which they are used.
    pub indices: Vec<u32>,
}

impl Order {
    /// The order of `rank` of `ranks` over shards of the given sizes. `global_batch` is divided among the ranks.
    pub const fn new(seed: u64, shard_samples: Vec<u32>, rank: u32, ranks: u32, global_batch: usize) -> Self {
        Self { seed, shard_samples, rank, ranks, global_batch }
    }

    /// Steps of an epoch, the same on every rank and for every number of ranks.
    pub fn steps_per_epoch(&self) -> u64 {
        let samples: u64 = self.shard_samples.iter().map(|count| u64::from(*count)).sum();
        samples / number::wide(self.global_batch.max(1))
    }

    /// Samples that one rank takes per step.
    pub const fn local_batch(&self) -> usize {
        self.global_batch / self.ranks as usize
    }

    /// What this rank reads in `epoch` from step `from_step` on.
    pub fn visits(&self, epoch: u64, from_step: u64) -> Vec<Visit> {
        let local = number::wide(self.local_batch());
        let per_rank = self.steps_per_epoch() * local;
        let start = u64::from(self.rank) * per_rank;
        let run = start + (from_step * local).min(per_rank)..start + per_rank;
        let order = Generator::new(self.seed, &[SHARDS, epoch]).permutation(number::small(self.shard_samples.len()));
        let mut visits = Vec::new();
        let mut first = 0;
        for shard in order {
            let shard = shard as usize;
            let count = self.shard_samples.get(shard).copied().unwrap_or(0);
            let part = overlap(&run, first, u64::from(count));
            first += u64::from(count);
            if part.is_empty() {
                continue;
            }
            let indices = Generator::new(self.seed, &[SAMPLES, epoch, number::wide(shard)]).permutation(count);
            if let Some(indices) = indices.get(part) {
                visits.push(Visit { shard, indices: indices.to_vec() });
            }
        }
        visits
    }
}

/// The part of the shard that begins at `first` of the sequence which lies inside `run`, counted from the shard's start.
fn overlap(run: &Range<u64>, first: u64, count: u64) -> Range<usize> {
    let start = run.start.clamp(first, first + count) - first;
    let end = run.end.clamp(first, first + count) - first;
    number::index(start)..number::index(end)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn order(rank: u32, ranks: u32) -> Order {
        Order::new(42, vec![100, 100, 37, 100, 5, 64], rank, ranks, 12)
    }

    fn flat(visits: &[Visit]) -> Vec<(usize, u32)> {
        visits.iter().flat_map(|visit| visit.indices.iter().map(|index| (visit.shard, *index))).collect()
    }

    #[test]
    fn ranks_are_disjoint_equal_and_cover_all_but_a_remainder() {
        for ranks in [1, 2, 3, 4, 6, 12] {
            for epoch in 0..3 {
                let mut seen = HashSet::new();
                for rank in 0..ranks {
                    let samples = flat(&order(rank, ranks).visits(epoch, 0));
                    assert_eq!(samples.len(), 33 * 12 / ranks as usize);
                    for sample in samples {
                        assert!(sample.1 < order(0, 1).shard_samples[sample.0]);
                        assert!(seen.insert(sample), "{sample:?} read twice");
                    }
                }
                assert_eq!(seen.len(), 406 / 12 * 12);
            }
        }
    }

    #[test]
    fn a_run_resumes_at_any_step_exactly_where_it_was() {
        for rank in 0..3 {
            let order = order(rank, 3);
            let whole = flat(&order.visits(1, 0));
            for step in 0..=order.steps_per_epoch() {
                let rest = flat(&order.visits(1, step));
                assert_eq!(rest, whole[usize::try_from(step).unwrap() * 4..], "rank {rank} step {step}");
            }
            assert!(order.visits(1, 99).is_empty());
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let first = flat(&order(0, 1).visits(0, 0));
        assert_ne!(first, flat(&order(0, 1).visits(1, 0)));
        assert_eq!(first, flat(&order(0, 1).visits(0, 0)));
        let other = Order { seed: 43, ..order(0, 1) };
        assert_ne!(first, flat(&other.visits(0, 0)));
    }
}
