//! Fits the profiles of power to a file of measurements and prints what moved and how far the model is, by block:
//! `cargo run --release -p dh-accuracy --example energy -- data/published/energy.csv [FOLDER]`. With a folder, the profiles
//! are written there.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "an example prints"
)]

use std::error::Error;

use dh_accuracy::{Subject, Validation, energy::Energy};
use dh_blueprint::Catalog;
use dh_perf::validation::{Outcome, summarise};

fn print(title: &str, validation: &Validation) {
    println!("== {title}");
    for (name, places) in &validation.blocks {
        let outcomes: Vec<Outcome> = places.iter().map(|at| validation.outcomes[*at].clone()).collect();
        let summary = summarise(&outcomes);
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        println!(
            "{name:42} rows {:4} answered {:4} median {:>5} mean {:>5} p90 {:>5} bias {:>6} within {:>5}",
            summary.rows,
            summary.answered,
            show(summary.median_abs_pct_err),
            show(summary.mean_abs_pct_err),
            show(summary.p90_abs_pct_err),
            show(summary.bias_pct),
            show(summary.within_80.map(|share| share * 100.0)),
        );
    }
}

fn worst(validation: &Validation, block: &str) {
    println!("-- worst of {block}");
    let Some((_, places)) = validation.blocks.iter().find(|(name, _)| *name == block) else { return };
    let mut rows: Vec<&Outcome> = places.iter().map(|at| &validation.outcomes[*at]).collect();
    rows.sort_by(|a, b| b.error_pct().map_or(0.0, f64::abs).total_cmp(&a.error_pct().map_or(0.0, f64::abs)));
    for row in rows.iter().take(10) {
        println!(
            "{} measured {:.4} predicted {:.4} {:+.0} %",
            row.id,
            row.measured,
            row.predicted.unwrap_or(0.0),
            row.error_pct().unwrap_or(0.0)
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let text = std::fs::read_to_string(arguments.next().ok_or("name a file")?)?;
    let catalog = Catalog::builtin();
    print("as in the catalogue", &Energy.validate(catalog, &text)?);
    let calibration = Energy.calibrate(catalog, &text, &|_| ())?;
    for profile in &calibration.profiles {
        println!("## {}", profile.name);
        for moved in &profile.moved {
            println!(
                "{:20} {:>10} -> {:8.4}",
                moved.name,
                moved.before.map_or("-".to_owned(), |v| format!("{v:.4}")),
                moved.after
            );
        }
    }
    print("fitted", &calibration.fitted);
    print("held out", &calibration.held_out);
    for block in ["mlenergy_v3_power", "cap_slowdown"] {
        worst(&calibration.fitted, block);
    }
    if let Some(folder) = arguments.next() {
        for profile in &calibration.profiles {
            std::fs::write(format!("{folder}/{}.toml", profile.name), &profile.toml)?;
        }
    }
    Ok(())
}
