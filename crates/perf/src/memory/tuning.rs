//! The memory of fine-tuning on a few devices: all parameters in half precision, or a few beside a frozen base.
//!
//! Invariant: a frozen weight has neither gradient nor moments, and what only its gradient would need is not kept. Tensors are
//! counted one by one. Sources: Hu et al. 2021 (low-rank updates), Dettmers et al. 2023 (four-bit bases and their scales);
//! what a library keeps besides is counted from the operations that its public code runs, and says so.

use dh_units::{Bytes, real, whole};

use super::{Overheads, StageMemory};
use crate::architecture::{Architecture, Mlp};

/// How frozen weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// In half precision.
    Half,
    /// In four bits, 64 weights sharing a scale of four bytes. Embeddings and head stay in half precision.
    FourBit,
    /// The same with scales in eight bits.
    FourBitTwice,
}

impl Base {
    /// Bytes of a weight of a layer's matrix.
    pub const fn bytes(self) -> f64 {
        match self {
            Self::Half => 2.0,
            Self::FourBit => 0.5 + 4.0 / 64.0,
            // A byte for 64 weights, and four bytes for 256 of these.
            Self::FourBitTwice => 0.5 + 1.0 / 64.0 + 4.0 / (64.0 * 256.0),
        }
    }
}

/// Where low-rank updates sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// At queries and values.
    QueriesAndValues,
    /// At queries, values, attention's output and the feed-forward block.
    AttentionAndFeedForward,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trained {
    /// All parameters, in half precision, gradients too.
    All {
        /// Bytes of optimiser states per parameter that stay on the device: 4 for two moments in half precision.
        optimizer: f64,
        /// Whether gradients are kept until the step.
        gradients: Gradients,
    },
    /// Low-rank updates of this rank.
    LowRank {
        /// Where.
        places: Places,
        /// Their rank.
        rank: u64,
    },
    /// Learned prompts in front of each layer's keys and values: nothing else is kept for them.
    Prompts,
    /// A factor and an offset at every product's output, which is kept.
    Factors,
}

/// How long a gradient lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    /// Until the step.
    Kept,
    /// Until the optimiser's step of the same layer, which runs inside the backward pass.
    OfOneLayer,
}

/// What runs the operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// One after the other, as the program says: norms keep a single-precision copy of their input, shared keys and values
    /// are written out for all heads, and updates have dropout.
    Eager,
    /// Merged by a compiler, which keeps the inputs of the merged ones.
    Compiled,
}

/// What of the forward pass stays on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All.
    All,
    /// Each layer's input.
    Inputs,
    /// Nothing: layers' inputs go to the host.
    Nothing,
}

/// What replicas that share out the weights hold of them at the worst moment, besides their shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gathered {
    /// The layer at work and the next.
    Layers,
    /// The whole model.
    Model,
}

/// A fine-tuning run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// What is trained.
    pub trained: Trained,
    /// Parameters of adapters, where they are known; `None` counts those of low-rank updates.
    pub adapters: Option<f64>,
    /// How the base is stored.
    pub base: Base,
    /// Tokens of a micro-batch.
    pub tokens: f64,
    /// Devices that share out the weights.
    pub devices: u64,
    /// What they gather.
    pub gathered: Gathered,
    /// What runs the operations.
    pub kernels: Kernels,
    /// What stays of the forward pass.
    pub kept: Kept,
    /// Copies of each product's input that a four-bit product keeps although its weight is frozen.
    pub input_copies: f64,
    /// Whether the output embedding is stored apart from the input's even where the model ties them.
    pub untied: Untied,
    /// Bytes of a logit and what its loss keeps, over the tokens whose logits are there at once.
    pub logit: f64,
}

/// Whether the library stores a tied embedding twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untied {
    /// Once, as the model has it.
    AsTheModel,
    /// Twice.
    Always,
}

const HALF: f64 = 2.0;
/// Of the model, held gathered with what is prefetched and padded: fitted to the ten runs of litgpt on two and four devices.
const GATHERED_MODEL: f64 = 1.1;
/// Of the whole gradient, what is not reduced yet at the worst moment: fitted to litgpt's three runs of all parameters.
const UNREDUCED: f64 = 0.4;

/// Elements of one token, by the place in a layer.
struct Widths {
    hidden: f64,
    queries: f64,
    keys: f64,
    inner: f64,
}

fn widths(shape: &Architecture) -> Widths {
    let inner = shape.experts.map_or(real(shape.ffn), |e| real(e.top_k) * real(e.ffn) + real(e.shared_ffn));
    Widths {
        hidden: real(shape.hidden),
        queries: real(shape.heads) * real(shape.head_dim),
        keys: real(shape.kv_heads) * real(shape.head_dim),
        inner,
    }
}

