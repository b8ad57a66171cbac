//! What holds for every routing policy, and what sets each apart.

use super::*;

fn engines(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|engine| Candidate { engine: engine * 2, identity: mix(engine as u64, 1), ..Default::default() })
        .collect()
}

fn pick(name: &str, ask: Ask, candidates: &[Candidate]) -> usize {
    by_name(name).unwrap().pick(View { ask, candidates }).unwrap().engine
}

#[test]
fn every_policy_picks_a_candidate_the_same_one_each_time() {
    for policy in POLICIES {
        assert!(policy.pick(View { ask: Ask::default(), candidates: &[] }).is_none(), "{}", policy.name());
        for round in 0..2_000_u64 {
            let mut candidates = engines(1 + usize::try_from(round % 7).unwrap());
            for candidate in &mut candidates {
                let drawn = mix(candidate.identity, round);
                // Every tenth round has numbers at the end of their range.
                let large = |number: u64| if round % 10 == 0 { u64::MAX - number % 3 } else { number % 100 };
                candidate.tokens = large(drawn);
                candidate.queued = large(drawn >> 4);
                candidate.recent = large(drawn >> 6);
                candidate.cached = large(drawn >> 8);
                candidate.price = Rates { prompt: large(drawn >> 16), answer: 3 };
                candidate.energy = Rates { prompt: 3, answer: large(drawn >> 24) };
                candidate.round_trip_us = large(drawn >> 32);
            }
            let ask = Ask { turn: round, seed: round, prompt: 1_000, answer: 100, prefix: round, session: Some(round) };
            let view = View { ask, candidates: &candidates };
            let picked = policy.pick(view).unwrap();
            assert!(candidates.contains(&picked), "{}", policy.name());
            assert_eq!(policy.pick(view), Some(picked));
        }
    }
}

#[test]
fn every_policy_lets_no_idle_engine_starve() {
    for policy in POLICIES {
        let candidates = engines(5);
        let mut counts = [0; 10];
        for turn in 0..1_000 {
            let ask =
                Ask { turn, seed: mix(turn, 3), prefix: mix(turn, 2), session: Some(mix(turn, 2)), ..Ask::default() };
            counts[policy.pick(View { ask, candidates: &candidates }).unwrap().engine] += 1;
        }
        for candidate in &candidates {
            assert!((150..250).contains(&counts[candidate.engine]), "{}: {counts:?}", policy.name());
        }
    }
}

#[test]
fn names_are_unique_and_each_is_found() {
    for policy in POLICIES {
        assert_eq!(by_name(policy.name()).unwrap().about(), policy.about());
    }
    assert!(by_name("best").is_none());
    assert_eq!(names().iter().collect::<std::collections::BTreeSet<_>>().len(), POLICIES.len());
}

#[test]
fn each_policy_goes_by_what_it_says() {
    let mut candidates = engines(3);
    candidates[0].in_flight = 3;
    candidates[0].tokens = 10;
    candidates[1].in_flight = 1;
    candidates[1].tokens = 90;
    candidates[2].in_flight = 2;
    candidates[2].tokens = 20;
    let ask = |turn| Ask { turn, prompt: 100, answer: 10, ..Ask::default() };
    for turn in 0..6 {
        assert_eq!(pick("least_in_flight", ask(turn), &candidates), 2);
        assert_eq!(pick("least_tokens", ask(turn), &candidates), 0);
        assert_eq!(pick("session", ask(turn), &candidates), 0, "without a session");
        assert_eq!(pick("power_of_two", Ask { seed: turn, ..ask(turn) }, &candidates[..2]), 0);
    }
    // What is cached outweighs the queue, until the queue is longer.
    candidates[2].cached = 80;
    assert_eq!(pick("prefix_cache", ask(0), &candidates), 4);
    candidates[2].queued = 1_400;
    assert_eq!(pick("prefix_cache", ask(0), &candidates), 0);
    candidates[2].queued = 0;
    // Nor is an engine worked harder than the others for long: by this prompt at most.
    candidates[2].recent = 150;
    assert_eq!(pick("prefix_cache", ask(0), &candidates), 0);
    candidates[2].recent = 50;
    assert_eq!(pick("prefix_cache", ask(0), &candidates), 4);
    // A far engine is worth its way only when the near ones are full.
    candidates[0].round_trip_us = 100_000;
    assert_eq!(pick("site", ask(0), &candidates), 4);
    candidates[1].queued = 5_000;
    candidates[2].queued = 5_000;
    assert_eq!(pick("site", ask(0), &candidates), 0);
}

#[test]
fn a_cheap_engine_that_is_full_is_left_out() {
    for name in ["least_cost", "least_energy"] {
        let mut candidates = engines(3);
        for (candidate, rate) in candidates.iter_mut().zip([30, 10, 20]) {
            candidate.price = Rates { prompt: rate, answer: rate };
            candidate.energy = candidate.price;
        }
        let ask = Ask { prompt: 100, answer: 10, ..Ask::default() };
        assert_eq!(pick(name, ask, &candidates), 2);
        // Cached tokens cost nothing.
        candidates[0].cached = 90;
        assert_eq!(pick(name, ask, &candidates), 0);
        candidates[0].cached = 0;
        candidates[1].tokens = 1_000;
        assert_eq!(pick(name, ask, &candidates), 4);
    }
}
