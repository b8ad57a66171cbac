//! The first sizing of a training run: how much work, how long, what each step moves, what must fit. Pure; O(1).
//!
//! Textbooks write `C = k D S` (work from data and model size). Here every quantity has its unit: `C` is an amount, FLOP, with
//! `k = 6` for a transformer, `D` in tokens and `S` in parameters; a speed (FLOP/s) only appears when the amount is divided by
//! time, and a bandwidth only when the bytes of a step are divided by the time of a step. See `docs/sizing.md`.
//!
//! This is arithmetic from an assumed utilisation, not a model of kernels: it says what order of hall a run needs.

use dh_units::{Bytes, BytesPerSec, Flop, FlopPerSec, Ledger, Seconds, Tokens, real, whole};

use crate::Error;

/// FLOP for each parameter and token of training: 2 forward, 4 backward. Kaplan et al. 2020 (arXiv 2001.08361), section 2.1.
pub const FLOP_PER_PARAMETER_TOKEN: f64 = 6.0;

/// Bytes of a parameter while it is trained with Adam in mixed precision: 2 weight, 2 gradient, 4 main weight, 8 moments.
/// Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1.
pub const STATE_BYTES_PER_PARAMETER: f64 = 16.0;

/// Bytes of a gradient that is exchanged: bf16.
const GRADIENT_BYTES: f64 = 2.0;

/// Bytes of a stored token: 32-bit indices.
const TOKEN_BYTES: u64 = 4;

/// Part of an accelerator's memory that weights, gradients and optimiser may take; the rest is for activations and buffers.
/// A stated assumption.
const STATE_SHARE: f64 = 0.7;

/// Utilisation to plan with when none is given: the 405B run of Llama 3 reports 38 to 43 % on 8,192 to 16,384 H100.
pub const MFU: f64 = 0.40;
/// Where [`MFU`] is from.
pub const MFU_SOURCE: &str = "default: 0.38 to 0.43 was published for 405B parameters on 8,192 to 16,384 H100 in bf16 (arXiv 2407.21783, table 4)";

/// A training run in numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Parameters that are kept.
    pub parameters: u64,
    /// Parameters that each token passes through; fewer than all in a mixture of experts.
    pub active: u64,
    /// Tokens to learn from.
    pub tokens: Tokens,
    /// Tokens of one optimiser step.
    pub batch: Tokens,
    /// Accelerators.
    pub accelerators: u64,
    /// Peak speed of one in the precision of the products.
    pub peak: FlopPerSec,
    /// Memory of one.
    pub memory: Bytes,
    /// Model FLOP utilisation: the part of the peak that the model's own work gets, above 0 and at most 1.
    pub mfu: f64,
}

/// What the run needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// All work.
    pub work: Flop,
    /// Speed of the hall at the given utilisation.
    pub speed: FlopPerSec,
    /// Time without interruptions.
    pub time: Seconds,
    /// Optimiser steps.
    pub steps: u64,
    /// Time of one step.
    pub step: Seconds,
    /// Weights, gradients and optimiser of the whole model.
    pub state: Bytes,
    /// Accelerators over which one copy of the state must be spread at least.
    pub spread: u64,
    /// Copies of the model: the data-parallel degree.
    pub replicas: u64,
    /// What each accelerator sends in one step to sum the gradients over the copies, by a ring.
    pub exchange: Bytes,
    /// The bandwidth that hides this exchange behind one step's computation.
    pub bandwidth: BytesPerSec,
    /// What all accelerators read of the data set, per second.
    pub reading: BytesPerSec,
}

/// Sizes a run and enters its numbers under `prefix`: `work`, `speed`, `time`, `steps`, `step`, `state`, `spread`, `exchange`,
/// `bandwidth`, `reading`. `inputs` are the ids, already in the ledger, of parameters, active parameters, tokens, batch, accelerators,
/// peak, memory and utilisation, in this order.
/// # Errors
/// [`Error::Impossible`] if a number is zero or not finite, [`Error::DoesNotFit`] if the state does not fit into all accelerators.
pub fn size(run: &Run, prefix: &str, inputs: [&str; 8], ledger: &mut Ledger) -> Result<Size, Error> {
    check(run)?;
    let [_, active, tokens, batch, accelerators, peak, _, mfu] = inputs;
    let id = |name: &str| format!("{prefix}.{name}");
    let (work_id, speed_id, time_id) = (id("work"), id("speed"), id("time"));
    let work = Flop(FLOP_PER_PARAMETER_TOKEN * real(run.active) * run.tokens.as_f64());
    ledger.derived(
        &work_id,
        "work of the training",
        work,
        format!(
            "6 FLOP per parameter and token (arXiv 2001.08361) x {} parameters x {}",
            count(run.active),
            run.tokens
        ),
        &[active, tokens],
    );
    let speed = run.peak * real(run.accelerators) * run.mfu;
    ledger.derived(
        &speed_id,
        "speed of the hall on it",
        speed,
        format!("{} accelerators x {} x MFU {}", run.accelerators, run.peak, run.mfu),
        &[accelerators, peak, mfu],
    );
    let time = work / speed;
    ledger.derived(&time_id, "time without interruptions", time, format!("{work} / {speed}"), &[&work_id, &speed_id]);
    let steps = run.tokens.0.div_ceil(run.batch.0);
    let (steps_id, step_id) = (id("steps"), id("step"));
    ledger.derived(&steps_id, "optimiser steps", steps, format!("{} / {}", run.tokens, run.batch), &[tokens, batch]);
    let step = time / real(steps);
    ledger.derived(&step_id, "time of one step", step, format!("{time} / {steps} steps"), &[&time_id, &steps_id]);
    needs(run, &Paced { work, speed, time, steps, step, copy: None }, prefix, inputs, ledger)
}

