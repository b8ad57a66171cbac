//! Accelerators that are in use in part, sorted by what is free on them, so that the tightest that will do is found at once.
//!
//! Invariant: exactly those of nodes that take work. Cost: the accelerators of a node that are in use in part, for each change
//! of the node.

use std::collections::BTreeSet;

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

use super::node::State;

/// Class, what is free or busy, node, number.
type Entry = (u8, u16, NodeId, u8);

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shared {
    /// By thousandths free.
    parts: BTreeSet<Entry>,
    /// By slots taken.
    slices: BTreeSet<Entry>,
}

impl Shared {
    pub(super) fn enter(&mut self, node: NodeId, state: &State) {
        if !state.works() {
            return;
        }
        self.parts.extend(state.parts().iter().map(|(number, free)| (state.class, *free, node, *number)));
        let slices = state.slices().iter().map(|(number, busy)| (state.class, u16::from(*busy), node, *number));
        self.slices.extend(slices);
    }

    pub(super) fn leave(&mut self, node: NodeId, state: &State) {
        if !state.works() {
            return;
        }
        for (number, free) in state.parts() {
            self.parts.remove(&(state.class, *free, node, *number));
        }
        for (number, busy) in state.slices() {
            self.slices.remove(&(state.class, u16::from(*busy), node, *number));
        }
    }

    /// Accelerators of `class` that have at least `milli` free, those with least first: node, number, thousandths free.
    pub(super) fn parts(&self, class: u8, milli: u16) -> impl Iterator<Item = (u16, NodeId, u8)> {
        let range = self.parts.range((class, milli, NodeId(0), 0)..=(class, u16::MAX, NodeId(u32::MAX), u8::MAX));
        range.map(|(_, free, node, number)| (*free, *node, *number))
    }

    /// Sets of slots that are taken on accelerators of `class`, each once, ascending.
    pub(super) fn busy(&self, class: u8) -> impl Iterator<Item = u8> {
        let mut next = Some(0_u16);
        std::iter::from_fn(move || {
            let from = (class, next?, NodeId(0), 0);
            let (_, busy, ..) = self.slices.range(from..=(class, u16::MAX, NodeId(u32::MAX), u8::MAX)).next()?;
            next = busy.checked_add(1);
            u8::try_from(*busy).ok()
        })
    }

    /// Accelerators of `class` on which exactly these slots are taken.
    pub(super) fn with(&self, class: u8, busy: u8) -> impl Iterator<Item = (NodeId, u8)> {
        let busy = u16::from(busy);
        let range = self.slices.range((class, busy, NodeId(0), 0)..=(class, busy, NodeId(u32::MAX), u8::MAX));
        range.map(|(.., node, number)| (*node, *number))
    }
}
