//! Virtual time: whole nanoseconds, so that two machines agree to the last bit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds since the Unix epoch in a live hall and since the start of the trace in a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SimTime(pub u64);

/// A length of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// `seconds` as a span, saturating.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// `milliseconds` as a span, saturating.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds.saturating_mul(1_000_000))
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

impl SimTime {
    /// The moment `span` later, saturating at the end of time.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long it is from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs();
        match seconds {
            0 => write!(f, "{} ms", self.0 / 1_000_000),
            1..=119 => write!(f, "{seconds} s"),
            120..=7_199 => write!(f, "{} min {:02} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
        }
    }
}

/// Where the time comes from. Layers 0 to 3 never hold one: they are told the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> SimTime;
}
