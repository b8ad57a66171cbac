//! What every executor can do, and the table of them. Adding one: a file beside this one, and a line in [`EXECUTORS`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dh_core::{AttemptId, NodeId, Rank, SimTime, TaskId};
use dh_units::{Bytes, Seconds};

use crate::record::{Enforcement, ExitReason, ExitRecord};
use crate::{Cluster, Error, GangSpec, KubernetesExecutor, LocalExecutor, SimExecutor, SlurmExecutor};

/// Runs gangs. All calls may block for as long as starting processes takes; call them off the async threads.
pub trait Executor: Send + Sync {
    /// Starts every rank or none: if one fails, the others are stopped before the error returns. When it returns
    /// well, every task runs, or is with a system that will start it or say that it did not. Each `Started` event comes before
    /// its `Exited`.
    /// # Errors
    /// What is wrong with the gang, or why a rank could not start. The attempt is then used up.
    fn start(&self, gang: GangSpec) -> Result<(), Error>;

    /// Asks for the end of an attempt and returns at once; the events tell when it has come. Stopping what has ended
    /// already is fine.
    /// # Errors
    /// [`Error::UnknownAttempt`] if it was never started here.
    fn stop(&self, attempt: AttemptId, how: Stop) -> Result<(), Error>;

    /// Kills one task as a fault would: its end is reported as an ordinary end by a signal.
    /// # Errors
    /// [`Error::NotRunning`] if there is nothing to kill.
    fn kill_rank(&self, task: TaskId) -> Result<(), Error>;

    /// Called once at start-up, with the attempts that an earlier server had started: what became of them. After it
    /// returns each is either gone, with nothing of it left, or alive, and then its events come as if it had been started here.
    /// The same call later gives the same answer for what is gone.
    /// # Errors
    /// [`Error::StillRunning`] if something cannot be killed.
    fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error>;

    /// What the tasks of a running attempt use at this moment.
    /// # Errors
    /// [`Error::UnknownAttempt`] if it does not run.
    fn usage(&self, attempt: AttemptId) -> Result<Vec<RankUsage>, Error>;

    /// Where the task's output is; read it with [`crate::logs`]. It is kept after the end.
    fn log_path(&self, task: TaskId) -> PathBuf;

    /// The attempts that have tasks here at this moment, in order.
    fn running(&self) -> Vec<AttemptId>;

    /// The words by which a program is run beside a running rank in the executor's own system; their first is a program of this
    /// machine. `None` where there are none: of this machine's own processes [`crate::beside`] knows.
    /// # Errors
    /// [`Error::NotRunning`] if the rank does not run.
    fn beside(&self, _task: TaskId, _command: &[String]) -> Option<Result<Vec<OsString>, Error>> {
        None
    }

    /// The nodes of the hall as the executor's own system knows them; none where there is no such system.
    fn hosts(&self) -> Vec<HostView> {
        Vec::new()
    }
}

/// A node of the hall in the executor's own system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    /// The node.
    pub node: NodeId,
    /// What it is called there.
    pub name: String,
    /// Why it takes no work, if it does not.
    pub down: Option<String>,
    /// What tasks may use of it, by the system's own names and in its own words: `cpu`, `memory`, `nvidia.com/gpu`.
    pub resources: BTreeMap<String, String>,
}

/// A node has gone down or come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// The node.
    pub node: NodeId,
    /// Why it takes no work; none if it does again.
    pub down: Option<String>,
}

/// How to end an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A polite signal first, then after [`dh_core::limits::STOP_GRACE_MS`] a kill.
    Polite,
    /// A kill.
    Now,
}

/// Something happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
    /// What happened.
    pub what: What,
}

/// What happened to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It runs.
    Started {
        /// Its process id, for people.
        pid: u32,
        /// Which of its limits are in force.
        enforcement: Enforcement,
    },
    /// It and everything it started is gone.
    Exited(Outcome),
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What its main process returned.
    pub code: Option<i32>,
    /// The signal that ended its main process.
    pub signal: Option<i32>,
    /// Why it ended.
    pub reason: ExitReason,
    /// The same for people; empty for an ordinary end.
    pub message: String,
    /// When the last of its processes was gone.
    pub finished_at: SimTime,
}

impl From<ExitRecord> for Outcome {
    fn from(record: ExitRecord) -> Self {
        Self {
            code: record.code,
            signal: record.signal,
            reason: record.reason,
            message: record.message,
            finished_at: record.finished_at,
        }
    }
}

