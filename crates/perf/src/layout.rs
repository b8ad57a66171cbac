//! How a model is laid out over accelerators: the degrees of each parallelism, what is sharded, kept, recomputed, offloaded.
//!
//! Invariant: a checked layout has no zero degree and cuts nothing smaller than it is. Sources: Narayanan et al. 2021
//! (pipelines), Rajbhandari et al. 2020 (`ZeRO`), Korthikanti et al. 2022 (sequence parallelism, recomputation).

use dh_units::real;

use crate::architecture::Architecture;
use crate::error::Error;

/// Layers of the largest model that is computed, so that no blueprint's slip takes hours; the deepest published has 126.
pub const LAYERS_MAX: u64 = 10_000;

/// What data-parallel replicas share out instead of each keeping a copy (`ZeRO` stages 0 to 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharding {
    /// Nothing.
    None,
    /// Optimiser states (stage 1; Megatron's distributed optimiser).
    Optimizer,
    /// And gradients (stage 2).
    Gradients,
    /// And weights (stage 3; fully sharded data parallelism).
    Weights,
}

/// Which weights learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// All.
    All,
    /// Small matrices beside frozen ones (low-rank adaptation): frozen weights have no gradients.
    Adapters,
}

/// What the forward pass throws away and the backward pass computes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    None,
    /// Scores, softmax and its dropout (Korthikanti et al. 2022 section 5).
    Selective,
    /// All but attention's output and the output of every second matrix product (torchtitan's selective checkpointing by
    /// operator).
    Operators,
    /// All but each layer's input.
    Full,
}

/// Modules whose outputs are thrown away and computed again one by one, besides [`Recompute`]: Megatron-Core's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Released(u8);

impl Released {
    /// None.
    pub const NOTHING: Self = Self(0);
    /// What norms hand on to the next product.
    pub const NORMS: Self = Self(1);
    /// Queries, keys and values of latent attention, which its up-projections give.
    pub const UP_PROJECTIONS: Self = Self(2);
    /// What experts' activation functions hand on.
    pub const ACTIVATIONS: Self = Self(4);
    /// All of the block of experts but its input.
    pub const EXPERTS: Self = Self(8);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `module` is thrown away.
    pub const fn has(self, module: Self) -> bool {
        self.0 & module.0 == module.0
    }
}

/// Which of the model's states live in host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// None.
    None,
    /// The optimiser's, and gradients as soon as they are reduced.
    Optimizer,
    /// All; what remains on the accelerator is the layer at work.
    Everything,
}

/// The order of micro-batches in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// One forward, one backward; interleaved where `vpp` is above 1.
    OneForwardOneBackward,
    /// All forwards, then all backwards: every micro-batch is in flight.
    AllForward,
    /// One forward, one backward, the gradients of weights put off to fill the bubble (ZB-H1 of Qi et al. 2023): as many
    /// micro-batches in flight as in the plain pipeline. Not interleaved.
    ZeroBubble,
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionKernel {
    /// By matrix products and a softmax that write their scores to memory.
    Unfused,
    /// Tile by tile, without the scores ever in memory (Dao et al. 2022).
    Flash,
}

/// How the loss is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// From the logits of all tokens at once, operation by operation: half precision, a single-precision copy, its
    /// log-softmax and the gradient of that: 14 bytes a logit.
    Whole,
    /// From the logits of all tokens at once, in one kernel that overwrites its input: 10 bytes a logit.
    Fused,
    /// From the logits of a few tokens at a time.
    Chunked,
}

/// Bytes of each state of a parameter, and of a stored activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Precision {
    /// Of a resident weight.
    pub weight: f64,
    /// Of a weight gathered from its shards for use.
    pub gathered: f64,
    /// Of a gradient.
    pub gradient: f64,
    /// Of master weight and moments, and of what else the optimiser keeps.
    pub optimizer: f64,
    /// Of an element that a matrix product reads and that is kept for its backward pass.
    pub product_input: f64,
}

impl Precision {
    /// Half-precision weights and gradients, single-precision master and two moments: 16 bytes (`ZeRO` section 3.1, K = 12).
    pub const MIXED: Self = Self { weight: 2.0, gathered: 2.0, gradient: 2.0, optimizer: 12.0, product_input: 2.0 };
    /// Megatron-LM: gradients are accumulated in single precision: 18 bytes (Korthikanti et al. 2022 figure 1 counts so).
    pub const MEGATRON: Self = Self { gradient: 4.0, ..Self::MIXED };
    /// `DeepSpeed` with fp16: a single-precision copy of the gradient beside the moments (its memory documentation: 4 bytes
    /// per parameter and 16 sharded).
    pub const DEEPSPEED: Self = Self { optimizer: 16.0, ..Self::MIXED };
    /// `DeepSpeed` with bf16 and single-precision accumulation: 2 bytes in the backward pass and 4 accumulated.
    pub const DEEPSPEED_BF16: Self = Self { gradient: 6.0, ..Self::MIXED };
    /// PyTorch FSDP with mixed precision: the resident shard is single precision, what is gathered is bf16.
    pub const FSDP: Self = Self { weight: 4.0, gathered: 2.0, gradient: 4.0, optimizer: 8.0, product_input: 2.0 };
    /// All in bf16, moments too.
    pub const BF16: Self = Self { optimizer: 4.0, ..Self::MIXED };

