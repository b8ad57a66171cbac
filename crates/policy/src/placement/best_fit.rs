//! Best fit, blind to topology: the gang goes to as few nodes as it can, and small gangs go where they leave the least free.
//! The baseline; [`super::topology`] is what we recommend.

use std::cmp::Reverse;

use dh_core::NodeId;

use super::{Context, Misfit, Need, Placement, Share, misfit, ranks_on};
use crate::fleet::{Domain, Fleet};

#[derive(Debug)]
pub(super) struct BestFit;

impl Placement for BestFit {
    fn name(&self) -> &'static str {
        "best-fit"
    }

    fn about(&self) -> &'static str {
        "as few nodes as it can, and of those the tightest; blind to topology"
    }

    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        let domains = (0..fleet.tree().domains(need.within)).map(|number| Domain { level: need.within, number });
        for domain in domains {
            let mut rooms: Vec<(u32, u8, NodeId)> = fleet
                .tree()
                .nodes_of(domain)
                .map(NodeId)
                .map(|node| (ranks_on(fleet, node, need, context), fleet.free(node, context.view), node))
                .filter(|(room, ..)| *room > 0)
                .collect();
            if rooms.iter().map(|(room, ..)| u64::from(*room)).sum::<u64>() < u64::from(need.ranks) {
                continue;
            }
            // One node that holds all of it: the tightest. Else the roomiest first, so that few nodes are used.
            let one =
                rooms.iter().filter(|(room, ..)| *room >= need.ranks).min_by_key(|(_, free, node)| (*free, *node));
            if let Some((.., node)) = one {
                return Ok(vec![Share { node: *node, ranks: need.ranks, accelerators: 0 }]);
            }
            rooms.sort_unstable_by_key(|(room, free, node)| (Reverse(*room), *free, *node));
            let mut left = need.ranks;
            let mut shares = Vec::new();
            for (room, _, node) in rooms {
                let ranks = room.min(left);
                shares.push(Share { node, ranks, accelerators: 0 });
                left -= ranks;
                if left == 0 {
                    return Ok(shares);
                }
            }
        }
        Err(misfit(fleet, need, context).unwrap_or(Misfit::Occupied {
            places: 0,
            ranks: need.ranks,
            level: need.within,
        }))
    }
}
