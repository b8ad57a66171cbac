//! Future fill: a request goes where it costs least of what the node could still be filled with.
//!
//! A state's worth is what samples of the expected requests would fill of it (a node whose processor is used up fills with
//! nothing, however many accelerators are free), less a little of its fragments and of what is left. Accelerators of models
//! that many requests insist on have a price, so that those who will take any go elsewhere.
//!
//! Ours. On the openb trace it packs 96.0 % where the published fragmentation gradient packs 95.2 (docs/performance.md).

use super::best_fit::leftover;
use super::fragmentation::fragments;
use super::{Mix, Node, Potential};

/// See the module.
#[derive(Debug)]
pub(super) struct FutureFill;

/// Weights of what is left and of fragments, beside one for what can be filled, in tenths; found on the openb trace. Without
/// fragments lists with many requests for whole nodes lose 1.8 points; with five times as many the default list loses 0.1.
const LEFTOVER_TENTHS: i64 = 100;
const FRAGMENTS_TENTHS: i64 = 2;
/// Price of a model in mean demand, over the worth of what it can be filled with. From 300 on nothing changes.
const PRICE: i64 = 600_000;

impl Potential for FutureFill {
    fn name(&self) -> &'static str {
        "future-fill"
    }

    fn about(&self) -> &'static str {
        "where it costs least of what the expected requests could still fill"
    }

    fn worth(&self, node: &Node, mix: &Mix) -> i64 {
        let filled = i64::try_from(mix.filled(node)).unwrap_or(i64::MAX / 1_000_000).saturating_mul(1_000_000)
            / mix.samples().max(1);
        filled - fragments(node, mix) * FRAGMENTS_TENTHS / 10
    }

    fn leaves(&self, node: &Node) -> i64 {
        -leftover(node) * LEFTOVER_TENTHS / 10
    }

    fn price(&self) -> i64 {
        PRICE
    }
}
