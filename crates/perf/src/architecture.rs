//! The shape of a transformer in plain numbers, and how many parameters that shape has.
//!
//! Invariant: pure arithmetic on whole numbers; every count is of parameters, before any sharding. Learned positions,
//! token types and poolers are not counted (under 0.1 % of a large model). Source: Vaswani et al. 2017; Korthikanti et al.
//! 2022 section 3 for the GPT block; Shazeer 2020 for the gated block; DeepSeek-V2 (2024) section 2.1 for latent attention.

mod of;

use dh_units::real;

/// The dimensions of latent attention, in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latent {
    /// Rank of the query's compression; 0 where queries are not compressed.
    pub q_rank: u64,
    /// Rank of the compression that keys and values share: what the cache keeps of a token, next to `rope`.
    pub kv_rank: u64,
    /// Elements of a head that carry the position.
    pub rope: u64,
    /// Elements of a query's or key's head that do not.
    pub nope: u64,
    /// Elements of a value's head.
    pub value: u64,
}

/// How queries meet keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Every head has keys and values of its own.
    Mha,
    /// Several heads share keys and values: `kv_heads` of them.
    Gqa,
    /// Keys and values are rebuilt from a shared low-rank vector.
    Mla(Latent),
}

/// The block after attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mlp {
    /// Two matrices with GELU between, with biases, as in GPT.
    Gelu2,
    /// Two matrices with a squared `ReLU` between, without biases.
    Relu2,
    /// Three matrices, gate and up before down, without biases, as in Llama.
    Swiglu3,
}

impl Mlp {
    /// Matrices of `hidden x ffn`.
    pub const fn matrices(self) -> u64 {
        match self {
            Self::Gelu2 | Self::Relu2 => 2,
            Self::Swiglu3 => 3,
        }
    }
}

/// A mixture of experts in place of the dense block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Routed experts of a layer.
    pub count: u64,
    /// Routed experts that see a token.
    pub top_k: u64,
    /// Width of one routed expert.
    pub ffn: u64,
    /// Width of all shared experts of a layer together; 0 where there are none.
    pub shared_ffn: u64,
    /// Layers at the start that have a dense block instead.
    pub dense_layers: u64,
}

/// What the layers of a model that are not all alike are, by count. All zero: each layer has attention over everything and
/// a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mix {
    /// Layers with attention; 0 is every layer.
    pub attention_layers: u64,
    /// Of these, layers that see only `window` tokens back.
    pub window_layers: u64,
    /// Tokens that such a layer sees.
    pub window: u64,
    /// Layers with a state of fixed size in place of keys and values: linear attention, state spaces.
    pub state_layers: u64,
    /// Heads of such a layer.
    pub state_heads: u64,
    /// Width of one of them.
    pub state_head_dim: u64,
    /// Groups of heads that share keys and queries.
    pub state_groups: u64,
    /// Width of these keys and queries.
    pub state_size: u64,
    /// Layers with a feed-forward block; 0 is every layer.
    pub feed_forward_layers: u64,
    /// Layers that attend to an encoder's output as well.
    pub cross_attention_layers: u64,
    /// Width of what goes into a routed expert and comes out; 0 is the residual stream's.
    pub expert_hidden: u64,
}

/// A transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// Blocks.
    pub layers: u64,
    /// Width of the residual stream.
    pub hidden: u64,
    /// Width inside the dense block.
    pub ffn: u64,
    /// Query heads.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Elements of a head.
    pub head_dim: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// How queries meet keys.
    pub attention: Attention,
    /// The block after attention.
    pub mlp: Mlp,
    /// The experts, if there are any.
    pub experts: Option<Experts>,
    /// Input and output embedding are one matrix.
    pub tied_embeddings: bool,
    /// It reads in both directions and never decodes, so that it keeps no cache.
    pub encoder: bool,
    /// What layers are, where they are not all alike.
    pub mix: Mix,
}

impl Architecture {
    /// Layers with attention.
    pub const fn attention_layers(&self) -> u64 {
        if self.mix.attention_layers == 0 { self.layers } else { self.mix.attention_layers }
    }

    /// Layers with a feed-forward block.
    pub const fn feed_forward_layers(&self) -> u64 {
        if self.mix.feed_forward_layers == 0 { self.layers } else { self.mix.feed_forward_layers }
    }

