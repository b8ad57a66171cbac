//! What the scheduler is told, and what it decides. Both are plain values in whole numbers, so that a log of events is all
//! that a replay needs.

use std::fmt;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Holding, Service};
use dh_policy::placement::{Misfit, Need};
use dh_policy::sharing::Iteration;
use serde::{Deserialize, Serialize};

use super::consolidate::Goal;

/// A queue, by its number in [`super::Settings::queues`].
pub type QueueId = u16;

/// Speeds of a gang on each class of accelerators, by a number of the caller's; 0 is none.
pub type SpeedsId = u16;

/// A dataset, by a number of the caller's.
pub type DatasetId = u32;

/// A run of a job: the number of its start among all starts of this hall, from 1. Messages can come late and twice: what is
/// told of any run but the one that a job is in changes nothing.
pub type RunId = u64;

/// What a gang asks for. Jobs that ask for the same share one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// Its ranks, what each needs, and where they may stand.
    pub need: Need,
    /// Ranks with which it can go on; as many as `need` has if it is rigid.
    pub least_ranks: u32,
    /// Where it would rather run: on nodes that have this dataset.
    pub dataset: Option<DatasetId>,
    /// How fast it runs on each class of accelerators: a number of the caller's, told by [`Event::Speeds`]; 0 is not known.
    #[serde(default)]
    pub speeds: SpeedsId,
    /// What each rank draws while it runs, watts.
    pub rank_watts: u32,
    /// What may be done to it.
    pub grace: Grace,
}

/// Whether a running gang may be stopped for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grace {
    /// It may, and goes back to waiting.
    Preemptible,
    /// Never.
    Protected,
}

/// A job that asks to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Submission {
    /// The job; never used twice.
    pub job: JobId,
    /// What it asks for.
    pub gang: Gang,
    /// Its queue.
    pub queue: QueueId,
    /// Added to the queue's priority.
    pub priority: i32,
    /// How long it runs in all, if that is known or predicted; its limit counts as a prediction.
    pub length: Option<Span>,
    /// How much of that is done already.
    pub attained: Span,
    /// Since when it is in the line: its place does not change when it is tried again.
    pub since: SimTime,
    /// When it should have ended.
    pub deadline: Option<SimTime>,
    /// Which jobs it is like (a user, a model), for predictions; a number of the caller's, 0 if that is not known.
    #[serde(default)]
    pub kind: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A job asks to run. One that is known already is not taken again.
    Submitted(Submission),
    /// A gang runs already: the scheduler takes over a hall that is at work.
    Adopted {
        /// The job.
        submission: Submission,
        /// What each rank holds, in rank order.
        ranks: Vec<Holding>,
    },
    /// A job is not wanted any more. If it runs, it is stopped.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// A gang is gone from its nodes, for good.
    Ended {
        /// The job.
        job: JobId,
        /// The run that ended.
        run: RunId,
    },
    /// A gang is gone from its nodes and will be back: it was told to stop, or it failed and is tried again.
    Stopped {
        /// The job.
        job: JobId,
        /// The run that ended.
        run: RunId,
        /// How long it has run so far, counting only work that was kept.
        attained: Span,
    },
    /// A gang's work up to now is safe.
    Checkpointed {
        /// The job.
        job: JobId,
        /// The run in which it is.
        run: RunId,
    },
    /// What is known about a job's length has changed.
    Predicted {
        /// The job.
        job: JobId,
        /// How long it runs in all.
        length: Option<Span>,
    },
    /// A node takes work, or does so no more. Ranks on a node that is [`Service::Down`] are gone.
    Node {
        /// The node.
        node: NodeId,
        /// What it is from now on.
        service: Service,
    },
    /// A node works, but something speaks against it: it is slow, or it counts errors.
    Suspected {
        /// The node.
        node: NodeId,
        /// How much; a failure is 1,000.
        evidence: u32,
    },
    /// A queue's rules have changed. A parent that is not there or stands below the queue is not taken, and a guarantee is cut
    /// to what its parent has left to promise.
    Queue {
        /// The queue.
        queue: QueueId,
        /// Its rules from now on.
        rules: QueueRules,
    },
    /// A dataset is on a node, or is there no more.
    Warm {
        /// The dataset.
        dataset: DatasetId,
        /// The node.
        node: NodeId,
        /// Whether it is there.
        held: Presence,
    },
    /// How fast gangs that name `id` run on each class of accelerators.
    Speeds {
        /// What they name; 0 is nothing.
        id: SpeedsId,
        /// Of each class, in any unit; none where they are not known any more.
        speeds: Vec<u32>,
    },
    /// The most that running gangs may draw together, watts; `None` is no limit.
    PowerCap {
        /// The limit.
        watts: Option<u64>,
    },
    /// A plan of [`super::Scheduler::consolidate`] is carried out, if it is still the one that would be made; else the answer is
    /// [`Action::NotApplied`].
    Apply {
        /// What the plan is for.
        goal: Goal,
        /// Its number.
        plan: u64,
    },
    /// A moment that [`super::Scheduler::wakeup`] asked for.
    Tick,
    /// What one iteration of gangs that name `id` is like. Gangs of which nothing is known share with nobody.
    Iteration {
        /// What they name as their speeds; 0 is nothing.
        id: SpeedsId,
        /// Its stages; `None` is not known any more.
        iteration: Option<Iteration>,
    },
    /// How fast gangs that name `id` are on the same accelerators as one that names `other`, as was measured.
    Beside {
        /// What they name as their speeds; 0 is nothing.
        id: SpeedsId,
        /// What the others name.
        other: SpeedsId,
        /// On each class, in millionths of the speed alone there; 0 is not at all. None where they are not known any more.
        speeds: Vec<u32>,
    },
}

