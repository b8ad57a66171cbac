//! What the plan says of a layout: for screens, pages and other programs.

use dh_perf::layout::{Layout, Offload, Recompute, Schedule, Sharding};
use dh_perf::search::{Candidate, Tally, degrees};
use dh_units::{Bytes, Joules, Seconds, Usd, Watts};
use serde::Serialize;

/// A way to train: a layout and what it takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// Accelerators.
    pub accelerators: u64,
    /// The layout in words.
    pub layout: String,
    /// The same by degree and option.
    pub degrees: Degrees,
    /// One step.
    #[serde(rename = "step_seconds")]
    pub step: Seconds,
    /// Model FLOP utilisation.
    pub mfu: f64,
    /// The run without interruptions.
    #[serde(rename = "time_seconds")]
    pub time: Seconds,
    /// What its accelerators cost for that time, if their price is known.
    #[serde(rename = "cost_usd")]
    pub cost: Option<Usd>,
    /// What its accelerators draw in that time, if their power is known.
    #[serde(rename = "energy_joules")]
    pub energy: Option<Joules>,
}

/// Degrees and options of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Degrees {
    /// Tensor parallelism.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Parts of the model per stage.
    pub vpp: u64,
    /// Data-parallel replicas.
    pub dp: u64,
    /// Context parallelism.
    pub cp: u64,
    /// Expert parallelism.
    pub ep: u64,
    /// Tensor parallelism inside an expert.
    pub etp: u64,
    /// Sequences of a micro-batch.
    pub micro_batch: u64,
    /// Micro-batches of a step.
    pub micro_batches: u64,
    /// What is computed again.
    pub recompute: &'static str,
    /// What replicas share out.
    pub sharding: &'static str,
    /// Whether norms are split along the sequence.
    pub sequence_parallel: bool,
    /// The order of micro-batches.
    pub schedule: &'static str,
    /// What lives in host memory.
    pub offload: &'static str,
}

impl From<&Layout> for Degrees {
    fn from(layout: &Layout) -> Self {
        let Layout { tp, pp, vpp, dp, cp, ep, etp, micro_batch, sequence_parallel, .. } = *layout;
        Self {
            tp,
            pp,
            vpp,
            dp,
            cp,
            ep,
            etp,
            micro_batch,
            micro_batches: layout.micro_batches.unwrap_or(pp),
            recompute: match layout.recompute {
                Recompute::None => "none",
                Recompute::Selective => "selective",
                Recompute::Operators => "operators",
                Recompute::Full => "full",
            },
            sharding: match layout.sharding {
                Sharding::None => "none",
                Sharding::Optimizer => "optimizer",
                Sharding::Gradients => "gradients",
                Sharding::Weights => "weights",
            },
            sequence_parallel,
            schedule: match layout.schedule {
                Schedule::OneForwardOneBackward => "1f1b",
                Schedule::AllForward => "all-forward",
                Schedule::ZeroBubble => "zero-bubble",
            },
            offload: match layout.offload {
                Offload::None => "none",
                Offload::Optimizer => "optimizer",
                Offload::Everything => "everything",
            },
        }
    }
}

impl From<&Candidate> for Way {
    fn from(candidate: &Candidate) -> Self {
        Self {
            accelerators: candidate.accelerators,
            layout: degrees(&candidate.layout),
            degrees: Degrees::from(&candidate.layout),
            step: candidate.step.time,
            mfu: candidate.step.mfu,
            time: candidate.time,
            cost: candidate.cost,
            energy: candidate.energy,
        }
    }
}

/// A way that lost, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunnerUp {
    /// The way.
    pub way: Way,
    /// What of its step takes longer than the chosen one's.
    pub why: String,
}

/// A part of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepPart {
    /// What it is.
    pub name: &'static str,
    /// How long.
    pub seconds: Seconds,
}

/// What became of the layouts that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Looked {
    /// All of them.
    pub enumerated: u64,
    /// Cannot be.
    pub impossible: u64,
    /// Do not fit.
    pub out_of_memory: u64,
    /// Could not be better than what was found.
    pub bounded: u64,
    /// Were estimated.
    pub evaluated: u64,
}

impl From<Tally> for Looked {
    fn from(tally: Tally) -> Self {
        let Tally { enumerated, impossible, out_of_memory, bounded, evaluated } = tally;
        Self { enumerated, impossible, out_of_memory, bounded, evaluated }
    }
}

/// What the models say of a training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The chosen way.
    pub way: Way,
    /// What it was chosen for: `time`, `cost` or `energy`.
    pub optimise: &'static str,
    /// Four of five measured steps should lie between this and `high`.
    #[serde(rename = "step_low_seconds")]
    pub low: Seconds,
    /// See `low`.
    #[serde(rename = "step_high_seconds")]
    pub high: Seconds,
    /// Why no published run is like this; empty inside the calibrated range.
    pub outside: Vec<&'static str>,
    /// What a step is made of; parts of no time are left out.
    pub parts: Vec<StepPart>,
    /// Tokens a second of all accelerators.
    pub tokens_per_second: f64,
    /// Memory that the fullest accelerator cannot do without.
    #[serde(rename = "memory_needed_bytes")]
    pub needed: Bytes,
    /// Memory of an accelerator.
    #[serde(rename = "memory_bytes")]
    pub memory: Bytes,
    /// What one accelerator draws on average, if it is known.
    #[serde(rename = "power_watts")]
    pub power: Option<Watts>,
    /// Ways that no other beats in time, cost and energy at once: of each number of accelerators the fastest, and where it saves a
    /// hundredth and more, the one that takes the least energy.
    pub front: Vec<Way>,
    /// The next best choices of degrees.
    pub runners_up: Vec<RunnerUp>,
    /// What was looked at.
    pub looked: Looked,
}

/// Of the energy of the fastest way, what another must stay below to be shown beside it.
const WORTH_SHOWING: f64 = 0.99;

/// What of a front people look at.
pub(super) fn shown(front: &[Candidate]) -> Vec<Way> {
    let mut chosen: Vec<&Candidate> = Vec::new();
    for candidate in front {
        // The front is sorted by time, so that the first of a size is its fastest.
        let fastest = front.iter().find(|other| other.accelerators == candidate.accelerators);
        let least = front
            .iter()
            .filter(|other| other.accelerators == candidate.accelerators)
            .reduce(|least, other| if energy(other) < energy(least) { other } else { least });
        let is = |other: Option<&Candidate>| other.is_some_and(|other| std::ptr::eq(other, candidate));
        let saves = fastest.is_some_and(|fastest| energy(candidate) < energy(fastest) * WORTH_SHOWING);
        if is(fastest) || (is(least) && saves) {
            chosen.push(candidate);
        }
    }
    chosen.into_iter().map(Way::from).collect()
}

fn energy(candidate: &Candidate) -> f64 {
    candidate.energy.map_or(0.0, |energy| energy.0)
}