    /// Width of what goes into a routed expert.
    pub const fn expert_hidden(&self) -> u64 {
        if self.mix.expert_hidden == 0 { self.hidden } else { self.mix.expert_hidden }
    }

    /// Parameters that mix tokens with each other in one layer; of layers of several kinds the mean.
    pub fn mixer_parameters(&self) -> f64 {
        let mix = self.mix;
        let attention = real(self.attention_layers() + mix.cross_attention_layers) * self.attention_parameters();
        // Linear attention: values, a gate and the output of each head, keys and queries of each group, two factors a head.
        let width = 3.0 * real(mix.state_heads) * real(mix.state_head_dim)
            + 2.0 * real(mix.state_groups) * real(mix.state_size)
            + 2.0 * real(mix.state_heads);
        (attention + real(mix.state_layers) * real(self.hidden) * width) / real(self.layers.max(1))
    }

    /// Parameters of attention in one layer that has it.
    pub fn attention_parameters(&self) -> f64 {
        let (h, heads) = (real(self.hidden), real(self.heads));
        match self.attention {
            Attention::Mha | Attention::Gqa => {
                let queries = heads * real(self.head_dim);
                let keys = real(self.kv_heads) * real(self.head_dim);
                h * (2.0 * queries + 2.0 * keys)
            }
            Attention::Mla(latent) => {
                let (rank, rope) = (real(latent.kv_rank), real(latent.rope));
                let (nope, value) = (real(latent.nope), real(latent.value));
                let q_in = if latent.q_rank == 0 { 0.0 } else { h * real(latent.q_rank) };
                let q_from = if latent.q_rank == 0 { h } else { real(latent.q_rank) };
                q_in + q_from * heads * (nope + rope)
                    + h * (rank + rope)
                    + rank * heads * (nope + value)
                    + heads * value * h
            }
        }
    }

    /// Norms and biases of one layer: 13 h in a GPT block, 2 h without biases.
    pub fn vector_parameters(&self) -> f64 {
        let h = real(self.hidden);
        match self.mlp {
            Mlp::Gelu2 => {
                4.0 * h
                    + h
                    + real(self.heads) * real(self.head_dim)
                    + 2.0 * real(self.kv_heads) * real(self.head_dim)
                    + real(self.ffn)
                    + h
            }
            Mlp::Relu2 | Mlp::Swiglu3 => 2.0 * h,
        }
    }

    /// Whether layer `index`, counted from 0, has experts.
    pub fn has_experts(&self, index: u64) -> bool {
        self.experts.is_some_and(|experts| index >= experts.dense_layers)
    }

    /// Parameters of layer `index` that every token meets: attention, the dense block or the shared experts and the router.
    pub fn dense_parameters(&self, index: u64) -> f64 {
        let h = real(self.hidden);
        let matrices = real(self.mlp.matrices());
        let block = match self.experts {
            Some(experts) if self.has_experts(index) => {
                let narrowed = if self.mix.expert_hidden == 0 { 0.0 } else { 2.0 * h * real(self.mix.expert_hidden) };
                matrices * h * real(experts.shared_ffn) + h * real(experts.count) + narrowed
            }
            Some(_) | None => matrices * h * real(self.ffn),
        };
        self.mixer_parameters() + self.vector_parameters() + block * self.feed_forward_share()
    }

    /// Parameters of all routed experts of layer `index`.
    pub fn expert_parameters(&self, index: u64) -> f64 {
        match self.experts {
            Some(experts) if self.has_experts(index) => {
                real(self.mlp.matrices())
                    * real(self.expert_hidden())
                    * real(experts.ffn)
                    * real(experts.count)
                    * self.feed_forward_share()
            }
            Some(_) | None => 0.0,
        }
    }

    /// Layers with a feed-forward block over all layers.
    fn feed_forward_share(&self) -> f64 {
        real(self.feed_forward_layers()) / real(self.layers.max(1))
    }

    /// Parameters of one embedding matrix.
    pub fn embedding_parameters(&self) -> f64 {
        real(self.vocab) * real(self.hidden)
    }

    /// All parameters.
    pub fn parameters(&self) -> f64 {
        let layers: f64 = (0..self.layers).map(|i| self.dense_parameters(i) + self.expert_parameters(i)).sum();
        let embeddings = if self.tied_embeddings { 1.0 } else { 2.0 };
        layers + embeddings * self.embedding_parameters() + real(self.hidden)
    }

