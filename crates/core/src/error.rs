//! Error kinds: whose fault it was, whether trying again can help, and how each listener and the command line say so.
//!
//! Every crate has its own `Error`; each variant maps to one [`Kind`], and nothing else decides exit codes or statuses.

use serde::{Deserialize, Serialize};

/// What kind of failure this is, from the caller's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The caller's input is wrong; the same call will fail again.
    Invalid,
    /// The blueprint is wrong.
    Blueprint,
    /// What was asked for cannot be had on this hall, now or later.
    Infeasible,
    /// No key, or a key nobody knows.
    Unauthorized,
    /// The key is known and may not do this.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The thing is in a state that does not allow this.
    Conflict,
    /// Larger than the stated limit.
    TooLarge,
    /// A bounded queue is full; try again later.
    Busy,
    /// The other side cannot be reached.
    Unreachable,
    /// It took longer than the stated limit.
    Timeout,
    /// Bytes on a disk or wire are not what was written.
    Corrupt,
    /// No space left.
    Full,
    /// A person or a signal stopped it.
    Interrupted,
    /// Our fault, or the operating system's.
    Internal,
}

impl Kind {
    /// The process exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal | Self::Corrupt | Self::Full | Self::Busy | Self::Conflict => 1,
            Self::Invalid | Self::TooLarge => 2,
            Self::Blueprint => 3,
            Self::Infeasible => 4,
            Self::Unauthorized | Self::Forbidden => 6,
            Self::NotFound => 7,
            Self::Unreachable => 8,
            Self::Timeout => 9,
            Self::Interrupted => 130,
        }
    }

    /// The HTTP status code of our listeners.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid | Self::Blueprint => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Infeasible => 422,
            Self::Busy => 429,
            Self::Internal | Self::Corrupt => 500,
            Self::Unreachable => 502,
            Self::Interrupted => 503,
            Self::Timeout => 504,
            Self::Full => 507,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unreachable | Self::Timeout | Self::Interrupted)
    }

    /// The stable word used in JSON error bodies.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Blueprint => "blueprint",
            Self::Infeasible => "infeasible",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::Interrupted => "interrupted",
            Self::Internal => "internal",
        }
    }

    /// The kind that an HTTP status of one of our own listeners stands for.
    pub const fn from_http_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            413 => Self::TooLarge,
            422 => Self::Infeasible,
            429 => Self::Busy,
            // Who is stopping or not ready cannot be reached; `Interrupted` is for a person's own Ctrl-C.
            502 | 503 => Self::Unreachable,
            504 => Self::Timeout,
            507 => Self::Full,
            400..=499 => Self::Invalid,
            _ => Self::Internal,
        }
    }
}

/// An error that knows its [`Kind`].
pub trait HasKind {
    /// The one kind of this error.
    fn kind(&self) -> Kind;
    /// What the reader may do about it, if we know something better than the message says.
    fn hint(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn statuses_of_caller_faults_survive_the_wire() {
        for kind in [
            Kind::Unauthorized,
            Kind::Forbidden,
            Kind::NotFound,
            Kind::Conflict,
            Kind::TooLarge,
            Kind::Infeasible,
            Kind::Busy,
            Kind::Timeout,
            Kind::Full,
        ] {
            assert_eq!(Kind::from_http_status(kind.http_status()), kind);
        }
        assert_eq!(Kind::from_http_status(418), Kind::Invalid);
    }

    #[test]
    fn a_caller_fault_is_never_retryable() {
        for kind in [Kind::Invalid, Kind::Blueprint, Kind::Unauthorized, Kind::Forbidden, Kind::NotFound] {
            assert!(!kind.retryable());
        }
        assert!(Kind::Busy.retryable());
    }
}
