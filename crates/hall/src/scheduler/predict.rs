//! Predictions: how long a job is that nobody told the length of, from jobs like it that ended.
//!
//! A job is like those of its kind, queue and size, else like those of its queue and size, else like those of its size. It is
//! asked about when it comes to wait, with what it has run already.
//!
//! Invariant: a length that was told is never replaced. What a prediction is good for is the settings' to say: for the order
//! alone, the job's length is unknown to whoever plans. If plans are made on it, a job that outlives its prediction is
//! predicted anew at that moment, not later, and what was planned on it has to be planned again; so a promise that rested on
//! it moves openly, and [`Scheduler::overruns`] says how often. Cost: a look at up to three groups.

use std::collections::BTreeSet;

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::prediction::History;
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::hazards::Hazards;
use super::job::{Job, Slot, Source};
use super::run::milli;
use super::settings::{GoodFor, Learn, Predict};

/// How long jobs ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Predictions {
    history: History,
    #[serde(default)]
    pub(super) hazards: Option<Hazards>,
    /// When running jobs will have outlived predictions on which plans are made.
    trusted: BTreeSet<(SimTime, Slot)>,
    overruns: u64,
}

impl Predictions {
    pub(super) fn new(predict: Predict) -> Self {
        let hazards = match predict.learn {
            Learn::Lengths => None,
            Learn::Hazards => Some(Hazards::default()),
        };
        Self { history: History::new(predict.history), hazards, trusted: BTreeSet::new(), overruns: 0 }
    }
}

/// Bits of a size, thousandths of accelerators, in the number of a group.
const SIZE: u32 = 28;

impl Scheduler {
    /// The groups that a job belongs to, the closest first.
    fn groups(&self, job: &Job) -> [u64; 3] {
        let size = self.state.shapes.get(job.shape).map_or(0, milli).min((1 << SIZE) - 1);
        let of_queue = (1 << 62) | (u64::from(job.queue) << SIZE) | size;
        // A kind is its owner's, whatever the queue. Without one the queue is the closest.
        let of_kind = if job.kind == 0 { of_queue } else { (2 << 62) | (u64::from(job.kind) << SIZE) | size };
        [of_kind, of_queue, size]
    }

    /// A job ends by itself: that is how long it was.
    pub(super) fn learn(&mut self, slot: Slot) {
        let Some(job) = self.state.jobs.get(slot).filter(|job| !job.cancelled) else { return };
        if job.run().is_none() {
            return;
        }
        let length = Span(job.attained.0.saturating_add(self.ran_for(slot).0));
        let groups = self.groups(job);
        self.hazard_of(slot);
        let Some(predictions) = &mut self.state.predictions else { return };
        // Of two groups that are one, it counts once.
        let new = if groups.first() == groups.get(1) { groups.get(1..) } else { groups.get(..) };
        predictions.history.observe(new.unwrap_or(&[]), length);
    }

    /// Predicts the length of a job that nobody told, as far as history goes.
    pub(super) fn guess(&mut self, slot: Slot) {
        let Some(predict) = self.state.settings.predict else { return };
        let Some(job) = self.state.jobs.get(slot) else { return };
        if job.source == Source::Told && job.length.is_some() {
            return;
        }
        let running = job.run().map_or(Span(0), |_| self.ran_for(slot));
        let attained = Span(job.attained.0.saturating_add(running.0));
        let groups = self.groups(job);
        let remaining = match predict.learn {
            Learn::Hazards => self.by_hazard(slot),
            Learn::Lengths => {
                let history = self.state.predictions.as_ref().map(|predictions| &predictions.history);
                let estimate = history.and_then(|history| history.remaining(&groups, attained, predict.statistic));
                estimate.map(|estimate| estimate.remaining)
            }
        };
        let length = remaining.map(|remaining| attained.0.saturating_add(remaining.0));
        if let Some(job) = self.state.jobs.get_mut(slot) {
            job.length = length.and_then(std::num::NonZeroU64::new);
            job.source = match (length, predict.good_for) {
                (None, _) => Source::Told,
                (Some(_), GoodFor::Order) => Source::Guessed,
                (Some(_), GoodFor::Plans) => Source::Trusted,
            };
        }
    }

    /// Whether predictions are made that may be asked again at any time, because no plan rests on them.
    pub(super) fn guesses(&self) -> bool {
        self.state.settings.predict.is_some_and(|predict| predict.good_for == GoodFor::Order)
    }

    /// A running job's expected end was set.
    pub(super) fn counts_on(&mut self, slot: Slot) {
        let Some(predictions) = &mut self.state.predictions else { return };
        let Some(job) = self.state.jobs.get(slot).filter(|job| job.source == Source::Trusted) else { return };
        if let Some(ends) = job.run().and_then(|run| run.ends) {
            predictions.trusted.insert((ends, slot));
        }
    }

    /// It is not expected to end then any more.
    pub(super) fn counts_off(&mut self, slot: Slot, ends: SimTime) {
        if let Some(predictions) = &mut self.state.predictions {
            predictions.trusted.remove(&(ends, slot));
        }
    }

    /// Jobs that have outlived their predictions are predicted anew.
    pub(super) fn outlived(&mut self) {
        let now = self.state.now;
        let first = |scheduler: &Self| scheduler.state.predictions.as_ref()?.trusted.first().copied();
        while let Some((ends, slot)) = first(self).filter(|(ends, _)| *ends <= now) {
            self.counts_off(slot, ends);
            if let Some(predictions) = &mut self.state.predictions {
                predictions.overruns += 1;
            }
            self.guess(slot);
            self.length_changed(slot);
            self.doubt();
        }
    }

    pub(super) fn prediction_wakeup(&self) -> Option<SimTime> {
        Some(self.state.predictions.as_ref()?.trusted.first()?.0)
    }

    /// How often a job outlived a prediction on which plans were made.
    pub fn overruns(&self) -> u64 {
        self.state.predictions.as_ref().map_or(0, |predictions| predictions.overruns)
    }

    /// For checks: what plans are made on.
    pub(super) fn check_predictions(&self) {
        let Some(predictions) = &self.state.predictions else { return };
        let trusted = self.state.jobs.iter().filter(|(_, job)| job.source == Source::Trusted);
        let counted: BTreeSet<(SimTime, Slot)> =
            trusted.filter_map(|(slot, job)| Some((job.run()?.ends?, slot))).collect();
        assert_eq!(predictions.trusted, counted, "predictions are counted on that are not there");
    }
}
