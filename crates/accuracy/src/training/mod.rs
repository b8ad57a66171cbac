//! Published training runs against the model of a training step.
//!
//! A source's conventions are in `reading` (what a table leaves out) and `quantity` (how it counts operations). What is fitted
//! is in `profiles`: few numbers for any hardware, what matrix products reach of each generation's peaks, and one factor for
//! each software stack.

mod profiles;
mod quantity;
mod reading;
mod row;

use std::fmt::Write as _;

use dh_blueprint::Catalog;
use dh_perf::pretraining::{Profile, Work, step};
use dh_perf::validation::Outcome;

use crate::fit::{self, Problem};
use crate::{Calibration, Error, Subject, Validation};
use reading::Reading;
use row::Row;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Training;

impl Subject for Training {
    fn word(&self) -> &'static str {
        "training"
    }

    fn about(&self) -> &'static str {
        "training steps of transformers on many accelerators"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let outcomes = rows(csv)?.iter().map(|row| outcome(row, catalog)).collect();
        Ok(Validation { outcomes, blocks: Vec::new() })
    }

    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
        let rows = rows(csv)?;
        let problem = profiles::Runs::new(catalog, &rows);
        progress("all sources");
        let values = fit::fit(&problem, &|_| true);
        let fitted = problem.validation(&rows, &values);
        let held = fit::held_out(&problem, progress);
        let held_out = problem.held_out(&rows, &held);
        Ok(Calibration { profiles: problem.files(catalog, &values), fitted, held_out })
    }
}

fn rows(csv: &str) -> Result<Vec<Row>, Error> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    for column in ["id", "source", "model", "accelerator", "n_accel", "measured_metric", "measured_value"] {
        if !reader.headers()?.iter().any(|name| name == column) {
            return Err(Error::Column(column));
        }
    }
    reader.deserialize().map(|row| row.map_err(Error::from)).collect()
}

fn blank(row: &Row) -> Outcome {
    Outcome {
        id: row.id.clone(),
        source: row.source.clone(),
        quantity: row.measured_metric.clone(),
        measured: row.measured_value,
        predicted: None,
        low: None,
        high: None,
        note: String::new(),
    }
}

fn outcome(row: &Row, catalog: &Catalog) -> Outcome {
    let answer = reading::read(row, catalog).and_then(|reading| {
        let profile = Profile::under(catalog, &reading.machine.accelerator.name, row.release());
        answered(row, &reading, &profile)
    });
    answer.unwrap_or_else(|why| Outcome { note: why, ..blank(row) })
}

/// The outcome of a row by `profile`.
fn answered(row: &Row, reading: &Reading, profile: &Profile) -> Result<Outcome, String> {
    let work = Work { shape: &reading.shape, layout: &reading.layout, products: reading.format };
    let step = step(&work, &reading.machine, profile).map_err(|error| error.to_string())?;
    let predicted = quantity::predicted(row, reading, &step)?;
    let factor = step.outside.factor();
    let reasons: Vec<&str> = step.outside.reasons().collect();
    let layout = reading.layout;
    let mut note = format!(
        "TP {} PP {} x {} DP {} CP {} EP {}, {} x {} sequences of {}",
        layout.tp,
        layout.pp,
        layout.vpp,
        layout.dp,
        layout.cp,
        layout.ep,
        layout.micro_batches.unwrap_or(1),
        layout.micro_batch,
        layout.sequence
    );
    let parts = step.parts;
    for (name, part) in [
        ("products", parts.products),
        ("attention", parts.attention),
        ("vector", parts.vector),
        ("recompute", parts.recompute),
        ("TP", parts.tensor),
        ("CP", parts.context),
        ("EP", parts.expert),
        ("PP", parts.pipeline),
        ("DP", parts.data),
        ("bubble", parts.bubble),
        ("optimizer", parts.optimizer),
        ("offload", parts.offload),
        ("host", parts.host),
    ] {
        let share = 100.0 * part.0 / step.time.0;
        if share >= 0.5 {
            // Writing to a string does not fail.
            write!(note, ", {name} {share:.0} %").unwrap_or_default();
        }
    }
    if !reasons.is_empty() {
        note = format!("outside the calibrated range: {}; {note}", reasons.join(", "));
    }
    Ok(Outcome {
        predicted: Some(predicted),
        low: Some(predicted / factor),
        high: Some(predicted * factor),
        note,
        ..blank(row)
    })
}

impl profiles::Runs<'_> {
    fn validation(&self, rows: &[Row], values: &[f64]) -> Validation {
        let outcomes = rows.iter().enumerate().map(|(at, row)| self.outcome(at, row, values)).collect();
        Validation { outcomes, blocks: Vec::new() }
    }

    fn outcome(&self, at: usize, row: &Row, values: &[f64]) -> Outcome {
        let answer = match self.reading(at) {
            Ok(reading) => answered(row, reading, &self.profile(at, values)),
            Err(why) => Err(why.clone()),
        };
        answer.unwrap_or_else(|why| Outcome { note: why, ..blank(row) })
    }

    /// Rows by the logarithms of predicted over measured, with the interval that a stack or accelerator has that only the
    /// row's own source knows.
    fn held_out(&self, rows: &[Row], ratios: &[Option<f64>]) -> Validation {
        let outcomes = rows.iter().enumerate().map(|(at, row)| {
            let Some(ratio) = ratios.get(at).copied().flatten() else {
                return Outcome { note: "not answered".to_owned(), ..blank(row) };
            };
            // A rate falls as the time rises.
            let ratio = if row.measured_metric == "step_time_s" { ratio } else { -ratio };
            let predicted = row.measured_value * ratio.exp();
            let factor = self.factor_without_source(at);
            Outcome {
                predicted: Some(predicted),
                low: Some(predicted / factor),
                high: Some(predicted * factor),
                ..blank(row)
            }
        });
        Validation { outcomes: outcomes.collect(), blocks: Vec::new() }
    }
}

impl Problem for profiles::Runs<'_> {
    fn parameters(&self) -> &[fit::Parameter] {
        self.parameters_of_fit()
    }

    fn rows(&self) -> usize {
        self.len()
    }

    fn source(&self, row: usize) -> &str {
        self.source_of(row)
    }

    fn touches(&self, parameter: usize, row: usize) -> bool {
        self.is_touched(parameter, row)
    }

    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        self.time_ratio(row, values)
    }
}
