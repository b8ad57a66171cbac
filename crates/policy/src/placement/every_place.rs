//! Policies that want something against every place that there is, on all small halls: two racks of two nodes.

use super::*;
use crate::fleet::{NodeFacts, Service};
use crate::packing::WHOLE;

const OF: u8 = 2;

fn rank(accelerators: u8) -> Request {
    Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 }
}

fn need(ranks: u32, within: Level) -> Need {
    Need { ranks, rank: rank(1), within, rails: Rails::Any }
}

/// Two racks of two nodes of two accelerators, of which `free` are; the second rack's are of class `second`.
fn hall(free: [u8; 4], second: u8) -> Fleet {
    let facts: Vec<NodeFacts> = (0..4_u32)
        .map(|node| NodeFacts {
            class: if node < 2 { 0 } else { second },
            accelerators: OF,
            cpu_milli: 64_000,
            memory_mib: 512_000,
            path: vec![node / 2],
        })
        .collect();
    let mut fleet = Fleet::new(&["rack".to_owned()], &facts).unwrap();
    for (node, free) in (0..).zip(free) {
        if free < OF {
            fleet.take(NodeId(node), &rank(OF - free), 0).unwrap();
        }
    }
    fleet
}

/// Every way to put `ranks` on nodes with so much room, inside one rack if `within`.
fn places(room: [u8; 4], ranks: u32, within: Level) -> Vec<[u32; 4]> {
    let most = |node: usize| u32::from(room[node]);
    let mut places = Vec::new();
    for a in 0..=most(0) {
        for b in 0..=most(1) {
            for c in 0..=most(2) {
                for d in 0..=most(3) {
                    if a + b + c + d == ranks && (within == 0 || a + b == 0 || c + d == 0) {
                        places.push([a, b, c, d]);
                    }
                }
            }
        }
    }
    places
}

fn as_place(shares: &[Share]) -> [u32; 4] {
    let mut place = [0; 4];
    for share in shares {
        place[usize::try_from(share.node.0).unwrap()] += share.ranks;
    }
    place
}

fn frees() -> impl Iterator<Item = [u8; 4]> {
    (0..81_u32).map(|code| {
        std::array::from_fn(|node| u8::try_from(code / 3_u32.pow(u32::try_from(node).unwrap()) % 3).unwrap())
    })
}

/// Every small hall and gang: what `policy` makes of it costs as little as any place by `cost`.
fn is_least(policy: &str, fleet: &Fleet, free: [u8; 4], context: &Context<'_>, cost: impl Fn(&[u32; 4]) -> (u32, u32)) {
    let policy = by_name(policy).unwrap();
    for (ranks, within) in (1..=8).flat_map(|ranks| [(ranks, 0), (ranks, 1)]) {
        let least = places(free, ranks, within).iter().map(&cost).min();
        let placed = policy.place(fleet, &need(ranks, within), context);
        match (placed, least) {
            (Ok(shares), Some(least)) => {
                let place = as_place(&shares);
                assert!(places(free, ranks, within).contains(&place), "{place:?} of {free:?}");
                assert_eq!(cost(&place), least, "{ranks} ranks in {free:?}: {place:?}");
            }
            (placed, least) => assert_eq!((placed.ok(), least), (None, None), "{ranks} ranks in {free:?}"),
        }
    }
}

#[test]
fn no_place_has_more_ranks_where_the_data_is_warm() {
    for free in frees() {
        let fleet = hall(free, 0);
        for mask in 0..16_u32 {
            let warm: Vec<NodeId> = (0..4).filter(|node| mask >> node & 1 == 1).map(NodeId).collect();
            let cold = |place: &[u32; 4]| {
                let ranks = place.iter().enumerate().filter(|(node, _)| mask >> node & 1 == 0).map(|(_, ranks)| ranks);
                (ranks.sum::<u32>(), 0)
            };
            is_least("data-local", &fleet, free, &Context { warm: &warm, ..Context::plain(View::Open) }, cold);
        }
    }
}

#[test]
fn no_place_wakes_or_starts_on_fewer_nodes() {
    for free in frees() {
        let idle: Vec<u32> = (0..4).filter(|node| free[usize::try_from(*node).unwrap()] == OF).collect();
        for mask in 0..1_u32 << idle.len() {
            let mut fleet = hall(free, 0);
            let asleep: Vec<u32> =
                idle.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, node)| *node).collect();
            for node in &asleep {
                fleet.set_service(NodeId(*node), Service::Asleep);
            }
            let cost = |place: &[u32; 4]| {
                let used = |nodes: &[u32]| {
                    let used = nodes.iter().filter(|node| place[usize::try_from(**node).unwrap()] > 0).count();
                    u32::try_from(used).unwrap()
                };
                (used(&asleep), used(&idle) - used(&asleep))
            };
            is_least("energy", &fleet, free, &Context { wake: Wake::Last, ..Context::plain(View::Open) }, cost);
        }
    }
}

#[test]
fn a_gang_goes_to_the_class_that_costs_least_if_one_holds_it() {
    // Halves and equals, on classes that are busy to different degrees.
    for free in frees() {
        let fleet = hall(free, 1);
        let sum = |nodes: &[u8]| nodes.iter().map(|free| u32::from(*free)).sum::<u32>();
        let rooms = [sum(&free[..2]), sum(&free[2..])];
        for (own, others) in [([4, 1], [4, 1]), ([2, 1], [4, 1]), ([1, 2], [1, 1]), ([1, 1], [2, 1])] {
            let (own, others) = (own.map(|s| s * 250_000_u32), others.map(|s| s * 250_000_u32));
            let speeds = Speeds { own: &own, others: &others };
            let busy = rooms.map(|free| f64::from(4 - free) / 4.0);
            let cost = |class: usize| (1.0 + busy[class] * f64::from(others[class]) / 1e6) / f64::from(own[class]);
            let context = Context { speeds, ..Context::plain(View::Open) };
            for ranks in 1..=8 {
                let Ok(shares) = by_name("heterogeneity").unwrap().place(&fleet, &need(ranks, 0), &context) else {
                    assert!(rooms[0] + rooms[1] < ranks);
                    continue;
                };
                let place = as_place(&shares);
                let able: Vec<usize> = [0, 1].into_iter().filter(|class| rooms[*class] >= ranks).collect();
                let on = usize::from(place[0] + place[1] == 0);
                let mixed = place[0] + place[1] > 0 && place[2] + place[3] > 0;
                assert_eq!(mixed, able.is_empty(), "{place:?}");
                if !mixed {
                    let least = able.iter().map(|class| cost(*class)).fold(f64::INFINITY, f64::min);
                    assert!(cost(on) <= least * 1.001, "{ranks} ranks in {free:?}: {place:?}");
                }
            }
        }
    }
}
