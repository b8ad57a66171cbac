//! A replica with a constant number of requests in flight, or as many as its memory has room for.
//!
//! Each request decodes for `output` steps, and each needs its prompt prefilled once. So with `B` requests in the batch,
//! `B / output` prompts are prefilled for each decode step, and the mean time per token is that of a step plus that share
//! of passes over prompts. Invariant: as `serving`. Sources: Agrawal et al. 2024; Little 1961.

use dh_units::real;

use super::pass::{Engine, Pass, Tokens};
use super::{Deployment, Load, Profile, Steady, Within};
use crate::error::Error;
use crate::hardware::Machine;
use crate::power::Activity;

/// What engines take of memory: vLLM's default is 0.9, `SGLang`'s about 0.88, and TensorRT-LLM's 0.9 of what is free; published
/// runs raise it where a model is tight, so this is a stated assumption between the default and the most that runs.
const USABLE: f64 = 0.95;

/// The passes of a replica with a batch.
pub(super) struct Cycle {
    /// Seconds per token.
    pub(super) tpot: f64,
    /// Seconds until the first token.
    pub(super) ttft: f64,
    /// Answers a second.
    pub(super) rate: f64,
    /// Ideal seconds per second.
    pub(super) activity: Activity,
}

/// Requests that `engine`'s memory has room for, of `tokens` each, over all replicas of attention.
///
/// As [`crate::memory::inference`] counts, but for layers that are not all alike and weights of two widths, and without its loop
/// over layers.
pub(super) fn room(
    deployment: &Deployment<'_>,
    engine: &Engine<'_>,
    machine: &Machine,
    tokens: f64,
) -> Result<f64, Error> {
    let (shape, layout) = (deployment.shape, deployment.layout);
    let memory = machine.accelerator.memory.as_f64();
    let wide = real(shape.mlp.matrices() - 1) * real(shape.ffn) / real(layout.tp.max(1));
    let pass = real(layout.tokens_per_pass) * 2.0 * (2.0 * real(shape.hidden) + wide);
    let free = memory * USABLE - engine.weights() - pass;
    let one = engine.sequence_bytes(tokens);
    if free <= 0.0 {
        return Err(Error::Impossible("the weights do not fit into the accelerators' memory"));
    }
    if one <= 0.0 {
        return Ok(f64::INFINITY);
    }
    let most = free / one * real(deployment.attention_replicas);
    if most < 1.0 {
        Err(Error::Impossible("the cache of one request does not fit beside the weights"))
    } else {
        Ok(most)
    }
}

/// Sequences that decode together when every pass has as many prompt tokens as it may: each answer needs one prompt.
fn fed(deployment: &Deployment<'_>, load: &Load) -> f64 {
    let layout = deployment.layout;
    let passes = real(layout.pp) * real(deployment.attention_replicas) * steps(load);
    (passes * real(layout.tokens_per_pass).max(1.0) / fresh(load)).max(1.0)
}

/// Decode steps of an answer.
fn steps(load: &Load) -> f64 {
    ((load.output - 1.0) / load.accepted.max(1.0)).max(1.0)
}

/// Tokens of a prompt that no cache has.
pub(super) fn fresh(load: &Load) -> f64 {
    (load.input * (1.0 - load.prefix_hit.clamp(0.0, 1.0))).max(1.0)
}

/// What the passes of `load` take with `batch` sequences in flight.
pub(super) fn cycle(engine: &Engine<'_>, deployment: &Deployment<'_>, load: &Load, batch: f64) -> Result<Cycle, Error> {
    let profile = engine.profile;
    let replicas = real(deployment.attention_replicas);
    let stages = real(deployment.layout.pp);
    let accepted = load.accepted.max(1.0);
    let steps = steps(load);
    let context = load.input + load.output / 2.0;
    let fresh = fresh(load);
    let budget = real(deployment.layout.tokens_per_pass).max(1.0);
    let seen = load.input - fresh / 2.0;
    // A step that accepts 1.7 tokens of a sequence has checked two at least: stated assumption, it has checked no more.
    let decoding = Tokens { sequences: batch, checked: accepted.ceil(), context, ..Tokens::default() };
    let step = engine.pass(decoding)?;
    // Prompt tokens that are due in each pass, and in each that has any. A replica of attention has its own prompts; with stages
    // there are as many passes at once, and a step of all sequences takes as long as one pass goes through all stages.
    let due = batch / (replicas * stages * steps) * fresh;
    let carried = due.clamp(fresh.min(budget), budget);
    let often = due / carried;
    let prompts = |tokens: f64, sequences: f64| Tokens {
        sequences,
        checked: accepted.ceil(),
        context,
        prompt: tokens,
        seen,
        prompts: (due * replicas).clamp(tokens, tokens * replicas),
    };
    let with = engine.pass(prompts(carried, batch))?;
    let without = engine.pass(prompts(carried, 0.0))?;
    let mixed = profile.mixed;
    let filling = mixed * with.seconds + (1.0 - mixed) * without.seconds;
    let plain = (1.0 - often * mixed).max(0.0);
    let round = plain * step.seconds + often * filling;
    let tpot = round / accepted;
    // A request's own prefill, in passes of at most the budget.
    let passes = (fresh / budget).ceil();
    let alone = if passes < 1.5 && (carried - fresh).abs() < 0.5 {
        filling
    } else {
        let own = engine.pass(prompts(fresh / passes, batch))?.seconds;
        passes * own
    };
    // What one prompt takes of passes that others are in as well, and of the work of the host. Requests in flight come in bursts:
    // those that started together end together, and then wait for each other's prompts.
    let each = without.seconds * fresh / (carried * replicas * stages) + profile.arrival;
    let wait = profile.burst * (batch - 1.0).max(0.0) * each;
    let ttft = profile.first + wait + 0.5 * step.seconds + alone;
    let rate = batch / (ttft + steps * round);
    let scale = |of: fn(&Activity) -> f64| {
        let pass = |pass: &Pass| of(&pass.ideal);
        ((plain * pass(&step) + often * (mixed * pass(&with) + (1.0 - mixed) * pass(&without))) / round).min(1.0)
    };
    let activity = Activity {
        compute: scale(|ideal| ideal.compute),
        memory: scale(|ideal| ideal.memory),
        links: scale(|ideal| ideal.links),
        busy: scale(|ideal| ideal.busy),
    };
    Ok(Cycle { tpot, ttft, rate, activity })
}

