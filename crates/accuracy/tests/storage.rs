//! The model of loading against every published row of storage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "tests fail by panicking, and this one reads a file"
)]

use dh_accuracy::storage::Storage;
use dh_accuracy::{Subject, Validation};
use dh_blueprint::Catalog;
use dh_perf::validation::{Outcome, Summary, summarise};

fn csv() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/published/storage.csv")).unwrap()
}

fn block(validation: &Validation, name: &str) -> Vec<Outcome> {
    let (_, places) = validation.blocks.iter().find(|(block, _)| *block == name).unwrap();
    places.iter().map(|at| validation.outcomes[*at].clone()).collect()
}

fn meets(validation: &Validation) {
    let utilisation = block(validation, "au_points");
    let off = |row: &Outcome| (row.predicted.unwrap() - row.measured).abs();
    let within = utilisation.iter().filter(|row| off(row) <= 5.0).count();
    assert_eq!(utilisation.len(), 132);
    assert!(within >= 120, "{within} of 132 within 5 points");
    assert!(utilisation.iter().all(|row| off(row) < 8.0));
    for name in ["samples", "bytes"] {
        let summary: Summary = summarise(&block(validation, name));
        assert_eq!((summary.rows, summary.answered), (135, 135));
        assert!(summary.median_abs_pct_err.unwrap() < 1.8, "{name} {summary:?}");
        assert!(summary.p90_abs_pct_err.unwrap() < 6.5, "{name} {summary:?}");
        assert!((0.7..0.9).contains(&summary.within_80.unwrap()), "{name} {summary:?}");
    }
}

#[test]
fn the_profile_of_the_catalogue_meets_the_published_rows() {
    let validation = Storage.validate(Catalog::builtin(), &csv()).unwrap();
    meets(&validation);
    let other = summarise(&block(&validation, "other"));
    assert_eq!((other.rows, other.answered), (54, 27));
    assert!(other.median_abs_pct_err.unwrap() < 20.0, "{other:?}");
}

#[test]
fn a_fit_without_the_submitter_meets_them_too_and_its_profile_reads_back() {
    let calibration = Storage.calibrate(Catalog::builtin(), &csv(), &|_| ()).unwrap();
    meets(&calibration.held_out);
    for moved in &calibration.profiles[0].moved {
        // The catalogue has what this fit gives: it is not fitted by hand.
        let before = moved.before.unwrap();
        assert!((moved.after / before - 1.0).abs() < 0.02, "{moved:?}");
    }
}
