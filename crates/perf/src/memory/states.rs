//! Weights, gradients and optimiser states of one pipeline stage, on one accelerator.
//!
//! Invariant: sharding more never makes a part larger. Source: Rajbhandari et al. 2020 section 5 for what each stage shares out.

use crate::architecture::Architecture;
use crate::layout::{Layout, Offload, Sharding};

/// Parameters of a stage on one accelerator, before data-parallel sharding.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Held {
    /// Of what every token meets.
    pub(super) dense: f64,
    /// Of routed experts.
    pub(super) expert: f64,
    /// Of the largest unit that sharded weights are gathered by: a layer, or an embedding.
    pub(super) largest_unit: f64,
}

/// Whether the embeddings of the end stages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// They do.
    WithEmbeddings,
    /// Only the layers do.
    LayersOnly,
}

/// Parameters of stage `stage`, which starts at layer `first`.
pub(super) fn held(shape: &Architecture, layout: &Layout, stage: u64, first: u64, ends: Ends) -> Held {
    let tp = dh_units::real(layout.tp);
    let experts_over = dh_units::real(layout.ep) * dh_units::real(layout.etp);
    let mut held = Held::default();
    for index in first..first + layout.layers_of(shape, stage) {
        // Norms are copied to every tensor-parallel device; at 2 to 4 h a layer that is counted as if it were split.
        let (dense, expert) = (shape.dense_parameters(index) / tp, shape.expert_parameters(index) / experts_over);
        held.dense += dense;
        held.expert += expert;
        held.largest_unit = held.largest_unit.max(dense + expert);
    }
    if ends == Ends::WithEmbeddings {
        let matrix = shape.embedding_parameters() / tp;
        let last = stage + 1 == layout.pp;
        // A tied matrix is copied to the last stage where that is not also the first.
        let matrices = match (stage == 0, last) {
            (true, true) if shape.tied_embeddings => 1.0,
            (true, true) => 2.0,
            (true, false) | (false, true) => 1.0,
            (false, false) => 0.0,
        };
        held.dense += matrices * matrix;
        if matrices > 0.0 {
            held.largest_unit = held.largest_unit.max(matrix);
        }
    }
    held
}

/// Bytes of weights, gradients and optimiser states, and of gathered weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct States {
    pub(super) weights: f64,
    pub(super) gradients: f64,
    pub(super) optimizer: f64,
    /// Weights of the layer at work and of the one that is fetched ahead, under sharded weights; and a whole gradient.
    pub(super) gathered: f64,
}

/// The states of what is `held`.
pub(super) fn states(held: Held, layout: &Layout) -> States {
    let bytes = layout.precision;
    let shared = |from: Sharding| {
        if layout.sharding >= from {
            held.dense / layout.shard_replicas() + held.expert / layout.expert_replicas()
        } else {
            held.dense + held.expert
        }
    };
    let mut states = States {
        weights: bytes.weight * shared(Sharding::Weights),
        gradients: bytes.gradient * shared(Sharding::Gradients),
        optimizer: bytes.optimizer * shared(Sharding::Optimizer),
        gathered: 0.0,
    };
    if layout.sharding == Sharding::Weights && layout.shard_replicas() > 1.0 {
        // Two bytes of weight and two of gradient for the unit at work: DeepSpeed's `4 * largest_layer`.
        states.gathered = 2.0 * bytes.gathered * held.largest_unit;
        if layout.pp > 1 {
            // Between a pipeline's micro-batches weights stay gathered and gradients whole: to share them out anew for each
            // would send them as often (torchtitan's default; DeepSpeed refuses the combination).
            states.gathered = (bytes.gathered + bytes.gradient) * (held.dense + held.expert);
        }
    }
    match layout.offload {
        Offload::None => {}
        Offload::Optimizer => {
            states.optimizer = 0.0;
            states.gradients = 0.0;
        }
        Offload::Everything => {
            states.weights = 0.0;
            states.optimizer = 0.0;
            states.gradients = 0.0;
            states.gathered = 2.0 * bytes.gathered * held.largest_unit;
        }
    }
    states
}
