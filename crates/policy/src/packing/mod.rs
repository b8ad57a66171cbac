//! Packing of requests that each need one node: processor, memory, and accelerators whole or in part.
//!
//! A policy gives every state of a node a [`Potential`]: what the node is still worth for the requests that are expected.
//! A request goes where it costs least of that. Equal nodes share one state, so a decision looks at states and not at nodes;
//! each (state, request) is computed once, and kept in a heap for each request. What is old is dropped.
//!
//! Requests end, nodes leave and return, the mix follows what arrives ([`Packer`]); what fits nowhere may be let in by a few
//! moves that are worth their price ([`Packer::plan_moves`]); among equal nodes that of the fullest rack is taken.
//!
//! Invariant: whole numbers only, and ties are broken by what states and nodes are, never by when they were first seen: the
//! same requests on the same nodes give the same places, after a restart too. Cost of a decision: the top of a heap.

mod best_fit;
mod choice;
mod detail;
mod fleet;
mod fragmentation;
mod future;
mod hash;
mod histogram;
mod mix;
mod moves;
mod node;
mod packer;
mod prices;
mod queue;
mod racks;
mod saved;
mod table;

pub use choice::{Choice, Place, Refused};
pub use detail::Detail;
pub use mix::Mix;
pub use moves::{Move, Plan, Running};
pub use node::{ACCELERATORS_MAX, Node, Request, WHOLE};
pub use packer::Packer;
pub use saved::Saved;

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
