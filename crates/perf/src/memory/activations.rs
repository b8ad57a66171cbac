//! What the forward pass keeps of a token for the backward pass, and what a layer at work needs besides.
//!
//! Invariant: with GPT's block, dropout and unfused attention the bytes of a layer are the `s b h (10 + 24/t + 5 a s / (h t))`
//! of Korthikanti et al. 2022 equation 2, and `s b h (34/t)` with sequence parallelism and selective recomputation
//! (equation 6). Tensors are counted one by one, so that other blocks follow from the same list.

use dh_units::real;

use crate::architecture::{Architecture, Attention, Mlp};
use crate::layout::{AttentionKernel, Layout, Loss, Recompute, Released};

/// Bytes of an element outside of matrix products.
const HALF: f64 = 2.0;

/// Tokens of a micro-batch on one accelerator, before sequence parallelism.
pub(super) fn tokens(layout: &Layout) -> f64 {
    real(layout.micro_batch) * real(layout.sequence) / real(layout.cp)
}

/// Bytes that layer `index` keeps of one token.
pub(super) fn kept(shape: &Architecture, layout: &Layout, index: u64) -> f64 {
    let tp = real(layout.tp);
    let around = if layout.sequence_parallel { tp } else { 1.0 };
    let h = real(shape.hidden);
    match layout.recompute {
        Recompute::None => layer(shape, layout, index, layout.kernel, layout.released),
        Recompute::Selective => layer(shape, layout, index, AttentionKernel::Flash, layout.released),
        Recompute::Full => HALF * h / around,
        // Layer input, attention's output, and the products with odd numbers: queries, values, gate or up, down.
        Recompute::Operators => {
            let attention = attention(shape);
            let outer = HALF * (h + h) / around;
            let inner = HALF * (attention.out + attention.queries + attention.values + inner_width(shape, index)) / tp;
            outer + inner
        }
    }
}

/// Bytes that one token takes while layer `index` is computed again and its gradients pass through.
pub(super) fn at_work(shape: &Architecture, layout: &Layout, index: u64) -> f64 {
    let tp = real(layout.tp);
    // The gradient of what enters the activation function: gate and up together, or up alone.
    let gradients = HALF * real(shape.mlp.matrices() - 1) * inner_width(shape, index) / tp;
    let whole = || layer(shape, layout, index, layout.kernel, Released::NOTHING);
    let again = match layout.recompute {
        Recompute::None if layout.released == Released::NOTHING => 0.0,
        Recompute::None | Recompute::Selective => whole() - kept(shape, layout, index),
        Recompute::Operators | Recompute::Full => whole(),
    };
    gradients + again
}

/// Bytes that one token takes while the loss is computed: its logits, and the hidden vector that all devices need whole.
pub(super) fn logits(shape: &Architecture, layout: &Layout) -> f64 {
    let logits = real(shape.vocab) / real(layout.tp);
    let gathered = if layout.sequence_parallel { HALF * real(shape.hidden) } else { 0.0 };
    gathered
        + logits
            * match layout.loss {
                Loss::Whole => HALF + 4.0 + 4.0 + 4.0,
                Loss::Fused => HALF + 4.0 + 4.0,
                // Stated assumption: eight chunks, the default of torchtune's and of other chunked losses.
                Loss::Chunked => (HALF + 4.0 + 4.0) / 8.0,
            }
}

/// Elements of a token around the core of attention, before tensor parallelism.
struct Core {
    queries: f64,
    keys: f64,
    values: f64,
    out: f64,
    /// Compressed vectors, which every device keeps whole.
    latent: f64,
}

fn attention(shape: &Architecture) -> Core {
    let heads = real(shape.heads);
    match shape.attention {
        Attention::Mha | Attention::Gqa => {
            let (queries, keys) = (heads * real(shape.head_dim), real(shape.kv_heads) * real(shape.head_dim));
            Core { queries, keys, values: keys, out: queries, latent: 0.0 }
        }
        Attention::Mla(latent) => {
            let queries = heads * (real(latent.nope) + real(latent.rope));
            let values = heads * real(latent.value);
            // Each compressed vector before and after its norm.
            let compressed = 2.0 * (real(latent.q_rank) + real(latent.kv_rank)) + real(latent.rope);
            Core { queries, keys: queries, values, out: values, latent: compressed }
        }
    }
}

/// Elements between the matrices of the block of layer `index` that one token fills, before tensor parallelism.
fn inner_width(shape: &Architecture, index: u64) -> f64 {
    match shape.experts {
        Some(experts) if shape.has_experts(index) => real(experts.top_k) * real(experts.ffn) + real(experts.shared_ffn),
        Some(_) | None => real(shape.ffn),
    }
}

