//! A box of a torus: each rank is the part of the box that one node holds.
//!
//! Invariant: the box is found if there is one. Of several tori the first that has one is taken. Cost: see [`crate::torus`].

use dh_core::NodeId;

use super::{Context, Misfit, Need, Share};
use crate::fleet::{Domain, Fleet, Service, View};
use crate::packing::WHOLE;
use crate::torus::{Asked, Part, Split};

/// Places `need` in a free box.
/// # Errors
/// If there is none.
pub(super) fn place(fleet: &Fleet, need: &Need, asked: &Asked, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
    let split = split(need);
    let never: Vec<u32> = context.never.iter().map(|node| node.0).collect();
    let fits = |parts: &Vec<Part>| parts.iter().all(|part| fleet.beside(NodeId(part.node), &need.rank) > 0);
    let tori = || fleet.tori().iter().filter(|chips| accepts(fleet, need, chips.wiring().first));
    for chips in tori() {
        if let Some(parts) = chips.place(asked, split, context.view, &never) {
            if fits(&parts) {
                return Ok(shares(&parts));
            }
            // Nodes without cores or memory for a rank are left out.
            let mut poor = never.clone();
            poor.extend(chips.wiring().nodes().filter(|node| fleet.beside(NodeId(*node), &need.rank) == 0));
            if let Some(parts) = chips.place(asked, split, context.view, &poor) {
                return Ok(shares(&parts));
            }
        }
    }
    let ranks = need.ranks;
    if tori().next().is_none() {
        return Err(Misfit::NoTorus);
    }
    let fitting = |chips: &&crate::torus::Chips| chips.wiring().split(asked).is_some() && whole(chips, need);
    if !tori().any(|chips| fitting(&chips)) {
        return Err(Misfit::NoSuchBox { chips: asked.chips() });
    }
    let places = u64::from(fleet.room(Domain::HALL, &need.rank, View::All));
    if places < u64::from(ranks) {
        return Err(Misfit::Occupied { places, ranks, level: 0 });
    }
    if context.view == View::Open && place(fleet, need, asked, &Context { view: View::All, ..*context }).is_ok() {
        return Err(Misfit::Reserved { places, ranks });
    }
    Err(Misfit::NoBox { places, ranks })
}

/// Whether an empty torus holds the box with the parts that `need` says.
fn whole(chips: &crate::torus::Chips, need: &Need) -> bool {
    let Some(asked) = need.asked() else { return false };
    let all = u128::MAX.checked_shr(128 - chips.wiring().per_node()).unwrap_or(0);
    chips.holds(asked, split(need), |_| all)
}

/// The box that is nearest to free, and how many of its accelerators are not: what a wait is explained with.
pub fn nearest(fleet: &Fleet, need: &Need) -> Option<(u32, Vec<NodeId>)> {
    let asked = need.asked()?;
    let serves = |node: u32| matches!(fleet.service(NodeId(node)), Service::Up | Service::Asleep);
    let all = |chips: &crate::torus::Chips| u128::MAX.checked_shr(128 - chips.wiring().per_node()).unwrap_or(0);
    let boxes = fleet.tori().iter().filter(|chips| accepts(fleet, need, chips.wiring().first)).filter_map(|chips| {
        let may = |node| if serves(node) { all(chips) } else { 0 };
        let busy = |parts: &[Part]| -> u64 {
            parts
                .iter()
                .map(|part| (part.accelerators & !fleet.free_mask(NodeId(part.node))).count_ones())
                .map(u64::from)
                .sum()
        };
        chips.cheapest(asked, split(need), may, busy)
    });
    let (busy, parts) = boxes.min_by_key(|(busy, _)| *busy)?;
    Some((u32::try_from(busy).unwrap_or(u32::MAX), parts.iter().map(|part| NodeId(part.node)).collect()))
}

/// What the box takes of its nodes.
pub(crate) fn split(need: &Need) -> Split {
    Split { nodes: need.ranks, each: u32::from(need.rank.accelerators) }
}

/// Whether a torus has accelerators that will do.
pub(crate) fn accepts(fleet: &Fleet, need: &Need, first: u32) -> bool {
    need.rank.milli >= WHOLE && need.rank.accepts(fleet.class(NodeId(first)))
}

fn shares(parts: &[Part]) -> Vec<Share> {
    parts.iter().map(|part| Share { node: NodeId(part.node), ranks: 1, accelerators: part.accelerators }).collect()
}
