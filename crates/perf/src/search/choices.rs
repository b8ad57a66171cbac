//! What may be chosen for a layout, and the rules that a choice must keep.
//!
//! Invariant: a rule that is broken here would be refused, padded or doubled by a training framework. Sources: Megatron-LM's and
//! torchtitan's argument checks, by their documentation.

use dh_units::real;

use super::BATCH_TOLERANCE;
use crate::architecture::Architecture;
use crate::hardware::{Format, Machine};
use crate::layout::{Layout, Offload, Precision, Recompute, Schedule, Sharding};

/// Values of each degree and option that are tried, each list in the order in which ties are broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// Tensor parallelism.
    pub tp: Vec<u64>,
    /// Pipeline stages.
    pub pp: Vec<u64>,
    /// Data-parallel replicas; empty is what the others leave.
    pub dp: Vec<u64>,
    /// Context parallelism.
    pub cp: Vec<u64>,
    /// Expert parallelism.
    pub ep: Vec<u64>,
    /// Tensor parallelism of an expert: 1 or `tp`.
    pub etp: Vec<u64>,
    /// Parts of the model per stage.
    pub vpp: Vec<u64>,
    /// Sequences of a micro-batch.
    pub micro_batch: Vec<u64>,
    /// What is computed again.
    pub recompute: Vec<Recompute>,
    /// What replicas share out.
    pub sharding: Vec<Sharding>,
    /// Whether norms and dropouts are split along the sequence.
    pub sequence_parallel: Vec<bool>,
    /// Orders of micro-batches.
    pub schedule: Vec<Schedule>,
    /// What lives in host memory.
    pub offload: Vec<Offload>,
}

/// Tensor parallelism wider than this is tried nowhere: no published training has more.
const TP_MAX: u64 = 64;
/// Pipelines longer than this are not tried: the deepest published training has 64 stages.
const PP_MAX: u64 = 128;
/// Parts of a sequence; and the least tokens of a part, below which messages outweigh work. Stated assumptions.
const CP_MAX: u64 = 64;
const PART_TOKENS_MIN: u64 = 1_024;
/// Parts of the model per stage.
const VPP_MAX: u64 = 12;

impl Choices {
    /// What is worth trying for `shape` on `machine`, with sequences of `sequence` tokens.
    ///
    /// Tensor parallelism stays inside the scale-up domain; its traffic is on the critical path of every layer. Scores are never
    /// in memory with the attention kernels of today, so selective recomputation is none. Nothing is offloaded: say so in
    /// `offload` to try it.
    pub fn of(shape: &Architecture, machine: &Machine, sequence: u64) -> Self {
        let domain = u64::from(machine.fabric.scale_up.accelerators);
        let splits_heads = |tp: u64| {
            let keys = shape.kv_heads.max(1);
            shape.heads.is_multiple_of(tp) && (keys.is_multiple_of(tp) || tp.is_multiple_of(keys))
        };
        let tp: Vec<u64> =
            (1..=domain.min(TP_MAX)).filter(|tp| splits_heads(*tp) && shape.ffn.is_multiple_of(*tp)).collect();
        let halves = |cp: u64| cp == 1 || (sequence.is_multiple_of(2 * cp) && sequence / cp >= PART_TOKENS_MIN);
        let experts = shape.experts.map_or(1, |experts| experts.count);
        let ep = (1..=experts).filter(|ep| experts.is_multiple_of(*ep)).collect();
        let etp = match shape.experts {
            Some(experts) => tp.iter().copied().filter(|tp| experts.ffn.is_multiple_of(*tp)).collect(),
            None => vec![1],
        };
        Self {
            tp: if tp.is_empty() { vec![1] } else { tp },
            pp: (1..=shape.layers.min(PP_MAX)).collect(),
            dp: Vec::new(),
            cp: (0..=CP_MAX.ilog2()).map(|power| 1 << power).filter(|cp| halves(*cp)).collect(),
            ep,
            etp,
            vpp: (1..=VPP_MAX.min(shape.layers)).collect(),
            micro_batch: vec![1, 2, 4, 8, 16],
            recompute: vec![Recompute::None, Recompute::Operators, Recompute::Full],
            sharding: vec![Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Weights],
            sequence_parallel: vec![true, false],
            schedule: vec![Schedule::OneForwardOneBackward],
            offload: vec![Offload::None],
        }
    }