/// Whether a dataset is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}

/// A queue's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct QueueRules {
    /// Added to the priority of its jobs.
    pub priority: i32,
    /// Its weight beside other queues; 0 counts as 1.
    pub share: u32,
    /// The most its running jobs may hold, in thousandths of accelerators.
    pub quota_milli: Option<u64>,
    /// What its jobs may take back from queues that hold more than is theirs, in thousandths of accelerators.
    #[serde(default)]
    pub guarantee_milli: u64,
    /// How much of that others may borrow while it is idle, in thousandths of accelerators; `None` is all.
    #[serde(default)]
    pub lends_milli: Option<u64>,
    /// The queue of which it is a part: its share is one of that queue's share, and that queue's quota is its own too.
    #[serde(default)]
    pub parent: Option<QueueId>,
    /// Whether its jobs may stop running jobs of lower priority.
    pub preempts: bool,
}

/// Why a gang is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Cause {
    /// For a job that goes first.
    Preempted {
        /// That job.
        by: JobId,
    },
    /// For a job that goes first and needs a part of what it holds: it goes on at once with the other ranks.
    Shrunk {
        /// That job.
        by: JobId,
    },
    /// It goes on elsewhere, so that nodes come free: its new place is kept for it.
    Moved,
    /// It lost ranks with a node, and no place was found for them in time.
    Broken,
    /// Nobody wants it any more.
    Cancelled,
}

/// What the scheduler wants done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// Start all ranks of a gang.
    Start {
        /// The job.
        job: JobId,
        /// Its run, which events about it name.
        run: RunId,
        /// What each rank holds, in rank order.
        ranks: Vec<Holding>,
    },
    /// Stop all ranks of a gang; the answer is [`Event::Stopped`] or [`Event::Ended`].
    Stop {
        /// The job.
        job: JobId,
        /// Why.
        cause: Cause,
    },
    /// A gang that lost ranks goes on with these; the others stay where they are.
    Repair {
        /// The job.
        job: JobId,
        /// The ranks that are replaced, and what each holds from now on.
        ranks: Vec<(u32, Holding)>,
    },
    /// An elastic gang goes on with other ranks.
    Resize {
        /// The job.
        job: JobId,
        /// What each rank holds from now on, in rank order.
        ranks: Vec<Holding>,
    },
    /// A node that sleeps is needed.
    Wake {
        /// The node.
        node: NodeId,
    },
    /// A node has been idle long enough to sleep; the answer is [`Event::Node`].
    Sleep {
        /// The node.
        node: NodeId,
    },
    /// Too much speaks against a node: it takes no new work for a while.
    Quarantined {
        /// The node.
        node: NodeId,
        /// When it is tried again.
        until: SimTime,
    },
    /// A plan of moves is not carried out; nothing has changed.
    NotApplied {
        /// What it was for.
        goal: Goal,
        /// Its number.
        plan: u64,
        /// Why.
        because: Stale,
    },
    /// A job can never run here; it is forgotten.
    Refused {
        /// The job.
        job: JobId,
        /// Why.
        because: Refusal,
    },
}

/// Why a plan of moves is not carried out: what it was made on has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stale")]
pub enum Stale {
    /// Another plan would be made now.
    Replaced {
        /// Its number.
        by: u64,
    },
    /// The job for which there was to be room does not wait any more.
    NotWaiting,
    /// The job fits, and nothing has to move.
    Fits,
    /// No moves reach the goal any more.
    NoPlan,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced { by } => write!(f, "the hall has changed since, and plan {by:016x} would be made now"),
            Self::NotWaiting => f.write_str("the job does not wait any more"),
            Self::Fits => f.write_str("the job fits by now, and nothing has to move"),
            Self::NoPlan => f.write_str("the hall has changed since, and no moves reach the goal any more"),
        }
    }
}

/// Why a job is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "refusal")]
pub enum Refusal {
    /// There is no such queue.
    NoQueue,
    /// It would not fit an empty hall.
    Never(Misfit),
}
