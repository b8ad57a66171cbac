//! The memory model against published figures, row by row.
//!
//! A row is what its file says, empty cells included; the caller reads the file and looks up the model's shape. Invariant: a
//! row whose layout was not published is answered from its source's defaults or refused; every default is in `reading` and
//! `tuned`, by source, widens the interval, and is a stated assumption where no public file of the source says it.

mod reading;
mod tuned;

use dh_units::{Bytes, real, whole};
use serde::Deserialize;

use super::states::{Held, states};
use super::training::layers_alone;
use super::{Fit, Memory, Overheads, StageMemory, training, tuning};
use crate::architecture::Architecture;
use crate::layout::{Layout, Offload, Sharding};
use crate::validation::Outcome;

/// Bytes of a GiB, the unit of device memory.
const GIB: f64 = 1_073_741_824.0;
/// Measured over predicted: the 10th and the 90th percentile of the 162 recorded peaks whose layout is published.
const PEAK_INTERVAL: (f64, f64) = (0.92, 1.13);
/// The same of the 31 rows where a default of the source stands for what was not published, widened: so few rows.
const ASSUMED_INTERVAL: (f64, f64) = (0.80, 1.25);
/// The same of the 97 runs of fine-tuning, widened: one source has 85 of them, and the other's lie further off.
const TUNING_INTERVAL: (f64, f64) = (0.88, 1.15);
/// What a process takes of a device before any tensor: the driver's context. From memory: 0.4 to 0.6 GB on CUDA 12.
const CONTEXT: f64 = 0.5e9;
/// The same of states and kept activations, which are counted and not estimated.
const COUNT_INTERVAL: (f64, f64) = (0.95, 1.05);

/// A row of a file of published memory figures; names are those of the columns.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Row {
    /// The row's name.
    pub id: String,
    /// Where it was published.
    pub source: String,
    /// The model's name.
    pub model: String,
    /// The accelerator's name.
    pub accelerator: String,
    /// The accelerator's memory, in GiB.
    pub memory_gb: Option<f64>,
    /// Accelerators.
    pub n_accel: Option<u64>,
    /// Tensor parallelism.
    pub tp: Option<u64>,
    /// Pipeline stages.
    pub pp: Option<u64>,
    /// Data-parallel replicas.
    pub dp: Option<u64>,
    /// Context parallelism.
    pub cp: Option<u64>,
    /// Expert parallelism.
    pub ep: Option<u64>,
    /// `0` to `3`, `fsdp`, or empty.
    pub zero: String,
    /// Sequences per micro-batch.
    pub micro_batch: Option<u64>,
    /// Tokens of a sequence.
    pub seq_len: Option<u64>,
    /// `none`, `selective`, `full`, or empty.
    pub recompute: String,
    /// 0, 1, or empty.
    pub sequence_parallel: Option<u64>,
    /// The precision's name.
    pub precision: String,
    /// `weights_optimizer_gb`, `activations_gb`, `peak_gb`, `oom` or `fits`.
    pub quantity: String,
    /// The published value: GB or GiB as the notes say; 1 for `oom` and `fits`.
    pub value: f64,
    /// Remarks, which name the unit and what the columns have no place for.
    pub notes: String,
}

/// Why there is no prediction.
type Refusal = String;

