//! Times of the operators of one layer on one accelerator, for the tokens of one micro-batch.
//!
//! Invariant: faster hardware is never slower. Source: Williams et al. 2009 (roofline); Dao et al. 2022 for attention.

use dh_units::real;

use super::Profile;
use crate::architecture::{Architecture, Attention, Mlp};
use crate::hardware::{Accelerator, Format};
use crate::layout::{AttentionKernel, Layout};

/// Rates of one accelerator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Operations a second of large products in the products' format.
    products: f64,
    /// The same in half precision.
    half: f64,
    /// Half-precision peak.
    half_peak: f64,
    /// Smallest side that reaches half, in each.
    products_side: f64,
    half_side: f64,
    /// Bytes a second reached.
    pub(super) memory: f64,
    /// Bytes of an element of a product.
    element: f64,
    /// Passes of quantisation.
    quantise: f64,
    expert_side: f64,
    /// Largest share of a second's work that the products' format could do, for utilisation.
    pub(super) peak: f64,
}

/// Operations a byte of the hardware that the profile's side is stated for.
const RIDGE: f64 = 150.0;

impl Rates {
    /// `None` if the accelerator does not have the format.
    pub(super) fn new(accelerator: &Accelerator, format: Format, profile: &Profile) -> Option<Self> {
        let peak = accelerator.peak(format)?.0;
        let half_peak = accelerator.peak(Format::Bf16)?.0;
        let share = match format {
            Format::Tf32 | Format::Fp16 | Format::Bf16 => profile.gemm,
            Format::Fp8 => profile.gemm_fp8,
            Format::Fp4 => profile.gemm_fp4,
        };
        let memory = accelerator.bandwidth.0;
        let side = |peak: f64| profile.half_side * peak / memory / RIDGE;
        Some(Self {
            products: peak * share,
            half: half_peak * profile.gemm,
            half_peak,
            products_side: side(peak),
            half_side: side(half_peak),
            memory: memory * profile.memory,
            element: format.bytes().min(2.0),
            quantise: if matches!(format, Format::Fp8 | Format::Fp4) { profile.quantise } else { 0.0 },
            expert_side: profile.expert_side,
            peak,
        })
    }

    /// A product of `m x k` and `k x n`, `count` of them at once.
    fn product(&self, m: f64, n: f64, k: f64) -> f64 {
        self.by(m, n, k, 1.0, self.products_side) + self.quantise * 3.0 * m * (k + n) / self.memory
    }

    fn by(&self, m: f64, n: f64, k: f64, count: f64, side: f64) -> f64 {
        let least = 1.0 / (1.0 / m + 1.0 / n + 1.0 / k);
        let compute = 2.0 * m * n * k * count / self.products * (1.0 + side / least);
        let bytes = self.element * (m * k + k * n) + 2.0 * m * n;
        compute.max(bytes * count / self.memory)
    }

    /// A product in half precision, whatever the others are.
    fn plain(&self, m: f64, n: f64, k: f64) -> f64 {
        let least = 1.0 / (1.0 / m + 1.0 / n + 1.0 / k);
        let compute = 2.0 * m * n * k / self.half * (1.0 + self.half_side / least);
        compute.max(2.0 * (m * k + k * n + m * n) / self.memory)
    }

    fn bytes(&self, bytes: f64) -> f64 {
        bytes / self.memory
    }

    /// The output layer and the loss.
    pub(super) fn head(&self, shape: &Architecture, layout: &Layout, tokens: f64) -> f64 {
        let vocab = real(shape.vocab) / real(layout.tp);
        self.plain(tokens, vocab, real(shape.hidden)) + self.bytes(tokens * vocab * 10.0)
    }
}

/// Seconds of one forward pass of a layer, the mean of all layers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forward {
    /// Matrix products.
    pub(super) products: f64,
    /// Scores and their products with values.
    pub(super) attention: f64,
    /// What memory bandwidth bounds.
    pub(super) vector: f64,
}

impl Forward {
    pub(super) fn total(self) -> f64 {
        self.products + self.attention + self.vector
    }
}

