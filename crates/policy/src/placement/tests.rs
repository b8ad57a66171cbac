//! Every policy on every small hall against counting, and what users may rely on.

use super::*;
use crate::fleet::NodeFacts;
use crate::packing::WHOLE;

fn rank(accelerators: u8) -> Request {
    Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 }
}

fn need(ranks: u32, accelerators: u8) -> Need {
    Need { ranks, rank: rank(accelerators), within: 0, rails: Rails::Any }
}

/// Racks of nodes with so many of `of` accelerators free.
fn hall(of: u8, racks: &[&[u8]]) -> Fleet {
    let facts: Vec<NodeFacts> = (0..)
        .zip(racks)
        .flat_map(|(rack, nodes)| nodes.iter().map(move |_| rack))
        .map(|rack| NodeFacts { class: 0, accelerators: of, cpu_milli: 64_000, memory_mib: 512_000, path: vec![rack] })
        .collect();
    let mut fleet = Fleet::new(&["rack".to_owned()], &facts).unwrap();
    for (node, free) in (0..).zip(racks.iter().copied().flatten()) {
        if *free < of {
            fleet.take(NodeId(node), &rank(of - free), 0).unwrap();
        }
    }
    fleet
}

fn placed(policy: &dyn Placement, fleet: &Fleet, need: &Need) -> Result<Vec<(u32, u32)>, Misfit> {
    let shares = policy.place(fleet, need, &Context::plain(View::Open))?;
    Ok(shares.into_iter().map(|share| (share.node.0, share.ranks)).collect())
}

#[test]
fn a_small_gang_goes_where_it_leaves_the_least() {
    for policy in POLICIES {
        assert_eq!(placed(*policy, &hall(8, &[&[8, 2, 4]]), &need(2, 1)), Ok(vec![(1, 2)]), "{}", policy.name());
        assert_eq!(placed(*policy, &hall(8, &[&[4, 4]]), &need(2, 2)), Ok(vec![(0, 2)]), "{}", policy.name());
    }
}

#[test]
fn a_large_gang_uses_few_nodes() {
    for policy in POLICIES {
        assert_eq!(placed(*policy, &hall(8, &[&[2, 8, 8]]), &need(12, 1)).unwrap().len(), 2, "{}", policy.name());
    }
}

#[test]
fn the_first_failing_condition_is_named() {
    let topology = by_name("topology").unwrap();
    let check = |fleet: &Fleet, need: &Need| placed(topology, fleet, need).unwrap_err();
    assert_eq!(check(&hall(8, &[&[8]]), &need(1, 9)), Misfit::NoNodeLargeEnough { largest: 8, needed: 9 });
    assert_eq!(check(&hall(8, &[&[8, 8]]), &need(5, 4)), Misfit::TooFewSlots { places: 4, ranks: 5, level: 0 });
    assert_eq!(check(&hall(8, &[&[3, 8]]), &need(3, 4)), Misfit::Occupied { places: 2, ranks: 3, level: 0 });
    assert_eq!(check(&hall(8, &[]), &need(1, 1)), Misfit::NoNodeLargeEnough { largest: 0, needed: 1 });
    let rack = Need { within: 1, ..need(3, 8) };
    assert_eq!(check(&hall(8, &[&[8, 8, 0], &[8, 8]]), &rack), Misfit::Fragmented { places: 2, ranks: 3, level: 1 });
    assert_eq!(check(&hall(8, &[&[8, 8], &[8, 8]]), &rack), Misfit::TooFewSlots { places: 2, ranks: 3, level: 1 });
    let other = Need { rank: Request { models: 2, ..rank(1) }, ..need(1, 1) };
    assert_eq!(check(&hall(8, &[&[8]]), &other), Misfit::NoSuchClass);
    let hungry = Need { rank: Request { memory_mib: 600_000, ..rank(1) }, ..need(1, 1) };
    assert_eq!(check(&hall(8, &[&[8]]), &hungry), Misfit::NoNodeRichEnough);
    let mut fleet = hall(8, &[&[8]]);
    fleet.reserve(NodeId(0), 6);
    assert_eq!(check(&fleet, &need(1, 4)), Misfit::Reserved { places: 0, ranks: 1 });
}

#[test]
fn small_jobs_fill_broken_racks_and_leave_whole_racks_whole() {
    let fleet = hall(8, &[&[8, 8], &[8, 3], &[8, 8]]);
    let topology = by_name("topology").unwrap();
    assert_eq!(placed(topology, &fleet, &need(1, 4)), Ok(vec![(2, 1)]), "the whole node of the rack that is broken");
    assert_eq!(placed(topology, &fleet, &need(2, 8)), Ok(vec![(0, 1), (1, 1)]));
    assert_eq!(placed(topology, &fleet, &need(4, 8)), Ok(vec![(0, 1), (1, 1), (4, 1), (5, 1)]), "two whole racks");
}

#[test]
fn ranks_of_aligned_gangs_have_the_same_accelerators() {
    let mut fleet = hall(8, &[&[8, 8, 8]]);
    for (node, mask) in [(0, 0b0011), (1, 0b0110), (2, 0b1010)] {
        fleet.take(NodeId(node), &rank(2), mask).unwrap();
    }
    let aligned = Need { rails: Rails::Aligned, ..need(3, 4) };
    let shares = by_name("topology").unwrap().place(&fleet, &aligned, &Context::plain(View::Open)).unwrap();
    assert!(shares.iter().all(|share| share.accelerators == 0b1111_0000), "{shares:?}");
    let five = Need { rank: rank(5), ..aligned };
    assert_eq!(
        by_name("topology").unwrap().place(&fleet, &five, &Context::plain(View::Open)),
        Err(Misfit::RailsTaken { places: 2, ranks: 3 })
    );
}

#[test]
fn they_place_whenever_counting_says_so() {
    // All halls of two racks of two nodes with up to 3 of 3 slots free, all gangs that could matter.
    for code in 0..256_u16 {
        let frees: Vec<u8> = (0..4).map(|node| u8::try_from(code >> (2 * node) & 3).unwrap()).collect();
        let fleet = hall(3, &[&frees[..2], &frees[2..]]);
        for policy in POLICIES {
            for (ranks, accelerators, within) in (1..=8).flat_map(|r| (1..=3).flat_map(move |a| [(r, a, 0), (r, a, 1)]))
            {
                let need = Need { within, ..need(ranks, accelerators) };
                let of = |nodes: &[u8]| nodes.iter().map(|free| u32::from(free / accelerators)).sum::<u32>();
                let (one, two) = (of(&frees[..2]), of(&frees[2..]));
                let fits = if within == 0 { one + two >= ranks } else { one >= ranks || two >= ranks };
                match placed(*policy, &fleet, &need) {
                    Ok(shares) => {
                        assert!(fits);
                        assert_eq!(shares.iter().map(|(_, ranks)| ranks).sum::<u32>(), ranks);
                        for (node, ranks) in &shares {
                            let free = frees[usize::try_from(*node).unwrap()];
                            assert!(*ranks * u32::from(accelerators) <= u32::from(free));
                        }
                        let racks: std::collections::BTreeSet<u32> = shares.iter().map(|(node, _)| node / 2).collect();
                        if policy.name() == "topology" && (one >= ranks || two >= ranks) {
                            assert_eq!(racks.len(), 1, "one rack was enough");
                        }
                        assert!(within == 0 || racks.len() == 1);
                    }
                    Err(_) => assert!(!fits, "{} missed {need:?} in {frees:?}", policy.name()),
                }
            }
        }
    }
}
