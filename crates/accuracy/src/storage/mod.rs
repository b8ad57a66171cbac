//! Storage: utilisation of accelerators that load data, samples and bytes a second; drives, object stores, checkpoints.
//!
//! Rows of `MLPerf` Storage are predicted from their accelerators, hosts and training, and from how many accelerators the same
//! system was published with; see `emulated.rs`. A source that is held out is a submitter with all its systems. Invariant:
//! nothing measured in a row enters its prediction.

mod calibrate;
mod emulated;
mod other;
mod rows;

use dh_blueprint::Catalog;
use dh_perf::validation::Outcome;
use dh_units::real;

use crate::{Calibration, Error, Subject, Validation};
use emulated::{Predicted, Stopping, Widths, predict};
use rows::{Emulation, Row};

/// Loading of training data, and checkpoints.
#[derive(Debug)]
pub struct Storage;

impl Subject for Storage {
    fn word(&self) -> &'static str {
        "storage"
    }

    fn about(&self) -> &'static str {
        "loading of training data, drives, checkpoints"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let rows = rows::read(csv)?;
        let (stopping, widths) = (Stopping::of(catalog), Widths::of(catalog));
        Ok(validation(&rows, &|_| stopping, &|_| widths))
    }

    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
        calibrate::calibrate(catalog, &rows::read(csv)?, progress)
    }
}

/// What the outcome of a row of `MLPerf` is called after: the submitter is who is held out.
fn source(row: &Row, emulation: &Emulation) -> String {
    format!("{} {}", row.source, emulation.vendor)
}

/// Every row, each submitter by its own numbers.
fn validation(rows: &[Row], stopping: &dyn Fn(&str) -> Stopping, widths: &dyn Fn(&str) -> Widths) -> Validation {
    let mut outcomes = Vec::new();
    let mut blocks: Vec<(&'static str, Vec<usize>)> =
        ["au_points", "samples", "bytes", "other"].into_iter().map(|name| (name, Vec::new())).collect();
    for (at, row) in rows.iter().enumerate() {
        let (block, outcome) = match row.emulation(rows) {
            Some(emulation) => {
                let (stopping, widths) = (stopping(&emulation.vendor), widths(&emulation.vendor));
                let predicted = predict(&emulation, &stopping);
                outcome_of(row, &emulation, predicted, &widths)
            }
            None => ("other", outcome_of_other(row)),
        };
        if let Some((_, places)) = blocks.iter_mut().find(|(name, _)| *name == block) {
            places.push(at);
        }
        outcomes.push(outcome);
    }
    blocks.retain(|(_, places)| !places.is_empty());
    Validation { outcomes, blocks }
}

fn blank(row: &Row, source: String) -> Outcome {
    Outcome {
        id: row.id.clone(),
        source,
        quantity: row.metric.clone(),
        measured: row.value,
        predicted: None,
        low: None,
        high: None,
        note: String::new(),
    }
}

fn outcome_of(
    row: &Row,
    emulation: &Emulation,
    predicted: Option<Predicted>,
    widths: &Widths,
) -> (&'static str, Outcome) {
    let blank = blank(row, source(row, emulation));
    let block = match row.metric.as_str() {
        "accelerator_utilisation" => "au_points",
        "train_throughput" => "samples",
        "train_io" => "bytes",
        _ => "other",
    };
    let Some(predicted) = predicted.filter(|_| block != "other") else {
        return (block, Outcome { note: "not a figure of the benchmark".to_owned(), ..blank });
    };
    if block == "au_points" {
        let points = predicted.utilisation * 100.0;
        let off = points - row.value;
        let within = if off.abs() <= 5.0 { "within" } else { "beyond" };
        let note = format!("{off:+.1} points, {within} 5");
        let (low, high) = (points - widths.au_below, (points + widths.au_above).min(100.0));
        return (block, Outcome { predicted: Some(points), low: Some(low), high: Some(high), note, ..blank });
    }
    let consumer = &emulation.consumer;
    let samples = real(consumer.accelerators) * consumer.batch / consumer.compute.0;
    let in_unit = if block == "bytes" { consumer.sample / 1_048_576.0 } else { 1.0 };
    let value = samples * in_unit * predicted.overall;
    let low = value * (1.0 - widths.samples_below / 100.0);
    // Nothing gets through faster than accelerators alone would take it.
    let high =
        (value * (1.0 + widths.samples_above / 100.0)).min(samples * in_unit * predicted.alone.max(predicted.overall));
    let note = format!("utilisation {:.1} %", predicted.utilisation * 100.0);
    (block, Outcome { predicted: Some(value), low: Some(low), high: Some(high), note, ..blank })
}

fn outcome_of_other(row: &Row) -> Outcome {
    let blank = blank(row, row.source.clone());
    match other::answer(row) {
        Ok((value, factor, note)) => Outcome {
            predicted: Some(value),
            low: Some(value / factor),
            high: Some(value * factor),
            note: format!("{note}; in {}", row.unit),
            ..blank
        },
        Err(why) => Outcome { note: why.to_owned(), ..blank },
    }
}
