//! Data sets of jobs that nobody says what they read: each reads one of some, popular ones more often.
//!
//! Jobs of one kind (a user, a model) read the same; for the others it is drawn. Popularity falls as one over the rank (Zipf), as
//! accesses to files do (Breslau et al. 1999). Invariant: the same jobs and seed give the same data sets.

use dh_hall::scheduler::DatasetId;

use super::Scene;
use crate::kernel::Caches;
use crate::random::Stream;

/// Data sets that are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datasets {
    /// How many.
    pub count: u32,
    /// Bytes of each.
    pub size: u64,
    /// Where chance comes from.
    pub seed: u64,
}

/// The weight of the most popular one.
const MOST: u64 = 1_000_000_000;

impl Scene {
    /// Batch jobs without a data set read one of these, which nodes keep as `caches` say.
    pub fn read(&mut self, datasets: Datasets, caches: Caches) {
        let mut caches = Caches { sizes: self.caches.take().map_or_else(Vec::new, |known| known.sizes), ..caches };
        let first = DatasetId::try_from(caches.sizes.len()).unwrap_or(DatasetId::MAX);
        let count = datasets.count.max(1);
        caches.sizes.extend((0..count).map(|_| datasets.size));
        let mut below = 0_u64;
        let steps: Vec<u64> = (1..=u64::from(count))
            .map(|rank| {
                below += MOST / rank;
                below
            })
            .collect();
        let services: Vec<u64> = self.services.values().flatten().map(|job| job.0).collect();
        for arrival in &mut self.jobs {
            let submission = &mut arrival.submission;
            if submission.gang.dataset.is_some() || services.contains(&submission.job.0) {
                continue;
            }
            let name = if submission.kind == 0 { submission.job.0 } else { u64::from(submission.kind) << 32 };
            let mut chance = Stream::new(datasets.seed ^ name.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let drawn = chance.next() % below.max(1);
            let rank = steps.partition_point(|step| *step <= drawn);
            submission.gang.dataset = Some(first.saturating_add(DatasetId::try_from(rank).unwrap_or(0)));
        }
        self.caches = Some(caches);
    }
}
