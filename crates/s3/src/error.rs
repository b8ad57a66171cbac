//! What can go wrong with a call, and whose fault it is.

use dh_core::{HasKind, Kind};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store said no, in its words.
    #[error("{action}: the store answered {status} {code}{}{}", said(message), request(request_id.as_deref()))]
    Refused {
        /// What was tried.
        action: String,
        /// The HTTP status.
        status: u16,
        /// S3's code, or `-` if there was none.
        code: String,
        /// S3's message; may be empty.
        message: String,
        /// The store's name for the request, for its logs.
        request_id: Option<String>,
    },
    /// No answer, or one that broke off, until patience ended.
    #[error("{action}: {endpoint} does not answer after {tries} tries: {why}")]
    Unreachable {
        /// What was tried.
        action: String,
        /// The store.
        endpoint: String,
        /// The last failure.
        why: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Bytes other than those announced.
    #[error("{action}: {why}")]
    Corrupt {
        /// What was tried.
        action: String,
        /// What does not fit.
        why: String,
    },
    /// A setting or argument that cannot work.
    #[error("{0}")]
    Setting(String),
    /// More than a bound allows.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// A local file or folder.
    #[error("{what}: {why}")]
    File {
        /// What was tried.
        what: String,
        /// What the operating system said.
        why: String,
    },
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

impl Error {
    /// S3's code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Unreachable { .. }
            | Self::Corrupt { .. }
            | Self::Setting(_)
            | Self::TooLarge { .. }
            | Self::File { .. } => None,
        }
    }

    /// A short word for statistics: S3's code, or what else happened.
    pub fn word(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable { .. } => "Unreachable",
            Self::Corrupt { .. } => "WrongBytes",
            Self::Setting(_) => "Setting",
            Self::TooLarge { .. } => "TooLarge",
            Self::File { .. } => "File",
        }
    }

    pub(crate) fn corrupt(action: &str, why: impl Into<String>) -> Self {
        Self::Corrupt { action: action.to_owned(), why: why.into() }
    }

    pub(crate) fn file(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::File { what: what.into(), why: error.to_string() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused { status, code, .. } => match (*status, code.as_str()) {
                (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId" | "ExpiredToken") => {
                    Kind::Unauthorized
                }
                (412, _) => Kind::Conflict,
                (501, _) => Kind::Invalid,
                (status, _) => Kind::from_http_status(status),
            },
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Setting(_) => Kind::Invalid,
            Self::TooLarge { .. } => Kind::TooLarge,
            Self::File { .. } => Kind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self.code()? {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                "the key comes from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from --keys FILE; `datahall store keys DIR` lists those of a store"
            }
            "RequestTimeTooSkewed" => "the clocks of this machine and the store's are too far apart",
            "NoSuchBucket" => "`datahall store mb s3://BUCKET` makes a bucket",
            _other => return None,
        };
        Some(text.to_owned())
    }
}
