//! A modelled number and the words that say where it comes from.

use serde::{Deserialize, Serialize};

/// A value with its basis: a formula with its numbers filled in, a source, or a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Based<T> {
    /// The number.
    pub value: T,
    /// Where it comes from, in one line.
    pub basis: String,
}

impl<T> Based<T> {
    /// `value`, because of `basis`.
    pub fn new(value: T, basis: impl Into<String>) -> Self {
        Self { value, basis: basis.into() }
    }
}

impl<T: std::fmt::Display> std::fmt::Display for Based<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.value, self.basis)
    }
}
