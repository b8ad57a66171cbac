//! Choices as pure functions: which job is next ([`order`]), and where a gang goes ([`placement`]).
//!
//! Invariant: a decision follows from the arguments alone: no clock, no hash order, no floating tie, no hidden state.
#![warn(missing_docs)]

pub mod order;
pub mod placement;