/// What became of an attempt of an earlier server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The attempt.
    pub attempt: AttemptId,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an attempt while no server looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it is left; each rank's end. Empty if the server died before it started anything.
    Gone(Vec<(Rank, Outcome)>),
    /// Its tasks wait or run on without a server of ours; the executor has adopted them.
    Alive,
}

impl Recovered {
    /// Each rank's end, as far as it has one.
    pub fn outcomes(&self) -> &[(Rank, Outcome)] {
        match &self.fate {
            Fate::Gone(outcomes) => outcomes,
            Fate::Alive => &[],
        }
    }
}

/// What one rank uses, all its processes together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankUsage {
    /// The rank.
    pub rank: Rank,
    /// Processor time since its start.
    pub cpu: Seconds,
    /// Memory in use.
    pub resident: Bytes,
    /// Living processes.
    pub processes: u32,
}

/// Takes the events. Called from the executor's own threads; must return soon and must not call the executor.
pub type EventSink = Arc<dyn Fn(TaskEvent) + Send + Sync>;

/// Takes news of nodes, as [`EventSink`] those of tasks.
pub type NodeSink = Arc<dyn Fn(NodeEvent) + Send + Sync>;

/// What an executor is opened with.
#[derive(Clone)]
pub struct Open {
    /// How to run our own program's hidden `warden` command, but for its last argument.
    pub warden_command: Vec<OsString>,
    /// Where logs and records go. One server at a time.
    pub state_dir: PathBuf,
    /// Where events go.
    pub events: EventSink,
    /// Where news of nodes go.
    pub node_events: NodeSink,
    /// The hall's name, by which its jobs are told from others in a system that is not ours alone.
    pub hall: String,
    /// How many nodes the hall has; they count from 0.
    pub nodes: u32,
    /// What the executor's system calls these nodes, as `gpu[001-128]`; in its own order if absent.
    pub hosts: Option<String>,
    /// The partition of a cluster; its default one if absent.
    pub partition: Option<String>,
    /// How a Kubernetes cluster is reached, and what its pods are made of.
    pub cluster: Cluster,
    /// The fencing token of this leader: larger for every later one.
    pub term: u64,
    /// How a leader that may be deposed keeps tasks of its own machine alive; none where nobody else can lead.
    pub beats: Option<Beats>,
    /// Whether this server leads the hall at this moment: one that was deposed may not start or end anything any more.
    pub leads: Leads,
}

/// How a leader keeps tasks of its own machine alive: by saying that it leads. One that is stopped says nothing, and its tasks end
/// before another leads.
#[derive(Clone)]
pub struct Beats {
    /// How often it says so.
    pub every: Duration,
    /// How long tasks go on without.
    pub patience: Duration,
    /// Whether it will still lead when that time is over.
    pub leads: Leads,
}

/// Asked before anything is started or ended in a system that other servers of the hall use too.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// One executor of the table.
pub struct Entry {
    /// Its name in a blueprint.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Opens it.
    pub open: fn(Open) -> Result<Arc<dyn Executor>, Error>,
}

/// Every executor, by name.
pub static EXECUTORS: &[Entry] = &[
    Entry {
        name: "kubernetes",
        about: "pods of a Kubernetes cluster, on the nodes that the hall chooses; they go on while no server looks",
        open: |open| Ok(Arc::new(KubernetesExecutor::new(open)?)),
    },
    Entry {
        name: "local",
        about: "processes of this machine, each under a warden that outlives neither its task nor its server",
        open: |open| {
            Ok(Arc::new(LocalExecutor::with_beats(open.warden_command, &open.state_dir, open.events, open.beats)?))
        },
    },
    Entry {
        name: "sim",
        about: "nothing: tasks that last as long as they say, on as many nodes as the hall declares",
        open: |open| Ok(Arc::new(SimExecutor::new(&open.state_dir, open.events)?)),
    },
    Entry {
        name: "slurm",
        about: "jobs of a Slurm cluster, on the nodes that the hall chooses; they go on while no server looks",
        open: |open| Ok(Arc::new(SlurmExecutor::new(open)?)),
    },
];

/// Opens the executor called `name`.
/// # Errors
/// [`Error::UnknownExecutor`], or why it cannot be opened.
pub fn open(name: &str, with: Open) -> Result<Arc<dyn Executor>, Error> {
    let entry = EXECUTORS.iter().find(|entry| entry.name == name);
    (entry.ok_or_else(|| Error::UnknownExecutor(name.to_owned()))?.open)(with)
}
