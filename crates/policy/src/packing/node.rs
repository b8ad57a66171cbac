//! What is free on a node, and what a request takes of it.
//!
//! Invariant: accelerators are sorted by what is free on them, so that nodes that are equally useful are equal.

use serde::{Deserialize, Serialize};

/// Accelerators of one node, at most.
pub const ACCELERATORS_MAX: usize = 16;

/// A whole accelerator, in thousandths.
pub const WHOLE: u16 = 1000;

/// What is free on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Which model its accelerators are, as a number below 32.
    pub model: u8,
    /// Thousandths free of each accelerator, least first; those that are not there are 0 and come first.
    free: [u16; ACCELERATORS_MAX],
}

/// What a request needs, all on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Accelerators.
    pub accelerators: u8,
    /// Thousandths of each of them.
    pub milli: u16,
    /// Models that will do, a bit each; 0 is any.
    pub models: u32,
}

impl Request {
    /// Thousandths of accelerators, all together.
    pub fn demand(&self) -> u64 {
        u64::from(self.accelerators) * u64::from(self.milli)
    }

    /// Whether accelerators of `model` will do.
    pub fn accepts(&self, model: u8) -> bool {
        self.models == 0 || self.models & (1_u32 << model.min(31)) != 0
    }
}

impl Node {
    /// An empty node; of more accelerators than [`ACCELERATORS_MAX`] the rest is not seen.
    pub fn empty(cpu_milli: u32, memory_mib: u32, model: u8, accelerators: usize) -> Self {
        let mut free = [0; ACCELERATORS_MAX];
        free.iter_mut().rev().take(accelerators).for_each(|free| *free = WHOLE);
        Self { cpu_milli, memory_mib, model, free }
    }

    /// The same node with this free, in any order.
    pub(super) fn with(&self, cpu_milli: u32, memory_mib: u32, mut free: [u16; ACCELERATORS_MAX]) -> Self {
        free.sort_unstable();
        Self { cpu_milli, memory_mib, free, ..*self }
    }

    /// The same accelerators with this processor and memory.
    pub(super) fn holding(&self, cpu_milli: u32, memory_mib: u32) -> Self {
        Self { cpu_milli, memory_mib, ..*self }
    }

    /// Thousandths free, least first.
    pub fn free(&self) -> &[u16; ACCELERATORS_MAX] {
        &self.free
    }

    /// Thousandths free, all together.
    pub fn free_milli(&self) -> u64 {
        self.free.iter().map(|free| u64::from(*free)).sum()
    }

    /// Thousandths free on the accelerator that has most.
    pub fn most_free(&self) -> u16 {
        self.free.last().copied().unwrap_or(0)
    }

    /// Whether `count` accelerators have at least `milli` free: they are sorted, so one of them says it.
    fn has(&self, count: u8, milli: u16) -> bool {
        let at = ACCELERATORS_MAX.checked_sub(usize::from(count));
        at.and_then(|at| self.free.get(at)).is_some_and(|free| *free >= milli)
    }

    /// Whether `request` fits.
    pub fn fits(&self, request: &Request) -> bool {
        if request.cpu_milli > self.cpu_milli || request.memory_mib > self.memory_mib {
            return false;
        }
        request.accelerators == 0
            || (request.accepts(self.model) && self.has(request.accelerators, request.milli.max(1)))
    }

    /// Every state that `request`, which fits, can leave this node in, with what was free on the accelerator that a part of one
    /// comes from. A part of one accelerator can go to any that has it; several accelerators are those with least free that
    /// will do.
    pub fn after(&self, request: &Request, mut each: impl FnMut(Self, u16)) {
        if request.accelerators != 1 || request.milli >= WHOLE {
            return each(self.tightest(request), request.milli);
        }
        let mut last = None;
        for (at, free) in self.free.iter().enumerate() {
            if *free >= request.milli.max(1) && last != Some(*free) {
                last = Some(*free);
                let mut after = self.beside(request);
                after.lower(at, request.milli);
                each(after, *free);
            }
        }
    }