/// One layer, the mean of all, forward, for `tokens` of a micro-batch on this accelerator.
pub(super) fn layer(shape: &Architecture, layout: &Layout, rates: &Rates, profile: &Profile, tokens: f64) -> Forward {
    let layers = real(shape.layers.max(1));
    let attention_layers = real(shape.attention_layers() + shape.mix.cross_attention_layers);
    let feed_forward = real(shape.feed_forward_layers());
    let mut all = Forward::default();
    let mut add = |count: f64, products: f64, attention: f64, vector: f64| {
        all.products += count / layers * products;
        all.attention += count / layers * attention;
        all.vector += count / layers * vector;
    };
    let (products, width) = projections(shape, layout, rates, tokens);
    let inner = rates.bytes(2.0 * 4.0 * width * tokens);
    let around = if layout.sequence_parallel { real(layout.tp) } else { 1.0 };
    let outer = rates.bytes(2.0 * 8.0 * real(shape.hidden) / around * tokens);
    add(attention_layers, products, core(shape, layout, rates, profile, tokens), profile.vector * inner);
    add(layers, 0.0, 0.0, profile.vector * outer);
    if shape.mix.state_layers > 0 {
        let (products, vector) = state(shape, layout, rates, tokens);
        add(real(shape.mix.state_layers), products, 0.0, profile.vector * vector);
    }
    let dense = shape.experts.map_or(feed_forward, |experts| real(experts.dense_layers));
    let (products, vector) = block(shape, rates, real(shape.ffn) / real(layout.tp), tokens);
    add(dense, products, 0.0, profile.vector * vector);
    if shape.experts.is_some() {
        let (products, vector, moved) = experts(shape, layout, rates, profile, tokens);
        add(feed_forward - dense, products, 0.0, profile.vector * vector + moved);
    }
    all
}

/// Products around attention, and elements of a token between them.
fn projections(shape: &Architecture, layout: &Layout, rates: &Rates, tokens: f64) -> (f64, f64) {
    let (h, tp, heads) = (real(shape.hidden), real(layout.tp), real(shape.heads));
    match shape.attention {
        Attention::Mha | Attention::Gqa => {
            let queries = heads * real(shape.head_dim) / tp;
            let keys = real(shape.kv_heads.div_ceil(layout.tp.max(1))) * real(shape.head_dim);
            let time = rates.product(tokens, queries + 2.0 * keys, h) + rates.product(tokens, h, queries);
            (time, queries * 2.0 + 2.0 * keys)
        }
        Attention::Mla(latent) => {
            let [q_rank, kv_rank, rope, nope, value] =
                [latent.q_rank, latent.kv_rank, latent.rope, latent.nope, latent.value].map(real);
            let queries = heads * (nope + rope) / tp;
            let from = if latent.q_rank == 0 { h } else { q_rank };
            let down = rates.product(tokens, q_rank + kv_rank + rope, h);
            let up = rates.product(tokens, queries, from) + rates.product(tokens, heads * (nope + value) / tp, kv_rank);
            let out = rates.product(tokens, h, heads * value / tp);
            (down + up + out, 2.0 * queries + heads * (nope + 2.0 * value) / tp + 2.0 * (q_rank + kv_rank))
        }
    }
}

