//! One node for a gang that fits on one: down the tree by counts alone.
//!
//! The least that is free on any node and suffices is looked up in the hall's counts; from there the tightest child that has
//! such a node is taken at each level. So small jobs fill nodes that are broken, in racks that are broken, and a whole node
//! or a whole rack is broken only if nothing else is left.
//!
//! Cost: the counts of one domain's children at each level, whatever the number of nodes.

use dh_core::NodeId;

use super::{Context, Need, ranks_on};
use crate::fleet::{Domain, Fleet};
use crate::packing::WHOLE;

/// The node, if the counts lead to one that has cores and memory too.
pub(super) fn place(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Option<NodeId> {
    let wanted = u32::from(need.rank.accelerators).checked_mul(need.ranks)?;
    if wanted == 0 || need.rank.milli < WHOLE || !context.warm.is_empty() {
        return None;
    }
    let wanted = u8::try_from(wanted).ok()?;
    let mut domain = Domain::HALL;
    let (class, free) = fleet.least_free(domain, &need.rank, wanted, context.view)?;
    while domain.level < fleet.tree().last() {
        let children = fleet.tree().children(domain).map(|number| Domain { level: domain.level + 1, number });
        let fit = children.filter(|child| fleet.nodes_with(*child, class, free, context.view) > 0);
        domain = fit.min_by_key(|child| (fleet.free_in(*child, context.view), child.number))?;
    }
    let nodes = fleet.tree().nodes_of(domain).map(NodeId);
    let mut fit = nodes.filter(|node| fleet.class(*node) == class && fleet.free(*node, context.view) == free);
    fit.find(|node| ranks_on(fleet, *node, need, context) >= need.ranks)
}
