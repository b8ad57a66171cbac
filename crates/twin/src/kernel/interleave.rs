//! Jobs that hold the same accelerators, and how fast each of them gets on there.
//!
//! Invariant: a speed follows from who is there alone, not from how it came about. Cost: one period for each change.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{JobId, NodeId};
use dh_policy::fleet::{Holding, Mask};
use dh_policy::packing::WHOLE;
use dh_policy::sharing::{ALONE, Contention, Kind, Together, Where};

use super::live::Profile;

/// The accelerators of a gang's first rank: gangs share all ranks or none.
type Spot = (NodeId, Mask);

/// Who is where.
#[derive(Debug)]
pub(super) struct Interleaving {
    together: Together,
    contention: Contention,
    there: BTreeMap<Spot, BTreeSet<u64>>,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    spot: Spot,
    kind: Kind,
    class: u8,
}

/// How a job fares with those beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fare {
    /// Its share of the accelerators' time, millionths.
    pub(super) share: u64,
    /// Its speed, millionths of that alone.
    pub(super) speed: u64,
}

impl Fare {
    /// Nobody is beside it.
    pub(super) const ALONE: Self = Self { share: ALONE, speed: ALONE };
}

/// What is known of jobs of a profile goes by one above its number, as their speeds do.
fn kind(profile: u16) -> Kind {
    profile.saturating_add(1)
}

impl Interleaving {
    pub(super) fn new(profiles: &[Profile], contention: Contention) -> Self {
        let mut together = Together::default();
        for (number, profile) in (0..).zip(profiles) {
            together.tell(kind(number), profile.iteration);
            for (other, speeds) in &profile.beside {
                together.tell_beside(kind(number), kind(*other), speeds);
            }
        }
        Self { together, contention, there: BTreeMap::new(), jobs: BTreeMap::new() }
    }

    /// A job runs on `ranks` of `class`. Returns those whose speed may be another.
    pub(super) fn enter(&mut self, job: JobId, profile: u16, ranks: &[Holding], class: u8) -> BTreeSet<u64> {
        let mut changed = self.leave(job);
        let whole = |held: &&Holding| held.mask != 0 && held.milli >= WHOLE;
        let Some(first) = ranks.first().filter(whole) else { return changed };
        let spot = (first.node, first.mask);
        self.jobs.insert(job.0, Job { spot, kind: kind(profile), class });
        let there = self.there.entry(spot).or_default();
        there.insert(job.0);
        if there.len() > 1 {
            changed.extend(there.iter());
        }
        changed
    }

    /// A job gets on no more. Returns those whose speed may be another.
    pub(super) fn leave(&mut self, job: JobId) -> BTreeSet<u64> {
        let Some(old) = self.jobs.remove(&job.0) else { return BTreeSet::new() };
        let Some(there) = self.there.get_mut(&old.spot) else { return BTreeSet::new() };
        there.remove(&job.0);
        let left = there.clone();
        if left.is_empty() {
            self.there.remove(&old.spot);
        }
        left
    }

    /// How a job fares.
    pub(super) fn fare(&self, job: JobId) -> Fare {
        let Some(own) = self.jobs.get(&job.0) else { return Fare::ALONE };
        let Some(there) = self.there.get(&own.spot).filter(|there| there.len() > 1) else { return Fare::ALONE };
        let kinds: Vec<Kind> = there.iter().filter_map(|job| self.jobs.get(job)).map(|job| job.kind).collect();
        let share = ALONE / u64::try_from(there.len()).unwrap_or(u64::MAX);
        let at = there.iter().position(|other| *other == job.0);
        let speeds = self.together.speeds(&kinds, Where::Class(own.class), &self.contention);
        // Where nothing is known they take turns.
        let speed = speeds.zip(at).and_then(|(speeds, at)| speeds.get(at).copied()).unwrap_or(share);
        Fare { share, speed }
    }
}

#[cfg(test)]
mod tests {
    use dh_core::time::Span;
    use dh_policy::sharing::{Iteration, Stages};

    use super::*;

    fn profile(input: u64, compute: u64) -> Profile {
        let stages = Stages { input: Span(input), compute: Span(compute), network: Span(0) };
        let iteration = Iteration { stages, alone: Span(input + compute), memory_milli: 0 };
        Profile { iteration: Some(iteration), ..Profile::default() }
    }

    #[test]
    fn a_job_is_slower_beside_others_and_as_fast_as_before_when_they_are_gone() {
        let profiles = [profile(100, 10), profile(10, 100), Profile::default()];
        let mut shared = Interleaving::new(&profiles, Contention::PUBLISHED);
        let held = Holding { node: NodeId(1), mask: 3, milli: WHOLE, cpu_milli: 0, memory_mib: 0, slots: 0 };
        assert!(shared.enter(JobId(1), 0, &[held], 0).is_empty());
        assert_eq!(shared.enter(JobId(2), 1, &[held], 0), BTreeSet::from([1, 2]));
        // A round takes both long stages one after the other: 110, x 1.31 beside each other.
        assert_eq!(shared.fare(JobId(1)), Fare { share: ALONE / 2, speed: 110 * ALONE / 144 });
        assert_eq!(shared.leave(JobId(2)), BTreeSet::from([1]));
        assert_eq!(shared.fare(JobId(1)), Fare::ALONE);
        shared.enter(JobId(3), 2, &[held], 0);
        assert_eq!(shared.fare(JobId(1)), Fare { share: ALONE / 2, speed: ALONE / 2 }, "they take turns");
        let other = Holding { mask: 4, ..held };
        shared.enter(JobId(3), 2, &[other], 0);
        assert_eq!(shared.fare(JobId(1)), Fare::ALONE);
    }
}
