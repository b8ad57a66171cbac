//! The counts against the nodes themselves, after random changes.

use dh_core::NodeId;

use super::*;

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn fleet() -> Fleet {
    let facts: Vec<NodeFacts> = (0..24_u32)
        .map(|node| NodeFacts {
            class: u8::from(node >= 16),
            accelerators: if node % 5 == 0 { 4 } else { 8 },
            cpu_milli: 64_000,
            memory_mib: 512_000,
            path: vec![node / 12, node / 4 % 3],
        })
        .collect();
    Fleet::new(&["block".to_owned(), "rack".to_owned()], &facts).unwrap()
}

fn check(fleet: &Fleet) {
    for level in 0..=fleet.tree().last() {
        for number in 0..fleet.tree().domains(level) {
            let domain = Domain { level, number };
            for view in [View::All, View::Open] {
                let nodes = || fleet.tree().nodes_of(domain).map(NodeId);
                assert_eq!(
                    fleet.free_in(domain, view),
                    nodes().map(|node| u64::from(fleet.free(node, view))).sum::<u64>()
                );
                for accelerators in 1..=8 {
                    for models in [0, 1, 2] {
                        let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models };
                        let one_by_one: u32 = nodes().map(|node| fleet.ranks(node, &rank, view)).sum();
                        assert_eq!(fleet.room(domain, &rank, view), one_by_one, "{domain:?} {view:?} {rank:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn counts_are_those_of_the_nodes_after_any_changes() {
    for seed in 0..20 {
        let mut dice = seed;
        let mut fleet = fleet();
        let before = fleet.clone();
        let mut held: Vec<Holding> = Vec::new();
        for _ in 0..200 {
            let roll = splitmix(&mut dice);
            let node = NodeId(u32::try_from(roll % 24).unwrap());
            match roll >> 8 & 7 {
                0 => fleet.reserve(node, u8::try_from(roll >> 16 & 7).unwrap()),
                1 => fleet.set_service(node, if roll >> 16 & 1 == 0 { Service::Up } else { Service::Drained }),
                2 | 3 if !held.is_empty() => {
                    let at = usize::try_from(roll >> 16).unwrap() % held.len();
                    fleet.release(&held.swap_remove(at));
                }
                _ => {
                    let milli = if roll >> 20 & 1 == 0 { WHOLE } else { 250 };
                    let accelerators = if milli == WHOLE { u8::try_from(roll >> 24 & 7).unwrap() } else { 1 };
                    let rank = Request { cpu_milli: 3000, memory_mib: 20_000, accelerators, milli, models: 0 };
                    held.extend(fleet.take(node, &rank, 0));
                }
            }
            check(&fleet);
        }
        for holding in &held {
            fleet.release(holding);
        }
        for node in 0..24 {
            fleet.reserve(NodeId(node), 0);
            fleet.set_service(NodeId(node), Service::Up);
            assert!(fleet.idle(NodeId(node)));
        }
        assert_eq!(fleet, before, "everything given back is the fleet as it was");
    }
}

#[test]
fn a_part_goes_where_a_part_is_taken_and_whole_ones_stay_whole() {
    let mut fleet = fleet();
    let part = Request { cpu_milli: 0, memory_mib: 0, accelerators: 1, milli: 400, models: 0 };
    let first = fleet.take(NodeId(1), &part, 0).unwrap();
    let second = fleet.take(NodeId(1), &part, 0).unwrap();
    assert_eq!((first.mask, second.mask), (1, 1));
    assert_eq!(fleet.take(NodeId(1), &part, 0).unwrap().mask, 2);
    assert_eq!(fleet.free(NodeId(1), View::All), 6);
    let pair = Request { accelerators: 2, milli: WHOLE, ..part };
    assert_eq!(fleet.take(NodeId(1), &pair, 0b1100_0000).unwrap().mask, 0b1100_0000, "the wanted ones are free");
    assert_eq!(fleet.take(NodeId(1), &pair, 0b1100_0000).unwrap().mask, 0b1100, "else the lowest");
}
