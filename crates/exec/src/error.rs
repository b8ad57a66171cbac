//! What can go wrong when tasks are started, stopped and recovered.

use std::io;
use std::path::{Path, PathBuf};

use dh_core::{AttemptId, HasKind, Kind, TaskId};

/// A failure of an executor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The gang as described can never start.
    #[error("the gang of {attempt} cannot start: {why}")]
    Invalid {
        /// The attempt.
        attempt: AttemptId,
        /// What is wrong, with the name of the field.
        why: String,
    },
    /// An attempt starts at most once.
    #[error("{0} was started before; an attempt starts at most once")]
    AlreadyStarted(AttemptId),
    /// No such attempt was ever started here.
    #[error("{0} was never started here")]
    UnknownAttempt(AttemptId),
    /// The task does not run.
    #[error("{0} does not run")]
    NotRunning(TaskId),
    /// A rank's program could not be started; the other ranks were stopped.
    #[error("{task} could not be started, so its whole gang was not: {why}")]
    CannotRun {
        /// The first rank that failed.
        task: TaskId,
        /// Why, in the words of its warden.
        why: String,
    },
    /// The gang was stopped while it started.
    #[error("{0} was stopped while it started")]
    StoppedWhileStarting(AttemptId),
    /// A warden did not answer.
    #[error("{task} did not report within {waited_ms} ms; its gang was stopped")]
    StartTimeout {
        /// The first rank that did not report.
        task: TaskId,
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// Another process uses the state directory.
    #[error("{} is in use by another server", .0.display())]
    InUse(PathBuf),
    /// Processes survived a kill, for instance in an uninterruptible read from a dead disk.
    #[error("{attempt} still has processes after they were killed: {}", list(.pids))]
    StillRunning {
        /// The attempt.
        attempt: AttemptId,
        /// Some of their process ids; empty if only the lock of a warden shows that something is there.
        pids: Vec<u32>,
    },
    /// A Kubernetes cluster refused something, or did not answer.
    #[error("Kubernetes: cannot {doing}: {why}")]
    Cluster {
        /// What was tried, as a verb and its object.
        doing: String,
        /// What it said.
        why: String,
        /// The HTTP status of its refusal, if it was one.
        code: Option<u16>,
    },
    /// No executor has this name.
    #[error("there is no executor named `{0}`")]
    UnknownExecutor(String),
    /// The operating system refused something.
    #[error("cannot {doing}: {source}")]
    Os {
        /// What was tried, as a verb and its object.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file of ours is not what we wrote.
    #[error("{} is damaged: {why}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn list(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// The system refused to do `verb` with `path`.
    pub(crate) fn os(verb: &str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Os { doing: format!("{verb} {}", path.display()), source: source.into() }
    }

    /// The system refused to do `what`.
    pub(crate) fn doing(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { doing: what.into(), source: source.into() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::AlreadyStarted(_) | Self::InUse(_) | Self::Cluster { code: Some(409), .. } => Kind::Conflict,
            Self::UnknownAttempt(_) | Self::NotRunning(_) | Self::UnknownExecutor(_) => Kind::NotFound,
            Self::StoppedWhileStarting(_) => Kind::Interrupted,
            Self::StartTimeout { .. } => Kind::Timeout,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Cluster { code: Some(401), .. } => Kind::Unauthorized,
            Self::Cluster { code: Some(403), .. } => Kind::Forbidden,
            Self::Cluster { code: None, .. } => Kind::Unreachable,
            Self::Invalid { .. } | Self::CannotRun { .. } | Self::Cluster { code: Some(_), .. } => Kind::Invalid,
            Self::Os { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Kind::Full
            }
            Self::StillRunning { .. } | Self::Os { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::CannotRun { .. } => {
                Some("name a program in PATH or give its full path; the rank's log may say more".to_owned())
            }
            Self::InUse(path) => {
                Some(format!("stop the other server, or give this one a state directory other than {}", path.display()))
            }
            Self::Os { source, .. } if source.raw_os_error() == Some(24) => {
                Some("too many open files: each rank needs two in the server; raise `ulimit -n`".to_owned())
            }
            Self::UnknownExecutor(_) => {
                Some(format!("known are: {}", crate::EXECUTORS.iter().map(|e| e.name).collect::<Vec<_>>().join(", ")))
            }
            Self::StillRunning { .. } => Some("look at these processes; they may hang on a dead disk".to_owned()),
            Self::Cluster { code: Some(401 | 403), .. } => Some(
                "give the account of the hall the role of examples/kubernetes/rbac.yaml in that namespace".to_owned(),
            ),
            Self::Cluster { code: None, .. } => Some(
                "`datahall doctor` tries the cluster; `kubeconfig` and `context` of [target] say which it is"
                    .to_owned(),
            ),
            Self::Cluster { .. }
            | Self::Invalid { .. }
            | Self::AlreadyStarted(_)
            | Self::UnknownAttempt(_)
            | Self::NotRunning(_)
            | Self::StoppedWhileStarting(_)
            | Self::StartTimeout { .. }
            | Self::Corrupt { .. }
            | Self::Os { .. } => None,
        }
    }
}
