//! Victims against every set of victims, in small halls, and what users may rely on.

use super::*;
use crate::fleet::NodeFacts;
use crate::packing::Request;
use crate::placement::{Context, by_name};

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn below(dice: &mut u64, end: u32) -> u32 {
    u32::try_from(splitmix(dice) % u64::from(end)).unwrap()
}

fn rank(accelerators: u8) -> Request {
    Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 }
}

fn need(ranks: u32, accelerators: u8) -> Need {
    Need { ranks, rank: rank(accelerators), within: 0, rails: Rails::Any }
}

struct Running {
    job: JobId,
    price: u64,
    held: Vec<Holding>,
}

fn hall(racks: u32, nodes: u32, accelerators: u8) -> Fleet {
    let facts: Vec<NodeFacts> = (0..racks * nodes)
        .map(|node| NodeFacts {
            class: u8::from(node == racks * nodes - 1),
            accelerators,
            cpu_milli: 8000,
            memory_mib: 64_000,
            path: vec![node / nodes],
        })
        .collect();
    Fleet::new(&["rack".to_owned()], &facts).unwrap()
}

fn random_rank(dice: &mut u64, most: u32) -> Request {
    let part = below(dice, 5) == 0;
    Request {
        cpu_milli: 1000 * below(dice, 4),
        memory_mib: 8000 * below(dice, 3),
        accelerators: if part { 1 } else { u8::try_from(1 + below(dice, most)).unwrap() },
        milli: if part { 500 } else { WHOLE },
        models: 0,
    }
}

/// A hall with some jobs, some of which may be displaced.
fn world(dice: &mut u64) -> (Fleet, Vec<Running>) {
    let mut fleet = hall(2, 2, 4);
    let mut jobs = Vec::new();
    for job in 0..12 {
        let ranks = 1 + below(dice, 3);
        let rank = random_rank(dice, 4);
        let need = Need { ranks, rank, within: u8::try_from(below(dice, 2)).unwrap(), rails: Rails::Any };
        let Ok(shares) = by_name("topology").unwrap().place(&fleet, &need, &Context::plain(View::All)) else {
            continue;
        };
        let mut held = Vec::new();
        for share in shares {
            held.extend((0..share.ranks).map(|_| fleet.take(share.node, &rank, 0).unwrap()));
        }
        if below(dice, 8) > 0 {
            let price = u64::from(1 + below(dice, 20)) * u64::from(ranks);
            jobs.push(Running { job: JobId(job), price, held });
        }
    }
    jobs.sort_by_key(|job| (job.price * 100 / u64::try_from(job.held.len()).unwrap(), job.job));
    (fleet, jobs)
}

fn fits(fleet: &Fleet, need: &Need, jobs: &[Running], gone: impl Fn(JobId) -> bool) -> bool {
    let mut fleet = fleet.clone();
    for held in jobs.iter().filter(|job| gone(job.job)).flat_map(|job| &job.held) {
        fleet.release(held);
    }
    by_name("topology").unwrap().place(&fleet, need, &Context::plain(View::All)).is_ok()
}

fn found(fleet: &Fleet, need: &Need, jobs: &[Running]) -> Option<Vec<JobId>> {
    let offered = jobs.iter().map(|job| Victim { job: job.job, price: job.price, held: &job.held });
    search(fleet, need, View::All, offered).victims
}

#[test]
fn victims_are_enough_and_none_could_stay_and_they_cost_little_more_than_the_cheapest() {
    let (mut cases, mut least, mut paid) = (0_u64, 0_u64, 0_u64);
    let mut dice = 7;
    for _ in 0..1500 {
        let (fleet, jobs) = world(&mut dice);
        let rails = if below(&mut dice, 4) == 0 { Rails::Aligned } else { Rails::Any };
        let need = Need {
            ranks: 1 + below(&mut dice, 4),
            rank: random_rank(&mut dice, 4),
            within: u8::try_from(below(&mut dice, 2)).unwrap(),
            rails,
        };
        if fits(&fleet, &need, &jobs, |_| false) {
            continue;
        }
        let price =
            |set: &[JobId]| -> u64 { jobs.iter().filter(|job| set.contains(&job.job)).map(|job| job.price).sum() };
        let sets = (0..1_u32 << jobs.len()).map(|set| {
            let chosen = jobs.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
            chosen.map(|(_, job)| job.job).collect::<Vec<JobId>>()
        });
        let mut sets: Vec<(u64, Vec<JobId>)> = sets.map(|set| (price(&set), set)).collect();
        sets.sort_by_key(|(price, _)| *price);
        let best = sets.iter().find(|(_, set)| fits(&fleet, &need, &jobs, |job| set.contains(&job)));
        let Some(chosen) = found(&fleet, &need, &jobs) else {
            assert!(best.is_none(), "{need:?} would fit without {best:?}");
            continue;
        };
        assert!(fits(&fleet, &need, &jobs, |job| chosen.contains(&job)), "{need:?} does not fit without {chosen:?}");
        for kept in &chosen {
            let fewer = fits(&fleet, &need, &jobs, |job| job != *kept && chosen.contains(&job));
            assert!(!fewer, "{kept:?} of {chosen:?} could stay");
        }
        let (best, _) = best.unwrap();
        assert!(price(&chosen) <= 3 * best, "{} instead of {best}", price(&chosen));
        cases += 1;
        least += best;
        paid += price(&chosen);
    }
    assert!(cases > 300, "{cases}");
    assert!(paid * 100 <= least * 105, "{paid} instead of {least} in {cases} cases");
}