    /// Parameters that one token meets: of the routed experts, `top_k` only.
    pub fn active_parameters(&self) -> f64 {
        let idle: f64 = match self.experts {
            Some(experts) if experts.count > 0 => {
                let share = 1.0 - real(experts.top_k.min(experts.count)) / real(experts.count);
                (0..self.layers).map(|i| self.expert_parameters(i) * share).sum()
            }
            Some(_) | None => 0.0,
        };
        self.parameters() - idle
    }

    /// Elements that the cache keeps of one token in one layer, on one of `tp` devices.
    ///
    /// Heads are dealt to devices; with more devices than heads each keeps a copy of one. The shared vector of latent
    /// attention has no heads to deal: every device keeps all of it.
    pub fn cache_elements(&self, tp: u64) -> f64 {
        if self.encoder {
            return 0.0;
        }
        match self.attention {
            Attention::Mha | Attention::Gqa => 2.0 * real(self.kv_heads.div_ceil(tp.max(1))) * real(self.head_dim),
            Attention::Mla(latent) => real(latent.kv_rank) + real(latent.rope),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A GPT of the Megatron study, with its vocabulary of 51,200.
    pub(crate) fn gpt(layers: u64, hidden: u64, heads: u64) -> Architecture {
        Architecture {
            layers,
            hidden,
            ffn: 4 * hidden,
            heads,
            kv_heads: heads,
            head_dim: hidden / heads,
            vocab: 51_200,
            attention: Attention::Mha,
            mlp: Mlp::Gelu2,
            experts: None,
            tied_embeddings: true,
            encoder: false,
            mix: Mix::default(),
        }
    }

    /// Llama 3 8B.
    pub(crate) fn llama_8b() -> Architecture {
        Architecture {
            layers: 32,
            hidden: 4096,
            ffn: 14_336,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            vocab: 128_256,
            attention: Attention::Gqa,
            mlp: Mlp::Swiglu3,
            experts: None,
            tied_embeddings: false,
            encoder: false,
            mix: Mix::default(),
        }
    }

    /// DeepSeek-V3.
    pub(crate) fn deepseek_v3() -> Architecture {
        Architecture {
            layers: 61,
            hidden: 7168,
            ffn: 18_432,
            heads: 128,
            kv_heads: 128,
            head_dim: 128,
            vocab: 129_280,
            attention: Attention::Mla(Latent { q_rank: 1536, kv_rank: 512, rope: 64, nope: 128, value: 128 }),
            mlp: Mlp::Swiglu3,
            experts: Some(Experts { count: 256, top_k: 8, ffn: 2048, shared_ffn: 2048, dense_layers: 3 }),
            tied_embeddings: false,
            encoder: false,
            mix: Mix::default(),
        }
    }

    #[test]
    fn shapes_have_their_published_parameter_counts() {
        // Korthikanti et al. 2022 table 3; the Llama 3 and DeepSeek-V3 reports.
        for (shape, published) in [
            (gpt(48, 6144, 64), 22.0e9),
            (gpt(96, 12_288, 96), 174.6e9),
            (gpt(105, 20_480, 128), 529.6e9),
            (gpt(128, 25_600, 160), 1008.0e9),
            (llama_8b(), 8.03e9),
            (deepseek_v3(), 671e9),
        ] {
            assert!((shape.parameters() / published - 1.0).abs() < 0.005, "{} for {published}", shape.parameters());
        }
        assert!((deepseek_v3().active_parameters() / 37e9 - 1.0).abs() < 0.02);
        assert!((llama_8b().active_parameters() - llama_8b().parameters()).abs() < 0.5);
    }

    #[test]
    fn more_devices_than_key_heads_keep_copies() {
        let llama = llama_8b();
        assert!((llama.cache_elements(1) - 2048.0).abs() < 0.5);
        assert!((llama.cache_elements(8) - 256.0).abs() < 0.5);
        assert!((llama.cache_elements(16) - 256.0).abs() < 0.5);
        assert!((deepseek_v3().cache_elements(1) - 576.0).abs() < 0.5);
        assert!((deepseek_v3().cache_elements(8) - 576.0).abs() < 0.5);
        assert!(Architecture { encoder: true, ..llama }.cache_elements(1).abs() < 0.5);
    }
}
