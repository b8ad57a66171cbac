//! Data first: as many ranks as can be on nodes where the job's data set is warm, and the rest as near to them as they fit.
//!
//! If all ranks find their data, they are packed as [`super::topology`] would on a hall of only those nodes. Else the domain in
//! which the gang may stand and in which most ranks find their data is taken, then the smallest domain inside of it in which
//! no fewer do; warm nodes are filled first. What is warm is told by the context; without anything warm this is `topology`.
//!
//! Invariant: no place has more ranks on warm nodes, unless ranks must be on the same rails: then all or as they come.
//! Cost: a look at every node.

use std::cmp::Reverse;

use dh_core::NodeId;

use super::topology::{Topology, within};
use super::{Context, Misfit, Need, Placement, Rails, Share, rails, ranks_on};
use crate::fleet::{Domain, Fleet};

#[derive(Debug)]
pub(super) struct DataLocal;

impl Placement for DataLocal {
    fn name(&self) -> &'static str {
        "data-local"
    }

    fn about(&self) -> &'static str {
        "most ranks on nodes where the data set is warm, the rest as near to them as they fit"
    }

    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        if context.warm.is_empty() {
            return Topology.place(fleet, need, context);
        }
        let cold: Vec<NodeId> = except(fleet, context.warm, context.never);
        let on_warm = Topology.place(fleet, need, &Context { never: &cold, ..*context });
        if on_warm.is_ok() || (need.rails == Rails::Aligned && rails::matter(need)) {
            return on_warm.or_else(|_| Topology.place(fleet, need, context));
        }
        match best(fleet, need, context) {
            Some(domain) => Ok(fill(fleet, need, context, domain)),
            None => Topology.place(fleet, need, context),
        }
    }
}

/// All nodes that are not in `kept`, and those of `also`; sorted.
fn except(fleet: &Fleet, kept: &[NodeId], also: &[NodeId]) -> Vec<NodeId> {
    let nodes = (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId);
    nodes.filter(|node| kept.binary_search(node).is_err() || also.binary_search(node).is_ok()).collect()
}

/// The domain in which most ranks find their data; the smallest of those, then the tightest.
fn best(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Option<Domain> {
    let levels = need.within..=fleet.tree().last();
    let all = levels.flat_map(|level| (0..fleet.tree().domains(level)).map(move |number| Domain { level, number }));
    let rated = all.filter_map(|domain| {
        let (mut warm, mut room) = (0_u64, 0_u64);
        for node in fleet.tree().nodes_of(domain).map(NodeId) {
            let ranks = u64::from(ranks_on(fleet, node, need, context));
            room += ranks;
            if context.warm.binary_search(&node).is_ok() {
                warm += ranks;
            }
        }
        (room >= u64::from(need.ranks)).then_some((
            Reverse(warm.min(u64::from(need.ranks))),
            Reverse(domain.level),
            room,
            domain,
        ))
    });
    rated.min().map(|(.., domain)| domain)
}

/// All that is warm in `domain`, and for the rest of the ranks the tightest part of it.
fn fill(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain) -> Vec<Share> {
    let mut left = need.ranks;
    let mut warm: Vec<(u32, NodeId)> = context
        .warm
        .iter()
        .filter(|node| fleet.tree().domain(node.0, domain.level) == domain)
        .map(|node| (ranks_on(fleet, *node, need, context), *node))
        .filter(|(ranks, _)| *ranks > 0)
        .collect();
    warm.sort_unstable_by_key(|(ranks, node)| (Reverse(*ranks), *node));
    let mut shares = Vec::new();
    let mut used = context.never.to_vec();
    for (ranks, node) in warm {
        let ranks = ranks.min(left);
        if ranks > 0 {
            shares.push(Share { node, ranks, accelerators: 0 });
            left -= ranks;
        }
        used.push(node);
    }
    used.sort_unstable();
    used.dedup();
    if left > 0 {
        let rest = Need { ranks: left, ..*need };
        let cold = Context { never: &used, ..*context };
        shares.extend(within(fleet, &rest, &cold, domain).into_iter().flatten());
        shares.sort_unstable_by_key(|share| share.node);
    }
    shares
}