/// Parameters of low-rank updates in all layers.
fn low_rank(shape: &Architecture, places: Places, rank: u64) -> f64 {
    let w = widths(shape);
    let attention = (w.hidden + w.queries) + (w.hidden + w.keys);
    let of_layer = match places {
        Places::QueriesAndValues => attention,
        Places::AttentionAndFeedForward => {
            attention + (w.queries + w.hidden) + real(shape.mlp.matrices()) * (w.hidden + w.inner)
        }
    };
    real(rank) * of_layer * real(shape.layers)
}

/// Bytes that a layer keeps of a token.
fn layer(shape: &Architecture, tuning: &Tuning) -> f64 {
    let w = widths(shape);
    let eager = tuning.kernels == Kernels::Eager;
    let gated = shape.mlp == Mlp::Swiglu3;
    let all = matches!(tuning.trained, Trained::All { .. });
    let merged = w.queries + 2.0 * w.keys;
    // Eager gated models normalise with a copy in single precision, twice; the others' branches share one input.
    let norms = match (eager, gated) {
        (true, true) => 2.0 * 4.0 * w.hidden + if all { 4.0 * w.hidden } else { 0.0 },
        (true, false) => HALF * w.hidden,
        (false, _) => 2.0 * HALF * w.hidden,
    };
    let attention = match (eager, shape.kv_heads == shape.heads) {
        // Values are a view of the merged product, which therefore stays whole; queries, keys and the output are new.
        (true, true) => HALF * (merged + 3.0 * w.queries),
        // Keys and values are written out for all heads.
        (true, false) => HALF * 4.0 * w.queries,
        (false, _) => HALF * (merged + w.queries),
    };
    let block = match (gated, eager) {
        (true, true) => 3.0 * HALF * w.inner,
        (true, false) => 2.0 * HALF * w.inner,
        (false, _) => HALF * w.inner,
    };
    let inputs = HALF * (2.0 * w.hidden + w.inner);
    let frozen_inputs = if tuning.base == Base::Half { 0.0 } else { tuning.input_copies * (inputs + HALF * w.queries) };
    // A dropout keeps its output and a byte of mask.
    let dropped = HALF + 1.0;
    let trained = match (tuning.trained, eager) {
        (Trained::All { .. }, _) | (Trained::LowRank { places: Places::AttentionAndFeedForward, .. }, false) => inputs,
        // The update of the merged product is written out as wide as it.
        (Trained::LowRank { places: Places::QueriesAndValues, .. }, true) => dropped * w.hidden + HALF * merged,
        (Trained::LowRank { places: Places::AttentionAndFeedForward, .. }, true) => {
            let products = real(shape.mlp.matrices() - 1);
            dropped * (w.hidden + w.queries + products * w.hidden + w.inner)
        }
        (Trained::LowRank { places: Places::QueriesAndValues, .. }, false) => HALF * w.hidden,
        (Trained::Prompts, _) => 0.0,
        (Trained::Factors, _) => {
            let outputs = merged + 2.0 * w.hidden + real(shape.mlp.matrices() - 1) * w.inner;
            HALF * outputs + if gated { 8.0 * w.hidden } else { 0.0 }
        }
    };
    norms + attention + block + trained + frozen_inputs
}

