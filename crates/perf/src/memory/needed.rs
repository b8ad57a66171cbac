//! What the fullest stage cannot do without, without a list of stages: for searches that ask a million times.
//!
//! Invariant: equal to the `needed` of [`super::training`] but for rounding. Layers of a kind are equal and lie together, and of
//! stages that hold the same the first has the most micro-batches in flight; so a handful of stages decides. Cost: O(1).

use dh_units::{Bytes, real, whole};

use super::Overheads;
use super::activations::{at_work, kept, logits, tokens};
use super::states::{Held, states};
use crate::architecture::Architecture;
use crate::layout::Layout;

/// One layer of a kind, on one accelerator.
#[derive(Clone, Copy, Default)]
struct Kind {
    /// Parameters that every token meets.
    dense: f64,
    /// Parameters of routed experts.
    expert: f64,
    /// Bytes kept of a token.
    kept: f64,
    /// Bytes of a token while the layer goes back.
    at_work: f64,
}

impl Kind {
    /// The kind of layer `index`.
    fn of(shape: &Architecture, layout: &Layout, index: u64) -> Self {
        Self {
            dense: shape.dense_parameters(index) / real(layout.tp),
            expert: shape.expert_parameters(index) / (real(layout.ep) * real(layout.etp)),
            kept: kept(shape, layout, index),
            at_work: at_work(shape, layout, index),
        }
    }
}

/// The `needed` of [`super::training`], for a layout that has passed [`Layout::check`].
pub fn needed(shape: &Architecture, layout: &Layout, overheads: Overheads) -> Bytes {
    // Layers before `border` have a dense block, those from it on have experts.
    let border = shape.experts.map_or(shape.layers, |experts| experts.dense_layers.min(shape.layers));
    let plain = if border > 0 { Kind::of(shape, layout, 0) } else { Kind::default() };
    let mixed = if border < shape.layers { Kind::of(shape, layout, border) } else { Kind::default() };
    let last = layout.pp.saturating_sub(1);
    let at_border = stage_of(shape, layout, border);
    let shorter = shape.layers % layout.pp.max(1);
    // The ends; the first that has no embedding; where experts begin and where they are all; the first with a layer fewer.
    let deciding = [0, 1, at_border, at_border + 1, shorter, last];
    let mut most = 0.0_f64;
    for stage in deciding.into_iter().filter(|stage| *stage <= last) {
        let first = first_of(shape, layout, stage);
        let layers = layout.layers_of(shape, stage);
        let before = border.saturating_sub(first).min(layers);
        let [plains, experts] = [before, layers - before].map(real);
        let mut held = Held {
            dense: plains * plain.dense + experts * mixed.dense,
            expert: plains * plain.expert + experts * mixed.expert,
            largest_unit: 0.0,
        };
        let mut busiest = 0.0_f64;
        for (count, kind) in [(plains, plain), (experts, mixed)] {
            if count > 0.0 {
                held.largest_unit = held.largest_unit.max(kind.dense + kind.expert);
                busiest = busiest.max(kind.at_work);
            }
        }
        let matrices = match (stage == 0, stage == last) {
            (true, true) if shape.tied_embeddings => 1.0,
            (true, true) => 2.0,
            (true, false) | (false, true) => 1.0,
            (false, false) => 0.0,
        };
        if matrices > 0.0 {
            let matrix = shape.embedding_parameters() / real(layout.tp);
            held.dense += matrices * matrix;
            held.largest_unit = held.largest_unit.max(matrix);
        }
        let states = states(held, layout);
        let tokens = tokens(layout);
        let activations = (plains * plain.kept + experts * mixed.kept) * tokens * layout.in_flight(stage);
        let head = if stage == last { logits(shape, layout) } else { 0.0 };
        let working = busiest.max(head) * tokens + states.gathered;
        most = most.max(states.weights + states.gradients + states.optimizer + activations + working);
    }
    Bytes(whole(most + overheads.context + overheads.buckets + overheads.pressed * most))
}

