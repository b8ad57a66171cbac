//! What travels between the command line and the server, as JSON. Units are in the names; times are nanoseconds since
//! the Unix epoch; every answer carries `schema_version`.

use std::collections::BTreeMap;

use dh_core::{Grant, JobId, Role, SimTime};
use dh_hall::{Hall, Job, Outcome, Phase, Protocol, Task};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::views::{
    EnergyAttempt, EnergyView, ExecEnd, ExecRequest, Hidden, JobUsage, NodeRanks, RankUse, SecretList, SecretRequest,
    StartPlan,
};

/// The version of these shapes. It changes when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// A job to submit: a command, or a workload of the blueprint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobRequest {
    /// A name for people; the program's name if absent.
    pub name: Option<String>,
    /// A workload of the blueprint; its fields are the defaults of those below.
    pub workload: Option<String>,
    /// Program and arguments.
    pub command: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Ranks of the gang.
    pub ranks: Option<u32>,
    /// Accelerator slots of one rank.
    pub slots_per_rank: Option<u32>,
    /// The queue; the only one, or `default`, if absent.
    pub queue: Option<String>,
    /// Added to the queue's priority.
    pub priority: Option<i32>,
    /// Failed attempts that are tried again.
    pub retries: Option<u32>,
    /// Longest time of one attempt, such as `2 h`.
    pub time_limit: Option<String>,
    /// Memory of one rank, such as `1 GiB`.
    pub memory: Option<String>,
    /// The fewest ranks with which it starts and goes on: fewer than `ranks` make it elastic.
    pub ranks_min: Option<u32>,
    /// All ranks in one `pool`, `block` or `rack`.
    pub within: Option<String>,
    /// What it reads: names in the bucket `datasets`, or `s3://BUCKET/PREFIX`.
    pub datasets: Vec<String>,
    /// The seed of the order in which it reads them.
    pub data_seed: Option<u64>,
    /// Where it keeps what it goes on from, `s3://BUCKET/PREFIX`; `{job}` is its number.
    pub checkpoints: Option<String>,
    /// Variables whose values nobody sees but the ranks: the name of a secret that the hall keeps, or the value itself.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The only nodes that it may run on, by their names; all if there are none here.
    pub nodes: Vec<String>,
    /// Nodes that it may not run on.
    pub avoid_nodes: Vec<String>,
    /// Whether it is accepted though its `datasets` are not in the store yet.
    pub unchecked: bool,
}

/// Where the value of a secret of a job comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretSource {
    /// The hall keeps it under this name.
    Kept(String),
    /// This is it.
    Value {
        /// The value.
        value: Hidden,
    },
}

/// A model service to start: one of the blueprint, or a model in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// The service's name.
    pub service: String,
    /// The model name that the gateway offers; the service's name if absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Where the model file is, `s3://BUCKET/KEY`. Absent: as the blueprint says.
    #[serde(default)]
    pub source: Option<String>,
    /// What the engine speaks; from the file's ending if absent.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub protocol: Option<Protocol>,
    /// Copies.
    #[serde(default)]
    pub replicas: Option<u32>,
}

/// The answer to a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The jobs that were made: one, or one per replica.
    #[schemars(with = "Vec<u64>")]
    pub jobs: Vec<JobId>,
    /// Where and when the job starts, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<StartPlan>,
}

/// A job in lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// Its id.
    #[schemars(with = "u64")]
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Its state in one word.
    pub state: String,
    /// Its queue.
    pub queue: String,
    /// Ranks of the gang.
    pub ranks: u32,
    /// Ranks whose process runs.
    pub ranks_running: u32,
    /// Attempts so far.
    pub attempts: u32,
    /// Who submitted it.
    pub by: String,
    /// The workload that it is a run of.
    pub workload: Option<String>,
    /// The service that it is a replica of.
    pub service: Option<String>,
    /// When it was accepted.
    pub submitted_ns: u64,
    /// When its present or last attempt took its slots.
    pub started_ns: Option<u64>,
    /// When it was over.
    pub ended_ns: Option<u64>,
    /// Why it ended or waits, if that is known at a glance.
    pub because: Option<String>,
    /// The exit code of the rank that failed first, if it failed.
    pub exit_code: Option<i32>,
}

/// Jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Oldest first; of a page that was asked for from the end, newest first.
    pub jobs: Vec<JobView>,
    /// Where the next page goes on, if there is more: the value of `after` or `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u64>")]
    pub next: Option<JobId>,
}

/// A node and the jobs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeJobs {
    /// The node.
    #[serde(flatten)]
    pub node: NodeView,
    /// Jobs that hold slots of it.
    #[schemars(with = "Vec<u64>")]
    pub jobs: Vec<JobId>,
}

/// Nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeList {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// In the order of the blueprint.
    pub nodes: Vec<NodeJobs>,
}

