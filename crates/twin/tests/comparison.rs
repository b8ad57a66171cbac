//! Comparisons: what seeds show, and what they do not.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use dh_core::JobId;
use dh_core::time::{SimTime, Span};
use dh_twin::comparison::{Comparison, Estimate, Runs, Verdict};
use dh_twin::measure::{Cause, End, Fate, JobFacts, Measures, NodeChange, NodeState, Outcome, Setup, Start, Stop};

/// A run of one job that takes `jct` seconds on one of two accelerators.
fn outcome(jct: u64) -> Outcome {
    let mut measures = Measures::new(Setup::default());
    let facts = JobFacts { job: JobId(1), queue: 0, milli: 1_000, length: Span::from_secs(jct), submit: SimTime(0) };
    let end = SimTime(0).after(Span::from_secs(jct));
    measures.node_changed(SimTime(0), NodeChange { milli: 2_000, from: NodeState::Absent, to: NodeState::Up });
    measures.submitted(SimTime(0), &facts);
    measures.started(SimTime(0), &facts, Start { attempt: 1, waited: Span(0) });
    let stop = Stop {
        cause: Cause::Ended,
        since: SimTime(0),
        kept: Span::from_secs(jct),
        lost: Span(0),
        checkpoints: Span(0),
    };
    measures.stopped(end, &facts, stop);
    measures.ended(end, &facts, End { fate: Fate::Completed, first_start: Some(SimTime(0)), alone: None });
    measures.finish(end)
}

fn runs(policy: &str, jct: &[u64]) -> Runs {
    let outcomes = jct.iter().zip(0..).map(|(jct, seed)| (seed, outcome(*jct))).collect();
    Runs { policy: policy.to_owned(), outcomes }
}

#[test]
fn seeds_are_compared_in_pairs() {
    // The spread over the seeds is far larger than the difference, which is nearly the same on each.
    let slow = runs("fifo", &[1_000, 2_000, 3_000, 4_000]);
    let fast = runs("sjf", &[900, 1_910, 2_890, 3_900]);
    let comparison = Comparison::of(&[slow.clone(), fast]);
    let line = &comparison.figures[0];
    assert_eq!((line.figure, comparison.seeds.as_slice()), ("jct.mean_s", [0, 1, 2, 3].as_slice()));
    let difference = line.policies[1].against_first.unwrap();
    // Differences -100, -90, -110, -100: mean -100, standard deviation 8.165, t(3) 3.182.
    assert!((difference.difference.mean + 100.0).abs() < 1e-9);
    assert!((difference.difference.half_width.unwrap() - 3.182 * 8.164_965_8 / 2.0).abs() < 1e-4);
    assert!((difference.better_pct.unwrap().mean - 4.0).abs() < 1e-9);
    assert_eq!(difference.verdict, Verdict::Better);
    assert_eq!(comparison.differences_table().rows[0], ["JCT, mean", "better by 4 % (3.48 to 4.52)"]);
    assert!(line.policies[0].against_first.is_none());

    let back = Comparison::of(&[runs("sjf", &[900, 1_910, 2_890, 3_900]), slow]);
    assert_eq!(back.figures[0].policies[1].against_first.unwrap().verdict, Verdict::Worse);
    assert!(back.differences_table().rows[0][1].starts_with("worse by 4.17 % (3.63 to 4.7"));
}

#[test]
fn what_seeds_cannot_show_is_not_said() {
    let first = runs("a", &[1_000, 2_000, 3_000]);
    let verdict = |other: Runs| {
        Comparison::of(&[first.clone(), other]).figures[0].policies[1]
            .against_first
            .map(|difference| difference.verdict)
    };
    assert_eq!(verdict(runs("b", &[900, 2_100, 2_950])), Some(Verdict::NoDifferenceShown));
    assert_eq!(verdict(first.clone()), Some(Verdict::Same));
    assert_eq!(verdict(runs("b", &[900])), Some(Verdict::OneSeed));
    assert_eq!(verdict(Runs { policy: "b".to_owned(), outcomes: vec![(99, outcome(1))] }), None);
    assert_eq!(verdict(Runs { policy: "b".to_owned(), outcomes: Vec::new() }), None);
}

#[test]
fn a_higher_utilisation_is_the_better_one() {
    let comparison = Comparison::of(&[runs("a", &[10, 20]), runs("b", &[10, 20])]);
    let line = comparison.figures.iter().find(|line| line.figure == "utilisation").unwrap();
    assert!((line.policies[0].estimate.unwrap().mean - 0.5).abs() < 1e-12);
    assert!(serde_json::to_string(line).unwrap().contains("\"better\":\"higher\""));
    assert!(comparison.figures.iter().all(|line| line.figure != "energy.pue"), "no run has power");
}

#[test]
fn tables_are_rectangles() {
    let comparison = Comparison::of(&[runs("a", &[10, 20]), runs("b", &[30]), runs("c", &[])]);
    for table in [comparison.figures_table(), comparison.differences_table()] {
        assert!(!table.rows.is_empty() && table.rows.iter().all(|row| row.len() == table.columns.len()));
    }
    assert_eq!(comparison, Comparison::of(&[runs("a", &[10, 20]), runs("b", &[30]), runs("c", &[])]));
    assert_eq!(Comparison::of(&[]).figures, []);
}

#[test]
fn an_interval_holds_the_true_mean_95_times_in_100() {
    // Means of four uniform numbers: how often does the interval hold one half?
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        dh_units::real(state >> 11) / dh_units::real(1 << 53)
    };
    let held = (0..4_000).filter(|_| {
        let values: Vec<f64> = (0..6).map(|_| uniform() + uniform()).collect();
        let (low, high) = Estimate::of(&values).unwrap().interval();
        low <= 1.0 && 1.0 <= high
    });
    let share = held.count();
    assert!((3_740..3_860).contains(&share), "{share}");
}
