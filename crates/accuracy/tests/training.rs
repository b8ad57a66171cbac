//! The model of training, as it ships, against every published run.
//!
//! Invariant: the figures asserted are those of the profiles in the catalogue, with a little slack: of the fit to all rows. What
//! each source is met with when it is held out is what `calibrate` prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "a test reads a file and fails by panicking"
)]

use dh_accuracy::Subject;
use dh_accuracy::training::Training;
use dh_blueprint::Catalog;
use dh_perf::validation::{Outcome, summarise};

fn outcomes() -> Vec<Outcome> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/published/training.csv");
    let text = std::fs::read_to_string(path).expect("the published runs are in the repository");
    Training.validate(Catalog::builtin(), &text).expect("they are in the format").outcomes
}

#[test]
fn published_runs_are_met_within_the_stated_error() {
    let all = summarise(&outcomes());
    assert_eq!((all.rows, all.answered), (555, 555));
    let (median, p90) = (all.median_abs_pct_err.unwrap(), all.p90_abs_pct_err.unwrap());
    assert!(median <= 6.0, "median {median}");
    assert!(p90 <= 21.0, "p90 {p90}");
    assert!(all.max_factor.unwrap() <= 2.0, "{:?}", all.max_factor);
    assert!(all.bias_pct.unwrap().abs() <= 3.0, "{:?}", all.bias_pct);
    // Of rows that were fitted; of rows held out the intervals hold about 80 %.
    assert!((0.75..0.95).contains(&all.within_80.unwrap()), "{:?}", all.within_80);
}

#[test]
fn each_large_source_is_met_for_itself() {
    let outcomes = outcomes();
    for (words, most) in
        [("BLOOM prequel", 8.0), ("llm-foundry", 8.0), ("InternEvo", 8.0), ("Megatron-Bridge", 12.0), ("MaxText", 12.0)]
    {
        let of: Vec<Outcome> = outcomes.iter().filter(|outcome| outcome.source.contains(words)).cloned().collect();
        let median = summarise(&of).median_abs_pct_err.unwrap();
        assert!(of.len() >= 30 && median <= most, "{words}: {} rows, median {median}", of.len());
    }
}

#[test]
fn which_of_two_layouts_is_faster_is_mostly_right() {
    let outcomes = outcomes();
    let sweep: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.source.contains("BLOOM prequel") && outcome.quantity == "step_time_s")
        .collect();
    let (mut right, mut pairs) = (0_u32, 0_u32);
    for (at, one) in sweep.iter().enumerate() {
        // Runs of one layout were measured up to 3 % apart.
        for other in sweep.iter().take(at).filter(|other| (one.measured / other.measured).ln().abs() > 0.03) {
            let predicted = one.predicted.unwrap().total_cmp(&other.predicted.unwrap());
            right += u32::from(one.measured.total_cmp(&other.measured) == predicted);
            pairs += 1;
        }
    }
    let share = f64::from(right) / f64::from(pairs);
    assert!(pairs > 1000 && share >= 0.78, "{share} of {pairs}");
}
