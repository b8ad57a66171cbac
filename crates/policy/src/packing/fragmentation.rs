//! The fragmentation gradient: a request goes where the accelerators that the expected requests cannot use grow least.
//!
//! Source: Weng et al. 2023, "Beware of Fragmentation" (FGD), with ties and near ties broken by best fit: with the published
//! gradient alone the order of ties is worth six points of allocation.

use super::best_fit::leftover;
use super::{Mix, Node, Potential};

/// See the module.
#[derive(Debug)]
pub(super) struct Fragmentation;

/// What one unit of [`leftover`] weighs, in thousandths of accelerators: the middle of the range in which little changes.
const LEFTOVER: i64 = 30;

/// Millionths of a thousandth of an accelerator that an expected request cannot use here, in the mean of the mix.
pub(super) fn fragments(node: &Node, mix: &Mix) -> i64 {
    let free = node.free_milli();
    let useless = |request: &super::Request| {
        if request.accelerators == 0 || !node.fits(request) {
            free
        } else {
            node.free().iter().filter(|left| **left < request.milli).map(|left| u64::from(*left)).sum()
        }
    };
    let sum: u64 = mix.requests().iter().map(|(request, count)| count * useless(request)).sum();
    let mean = u128::from(sum) * 1_000_000 / u128::from(mix.total().max(1));
    i64::try_from(mean).unwrap_or(i64::MAX)
}

impl Potential for Fragmentation {
    fn name(&self) -> &'static str {
        "fragmentation"
    }

    fn about(&self) -> &'static str {
        "where accelerators that the expected requests cannot use grow least"
    }

    fn worth(&self, node: &Node, mix: &Mix) -> i64 {
        -fragments(node, mix)
    }

    fn leaves(&self, node: &Node) -> i64 {
        -LEFTOVER * leftover(node)
    }
}
