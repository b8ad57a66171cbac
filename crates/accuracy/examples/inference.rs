//! Prints how far the model of serving is from published rows: `inference [fit|held] FILE.csv`.
#![expect(
    clippy::disallowed_methods,
    reason = "an example reads a file and a clock, and writes profiles where it is told to"
)]

use std::collections::BTreeMap;
use std::io::Write;

use dh_accuracy::inference::{Held, Inference, held_out_by};
use dh_accuracy::{Subject, Validation};
use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::hardware::{Accelerator, Format, Machine};
use dh_perf::memory::ServingLayout;
use dh_perf::serving::{Deployment, Load, Profile, steady};
use dh_perf::validation::{Outcome, Summary, summarise};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "validate".to_owned());
    let path = arguments
        .next()
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/published/inference.csv").to_owned());
    let text = std::fs::read_to_string(path)?;
    let catalog = Catalog::builtin();
    let mut out = std::io::stdout().lock();
    let progress = |_: &str| ();
    let start = std::time::Instant::now();
    match what.as_str() {
        "fit" | "fast" => {
            let calibration = Inference.calibrate(catalog, &text, &progress)?;
            writeln!(out, "{:?}", start.elapsed())?;
            for profile in &calibration.profiles {
                writeln!(out, "== {}", profile.name)?;
                for moved in &profile.moved {
                    writeln!(out, "{:16} {:?} -> {:.4e}", moved.name, moved.before, moved.after)?;
                }
                if let Some(folder) = std::env::args().nth(3) {
                    std::fs::write(format!("{folder}/{}.toml", profile.name), &profile.toml)?;
                }
            }
            print(&mut out, "fitted", &calibration.fitted, &text)?;
            summary(&mut out, "held out", &calibration.held_out)?;
        }
        "held" => {
            for held in [Held::ModelOnGeneration, Held::Model, Held::Accelerator, Held::EngineAndModel] {
                let validation = held_out_by(catalog, &text, held, &progress)?;
                summary(&mut out, &format!("held out {held:?}"), &validation)?;
            }
        }
        "rows" => {
            for outcome in Inference.validate(catalog, &text)?.outcomes {
                let predicted = outcome.predicted.unwrap_or(f64::NAN);
                let (id, quantity, note) = (&outcome.id, &outcome.quantity, &outcome.note);
                writeln!(out, "{id},{quantity},{},{predicted:.3},{note}", outcome.measured)?;
            }
        }
        _ => {
            let validation = Inference.validate(catalog, &text)?;
            let rows = validation.outcomes.len();
            writeln!(out, "{rows} outcomes in {:?}", start.elapsed())?;
            writeln!(out, "{:?} for one estimate of DeepSeek-V3 on eight H200", estimate()?)?;
            print(&mut out, "validate", &validation, &text)?;
        }
    }
    Ok(())
}

/// The mean time of an estimate, over 20,000.
fn estimate() -> Result<std::time::Duration, Box<dyn std::error::Error>> {
    let catalog = Catalog::builtin();
    let shape = Architecture::from(catalog.model("deepseek-v3").ok_or("no such model")?);
    let machine = Machine::new(Accelerator::named(catalog, "h200-141gb-sxm")?, None);
    let layout = ServingLayout { tp: 8, tokens_per_pass: 8192, weight_bytes: 1.0, ..ServingLayout::default() };
    let deployment = Deployment {
        shape: &shape,
        layout: &layout,
        attention_replicas: 1,
        products: Format::Fp8,
        dense_bytes: 1.0,
        engine: "sglang",
    };
    let profile = Profile::of(catalog, "h200-141gb-sxm", "sglang");
    let start = std::time::Instant::now();
    for concurrency in (0..20_000).map(|at| 1.0 + f64::from(at % 256)) {
        let load = Load { input: 1024.0, output: 1024.0, concurrency, prefix_hit: 0.0, accepted: 1.0 };
        std::hint::black_box(steady(&deployment, std::hint::black_box(&load), &machine, &profile)?);
    }
    Ok(start.elapsed() / 20_000)
}

fn line(summary: Summary) -> String {
    let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    format!(
        "{:5} rows {:5} answered, median {:>5}, mean {:>5}, p90 {:>5}, bias {:>6}, within {:>5}",
        summary.rows,
        summary.answered,
        figure(summary.median_abs_pct_err),
        figure(summary.mean_abs_pct_err),
        figure(summary.p90_abs_pct_err),
        figure(summary.bias_pct),
        figure(summary.within_80.map(|share| share * 100.0))
    )
}

fn summary(out: &mut dyn Write, title: &str, validation: &Validation) -> std::io::Result<()> {
    for (block, places) in &validation.blocks {
        let rows: Vec<Outcome> = places.iter().map(|place| validation.outcomes[*place].clone()).collect();
        writeln!(out, "{title} {block:10} {}", line(summarise(&rows)))?;
    }
    Ok(())
}

fn print(
    out: &mut dyn Write,
    title: &str,
    validation: &Validation,
    text: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut of_row: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    for row in reader.deserialize::<BTreeMap<String, String>>() {
        let row = row?;
        of_row.insert(row["id"].clone(), row);
    }
    for (block, places) in &validation.blocks {
        let rows: Vec<Outcome> = places.iter().map(|place| validation.outcomes[*place].clone()).collect();
        let cell = |outcome: &Outcome, column: &str| of_row[&outcome.id][column].clone();
        let engine = |outcome: &Outcome| cell(outcome, "engine").split(' ').next().unwrap_or("").to_owned();
        let keys: [&dyn Fn(&Outcome) -> String; 4] = [
            &|outcome| {
                format!(
                    "{} {} {} {}",
                    cell(outcome, "model"),
                    cell(outcome, "accelerator"),
                    engine(outcome),
                    cell(outcome, "precision")
                )
            },
            &|outcome| {
                format!(
                    "tp {:>3} ep {:>3} dp {:>3}",
                    cell(outcome, "tp"),
                    cell(outcome, "ep"),
                    cell(outcome, "attention_dp")
                )
            },
            &|outcome| format!("concurrency {:>5}", cell(outcome, "concurrency_or_batch")),
            &|outcome| format!("{:>6}/{:>6}", cell(outcome, "input_len"), cell(outcome, "output_len")),
        ];
        for key in keys {
            for (name, found) in dh_perf::validation::summarise_by(&rows, |outcome| key(outcome)) {
                if found.rows > 4 {
                    writeln!(out, "  {block} {name:60} {}", line(found))?;
                }
            }
        }
        let mut worst: Vec<&Outcome> = rows.iter().collect();
        worst.sort_by(|a, b| b.factor().unwrap_or(0.0).total_cmp(&a.factor().unwrap_or(0.0)));
        for outcome in worst.iter().take(12) {
            let row = &of_row[&outcome.id];
            let shown: Vec<&str> = [
                "model",
                "accelerator",
                "engine",
                "precision",
                "tp",
                "ep",
                "attention_dp",
                "input_len",
                "output_len",
                "concurrency_or_batch",
                "notes",
            ]
            .iter()
            .map(|column| row[*column].as_str())
            .collect();
            writeln!(
                out,
                "    {:.1} for {:.1}: {} {}",
                outcome.predicted.unwrap_or(0.0),
                outcome.measured,
                outcome.id,
                shown.join(" | ")
            )?;
        }
        let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in rows.iter().filter(|outcome| outcome.predicted.is_none()) {
            *refused.entry(&outcome.note).or_default() += 1;
        }
        writeln!(out, "  refused: {refused:?}")?;
    }
    summary(out, title, validation)?;
    Ok(())
}
