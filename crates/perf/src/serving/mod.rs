//! How fast a model is served: time to the first token, time per further token, tokens a second.
//!
//! A pass of the model is a sum of rooflines (`pass`); an engine that batches continuously puts prefill and decode passes in
//! one line, and a closed load of so many requests in flight decides how often each comes (`steady`). Invariant: pure, no loop
//! over layers; more bandwidth is never slower, and a longer prompt never answers sooner. Sources: Yu et al. 2022 (Orca,
//! continuous batching); Agrawal et al. 2024 (Sarathi, prompts in chunks); Kwon et al. 2023 (paged cache); Zhong et al. 2024
//! (`DistServe`, prefill and decode apart).

mod disaggregated;
mod pass;
mod profile;
mod sizing;
mod static_batch;
mod steady;
#[cfg(test)]
mod tests;
mod work;

use dh_units::Seconds;

use crate::architecture::Architecture;
use crate::hardware::Format;
use crate::memory::ServingLayout;
use crate::power::Activity;

pub use disaggregated::{Disaggregated, disaggregated};
pub use profile::{Number, Profile, family, generation};
pub use sizing::{Demand, Sizing, replicas_for};
pub use static_batch::{StaticBatch, static_batch};
pub use steady::{saturated, steady};

/// A model on some accelerators: one replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deployment<'a> {
    /// The model.
    pub shape: &'a Architecture,
    /// How it is laid out, and the bytes of weights and cache.
    pub layout: &'a ServingLayout,
    /// Replicas of attention that share experts: each has its own sequences. 1 is none.
    pub attention_replicas: u64,
    /// The format of matrix products.
    pub products: Format,
    /// Bytes of a weight outside of routed experts, which many checkpoints keep wider; products with weights of 2 bytes are
    /// of 16 bits. That of `layout` where all are alike.
    pub dense_bytes: f64,
    /// The engine and its version, as profiles name it; empty is any.
    pub engine: &'a str,
}

/// What is asked of one replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Tokens of a prompt.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Requests in flight.
    pub concurrency: f64,
    /// Share of a prompt's tokens whose keys and values are cached from before.
    pub prefix_hit: f64,
    /// Tokens accepted per step of speculative decoding; 1 without it.
    pub accepted: f64,
}

/// A time, and the interval that four of five measurements should lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    /// The time.
    pub value: Seconds,
    /// The low end.
    pub low: Seconds,
    /// The high end.
    pub high: Seconds,
}

impl Within {
    /// `seconds`, and the interval of a factor around it.
    pub(crate) fn factor(seconds: f64, factor: f64) -> Self {
        Self { value: Seconds(seconds), low: Seconds(seconds / factor), high: Seconds(seconds * factor) }
    }
}

/// One replica under steady load.
#[derive(Debug, Clone, PartialEq)]
pub struct Steady {
    /// Until the first token.
    pub ttft: Within,
    /// Of each further token.
    pub tpot: Within,
    /// Generated tokens a second of the replica.
    pub output_per_second: f64,
    /// The factor within which four of five measured rates lie.
    pub rate_spread: f64,
    /// Requests that are decoded together.
    pub batch: f64,
    /// Requests that its cache has room for; infinite without one.
    pub most: f64,
    /// Why no published run is like this; empty inside the calibrated range.
    pub outside: Vec<&'static str>,
    /// How busy an accelerator is.
    pub activity: Activity,
}
