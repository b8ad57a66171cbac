//! What the forward pass keeps of a token for the backward pass, and what a layer at work needs besides.
//!
//! Invariant: with GPT's block, dropout and unfused attention the bytes of a layer are the `s b h (10 + 24/t + 5 a s / (h t))`
//! of Korthikanti et al. 2022 equation 2, and `s b h (34/t)` with sequence parallelism and selective recomputation
//! (equation 6). Tensors are counted one by one, so that other blocks follow from the same list.

use dh_units::real;

use crate::architecture::{Architecture, Attention, Mlp};
use crate::layout::{AttentionKernel, Layout, Loss, Recompute};

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
        Recompute::None => layer(shape, layout, index, layout.kernel),
        Recompute::Selective => layer(shape, layout, index, AttentionKernel::Flash),
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
    let again = match layout.recompute {
        Recompute::None => 0.0,
        Recompute::Selective => layer(shape, layout, index, layout.kernel) - kept(shape, layout, index),
        Recompute::Operators | Recompute::Full => layer(shape, layout, index, layout.kernel),
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

/// Bytes that layer `index` keeps of one token when nothing is thrown away.
fn layer(shape: &Architecture, layout: &Layout, index: u64, kernel: AttentionKernel) -> f64 {
    let (h, tp) = (real(shape.hidden), real(layout.tp));
    let around = if layout.sequence_parallel { tp } else { 1.0 };
    let product = layout.precision.product_input;
    let core = attention(shape);
    // Each norm keeps its input and hands on what the next product keeps.
    let mut outer = 2.0 * (HALF + product) * h + HALF * core.latent;
    if layout.dropout {
        outer += 2.0 * h;
    }
    let mut inner = HALF * (core.queries + core.keys + core.values) + product * core.out;
    if kernel == AttentionKernel::Unfused {
        // Softmax, its dropout's mask and output: 5 a s (4 a s without dropout, whose output then is the softmax).
        let scores = real(shape.heads) * real(layout.sequence);
        inner += if layout.dropout { 5.0 } else { 2.0 } * scores;
    }
    let between = match shape.mlp {
        Mlp::Gelu2 => HALF + product,
        Mlp::Swiglu3 => 2.0 * HALF + product,
    };
    match shape.experts {
        Some(experts) if shape.has_experts(index) => {
            let copies = real(experts.top_k);
            // With experts dealt out evenly each device works on as many copies as its tokens have. A device that splits the
            // sequence, or experts that are not split, hold a share of the tokens.
            let share = if layout.sequence_parallel || layout.etp > 1 { tp } else { 1.0 };
            let routed = copies * (between * real(experts.ffn) + (product + HALF) * h) / share;
            inner += between * real(experts.shared_ffn);
            outer / around + inner / tp + routed
        }
        Some(_) | None => outer / around + (inner + between * real(shape.ffn)) / tp,
    }
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
}
