//! Fits the model of loading again, and prints the profile, what moved, and held-out errors: `cargo run --example storage`.
#![expect(clippy::disallowed_methods, reason = "an example reads the published rows from their file")]

use std::error::Error;
use std::io::Write;

use dh_accuracy::storage::Storage;
use dh_accuracy::{Subject, Validation};
use dh_blueprint::Catalog;
use dh_perf::validation::{Outcome, summarise};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let csv = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/published/storage.csv"))?;
    let calibration = Storage.calibrate(Catalog::builtin(), &csv, &|_| ())?;
    for profile in &calibration.profiles {
        writeln!(out, "{}", profile.toml)?;
    }
    print(&mut out, "fitted", &calibration.fitted)?;
    print(&mut out, "held out", &calibration.held_out)?;
    Ok(())
}

fn print(out: &mut impl Write, title: &str, validation: &Validation) -> Result<(), Box<dyn Error>> {
    writeln!(out, "== {title}")?;
    for (name, places) in &validation.blocks {
        let rows: Vec<Outcome> = places.iter().filter_map(|at| validation.outcomes.get(*at)).cloned().collect();
        writeln!(out, "{name}: {:?}", summarise(&rows))?;
        let within = rows.iter().filter(|row| row.note.contains("within 5")).count();
        writeln!(out, "   within 5 points: {within} of {}", rows.len())?;
        let mut worst = rows;
        worst.sort_by(|a, b| b.error_pct().unwrap_or(0.0).abs().total_cmp(&a.error_pct().unwrap_or(0.0).abs()));
        for row in worst.iter().take(8) {
            writeln!(
                out,
                "   {} {} measured {} predicted {:?} {}",
                row.id, row.source, row.measured, row.predicted, row.note
            )?;
        }
    }
    Ok(())
}
