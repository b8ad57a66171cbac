//! The end of the demo: what was predicted beside what was measured.

use std::time::Duration;

use dh_perf::training::Prediction;
use dh_server::wire::Status;
use dh_units::{Bytes, Seconds};
use serde::Serialize;

use super::hall_process::HallProcess;
use super::serving::Serving;
use super::supply::Supply;
use super::training::{Fault, Training};
use crate::api::Api;
use crate::commands::plan::Report;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

/// Test accuracy of small dense networks on Fashion-MNIST. Source: the benchmark table of the data set's own README
/// (scikit-learn `MLPClassifier`, one hidden layer of 100, relu: 0.871).
const PUBLISHED_ACCURACY: f64 = 0.871;

/// What the demo found.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    schema_version: u32,
    /// Whether the training data is real or made up.
    data: String,
    /// The language model, and whether its weights are made up.
    chat_model: String,
    chat_model_generated: bool,
    rows: Vec<Row>,
    job: String,
    attempts: u32,
    fault: Option<Fault>,
    accuracy_by_epoch: Vec<f64>,
    answer: String,
    answer_tokens: u64,
    finish_reason: String,
    server_peak_bytes: u64,
    store_logical_bytes: u64,
    store_stored_bytes: u64,
    events: u64,
    wall_seconds: f64,
}

/// One figure.
#[derive(Debug, Serialize)]
struct Row {
    figure: String,
    predicted: Option<f64>,
    measured: f64,
    unit: &'static str,
}

impl Outcome {
    pub(super) fn new(
        plan: &Report,
        supply: &Supply,
        training: &Training,
        serving: &Serving,
        hall: &HallProcess,
        api: &Api,
        wall: Duration,
    ) -> Result<Self, Failure> {
        let status: Status = api.get("/v1/status")?;
        let prediction = plan
            .workloads
            .iter()
            .find(|workload| workload.name == training.workload)
            .and_then(|workload| workload.prediction.as_ref());
        let row = |figure: &str, predicted: Option<f64>, measured: f64, unit| Row {
            figure: figure.to_owned(),
            predicted,
            measured,
            unit,
        };
        let blocks = training.cache_hits + training.cache_misses;
        let hit_ratio = real(training.cache_hits) / real(blocks.max(1));
        let predicted_ratio = prediction
            .map(|prediction| prediction.cache_hits.value.as_f64() / prediction.data_read.value.as_f64().max(1.0));
        let streaming = serving.streaming.as_secs_f64().max(1e-9);
        let tokens_per_second = real(serving.answer.completion_tokens.saturating_sub(1)) / streaming;
        Ok(Self {
            schema_version: 1,
            data: supply.dataset.origin.word().to_owned(),
            chat_model: serving.chat_model.clone(),
            chat_model_generated: serving.generated,
            rows: vec![
                row("training time", prediction.map(|p| p.total.0), training.wall.as_secs_f64(), "s"),
                row(
                    "samples per second",
                    prediction.map(|p| overall_rate(plan, training, p)),
                    training.report.samples_per_second,
                    "1/s",
                ),
                row(
                    "bytes read from the store",
                    prediction.map(|p| p.data_read.value.as_f64()),
                    real(training.read_bytes),
                    "B",
                ),
                row("share of it from memory", predicted_ratio, hit_ratio, ""),
                row("test accuracy", (!supply.generated()).then_some(PUBLISHED_ACCURACY), training.accuracy(), ""),
                row("accuracy through the gateway", Some(training.accuracy()), serving.classified_rightly, ""),
                row("time to first token", None, serving.first_piece.as_secs_f64(), "s"),
                row("tokens per second", None, tokens_per_second, "1/s"),
            ],
            job: training.job.to_string(),
            attempts: training.attempts,
            fault: training.fault,
            accuracy_by_epoch: training.report.epochs.iter().map(|epoch| epoch.accuracy).collect(),
            answer: serving.answer.text.clone(),
            answer_tokens: serving.answer.completion_tokens,
            finish_reason: serving.answer.finish_reason.clone(),
            server_peak_bytes: hall.peak_bytes(),
            store_logical_bytes: supply.logical_bytes,
            store_stored_bytes: supply.stored_bytes,
            events: status.events,
            wall_seconds: wall.as_secs_f64(),
        })
    }

    /// The table for people.
    pub(super) fn print(&self) {
        let mut table = Table::new(&[
            ("", Side::Left),
            ("PREDICTED", Side::Right),
            ("MEASURED", Side::Right),
            ("DIFFERENCE", Side::Right),
        ]);
        for row in &self.rows {
            let shown = |value: f64| match row.unit {
                "s" => Seconds(value).to_string(),
                "B" => Bytes(whole(value)).to_string(),
                "1/s" => format!("{value:.0}"),
                _ => format!("{:.1} %", value * 100.0),
            };
            let difference = row.predicted.filter(|predicted| *predicted > 0.0).map_or_else(
                || "-".to_owned(),
                |predicted| format!("{:+.0} %", (row.measured / predicted - 1.0) * 100.0),
            );
            let predicted = row.predicted.map_or_else(|| "-".to_owned(), shown);
            table.row([row.figure.clone(), predicted, shown(row.measured), difference]);
        }
        table.lines().iter().for_each(output::line);
        let marks: Vec<String> = [
            (self.data.contains("generated"), "the data is generated"),
            (self.chat_model_generated, "the language model has made-up weights"),
        ]
        .into_iter()
        .filter(|(made_up, _)| *made_up)
        .map(|(_, words)| words.to_owned())
        .collect();
        if !marks.is_empty() {
            output::line(output::yellow(format!("made up in this run: {}", marks.join("; "))));
        }
        output::line(output::dim(format!(
            "data: {}; server at most {} of memory; {} events in the log; {:.0} s in all",
            self.data,
            Bytes(self.server_peak_bytes),
            self.events,
            self.wall_seconds
        )));
    }
}

/// What to try while the hall is up.
pub(super) fn next_commands(hall: &HallProcess) {
    output::note(format!("\nthe hall `{}` stays up; try, in another terminal:", hall.endpoint.name));
    for command in [
        "datahall chat \"Name three uses of a GPU.\"",
        "datahall status",
        "datahall jobs",
        "datahall why 1",
        "datahall submit --ranks 2 --follow -- sh -c 'echo rank $DH_RANK of $DH_RANKS'",
        "eval \"$(datahall env)\"; aws s3 ls s3://checkpoints --recursive",
        "datahall replay",
    ] {
        output::note(format!("  {command}"));
    }
    output::note(output::dim("(from a clone: `cargo run --release -- COMMAND`)"));
    output::note(format!("data in {}; Ctrl-C stops the hall", hall.data.display()));
}

/// Samples per second as the trainer counts them: evaluations and checkpoints included, lost ranks not.
fn overall_rate(plan: &Report, training: &Training, prediction: &Prediction) -> f64 {
    let samples = plan.workloads.iter().find(|one| one.name == training.workload).map_or(0, |one| one.samples);
    let lost: Seconds = prediction.parts.iter().filter(|part| part.name == "lost ranks").map(|part| part.seconds).sum();
    real(samples) / (prediction.total - lost).0.max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "counts of blocks, bytes and tokens here are far below 2^53")]
const fn real(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of bytes that was a u64 before it was compared as a real number"
)]
const fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
