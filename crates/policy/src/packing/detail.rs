//! How finely nodes are told apart: a hall of any size has thousands of states at most.
//!
//! Processor and memory are rounded down to leading bits of their share of a whole node, so that what whole nodes, halves and
//! eighths of them have is seen exactly. Invariant: a node never has less than it is seen to have, and never more than
//! [`Scale::most`] says.

use serde::{Deserialize, Serialize};

use super::Node;
use super::table::MODELS;

/// How finely nodes are told apart by processor and memory. Accelerators are always told apart exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detail {
    /// As they are: for some thousand nodes.
    Exact,
    /// By so many leading bits of their share of a whole node, from 1. What fits a node but not the state it is seen in is
    /// found when it fits nowhere else.
    Bits(u8),
}

/// A whole node, in the unit of shares.
const WHOLE_LOG: u32 = 16;

/// What whole nodes have, by model.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    detail: Detail,
    whole: [(u32, u32); MODELS],
}

impl Scale {
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, whole: [(0, 0); MODELS] }
    }

    pub(super) fn detail(&self) -> Detail {
        self.detail
    }

    /// A whole node: the first of its model is what shares are of.
    pub(super) fn learn(&mut self, whole: &Node) {
        if let Some(held) = self.whole.get_mut(usize::from(whole.model)).filter(|held| **held == (0, 0)) {
            *held = (whole.cpu_milli, whole.memory_mib);
        }
    }

    /// `node` as it is seen, if it has this processor and memory.
    pub(super) fn see(&self, node: &Node, cpu_milli: u32, memory_mib: u32) -> Node {
        let (cpu, memory) = self.whole.get(usize::from(node.model)).copied().unwrap_or_default();
        match self.detail {
            Detail::Exact => node.holding(cpu_milli, memory_mib),
            Detail::Bits(bits) => node.holding(down(cpu_milli, cpu, bits), down(memory_mib, memory, bits)),
        }
    }

    /// More than what any node has that is seen as `node`, and little more.
    pub(super) fn most(&self, node: &Node) -> Node {
        let (cpu, memory) = self.whole.get(usize::from(node.model)).copied().unwrap_or_default();
        match self.detail {
            Detail::Exact => *node,
            Detail::Bits(bits) => node.holding(up(node.cpu_milli, cpu, bits), up(node.memory_mib, memory, bits)),
        }
    }
}

/// The leading bits of `number`.
fn leading(number: u64, bits: u8) -> (u64, u32) {
    let below = (u64::BITS - number.leading_zeros()).saturating_sub(u32::from(bits.max(1)));
    (number >> below << below, below)
}

/// The share of `whole`, in 2^-16, rounded down to its leading bits, and how many bits it lacks.
fn share(number: u32, whole: u32, bits: u8) -> (u64, u32) {
    leading((u64::from(number) << WHOLE_LOG) / u64::from(whole.max(1)), bits)
}

/// The least number that has the same share: never more than `number`, and itself its own.
fn down(number: u32, whole: u32, bits: u8) -> u32 {
    let (share, _) = share(number, whole, bits);
    u32::try_from((share * u64::from(whole.max(1))).div_ceil(1 << WHOLE_LOG)).unwrap_or(number)
}

fn up(number: u32, whole: u32, bits: u8) -> u32 {
    let (share, below) = share(number, whole, bits);
    u32::try_from(((share + (1 << below)) * u64::from(whole)) >> WHOLE_LOG).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_what_it_is_seen_to_have_and_no_more_than_the_most() {
        for (bits, whole_cpu) in [(1, 192_000), (2, 192_000), (2, 41_000), (3, 999), (5, 192_000)] {
            let mut scale = Scale::new(Detail::Bits(bits));
            let whole = Node::empty(whole_cpu, 2_097_152, 0, 8);
            scale.learn(&whole);
            assert_eq!(scale.see(&whole, whole.cpu_milli, whole.memory_mib), whole);
            assert_eq!(scale.see(&whole, whole_cpu, 1_048_576).memory_mib, 1_048_576, "a half is seen exactly");
            for cpu in (0..=200_000).step_by(37) {
                let seen = scale.see(&whole, cpu, cpu * 10);
                assert!(seen.cpu_milli <= cpu && cpu <= scale.most(&seen).cpu_milli, "{bits} {cpu} {seen:?}");
                assert!(
                    seen.memory_mib <= cpu * 10 && cpu * 10 <= scale.most(&seen).memory_mib,
                    "{bits} {cpu} {seen:?}"
                );
                assert_eq!(scale.see(&seen, seen.cpu_milli, seen.memory_mib), seen, "{bits} {cpu}");
            }
        }
    }

    #[test]
    fn exact_is_exact() {
        let node = Node::empty(1000, 1000, 0, 1);
        assert_eq!(Scale::new(Detail::Exact).see(&node, 997, 13), node.holding(997, 13));
    }
}