/// Bytes that layer `index` keeps of one token when no more is thrown away than `released`. Where layers are of several kinds,
/// the mean of them.
fn layer(shape: &Architecture, layout: &Layout, index: u64, kernel: AttentionKernel, released: Released) -> f64 {
    let (h, tp) = (real(shape.hidden), real(layout.tp));
    let around = if layout.sequence_parallel { tp } else { 1.0 };
    let product = layout.precision.product_input;
    let share = |layers: u64| real(layers) / real(shape.layers.max(1));
    let (with_attention, with_state) = (share(shape.attention_layers()), share(shape.mix.state_layers));
    let with_block = share(shape.feed_forward_layers());
    // Each norm keeps its input and hands on what the next product keeps. A plain layer has two.
    let handed_on = if released.has(Released::NORMS) { 0.0 } else { product };
    let core = attention(shape);
    let mut outer =
        (with_attention + with_state + with_block) * (HALF + handed_on) * h + HALF * core.latent * with_attention;
    if layout.dropout {
        outer += 2.0 * h;
    }
    let expanded = if released.has(Released::UP_PROJECTIONS) { 0.0 } else { core.queries + core.keys + core.values };
    let mut mixed = HALF * expanded + product * core.out;
    if kernel == AttentionKernel::Unfused {
        // Softmax, its dropout's mask and output: 5 a s (4 a s without dropout, whose output then is the softmax).
        let scores = real(shape.heads) * real(layout.sequence);
        mixed += if layout.dropout { 5.0 } else { 2.0 } * scores;
    }
    let inner = mixed * with_attention + state(shape, product) * with_state;
    let activated = |released: bool| if released { 0.0 } else { product };
    let between = match shape.mlp {
        Mlp::Gelu2 | Mlp::Relu2 => HALF,
        Mlp::Swiglu3 => 2.0 * HALF,
    };
    match shape.experts {
        Some(_) if shape.has_experts(index) && released.has(Released::EXPERTS) => outer / around + inner / tp,
        Some(experts) if shape.has_experts(index) => {
            let copies = real(experts.top_k);
            // With experts dealt out evenly each device works on as many copies as its tokens have. A device that splits the
            // sequence, or experts that are not split, hold a share of the tokens.
            let share = if layout.sequence_parallel || layout.etp > 1 { tp } else { 1.0 };
            let of_expert = between + activated(released.has(Released::ACTIVATIONS));
            let routed =
                copies * (of_expert * real(experts.ffn) + (product + HALF) * real(shape.expert_hidden())) / share;
            let shared = (between + product) * real(experts.shared_ffn) / tp;
            outer / around + inner / tp + (routed + shared) * with_block
        }
        Some(_) | None => outer / around + (inner + (between + product) * real(shape.ffn) * with_block) / tp,
    }
}

/// Bytes that a layer with a state of fixed size keeps of a token besides its norm: values, gate, keys, queries and factors as
/// one product gives them, and the scan's output before and after its own norm. Source: Dao and Gu 2024, section 8.1; the
/// fused scan computes the rest again.
fn state(shape: &Architecture, product: f64) -> f64 {
    let mix = shape.mix;
    let width = real(mix.state_heads) * real(mix.state_head_dim);
    let merged = 2.0 * width + 2.0 * real(mix.state_groups) * real(mix.state_size) + real(mix.state_heads);
    HALF * (merged + width) + product * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::gpt;

    #[test]
    fn a_gpt_layer_keeps_what_the_published_equations_say() {
        let shape = gpt(96, 12_288, 96);
        let (h, a, s, t) = (12_288.0, 96.0, 2048.0, 8.0);
        let layout = Layout { tp: 8, dropout: true, kernel: AttentionKernel::Unfused, ..Layout::default() };
        let with =
            |recompute, sequence_parallel| kept(&shape, &Layout { recompute, sequence_parallel, ..layout }, 0) / h;
        // Korthikanti et al. 2022 table 2, row by row.
        assert!((with(Recompute::None, false) - (10.0 + 24.0 / t + 5.0 * a * s / (h * t))).abs() < 1e-9);
        assert!((with(Recompute::None, true) - (34.0 / t + 5.0 * a * s / (h * t))).abs() < 1e-9);
        assert!((with(Recompute::Selective, false) - (10.0 + 24.0 / t)).abs() < 1e-9);
        assert!((with(Recompute::Selective, true) - 34.0 / t).abs() < 1e-9);
        assert!((with(Recompute::Full, false) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn modules_that_are_computed_again_are_not_kept_and_come_back_at_work() {
        let shape = crate::architecture::tests::deepseek_v3();
        let plain = Layout::default();
        let modules = [Released::NORMS, Released::UP_PROJECTIONS, Released::ACTIVATIONS, Released::EXPERTS];
        for module in modules {
            let released = Layout { released: module, ..plain };
            let saved = kept(&shape, &plain, 10) - kept(&shape, &released, 10);
            assert!(saved > 0.0, "{module:?}");
            assert!((at_work(&shape, &released, 10) - at_work(&shape, &plain, 10) - saved).abs() < 1e-6, "{module:?}");
        }
        let both = Layout { released: Released::NORMS.and(Released::EXPERTS), ..plain };
        let one = Layout { released: Released::EXPERTS, ..plain };
        assert!(kept(&shape, &both, 10) < kept(&shape, &one, 10));
    }

    #[test]
    fn a_hybrid_keeps_the_share_of_each_kind_of_layer() {
        let plain = crate::architecture::tests::llama_8b();
        let mut hybrid = plain;
        hybrid.mix.attention_layers = 8;
        hybrid.mix.feed_forward_layers = 8;
        let layout = Layout::default();
        // A quarter of the layers are plain and the rest empty: a quarter is kept of each on average.
        let quarter = kept(&plain, &layout, 0) / 4.0;
        assert!((kept(&hybrid, &layout, 0) - quarter).abs() < 1e-6 * quarter);
        hybrid.mix.state_layers = 16;
        (hybrid.mix.state_heads, hybrid.mix.state_head_dim) = (64, 64);
        (hybrid.mix.state_groups, hybrid.mix.state_size) = (8, 128);
        // Half of the layers have a state: a norm, 2 x 4096 + 2 x 1024 + 64 of one product, and the output twice.
        let state = 0.5 * (4.0 * 4096.0 + 2.0 * (10_304.0 + 4096.0) + 2.0 * 4096.0);
        assert!((kept(&hybrid, &layout, 0) - quarter - state).abs() < 1e-6 * quarter);
    }
}