/// What a layout of the run and a model of its step say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Time of one step.
    pub step: Seconds,
    /// Tokens of one step, which may differ a little from what was asked.
    pub batch: Tokens,
    /// Work of the model in one step, attention included.
    pub work: Flop,
    /// Accelerators of one copy.
    pub copy: u64,
}

/// As [`size`], with the time of a step known: `PREFIX.step`, and `PREFIX.batch` for its tokens, are in the ledger already.
/// # Errors
/// [`Error::Impossible`] if a number is zero or not finite.
pub fn paced(run: &Run, pace: &Pace, prefix: &str, inputs: [&str; 8], ledger: &mut Ledger) -> Result<Size, Error> {
    check(run)?;
    if pace.batch.0 == 0 || !pace.step.0.is_finite() || pace.step.0 <= 0.0 || pace.copy == 0 {
        return Err(Error::Impossible("a step needs tokens, a time above zero and accelerators"));
    }
    let [_, active, tokens, ..] = inputs;
    let id = |name: &str| format!("{prefix}.{name}");
    let steps = run.tokens.0.div_ceil(pace.batch.0);
    let [steps_id, step_id, time_id, work_id, batch_id] = ["steps", "step", "time", "work", "batch"].map(id);
    let formula = format!("{} / {}", run.tokens, pace.batch);
    ledger.derived(&steps_id, "optimiser steps", steps, formula, &[tokens, &batch_id]);
    let time = pace.step * real(steps);
    let formula = format!("{steps} steps x {}", pace.step);
    ledger.derived(&time_id, "time without interruptions", time, formula, &[&steps_id, &step_id]);
    let work = Flop(pace.work.0 * real(steps));
    let formula = format!("{steps} steps x {} of parameters and attention", pace.work);
    ledger.derived(&work_id, "work of the training", work, formula, &[active, &steps_id]);
    let speed = FlopPerSec(work.0 / time.0);
    let formula = format!("{work} / {time}");
    ledger.derived(&id("speed"), "speed of the hall on it", speed, formula, &[&work_id, &time_id]);
    needs(run, &Paced { work, speed, time, steps, step: pace.step, copy: Some(pace.copy) }, prefix, inputs, ledger)
}

/// How fast a run goes.
struct Paced {
    work: Flop,
    speed: FlopPerSec,
    time: Seconds,
    steps: u64,
    step: Seconds,
    /// Accelerators of one copy, where a layout says.
    copy: Option<u64>,
}

/// State, exchange and reading of a run that goes so fast.
fn needs(run: &Run, paced: &Paced, prefix: &str, inputs: [&str; 8], ledger: &mut Ledger) -> Result<Size, Error> {
    let [parameters, _, _, batch, accelerators, _, memory, _] = inputs;
    let id = |name: &str| format!("{prefix}.{name}");
    let step_id = id("step");
    let Paced { work, speed, time, steps, step, copy } = *paced;
    let state = bytes(STATE_BYTES_PER_PARAMETER * real(run.parameters));
    let (state_id, spread_id) = (id("state"), id("spread"));
    ledger.derived(
        &state_id,
        "weights, gradients and optimiser",
        state,
        format!("16 B per parameter (Adam, mixed precision; arXiv 1910.02054) x {} parameters", count(run.parameters)),
        &[parameters],
    );
    let room = run.memory.as_f64() * STATE_SHARE;
    let spread = copy.unwrap_or_else(|| whole((state.as_f64() / room).ceil()).max(1));
    let title = "accelerators that hold one copy";
    if copy.is_some() {
        ledger.derived(&spread_id, title, spread, "TP x PP of the layout", &[&id("layout")]);
    } else {
        let formula =
            format!("{state} / ({} x {STATE_SHARE} left by activations and buffers, a stated assumption)", run.memory);
        ledger.derived(&spread_id, title, spread, formula, &[&state_id, memory]);
    }
    if spread > run.accelerators {
        return Err(Error::DoesNotFit { needed: spread, available: run.accelerators });
    }
    let replicas = (run.accelerators / spread).max(1);
    let ring = 2.0 * real(replicas - 1) / real(replicas);
    let exchange = bytes(ring * GRADIENT_BYTES * real(run.parameters) / real(spread));
    let exchange_id = id("exchange");
    ledger.derived(
        &exchange_id,
        "gradients each accelerator sends in a step",
        exchange,
        format!(
            "ring over {replicas} copies: 2 x ({replicas} - 1) / {replicas} x 2 B x {} parameters / {spread} accelerators of a copy",
            count(run.parameters)
        ),
        &[parameters, &spread_id, accelerators],
    );
    let bandwidth = exchange / step;
    ledger.derived(
        &id("bandwidth"),
        "network each accelerator needs",
        bandwidth,
        format!("{exchange} in a step / {step} of a step, so that it hides behind the computation"),
        &[&exchange_id, &step_id],
    );
    let reading = Bytes(run.batch.0.saturating_mul(TOKEN_BYTES)) / step;
    ledger.derived(
        &id("reading"),
        "data all accelerators read",
        reading,
        format!("{} of a step x {TOKEN_BYTES} B / {step}", run.batch),
        &[batch, &step_id],
    );
    Ok(Size { work, speed, time, steps, step, state, spread, replicas, exchange, bandwidth, reading })
}