/// The memory of fine-tuning `shape` so, on the fullest device.
pub fn tuning(shape: &Architecture, tuning: &Tuning, overheads: Overheads) -> StageMemory {
    let devices = real(tuning.devices.max(1));
    let matrix = shape.embedding_parameters();
    let embeddings = if shape.tied_embeddings && tuning.untied == Untied::AsTheModel { 1.0 } else { 2.0 } * matrix;
    let layers: f64 = (0..shape.layers).map(|i| shape.dense_parameters(i) + shape.expert_parameters(i)).sum();
    let one = layers / real(shape.layers.max(1));
    let adapters = tuning.adapters.unwrap_or(match tuning.trained {
        Trained::LowRank { places, rank } => low_rank(shape, places, rank),
        Trained::All { .. } | Trained::Prompts | Trained::Factors => 0.0,
    });
    let stored = tuning.base.bytes() * layers + HALF * embeddings;
    let unit = one.max(matrix);
    let (gradients, optimizer) = match tuning.trained {
        Trained::All { optimizer, gradients } => {
            let held = match gradients {
                Gradients::Kept => (layers + embeddings) / devices,
                Gradients::OfOneLayer => unit,
            };
            (HALF * held, optimizer * (layers + embeddings) / devices)
        }
        // Adapters train in half precision: two bytes of gradient, four of moments.
        Trained::LowRank { .. } | Trained::Prompts | Trained::Factors => (HALF * adapters, 4.0 * adapters),
    };
    let weights = stored / devices + HALF * adapters;
    let whole_gradient =
        if matches!(tuning.trained, Trained::All { .. }) { HALF * UNREDUCED * (layers + embeddings) } else { 0.0 };
    let gathered = match tuning.gathered {
        Gathered::Layers if tuning.devices > 1 => (2.0 * tuning.base.bytes() * one).max(HALF * matrix),
        Gathered::Model if tuning.devices > 1 => stored * GATHERED_MODEL + whole_gradient,
        Gathered::Layers | Gathered::Model => 0.0,
    };
    // A four-bit product first writes its weight out in half precision.
    let written_out = if tuning.base == Base::Half { 0.0 } else { HALF * real(shape.hidden) * widths(shape).inner };
    let of_layer = layer(shape, tuning) * tuning.tokens;
    let (activations, at_work) = match tuning.kept {
        Kept::All => (of_layer * real(shape.layers), 0.0),
        Kept::Inputs => (HALF * real(shape.hidden) * tuning.tokens * real(shape.layers), of_layer),
        Kept::Nothing => (0.0, of_layer),
    };
    let logits = tuning.logit * real(shape.vocab) * tuning.tokens;
    let working = at_work.max(logits) + gathered + written_out;
    let in_use = weights + gradients + optimizer + activations + working;
    StageMemory {
        weights: Bytes(whole(weights)),
        gradients: Bytes(whole(gradients)),
        optimizer: Bytes(whole(optimizer)),
        activations: Bytes(whole(activations)),
        buffers: Bytes(whole(working + overheads.context + overheads.buckets + overheads.held * in_use)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::llama_8b;

    fn run(trained: Trained) -> Tuning {
        Tuning {
            trained,
            adapters: None,
            base: Base::Half,
            tokens: 1024.0,
            devices: 1,
            gathered: Gathered::Layers,
            kernels: Kernels::Eager,
            kept: Kept::All,
            input_copies: 1.0,
            untied: Untied::AsTheModel,
            logit: 8.0,
        }
    }

    const ALL: Trained = Trained::All { optimizer: 4.0, gradients: Gradients::Kept };
    const UPDATES: Trained = Trained::LowRank { places: Places::QueriesAndValues, rank: 8 };

    #[test]
    fn low_rank_updates_have_the_published_number_of_parameters() {
        // litgpt's resource table for Llama 2 7B: 4,194,304 at rank 8.
        let shape = Architecture { kv_heads: 32, ..llama_8b() };
        assert!((low_rank(&shape, Places::QueriesAndValues, 8) - 4_194_304.0).abs() < 0.5);
        assert!(low_rank(&shape, Places::AttentionAndFeedForward, 8) > 4e6);
    }

    #[test]
    fn a_frozen_base_has_no_states_and_fewer_bits_are_smaller() {
        let shape = llama_8b();
        let of = |run: &Tuning| tuning(&shape, run, Overheads::ALLOCATED);
        let all = of(&run(ALL));
        assert!((all.states().as_f64() / (8.0 * shape.parameters()) - 1.0).abs() < 0.01);
        let frozen = of(&run(UPDATES));
        assert!(frozen.optimizer.as_f64() < 0.01 * all.optimizer.as_f64());
        let quarter = of(&Tuning { base: Base::FourBit, ..run(UPDATES) });
        let least = of(&Tuning { base: Base::FourBitTwice, ..run(UPDATES) });
        assert!(frozen.weights > quarter.weights && quarter.weights > least.weights);
    }

    #[test]
    fn what_is_kept_on_the_host_or_computed_again_takes_less() {
        let shape = llama_8b();
        for trained in [ALL, UPDATES, Trained::Prompts, Trained::Factors] {
            for kernels in [Kernels::Eager, Kernels::Compiled] {
                let total = |kept| {
                    let run = Tuning { kernels, kept, ..run(trained) };
                    tuning(&shape, &run, Overheads::ALLOCATED).total()
                };
                assert!(total(Kept::All) > total(Kept::Inputs) && total(Kept::Inputs) > total(Kept::Nothing));
            }
        }
    }

    #[test]
    fn more_devices_never_take_more_of_each() {
        let shape = llama_8b();
        let of = |devices| tuning(&shape, &Tuning { devices, ..run(ALL) }, Overheads::ALLOCATED).states();
        assert!(of(2) < of(1) && of(8) < of(2));
    }
}
