//! Plans against trying every moment in turn.

use super::*;
use crate::fleet::NodeFacts;
use crate::packing::WHOLE;
use crate::placement::{Context, Rails, by_name};

fn rank(accelerators: u8) -> Request {
    Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 }
}

#[test]
fn a_plan_is_the_first_moment_of_all_and_leaves_no_trace() {
    let mut seed = 7_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let policy = by_name("topology").unwrap();
    let mut planned = 0;
    for _ in 0..300 {
        let facts: Vec<NodeFacts> = (0..8)
            .map(|node| NodeFacts {
                class: 0,
                accelerators: 4,
                cpu_milli: 64_000,
                memory_mib: 512_000,
                path: vec![node / 4],
            })
            .collect();
        let mut fleet = Fleet::new(&["rack".to_owned()], &facts).unwrap();
        let mut held = Vec::new();
        for at in 0..next(14) {
            let node = dh_core::NodeId(u32::try_from(next(8)).unwrap());
            let wanted = rank(1 + u8::try_from(next(4)).unwrap());
            held.extend(fleet.take(node, &wanted, 0).map(|held| (at / 2, vec![held])));
        }
        let need = Need {
            ranks: 1 + u32::try_from(next(6)).unwrap(),
            rank: rank(1 + u8::try_from(next(4)).unwrap()),
            within: u8::try_from(next(2)).unwrap(),
            rails: Rails::Any,
        };
        let place = |fleet: &Fleet| policy.place(fleet, &need, &Context::plain(View::All)).ok();
        if place(&fleet).is_some() {
            continue;
        }
        let before = fleet.clone();
        let releases = held.iter().map(|(at, ranks)| Release { at: Some(SimTime(*at)), ranks });
        let found = plan(&mut fleet, &need, releases, place);
        assert_eq!(fleet, before);
        let mut naive = None;
        for (at, ranks) in &held {
            for held in ranks {
                fleet.release(held);
            }
            if place(&fleet).is_some() {
                naive = Some(SimTime(*at));
                break;
            }
        }
        planned += u32::from(naive.is_some());
        assert_eq!(found.and_then(|promise| promise.at), naive);
    }
    assert!(planned > 30, "{planned} of the cases had a plan");
}
