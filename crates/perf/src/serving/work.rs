//! What one pass of a model has to do on each accelerator: products, bytes of weights and cache, exchanges.
//!
//! Invariant: counts only, no efficiencies; computed once for a deployment, so that a pass costs no loop over layers. Layers
//! of a kind are alike. Sources: Ainslie et al. 2023 (grouped queries); DeepSeek-V2 (2024) section 2.1 (latent attention, whose
//! decoding works on the compressed cache); Yang et al. 2024 (gated delta rule: a state of keys by values for each head).

use dh_units::real;

use super::Deployment;
use crate::architecture::Attention;

/// Bytes of an activation.
pub(super) const HALF: f64 = 2.0;

/// A deployment in numbers; of all layers together unless it says otherwise, before any sharding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Parameters of products that every token meets, without the head.
    pub(super) dense: f64,
    /// Parameters of routed experts.
    pub(super) routed: f64,
    /// Routed experts of a layer.
    pub(super) experts: f64,
    /// Of these, for each token.
    pub(super) top_k: f64,
    /// Parameters of the head.
    pub(super) head: f64,
    /// Layers.
    pub(super) layers: f64,
    /// Layers with experts.
    pub(super) expert_layers: f64,
    /// Layers with latent attention or a state.
    pub(super) mixer_layers: f64,
    /// Layers that attend to everything, and to a window.
    pub(super) attending: [f64; 2],
    /// Tokens of that window.
    pub(super) window: f64,
    /// Bytes that an accelerator keeps of one token in one attending layer.
    pub(super) token_bytes: f64,
    /// Operations of one query over one cached token in one layer, of a decode step and of a prompt.
    pub(super) decode_pair: f64,
    /// See `decode_pair`.
    pub(super) prompt_pair: f64,
    /// Bytes of the states of one sequence.
    pub(super) state_bytes: f64,
    /// Elements of a token that kernels between products read and write, whole on each accelerator and divided among them.
    pub(super) vectors: [f64; 2],
    /// Width of the residual stream.
    pub(super) hidden: f64,
    /// Width of what is sent to an expert.
    pub(super) expert_hidden: f64,
}

impl Work {
    pub(super) fn of(deployment: &Deployment<'_>) -> Self {
        let (shape, layout) = (deployment.shape, deployment.layout);
        let (layers, h) = (real(shape.layers), real(shape.hidden));
        let share = real(shape.feed_forward_layers()) / layers.max(1.0);
        let matrices = real(shape.mlp.matrices());
        let (mut dense, mut routed, mut experts, mut top_k, mut expert_layers) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut plain_layers = layers * share;
        let mut widths = 0.0;
        if let Some(mixture) = shape.experts.filter(|mixture| mixture.count > 0) {
            expert_layers = real(shape.layers.saturating_sub(mixture.dense_layers)) * share;
            plain_layers -= expert_layers;
            experts = real(mixture.count);
            top_k = real(mixture.top_k.clamp(1, mixture.count));
            routed = expert_layers * experts * matrices * real(shape.expert_hidden()) * real(mixture.ffn);
            let narrowed = if shape.mix.expert_hidden == 0 { 0.0 } else { 2.0 * h * real(shape.mix.expert_hidden) };
            dense += expert_layers * (matrices * h * real(mixture.shared_ffn) + h * experts + narrowed);
            widths += expert_layers * (top_k * real(mixture.ffn) + real(mixture.shared_ffn));
        }
        dense += layers * shape.mixer_parameters() + plain_layers * matrices * h * real(shape.ffn);
        widths += plain_layers * real(shape.ffn);
        let mix = shape.mix;
        let (attention, windows) = (real(shape.attention_layers()), real(mix.window_layers));
        let heads = real(shape.heads);
        let (decode_pair, prompt_pair) = match shape.attention {
            Attention::Mha | Attention::Gqa => {
                let pair = 4.0 * heads * real(shape.head_dim);
                (pair, pair)
            }
            Attention::Mla(latent) => {
                let (rank, rope) = (real(latent.kv_rank), real(latent.rope));
                (2.0 * heads * (2.0 * rank + rope), 2.0 * heads * (real(latent.nope) + rope + real(latent.value)))
            }
        };
        let latent = if matches!(shape.attention, Attention::Mla(_)) { attention } else { 0.0 };
        // A state is kept in single precision: a matrix of keys by values for each head.
        let state = real(mix.state_heads) * real(mix.state_head_dim) * real(mix.state_size) * 4.0;
        Self {
            dense,
            routed,
            experts,
            top_k,
            head: shape.embedding_parameters(),
            layers,
            expert_layers,
            mixer_layers: latent + real(mix.state_layers),
            attending: [(attention - windows).max(0.0), windows],
            window: real(mix.window),
            token_bytes: shape.cache_elements(layout.tp) * layout.cache_bytes,
            decode_pair,
            prompt_pair,
            state_bytes: real(mix.state_layers) * state,
            // Norms, sums and quantisation around two products of the residual stream; gate, up and down between.
            vectors: [layers * 12.0 * h, widths * 4.0],
            hidden: h,
            expert_hidden: real(shape.expert_hidden()),
        }
    }

    /// Tokens of cache that attention of all layers together reads at `context`.
    pub(super) fn attended(&self, context: f64) -> f64 {
        self.attending[0] * context + self.attending[1] * context.min(self.window)
    }

    /// The share of experts that at least one of `tokens` chooses, were all choices alike.
    pub(super) fn touched(&self, tokens: f64) -> f64 {
        if self.experts < 0.5 { 0.0 } else { 1.0 - (1.0 - self.top_k / self.experts).max(0.0).powf(tokens) }
    }

    /// Bytes that an accelerator keeps of one sequence of `context` tokens.
    pub(super) fn sequence_bytes(&self, context: f64, tp: f64, pp: f64) -> f64 {
        (self.attended(context) * self.token_bytes + self.state_bytes / tp) / pp
    }
}
