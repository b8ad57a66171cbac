//! Gateways that share one key, with messages that are late, doubled and lost, and gateways that die: no window over-admits.

use dh_core::SimTime;
use dh_core::time::Span;

use super::*;
use crate::routing::mix;

const LIFE: Span = Span(5 * SECOND);
const BOUNDS: Bounds = Bounds { requests: Some(40), tokens: Some(2_000), micro_usd: Some(60_000) };

fn at(millis: u64) -> SimTime {
    SimTime(millis * 1_000_000)
}

fn used(tokens: u64, micro_usd: u64) -> Use {
    Use { tokens, micro_usd }
}

/// Asks and is answered at once.
fn refill(ledger: &mut Ledger, lessee: &mut Lessee, now: SimTime, least: Use) -> Result<(), Bound> {
    let ask = lessee.ask(now, Some(least), false);
    let answer = ledger.apply(now, BOUNDS, &ask);
    lessee.answered(ask.seq, answer, 99).map_err(|(bound, ..)| bound)
}

#[test]
fn what_one_holds_the_other_cannot_have_until_it_is_given_back() {
    let mut ledger = Ledger::new(LIFE);
    let (mut one, mut two) = (Lessee::new(1, "c"), Lessee::new(2, "c"));
    let all = used(1_500, 10);
    assert_eq!(one.take(at(0), all), Err(Short));
    refill(&mut ledger, &mut one, at(0), all).unwrap();
    let ticket = one.take(at(0), all).unwrap();
    assert_eq!(refill(&mut ledger, &mut two, at(10), all), Err(Bound::Tokens));
    refill(&mut ledger, &mut two, at(10), used(400, 1)).unwrap();
    let other = two.take(at(10), used(400, 1)).unwrap();
    assert_eq!(two.take(at(10), used(400, 1)), Err(Short));
    // One used a third of what it reserved, and tells so with its next message.
    one.settle(&ticket, used(500, 3));
    assert_eq!(refill(&mut ledger, &mut two, at(20), used(1_000, 1)), Err(Bound::Tokens));
    let ask = one.ask(at(30), None, true);
    one.answered(ask.seq, ledger.apply(at(30), BOUNDS, &ask), 99).unwrap();
    assert!(!one.holds());
    refill(&mut ledger, &mut two, at(40), used(1_000, 1)).unwrap();
    assert!(two.take(at(40), used(1_000, 1)).is_ok());
    two.settle(&other, used(0, 0));
}

#[test]
fn a_dead_gateways_loan_counts_for_its_life_and_a_minute_and_its_money_for_good() {
    let mut ledger = Ledger::new(LIFE);
    let (mut dies, mut lives) = (Lessee::new(1, "c"), Lessee::new(2, "c"));
    refill(&mut ledger, &mut dies, at(0), used(2_000, 50_000)).unwrap();
    let ticket = dies.take(at(4_000), used(2_000, 50_000)).unwrap();
    drop((ticket, dies));
    for now in [1_000, 6_000, 64_999] {
        assert_eq!(refill(&mut ledger, &mut lives, at(now), used(1, 0)), Err(Bound::Tokens), "{now}");
    }
    refill(&mut ledger, &mut lives, at(66_000), used(1, 0)).unwrap();
    assert!(ledger.micro_usd("c") >= 50_000);
    assert_eq!(refill(&mut ledger, &mut lives, at(67_000), used(1, 10_001)), Err(Bound::Budget));
}

#[test]
fn an_answer_that_was_lost_comes_again_and_lends_once() {
    let mut ledger = Ledger::new(LIFE);
    let mut one = Lessee::new(1, "c");
    let ask = one.ask(at(0), Some(used(100, 100)), false);
    let first = ledger.apply(at(0), BOUNDS, &ask);
    let before = ledger.micro_usd("c");
    assert_eq!(ledger.apply(at(500), BOUNDS, &ask), first);
    assert_eq!(one.ask(at(600), None, false), ask, "the same until it is answered");
    assert_eq!(ledger.micro_usd("c"), before);
    // It counts from when it was sent first: by then it has run out.
    one.answered(ask.seq, first, 99).unwrap();
    assert_eq!(one.clone().take(at(5_000), used(1, 0)), Err(Short));
    assert!(one.take(at(4_999), used(1, 0)).is_ok());
    assert_eq!(ledger.apply(at(700), BOUNDS, &Ask { seq: 0, ..ask.clone() }), Answer::Stale);
    assert_eq!(ledger.apply(at(700), BOUNDS, &Ask { gateway: 7, seq: 3, ..ask }), Answer::Unknown);
}

#[test]
fn a_ledger_is_the_same_after_it_was_kept() {
    let mut ledger = Ledger::new(LIFE);
    for seed in 1..4 {
        let mut one = Lessee::new(seed, "c");
        refill(&mut ledger, &mut one, at(seed * 900), used(seed * 10, 5)).unwrap();
    }
    let text = serde_json::to_string(&ledger).unwrap();
    let mut again: Ledger = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    for millis in [4_000, 9_000, 70_000] {
        let mut fresh = [Lessee::new(millis, "c"), Lessee::new(millis, "c")];
        let [left, right] = &mut fresh;
        let results = (
            refill(&mut ledger, left, at(millis), used(1_990, 0)),
            refill(&mut again, right, at(millis), used(1_990, 0)),
        );
        assert_eq!(results.0, results.1);
    }
}

