//! What can go wrong in the live body.

use std::path::PathBuf;

use dh_core::{HasKind, Kind};

/// Errors of the live body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The event log cannot be read or written.
    #[error("the event log {place}: {why}")]
    Log {
        /// The file or the database.
        place: String,
        /// What `SQLite` or `PostgreSQL` says.
        why: String,
    },
    /// The event log holds something that this version cannot read.
    #[error("the event log {place}, event {seq}: {why}")]
    BadEvent {
        /// The file or the database.
        place: String,
        /// The event's number.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Another server leads the hall now.
    #[error("another server leads this hall now; this one did nothing since it was deposed")]
    Deposed,
    /// A file or folder of the data directory.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A listener's address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another server holds the data directory.
    #[error("the data directory {} is in use by process {pid}", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// The store.
    #[error("the store: {0}")]
    Store(#[from] dh_store::Error),
    /// The keys.
    #[error("the keys: {0}")]
    Keys(#[from] dh_guard::Error),
    /// The executor.
    #[error("the executor: {0}")]
    Exec(#[from] dh_exec::Error),
    /// The gateway.
    #[error("the gateway: {0}")]
    Gateway(#[from] dh_gateway::Error),
    /// A job was refused.
    #[error(transparent)]
    Rejected(#[from] dh_hall::Rejection),
    /// There is no such thing.
    #[error("there is no {0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The thing is not in a state for this.
    #[error("{0}")]
    Conflict(String),
    /// The body has stopped, because its log failed or because it was told to.
    #[error("the hall is stopping and takes nothing new")]
    Stopping,
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Log { .. } | Self::File { .. } => Kind::Internal,
            Self::BadEvent { .. } => Kind::Corrupt,
            Self::Listen { .. } | Self::InUse { .. } | Self::Conflict(_) => Kind::Conflict,
            Self::Store(error) => error.kind(),
            Self::Keys(error) => error.kind(),
            Self::Exec(error) => error.kind(),
            Self::Gateway(error) => error.kind(),
            Self::Rejected(error) => error.kind(),
            Self::NotFound(_) => Kind::NotFound,
            Self::Invalid(_) => Kind::Invalid,
            Self::Stopping | Self::Deposed => Kind::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some(
                "another program listens there; give `[target]` other ports in the blueprint, or 0 for any free one"
                    .to_owned(),
            ),
            Self::InUse { .. } => Some(
                "`datahall status` shows it, `datahall down` ends it, `--data DIR` takes another directory".to_owned(),
            ),
            Self::BadEvent { .. } => {
                Some("keep the data directory as it is, and start with a fresh one by `--data DIR`".to_owned())
            }
            Self::Deposed => Some("start it again: it follows the log until it is needed".to_owned()),
            Self::Keys(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Exec(error) => error.hint(),
            Self::Gateway(error) => error.hint(),
            Self::Rejected(error) => error.hint(),
            Self::Log { .. }
            | Self::File { .. }
            | Self::NotFound(_)
            | Self::Invalid(_)
            | Self::Conflict(_)
            | Self::Stopping => None,
        }
    }
}
