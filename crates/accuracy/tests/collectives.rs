//! Exchanges and memory against their published files: the figures that are told to users, with a little slack.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "a test reads files and fails by panicking"
)]

use dh_accuracy::report::{Figures, judged};
use dh_accuracy::{Error, OUTSIDE, subject};
use dh_blueprint::Catalog;

fn published(word: &str) -> String {
    std::fs::read_to_string(format!("{}/../../data/published/{word}.csv", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn figures(word: &str) -> Vec<(&'static str, Figures)> {
    let validation = subject(word).unwrap().validate(&Catalog::default(), &published(word)).unwrap();
    judged(&validation).parts()
}

/// (block, answered at least, median at most, share inside at least)
fn check(word: &str, blocks: &[(&str, usize, f64, f64)]) {
    let figures = figures(word);
    for (block, answered, median, inside) in blocks {
        let (_, found) = figures.iter().find(|(name, _)| name == block).unwrap();
        assert!(found.answered >= *answered, "{block}: {found:?}");
        assert!(found.median_abs_pct_err.unwrap() <= *median, "{block}: {found:?}");
        assert!(found.within_80.unwrap_or(1.0) >= *inside, "{block}: {found:?}");
    }
    assert_eq!(figures.iter().filter(|(name, _)| *name == "other").count(), 0, "every row has a block");
}

#[test]
fn exchanges_are_met_within_the_stated_medians() {
    check(
        "collectives",
        &[
            ("one_domain_below_1MiB", 454, 6.5, 0.78),
            ("one_domain_from_1MiB", 665, 4.5, 0.78),
            ("several_below_1MiB", 75, 5.0, 0.78),
            ("several_from_1MiB", 61, 8.0, 0.78),
        ],
    );
}

#[test]
fn memory_is_met_within_the_stated_medians() {
    check(
        "memory",
        &[
            ("weights_optimizer_gb", 16, 0.2, 0.9),
            ("activations_gb", 24, 0.2, 0.9),
            ("peak_gb", 290, 5.0, 0.75),
            ("oom", 31, 0.1, 0.0),
            ("fits", 1, 0.1, 0.0),
        ],
    );
}

#[test]
fn a_profile_of_a_blueprint_goes_before_the_built_in_one() {
    let text = "[catalog.efficiency.collectives-nvlink3]\ntitle = \"half as fast\"\nsource = \"a test\"\nsubject = \"collectives\"\nstack = \"any\"\n\
                date = \"2026-11-25\"\n[catalog.efficiency.collectives-nvlink3.numbers.value]\nring_share = 0.363\n";
    let own = Catalog::parse("own.toml", text).unwrap();
    let row = "id,source,collective,accelerator,n_nodes,ranks,ranks_per_node,interconnect,bytes,time_us,busbw_gbytes_s\n\
               a,s,all_reduce,A100-SXM4-80GB,1,8,8,NVLink3,8589934592,100,\n";
    let of = |catalog: &Catalog| {
        let validation = subject("collectives").unwrap().validate(catalog, row).unwrap();
        validation.outcomes[0].predicted.unwrap()
    };
    assert!((of(&own) / of(&Catalog::default()) - 2.0).abs() < 0.05, "{} {}", of(&own), of(&Catalog::default()));
}

#[test]
fn what_no_row_supports_says_so_and_memory_has_nothing_to_fit() {
    let row = "id,source,collective,accelerator,n_nodes,ranks,ranks_per_node,interconnect,bytes,time_us,busbw_gbytes_s\n\
               a,s,broadcast,H100,1,8,8,NVLink4,1048576,100,\nb,s,all_reduce,Abacus,1,8,8,string,1048576,100,\n";
    let validation = subject("collectives").unwrap().validate(&Catalog::default(), row).unwrap();
    assert!(validation.outcomes[0].note.starts_with(OUTSIDE), "{:?}", validation.outcomes);
    assert!(validation.outcomes[1].note.contains("Abacus") && validation.outcomes[1].predicted.is_none());
    let fit = subject("memory").unwrap().calibrate(&Catalog::default(), &published("memory"), &|_| ());
    assert!(matches!(fit, Err(Error::Nothing(_))));
}