    /// Combinations below one number of parts of a stage: the options that leave the products as they are.
    pub(super) fn below_parts(&self) -> u64 {
        count(&self.sharding) * count(&self.sequence_parallel) * count(&self.schedule) * count(&self.offload)
    }

    /// Whether `dp` replicas may be.
    pub(super) fn allows_replicas(&self, dp: u64) -> bool {
        self.dp.is_empty() || self.dp.contains(&dp)
    }
}

fn count<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap_or(u64::MAX)
}

/// Whether experts can be dealt out so.
pub(super) const fn deals_experts(shape: &Architecture, tp: u64, cp: u64, dp: u64, ep: u64, etp: u64) -> bool {
    if shape.experts.is_none() {
        return ep == 1 && etp == 1;
    }
    (etp == 1 || etp == tp) && (tp * cp * dp).is_multiple_of(ep * etp)
}

/// Whether stages can be cut into `vpp` parts each: every part holds as many layers, embedding and head counted as a layer each
/// where layers alone do not divide (Megatron's rule).
pub(super) const fn cuts_into_parts(layers: u64, pp: u64, vpp: u64) -> bool {
    if vpp == 1 {
        return pp <= layers;
    }
    let parts = pp * vpp;
    pp > 1 && parts <= layers && (layers.is_multiple_of(parts) || (layers + 2).is_multiple_of(parts))
}

/// Whether `layout`'s options mean what they say and are not another's double.
pub(super) fn options_hold(layout: &Layout) -> bool {
    let shares = layout.dp * layout.cp > 1 || layout.sharding == Sharding::None;
    // Gradients that are shared out must be whole between micro-batches of a pipeline: DeepSpeed refuses stage 2 with stages.
    let gradients = layout.sharding != Sharding::Gradients || layout.pp == 1;
    let spread = !layout.sequence_parallel || layout.tp > 1;
    let order = layout.schedule == Schedule::OneForwardOneBackward || (layout.pp > 1 && layout.vpp == 1);
    shares && gradients && spread && order
}

/// Micro-batches of a step of `batch` tokens where all replicas together take `unit` tokens for one, as a multiple of `multiple`.
///
/// The batch asked for where it can be made; else the next smaller one within [`BATCH_TOLERANCE`], else the next larger.
pub(super) fn micro_batches(batch: u64, unit: u64, multiple: u64) -> Option<u64> {
    let unit = unit.checked_mul(multiple)?;
    let near = |times: u64| {
        let off = real(times.saturating_mul(unit)) / real(batch) - 1.0;
        (times > 0 && off.abs() <= BATCH_TOLERANCE).then_some(times * multiple)
    };
    let below = batch / unit.max(1);
    near(below).or_else(|| near(below + 1))
}

/// Bytes of the states of what is trained in `products`: PyTorch's fully sharded data parallelism keeps its shards in single
/// precision, all else is as Megatron-LM does it.
pub(super) const fn precision(sharding: Sharding, products: Format) -> Precision {
    let bytes = match sharding {
        Sharding::Weights => Precision::FSDP,
        Sharding::None | Sharding::Optimizer | Sharding::Gradients => Precision::MEGATRON,
    };
    match products {
        Format::Fp8 | Format::Fp4 => bytes.with_fp8_products(),
        Format::Tf32 | Format::Fp16 | Format::Bf16 => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_dealt_out_exactly_or_within_a_twentieth() {
        // 2048 sequences over 16 replicas; 1953 over 8 (1952) and over 254 (2032, 4 % more); 5 over 4 not at all.
        assert_eq!(micro_batches(2_048, 16, 1), Some(128));
        assert_eq!(micro_batches(1_953, 8, 1), Some(244));
        assert_eq!(micro_batches(1_953, 254, 1), Some(8));
        assert_eq!(micro_batches(5, 4, 1), None);
        assert_eq!(micro_batches(3, 4, 1), None);
        assert_eq!(micro_batches(100, 1, 8), Some(96));
    }

    #[test]
    fn stages_are_cut_into_equal_parts() {
        assert!(cuts_into_parts(96, 8, 3) && cuts_into_parts(126, 16, 4) && cuts_into_parts(7, 3, 1));
        assert!(!cuts_into_parts(96, 8, 5) && !cuts_into_parts(96, 1, 2) && !cuts_into_parts(4, 8, 1));
    }
}