/// Jobs of so many accelerators on each node, each with its price.
fn filled(fleet: &mut Fleet, nodes: &[&[(u8, u64)]]) -> Vec<Running> {
    let mut jobs = Vec::new();
    for (node, here) in (0..).zip(nodes) {
        for (accelerators, price) in *here {
            let held = vec![fleet.take(dh_core::NodeId(node), &rank(*accelerators), 0).unwrap()];
            jobs.push(Running { job: JobId(u64::try_from(jobs.len()).unwrap()), price: *price, held });
        }
    }
    jobs.sort_by_key(|job| (job.price, job.job));
    jobs
}

fn ids(found: Option<Vec<JobId>>) -> Option<Vec<u64>> {
    found.map(|jobs| jobs.into_iter().map(|job| job.0).collect())
}

#[test]
fn accelerators_spread_over_nodes_are_no_place_for_a_rank() {
    let mut fleet = hall(1, 4, 8);
    // The cheapest eight accelerators lie on four nodes; a rank needs eight on one.
    let jobs = filled(&mut fleet, &[&[(2, 1), (6, 90)], &[(2, 1), (6, 90)], &[(2, 1), (6, 90)], &[(2, 1), (6, 50)]]);
    assert_eq!(ids(found(&fleet, &need(1, 8), &jobs)), Some(vec![6, 7]));
    assert_eq!(ids(found(&fleet, &need(4, 2), &jobs)), Some(vec![0, 2, 4, 6]));
    let protected: Vec<Running> = jobs.into_iter().filter(|job| job.price == 1).collect();
    assert_eq!(found(&fleet, &need(1, 8), &protected), None, "nobody goes for nothing");
}

#[test]
fn what_is_free_is_used_first() {
    let mut fleet = hall(1, 4, 8);
    let jobs = filled(&mut fleet, &[&[(8, 1)], &[(4, 5)], &[], &[]]);
    assert_eq!(ids(found(&fleet, &need(3, 8), &jobs)), Some(vec![0]));
    assert_eq!(ids(found(&fleet, &need(4, 8), &jobs)), Some(vec![0, 1]));
}

#[test]
fn a_gang_comes_free_whole_and_pays_once() {
    let mut fleet = hall(1, 4, 8);
    let nodes = [0, 1, 2].map(dh_core::NodeId);
    let gang: Vec<Holding> = nodes.iter().map(|node| fleet.take(*node, &rank(8), 0).unwrap()).collect();
    let single = vec![fleet.take(dh_core::NodeId(3), &rank(8), 0).unwrap()];
    let jobs = [Running { job: JobId(1), price: 12, held: gang }, Running { job: JobId(2), price: 6, held: single }];
    assert_eq!(ids(found(&fleet, &need(1, 8), &jobs)), Some(vec![2]), "one rank has no use for three nodes");
    assert_eq!(ids(found(&fleet, &need(2, 8), &jobs)), Some(vec![1]), "two ranks do");
    assert_eq!(ids(found(&fleet, &need(4, 8), &jobs)), Some(vec![1, 2]));
}

#[test]
fn cores_and_memory_of_victims_count() {
    let mut fleet = hall(1, 1, 8);
    let hungry = Request { memory_mib: 60_000, ..rank(1) };
    let held = |fleet: &mut Fleet, rank: &Request| vec![fleet.take(dh_core::NodeId(0), rank, 0).unwrap()];
    let jobs = [
        Running { job: JobId(1), price: 1, held: held(&mut fleet, &rank(1)) },
        Running { job: JobId(2), price: 9, held: held(&mut fleet, &hungry) },
    ];
    let wanted = Need { rank: Request { memory_mib: 30_000, ..rank(6) }, ..need(1, 6) };
    assert_eq!(ids(found(&fleet, &wanted, &jobs)), Some(vec![2]), "accelerators are free, memory is not");
}

#[test]
fn of_equals_the_first_by_id_and_the_cheapest_domain() {
    let mut fleet = hall(3, 2, 8);
    let jobs = filled(&mut fleet, &[&[(8, 5)], &[(8, 5)], &[(8, 4)], &[(8, 5)], &[(8, 2)], &[(8, 9)]]);
    let rack = Need { within: 1, ..need(2, 8) };
    assert_eq!(ids(found(&fleet, &rack, &jobs)), Some(vec![2, 3]), "not the rack of the cheapest victim");
    assert_eq!(ids(found(&fleet, &need(2, 8), &jobs)), Some(vec![2, 4]));
}