/// Whether the end stages hold a layer fewer than the others; see [`Layout::layers_of`].
const fn ends_are_short(shape: &Architecture, layout: &Layout) -> bool {
    !shape.layers.is_multiple_of(layout.pp) && layout.pp > 1 && (shape.layers + 2).is_multiple_of(layout.pp)
}

/// The first layer of stage `stage`.
fn first_of(shape: &Architecture, layout: &Layout, stage: u64) -> u64 {
    if ends_are_short(shape, layout) {
        return (stage * ((shape.layers + 2) / layout.pp)).saturating_sub(1);
    }
    stage * (shape.layers / layout.pp) + stage.min(shape.layers % layout.pp)
}

/// The stage that layer `layer` is on; the number of stages for the layer after the last.
fn stage_of(shape: &Architecture, layout: &Layout, layer: u64) -> u64 {
    if ends_are_short(shape, layout) {
        return (layer + 1) / ((shape.layers + 2) / layout.pp);
    }
    let (each, longer) = (shape.layers / layout.pp, shape.layers % layout.pp);
    let in_longer = longer * (each + 1);
    if layer < in_longer { layer / (each + 1) } else { longer + (layer - in_longer) / each.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Experts;
    use crate::architecture::tests::{deepseek_v3, gpt, llama_8b};
    use crate::layout::{Offload, Recompute, Schedule, Sharding};
    use crate::memory::training;
    use proptest::prelude::*;

    #[test]
    fn stages_begin_where_the_layers_before_them_end() {
        for (layers, pp) in [(96, 8), (70, 12), (106, 12), (7, 3), (5, 5), (80, 1), (126, 16), (61, 8)] {
            let shape = gpt(layers, 1024, 8);
            let layout = Layout { pp, ..Layout::default() };
            let mut first = 0;
            for stage in 0..pp {
                assert_eq!(first_of(&shape, &layout, stage), first, "{layers} over {pp}");
                for layer in first..first + layout.layers_of(&shape, stage) {
                    assert_eq!(stage_of(&shape, &layout, layer), stage, "layer {layer} of {layers} over {pp}");
                }
                first += layout.layers_of(&shape, stage);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_short_way_needs_what_the_long_way_needs(
            model in 0_usize..5,
            (tp, pp, vpp, dp, cp) in (0_u32..4, 1_u64..24, 1_u64..4, 0_u32..4, 0_u32..3),
            (ep, micro_batch, micro_batches) in (0_u32..3, 1_u64..5, proptest::option::of(1_u64..40)),
            (recompute, sharding, offload) in (0_usize..4, 0_usize..4, 0_usize..3),
            (spread, gpipe) in (any::<bool>(), any::<bool>()),
            dense_layers in 0_u64..70,
        ) {
            let mut shape = [gpt(96, 12_288, 96), gpt(70, 14_336, 112), llama_8b(), deepseek_v3(), deepseek_v3()][model];
            if model == 4 {
                shape.experts = shape.experts.map(|experts| Experts { dense_layers, ..experts });
            }
            let ep = if shape.experts.is_some() { 1 << ep } else { 1 };
            let layout = Layout {
                tp: 1 << tp, pp, vpp, dp: (1 << dp) * ep, cp: 1 << cp, ep, micro_batch, micro_batches,
                recompute: [Recompute::None, Recompute::Selective, Recompute::Operators, Recompute::Full][recompute],
                sharding: [Sharding::None, Sharding::Optimizer, Sharding::Gradients, Sharding::Weights][sharding],
                offload: [Offload::None, Offload::Optimizer, Offload::Everything][offload],
                sequence_parallel: spread,
                schedule: if gpipe { Schedule::AllForward } else { Schedule::OneForwardOneBackward },
                ..Layout::default()
            };
            prop_assume!(layout.check(&shape).is_ok());
            let long = training(&shape, &layout, Overheads::DEVICE).unwrap().needed.as_f64();
            let short = needed(&shape, &layout, Overheads::DEVICE).as_f64();
            prop_assert!((short / long - 1.0).abs() < 1e-9, "{short} for {long}: {layout:?}");
        }
    }
}
