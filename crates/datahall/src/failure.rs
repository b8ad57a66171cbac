//! The one shape in which the command line fails: what and why, a hint, and an exit code that follows from the kind.

use std::fmt::Display;

use dh_core::{HasKind, Kind};

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), hint: None }
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// Every error of our crates knows its kind; the whole chain of causes becomes the message.
impl<E: std::error::Error + HasKind> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            let text = deeper.to_string();
            // Most of our errors print their cause already.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = deeper.source();
        }
        Self { kind: error.kind(), message, hint: error.hint() }
    }
}

/// Gives an error of the system the words that say what was tried.
pub(crate) trait OrFail<T> {
    fn or_fail(self, what: impl Display) -> Result<T, Failure>;
    fn or_fail_as(self, kind: Kind, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl Display) -> Result<T, Failure> {
        self.or_fail_as(Kind::Internal, what)
    }

    fn or_fail_as(self, kind: Kind, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(kind, format!("{what}: {error}")))
    }
}