/// What the model says of `row`, for the shape that the caller found under the row's model name.
///
/// `oom` and `fits` are predicted as 1 where the model agrees and 0 where not. The note says what the prediction rests on, or
/// why there is none.
pub fn outcome(row: &Row, shape: Option<&Architecture>) -> Outcome {
    let base = Outcome {
        id: row.id.clone(),
        source: row.source.clone(),
        quantity: row.quantity.clone(),
        measured: row.value,
        predicted: None,
        low: None,
        high: None,
        note: String::new(),
    };
    let answered = |predicted: f64, interval: Option<(f64, f64)>, note: String| Outcome {
        predicted: Some(predicted),
        low: interval.map(|(low, _)| predicted * low),
        high: interval.map(|(_, high)| predicted * high),
        note,
        ..base.clone()
    };
    let unit = if row.notes.contains("decimal GB") || row.notes.starts_with("GB") || row.source.contains("litgpt") {
        1e9
    } else {
        GIB
    };
    let result = match row.quantity.as_str() {
        "weights_optimizer_gb" => {
            of_states(row, shape).map(|(bytes, note)| answered(bytes.as_f64() / unit, Some(COUNT_INTERVAL), note))
        }
        "activations_gb" => peak(row, shape)
            .map(|answer| answered(answer.printed.activations.as_f64() / unit, Some(COUNT_INTERVAL), answer.note)),
        "peak_gb" => peak(row, shape).map(|answer| {
            let stage = answer.printed;
            let note = format!(
                "{}; weights {} + gradients {} + optimiser {} + activations {} + buffers {}",
                answer.note, stage.weights, stage.gradients, stage.optimizer, stage.activations, stage.buffers
            );
            answered(stage.total().as_f64() / unit, Some(answer.interval), note)
        }),
        "oom" => verdict(row, shape).map(|(fit, note)| answered(if fit.fits() { 0.0 } else { 1.0 }, None, note)),
        "fits" => verdict(row, shape).map(|(fit, note)| answered(if fit.fits() { 1.0 } else { 0.0 }, None, note)),
        other => Err(format!("`{other}` is not a quantity of the memory model")),
    };
    result.unwrap_or_else(|refusal| Outcome { note: refusal, ..base })
}

/// Whether the run of `row` fits into the accelerator's memory, and what that rests on.
/// # Errors
/// Why it cannot be said.
pub fn verdict(row: &Row, shape: Option<&Architecture>) -> Result<(Fit, String), String> {
    let capacity = row
        .memory_gb
        .or_else(|| reading::capacity_in(&row.notes))
        .ok_or("the accelerator's memory is not published")?;
    // What the driver shows of a card of 24 and of 40 GB, from memory: 23,028 and 40,536 MiB.
    let capacity = match row.accelerator.as_str() {
        "A10G" => 22.49,
        "A100-40GB" => 39.59,
        _ => capacity,
    };
    let capacity = Bytes(whole(capacity * GIB));
    match peak(row, shape) {
        Ok(answer) => {
            let needed = answer.memory.needed;
            Ok((answer.memory.fits(capacity), format!("{}; needs {needed} of {capacity}", answer.note)))
        }
        Err(refusal) => {
            let least = least(row, shape).ok_or_else(|| refusal.clone())?;
            // What is certain can overflow; that it does not says nothing.
            let fit = Fit::of(least, capacity);
            if fit.fits() && row.quantity != "fits" {
                Err(refusal)
            } else {
                Ok((fit, format!("states alone; {refusal}")))
            }
        }
    }
}

/// A prediction of a run's memory.
struct Answer {
    memory: Memory,
    /// The stage that was printed.
    printed: StageMemory,
    /// What it rests on.
    note: String,
    /// Measured over predicted.
    interval: (f64, f64),
}

fn peak(row: &Row, shape: Option<&Architecture>) -> Result<Answer, Refusal> {
    if let Some(tuned) = tuned::read(row, shape) {
        let (shape, run, note) = tuned?;
        let printed = tuning(&shape, &run, NONE);
        let needed = Bytes(whole(printed.total().as_f64() + CONTEXT));
        let memory = Memory { fullest: 0, peak: printed, stages: vec![printed], needed };
        return Ok(Answer { memory, printed, note, interval: TUNING_INTERVAL });
    }
    let reading = reading::read(row, shape)?;
    let memory = training(&reading.shape, &reading.layout, reading.overheads).map_err(|error| error.to_string())?;
    let printed = reading.stage.and_then(|stage| memory.stages.get(stage)).copied().unwrap_or(memory.peak);
    let interval = if reading.assumed { ASSUMED_INTERVAL } else { PEAK_INTERVAL };
    Ok(Answer { memory, printed, note: reading.note, interval })
}

/// States of a row: from the printed number of parameters where there is one, as estimators do, else from the shape.
fn of_states(row: &Row, shape: Option<&Architecture>) -> Result<(Bytes, String), Refusal> {
    if let Some(parameters) = reading::parameters_in(&row.notes) {
        let layout = reading::states_only(row)?;
        let held =
            Held { dense: parameters, expert: 0.0, largest_unit: reading::largest_layer_in(&row.notes).unwrap_or(0.0) };
        let states = states(held, &layout);
        let bytes = states.weights + states.gradients + states.optimizer + states.gathered;
        return Ok((Bytes(whole(bytes)), "from the printed number of parameters".to_owned()));
    }
    let reading = reading::read(row, shape)?;
    let bytes = layers_alone(&reading.shape, &reading.layout).map_err(|error| error.to_string())?;
    Ok((bytes, "a stage that holds layers alone, where there is one; as the study's figure counts".to_owned()))
}