    /// The state that leaves most room on the other accelerators.
    #[must_use]
    pub fn tightest(&self, request: &Request) -> Self {
        let mut after = self.beside(request);
        let first = self.free.partition_point(|free| *free < request.milli.max(1));
        for at in (first..ACCELERATORS_MAX).take(usize::from(request.accelerators)) {
            after.lower(at, request.milli);
        }
        after
    }

    /// This node when `request`, which held accelerators that have `free` free now, has ended.
    #[must_use]
    pub(super) fn without(&self, request: &Request, free: impl Iterator<Item = u16>) -> Self {
        let mut after = Self {
            cpu_milli: self.cpu_milli.saturating_add(request.cpu_milli),
            memory_mib: self.memory_mib.saturating_add(request.memory_mib),
            ..*self
        };
        for free in free {
            after.raise(free, request.milli);
        }
        after
    }

    /// Processor and memory that `request` leaves, and all accelerators.
    fn beside(&self, request: &Request) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(request.cpu_milli),
            memory_mib: self.memory_mib.saturating_sub(request.memory_mib),
            ..*self
        }
    }

    /// Takes from the accelerator at `at`, and puts it where it belongs.
    fn lower(&mut self, at: usize, milli: u16) {
        let Some(left) = self.free.get(at).map(|free| free.saturating_sub(milli)) else { return };
        let to = self.free.partition_point(|free| *free < left).min(at);
        self.free.copy_within(to..at, to + 1);
        if let Some(free) = self.free.get_mut(to) {
            *free = left;
        }
    }

    /// Gives to an accelerator that has `free` free.
    fn raise(&mut self, free: u16, milli: u16) {
        let Some(at) = self.free.iter().rposition(|other| *other == free) else { return };
        let more = free.saturating_add(milli);
        let to = self.free.partition_point(|other| *other < more).max(at + 1);
        self.free.copy_within(at + 1..to, at);
        if let Some(free) = self.free.get_mut(to - 1) {
            *free = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Request = Request { cpu_milli: 4000, memory_mib: 1024, accelerators: 1, milli: 400, models: 0 };

    #[test]
    fn a_part_can_go_to_each_accelerator_that_differs() {
        let node = Node::empty(64_000, 65_536, 0, 4);
        let mut states = Vec::new();
        node.after(&PART, |state, _| states.push(state));
        assert_eq!(states.len(), 1, "four equal accelerators are one choice");
        let mut second = Vec::new();
        states[0].after(&PART, |state, from| second.push((state.free()[12..].to_vec(), from)));
        assert_eq!(second, [(vec![200, 1000, 1000, 1000], 600), (vec![600, 600, 1000, 1000], 1000)]);
        assert_eq!(states[0].tightest(&PART).free()[12..], second[0].0);
    }

    #[test]
    fn what_a_node_lacks_does_not_fit() {
        let node = Node::empty(8000, 4096, 3, 2);
        assert!(node.fits(&PART));
        for request in [
            Request { cpu_milli: 8001, ..PART },
            Request { memory_mib: 4097, ..PART },
            Request { accelerators: 3, milli: 1000, ..PART },
            Request { models: 1 << 2, ..PART },
        ] {
            assert!(!node.fits(&request), "{request:?}");
        }
        assert!(node.fits(&Request { models: 1 << 3, ..PART }));
        assert!(node.fits(&Request { accelerators: 0, milli: 0, models: 1 << 2, ..PART }));
    }

    #[test]
    fn whole_accelerators_are_taken_from_free_ones() {
        let node = Node::empty(64_000, 65_536, 0, 4).tightest(&PART);
        let pair = Request { accelerators: 2, milli: 1000, ..PART };
        assert_eq!(node.tightest(&pair).free()[12..], [0, 0, 600, 1000]);
        assert!(!node.tightest(&pair).fits(&pair));
    }

    #[test]
    fn what_ends_gives_back_what_it_took() {
        let node = Node::empty(64_000, 65_536, 0, 16);
        let pair = Request { accelerators: 2, milli: 300, ..PART };
        let both = node.tightest(&PART).tightest(&pair);
        assert_eq!(both.free()[..3], [300, 700, 1000], "a pair takes the tightest first");
        assert_eq!(both.without(&pair, [300, 700].into_iter()), node.tightest(&PART));
        assert_eq!(node.tightest(&PART).without(&PART, [600].into_iter()), node);
    }
}
