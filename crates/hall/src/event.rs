//! What happens to a hall, and what it wants done. Both are serialised: the event log is the hall's only memory.

use std::collections::BTreeMap;

use dh_core::{AttemptId, JobId, NodeId, TaskId};
use serde::{Deserialize, Serialize};

use crate::job::Placed;
use crate::node::{NodeSpec, QueueSpec};
use crate::scheduler::{Backfill, Settings};
use crate::spec::JobSpec;

/// Something that happened. In a live hall it is in the durable log before [`crate::Hall::step`] sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A server begins to serve this hall: nothing starts until [`Event::Configured`].
    ServerStarted,
    /// The blueprint as of this start: nodes in order, queues by name, policies by name.
    Configured {
        /// Nodes; the place in the list is the [`NodeId`].
        nodes: Vec<NodeSpec>,
        /// Queues.
        queues: BTreeMap<String, QueueSpec>,
        /// How it decides; the nodes and queues in here are not looked at. Logs from before there was a choice have none.
        #[serde(default = "before_there_was_a_choice")]
        policy: Box<Settings>,
    },
    /// The server is about to stop: everything running is stopped and goes back to waiting.
    ServerStopping,
    /// A job was submitted.
    Submitted {
        /// The job.
        spec: Box<JobSpec>,
        /// Who submitted it.
        by: String,
        /// The same key twice is the same job.
        idempotency_key: Option<String>,
    },
    /// Somebody wants a job to end.
    CancelRequested {
        /// The job.
        job: JobId,
        /// Who.
        by: String,
    },
    /// A rank's process runs.
    TaskStarted {
        /// The rank.
        task: TaskId,
        /// Its process id, for people.
        pid: u32,
    },
    /// A service's listener answered for the first time in this attempt.
    ServiceReady {
        /// The rank.
        task: TaskId,
    },
    /// A rank's process, and all it had started, are gone.
    TaskEnded {
        /// The rank.
        task: TaskId,
        /// How.
        end: End,
    },
    /// An operator keeps work away from a node, or lets it come back.
    NodeDrained {
        /// The node.
        node: NodeId,
        /// Whether it takes no new work.
        drained: bool,
    },
    /// The executor's own system says that a node takes no work, or takes it again. What runs there is told of rank by rank.
    NodeReported {
        /// The node.
        node: NodeId,
        /// Why it takes none; none if it does.
        down: Option<String>,
    },
    /// A moment that [`crate::Hall::next_wakeup`] asked for.
    Tick,
}

/// What every hall did then.
fn before_there_was_a_choice() -> Box<Settings> {
    Box::new(Settings { placement: "best-fit".to_owned(), backfill: Backfill::None, ..Settings::default() })
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one killed it.
    pub signal: Option<i32>,
    /// Who ended it.
    pub cause: EndCause,
    /// More words for people.
    pub message: String,
}

/// Who ended a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Itself, or a signal that we did not send.
    Exited,
    /// We did, because the hall asked.
    Stopped,
    /// It could not be started.
    NotStarted,
    /// It went down with its server or node; the job is not to blame.
    Lost,
}

impl End {
    /// Whether the task did what it was to do.
    pub fn success(&self) -> bool {
        self.cause == EndCause::Exited && self.code == Some(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.cause, self.code, self.signal) {
            (EndCause::Exited, Some(code), _) => write!(f, "exited with code {code}")?,
            (EndCause::Exited, None, Some(signal)) => write!(f, "was killed by signal {signal}")?,
            (EndCause::Exited, None, None) => f.write_str("ended")?,
            (EndCause::Stopped, ..) => f.write_str("was stopped")?,
            (EndCause::NotStarted, ..) => f.write_str("could not be started")?,
            (EndCause::Lost, ..) => f.write_str("was lost with its server")?,
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// What the hall wants done. The body carries it out after the event is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub enum Action {
    /// The answer to [`Event::Submitted`].
    Accepted {
        /// The job.
        job: JobId,
    },
    /// Start every rank of a gang.
    Start {
        /// The attempt.
        attempt: AttemptId,
        /// Where each rank runs, in rank order.
        placement: Vec<Placed>,
    },
    /// Stop what is left of a gang; each rank answers with [`Event::TaskEnded`].
    Stop {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A service may take requests.
    Serve {
        /// The rank that serves.
        task: TaskId,
    },
    /// All tasks of an attempt are gone: its keys and registrations can go too.
    Close {
        /// The attempt.
        attempt: AttemptId,
    },
}
