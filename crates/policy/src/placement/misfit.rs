//! Why a gang does not fit: the first condition that fails, found by counting nodes.

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

use super::{Context, Need, ranks_on};
use crate::fleet::{Domain, Fleet, Level, View};

/// Why a gang does not fit: the first condition that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "misfit")]
pub enum Misfit {
    /// No node has accelerators of a class that the gang accepts.
    NoSuchClass,
    /// No node has `slots_per_rank` accelerators, busy or free.
    NoNodeLargeEnough {
        /// Accelerators of the largest node.
        largest: u32,
        /// Accelerators that one rank needs.
        needed: u32,
    },
    /// No node has the memory or the cores of one rank, busy or free.
    NoNodeRichEnough,
    /// The hall is too small, or each domain in which the gang must stay is.
    TooFewSlots {
        /// Ranks that it could hold when empty.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
        /// The level of the domain; 0 is the hall.
        level: Level,
    },
    /// It fits when empty, and not with what is running.
    Occupied {
        /// Ranks that fit beside what is running.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
        /// The level of the domain; 0 is the hall.
        level: Level,
    },
    /// The hall has room, but no domain of the level in which the gang must stay.
    Fragmented {
        /// Ranks that fit in the emptiest domain.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
        /// The level.
        level: Level,
    },
    /// Nodes have room, but not on the same accelerators.
    RailsTaken {
        /// Ranks that fit on the best set of rails.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
    },
    /// It would fit if nothing were reserved for jobs ahead of it.
    Reserved {
        /// Ranks that fit beside what is reserved.
        places: u64,
        /// Ranks of the gang.
        ranks: u32,
    },
}

impl Misfit {
    /// Whether an empty hall would not take it either.
    pub const fn for_ever(&self) -> bool {
        match self {
            Self::NoSuchClass | Self::NoNodeLargeEnough { .. } | Self::NoNodeRichEnough | Self::TooFewSlots { .. } => {
                true
            }
            Self::Occupied { .. } | Self::Fragmented { .. } | Self::RailsTaken { .. } | Self::Reserved { .. } => false,
        }
    }
}

/// Why `need` does not fit, by counting; `None` if the count says that it fits. Cost: a look at every node.
pub fn misfit(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Option<Misfit> {
    let nodes = || (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId);
    let needed = u32::from(need.rank.accelerators);
    if needed > 0 {
        let accepted = nodes().filter(|node| need.rank.accepts(fleet.class(*node)));
        let largest = accepted.map(|node| u32::from(fleet.accelerators(node))).max();
        match largest {
            None if !fleet.is_empty() => return Some(Misfit::NoSuchClass),
            Some(largest) if largest >= needed => {}
            None | Some(_) => return Some(Misfit::NoNodeLargeEnough { largest: largest.unwrap_or(0), needed }),
        }
    }
    if nodes().all(|node| fleet.ranks_empty(node, &need.rank) == 0) {
        return Some(Misfit::NoNodeRichEnough);
    }
    let ranks = need.ranks;
    let most = |count: &dyn Fn(NodeId) -> u32, level: Level| -> u64 {
        let domains = (0..fleet.tree().domains(level)).map(|number| Domain { level, number });
        let sum = |domain| fleet.tree().nodes_of(domain).map(|node| u64::from(count(NodeId(node)))).sum::<u64>();
        domains.map(sum).max().unwrap_or(0)
    };
    let empty = |node| fleet.ranks_empty(node, &need.rank);
    let places = most(&empty, need.within);
    if places < u64::from(ranks) {
        return Some(Misfit::TooFewSlots { places, ranks, level: need.within });
    }
    let all = Context { view: View::All, ..*context };
    let free = |node| ranks_on(fleet, node, need, &all);
    let hall = most(&free, 0);
    if hall < u64::from(ranks) {
        return Some(Misfit::Occupied { places: hall, ranks, level: 0 });
    }
    let places = most(&free, need.within);
    if places < u64::from(ranks) {
        return Some(Misfit::Fragmented { places, ranks, level: need.within });
    }
    let places = most(&|node| ranks_on(fleet, node, need, context), need.within);
    (places < u64::from(ranks)).then_some(Misfit::Reserved { places, ranks })
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchClass => f.write_str("no node has accelerators of a class that it accepts"),
            Self::NoNodeLargeEnough { largest, needed } => {
                write!(f, "one rank needs {needed} slots on one node, and the largest node has {largest}")
            }
            Self::NoNodeRichEnough => f.write_str("no node has the memory and the cores that one rank needs"),
            Self::TooFewSlots { places, ranks, level: 0 } => {
                write!(f, "the whole hall has room for {places} such ranks, and the gang has {ranks}")
            }
            Self::TooFewSlots { places, ranks, .. } => {
                write!(
                    f,
                    "the largest domain in which it must stay has room for {places} such ranks, and the gang has {ranks}"
                )
            }
            Self::Occupied { places, ranks, .. } => {
                write!(f, "there is room for {places} of its {ranks} ranks beside what is running")
            }
            Self::Fragmented { places, ranks, .. } => {
                write!(
                    f,
                    "there is room, but no single domain in which it must stay has room for more than {places} of its {ranks} ranks"
                )
            }
            Self::RailsTaken { places, ranks } => {
                write!(f, "there is room, but only {places} of its {ranks} ranks fit on the same rails")
            }
            Self::Reserved { places, ranks } => {
                write!(
                    f,
                    "there is room for {places} of its {ranks} ranks beside what is reserved for jobs ahead of it"
                )
            }
        }
    }
}
