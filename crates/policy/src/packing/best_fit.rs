//! Best fit: a request goes where least is left of processor and accelerators together.
//!
//! Source: the baseline of Weng et al. 2023, "Beware of Fragmentation", whose weights are one for 128 cores and one for eight
//! accelerators.

use super::{Node, Potential};

/// See the module.
#[derive(Debug)]
pub(super) struct BestFit;

/// Millionths of 128 cores and of eight accelerators that are free, added.
pub(super) fn leftover(node: &Node) -> i64 {
    let cpu = i64::from(node.cpu_milli) * 1_000_000 / 128_000;
    cpu + i64::try_from(node.free_milli()).unwrap_or(i64::MAX / 1_000_000).saturating_mul(125)
}

impl Potential for BestFit {
    fn name(&self) -> &'static str {
        "best-fit"
    }

    fn about(&self) -> &'static str {
        "where least is left of processor and accelerators together"
    }

    fn leaves(&self, node: &Node) -> i64 {
        -leftover(node)
    }
}