/// What a run certainly needs, with everything that was not published at its least: the weights as they are stored.
///
/// `None` where how they are divided was not published either, or where the shape is not that of a plain transformer.
fn least(row: &Row, shape: Option<&Architecture>) -> Option<Bytes> {
    let whole_run = row.source.contains("Megatron") && row.notes.contains("full fine-tuning") && row.dp == Some(1);
    let bytes = if row.precision.starts_with("bnb") || row.notes.contains("qlora") {
        0.5
    } else if whole_run {
        // All parameters are trained in mixed precision and there is no replica to share out to.
        16.0
    } else {
        2.0
    };
    let printed = reading::parameters_in(&row.notes).filter(|_| row.quantity == "fits");
    let parameters = if let Some(printed) = printed { printed } else { on_one(row, shape?)? };
    Some(Bytes(whole(parameters * bytes)))
}

/// Parameters on one accelerator, divided as far as the row says.
fn on_one(row: &Row, shape: &Architecture) -> Option<f64> {
    let split = real(row.tp?.max(1)) * real(row.pp?.max(1));
    let experts: f64 = (0..shape.layers).map(|index| shape.expert_parameters(index)).sum();
    let sharded = match row.zero.as_str() {
        "3" | "fsdp" => real(row.n_accel?.max(1)) / split,
        _ => 1.0,
    };
    let dealt = real(row.ep.unwrap_or(1).max(1));
    Some(((shape.parameters() - experts) / sharded + experts / sharded.max(dealt)) / split)
}

/// A model's name as it is compared: letters and digits, small. `Llama 2 7 B` and `LLAMA2-7B` are one model.
pub fn model_key(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// No memory but the model's own, for figures of single parts.
const NONE: Overheads = Overheads::ALLOCATED;

/// A layout that only has states.
fn sharded(dp: u64, sharding: Sharding, offload: Offload) -> Layout {
    Layout { dp, sharding, offload, ..Layout::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::{gpt, llama_8b};

    fn row(notes: &str, quantity: &str) -> Row {
        Row {
            source: "arxiv 1910.02054".to_owned(),
            dp: Some(64),
            tp: Some(1),
            pp: Some(1),
            zero: "2".to_owned(),
            quantity: quantity.to_owned(),
            value: 16.6,
            notes: notes.to_owned(),
            ..Row::default()
        }
    }

    #[test]
    fn the_sharding_paper_is_answered_from_its_parameters() {
        let answer = outcome(&row("7.5B parameters; model states only; decimal GB", "weights_optimizer_gb"), None);
        assert!((answer.predicted.unwrap() - 16.64).abs() < 0.01, "{answer:?}");
        assert_eq!(answer.within(), Some(true));
    }

    #[test]
    fn what_was_not_published_is_refused_with_the_reason() {
        let answer = outcome(
            &Row { micro_batch: Some(1), source: "pytorch/torchtitan:x".to_owned(), ..row("", "peak_gb") },
            Some(&llama_8b()),
        );
        assert_eq!(answer.predicted, None);
        assert!(answer.note.contains("sequence"), "{}", answer.note);
        let answer = outcome(&row("", "peak_gb"), None);
        assert!(answer.note.contains("shape"), "{}", answer.note);
        assert!(outcome(&row("", "latency"), None).note.contains("`latency`"));
    }

    #[test]
    fn weights_larger_than_the_memory_overflow_without_a_layout() {
        let large = gpt(96, 12_288, 96);
        let oom = Row { memory_gb: Some(80.0), zero: String::new(), ..row("lora fine-tuning", "oom") };
        let answer = outcome(&oom, Some(&large));
        assert_eq!(answer.predicted, Some(1.0));
        assert_eq!(outcome(&Row { memory_gb: Some(400.0), ..oom }, Some(&large)).predicted, None);
    }
}
