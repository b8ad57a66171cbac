//! A predicted step in the quantity that a row was measured in, by the row's own convention of counting operations.

use dh_perf::hardware::Format;
use dh_perf::pretraining::{Step, attention_flop_per_token, flop_per_token};

use super::reading::Reading;
use super::row::Row;

/// How a source counts operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// Attention over half of the square, nothing twice.
    Causal,
    /// Attention over the whole square, nothing twice.
    Whole,
    /// The whole square, and the recomputed forward pass as well (Narayanan et al. 2021 equation 3).
    WithRecompute,
}

fn counting(row: &Row) -> Counting {
    if row.says("causal attention FLOPs, no recompute") || row.source.contains("tiering") {
        return Counting::Causal;
    }
    let with_recompute = row.source.contains("cases_april2021")
        || row.source.contains("BLOOM")
        || row.source.contains("BigScience")
        || row.source.contains("OPT");
    if with_recompute { Counting::WithRecompute } else { Counting::Whole }
}

/// `step` in the row's quantity.
/// # Errors
/// If the quantity is not one of a training run.
pub(super) fn predicted(row: &Row, reading: &Reading, step: &Step) -> Result<f64, String> {
    let tokens = step.tokens_per_second(reading.accelerators);
    let sequence = reading.layout.sequence;
    let attention = attention_flop_per_token(&reading.shape, sequence);
    let causal = flop_per_token(&reading.shape, sequence);
    let flop = match counting(row) {
        Counting::Causal => causal,
        Counting::Whole => causal + attention / 2.0,
        Counting::WithRecompute => (causal + attention / 2.0) * 4.0 / 3.0,
    };
    match row.measured_metric.as_str() {
        "step_time_s" => Ok(step.time.0),
        "tokens_per_s_per_accel" => Ok(tokens),
        "tflops_per_accel" => Ok(tokens * flop / 1e12),
        "mfu_pct" => {
            let format = if row.says("against the FP8 peak") { Format::Fp8 } else { Format::Bf16 };
            let peak = reading.machine.accelerator.peak(format).map_or(f64::NAN, |peak| peak.0);
            // The definition of the row does not count what is computed again.
            let once = if counting(row) == Counting::WithRecompute { flop * 0.75 } else { flop };
            Ok(tokens * once / peak * 100.0)
        }
        other => Err(format!("`{other}` is not a quantity of a training run")),
    }
}
