//! The search beside trying every layout.

use dh_blueprint::Catalog;
use dh_units::{BytesPerSec, Tokens, UsdPerHour};
use proptest::prelude::*;

use super::front::{better, takes};
use super::*;
use crate::architecture::tests::{deepseek_v3, gpt, llama_8b};
use crate::architecture::{Architecture, Experts};
use crate::collectives::ScaleOutProfile;
use crate::hardware::{Accelerator, Network};
use crate::layout::{Recompute, Sharding};
use crate::memory::Fit;

fn machine(name: &str) -> Machine {
    let network = Network {
        bandwidth: BytesPerSec(50e9),
        oversubscription: 1.0,
        in_network: false,
        profile: ScaleOutProfile::INFINIBAND,
    };
    Machine::new(Accelerator::named(Catalog::builtin(), name).unwrap(), Some(network))
}

fn question(shape: Architecture, accelerators: Amount, batch: u64) -> Question {
    let catalog = Catalog::builtin();
    let machine = machine("h100-80gb-sxm");
    let name = machine.accelerator.name.clone();
    let choices = Choices::of(&shape, &machine, 2048);
    Question {
        shape,
        products: Format::Bf16,
        machine,
        profile: pretraining::Profile::of(catalog, &name),
        power: power::Profile::of(catalog, &name),
        price: Some(UsdPerHour(2.5)),
        accelerators,
        sequence: Tokens(2048),
        batch: Tokens(2048 * batch),
        tokens: Tokens(1_000_000_000),
        objective: Objective::Time,
        choices,
    }
}

/// A mixture small enough to try everything.
fn small_mixture() -> Architecture {
    Architecture {
        layers: 12,
        experts: Some(Experts { count: 8, top_k: 2, ffn: 2048, shared_ffn: 2048, dense_layers: 1 }),
        ..deepseek_v3()
    }
}

fn questions() -> Vec<Question> {
    let mut all = vec![
        question(llama_8b(), Amount::Exactly(16), 32),
        question(gpt(24, 2048, 16), Amount::UpTo(24), 48),
        question(gpt(48, 6144, 64), Amount::UpTo(32), 64),
        question(small_mixture(), Amount::Exactly(16), 64),
    ];
    for (place, objective) in [(1, Objective::Cost), (2, Objective::Energy)] {
        let mut other = all[place].clone();
        other.objective = objective;
        all.push(other);
    }
    for question in &mut all {
        question.choices.micro_batch = vec![1, 4];
        question.choices.vpp = vec![1, 2, 3];
    }
    all
}

