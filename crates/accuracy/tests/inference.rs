//! The model of serving against every published row: what the catalogue's profiles reach, and what is refused.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test reads a file of the repository and fails by panicking"
)]

use std::path::Path;

use dh_accuracy::inference::Inference;
use dh_accuracy::{Subject, Validation};
use dh_blueprint::Catalog;
use dh_perf::validation::{Outcome, Summary, summarise};

fn published() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/published/inference.csv");
    std::fs::read_to_string(path).expect("the published rows")
}

fn block(validation: &Validation, name: &str) -> Vec<Outcome> {
    let (_, places) = validation.blocks.iter().find(|(block, _)| *block == name).expect("the block");
    places.iter().map(|place| validation.outcomes[*place].clone()).collect()
}

fn check(summary: &Summary, rows: usize, answered: usize, median: f64, p90: f64) {
    assert_eq!(summary.rows, rows, "{summary:?}");
    assert!(summary.answered >= answered, "{summary:?}");
    assert!(summary.median_abs_pct_err.is_some_and(|error| error < median), "{summary:?}");
    assert!(summary.p90_abs_pct_err.is_some_and(|error| error < p90), "{summary:?}");
    let within = summary.within_80.expect("intervals");
    assert!((0.75..=0.92).contains(&within), "{summary:?}");
}

#[test]
fn the_catalogues_profiles_reach_what_the_documentation_says() {
    let validation = Inference.validate(Catalog::builtin(), &published()).expect("the file is in the format");
    check(&summarise(&block(&validation, "tpot")), 1685, 1670, 11.0, 34.0);
    check(&summarise(&block(&validation, "ttft")), 1685, 1670, 24.0, 62.0);
    check(&summarise(&block(&validation, "throughput")), 310, 285, 14.5, 40.0);
    let max_load: Vec<Outcome> = block(&validation, "throughput")
        .into_iter()
        .filter(|outcome| outcome.source.starts_with("TensorRT-LLM v1.0 perf-overview"))
        .collect();
    check(&summarise(&max_load), 210, 210, 15.0, 40.0);
}

#[test]
fn what_is_refused_says_why() {
    let validation = Inference.validate(Catalog::builtin(), &published()).expect("the file is in the format");
    for outcome in &validation.outcomes {
        assert!(outcome.measured > 0.0, "{}", outcome.id);
        match outcome.predicted {
            Some(predicted) => {
                let (low, high) = (outcome.low.expect("an interval"), outcome.high.expect("an interval"));
                assert!(low < predicted && predicted < high && low > 0.0 && high.is_finite(), "{outcome:?}");
            }
            None => assert!(!outcome.note.is_empty(), "{}", outcome.id),
        }
    }
    let apart = validation.outcomes.iter().filter(|outcome| outcome.note.contains("prefill apart"));
    assert!(apart.filter(|outcome| outcome.predicted.is_some()).count() > 100);
}

#[test]
fn a_file_of_another_format_is_refused() {
    assert!(Inference.validate(Catalog::builtin(), "id,model\n1,x\n").is_err());
    let row = "id,source,model,precision,accelerator,n_accel,tp,pp,ep,attention_dp,engine,mode,input_len,output_len,\
               concurrency_or_batch,concurrency_kind,metric_scope,tokens_per_s,ttft_ms,tpot_ms,notes\n\
               a,here,No Such Model,fp8,H100-80GB-SXM,1,1,1,1,1,vllm,serving aggregated,1024,128,4,concurrent requests,\
               latency,,50,10,\n";
    let validation = Inference.validate(Catalog::builtin(), row).expect("the file is in the format");
    assert_eq!(validation.outcomes.len(), 2);
    assert!(validation.outcomes.iter().all(|outcome| outcome.predicted.is_none()));
    assert_eq!(validation.outcomes[0].note, "the catalogue does not have the model `No Such Model`");
    assert!(Inference.calibrate(Catalog::builtin(), row, &|_| ()).is_err());
}

#[test]
fn the_same_rows_are_fitted_to_the_same_numbers() {
    // A part of the file, so that two fits take no time: every sixteenth row.
    let text = published();
    let part: Vec<&str> = text.lines().enumerate().filter(|(at, _)| at % 16 == 0).map(|(_, line)| line).collect();
    let part = part.join("\n");
    let of = || Inference.calibrate(Catalog::builtin(), &part, &|_| ()).expect("there are rows to fit");
    let calibration = of();
    assert_eq!(calibration, of());
    assert_eq!(calibration.profiles[0].name, "serving");
    let own: String = calibration
        .profiles
        .iter()
        .map(|profile| {
            let toml = profile.toml.replacen("[numbers", &format!("[catalog.efficiency.{}.numbers", profile.name), 2);
            toml.replacen("title", &format!("[catalog.efficiency.{}]\ntitle", profile.name), 1)
        })
        .collect();
    let read = Catalog::parse("fitted.toml", &own).expect("the files are a catalogue's");
    for profile in &calibration.profiles {
        let item = read.efficiency(&profile.name).expect("each profile is read");
        assert_eq!(item.numbers.value.0.len(), profile.moved.len());
    }
    // Groups that a part leaves with a few rows are further off, and yet not twice as far.
    let held = summarise(&block(&calibration.held_out, "tpot"));
    assert!(held.median_abs_pct_err.is_some_and(|error| error < 20.0), "{held:?}");
}
