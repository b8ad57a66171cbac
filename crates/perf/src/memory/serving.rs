//! The memory of serving: weights, the cache of keys and values, and the activations of one pass.
//!
//! Invariant: the cache is linear in tokens and sequences. Source: Kwon et al. 2023 section 3 for the cache; DeepSeek-V2
//! section 2.1.3 for what latent attention keeps.

use dh_units::{Bytes, Tokens, real, whole};

use super::{Fit, Overheads};
use crate::architecture::{Architecture, Mlp};
use crate::error::Error;
use crate::layout::Layout;

/// A layout of serving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServingLayout {
    /// Tensor parallelism.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Expert parallelism, over replicas of attention; 1 splits each expert by `tp`.
    pub ep: u64,
    /// Sequences in flight on one replica.
    pub sequences: u64,
    /// Tokens that each may reach, prompt and answer.
    pub context: u64,
    /// Tokens of one forward pass: the prefill chunk, or the batch where that is larger.
    pub tokens_per_pass: u64,
    /// Bytes of a weight, scales included.
    pub weight_bytes: f64,
    /// Bytes of an element of the cache.
    pub cache_bytes: f64,
}

impl Default for ServingLayout {
    /// One accelerator, bf16 weights and cache, one sequence of 2048 tokens, passes of 2048 tokens.
    fn default() -> Self {
        Self {
            tp: 1,
            pp: 1,
            ep: 1,
            sequences: 1,
            context: 2048,
            tokens_per_pass: 2048,
            weight_bytes: 2.0,
            cache_bytes: 2.0,
        }
    }
}

/// The memory of serving, on the fullest accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    /// Weights.
    pub weights: Bytes,
    /// Cache of one token.
    pub cache_per_token: Bytes,
    /// Cache of all sequences at their full length.
    pub cache: Bytes,
    /// Activations of one pass.
    pub activations: Bytes,
    /// Contexts and communicators.
    pub buffers: Bytes,
}

impl Serving {
    /// All of it.
    pub const fn total(&self) -> Bytes {
        Bytes(
            self.weights
                .0
                .saturating_add(self.cache.0)
                .saturating_add(self.activations.0)
                .saturating_add(self.buffers.0),
        )
    }

    /// Whether it is enough to have `capacity`.
    pub const fn fits(&self, capacity: Bytes) -> Fit {
        Fit::of(self.total(), capacity)
    }

    /// Tokens that the cache has room for in `capacity`; `None` if not even weights fit, or if there is no cache.
    pub fn cache_tokens(&self, capacity: Bytes) -> Option<Tokens> {
        let fixed = self.weights.0.saturating_add(self.activations.0).saturating_add(self.buffers.0);
        capacity.0.checked_sub(fixed)?.checked_div(self.cache_per_token.0).map(Tokens)
    }
}

/// The memory that serving `shape` in `layout` needs of each accelerator.
/// # Errors
/// [`Error::Work`] if a degree is zero or cuts finer than the model is, or a size of an element is not above zero.
pub fn inference(shape: &Architecture, layout: &ServingLayout, overheads: Overheads) -> Result<Serving, Error> {
    let over = Layout { tp: layout.tp, pp: layout.pp, ep: layout.ep, dp: layout.ep, ..Layout::default() };
    let etp = if layout.ep > 1 { 1 } else { layout.tp };
    over.check(shape)?;
    for (figure, value) in [("weight_bytes", layout.weight_bytes), ("cache_bytes", layout.cache_bytes)] {
        if !(value > 0.0 && value.is_finite()) {
            return Err(Error::Work { figure, value, expected: "a number above 0" });
        }
    }
    let over = Layout { etp, ..over };
    let (mut first, mut parameters, mut layers) = (0, 0.0_f64, 0_u64);
    for stage in 0..layout.pp {
        let held = super::states::held(shape, &over, stage, first, super::states::Ends::WithEmbeddings);
        parameters = parameters.max(held.dense + held.expert);
        layers = layers.max(over.layers_of(shape, stage));
        first += over.layers_of(shape, stage);
    }
    let per_token = real(layers) * shape.cache_elements(layout.tp) * layout.cache_bytes;
    let cached = real(layout.sequences) * real(layout.context);
    // A pass keeps the residual stream and the widest tensors of one layer, in half precision, and logits of one token per
    // sequence in single precision.
    let wide = match shape.mlp {
        Mlp::Gelu2 | Mlp::Relu2 => real(shape.ffn),
        Mlp::Swiglu3 => 2.0 * real(shape.ffn),
    };
    let pass = real(layout.tokens_per_pass) * 2.0 * (2.0 * real(shape.hidden) + wide / real(layout.tp))
        + real(layout.sequences) * 4.0 * real(shape.vocab);
    Ok(Serving {
        weights: Bytes(whole(parameters * layout.weight_bytes)),
        cache_per_token: Bytes(whole(per_token)),
        cache: Bytes(whole(per_token * cached)),
        activations: Bytes(whole(pass)),
        buffers: Bytes(whole(overheads.context + overheads.buckets + overheads.held * pass)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::tests::{deepseek_v3, llama_8b};

    #[test]
    fn caches_have_their_published_sizes() {
        // Llama 3 8B in bf16: 2 x 32 layers x 8 heads x 128 x 2 B = 128 KiB. DeepSeek-V3: 61 layers x 576 x 2 B = 70,272 B, as
        // its technical report's comparison of caches prints (70 KB).
        let one = ServingLayout::default();
        let llama = inference(&llama_8b(), &one, Overheads::ALLOCATED).unwrap();
        assert_eq!(llama.cache_per_token, Bytes(131_072));
        assert_eq!(llama.cache, Bytes(131_072 * 2048));
        let deepseek = inference(&deepseek_v3(), &one, Overheads::ALLOCATED).unwrap();
        assert_eq!(deepseek.cache_per_token, Bytes(70_272));
    }

    #[test]
    fn the_cache_fills_what_is_left() {
        let served = inference(&llama_8b(), &ServingLayout::default(), Overheads::ALLOCATED).unwrap();
        let room = served.cache_tokens(Bytes(80_000_000_000)).unwrap();
        let used = served.weights.0 + served.activations.0 + room.0 * served.cache_per_token.0;
        assert!(used <= 80_000_000_000 && used + served.cache_per_token.0 > 80_000_000_000);
        assert_eq!(served.cache_tokens(Bytes(1)), None);
    }

    #[test]
    fn experts_dealt_over_replicas_take_a_share_of_their_weights() {
        let shape = deepseek_v3();
        let all =
            inference(&shape, &ServingLayout { weight_bytes: 1.0, ..ServingLayout::default() }, Overheads::ALLOCATED);
        let dealt = inference(
            &shape,
            &ServingLayout { ep: 32, weight_bytes: 1.0, ..ServingLayout::default() },
            Overheads::ALLOCATED,
        );
        let (all, dealt) = (all.unwrap().weights.as_f64(), dealt.unwrap().weights.as_f64());
        let experts: f64 = (0..61).map(|layer| shape.expert_parameters(layer)).sum();
        assert!((all - dealt - experts * 31.0 / 32.0).abs() < 2.0);
    }
}