fn check(run: &Run) -> Result<(), Error> {
    let counts = [run.parameters, run.active, run.tokens.0, run.batch.0, run.accelerators, run.memory.0];
    let good = |value: f64| value.is_finite() && value > 0.0;
    if counts.contains(&0) || !good(run.peak.0) || !good(run.mfu) || run.mfu > 1.0 {
        return Err(Error::Impossible(
            "a training run needs parameters, tokens, accelerators with a speed and memory, and a utilisation up to 1",
        ));
    }
    Ok(())
}

/// `405 B`: how people write a number of parameters.
fn count(parameters: u64) -> String {
    Tokens(parameters).to_string().replace(" tokens", "")
}

fn bytes(value: f64) -> Bytes {
    Bytes(whole(value.round()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(run: &Run) -> Result<(Size, Ledger), Error> {
        let mut ledger = Ledger::new();
        let ids = ["n", "a", "t", "b", "g", "p", "m", "u"];
        for id in ids {
            ledger.given(id, id, 1_u64, "test");
        }
        size(run, "run", ids, &mut ledger).map(|size| (size, ledger))
    }

    const LLAMA_405B: Run = Run {
        parameters: 405_000_000_000,
        active: 405_000_000_000,
        tokens: Tokens(15_600_000_000_000),
        batch: Tokens(16_000_000),
        accelerators: 16_384,
        peak: FlopPerSec(989e12),
        memory: Bytes(80_000_000_000),
        mfu: 0.40,
    };

    /// The published run did 3.8e25 FLOP; 405e9 x 16 B = 6.48 TB of state.
    #[test]
    fn the_largest_llama_3_is_as_much_work_as_published() {
        let (size, ledger) = sized(&LLAMA_405B).unwrap();
        assert!((size.work.0 / 3.8e25 - 1.0).abs() < 0.01, "{}", size.work);
        assert_eq!(size.state, Bytes(6_480_000_000_000));
        assert!((size.time.0 / 86_400.0 - 67.7).abs() < 0.2, "{}", size.time);
        assert_eq!(size.steps, 975_000);
        assert_eq!(size.spread, 116);
        assert_eq!(ledger.get("run.work").unwrap().inputs, ["a", "t"]);
    }

    /// The worked example of textbooks: 1,000 chips of 16 cores at 10^12 FLOP/s each are 1.6e16 FLOP/s, a speed; what a run needs
    /// is an amount, and only their ratio is a time.
    #[test]
    fn a_thousand_chips_are_a_speed_and_not_an_amount() {
        let run = Run {
            parameters: 1_000_000_000,
            active: 1_000_000_000,
            tokens: Tokens(20_000_000_000),
            batch: Tokens(1_000_000),
            accelerators: 1_000,
            peak: FlopPerSec(16.0 * 1e12),
            memory: Bytes(32 << 30),
            mfu: 1.0,
        };
        let (size, _) = sized(&run).unwrap();
        assert_eq!(size.speed, FlopPerSec(1.6e16));
        assert!((size.time.0 - 6.0 * 1e9 * 2e10 / 1.6e16).abs() < 1e-6);
    }

    #[test]
    fn what_moves_in_a_step_over_its_time_is_a_bandwidth() {
        let (size, _) = sized(&LLAMA_405B).unwrap();
        assert!((size.bandwidth.0 - size.exchange.as_f64() / size.step.0).abs() < 1.0);
        // Twice the accelerators halve the step and nearly double the bandwidth that hides the exchange.
        let (twice, _) = sized(&Run { accelerators: 2 * LLAMA_405B.accelerators, ..LLAMA_405B }).unwrap();
        assert!((twice.bandwidth.0 / size.bandwidth.0 - 2.0).abs() < 0.05);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(matches!(
            sized(&Run { accelerators: 8, ..LLAMA_405B }),
            Err(Error::DoesNotFit { needed: 116, available: 8 })
        ));
        assert!(matches!(sized(&Run { batch: Tokens(0), ..LLAMA_405B }), Err(Error::Impossible(_))));
        assert!(matches!(sized(&Run { mfu: 1.5, ..LLAMA_405B }), Err(Error::Impossible(_))));
        assert!(matches!(sized(&Run { peak: FlopPerSec(f64::NAN), ..LLAMA_405B }), Err(Error::Impossible(_))));
    }
}