/// Every layout that fits, tried one by one with rules written again from their words.
fn everything(question: &Question) -> Vec<Candidate> {
    let (shape, choices) = (&question.shape, &question.choices);
    let mut found = Vec::new();
    let sequence = question.sequence.0;
    for size in question.accelerators.sizes() {
        for tp in choices.tp.iter().copied().filter(|tp| size % tp == 0) {
            for cp in choices.cp.iter().copied().filter(|cp| size % (tp * cp) == 0) {
                for pp in (1..=shape.layers).filter(|pp| size % (tp * cp * pp) == 0) {
                    let dp = size / tp / cp / pp;
                    for (&ep, &etp) in choices.ep.iter().flat_map(|ep| choices.etp.iter().map(move |etp| (ep, etp))) {
                        if (tp * cp * dp) % (ep * etp) != 0 || (etp != 1 && etp != tp) {
                            continue;
                        }
                        for &vpp in &choices.vpp {
                            let parts = pp * vpp;
                            let even = shape.layers % parts == 0 || (shape.layers + 2) % parts == 0;
                            if vpp > 1 && (pp == 1 || !even || parts > shape.layers) {
                                continue;
                            }
                            for &micro_batch in &choices.micro_batch {
                                let step = if vpp > 1 { pp } else { 1 };
                                let wanted = question.batch.as_f64();
                                let made = |count: u64| real(count * dp * micro_batch * sequence);
                                let near = |count: &u64| {
                                    count.is_multiple_of(step) && (made(*count) / wanted - 1.0).abs() <= BATCH_TOLERANCE
                                };
                                let most = 2 * question.batch.0 / sequence;
                                let below = (1..=most).rev().find(|c| near(c) && made(*c) <= wanted);
                                let Some(count) = below.or_else(|| (1..=most).find(|c| near(c) && made(*c) > wanted))
                                else {
                                    continue;
                                };
                                for &recompute in &choices.recompute {
                                    for &sharding in &choices.sharding {
                                        for &sequence_parallel in &choices.sequence_parallel {
                                            let alone = dp * cp == 1 && sharding != Sharding::None;
                                            let refused = sharding == Sharding::Gradients && pp > 1;
                                            if alone || refused || (sequence_parallel && tp == 1) {
                                                continue;
                                            }
                                            let layout = Layout {
                                                tp,
                                                pp,
                                                vpp,
                                                dp,
                                                cp,
                                                ep,
                                                etp,
                                                sharding,
                                                micro_batch,
                                                micro_batches: Some(count),
                                                sequence,
                                                recompute,
                                                sequence_parallel,
                                                precision: choices::precision(sharding, question.products),
                                                ..Layout::default()
                                            };
                                            let Ok(candidate) = question.candidate(layout) else { continue };
                                            if Fit::of(candidate.needed, question.capacity()).fits() {
                                                found.push(candidate);
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    found
}

#[test]
fn the_search_finds_what_trying_everything_finds() {
    for (place, question) in questions().into_iter().enumerate() {
        let all = everything(&question);
        let search = Search::new(question.clone()).unwrap();
        let found = search.run(&mut |_| {});
        let chosen = all.iter().filter(|one| question.accelerators.may_be(one.accelerators));
        let best = chosen.min_by(|a, b| better(a, b, question.objective)).unwrap();
        assert_eq!(found.best.as_ref().map(|best| best.layout), Some(best.layout), "question {place}");
        // The front, by what it takes: of several layouts that take the same one is kept.
        let beats = |a: &Candidate, b: &Candidate| {
            let pairs = || takes(a).into_iter().zip(takes(b));
            pairs().all(|(a, b)| a <= b) && pairs().any(|(a, b)| a < b)
        };
        let mut front: Vec<[f64; 3]> =
            all.iter().filter(|one| !all.iter().any(|other| beats(other, one))).map(takes).collect();
        front.sort_by(|a, b| a.partial_cmp(b).unwrap());
        front.dedup();
        let mut had: Vec<[f64; 3]> = found.front.iter().map(takes).collect();
        had.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(had, front, "question {place}");
        // Runners-up are the best of each other choice of degrees.
        let mut ranked: Vec<&Candidate> =
            all.iter().filter(|one| question.accelerators.may_be(one.accelerators)).collect();
        ranked.sort_by(|a, b| better(a, b, question.objective));
        let mut ways = Vec::new();
        for one in ranked {
            let l = one.layout;
            let way = (one.accelerators, l.tp, l.pp, l.cp, l.ep, l.dp);
            if !ways.iter().any(|(known, _)| *known == way) {
                ways.push((way, l));
            }
        }
        let expected: Vec<Layout> = ways.iter().skip(1).take(RUNNERS_UP).map(|(_, layout)| *layout).collect();
        let had: Vec<Layout> = found.runners_up.iter().map(|one| one.layout).collect();
        assert_eq!(had, expected, "question {place}");
        let tally = found.tally;
        assert!(tally.evaluated > 0);
        assert_eq!(
            tally.enumerated,
            tally.impossible + tally.out_of_memory + tally.bounded + tally.evaluated,
            "question {place}"
        );
    }
}

#[test]
fn bounds_cut_off_most_of_a_large_space() {
    let search = Search::new(question(gpt(96, 12_288, 96), Amount::Exactly(512), 512)).unwrap();
    let tally = search.run(&mut |_| {}).tally;
    let possible = tally.enumerated - tally.impossible;
    assert!(tally.bounded + tally.out_of_memory > possible / 2, "{tally:?}");
}

#[test]
fn shares_do_not_change_the_answer() {
    for question in questions() {
        let search = Search::new(question).unwrap();
        let alone = search.run(&mut |_| {});
        for count in [2, 7, 1_000] {
            let shares = search.shares(count);
            assert!(!shares.is_empty() && shares.len() <= count);
            // In any order.
            let partials: Vec<Partial> = shares.iter().rev().map(|share| share.run(&mut |_| {})).collect();
            let found = search.merge(partials);
            assert_eq!((&found.best, &found.runners_up), (&alone.best, &alone.runners_up));
            assert_eq!(found.front, alone.front);
            assert_eq!(found.tally.enumerated, alone.tally.enumerated);
            assert_eq!(found.tally.impossible, alone.tally.impossible);
        }
    }
}

#[test]
fn progress_adds_up_to_the_tally() {
    let search = Search::new(question(llama_8b(), Amount::UpTo(16), 32)).unwrap();
    let mut last = Tally::default();
    let mut calls = 0;
    let found = search.run(&mut |done| {
        assert!(done.enumerated >= last.enumerated);
        last = done;
        calls += 1;
    });
    assert_eq!(last, found.tally);
    assert!(calls > 1);
}

#[test]
fn what_fits_nowhere_says_how_much_is_missing() {
    let search = Search::new(question(gpt(96, 12_288, 96), Amount::Exactly(8), 64)).unwrap();
    let found = search.run(&mut |_| {});
    assert!(found.best.is_none() && found.front.is_empty());
    let nearest = found.nearest.unwrap();
    assert_eq!(nearest.needed, nearest.missing + search.question().capacity());
    assert_eq!(nearest.layout.accelerators(), 8);
    let smaller = Question { accelerators: Amount::Exactly(512), ..search.question().clone() };
    assert!(Search::new(smaller).unwrap().run(&mut |_| {}).nearest.is_none());
}

#[test]
fn pinned_degrees_are_kept() {
    let mut question = question(gpt(96, 12_288, 96), Amount::Exactly(512), 512);
    question.choices.tp = vec![8];
    question.choices.pp = vec![16];
    question.choices.dp = vec![4];
    question.choices.recompute = vec![Recompute::Full];
    let best = Search::new(question).unwrap().run(&mut |_| {}).best.unwrap();
    let layout = best.layout;
    assert_eq!((layout.tp, layout.pp, layout.dp, layout.recompute), (8, 16, 4, Recompute::Full));
}

#[test]
fn an_exact_number_of_accelerators_is_kept_and_fewer_are_on_the_front() {
    // One sequence a step: 64 accelerators need a pipeline, whose bubble fewer do not pay for.
    let found = Search::new(question(llama_8b(), Amount::Exactly(64), 1)).unwrap().run(&mut |_| {});
    assert_eq!(found.best.unwrap().accelerators, 64);
    let sizes: Vec<u64> = found.front.iter().map(|one| one.accelerators).collect();
    assert!(sizes.iter().any(|size| *size < 64), "{sizes:?}");
    assert!(found.runners_up.iter().all(|one| one.accelerators == 64));
}

#[test]
fn sizes_are_parts_of_the_number_and_of_its_power_of_two() {
    assert_eq!(Amount::UpTo(1016).sizes(), [1016, 512, 508, 256, 254, 128, 127, 64]);
    assert_eq!(Amount::UpTo(6).sizes(), [6, 4, 3, 2, 1]);
    assert_eq!(Amount::Exactly(1).sizes(), [1]);
    assert_eq!(Amount::UpTo(0).sizes(), [0_u64; 0]);
}

#[test]
fn the_reason_names_what_differs_and_what_grew() {
    let question = question(gpt(96, 12_288, 96), Amount::Exactly(512), 512);
    let layout = Layout {
        tp: 8,
        pp: 8,
        dp: 8,
        micro_batches: Some(64),
        sharding: Sharding::Optimizer,
        recompute: Recompute::None,
        ..Layout::default()
    };
    let best = question.candidate(layout).unwrap();
    let other = question.candidate(Layout { recompute: Recompute::Full, ..layout }).unwrap();
    let text = reason(&best, &other);
    assert!(text.starts_with("no recomputation -> full recomputation: "), "{text}");
    assert!(text.contains("more of recomputation") && text.ends_with("% slower"), "{text}");
    assert_eq!(degrees(&layout), "TP 8, PP 8, DP 8, micro-batch 1, optimiser sharded");
    assert!(reason(&best, &best).contains("as fast"));
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let good = question(llama_8b(), Amount::Exactly(8), 32);
    let refused = |question| Search::new(question).is_err();
    assert!(!refused(good.clone()));
    assert!(refused(Question { accelerators: Amount::Exactly(0), ..good.clone() }));
    assert!(refused(Question { batch: Tokens(0), ..good.clone() }));
    assert!(refused(Question { machine: machine("a100-80gb-sxm"), products: Format::Fp8, ..good }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn more_memory_never_gives_a_slower_best(gigabytes in 16_u64..200, more in 0_u64..100, size in 0_u32..5) {
        let mut question = question(llama_8b(), Amount::Exactly(1 << size), 64);
        question.choices.micro_batch = vec![1, 2];
        let best = |gigabytes: u64| {
            let mut question = question.clone();
            question.machine.accelerator.memory = Bytes(gigabytes * 1_000_000_000);
            Search::new(question).unwrap().run(&mut |_| {}).best.map_or(f64::INFINITY, |best| best.time.0)
        };
        prop_assert!(best(gigabytes + more) <= best(gigabytes));
    }
}