/// A message or its answer under way.
enum Mail {
    Ask(Ask),
    Answer(u64, Answer),
}

struct Gate {
    lessee: Lessee,
    open: Vec<(Ticket, Use, u64)>,
    /// Its clock is ahead of the keeper's by so much.
    skew: u64,
}

/// One life of a key: what was admitted when, and how much it used.
#[derive(Default)]
struct Truth {
    begun: Vec<u64>,
    tokens: Vec<(u64, u64)>,
    spent: u64,
    /// Money that dead gateways had reserved or held.
    admitted: u64,
    refused: u64,
}

fn run(seed: u64) -> Truth {
    let mut draw = 0;
    let mut any = |below: u64| {
        draw += 1;
        mix(seed, draw) % below
    };
    let mut ledger = Ledger::new(LIFE);
    let mut truth = Truth::default();
    let mut nonce = 10;
    let mut gates: Vec<Gate> = Vec::new();
    let mut mail: Vec<(u64, u64, Mail)> = Vec::new();
    let mut now = 1_000_000;
    for _ in 0..6_000 {
        now += any(160);
        while gates.len() < 3 {
            nonce += 1;
            gates.push(Gate { lessee: Lessee::new(nonce, "c"), open: Vec::new(), skew: any(1 << 40) });
        }
        // Mail arrives in any order; some twice, some never.
        mail.sort_by_key(|(when, ..)| *when);
        while mail.first().is_some_and(|(when, ..)| *when <= now) {
            let (_, gateway, letter) = mail.remove(0);
            match letter {
                Mail::Ask(ask) => {
                    let answer = ledger.apply(at(now), BOUNDS, &ask);
                    if any(12) > 0 {
                        let late = if any(20) == 0 { 4_000 + any(9_000) } else { any(300) };
                        mail.push((now + late, gateway, Mail::Answer(ask.seq, answer)));
                        mail.sort_by_key(|(when, ..)| *when);
                    }
                }
                Mail::Answer(seq, answer) => {
                    nonce += 1;
                    let to = gates.iter_mut().find(|gate| gate.lessee.gateway == gateway);
                    if let Some(Err(_)) = to.map(|gate| gate.lessee.answered(seq, answer, nonce)) {
                        truth.refused += 1;
                    }
                }
            }
        }
        let place = usize::try_from(any(3)).unwrap();
        if any(400) == 0 {
            // Killed: what it had under way used all that it had reserved.
            let gate = gates.swap_remove(place);
            for (_, most, then) in gate.open {
                truth.tokens.push((then, most.tokens));
                truth.spent += most.micro_usd;
            }
            continue;
        }
        let gate = &mut gates[place];
        let local = at(now + gate.skew);
        let most = used(1 + any(150), any(60));
        if let Ok(ticket) = gate.lessee.take(local, most) {
            truth.begun.push(now);
            truth.admitted += 1;
            gate.open.push((ticket, most, now));
        } else {
            let ends = any(30) == 0;
            let ask = gate.lessee.ask(local, (!ends).then_some(most), ends);
            let copies = [1, 1, 1, 1, 1, 0, 2][usize::try_from(any(7)).unwrap()];
            for _ in 0..copies {
                let late = if any(20) == 0 { 4_000 + any(9_000) } else { any(300) };
                mail.push((now + late, ask.gateway, Mail::Ask(ask.clone())));
            }
        }
        if !gate.open.is_empty() && any(3) > 0 {
            let place = usize::try_from(any(1 << 20)).unwrap() % gate.open.len();
            let (ticket, most, then) = gate.open.swap_remove(place);
            let took = used(most.tokens * any(4) / 3, most.micro_usd * any(4) / 3);
            truth.tokens.push((then, took.tokens));
            truth.spent += took.micro_usd;
            gate.lessee.settle(&ticket, took);
        }
        let window = now.saturating_sub(60_000);
        let begun = truth.begun.iter().rev().take_while(|then| **then > window).count();
        assert!(begun <= 40, "seed {seed}: {begun} requests at {now}");
        let tokens: u64 = truth.tokens.iter().filter(|(then, _)| *then > window).map(|(_, tokens)| tokens).sum();
        assert!(tokens <= 2_000, "seed {seed}: {tokens} tokens at {now}");
        assert!(truth.spent <= 60_000 && ledger.micro_usd("c") <= 60_000, "seed {seed}: {} spent", truth.spent);
    }
    for gate in gates {
        truth.spent += gate.open.iter().map(|(_, most, _)| most.micro_usd).sum::<u64>();
    }
    assert!(truth.spent <= ledger.micro_usd("c"), "seed {seed}: a keeper that knows of less than was spent");
    truth
}

#[test]
fn no_window_over_admits_whoever_dies_and_whatever_is_lost() {
    let (mut admitted, mut refused) = (0, 0);
    for seed in 0..60 {
        let truth = run(seed);
        admitted += truth.admitted;
        refused += truth.refused;
    }
    // The bounds do bind, and leave room for work.
    assert!(admitted > 60 * 60 && refused > 1_000, "{admitted} admitted, {refused} refused");
}
