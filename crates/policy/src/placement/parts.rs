//! A part of one accelerator for each rank: thousandths of it, or a slice at a fixed place.
//!
//! An accelerator that is in use in part already goes before one that is whole, and of those the one on which least is left
//! (best fit); a slice goes where it breaks least of what larger slices need. A whole one is broken on the node with fewest
//! whole ones. Invariant: a place is found whenever counting on the nodes says that there is one. Cost: the first accelerators
//! of an index for one rank; a look at the nodes of a domain for several.

use std::collections::BTreeMap;

use dh_core::NodeId;

use super::{Context, Misfit, Need, Rails, Share, Wake, misfit, ranks_on, single};
use crate::fleet::{Domain, Fleet, Mask, Service, Slice, View};
use crate::packing::{Request, WHOLE};

/// Places `need`.
/// # Errors
/// The first condition that fails.
pub(super) fn place(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
    let level = need.within;
    let domains = (0..fleet.tree().domains(level)).map(|number| Domain { level, number });
    for liking in likings(fleet, context) {
        for domain in domains.clone() {
            if let Some(shares) = find(fleet, need, context, domain, liking) {
                return Ok(shares);
            }
        }
    }
    let places: u64 = (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX))
        .map(|node| u64::from(ranks_on(fleet, NodeId(node), need, context)))
        .sum();
    let places = places.min(u64::from(need.ranks).saturating_sub(1));
    Err(misfit(fleet, need, context).unwrap_or(Misfit::Occupied { places, ranks: need.ranks, level }))
}

/// Places `need` in `domain`.
pub(super) fn within(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain) -> Option<Vec<Share>> {
    likings(fleet, context).into_iter().find_map(|liking| find(fleet, need, context, domain, liking))
}

/// Which nodes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liking {
    Warm,
    Awake,
    Any,
}

fn likings(fleet: &Fleet, context: &Context<'_>) -> Vec<Liking> {
    let warm = (!context.warm.is_empty()).then_some(Liking::Warm);
    let awake = (context.wake == Wake::Last && !fleet.all_awake()).then_some(Liking::Awake);
    warm.into_iter().chain(awake).chain([Liking::Any]).collect()
}

fn find(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain, liking: Liking) -> Option<Vec<Share>> {
    let nodes = fleet.tree().nodes_of(domain);
    let may = |node: NodeId| {
        nodes.contains(&node.0)
            && match liking {
                Liking::Warm => context.warm.binary_search(&node).is_ok(),
                Liking::Awake => fleet.service(node) != Service::Asleep,
                Liking::Any => true,
            }
            && context.never.binary_search(&node).is_err()
    };
    if need.ranks == 1 {
        let able = |node: NodeId| may(node) && fleet.beside(node, &need.rank) > 0;
        let in_part = match need.rails {
            Rails::Slice(slice) => cut(fleet, &need.rank, slice, able),
            Rails::Any | Rails::Aligned | Rails::Box(_) => tightest(fleet, &need.rank, able),
        };
        if let Some((node, number)) = in_part {
            return Some(vec![Share { node, ranks: 1, accelerators: Mask::from(1_u8) << number }]);
        }
        if domain == Domain::HALL && liking == Liking::Any && context.never.is_empty() {
            let rank = Request { milli: WHOLE, ..need.rank };
            let whole = Need { rank, rails: Rails::Any, ..*need };
            let plain = Context { warm: &[], ..*context };
            fleet.least_free(domain, &rank, 1, context.view)?;
            if let Some(node) = single::place(fleet, &whole, &plain) {
                return Some(vec![Share { node, ranks: 1, accelerators: 0 }]);
            }
        }
    }
    gang(fleet, need, context, nodes.clone().map(NodeId).filter(|node| may(*node)))
}

/// The accelerator in use in part on which least is left.
fn tightest(fleet: &Fleet, rank: &Request, able: impl Fn(NodeId) -> bool) -> Option<(NodeId, u8)> {
    let classes = (0..=fleet.classes()).filter(|class| rank.accepts(*class));
    let firsts = classes.filter_map(|class| fleet.parts(class, rank.milli).find(|(_, node, _)| able(*node)));
    firsts.min().map(|(_, node, number)| (node, number))
}

/// The accelerator that is cut already and on which a slice breaks least; of those the fullest.
fn cut(fleet: &Fleet, rank: &Request, slice: Slice, able: impl Fn(NodeId) -> bool) -> Option<(NodeId, u8)> {
    let classes = (0..=fleet.classes()).filter(|class| rank.accepts(*class));
    let mut states: Vec<(u32, u32, u8, u8)> = classes
        .flat_map(|class| fleet.cuts(class).map(move |busy| (class, busy)))
        .filter_map(|(class, busy)| Some((slice.best(busy)?.0, busy.count_zeros(), class, busy)))
        .collect();
    states.sort_unstable();
    states.into_iter().find_map(|(.., class, busy)| fleet.cut_so(class, busy).find(|(node, _)| able(*node)))
}

/// Ranks on as many nodes as it takes: first beside others, tightest first, then on whole accelerators.
fn gang(fleet: &Fleet, need: &Need, context: &Context<'_>, nodes: impl Iterator<Item = NodeId>) -> Option<Vec<Share>> {
    let rank = &need.rank;
    let room: BTreeMap<NodeId, u32> =
        nodes.map(|node| (node, ranks_on(fleet, node, need, context))).filter(|(_, ranks)| *ranks > 0).collect();
    let mut given: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut left = need.ranks;
    let mut give = |node: NodeId, most: u32, left: &mut u32| {
        let given = given.entry(node).or_insert(0);
        let ranks = room.get(&node).copied().unwrap_or(0).saturating_sub(*given).min(most).min(*left);
        *given += ranks;
        *left -= ranks;
    };
    for class in (0..=fleet.classes()).filter(|class| rank.accepts(*class)) {
        match need.rails {
            Rails::Slice(slice) => {
                for busy in fleet.cuts(class) {
                    fleet.cut_so(class, busy).for_each(|(node, _)| give(node, slice.most(busy), &mut left));
                }
            }
            Rails::Any | Rails::Aligned | Rails::Box(_) => {
                for (free, node, _) in fleet.parts(class, rank.milli) {
                    give(node, u32::from(free / rank.milli.max(1)), &mut left);
                }
            }
        }
    }
    if left > 0 {
        let mut whole: Vec<(u8, NodeId)> = room.keys().map(|node| (fleet.free(*node, View::All), *node)).collect();
        whole.sort_unstable();
        for (_, node) in whole {
            give(node, u32::MAX, &mut left);
        }
    }
    let shares = given.into_iter().filter(|(_, ranks)| *ranks > 0);
    (left == 0).then(|| shares.map(|(node, ranks)| Share { node, ranks, accelerators: 0 }).collect())
}
