//! What must hold after every step. These asserts stay on in release: a broken one must not place another gang.

use std::collections::BTreeMap;

use crate::job::{Job, Phase};
use crate::machine::Hall;

/// Above this many jobs the full check would cost more than the step; the property tests stay below it.
const FULL_CHECK_JOBS: usize = 256;

impl Hall {
    pub(crate) fn check_invariants(&self) {
        if self.jobs.len() > FULL_CHECK_JOBS {
            return;
        }
        self.jobs.check(|job| self.scheduler.as_ref().is_none_or(|scheduler| scheduler.knows(job)));
        let mut owned = BTreeMap::new();
        for attempt in self.jobs.values().filter_map(Job::active) {
            for placed in &attempt.placement {
                assert!(placed.held.is_none() || placed.slots.len() == 1, "a rank has a part of several slots");
                for slot in placed.slots.iter().filter(|_| placed.held.is_none()) {
                    let before = owned.insert((placed.node, *slot), (attempt.id, placed.rank));
                    assert!(before.is_none(), "{} slot {slot} has two owners", placed.node);
                }
            }
            assert_eq!(attempt.placement.len(), attempt.tasks.len(), "{} is not whole", attempt.id);
        }
        for (id, node) in &self.nodes {
            node.check_parts();
            for owner in node.parts.values().flatten() {
                let job = self.jobs.get(owner.attempt.job).and_then(Job::active);
                assert!(
                    job.is_some_and(|attempt| attempt.id == owner.attempt),
                    "a part of {id} is held by nobody who runs"
                );
            }
            for (slot, owner) in &node.busy {
                assert_eq!(owned.get(&(*id, *slot)), Some(owner), "{id} slot {slot} is held by nobody who runs");
            }
        }
        for job in self.jobs.values() {
            assert!(
                !matches!(job.phase, Phase::Active { .. }) || job.attempts > 0,
                "{} owns slots and never started",
                job.id
            );
        }
    }
}
