//! What server and warden write for each other: the task's description, its processes, its end. No secret is among them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use dh_core::{SimTime, TaskId};
use serde::{Deserialize, Serialize};

use crate::limits::MESSAGE_BYTES_MAX;
use crate::process::Identity;

/// Why a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// By itself: it returned a code, or a signal that we did not send (or that `kill_rank` sent) ended it.
    Exited,
    /// It was stopped on request.
    Killed,
    /// Its server went away.
    LifelineLost,
    /// Its time was up.
    TimeLimit,
    /// The kernel killed it for using more memory than its limit.
    MemoryLimit,
    /// It never ran.
    SpawnFailed,
    /// Its warden was killed, so what became of the task itself is not known, only that it is gone.
    WardenLost,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) task: TaskId,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: ExitReason,
    pub(crate) message: String,
    pub(crate) finished_at: SimTime,
}

impl ExitRecord {
    /// The end of a task that has neither code nor signal.
    pub(crate) fn without_status(task: TaskId, reason: ExitReason, message: impl Into<String>) -> Self {
        Self { task, code: None, signal: None, reason, message: short(message.into()), finished_at: now() }
    }
}

/// What a warden needs to know. The environment is complete but for the secrets, which come through the lifeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskRecord {
    pub(crate) task: TaskId,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) workdir: PathBuf,
    pub(crate) cores: Vec<u32>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) time_ms: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) processes: Option<u64>,
    /// How long the task goes on without a word from a server that may be deposed.
    #[serde(default)]
    pub(crate) beat_ms: Option<u64>,
    /// Names the control groups of this task; no two tasks ever share it.
    pub(crate) mark: String,
}

/// The gang of an attempt, written before its first process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GangRecord {
    pub(crate) ranks: u32,
    /// In the environment of every process of the attempt, so that strays can be found.
    pub(crate) mark: String,
}

/// The processes of one rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessRecord {
    pub(crate) warden: Identity,
    pub(crate) task: Option<Identity>,
}

/// Whether a limit holds, and what holds it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// No limit was asked for.
    #[default]
    NotAsked,
    /// The system holds it; the text says with what.
    EnforcedBy(String),
    /// It is only written down; the text says why.
    DeclaredOnly(String),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAsked => f.write_str("no limit"),
            Self::EnforcedBy(what) => write!(f, "enforced by {what}"),
            Self::DeclaredOnly(why) => write!(f, "declared, not enforced: {why}"),
        }
    }
}

/// Which of a task's limits are in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Enforcement {
    /// Memory.
    pub memory: Bound,
    /// Processes and threads.
    pub processes: Bound,
    /// Cores.
    pub cores: Bound,
}

/// What a warden tells its server, one JSON text per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Everything but the task itself is in place.
    Ready,
    /// The task runs.
    Started { pid: u32, enforcement: Enforcement },
}

/// The present moment of the machine's clock.
pub(crate) fn now() -> SimTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SimTime(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
}

/// `text`, cut at a character boundary to what a record may hold.
pub(crate) fn short(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
