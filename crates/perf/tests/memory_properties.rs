//! What must hold of the memory of any model in any layout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::allow_attributes, reason = "a test")]

use dh_perf::architecture::{Architecture, Attention, Experts, Mix, Mlp};
use dh_perf::layout::{AttentionKernel, Layout, Recompute, Sharding};
use dh_perf::memory::{Memory, Overheads, ServingLayout, inference, training};
use dh_units::Bytes;
use proptest::prelude::*;

fn shapes() -> impl Strategy<Value = Architecture> {
    (1_u64..6, 1_u64..5, 0_u32..3, prop::bool::ANY, prop::option::of(3_u32..6)).prop_map(
        |(quads, wide, share, gated, experts)| {
            let (heads, head_dim) = (16 * wide, 64);
            let hidden = heads * head_dim;
            Architecture {
                layers: 4 * quads,
                hidden,
                ffn: 4 * hidden,
                heads,
                kv_heads: heads >> share,
                head_dim,
                vocab: 32_000,
                attention: if share == 0 { Attention::Mha } else { Attention::Gqa },
                mlp: if gated { Mlp::Swiglu3 } else { Mlp::Gelu2 },
                experts: experts.map(|power| Experts {
                    count: 1 << power,
                    top_k: 2,
                    ffn: hidden,
                    shared_ffn: 0,
                    dense_layers: 1,
                }),
                tied_embeddings: gated,
                encoder: false,
                mix: Mix::default(),
            }
        },
    )
}

fn layouts() -> impl Strategy<Value = Layout> {
    let sharding =
        prop::sample::select(vec![Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Weights]);
    let recompute =
        prop::sample::select(vec![Recompute::None, Recompute::Selective, Recompute::Operators, Recompute::Full]);
    let kernel = prop::sample::select(vec![AttentionKernel::Unfused, AttentionKernel::Flash]);
    (0_u32..4, 0_u32..3, 0_u32..5, sharding, recompute, kernel, 1_u64..5, prop::bool::ANY).prop_map(
        |(tp, pp, dp, sharding, recompute, kernel, micro_batch, sequence_parallel)| Layout {
            tp: 1 << tp,
            pp: 1 << pp,
            dp: 1 << dp,
            sharding,
            recompute,
            kernel,
            micro_batch,
            sequence_parallel,
            dropout: sequence_parallel,
            ..Layout::default()
        },
    )
}

fn of(shape: &Architecture, layout: &Layout) -> Memory {
    training(shape, layout, Overheads::DEVICE).unwrap()
}

proptest! {
    #[test]
    fn parts_add_up_and_the_peak_is_the_fullest_stage(shape in shapes(), layout in layouts()) {
        let memory = of(&shape, &layout);
        prop_assert_eq!(memory.stages.len() as u64, layout.pp);
        prop_assert_eq!(memory.total(), memory.stages.iter().map(dh_perf::memory::StageMemory::total).max().unwrap());
        let peak = memory.peak;
        let parts = peak.states().0 + peak.activations.0 + peak.buffers.0;
        prop_assert_eq!(memory.total(), Bytes(parts));
        prop_assert!(memory.needed <= memory.total());
        prop_assert!(memory.fits(memory.needed).fits());
        prop_assert!(!memory.fits(Bytes(memory.needed.0 - 1)).fits());
    }

    #[test]
    fn a_longer_sequence_or_a_larger_batch_never_takes_less(shape in shapes(), layout in layouts()) {
        let more = Layout { sequence: 2 * layout.sequence, ..layout };
        prop_assert!(of(&shape, &more).peak.activations > of(&shape, &layout).peak.activations);
        prop_assert!(of(&shape, &more).total() > of(&shape, &layout).total());
        let larger = Layout { micro_batch: layout.micro_batch + 1, ..layout };
        prop_assert!(of(&shape, &larger).total() > of(&shape, &layout).total());
    }

    #[test]
    fn splitting_more_never_takes_more_weights_or_activations(shape in shapes(), layout in layouts()) {
        let split = Layout { tp: 2 * layout.tp, ..layout };
        let (one, two) = (of(&shape, &layout).stages, of(&shape, &split).stages);
        for (one, two) in one.iter().zip(&two) {
            prop_assert!(two.weights <= one.weights && two.states() <= one.states());
            prop_assert!(two.activations <= one.activations);
        }
        let replicated = Layout { dp: 2 * layout.dp, ..layout };
        for (one, two) in one.iter().zip(&of(&shape, &replicated).stages) {
            prop_assert!(two.states() <= one.states());
        }
    }

    #[test]
    fn sharding_more_never_takes_more_states(shape in shapes(), layout in layouts()) {
        let order = [Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Weights];
        for pair in order.windows(2) {
            if let [less, more] = pair {
                let less = of(&shape, &Layout { sharding: *less, ..layout });
                let more = of(&shape, &Layout { sharding: *more, ..layout });
                prop_assert!(more.stages.iter().zip(&less.stages).all(|(more, less)| more.states() <= less.states()));
            }
        }
    }

    #[test]
    fn one_accelerator_has_all_of_it_whatever_is_sharded(shape in shapes(), layout in layouts()) {
        let alone = Layout { tp: 1, pp: 1, dp: 1, ..layout };
        let sharded = of(&shape, &alone).peak;
        let whole = of(&shape, &Layout { sharding: Sharding::None, ..alone }).peak;
        prop_assert_eq!(sharded, whole);
        let parameters = shape.parameters();
        // Rounded down to bytes once a part; the final norm is not in a stage.
        let bytes = whole.weights.as_f64();
        prop_assert!((bytes / (2.0 * parameters) - 1.0).abs() < 1e-3, "{bytes} for {parameters}");
    }

    #[test]
    fn recomputing_more_never_keeps_more(shape in shapes(), layout in layouts()) {
        let kept = |recompute| of(&shape, &Layout { recompute, ..layout }).peak.activations;
        prop_assert!(kept(Recompute::Full) < kept(Recompute::Selective));
        prop_assert!(kept(Recompute::Selective) <= kept(Recompute::None));
        prop_assert!(kept(Recompute::Operators) < kept(Recompute::None));
    }

    #[test]
    fn a_cache_is_linear_in_tokens(shape in shapes(), sequences in 1_u64..64, context in 1_u64..4096) {
        let layout = ServingLayout { sequences, context, ..ServingLayout::default() };
        let served = inference(&shape, &layout, Overheads::DEVICE).unwrap();
        prop_assert_eq!(served.cache.0, served.cache_per_token.0 * sequences * context);
    }
}
