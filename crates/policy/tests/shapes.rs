//! Boxes and parts of accelerators against brute force: there is one if and only if one is found.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_core::{JobId, NodeId};
use dh_policy::fleet::{Fleet, Holding, NodeFacts, Service, Slice, View};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Context, Need, POLICIES, Rails, Shaped};
use dh_policy::preemption::{Victim, search};
use dh_policy::torus::{Asked, Links, Request as Sides, Rings, Shaping, Twist, Wiring};

fn roll(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

fn fleet(nodes: u32, accelerators: u8) -> Fleet {
    let facts: Vec<NodeFacts> = (0..nodes)
        .map(|node| NodeFacts { class: 0, accelerators, cpu_milli: 8_000, memory_mib: 64_000, path: vec![node / 4] })
        .collect();
    Fleet::new(&["rack".to_owned()], &facts).unwrap()
}

const RANK: Request = Request { cpu_milli: 0, memory_mib: 0, accelerators: 1, milli: WHOLE, models: 0 };

fn boxed(wiring: &Wiring, asked: Asked) -> Option<Need> {
    let split = wiring.split(&asked)?;
    let accelerators = u8::try_from(split.each).unwrap();
    Some(Need { ranks: split.nodes, rank: Request { accelerators, ..RANK }, within: 0, rails: Rails::Box(asked) })
}

fn vertex(wiring: &Wiring, at: [u16; 3]) -> (NodeId, u128) {
    let node = [0, 1, 2].map(|axis| u32::from(at[axis] / wiring.node[axis]));
    let inside = [0, 1, 2].map(|axis| at[axis] % wiring.node[axis]);
    let across = [1, 2].map(|axis| u32::from(wiring.dims[axis] / wiring.node[axis]));
    let number = (inside[0] * wiring.node[1] + inside[1]) * wiring.node[2] + inside[2];
    (NodeId(wiring.first + (node[0] * across[0] + node[1]) * across[1] + node[2]), 1_u128 << number)
}

/// Whether a box of `size` with one corner anywhere is free, parts of nodes being equal.
fn exists(fleet: &Fleet, wiring: &Wiring, size: [u16; 3], need: &Need) -> bool {
    let mut corners = (0..wiring.dims[0])
        .flat_map(|x| (0..wiring.dims[1]).flat_map(move |y| (0..wiring.dims[2]).map(move |z| [x, y, z])));
    corners.any(|corner| {
        let mut parts = std::collections::BTreeMap::<NodeId, u128>::new();
        for x in 0..size[0] {
            for y in 0..size[1] {
                for z in 0..size[2] {
                    let at = [x, y, z];
                    let at = [0, 1, 2].map(|axis| (corner[axis] + at[axis]) % wiring.dims[axis]);
                    let (node, bit) = vertex(wiring, at);
                    if fleet.free_mask(node) & bit == 0 || fleet.service(node) != Service::Up {
                        return false;
                    }
                    *parts.entry(node).or_default() |= bit;
                }
            }
        }
        u32::try_from(parts.len()).unwrap() == need.ranks
            && parts.values().all(|part| part.count_ones() == u32::from(need.rank.accelerators))
    })
}

/// Takes random accelerators, each with a holding of its own, and some nodes out of service.
fn litter(fleet: &mut Fleet, dice: &mut u64, share: u64) -> Vec<Holding> {
    let mut held = Vec::new();
    for node in (0..u32::try_from(fleet.len()).unwrap()).map(NodeId) {
        for number in 0..fleet.accelerators(node) {
            if roll(dice, 100) < share {
                held.extend(fleet.take(node, &RANK, 1 << number));
            }
        }
        if roll(dice, 20) == 0 {
            fleet.set_service(node, Service::Drained);
        }
    }
    held
}

#[test]
fn a_box_is_found_if_and_only_if_there_is_one() {
    let place = Shaped(POLICIES[0]);
    let (mut found, mut missed) = (0, 0);
    for seed in 0..600_u64 {
        let mut dice = seed;
        let dims = [[4, 4, 4], [4, 4, 2], [8, 4, 2], [6, 2, 4]][usize::try_from(roll(&mut dice, 4)).unwrap()];
        let node = [[2, 2, 1], [2, 2, 2], [1, 1, 1], [2, 1, 1]][usize::try_from(roll(&mut dice, 4)).unwrap()];
        let wiring = Wiring { first: 1, dims, node, links: Links::Fixed };
        let each = u8::try_from(wiring.per_node()).unwrap();
        let mut fleet = fleet(wiring.nodes().end, each);
        fleet.wire(wiring).unwrap();
        let share = roll(&mut dice, 45);
        litter(&mut fleet, &mut dice, share);
        assert!(fleet.tori_agree());
        let shape = [0; 3].map(|_| 1 + u16::try_from(roll(&mut dice, 4)).unwrap());
        let sides = Sides { shape, twist: Twist::None, rings: Rings::Open, shaping: Shaping::AsGiven };
        let Some(need) = boxed(&wiring, Asked::Sides(sides)) else { continue };
        let placed = place.place(&fleet, &need, &Context::plain(View::All));
        assert_eq!(placed.is_ok(), exists(&fleet, &wiring, shape, &need), "seed {seed}: {shape:?} in {wiring:?}");
        if let Ok(shares) = placed {
            found += 1;
            assert_eq!(u32::try_from(shares.len()).unwrap(), need.ranks);
            for share in shares {
                assert_eq!(share.accelerators & !fleet.free_mask(share.node), 0, "seed {seed}");
            }
        } else {
            missed += 1;
        }
    }
    assert!(found > 50 && missed > 50, "{found} {missed}");
}

#[test]
fn whole_cubes_behind_optical_switches_join_wherever_they_stand() {
    let wiring = Wiring { first: 0, dims: [8; 3], node: [4; 3], links: Links::Optical { cube: 4 } };
    let mut fleet = fleet(8, 64);
    fleet.wire(wiring).unwrap();
    let need = boxed(&wiring, Asked::Sides(Sides::new([4, 4, 8]))).unwrap();
    assert_eq!((need.ranks, need.rank.accelerators), (2, 64));
    for node in [0, 2, 3, 4, 5, 6] {
        fleet.take(NodeId(node), &RANK, 1).unwrap();
    }
    let shares = Shaped(POLICIES[0]).place(&fleet, &need, &Context::plain(View::All)).unwrap();
    assert_eq!(shares.iter().map(|share| share.node.0).collect::<Vec<_>>(), [1, 7]);
    let part = boxed(&wiring, Asked::Sides(Sides::new([2, 2, 4]))).unwrap();
    assert_eq!((part.ranks, part.rank.accelerators), (1, 16));
    let shares = Shaped(POLICIES[0]).place(&fleet, &part, &Context::plain(View::All)).unwrap();
    assert_ne!(shares[0].node, NodeId(1), "a part breaks no whole cube");
    let many = boxed(&wiring, Asked::Chips(256)).unwrap();
    assert_eq!((many.ranks, many.rank.accelerators), (4, 64));
    assert!(boxed(&wiring, Asked::Chips(511)).is_none());
}

#[test]
fn a_box_goes_where_the_victims_cost_least() {
    for seed in 0..200_u64 {
        let mut dice = 7 + seed;
        let wiring = Wiring { first: 0, dims: [4, 4, 2], node: [1, 1, 2], links: Links::Fixed };
        let mut fleet = fleet(16, 2);
        fleet.wire(wiring).unwrap();
        let held = litter(&mut fleet, &mut dice, 60);
        let sides = Sides { shape: [2, 2, 2], twist: Twist::None, rings: Rings::Open, shaping: Shaping::AsGiven };
        let need = boxed(&wiring, Asked::Sides(sides)).unwrap();
        let fits = |fleet: &Fleet| Shaped(POLICIES[0]).place(fleet, &need, &Context::plain(View::All)).is_ok();
        if fits(&fleet) {
            continue;
        }
        let mut prices: Vec<u64> = held.iter().map(|_| 1 + roll(&mut dice, 50)).collect();
        prices.sort_unstable();
        let victims = held.iter().zip(&prices).zip(0..);
        let offered = victims.map(|((held, price), job)| Victim {
            job: JobId(job),
            price: *price,
            held: std::slice::from_ref(held),
        });
        let found = search(&fleet, &need, View::All, offered).victims;
        // Every box, by what stands in it.
        let mut least: Option<u64> = None;
        for corner in 0..32_u16 {
            let corner = [corner / 8, corner / 2 % 4, corner % 2];
            if corner[2] != 0 {
                continue;
            }
            let cells = (0..8).map(|at| [at / 4, at / 2 % 2, at % 2]);
            let cells: Vec<_> = cells
                .map(|at| vertex(&wiring, [0, 1, 2].map(|axis| (corner[axis] + at[axis]) % wiring.dims[axis])))
                .collect();
            if cells.iter().any(|(node, _)| fleet.service(*node) != Service::Up) {
                continue;
            }
            let stands = |held: &&(&Holding, &u64)| {
                cells.iter().any(|(node, bit)| held.0.node == *node && held.0.mask & bit != 0)
            };
            let pairs: Vec<(&Holding, &u64)> = held.iter().zip(&prices).collect();
            let price: u64 = pairs.iter().filter(stands).map(|(_, price)| **price).sum();
            least = Some(least.map_or(price, |least| least.min(price)));
        }
        let named = found.map(|jobs| jobs.iter().map(|job| prices[usize::try_from(job.0).unwrap()]).sum::<u64>());
        assert_eq!(named, least, "seed {seed}");
    }
}

/// Profiles of an accelerator of seven parts and eight slots of memory.
const PROFILES: [Slice; 6] = [
    Slice { size: 1, starts: 0b0111_1111 },
    Slice { size: 2, starts: 0b0101_0101 },
    Slice { size: 2, starts: 0b0001_0101 },
    Slice { size: 4, starts: 0b0001_0001 },
    Slice { size: 4, starts: 0b0000_0001 },
    Slice { size: 8, starts: 0b0000_0001 },
];

fn part(dice: &mut u64) -> Need {
    let slice = PROFILES[usize::try_from(roll(dice, 6)).unwrap()];
    let milli = [100, 250, 400, 500, 700][usize::try_from(roll(dice, 5)).unwrap()];
    let rank = Request { cpu_milli: 1000 * u32::try_from(roll(dice, 3)).unwrap(), milli, ..RANK };
    let rails = if roll(dice, 2) == 0 { Rails::Any } else { Rails::Slice(slice) };
    Need { ranks: 1 + u32::try_from(roll(dice, 3)).unwrap(), rank, within: u8::from(roll(dice, 4) == 0), rails }
}

/// Ranks that fit on each node, by the books of the test.
fn counted(books: &[Vec<Holding>], node: usize, need: &Need) -> u32 {
    let held = &books[node];
    let cpu = 8_000 - held.iter().map(|held| held.cpu_milli).sum::<u32>();
    let mut ranks = 0;
    for number in 0..2 {
        let here: Vec<&Holding> = held.iter().filter(|held| held.mask >> number & 1 == 1).collect();
        ranks += match need.rails {
            Rails::Slice(slice) if here.iter().all(|held| held.slots != 0) => {
                slice.most(here.iter().fold(0, |busy, held| busy | held.slots))
            }
            Rails::Any if here.iter().all(|held| held.slots == 0) => {
                let used: u16 = here.iter().map(|held| held.milli).sum();
                u32::from((WHOLE - used) / need.rank.milli)
            }
            Rails::Any | Rails::Aligned | Rails::Box(_) | Rails::Slice(_) => 0,
        };
    }
    ranks.min(cpu.checked_div(need.rank.cpu_milli).unwrap_or(u32::MAX))
}

#[test]
fn a_part_is_found_if_and_only_if_there_is_room_and_nothing_is_given_out_twice() {
    let place = Shaped(POLICIES[0]);
    let (mut placed, mut refused) = (0, 0);
    for seed in 0..60_u64 {
        let mut dice = seed;
        let mut fleet = fleet(6, 2);
        let mut books: Vec<Vec<Holding>> = vec![Vec::new(); 6];
        for _ in 0..120 {
            if roll(&mut dice, 3) == 0 {
                let node = usize::try_from(roll(&mut dice, 6)).unwrap();
                if !books[node].is_empty() {
                    let at = usize::try_from(roll(&mut dice, books[node].len() as u64)).unwrap();
                    fleet.release(&books[node].swap_remove(at));
                }
                continue;
            }
            let need = part(&mut dice);
            let rooms: Vec<u32> = (0..6).map(|node| counted(&books, node, &need)).collect();
            let most = if need.within == 0 {
                rooms.iter().sum()
            } else {
                rooms[..4].iter().sum::<u32>().max(rooms[4..].iter().sum())
            };
            let found = place.place(&fleet, &need, &Context::plain(View::All));
            assert_eq!(found.is_ok(), most >= need.ranks, "seed {seed}: {need:?} with {rooms:?}");
            let Ok(shares) = found else {
                refused += 1;
                continue;
            };
            placed += 1;
            for share in shares {
                for rank in 0..share.ranks {
                    let held = fleet.take_rank(share.node, &need, share.of_rank(rank, 1)).unwrap();
                    let node = usize::try_from(share.node.0).unwrap();
                    for other in books[node].iter().filter(|other| other.mask & held.mask != 0) {
                        assert_eq!(other.slots == 0, held.slots == 0, "cut and shared at once");
                        assert_eq!(other.slots & held.slots, 0, "a slot is given out twice");
                    }
                    books[node].push(held);
                    let used: u16 =
                        books[node].iter().filter(|h| h.mask == held.mask && h.slots == 0).map(|h| h.milli).sum();
                    assert!(used <= WHOLE, "an accelerator is given out twice");
                }
            }
        }
    }
    assert!(placed > 500 && refused > 300, "{placed} {refused}");
}

#[test]
fn one_rank_goes_to_the_accelerator_on_which_least_is_left() {
    let mut fleet = fleet(3, 2);
    let part = |milli| Need { ranks: 1, rank: Request { milli, ..RANK }, within: 0, rails: Rails::Any };
    for (node, number, milli) in [(0_u32, 0_u8, 300), (1, 1, 600), (2, 0, 500)] {
        fleet.take_rank(NodeId(node), &part(milli), 1 << number).unwrap();
    }
    let place = |fleet: &Fleet, milli| {
        let shares = Shaped(POLICIES[0]).place(fleet, &part(milli), &Context::plain(View::All)).unwrap();
        (shares[0].node.0, shares[0].accelerators)
    };
    assert_eq!([400, 450, 600].map(|milli| place(&fleet, milli)), [(1, 2), (2, 1), (0, 1)]);
    assert_eq!(place(&fleet, 800).1, 0, "a whole one is broken where nothing else will do");
}
