//! What [`Measures`](super::Measures) is told.

use dh_core::JobId;
use dh_core::time::{SimTime, Span};

/// What is known of a job for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobFacts {
    /// The job.
    pub job: JobId,
    /// Its queue, by its place in the list of queues.
    pub queue: usize,
    /// Accelerators that it holds while it runs, in thousandths; its share of those that it shares with others.
    pub milli: u64,
    /// How long it would run undisturbed on what it asks for.
    pub length: Span,
    /// When it was submitted.
    pub submit: SimTime,
}

/// A gang begins to hold its accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// How long it has waited: since it was submitted, or since it was last stopped.
    pub waited: Span,
}

/// Why a gang ceases to hold its accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The job has ended.
    Ended,
    /// The scheduler took them for another job.
    Preempted,
    /// A node failed, was drained or lost its power.
    Evicted,
    /// The run of the twin is over, and the job is not.
    Unfinished,
}

/// A gang ceases to hold its accelerators. What it held them for is `kept`, `lost`, `checkpoints`, or the rest: starting and
/// loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub cause: Cause,
    /// Since when it held them.
    pub since: SimTime,
    /// Time of work that counts: the job ended, or a checkpoint holds it.
    pub kept: Span,
    /// Time of work that has to be done again.
    pub lost: Span,
    /// Time that work stood still for checkpoints to be written.
    pub checkpoints: Span,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fate {
    /// It did all its work.
    Completed,
    /// It failed by itself.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It can never run here.
    Rejected,
    /// The run of the twin was over before it.
    Unfinished,
}

/// The end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// What became of it.
    pub fate: Fate,
    /// When it first held its accelerators; none if it never did.
    pub first_start: Option<SimTime>,
    /// How long it would have taken from its submission on its 1/n share of the accelerators, alone; none if that is not known.
    pub alone: Option<Span>,
}

/// Whether a node can run work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeState {
    /// It is not part of the hall: before it is added, after it is taken away.
    Absent,
    /// It can run work.
    Up,
    /// It failed, or is being repaired.
    Down,
    /// It could run work, and saves power.
    Asleep,
}

/// A node goes from one state to another; at the start of a run each goes from [`NodeState::Absent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeChange {
    /// Its accelerators, in thousandths.
    pub milli: u64,
    /// As it was.
    pub from: NodeState,
    /// As it is.
    pub to: NodeState,
}

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Jobs.
    pub jobs: u64,
    /// Accelerators that they ask for, in thousandths.
    pub milli: u64,
}

/// The part of a run that counts: a warm-up before it and a cool-down after it are left out.
///
/// Levels (accelerators, power) count while they last inside; stops and starts if they happen inside; jobs if they are
/// submitted inside, so that every policy is judged on the same jobs. Work of a gang that runs across an edge is shared by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first moment that counts.
    pub from: SimTime,
    /// The first that does not count any more.
    pub to: SimTime,
}

impl Default for Window {
    fn default() -> Self {
        Self { from: SimTime(0), to: SimTime(u64::MAX) }
    }
}

impl Window {
    /// Whether `at` lies inside.
    pub fn holds(&self, at: SimTime) -> bool {
        self.from <= at && at < self.to
    }

    /// The part of `from..to` that lies inside; it is empty (`from == to`) where there is none.
    pub(crate) fn clip(&self, from: SimTime, to: SimTime) -> (SimTime, SimTime) {
        let start = from.max(self.from);
        (start, to.min(self.to).max(start))
    }
}
