//! Jobs that are in the hall, with what only the world knows of them: how much work there is, and how much is done.

use std::collections::BTreeMap;

use dh_core::SimTime;
use dh_core::time::Span;
use dh_hall::scheduler::{DatasetId, RunId, Submission};
use dh_policy::fleet::Holding;
use dh_policy::sharing::Iteration;
use serde::{Deserialize, Serialize};

use super::observer::JobFacts;

/// A millionth: speeds are in these.
const MILLION: u128 = 1_000_000;

/// What a job has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// How long it runs with all its ranks at full speed.
    pub length: Span,
    /// Its [`Profile`], by number.
    pub profile: u16,
    /// How it ends.
    #[serde(default)]
    pub fate: Fate,
}

/// How a job ends when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It did what it was to do.
    #[default]
    Completed,
    /// It failed by itself.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// What jobs of one kind have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Speed on each class of accelerators, in millionths of full speed; full where there is none.
    pub speeds: Vec<u32>,
    /// What stops and starts cost.
    pub costs: Costs,
    /// What one iteration is like, if that is known: such jobs may share accelerators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<Iteration>,
    /// Speeds beside a job of another profile on each class of accelerators, as measured: millionths of the speed alone there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<u16, Vec<u32>>,
}

/// What stops and starts cost a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// From the start of the ranks to the first step, the first time.
    pub launch: Span,
    /// The same after a stop: what was saved is loaded.
    pub restart: Span,
    /// From being told to stop to being gone: what is done is saved.
    pub save: Span,
    /// How often work is saved while it runs; never, if zero: what a fault finds is lost.
    pub checkpoint_every: Span,
}

/// A job in the hall.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) facts: JobFacts,
    pub(super) length: Span,
    pub(super) profile: u16,
    /// The data that it reads.
    pub(super) dataset: Option<DatasetId>,
    /// Work that is done and safe.
    pub(super) kept: Span,
    pub(super) first_start: Option<SimTime>,
    pub(super) run: Option<Running>,
    /// It was told to stop, and saves its work.
    pub(super) leaving: Option<Leaving>,
    pub(super) fate: Fate,
    /// The scheduler's number of its last start.
    pub(super) started_as: RunId,
    /// Ends of earlier runs do not count.
    pub(super) generation: u32,
    pub(super) stops: u32,
}

/// A job that was told to stop: what its last run was worth.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    pub(super) cause: dh_hall::scheduler::Cause,
    pub(super) since: SimTime,
    pub(super) kept: Span,
    pub(super) lost: Span,
    pub(super) ranks: Vec<Holding>,
}

/// A job that runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) since: SimTime,
    /// When it began to get on, or will: checkpoints are whole multiples of their interval after this.
    pub(super) begun: SimTime,
    /// Since when it has its present speed.
    pub(super) from: SimTime,
    /// Work of this run that was done by `from`, and how much of it was in a checkpoint then.
    pub(super) banked: Span,
    pub(super) saved: Span,
    /// Millionths of full speed that its ranks allow; 0 while some are missing.
    pub(super) base: u64,
    /// Millionths of full speed, with what it shares with others.
    pub(super) speed: u64,
    pub(super) ranks: Vec<Holding>,
}

impl Running {
    /// A run that holds its ranks since one moment and gets on from another.
    pub(super) fn new(since: SimTime, from: SimTime, speed: u64, ranks: Vec<Holding>) -> Self {
        Self { since, begun: from, from, banked: Span(0), saved: Span(0), base: speed, speed, ranks }
    }

    /// Work done from `from` to a moment.
    fn ran(&self, to: SimTime) -> u64 {
        let ran = u128::from(to.since(self.from).0) * u128::from(self.speed) / MILLION;
        u64::try_from(ran).unwrap_or(u64::MAX)
    }
}

impl Live {
    pub(super) fn new(submission: &Submission, at: SimTime, work: Work) -> Self {
        let milli = u64::from(submission.gang.need.ranks) * submission.gang.need.rank.demand();
        let facts = JobFacts {
            job: submission.job,
            queue: submission.queue,
            milli,
            submitted: at,
            length: work.length,
            ranks: submission.gang.need.ranks,
        };
        Self {
            facts,
            length: work.length,
            profile: work.profile,
            dataset: submission.gang.dataset,
            kept: submission.attained,
            first_start: None,
            run: None,
            leaving: None,
            fate: work.fate,
            started_as: 0,
            generation: 0,
            stops: 0,
        }
    }

    /// Work done by `now`, safe or not.
    pub(super) fn done(&self, now: SimTime) -> Span {
        let Some(run) = &self.run else { return self.kept };
        Span(self.kept.0.saturating_add(run.banked.0).saturating_add(run.ran(now)).min(self.length.0))
    }

    /// Work that is safe at `now`: checkpoints are whole multiples of `every` since the run got on.
    pub(super) fn safe(&self, now: SimTime, every: Span) -> Span {
        let (Some(run), Some(_)) = (&self.run, std::num::NonZeroU64::new(every.0)) else { return self.kept };
        let passed = now.since(run.begun).0;
        let last = run.begun.after(Span(passed - passed % every.0));
        let saved = if last < run.from { run.saved.0 } else { run.banked.0.saturating_add(run.ran(last)) };
        Span(self.kept.0.saturating_add(saved).min(self.length.0))
    }

    /// From `now` on it has another speed; what it did at the old one counts. A run that does not get on yet only gets the
    /// speed with which it will.
    pub(super) fn turn(&mut self, now: SimTime, every: Span, speed: u64) {
        let (done, safe, kept) = (self.done(now), self.safe(now, every), self.kept);
        let Some(run) = &mut self.run else { return };
        run.speed = speed;
        if now > run.from {
            run.banked = Span(done.0.saturating_sub(kept.0));
            run.saved = Span(safe.0.saturating_sub(kept.0));
            run.from = now;
        }
    }

    /// Its ranks stand still from `now` on, and only what is safe counts.
    pub(super) fn freeze(&mut self, now: SimTime, every: Span) {
        self.kept = self.safe(now, every);
        if let Some(run) = &mut self.run {
            (run.begun, run.from, run.banked, run.saved, run.base, run.speed) = (now, now, Span(0), Span(0), 0, 0);
        }
    }

    /// When all work is done at the present speed; `None` while it stands still.
    pub(super) fn ends(&self) -> Option<SimTime> {
        let run = self.run.as_ref()?;
        let left = u128::from(self.length.0.saturating_sub(self.kept.0).saturating_sub(run.banked.0));
        let needed =
            (left * MILLION).checked_add(u128::from(run.speed).saturating_sub(1))?.checked_div(run.speed.into())?;
        Some(run.from.after(Span(u64::try_from(needed).unwrap_or(u64::MAX))))
    }
}

impl Profile {
    /// Speed on `ranks`: a gang is as fast as its slowest rank, and a smaller gang is slower by its size.
    pub(super) fn speed(&self, ranks: &[Holding], wanted: u32, class: impl Fn(&Holding) -> u8) -> u64 {
        let of = |held: &Holding| self.speeds.get(usize::from(class(held))).copied().unwrap_or(1_000_000);
        let slowest = u64::from(ranks.iter().map(of).min().unwrap_or(1_000_000));
        let have = u64::try_from(ranks.len()).unwrap_or(u64::MAX);
        if have >= u64::from(wanted) { slowest } else { slowest * have / u64::from(wanted.max(1)) }
    }
}
