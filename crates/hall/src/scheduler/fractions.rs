//! Parts of accelerators: what must hold of accelerators that several jobs share.
//!
//! Invariant: shares of one accelerator are at most the whole of it; slices of one never overlap; an accelerator is shared, cut
//! into slices or whole, never two of these. Cost: only checks.

use std::collections::BTreeMap;

use dh_core::{JobId, NodeId};
use dh_policy::fleet::{Holding, Mask};

/// What is given out of accelerators in part, by node and accelerator.
#[derive(Debug, Default)]
pub(super) struct Given {
    shares: BTreeMap<(NodeId, Mask), u32>,
    slots: BTreeMap<(NodeId, Mask), u8>,
}

impl Given {
    /// Counts what a job holds in part.
    ///
    /// # Panics
    /// If somebody else has it.
    pub(super) fn add(&mut self, job: JobId, held: &Holding) {
        let bits = (0..Mask::BITS).map(|number| Mask::from(1_u8) << number).filter(|bit| held.mask & bit != 0);
        for bit in bits {
            let place = (held.node, bit);
            if held.slots == 0 {
                let share = self.shares.entry(place).or_default();
                *share += u32::from(held.milli);
                assert!(*share <= 1000, "accelerator {} of {} is given out twice", bit.trailing_zeros(), held.node);
            } else {
                let slots = self.slots.entry(place).or_default();
                assert_eq!(*slots & held.slots, 0, "{job} and another job own slots of {}", held.node);
                *slots |= held.slots;
            }
        }
    }

    /// The accelerators of which something is given out.
    ///
    /// # Panics
    /// If one is shared and cut.
    pub(super) fn places(&self) -> impl Iterator<Item = (NodeId, Mask)> {
        let both = self.shares.keys().find(|place| self.slots.contains_key(place));
        assert!(both.is_none(), "an accelerator is shared and cut: {both:?}");
        self.shares.keys().chain(self.slots.keys()).copied()
    }
}
