//! From a model of the catalogue to its shape.
//!
//! Invariant: what the catalogue does not say of a model is what a plain decoder has.

use dh_blueprint::{ModelItem, Sourced};

use super::{Architecture, Attention, Experts, Latent, Mix, Mlp};

impl From<&ModelItem> for Architecture {
    fn from(model: &ModelItem) -> Self {
        let count = |number: &Sourced<u32>| u64::from(number.value);
        let known = |number: &Option<Sourced<u32>>| number.as_ref().map_or(0, count);
        let says = |answer: &Option<Sourced<bool>>| answer.as_ref().is_some_and(|answer| answer.value);
        let attention = match model.attention.value {
            dh_blueprint::Attention::Mha => Attention::Mha,
            dh_blueprint::Attention::Gqa | dh_blueprint::Attention::Mqa => Attention::Gqa,
            dh_blueprint::Attention::Mla => Attention::Mla(Latent {
                q_rank: known(&model.mla_q_rank),
                kv_rank: known(&model.mla_kv_rank),
                rope: known(&model.mla_rope_dim),
                nope: known(&model.mla_nope_dim),
                value: known(&model.mla_v_dim),
            }),
        };
        let experts = model.experts.as_ref().map(|experts| Experts {
            count: count(experts),
            top_k: known(&model.experts_per_token),
            ffn: known(&model.expert_ffn),
            shared_ffn: model
                .shared_ffn
                .as_ref()
                .map_or(known(&model.shared_experts) * known(&model.expert_ffn), count),
            dense_layers: known(&model.dense_layers),
        });
        Self {
            layers: count(&model.layers),
            hidden: count(&model.hidden),
            ffn: count(&model.ffn),
            heads: count(&model.heads),
            kv_heads: count(&model.kv_heads),
            head_dim: count(&model.head_dim),
            vocab: count(&model.vocab),
            attention,
            mlp: match model.mlp.value {
                dh_blueprint::Mlp::Gelu2 => Mlp::Gelu2,
                dh_blueprint::Mlp::Relu2 => Mlp::Relu2,
                dh_blueprint::Mlp::Swiglu3 => Mlp::Swiglu3,
            },
            experts,
            tied_embeddings: says(&model.tied_embeddings),
            encoder: says(&model.encoder),
            mix: Mix {
                attention_layers: known(&model.attention_layers),
                window_layers: known(&model.window_layers),
                window: known(&model.sliding_window),
                state_layers: known(&model.state_layers),
                state_heads: known(&model.state_heads),
                state_head_dim: known(&model.state_head_dim),
                state_groups: known(&model.state_groups),
                state_size: known(&model.state_size),
                feed_forward_layers: known(&model.feed_forward_layers),
                cross_attention_layers: known(&model.cross_attention_layers),
                expert_hidden: known(&model.expert_hidden),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_blueprint::Catalog;
    use dh_units::real;

    #[test]
    fn every_model_of_the_catalogue_has_a_shape_of_its_size() {
        let mut off = Vec::new();
        for model in Catalog::builtin().models() {
            let shape = Architecture::from(model);
            let error = shape.parameters() / real(model.parameters.value) - 1.0;
            if error.abs() > 0.08 {
                off.push((model.name.as_str(), (error * 100.0).round()));
            }
        }
        assert_eq!(off, []);
    }
}
