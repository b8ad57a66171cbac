//! The same accelerators on every node: which set of rails holds the gang.
//!
//! Nodes hold as many ranks as they can, all of them equally many and on the same rails; a last node may hold fewer, on some
//! of them. Cost: rails that are free on most nodes first, then each window of neighbouring rails, then each set that is
//! exactly free on some node, for each number of ranks that a node can hold.

use dh_core::NodeId;

use super::{Context, Need, Share, ranks_on};
use crate::fleet::{Domain, Fleet, Mask};
use crate::packing::WHOLE;

/// A node: what is free, and ranks that it can hold.
type Free = (Mask, u32, NodeId);

/// Places `need` on one set of rails in `domain`.
/// # Errors
/// The most ranks that fit on one set.
pub(super) fn place(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain) -> Result<Vec<Share>, u64> {
    let per = u32::from(need.rank.accelerators);
    let nodes: Vec<Free> = fleet
        .tree()
        .nodes_of(domain)
        .map(NodeId)
        .map(|node| (fleet.free_mask(node), ranks_on(fleet, node, need, context), node))
        .filter(|(_, ranks, _)| *ranks > 0)
        .collect();
    let deepest = nodes.iter().map(|(_, ranks, _)| *ranks).max().unwrap_or(0).min(need.ranks);
    let mut most = 0;
    for each in (1..=deepest).rev() {
        let whole = usize::try_from(need.ranks / each).unwrap_or(usize::MAX);
        let rest = need.ranks % each;
        let able: Vec<Free> = nodes.iter().filter(|(_, ranks, _)| *ranks >= each).copied().collect();
        for rails in sets(&able, each * per) {
            let mut fit: Vec<(u32, NodeId)> = able
                .iter()
                .filter(|(free, ..)| free & rails == rails)
                .map(|(free, _, node)| (free.count_ones(), *node))
                .collect();
            // Least free first: nodes that are taken apart already.
            fit.sort_unstable();
            most = most.max(u64::from(each) * u64::try_from(fit.len()).unwrap_or(u64::MAX));
            if fit.len() < whole {
                continue;
            }
            let last = if rest == 0 { None } else { last(&nodes, &fit, whole, rest, lowest(rails, rest * per)) };
            if rest > 0 && last.is_none() {
                continue;
            }
            fit.truncate(whole);
            let shares = fit.into_iter().map(|(_, node)| Share { node, ranks: each, accelerators: rails });
            let last = last.map(|node| Share { node, ranks: rest, accelerators: lowest(rails, rest * per) });
            return Ok(shares.chain(last).collect());
        }
    }
    Err(most.min(u64::from(need.ranks).saturating_sub(1)))
}

/// A node for the ranks that are left over: the one with least free that is not among the first `whole` of `fit`.
fn last(nodes: &[Free], fit: &[(u32, NodeId)], whole: usize, rest: u32, rails: Mask) -> Option<NodeId> {
    let taken = |node: NodeId| fit.iter().take(whole).any(|(_, other)| *other == node);
    let able = nodes.iter().filter(|(free, ranks, node)| *ranks >= rest && free & rails == rails && !taken(*node));
    able.min_by_key(|(free, _, node)| (free.count_ones(), *node)).map(|(.., node)| *node)
}

/// Whether alignment asks for anything: whole accelerators, and more than one rank.
pub(super) fn matter(need: &Need) -> bool {
    need.rank.accelerators > 0 && need.rank.milli >= WHOLE && need.ranks > 1
}

/// Sets of `wanted` rails worth a try, the most promising first.
fn sets(nodes: &[Free], wanted: u32) -> Vec<Mask> {
    let width = nodes.iter().map(|(free, ..)| Mask::BITS - free.leading_zeros()).max().unwrap_or(0);
    let mut counts: Vec<(std::cmp::Reverse<usize>, u32)> = (0..width)
        .map(|rail| (std::cmp::Reverse(nodes.iter().filter(|(free, ..)| free >> rail & 1 == 1).count()), rail))
        .collect();
    counts.sort_unstable();
    let size = usize::try_from(wanted).unwrap_or(usize::MAX);
    let mut sets = Vec::new();
    if counts.len() >= size {
        sets.push(counts.iter().take(size).fold(0, |set, (_, rail)| set | Mask::from(1_u8) << rail));
    }
    let window = Mask::MAX.checked_shr(Mask::BITS - wanted).unwrap_or(0);
    for first in 0..(width + 1).saturating_sub(wanted) {
        let set = window << first;
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    // Every set that is exactly free on some node: covers what greed and windows miss.
    let mut exact: Vec<Mask> =
        nodes.iter().map(|(free, ..)| *free).filter(|free| free.count_ones() == wanted).collect();
    exact.sort_unstable();
    exact.dedup();
    exact.retain(|set| !sets.contains(set));
    sets.extend(exact);
    sets
}

/// The lowest `count` rails of a set.
fn lowest(rails: Mask, count: u32) -> Mask {
    let mut rest = rails;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    rails & !rest
}
