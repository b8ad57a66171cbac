//! Choices as pure functions: which job is next ([`order`]), where a gang goes ([`placement`]), and where a part of a node
//! goes ([`packing`]).
//!
//! Invariant: a decision follows from the arguments alone: no clock, no hash order, no floating tie, no hidden state.
#![warn(missing_docs)]

pub mod order;
pub mod packing;
pub mod placement;