    /// The same with matrix products that keep their inputs in 8 bits.
    #[must_use]
    pub const fn with_fp8_products(self) -> Self {
        Self { product_input: 1.0, ..self }
    }
}

/// A layout of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Layout {
    /// Tensor parallelism.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Parts of the model per stage, interleaved; 1 is the plain pipeline.
    pub vpp: u64,
    /// Data-parallel replicas.
    pub dp: u64,
    /// Context parallelism: parts of a sequence.
    pub cp: u64,
    /// Expert parallelism; it divides `tp * cp * dp / etp`.
    pub ep: u64,
    /// Tensor parallelism inside an expert.
    pub etp: u64,
    /// What replicas share out.
    pub sharding: Sharding,
    /// Replicas that share out among themselves; 0 is all of them. With fewer, each group has a whole copy (hybrid sharding).
    pub shard_group: u64,
    /// What is trained.
    pub trained: Trained,
    /// Sequences per micro-batch and replica.
    pub micro_batch: u64,
    /// Micro-batches per step; `None` is enough to fill the pipeline.
    pub micro_batches: Option<u64>,
    /// Tokens of a sequence.
    pub sequence: u64,
    /// What is computed again.
    pub recompute: Recompute,
    /// Modules that are computed again one by one.
    pub released: Released,
    /// Norms and dropouts are split along the sequence over `tp`.
    pub sequence_parallel: bool,
    /// Dropout masks are kept, a byte an element.
    pub dropout: bool,
    /// How attention is computed.
    pub kernel: AttentionKernel,
    /// How the loss is computed.
    pub loss: Loss,
    /// Bytes of each state.
    pub precision: Precision,
    /// The order of micro-batches.
    pub schedule: Schedule,
    /// What lives in host memory.
    pub offload: Offload,
}

impl Default for Layout {
    /// One accelerator, one sequence of 2048 tokens, mixed precision, nothing sharded, recomputed or offloaded.
    fn default() -> Self {
        Self {
            tp: 1,
            pp: 1,
            vpp: 1,
            dp: 1,
            cp: 1,
            ep: 1,
            etp: 1,
            sharding: Sharding::None,
            shard_group: 0,
            trained: Trained::All,
            micro_batch: 1,
            micro_batches: None,
            sequence: 2048,
            recompute: Recompute::None,
            released: Released::NOTHING,
            sequence_parallel: false,
            dropout: false,
            kernel: AttentionKernel::Flash,
            loss: Loss::Fused,
            precision: Precision::MEGATRON,
            schedule: Schedule::OneForwardOneBackward,
            offload: Offload::None,
        }
    }
}

impl Layout {
    /// Accelerators that the layout takes.
    pub const fn accelerators(&self) -> u64 {
        self.tp.saturating_mul(self.pp).saturating_mul(self.dp).saturating_mul(self.cp)
    }

    /// Replicas that share out the states of what is not an expert.
    pub fn replicas(&self) -> f64 {
        real(self.dp) * real(self.cp)
    }

    /// Replicas that share out states among themselves.
    pub fn shard_replicas(&self) -> f64 {
        if self.shard_group == 0 { self.replicas() } else { real(self.shard_group).min(self.replicas()) }
    }

    /// Replicas of one expert.
    pub fn expert_replicas(&self) -> f64 {
        (real(self.tp) * real(self.cp) * real(self.dp) / (real(self.ep) * real(self.etp))).max(1.0)
    }

    /// Micro-batches whose activations stage `stage` (from 0) holds at its fullest, in units of one micro-batch through the
    /// whole stage.
    ///
    /// 1F1B: `pp - stage`. Interleaved: `2 (pp - stage - 1) + (vpp - 1) pp + 1` parts of `1 / vpp`, which is the
    /// `pp (1 + (pp - 1) / (pp vpp))` of Korthikanti et al. 2022 section 4.2.3 on the first stage.
    pub fn in_flight(&self, stage: u64) -> f64 {
        let most = self.micro_batches.map_or(f64::INFINITY, real);
        let later = real(self.pp.saturating_sub(stage + 1));
        let (pp, vpp) = (real(self.pp), real(self.vpp));
        match self.schedule {
            Schedule::AllForward => self.micro_batches.map_or(pp, real),
            Schedule::OneForwardOneBackward if self.vpp > 1 => ((2.0 * later + (vpp - 1.0) * pp + 1.0) / vpp).min(most),
            Schedule::OneForwardOneBackward | Schedule::ZeroBubble => (later + 1.0).min(most),
        }
    }

