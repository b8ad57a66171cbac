//! What can go wrong with keys. No variant carries a secret.

use std::path::PathBuf;

use dh_core::{HasKind, Kind};

/// Why keys could not be made, kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(getrandom::Error),
    /// A file operation failed.
    #[error("key file `{path}`: cannot {doing}: {source}")]
    Io {
        /// The key file.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The key file is there already.
    #[error("key file `{0}` exists already")]
    Exists(PathBuf),
    /// The key file is not there.
    #[error("key file `{0}` does not exist")]
    Missing(PathBuf),
    /// Others than the owner can read or write the key file.
    #[error("key file `{path}` has mode {mode:04o}: others than its owner can open it")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file belongs to somebody else.
    #[error("key file `{path}` belongs to user {owner}, and this process runs as user {user}")]
    ForeignOwner {
        /// The key file.
        path: PathBuf,
        /// The user id that owns it.
        owner: u32,
        /// Our user id.
        user: u32,
    },
    /// The key file's content is not what this program writes.
    #[error("key file `{path}` is damaged: {why}")]
    Damaged {
        /// The key file.
        path: PathBuf,
        /// What is wrong, without the text itself.
        why: String,
    },
    /// Somebody else changed the key file since it was read.
    #[error("key file `{0}` was changed by another process")]
    Changed(PathBuf),
    /// A name that cannot be a principal's name.
    #[error("`{0}` cannot name a key: use 1 to 128 letters, digits, `.`, `_`, `-`, `/` or `:`")]
    BadName(String),
    /// No more keys fit.
    #[error("there are {0} keys already, which is the limit")]
    TooMany(usize),
    /// A value could not be sealed.
    #[error("a value could not be sealed")]
    Sealing,
    /// No key has this id.
    #[error("there is no key `{0}`")]
    UnknownKey(String),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Random(_) | Self::Io { .. } | Self::Sealing => Kind::Internal,
            Self::Exists(_) | Self::Changed(_) => Kind::Conflict,
            Self::Missing(_) | Self::UnknownKey(_) => Kind::NotFound,
            Self::Exposed { .. } | Self::ForeignOwner { .. } => Kind::Forbidden,
            Self::Damaged { .. } => Kind::Corrupt,
            Self::BadName(_) => Kind::Invalid,
            Self::TooMany(_) => Kind::Full,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => {
                Some(format!("chmod 600 {}; if others could have read it, issue fresh keys", path.display()))
            }
            Self::ForeignOwner { path, .. } => {
                Some(format!("run as the owner, or chown {} to yourself", path.display()))
            }
            Self::Damaged { path, .. } => {
                Some(format!("restore {0} from a backup, or move it away to start with fresh keys", path.display()))
            }
            Self::Changed(_) => Some("load the key file again, then repeat the change".to_owned()),
            Self::TooMany(_) => Some("revoke keys that nobody uses".to_owned()),
            Self::Random(_)
            | Self::Sealing
            | Self::Io { .. }
            | Self::Exists(_)
            | Self::Missing(_)
            | Self::BadName(_)
            | Self::UnknownKey(_) => None,
        }
    }
}
