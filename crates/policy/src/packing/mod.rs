//! Packing of requests that each need one node: processor, memory, and accelerators whole or in part.
//!
//! A policy gives every state of a node a [`Potential`]: what the node is still worth for the requests that are expected.
//! A request goes where it costs least of that. Equal nodes share one state, so a decision looks at states and not at nodes,
//! and each (state, request) is computed once.
//!
//! Invariant: whole numbers only, and of equal scores the node that was added first wins: the same requests on the same nodes
//! give the same places. Cost of a decision: one table entry for each state that some node is in.

mod best_fit;
mod fragmentation;
mod future;
mod mix;
mod node;
mod packer;

pub use mix::Mix;
pub use node::{ACCELERATORS_MAX, Node, Request, WHOLE};
pub use packer::{Packer, Place};

/// A policy of packing.
pub trait Potential: Sync + std::fmt::Debug {
    /// The name used in blueprints.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// What a node is worth in this state: a request goes where least of it is lost.
    fn worth(&self, _node: &Node, _mix: &Mix) -> i64 {
        0
    }

    /// How good it is that a request leaves a node in this state, whatever it was before.
    fn leaves(&self, node: &Node) -> i64;

    /// What a thousandth of an accelerator costs, of a model that is as much in demand as the mean of all. A model that is
    /// twice as much in demand costs twice as much.
    fn price(&self) -> i64 {
        0
    }
}

/// Every policy of packing there is, the one we recommend first.
pub const POLICIES: &[&dyn Potential] = &[&future::FutureFill, &fragmentation::Fragmentation, &best_fit::BestFit];

/// The policy called `name`; `best` is the one we recommend.
pub fn by_name(name: &str) -> Option<&'static dyn Potential> {
    if name == "best" {
        return POLICIES.first().copied();
    }
    POLICIES.iter().find(|policy| policy.name() == name).copied()
}
