//! All published memory figures of `data/published/memory.csv` against the model.
//!
//! Shapes are those of the catalogue. `cargo test -p dh-perf --test memory_rows -- --nocapture` prints every row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::allow_attributes, reason = "a test")]

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::memory::golden::{Row, outcome, verdict};
use dh_perf::validation::{Outcome, Summary, summarise_by};

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/published/memory.csv");

fn shape(row: &Row) -> Option<Architecture> {
    Catalog::builtin().model_called(&row.model).map(Architecture::from)
}

fn line(name: &str, summary: &Summary) {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    eprintln!(
        "{name:64} rows {:3} answered {:3} median {:>6} mean {:>6} p90 {:>6} bias {:>7} factor {:>5} within {:>5}",
        summary.rows,
        summary.answered,
        figure(summary.median_abs_pct_err),
        figure(summary.mean_abs_pct_err),
        figure(summary.p90_abs_pct_err),
        figure(summary.bias_pct),
        figure(summary.max_factor),
        figure(summary.within_80),
    );
}

#[test]
fn published_figures_are_met() {
    let rows: Vec<Row> = csv::Reader::from_path(PUBLISHED).unwrap().deserialize().map(Result::unwrap).collect();
    let outcomes: Vec<Outcome> = rows.iter().map(|row| outcome(row, shape(row).as_ref())).collect();
    for outcome in &outcomes {
        let predicted = outcome.predicted.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let error = outcome.error_pct().map_or(String::new(), |error| format!("{error:+.1}%"));
        eprintln!(
            "{:9} {:20} {:>9.3} {predicted:>9} {error:>7} {}",
            outcome.id, outcome.quantity, outcome.measured, outcome.note
        );
    }
    for (quantity, summary) in summarise_by(&outcomes, |outcome| outcome.quantity.clone()) {
        line(&quantity, &summary);
    }
    let source = |outcome: &Outcome| outcome.source.split([':', ' ']).next().unwrap_or("").to_owned();
    for ((quantity, source), summary) in summarise_by(&outcomes, |o| (o.quantity.clone(), source(o))) {
        line(&format!("{quantity} {source}"), &summary);
    }
    let refused: Vec<&str> = rows
        .iter()
        .filter(|row| row.quantity == "peak_gb")
        .filter(|row| verdict(row, shape(row).as_ref()).is_ok_and(|(fit, _)| !fit.fits()))
        .map(|row| row.id.as_str())
        .collect();
    eprintln!("recorded runs said not to fit: {refused:?}");
    assert_eq!(refused, Vec::<&str>::new(), "a recorded run fits");
    let by = summarise_by(&outcomes, |outcome| outcome.quantity.clone());
    // Quantity, most percent of the median error, fewest answered. Reached: 0.04, 0.08, 3.8; 16, 24, 290.
    for (quantity, most, fewest) in
        [("weights_optimizer_gb", 0.5, 16), ("activations_gb", 0.5, 24), ("peak_gb", 4.5, 285)]
    {
        let summary = by.get(quantity).unwrap();
        assert!(summary.median_abs_pct_err.unwrap() < most, "{quantity}: {summary:?}");
        assert!(summary.answered >= fewest, "{quantity}: {summary:?}");
        assert!(summary.within_80.unwrap() >= 0.75, "{quantity}: {summary:?}");
    }
    let overflowing: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.quantity == "oom").collect();
    let seen = overflowing.iter().filter(|outcome| outcome.predicted.is_some_and(|says| says > 0.5)).count();
    eprintln!("published as out of memory: {}, said not to fit: {seen}", overflowing.len());
    assert!(seen * 10 >= overflowing.len() * 9, "{seen} of {}", overflowing.len());
}
