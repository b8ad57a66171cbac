//! Jobs, attempts and tasks.

use dh_core::time::Span;
use dh_core::{AttemptId, JobId, NodeId, Rank, SimTime};
use serde::{Deserialize, Serialize};

use crate::event::End;
use crate::spec::JobSpec;

/// A job with all that happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What was asked for.
    pub spec: JobSpec,
    /// Who asked.
    pub by: String,
    /// The caller's own key for this submission.
    pub idempotency_key: Option<String>,
    /// When it was accepted.
    pub submitted: SimTime,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts that count against the retries.
    pub failures: u32,
    /// How long attempts ran that were stopped and go on from where they were.
    #[serde(default)]
    pub attained: Span,
    /// Where it stands.
    pub phase: Phase,
    /// Ended attempts, oldest first; only the newest 16 are kept.
    pub history: Vec<Record>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// Waits for its turn.
    Waiting {
        /// Not before this moment: back-off after a failure.
        not_before: SimTime,
    },
    /// Owns slots.
    Active {
        /// The attempt that owns them.
        attempt: Attempt,
    },
    /// Over, for good.
    Done {
        /// How it went.
        outcome: Outcome,
        /// When.
        at: SimTime,
    },
}

/// One try at running the gang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its id.
    pub id: AttemptId,
    /// When the slots were taken.
    pub started: SimTime,
    /// Where each rank is, in rank order.
    pub placement: Vec<Placed>,
    /// Each rank's process, in rank order.
    pub tasks: Vec<Task>,
    /// For services: whether the listener answered.
    pub ready: bool,
    /// Once set, the gang is being stopped, and this happens when the last task has ended.
    pub verdict: Option<Verdict>,
}

/// Where one rank runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The rank.
    pub rank: Rank,
    /// Its node.
    pub node: NodeId,
    /// Its slots on that node.
    pub slots: Vec<u32>,
    /// What it has of its one slot, if that is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// What a rank has of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Thousandths of it.
    pub milli: u16,
    /// Where its slice lies, a bit for each eighth; 0 for a share.
    pub cut: u8,
}

/// One rank's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "task")]
pub enum Task {
    /// Ordered, not yet reported.
    Starting,
    /// Runs.
    Running {
        /// Process id.
        pid: u32,
    },
    /// Gone.
    Ended {
        /// How.
        end: End,
        /// When.
        at: SimTime,
    },
}

/// What becomes of the job when its gang has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    /// It goes back to waiting.
    Again {
        /// Why.
        because: String,
        /// Whether this attempt counts against the retries.
        counts: bool,
    },
    /// It is over.
    Over {
        /// How it went.
        outcome: Outcome,
    },
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// Every rank exited with code 0.
    Succeeded,
    /// No retry was left.
    Failed {
        /// What went wrong the last time.
        because: String,
        /// The exit code of the rank that failed first, if it had one.
        code: Option<i32>,
    },
    /// Somebody ended it.
    Cancelled {
        /// Who.
        by: String,
    },
}

/// An ended attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1.
    pub attempt: u32,
    /// When the slots were taken.
    pub started: SimTime,
    /// When the last task ended.
    pub ended: SimTime,
    /// What ended it.
    pub because: String,
}

impl Job {
    /// Whether it is neither over nor about to be.
    pub const fn open(&self) -> bool {
        !matches!(self.phase, Phase::Done { .. })
    }

    /// The attempt that owns slots, if one does.
    pub const fn active(&self) -> Option<&Attempt> {
        match &self.phase {
            Phase::Active { attempt } => Some(attempt),
            Phase::Waiting { .. } | Phase::Done { .. } => None,
        }
    }

    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match &self.phase {
            Phase::Waiting { .. } if self.attempts > 0 => "retrying",
            Phase::Waiting { .. } => "waiting",
            Phase::Active { attempt } if attempt.verdict.is_some() => "stopping",
            Phase::Active { attempt } if attempt.tasks.iter().any(|task| matches!(task, Task::Starting)) => "starting",
            Phase::Active { attempt } if self.spec.kind.is_service() && !attempt.ready => "loading",
            Phase::Active { .. } => "running",
            Phase::Done { outcome: Outcome::Succeeded, .. } => "succeeded",
            Phase::Done { outcome: Outcome::Failed { .. }, .. } => "failed",
            Phase::Done { outcome: Outcome::Cancelled { .. }, .. } => "cancelled",
        }
    }
}
