//! From what a job does in a second to how busy it keeps an accelerator.
//!
//! Invariant: shares are of the data sheet's figures, averaged over time; a phase that waits for the host counts as rest.

use dh_units::{Bytes, Flop, Seconds, real};

use super::Profile;
use super::bend;
use crate::hardware::{Accelerator, Format};

/// How busy an accelerator is, as shares of what its data sheet says, averaged over time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Activity {
    /// Floating point operations that are switched, useful or not, over the peak of the format they are done in.
    pub compute: f64,
    /// Bytes to and from its own memory over its bandwidth.
    pub memory: f64,
    /// Bytes to its peers over the bandwidth of its links.
    pub links: f64,
    /// Share of time in which any kernel runs.
    pub busy: f64,
}

impl Activity {
    /// Of a job that is matrix products throughout, `compute` of the peak of its format: training, prefill, denoising.
    /// It keeps an accelerator busy to the share of time that products take at the rate they reach.
    pub fn of_products(compute: f64, profile: &Profile) -> Self {
        Self { compute, busy: bend(compute / profile.matrix_rate, OVERLAP), ..Self::default() }
    }

    /// While prompts are read, by a server that is never without one.
    pub fn prefill(profile: &Profile) -> Self {
        Self { compute: profile.prefill_compute, busy: 1.0, ..Self::default() }
    }

    /// While pictures are made ready for the model, much of it on the host.
    pub fn preprocessing(profile: &Profile) -> Self {
        Self { busy: profile.preprocessing_busy, ..Self::default() }
    }

    /// This for `share` of the time and `other` for the rest.
    #[must_use]
    pub fn mixed(self, share: f64, other: Self) -> Self {
        let share = share.clamp(0.0, 1.0);
        let mix = |one: f64, two: f64| share * one + (1.0 - share) * two;
        Self {
            compute: mix(self.compute, other.compute),
            memory: mix(self.memory, other.memory),
            links: mix(self.links, other.links),
            busy: mix(self.busy, other.busy),
        }
    }
}

/// How softly the parts of a step add up to all of it: kernels of several kinds overlap a little. Stated assumption.
const OVERLAP: f64 = 4.0;

/// Steps that give each of a batch of sequences one token, on one of several accelerators that share the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoding {
    /// How many share it.
    pub accelerators: u32,
    /// Layers of the model.
    pub layers: u64,
    /// Time of a step, waiting included.
    pub step: Seconds,
    /// Weights that every token meets, read in a step by one accelerator.
    pub dense: Bytes,
    /// Weights of the experts that a step touches, read by one accelerator.
    pub experts: Bytes,
    /// Keys, values and states read and written in a step by one accelerator.
    pub cache: Bytes,
    /// Operations of a step that the model needs, on one accelerator.
    pub flop: Flop,
    /// The format of products.
    pub format: Format,
    /// Tokens of a step that an accelerator's experts get on average; 0 where there are no experts to share.
    pub routed: f64,
    /// Share of its experts that are kept in 8 bits: their products rescale block by block in vector units.
    pub rescaled: f64,
}

impl Decoding {
    /// What it keeps busy of `accelerator`.
    pub fn activity(&self, accelerator: &Accelerator, profile: &Profile) -> Activity {
        let step = self.step.0.max(1e-9);
        let seconds = |bytes: Bytes| (bytes / accelerator.bandwidth).0;
        let (dense, experts, cache) = (seconds(self.dense), seconds(self.experts), seconds(self.cache));
        let peak = accelerator.peak(self.format).or_else(|| accelerator.peak(Format::Bf16));
        let products = peak.map_or(0.0, |peak| (self.flop / peak).0);
        let exchange = if self.accelerators > 1 { profile.exchange_us } else { 0.0 };
        let launches = real(self.layers) * (profile.layer_us + exchange) * 1e-6;
        let running = (dense + cache) / profile.dense_bandwidth
            + experts / profile.expert_bandwidth
            + products / profile.matrix_rate
            + launches;
        let busy = bend(running / step, OVERLAP) * self.balance();
        Activity {
            compute: profile.token_work * products / step + profile.rescaling * self.rescaled.clamp(0.0, 1.0) * busy,
            memory: (dense + experts + cache) / step,
            links: 0.0,
            busy,
        }
    }

    /// The mean load of accelerators over that of the busiest, for which the others wait: experts are drawn by chance, so
    /// that the largest of `n` loads of mean `m` lies `sqrt(2 m ln n)` above it (maximum of normal variables).
    fn balance(&self) -> f64 {
        if self.routed > 0.0 && self.accelerators > 1 {
            1.0 / (1.0 + (2.0 * f64::from(self.accelerators).ln() / self.routed).sqrt())
        } else {
            1.0
        }
    }
}
