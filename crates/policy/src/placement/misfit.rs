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
    /// No nodes make a torus of accelerators that it accepts.
    NoTorus,
    /// No torus holds the box, or gives each node an equal part of it, even when empty.
    NoSuchBox {
        /// Accelerators of the box.
        chips: u64,
    },
    /// Enough accelerators of a torus are free, and no box of them.
    NoBox {
        /// Ranks for which accelerators are free.
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
            Self::NoSuchClass
            | Self::NoNodeLargeEnough { .. }
            | Self::NoNodeRichEnough
            | Self::TooFewSlots { .. }
            | Self::NoTorus
            | Self::NoSuchBox { .. } => true,
            Self::Occupied { .. }
            | Self::Fragmented { .. }
            | Self::RailsTaken { .. }
            | Self::NoBox { .. }
            | Self::Reserved { .. } => false,
        }
    }
}

/// Why `need` does not fit, by counting; `None` if the count says that it fits. Cost: a look at the nodes that have room, and of
/// a gang that nothing but size is in the way of, at as many nodes as would hold it.
pub fn misfit(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Option<Misfit> {
    let nodes = || (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId);
    let needed = u32::from(need.rank.accelerators);
    let accelerators = |node: NodeId| u32::from(fleet.accelerators(node));
    let accepted = || nodes().filter(|node| need.rank.accepts(fleet.class(*node)));
    if needed > 0 && !accepted().any(|node| accelerators(node) >= needed) {
        let largest = accepted().map(accelerators).max();
        return Some(match largest {
            None if !fleet.is_empty() => Misfit::NoSuchClass,
            None | Some(_) => Misfit::NoNodeLargeEnough { largest: largest.unwrap_or(0), needed },
        });
    }
    if nodes().all(|node| fleet.ranks_empty(node, &need.rank) == 0) {
        return Some(Misfit::NoNodeRichEnough);
    }
    let ranks = need.ranks;
    let places = most(fleet, need, need.within, Some, |node| fleet.ranks_empty(node, &need.rank));
    if places < u64::from(ranks) {
        return Some(Misfit::TooFewSlots { places, ranks, level: need.within });
    }
    // Where no accelerators are free, no node needs to be looked at.
    let all = Context { view: View::All, ..*context };
    let roomy = |view| move |domain| (fleet.room(domain, &need.rank, view) > 0).then_some(domain);
    let hall = most(fleet, need, 0, roomy(View::All), |node| ranks_on(fleet, node, need, &all));
    if hall < u64::from(ranks) {
        return Some(Misfit::Occupied { places: hall, ranks, level: 0 });
    }
    let places = most(fleet, need, need.within, roomy(View::All), |node| ranks_on(fleet, node, need, &all));
    if places < u64::from(ranks) {
        return Some(Misfit::Fragmented { places, ranks, level: need.within });
    }
    let here = |node| ranks_on(fleet, node, need, context);
    let places = most(fleet, need, need.within, roomy(context.view), here);
    (places < u64::from(ranks)).then_some(Misfit::Reserved { places, ranks })
}

/// Ranks in the domain of `level` that has most of them; a domain that has enough is not counted to its end. Domains that are
/// not `worth` a look have none.
fn most(
    fleet: &Fleet,
    need: &Need,
    level: Level,
    worth: impl Fn(Domain) -> Option<Domain>,
    count: impl Fn(NodeId) -> u32,
) -> u64 {
    let (tree, ranks) = (fleet.tree(), u64::from(need.ranks));
    let mut most = 0;
    for number in 0..tree.domains(level) {
        let nodes = tree.nodes_of(Domain { level, number });
        let (mut sum, mut node) = (0, nodes.start);
        while node < nodes.end && sum < ranks {
            let leaf = tree.domain(node, tree.last());
            let end = tree.nodes_of(leaf).end.min(nodes.end).max(node + 1);
            if worth(leaf).is_some() {
                for node in (node..end).map(NodeId) {
                    sum += u64::from(count(node));
                    if sum >= ranks {
                        return sum;
                    }
                }
                node = end;
                continue;
            }
            // Nor is any other domain next to the nodes below one that is not worth a look.
            let mut end = end;
            for up in (level + 1..tree.last()).rev() {
                let around = tree.domain(node, up);
                if worth(around).is_some() {
                    break;
                }
                end = end.max(tree.nodes_of(around).end.min(nodes.end));
            }
            node = end;
        }
        most = most.max(sum);
    }
    most
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
            Self::NoTorus => f.write_str("no nodes make a torus of accelerators that it accepts"),
            Self::NoSuchBox { chips } => {
                write!(f, "no torus holds a box of these {chips} accelerators with an equal part on each node")
            }
            Self::NoBox { places, ranks } => {
                write!(f, "there is room for {places} parts of a box and it has {ranks}, but no free ones make a box")
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
