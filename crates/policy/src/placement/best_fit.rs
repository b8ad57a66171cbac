//! Best fit: the gang goes to as few nodes as it can, and small gangs go where they leave the least free.

use std::cmp::Reverse;

use dh_core::NodeId;

use super::{FreeNode, Misfit, Need, Placement, feasible};

pub(super) struct BestFit;

impl Placement for BestFit {
    fn name(&self) -> &'static str {
        "best-fit"
    }

    fn place(&self, nodes: &[FreeNode], need: Need) -> Result<Vec<NodeId>, Misfit> {
        feasible(nodes, need)?;
        let per_rank = need.slots_per_rank.max(1);
        let room = |node: &FreeNode| node.free / per_rank;
        // One node that holds all of it: the tightest. Else the roomiest nodes first, so that few nodes are used.
        if let Some(tightest) =
            nodes.iter().filter(|node| room(node) >= need.ranks).min_by_key(|node| (node.free, node.node))
        {
            return Ok((0..need.ranks).map(|_| tightest.node).collect());
        }
        let mut roomiest: Vec<&FreeNode> = nodes.iter().filter(|node| room(node) > 0).collect();
        roomiest.sort_by_key(|node| (Reverse(room(node)), node.node));
        let mut placed = Vec::new();
        let mut left = need.ranks;
        for node in roomiest {
            let here = room(node).min(left);
            placed.extend((0..here).map(|_| node.node));
            left -= here;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "`feasible` counted {} places that are not there", need.ranks);
        Ok(placed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hall(free_of_slots: &[(u32, u32)]) -> Vec<FreeNode> {
        (0..).zip(free_of_slots).map(|(id, &(free, slots))| FreeNode { node: NodeId(id), free, slots }).collect()
    }

    fn check(free_of_slots: &[(u32, u32)], ranks: u32, slots_per_rank: u32) -> Result<Vec<u32>, Misfit> {
        BestFit
            .place(&hall(free_of_slots), Need { ranks, slots_per_rank })
            .map(|nodes| nodes.into_iter().map(|node| node.0).collect())
    }

    #[test]
    fn a_small_gang_goes_where_it_leaves_the_least() {
        assert_eq!(check(&[(8, 8), (2, 8), (4, 8)], 2, 1), Ok(vec![1, 1]));
        assert_eq!(check(&[(4, 8), (4, 8)], 2, 2), Ok(vec![0, 0]));
    }

    #[test]
    fn a_large_gang_uses_few_nodes() {
        assert_eq!(check(&[(2, 8), (8, 8), (8, 8)], 12, 1), Ok([vec![1; 8], vec![2; 4]].concat()));
    }

    #[test]
    fn the_first_failing_condition_is_named() {
        assert_eq!(check(&[(8, 8)], 1, 9), Err(Misfit::NoNodeLargeEnough { largest: 8, needed: 9 }));
        assert_eq!(check(&[(8, 8), (8, 8)], 5, 4), Err(Misfit::TooFewSlots { places: 4, ranks: 5 }));
        assert_eq!(check(&[(3, 8), (8, 8)], 3, 4), Err(Misfit::Occupied { places: 2, ranks: 3 }));
        assert_eq!(check(&[], 1, 1), Err(Misfit::NoNodeLargeEnough { largest: 0, needed: 1 }));
    }

    #[test]
    fn it_places_whenever_counting_says_so() {
        // All halls of three nodes with up to 4 of 4 slots free, all gangs that could matter.
        for code in 0..125_u32 {
            let frees = [code % 5, code / 5 % 5, code / 25];
            let nodes = hall(&frees.map(|free| (free, 4)));
            for ranks in 1..=12 {
                for slots_per_rank in 1..=4 {
                    let need = Need { ranks, slots_per_rank };
                    let places: u32 = frees.iter().map(|free| free / slots_per_rank).sum();
                    match BestFit.place(&nodes, need) {
                        Ok(placed) => {
                            assert!(places >= ranks);
                            for node in &nodes {
                                let here = placed.iter().filter(|at| **at == node.node).count();
                                assert!(u32::try_from(here).is_ok_and(|here| here * slots_per_rank <= node.free));
                            }
                        }
                        Err(_) => assert!(places < ranks),
                    }
                }
            }
        }
    }
}