/// One replica of `deployment` under `load`.
/// # Errors
/// [`Error::Work`] if the layout cannot be or the load is no number; [`Error::Impossible`] if the accelerator lacks the format,
/// or the model and one request do not fit.
pub fn steady(deployment: &Deployment<'_>, load: &Load, machine: &Machine, profile: &Profile) -> Result<Steady, Error> {
    check(load)?;
    let engine = Engine::new(deployment, machine, profile)?;
    let most = room(deployment, &engine, machine, load.input + load.output)?;
    // Where each pass is full of prompt tokens no more sequences decode together than these prompts feed.
    let fed = fed(deployment, load);
    let batch = load.concurrency.min(most).min(fed);
    let found = cycle(&engine, deployment, load, batch)?;
    // What the cache has no room for waits until others are done.
    let queued = (load.concurrency - batch).max(0.0) / found.rate;
    let outside = outside(deployment, load, machine);
    let wider = if outside.is_empty() { 1.0 } else { 1.4 };
    Ok(Steady {
        ttft: Within::factor(found.ttft + queued, profile.ttft_spread * wider),
        tpot: Within::factor(found.tpot, profile.tpot_spread * wider),
        output_per_second: found.rate * load.output,
        rate_spread: profile.rate_spread * wider,
        batch,
        most,
        outside,
        activity: found.activity,
    })
}

/// The same with as many requests in flight as memory has room for, at most `load.concurrency`: the most tokens a second.
/// # Errors
/// As [`steady`].
pub fn saturated(
    deployment: &Deployment<'_>,
    load: &Load,
    machine: &Machine,
    profile: &Profile,
) -> Result<Steady, Error> {
    check(load)?;
    let engine = Engine::new(deployment, machine, profile)?;
    // A sequence holds on average what it has reached, so that paging leaves room for more than all at their full length.
    let most = room(deployment, &engine, machine, load.input + load.output / 2.0)?;
    steady(deployment, &Load { concurrency: load.concurrency.min(most), ..*load }, machine, profile)
}

pub(super) fn check(load: &Load) -> Result<(), Error> {
    let figures = [
        ("input", load.input, 1.0),
        ("output", load.output, 1.0),
        ("concurrency", load.concurrency, 0.0),
        ("prefix_hit", load.prefix_hit, 0.0),
        ("accepted", load.accepted, 0.0),
    ];
    for (figure, value, least) in figures {
        if !(value.is_finite() && value >= least) {
            return Err(Error::Work { figure, value, expected: "a number that is not below its least" });
        }
    }
    if load.concurrency > 0.0 {
        Ok(())
    } else {
        Err(Error::Work { figure: "concurrency", value: load.concurrency, expected: "a number above 0" })
    }
}

/// Generations of which published runs were fitted.
const CALIBRATED: [&str; 4] = ["hopper", "blackwell", "blackwell-pcie", "cdna3"];
/// The most that published runs have: requests in flight for each replica of attention, tokens of a prompt, stages.
const MOST_IN_FLIGHT: f64 = 2048.0;
const MOST_INPUT: f64 = 20_000.0;
const MOST_STAGES: u64 = 4;

/// Why no published run is like this.
pub(super) fn outside(deployment: &Deployment<'_>, load: &Load, machine: &Machine) -> Vec<&'static str> {
    let reasons = [
        (
            !CALIBRATED.contains(&super::generation(&machine.accelerator.name)),
            "accelerators of a generation that no published run of serving has",
        ),
        (super::family(deployment.engine).is_empty(), "an engine that is none of vLLM, SGLang and TensorRT-LLM"),
        (load.concurrency > MOST_IN_FLIGHT * real(deployment.attention_replicas), "more than 2048 requests in flight"),
        (load.input > MOST_INPUT, "prompts of more than 20,000 tokens"),
        (load.prefix_hit > 0.0, "prompts that are cached in part"),
        (deployment.layout.pp > MOST_STAGES, "more than 4 stages"),
    ];
    reasons.into_iter().filter(|(is, _)| *is).map(|(_, why)| why).collect()
}
