//! Where the ranks of a gang go. One file per policy, one line in [`POLICIES`].

mod best_fit;

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

/// A node that may be used, with what is free on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeNode {
    /// The node.
    pub node: NodeId,
    /// Free accelerator slots.
    pub free: u32,
    /// All accelerator slots.
    pub slots: u32,
}

/// What a gang needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Ranks of the gang.
    pub ranks: u32,
    /// Slots for each rank, all on one node.
    pub slots_per_rank: u32,
}

/// Why a gang does not fit: the first condition that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "misfit")]
pub enum Misfit {
    /// No node has `slots_per_rank` slots, busy or free.
    NoNodeLargeEnough {
        /// Slots of the largest node.
        largest: u32,
        /// Slots that one rank needs.
        needed: u32,
    },
    /// The whole hall is too small.
    TooFewSlots {
        /// Ranks that an empty hall could hold.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
    },
    /// It fits an empty hall, and not the present one.
    Occupied {
        /// Ranks that fit beside what is running.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
    },
}

/// A placement policy.
pub trait Placement: Sync {
    /// The name used in blueprints.
    fn name(&self) -> &'static str;
    /// The node of each rank, in rank order.
    /// # Errors
    /// The first condition that fails. Nothing is ever placed in part.
    fn place(&self, nodes: &[FreeNode], need: Need) -> Result<Vec<NodeId>, Misfit>;
}

/// Every placement policy there is, the default first.
pub const POLICIES: &[&dyn Placement] = &[&best_fit::BestFit];

/// The placement policy called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Placement> {
    POLICIES.iter().find(|policy| policy.name() == name).copied()
}

/// Whether `need` fits, by counting alone: first an empty hall, then the present one.
/// # Errors
/// The first condition that fails.
pub fn feasible(nodes: &[FreeNode], need: Need) -> Result<(), Misfit> {
    let largest = nodes.iter().map(|node| node.slots).max().unwrap_or(0);
    if largest < need.slots_per_rank {
        return Err(Misfit::NoNodeLargeEnough { largest, needed: need.slots_per_rank });
    }
    let places = |slots: fn(&FreeNode) -> u32| -> u64 {
        nodes.iter().map(|node| u64::from(slots(node) / need.slots_per_rank.max(1))).sum()
    };
    let empty = places(|node| node.slots);
    if empty < u64::from(need.ranks) {
        return Err(Misfit::TooFewSlots { places: empty, ranks: need.ranks });
    }
    let present = places(|node| node.free);
    if present < u64::from(need.ranks) {
        return Err(Misfit::Occupied { places: present, ranks: need.ranks });
    }
    Ok(())
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoNodeLargeEnough { largest, needed } => {
                write!(f, "one rank needs {needed} slots on one node, and the largest node has {largest}")
            }
            Self::TooFewSlots { places, ranks } => {
                write!(f, "the whole hall has room for {places} such ranks, and the gang has {ranks}")
            }
            Self::Occupied { places, ranks } => {
                write!(f, "there is room for {places} of its {ranks} ranks beside what is running")
            }
        }
    }
}
