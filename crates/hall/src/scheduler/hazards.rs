//! What is predicted by hazards: of the jobs that ran so long, how many ended soon after ([`dh_policy::order::gittins`]).
//! Running jobs count as far as they got, and jobs that were submitted together are known by each other.
//!
//! Invariant: the history is told of a job from its submission to its end, each stretch it ran once. Cost: what the history
//! says; one entry for each job in the hall.

use std::collections::BTreeMap;

use dh_core::JobId;
use dh_core::time::Span;
use dh_policy::order::Candidate;
use dh_policy::order::gittins::{History, Likeness};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::job::Slot;

/// Hazards, and how far the history has been told of each job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hazards {
    history: History,
    told: BTreeMap<JobId, Span>,
}

impl Hazards {
    /// Tells how far a job got.
    fn tell(&mut self, like: Likeness, job: &Candidate) {
        let told = self.told.entry(job.job).or_insert_with(|| {
            self.history.submitted(like, &Candidate { attained: Span(0), ..*job });
            Span(0)
        });
        self.history.ran(like, &Candidate { attained: *told, ..*job }, job.attained);
        *told = job.attained.max(*told);
    }

    fn ended(&mut self, like: Likeness, job: &Candidate) {
        self.tell(like, job);
        self.history.ended(like, job);
    }
}

impl Scheduler {
    /// Tells how far a job got, and asks how much longer it runs.
    pub(super) fn by_hazard(&mut self, slot: Slot) -> Option<Span> {
        let (like, candidate) = (self.like(slot)?, self.candidate(slot)?);
        let hazards = self.state.predictions.as_mut()?.hazards.as_mut()?;
        hazards.tell(like, &candidate);
        Some(hazards.history.remaining(like, &candidate))
    }

    /// A job ends by itself.
    pub(super) fn hazard_of(&mut self, slot: Slot) {
        let (Some(like), Some(candidate)) = (self.like(slot), self.candidate(slot)) else { return };
        if let Some(hazards) = self.state.predictions.as_mut().and_then(|known| known.hazards.as_mut()) {
            hazards.ended(like, &candidate);
        }
    }

    /// A job is known no more.
    pub(super) fn no_hazard(&mut self, slot: Slot) {
        let Some(id) = self.state.jobs.get(slot).map(|job| job.id) else { return };
        if let Some(hazards) = self.state.predictions.as_mut().and_then(|known| known.hazards.as_mut()) {
            hazards.told.remove(&id);
        }
    }

    /// What makes jobs alike: their queue and their size.
    fn like(&self, slot: Slot) -> Option<Likeness> {
        let job = self.state.jobs.get(slot)?;
        Some(Likeness { group: u32::from(job.queue), milli: super::run::milli(self.gang(slot)?) })
    }
}
