//! The model of training against a file of published runs: `training FILE.csv [fit [DIR]]`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example reads files and prints")]

use dh_accuracy::{Subject, Validation, training::Training};
use dh_blueprint::Catalog;
use dh_perf::validation::{Summary, summarise, summarise_by};

fn line(name: &str, s: &Summary) {
    let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    println!(
        "{name:60} {:3}/{:3} median {:>6} mean {:>6} p90 {:>6} bias {:>7} factor {:>5} within {:>5}",
        s.answered,
        s.rows,
        figure(s.median_abs_pct_err),
        figure(s.mean_abs_pct_err),
        figure(s.p90_abs_pct_err),
        figure(s.bias_pct),
        figure(s.max_factor),
        figure(s.within_80)
    );
}

fn show(title: &str, validation: &Validation) {
    println!("== {title}");
    for (source, summary) in
        summarise_by(&validation.outcomes, |outcome| outcome.source.chars().take(60).collect::<String>())
    {
        line(&source, &summary);
    }
    line("all", &summarise(&validation.outcomes));
    if let Ok(path) = std::env::var("DUMP") {
        let lines: Vec<String> = validation
            .outcomes
            .iter()
            .map(|o| format!("{},{},{}", o.id, o.error_pct().unwrap_or(f64::NAN), o.note))
            .collect();
        std::fs::write(format!("{path}-{}.csv", title.replace(' ', "-")), lines.join("\n"))
            .unwrap_or_else(|error| println!("{path}: {error}"));
    }
    let mut worst: Vec<_> = validation.outcomes.iter().collect();
    worst.sort_by(|a, b| b.factor().unwrap_or(0.0).total_cmp(&a.factor().unwrap_or(0.0)));
    for outcome in worst.into_iter().take(25) {
        println!(
            "  {:22} {:22} {:10.2} {:10.2} {:+7.1} % {}",
            outcome.id,
            outcome.quantity,
            outcome.measured,
            outcome.predicted.unwrap_or(f64::NAN),
            outcome.error_pct().unwrap_or(f64::NAN),
            outcome.note
        );
    }
    for outcome in validation.outcomes.iter().filter(|outcome| outcome.predicted.is_none()) {
        println!("  {} not answered: {}", outcome.id, outcome.note);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let file = arguments.get(1).ok_or("training FILE.csv [fit [DIR]]")?;
    let text = std::fs::read_to_string(file)?;
    let catalog = Catalog::builtin();
    if arguments.get(2).is_none() {
        show("as it ships", &Training.validate(catalog, &text)?);
        return Ok(());
    }
    let calibration = Training.calibrate(catalog, &text, &|step| println!("fitting without {step}"))?;
    for profile in &calibration.profiles {
        for moved in &profile.moved {
            println!("{:40} {:18} {:?} -> {:.4}", profile.name, moved.name, moved.before, moved.after);
        }
        if let Some(folder) = arguments.get(3) {
            std::fs::write(format!("{folder}/{}.toml", profile.name), &profile.toml)?;
        }
    }
    show("fitted", &calibration.fitted);
    show("held out", &calibration.held_out);
    Ok(())
}