    /// Layers of stage `stage`, from 0.
    ///
    /// Where layers do not divide into stages but do with embedding and head counted as a layer each, the first and the last
    /// stage hold one fewer (Megatron's and BLOOM's rule); else the first stages hold one more.
    pub fn layers_of(&self, architecture: &Architecture, stage: u64) -> u64 {
        let (layers, pp) = (architecture.layers, self.pp.max(1));
        if layers % pp != 0 && pp > 1 && (layers + 2) % pp == 0 {
            let even = (layers + 2) / pp;
            return if stage == 0 || stage + 1 == pp { even - 1 } else { even };
        }
        layers / pp + u64::from(stage < layers % pp)
    }

    /// The same layout, if it can be.
    /// # Errors
    /// [`Error::Work`] that names the first figure that is zero or cuts finer than the model is.
    pub fn check(&self, architecture: &Architecture) -> Result<(), Error> {
        let at_least_one = "at least 1";
        for (figure, value) in [
            ("layers", architecture.layers),
            ("hidden", architecture.hidden),
            ("heads", architecture.heads),
            ("head_dim", architecture.head_dim),
            ("tp", self.tp),
            ("pp", self.pp),
            ("vpp", self.vpp),
            ("dp", self.dp),
            ("cp", self.cp),
            ("ep", self.ep),
            ("etp", self.etp),
            ("micro_batch", self.micro_batch),
            ("sequence", self.sequence),
            ("micro_batches", self.micro_batches.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::Work { figure, value: 0.0, expected: at_least_one });
            }
        }
        if architecture.layers > LAYERS_MAX {
            return Err(Error::Work { figure: "layers", value: real(architecture.layers), expected: "at most 10000" });
        }
        let too_fine = |figure, value, expected| Err(Error::Work { figure, value: real(value), expected });
        if self.tp > architecture.heads {
            return too_fine("tp", self.tp, "at most the heads");
        }
        if self.pp.saturating_mul(self.vpp) > architecture.layers {
            return too_fine("pp * vpp", self.pp.saturating_mul(self.vpp), "at most the layers");
        }
        if self.schedule == Schedule::ZeroBubble && self.vpp > 1 {
            return too_fine("vpp", self.vpp, "1 without a bubble");
        }
        if self.ep > architecture.experts.map_or(1, |experts| experts.count) {
            return too_fine("ep", self.ep, "at most the experts");
        }
        if self.ep.saturating_mul(self.etp) > self.tp.saturating_mul(self.cp).saturating_mul(self.dp) {
            return too_fine("ep * etp", self.ep.saturating_mul(self.etp), "at most tp * cp * dp");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::gpt;

    #[test]
    fn one_forward_one_backward_keeps_a_micro_batch_for_each_later_stage() {
        let layout = Layout { pp: 4, ..Layout::default() };
        let held: Vec<f64> = (0..4).map(|stage| layout.in_flight(stage)).collect();
        assert_eq!(held, [4.0, 3.0, 2.0, 1.0]);
        let short = Layout { micro_batches: Some(2), ..layout };
        assert!((short.in_flight(0) - 2.0).abs() < 1e-12);
        let gpipe = Layout { schedule: Schedule::AllForward, micro_batches: Some(64), ..layout };
        assert!((gpipe.in_flight(3) - 64.0).abs() < 1e-12);
    }

    #[test]
    fn interleaving_keeps_the_published_factor_on_the_first_stage() {
        let layout = Layout { pp: 8, vpp: 3, ..Layout::default() };
        assert!((layout.in_flight(0) - 8.0 * (1.0 + 7.0 / 24.0)).abs() < 1e-12);
        assert!(layout.in_flight(7) < layout.in_flight(0));
    }

    #[test]
    fn stages_hold_every_layer_once() {
        for (layers, pp) in [(96, 8), (70, 12), (106, 12), (7, 3), (5, 5), (80, 1), (126, 16)] {
            let shape = gpt(layers, 1024, 8);
            let layout = Layout { pp, ..Layout::default() };
            let held: Vec<u64> = (0..pp).map(|stage| layout.layers_of(&shape, stage)).collect();
            assert_eq!(held.iter().sum::<u64>(), layers, "{layers} over {pp}: {held:?}");
        }
        let bloom = Layout { pp: 12, ..Layout::default() };
        assert_eq!((bloom.layers_of(&gpt(70, 1024, 8), 0), bloom.layers_of(&gpt(70, 1024, 8), 1)), (5, 6));
    }

    #[test]
    fn a_layout_that_cuts_too_fine_is_refused_by_name() {
        let shape = gpt(4, 1024, 8);
        let one = Layout::default();
        assert!(one.check(&shape).is_ok());
        for (layout, figure) in [
            (Layout { dp: 0, ..one }, "dp"),
            (Layout { sequence: 0, ..one }, "sequence"),
            (Layout { tp: 16, ..one }, "tp"),
            (Layout { pp: 4, vpp: 2, ..one }, "pp * vpp"),
            (Layout { ep: 2, dp: 2, ..one }, "ep"),
        ] {
            assert!(matches!(layout.check(&shape), Err(Error::Work { figure: f, .. }) if f == figure));
        }
        assert!(one.check(&gpt(u64::MAX, 1024, 8)).is_err());
    }
}
