//! A batch that starts together and ends together: the way engines were measured before continuous batching.
//!
//! Invariant: all prompts are prefilled first, then all answers are decoded.

use dh_units::Seconds;

use super::pass::{Engine, Tokens};
use super::steady::{check, room};
use super::{Deployment, Load, Profile};
use crate::error::Error;
use crate::hardware::Machine;

/// One static batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StaticBatch {
    /// Until all have their first token.
    pub ttft: Seconds,
    /// Of each further step.
    pub tpot: Seconds,
    /// Generated tokens a second.
    pub output_per_second: f64,
}

/// The batch of `load.concurrency` requests, none of which waits for another.
/// # Errors
/// As [`super::steady`]; [`Error::Impossible`] too if memory has no room for all of them.
pub fn static_batch(
    deployment: &Deployment<'_>,
    load: &Load,
    machine: &Machine,
    profile: &Profile,
) -> Result<StaticBatch, Error> {
    check(load)?;
    let engine = Engine::new(deployment, machine, profile)?;
    let most = room(deployment, &engine, machine, load.input + load.output)?;
    let batch = load.concurrency;
    if batch > most * 1.1 {
        return Err(Error::Impossible("the cache of the batch does not fit beside the weights"));
    }
    let replicas = dh_units::real(deployment.attention_replicas);
    let tokens = batch * load.input * (1.0 - load.prefix_hit.clamp(0.0, 1.0));
    let prompt = (tokens / replicas).max(1.0);
    let prefill = Tokens { prompt, prompts: tokens.max(prompt), seen: load.input / 2.0, ..Tokens::default() };
    let ttft = engine.pass(prefill)?.seconds;
    let context = load.input + load.output / 2.0;
    let tpot = engine.pass(Tokens { sequences: batch, context, ..Tokens::default() })?.seconds / load.accepted.max(1.0);
    let all = ttft + (load.output - 1.0).max(0.0) * tpot;
    Ok(StaticBatch { ttft: Seconds(ttft), tpot: Seconds(tpot), output_per_second: batch * load.output / all })
}
