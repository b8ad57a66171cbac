//! Topology packing on trees: the smallest domain that holds the gang, of those the tightest, and in it again.
//!
//! From the level next to the nodes upwards, the first level with a domain that has room gives the domain: the one with least
//! room, then the one whose surroundings have least. Inside, children that the rest fills are taken whole, largest first, and
//! the last piece goes where it fits tightest. So small jobs fill racks that are broken already, and whole racks stay whole.
//!
//! Cost: the counts of every domain of the levels that are tried, and the nodes of the domains that are used.

use dh_core::NodeId;

use super::{Context, Misfit, Need, Placement, Rails, Share, Wake, misfit, parts, rails, ranks_on, single};
use crate::fleet::{Domain, Fleet, Service};

#[derive(Debug)]
pub(super) struct Topology;

impl Placement for Topology {
    fn name(&self) -> &'static str {
        "topology"
    }

    fn about(&self) -> &'static str {
        "the smallest domain that holds the gang, of those the tightest"
    }

    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        if (context.wake == Wake::Freely || fleet.all_awake())
            && let Some(node) = single::place(fleet, need, context)
        {
            return Ok(vec![Share { node, ranks: need.ranks, accelerators: 0 }]);
        }
        let mut rails_most = None;
        for level in (need.within..=fleet.tree().last()).rev() {
            for domain in roomy(fleet, need, context, level) {
                if need.rails == Rails::Aligned && rails::matter(need) {
                    match rails::place(fleet, need, context, domain) {
                        Ok(shares) => return Ok(shares),
                        Err(most) => rails_most = rails_most.max(Some(most)),
                    }
                } else if let Some(shares) = within(fleet, need, context, domain) {
                    return Ok(shares);
                }
            }
        }
        // Counting found no place either, or cores, memory and rails disagree about the nodes that have one.
        Err(misfit(fleet, need, context).unwrap_or(match rails_most {
            Some(places) => Misfit::RailsTaken { places, ranks: need.ranks },
            None => Misfit::Occupied { places: 0, ranks: need.ranks, level: need.within },
        }))
    }
}

/// Domains of `level` with room by counting, the tightest first.
fn roomy(fleet: &Fleet, need: &Need, context: &Context<'_>, level: u8) -> Vec<Domain> {
    let around = |domain: Domain| match level.checked_sub(1) {
        Some(up) => fleet.free_in(fleet.tree().domain(fleet.tree().nodes_of(domain).start, up), context.view),
        None => 0,
    };
    let mut found: Vec<(u32, Domain)> = fleet.roomy(level, &need.rank, context.view, need.ranks);
    let Some(least) = found.iter().map(|(room, _)| *room).min() else { return Vec::new() };
    // The tightest are compared by what is around them; the rest are there for when cores or memory say no.
    found.sort_by_cached_key(|(room, domain)| (*room, if *room == least { around(*domain) } else { 0 }, *domain));
    found.into_iter().map(|(_, domain)| domain).collect()
}

/// The gang in `domain`, in as few of its parts as it can, if the nodes themselves have room. Rails are not looked at.
pub fn within(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain) -> Option<Vec<Share>> {
    if need.is_part() {
        return parts::within(fleet, need, context, domain);
    }
    let mut shares = Vec::new();
    let mut left = need.ranks;
    fill(fleet, need, context, domain, &mut left, &mut shares);
    // Ranks follow the nodes, so that neighbouring ranks are near each other.
    shares.sort_unstable_by_key(|share| share.node);
    (left == 0).then_some(shares)
}

/// Puts as many of the `left` ranks into `domain` as fit.
fn fill(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain, left: &mut u32, shares: &mut Vec<Share>) {
    if domain.level == fleet.tree().last() {
        return fill_nodes(fleet, need, context, domain, left, shares);
    }
    let children = fleet.tree().children(domain).map(|number| Domain { level: domain.level + 1, number });
    let mut rooms: Vec<(u32, Domain)> = children
        .map(|child| (fleet.room(child, &need.rank, context.view), child))
        .filter(|(room, _)| *room > 0)
        .collect();
    rooms.sort_unstable_by_key(|(room, child)| (std::cmp::Reverse(*room), *child));
    while *left > 0 && !rooms.is_empty() {
        let at = next(&rooms, *left);
        let (_, child) = rooms.remove(at);
        fill(fleet, need, context, child, left, shares);
    }
}

/// Of rooms sorted from large to small: the tightest that holds all that is left, or else the largest.
fn next<T>(rooms: &[(u32, T)], left: u32) -> usize {
    rooms.partition_point(|(room, _)| *room >= left).saturating_sub(1)
}

fn fill_nodes(
    fleet: &Fleet,
    need: &Need,
    context: &Context<'_>,
    domain: Domain,
    left: &mut u32,
    shares: &mut Vec<Share>,
) {
    let mut rooms: Vec<(u32, (u8, u8, u8, NodeId))> = fleet
        .tree()
        .nodes_of(domain)
        .map(NodeId)
        .map(|node| (ranks_on(fleet, node, need, context), (preference(fleet, node, context), node)))
        .filter(|(room, _)| *room > 0)
        .map(|(room, ((asleep, cold), node))| (room, (asleep, cold, fleet.free(node, context.view), node)))
        .collect();
    // Those that are preferred by sleep or data come last in the order of size among equals, because the last of those that
    // are large enough is taken.
    rooms.sort_unstable_by_key(|(room, key)| (std::cmp::Reverse(*room), std::cmp::Reverse(*key)));
    while *left > 0 && !rooms.is_empty() {
        let at = next(&rooms, *left);
        let (room, (.., node)) = rooms.remove(at);
        let ranks = room.min(*left);
        shares.push(Share { node, ranks, accelerators: 0 });
        *left -= ranks;
    }
}

/// Awake before asleep, warm before cold; only where the context cares.
fn preference(fleet: &Fleet, node: NodeId, context: &Context<'_>) -> (u8, u8) {
    let asleep = context.wake == Wake::Last && fleet.service(node) == Service::Asleep;
    let cold = context.warm.binary_search(&node).is_err();
    (u8::from(asleep), u8::from(cold))
}
