//! Fairness, starvation and prediction, over seeds.

use super::*;
use crate::routing::mix;

const SECOND: u64 = 1_000_000_000;

fn rules() -> [Rule; 3] {
    [(2, 4), (10, 8), (600, 16)].map(|(seconds, passes_max)| Rule { wait_max: Span::from_secs(seconds), passes_max })
}

fn comer(class: usize, tenant: u64, weight: u32, tokens: u64) -> Comer {
    Comer { class, tenant: Arc::from(format!("t{tenant}")), weight, tokens }
}

fn pick(seed: u64, round: u64, below: u64) -> u64 {
    mix(seed, round) % below
}

#[test]
fn classes_go_in_order_and_tenants_in_turn() {
    let mut line = Line::new(&rules(), 100);
    let mut places = Vec::new();
    for (class, tenant) in [(2, 1), (1, 1), (1, 1), (1, 2), (0, 3)] {
        places.push(line.join(SimTime(0), comer(class, tenant, 1, 100)).unwrap());
    }
    let order: Vec<_> = std::iter::from_fn(|| line.pop(SimTime(0))).collect();
    assert_eq!(order, [4, 1, 3, 2, 0].map(|place| places[place]));
    assert!(line.is_empty() && !line.leave(places[0]));
}

#[test]
fn who_leaves_is_not_served_and_owes_nothing() {
    let mut line = Line::new(&rules(), 100);
    let gone = line.join(SimTime(0), comer(1, 1, 1, 1_000_000)).unwrap();
    let other = line.join(SimTime(0), comer(1, 2, 1, 10)).unwrap();
    assert!(line.leave(gone));
    let again = line.join(SimTime(0), comer(1, 1, 1, 10)).unwrap();
    assert_eq!([line.pop(SimTime(0)), line.pop(SimTime(0)), line.pop(SimTime(0))], [Some(other), Some(again), None]);
}

#[test]
fn backlogged_tenants_share_by_weight_within_one_request() {
    for seed in 0..200 {
        let mut line = Line::new(&rules(), 10_000);
        let weights: Vec<u32> = (0..5).map(|tenant| 1 + u32::try_from(pick(seed, tenant, 8)).unwrap()).collect();
        let mut sizes: std::collections::BTreeMap<Place, (usize, u64)> = std::collections::BTreeMap::new();
        let (mut served, mut largest) = ([0_u64; 5], [0_u64; 5]);
        let mut round = 0;
        let mut join = |line: &mut Line, tenant: usize, sizes: &mut std::collections::BTreeMap<_, _>| {
            round += 1;
            let tokens = 1 + pick(seed, 1_000 + round, 5_000);
            let number = u64::try_from(tenant).unwrap();
            let place = line.join(SimTime(0), comer(1, number, weights[tenant], tokens)).unwrap();
            sizes.insert(place, (tenant, tokens));
            tokens
        };
        for (tenant, largest) in largest.iter_mut().enumerate() {
            // Some come with much, some with little; none ever stops asking.
            for _ in 0..=pick(seed, u64::try_from(tenant).unwrap() + 50, 20) {
                *largest = (*largest).max(join(&mut line, tenant, &mut sizes));
            }
        }
        for _ in 0..2_000 {
            let (tenant, tokens) = sizes[&line.pop(SimTime(0)).unwrap()];
            served[tenant] += tokens;
            largest[tenant] = largest[tenant].max(join(&mut line, tenant, &mut sizes));
            for one in 0..5 {
                for other in 0..5 {
                    let share = |tenant: usize| u128::from(served[tenant]) * UNIT / u128::from(weights[tenant]);
                    let request = |tenant: usize| u128::from(largest[tenant]) * UNIT / u128::from(weights[tenant]) + 2;
                    let apart = share(one).abs_diff(share(other));
                    assert!(apart <= request(one) + request(other), "seed {seed}: {one} and {other}");
                }
            }
        }
    }
}

#[test]
fn no_class_is_passed_more_often_than_its_rule_says() {
    for seed in 0..200 {
        let rules = rules();
        let mut line = Line::new(&rules, 10_000);
        let mut passed = [0_u32; 3];
        let mut places: Vec<Place> = Vec::new();
        for round in 0..5_000 {
            let class = usize::try_from(pick(seed, round, 3)).unwrap();
            if pick(seed, round + 9_000, 100) < 60 {
                let tokens = pick(seed, round + 3, 900);
                places.push(line.join(SimTime(0), comer(class, pick(seed, round + 7, 9), 1, tokens)).unwrap());
            } else if pick(seed, round, 10) == 0 && !places.is_empty() {
                let place = usize::try_from(pick(seed, round + 1, 1_000)).unwrap() % places.len();
                line.leave(places.swap_remove(place));
            } else if let Some(place) = line.pop(SimTime(0)) {
                for (class, passed) in passed.iter_mut().enumerate() {
                    *passed = if class == place.class() { 0 } else { *passed + 1 };
                }
            }
            for class in 0..3 {
                if line.waiting(class) == 0 {
                    passed[class] = 0;
                }
                assert!(passed[class] <= rules[class].passes_max + 3, "seed {seed}: class {class}");
            }
        }
    }
}

#[test]
fn who_would_wait_too_long_is_refused_when_it_comes() {
    let mut line = Line::new(&rules(), 1_000);
    // Nothing is known at first: everybody waits.
    for _ in 0..30 {
        line.join(SimTime(0), comer(1, 1, 1, 1_000)).unwrap();
    }
    // 1,000 tokens a second.
    for second in 1..=10 {
        line.pop(SimTime(second * SECOND)).unwrap();
    }
    // Another tenant does not stand behind the backlog of the first.
    assert_eq!(line.predicted(&comer(1, 2, 1, 10)), Some(Span(0)));
    line.join(SimTime(10 * SECOND), comer(1, 2, 1, 10)).unwrap();
    // The first one's next would wait 20 s, and a class of 10 s says so at once.
    let refused = line.join(SimTime(10 * SECOND), comer(1, 1, 1, 1_000)).unwrap_err();
    let Refused::TooLong { wait } = refused else { panic!("{refused:?}") };
    assert!((Span::from_secs(10)..Span::from_secs(11)).contains(&wait), "{wait:?}");
    // A class that waits longer takes it; a more urgent one stands before all that.
    line.join(SimTime(10 * SECOND), comer(2, 1, 1, 1_000)).unwrap();
    assert_eq!(line.predicted(&comer(0, 1, 1, 1_000)), Some(Span(0)));
}

#[test]
fn a_full_line_takes_nobody() {
    let mut line = Line::new(&rules(), 2);
    let first = line.join(SimTime(0), comer(0, 1, 1, 1)).unwrap();
    line.join(SimTime(0), comer(2, 1, 1, 1)).unwrap();
    assert_eq!(line.join(SimTime(0), comer(0, 2, 1, 1)), Err(Refused::Full { wait: None }));
    assert!(line.leave(first));
    assert!(line.join(SimTime(0), comer(0, 2, 1, 1)).is_ok());
    assert_eq!(line.join(SimTime(0), comer(9, 2, 1, 1)), Err(Refused::Full { wait: None }));
}