/// One line of a rank's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The attempt.
    pub attempt: u32,
    /// The rank.
    pub rank: u32,
    /// The line, without its end.
    pub line: String,
}

/// Where the listeners are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Listeners {
    /// The job API.
    pub api: String,
    /// The model gateway.
    pub gateway: String,
    /// The object store.
    pub store: String,
}

/// A node in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Accelerator slots.
    pub slots: u32,
    /// Slots with an owner.
    pub busy: u32,
    /// `up`, `drained`, or `down` if the executor's own system gives it no work.
    pub health: String,
    /// What the executor's own system calls it, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A key for an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRequest {
    /// Who holds it.
    pub name: String,
    /// What it may use of models.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub grant: Grant,
}

/// A key that was made. Its secret is told this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewKey {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The public id.
    pub id: String,
    /// The bearer token.
    pub secret: String,
}

/// A key that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// The public id.
    pub id: String,
    /// Who holds it.
    pub name: String,
    /// What it may do.
    #[schemars(with = "String")]
    pub role: Role,
    /// What it may use of models.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub grant: Grant,
}

/// A model that the gateway offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// The service.
    pub service: String,
    /// The model name.
    pub model: String,
    /// What it speaks.
    #[schemars(with = "String")]
    pub protocol: Protocol,
    /// `ready`, `loading`, ... or `declared` with the reason why it does not run.
    pub state: String,
    /// The replica's job.
    #[schemars(with = "Option<u64>")]
    pub job: Option<JobId>,
    /// Why it is not ready.
    pub because: Option<String>,
}

/// The state of the whole hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The hall's name.
    pub name: String,
    /// The server's version.
    pub version: String,
    /// Where it listens.
    pub listeners: Listeners,
    /// Seconds since this server started.
    pub uptime_seconds: u64,
    /// Resident memory of the server process.
    pub resident_bytes: u64,
    /// Events in the log.
    pub events: u64,
    /// The hash of the hall's state after them: if it was asked for, or if the hall knows few jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// Nodes.
    pub nodes: Vec<NodeView>,
    /// Jobs by state.
    pub jobs: BTreeMap<String, u64>,
    /// Services.
    pub services: Vec<ServiceView>,
    /// The store's figures.
    pub store: StoreView,
    /// What the blueprint declares and this machine does not enforce.
    pub not_enforced: Vec<String>,
}

/// The store's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreView {
    /// Buckets.
    pub buckets: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes as clients see them.
    pub logical_bytes: u64,
    /// Bytes on the disk, after compression.
    pub stored_bytes: u64,
    /// Blocks answered from memory.
    pub cache_hits: u64,
    /// Blocks read from the disk.
    pub cache_misses: u64,
    /// Bytes that clients read.
    pub read_bytes: u64,
    /// Bytes that clients wrote.
    pub written_bytes: u64,
}

/// An error body, the same shape as OpenAI's, so that one client code reads both listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorView,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// What, where and why.
    pub message: String,
    /// The stable word of its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl JobView {
    /// How `job` looks in lists.
    pub fn of(job: &Job) -> Self {
        let running = job
            .active()
            .map_or(0, |attempt| attempt.tasks.iter().filter(|task| matches!(task, Task::Running { .. })).count());
        let (ended, because, exit_code) = match &job.phase {
            Phase::Done { outcome, at } => {
                let (because, code) = match outcome {
                    Outcome::Succeeded => (None, Some(0)),
                    Outcome::Failed { because, code } => (Some(because.clone()), *code),
                    Outcome::Cancelled { by } => (Some(format!("cancelled by {by}")), None),
                };
                (Some(*at), because, code)
            }
            Phase::Waiting { .. } | Phase::Active { .. } => {
                (None, job.history.last().map(|record| record.because.clone()), None)
            }
        };
        let last_start = job.history.last().map(|record| record.started);
        let started = job.active().map(|attempt| attempt.started).or(last_start);
        let nanoseconds = |time: SimTime| time.0;
        Self {
            id: job.id,
            name: job.spec.name.clone(),
            state: job.word().to_owned(),
            queue: job.spec.queue.clone(),
            ranks: job.spec.ranks,
            ranks_running: u32::try_from(running).unwrap_or(u32::MAX),
            attempts: job.attempts,
            by: job.by.clone(),
            workload: job.spec.workload.clone(),
            service: match &job.spec.kind {
                dh_hall::JobKind::Service { service, .. } => Some(service.clone()),
                dh_hall::JobKind::Batch => None,
            },
            submitted_ns: job.submitted.0,
            started_ns: started.map(nanoseconds),
            ended_ns: ended.map(nanoseconds),
            because,
            exit_code,
        }
    }

    /// Whether the job is over.
    pub fn over(&self) -> bool {
        self.ended_ns.is_some()
    }
}

/// Jobs by state.
pub(crate) fn jobs_by_state(hall: &Hall) -> BTreeMap<String, u64> {
    hall.jobs_by_word().iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}