/// Scores, softmax, and products with values, causal unless the model is an encoder; the mean of layers with and without
/// windows.
fn core(shape: &Architecture, layout: &Layout, rates: &Rates, profile: &Profile, tokens: f64) -> f64 {
    let (tp, heads, sequence) = (real(layout.tp), real(shape.heads), real(layout.sequence));
    let wide = match shape.attention {
        Attention::Mha | Attention::Gqa => 2.0 * real(shape.head_dim),
        Attention::Mla(latent) => real(latent.nope) + real(latent.rope) + real(latent.value),
    };
    let seen = if shape.encoder { sequence } else { sequence / 2.0 };
    let layers = real(shape.attention_layers().max(1));
    let windows = real(shape.mix.window_layers.min(shape.attention_layers())) / layers;
    let seen = seen * (1.0 - windows) + seen.min(real(shape.mix.window)) * windows;
    let flop = 2.0 * tokens * seen * wide * heads / tp;
    match layout.kernel {
        // Heads narrower than 128 leave part of a matrix unit idle.
        AttentionKernel::Flash => flop / (rates.half_peak * profile.attention * (wide / 256.0).min(1.0).sqrt()),
        AttentionKernel::Unfused => {
            // Both products over the whole square, and the scores six times over memory: written, scaled, softmax, dropout.
            // Matrix units load 16 bytes at a time: products of heads of another width run beside them. A100 has
            // a quarter to a sixteenth there; rows of 108 wide heads say a twelfth.
            let aligned = if shape.head_dim.is_multiple_of(8) { 1.0 } else { 12.0 };
            let whole = 2.0 * tokens * sequence * wide * heads / tp / rates.half * 1.5 * aligned;
            whole + rates.bytes(2.0 * 6.0 * tokens * sequence * heads / tp)
        }
    }
}

/// A dense block of `width` on this accelerator: its products and its passes over memory.
fn block(shape: &Architecture, rates: &Rates, width: f64, tokens: f64) -> (f64, f64) {
    let h = real(shape.hidden);
    let (first, passes) = match shape.mlp {
        Mlp::Gelu2 | Mlp::Relu2 => (width, 3.0),
        Mlp::Swiglu3 => (2.0 * width, 4.0),
    };
    if width <= 0.0 {
        return (0.0, 0.0);
    }
    (rates.product(tokens, first, h) + rates.product(tokens, h, width), rates.bytes(2.0 * passes * width * tokens))
}

/// Routed and shared experts: products, passes over memory, and the moving of tokens to experts and back.
fn experts(shape: &Architecture, layout: &Layout, rates: &Rates, profile: &Profile, tokens: f64) -> (f64, f64, f64) {
    let Some(experts) = shape.experts else { return (0.0, 0.0, 0.0) };
    let (tp, etp, ep) = (real(layout.tp), real(layout.etp), real(layout.ep));
    let (h, inside) = (real(shape.hidden), real(shape.expert_hidden()));
    // Tokens that one device of a tensor-parallel group brings: with the sequence split, its part.
    let own = tokens / (tp / etp).max(1.0);
    let copies = own * real(experts.top_k);
    let local = (real(experts.count) / ep).max(1.0);
    let each = copies / local * profile.imbalance;
    let width = real(experts.ffn) / etp;
    let first = real(shape.mlp.matrices() - 1) * width;
    let side = rates.products_side * rates.expert_side;
    let routed = rates.by(each, first, inside, local, side)
        + rates.by(each, inside, width, local, side)
        + rates.quantise * 3.0 * copies * (2.0 * inside + first + width) / rates.memory;
    let (shared, shared_vector) = block(shape, rates, real(experts.shared_ffn) / tp, tokens);
    let narrow = if shape.mix.expert_hidden == 0 { 0.0 } else { 2.0 * rates.product(own, inside, h) };
    let router = rates.plain(own, real(experts.count), h);
    let vector = rates.bytes(2.0 * 2.0 * (first + width) * copies) + shared_vector;
    (routed + shared + narrow + router, vector, profile.permute * rates.bytes(2.0 * copies * inside))
}

/// A layer with a state: its projections, and its scan, which is bound by memory and by small products.
fn state(shape: &Architecture, layout: &Layout, rates: &Rates, tokens: f64) -> (f64, f64) {
    let (mix, tp, h) = (shape.mix, real(layout.tp), real(shape.hidden));
    let values = real(mix.state_heads) * real(mix.state_head_dim) / tp;
    let keys = real(mix.state_groups) * real(mix.state_size) / tp;
    let products = rates.product(tokens, 2.0 * values + 2.0 * keys, h) + rates.product(tokens, h, values);
    // Chunks of 128 tokens: scores within a chunk and the state's update, as products in half precision.
    let scan = tokens * values * (4.0 * real(mix.state_size) + 2.0 * 128.0) / (rates.half * 0.5);
    (products + scan, rates.bytes(2.0 * 10.0 * (values + keys) * tokens))
}
