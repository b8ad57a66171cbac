//! Several jobs on the same accelerators, their stages interleaved: which jobs go together ([`group`]) and how fast each of
//! them is then ([`period`]).
//!
//! An iteration of training loads and prepares a batch, computes, and exchanges gradients. While one job computes, another
//! can load and a third can exchange, so jobs with different bottlenecks share accelerators at little cost to each.
//!
//! Invariant: whole numbers only; a grouping follows from its arguments and the order in which they are given.
//! Source: Zhao et al., Multi-resource interleaving for deep learning training, SIGCOMM 2022.

mod grouping;
mod period;
mod together;

use dh_core::time::Span;
use serde::{Deserialize, Serialize};

pub use grouping::{Foresight, Group, Sharer, Terms, group, worth};
pub use period::{LARGEST, period};
pub use together::{ALONE, Kind, Together, Where};

/// How long the stages of one iteration take when the job has its accelerators to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stages {
    /// Reading the batch from storage and preparing it on processors.
    pub input: Span,
    /// Computing on the accelerators.
    pub compute: Span,
    /// Exchanging gradients over the network.
    pub network: Span,
}

/// What one iteration of a job is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Iteration {
    /// Its stages.
    pub stages: Stages,
    /// How long it takes with the accelerators to itself; not always the sum of the stages, which may overlap within the job.
    pub alone: Span,
    /// What it keeps of each accelerator's memory, thousandths; 0 if that is not known and does not limit.
    pub memory_milli: u16,
}

/// What sharing costs beyond the interleaved stages (caches, memory bandwidth, the barrier between slots), measured: the
/// period of a group, in millionths of what [`period`] says, by the number of members. A job alone pays nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contention {
    /// Millionths for groups of two, three and four.
    pub millionths: [u32; LARGEST - 1],
}

impl Contention {
    /// Sharing that costs nothing but the wait for the slowest stage.
    pub const NONE: Self = Self { millionths: [1_000_000; LARGEST - 1] };

    /// As published: a round of two, three and four members takes x 1.33, 1.5 and 1.37 of what the stages say, of which x 1.015
    /// is profiling, which is not counted here.
    pub const PUBLISHED: Self = Self { millionths: [1_310_345, 1_477_833, 1_349_754] };

    /// `period` with the cost for `members` jobs added.
    pub fn of(&self, members: usize, period: Span) -> Span {
        let millionths = match members.checked_sub(2).and_then(|at| self.millionths.get(at)) {
            Some(millionths) => u128::from(*millionths),
            None => 1_000_000,
        };
        Span(u64::try_from(u128::from(period.0) * millionths / 1_000_000).unwrap_or(u64::MAX))
    }
}
