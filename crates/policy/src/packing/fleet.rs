//! Nodes as they are: what is free on each accelerator by its number, and in which rack a node stands.
//!
//! Invariant: nothing is taken that is not there, and nothing is given back that was not taken. A node out of service is in no
//! state and counts for no rack.

use super::racks::Racks;
use super::{ACCELERATORS_MAX, Node, Place, Request, WHOLE};

/// A node that is out of service is in this state.
pub(super) const OUT: u32 = u32::MAX;

/// One node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// What it has when it is empty.
    pub(super) whole: Node,
    pub(super) cpu_milli: u32,
    pub(super) memory_mib: u32,
    /// Thousandths free of each accelerator; those that are not there come last and have none.
    pub(super) free: [u16; ACCELERATORS_MAX],
    pub(super) accelerators: u8,
    pub(super) rack: u32,
    /// The state that it is in, and its place among the members.
    pub(super) state: u32,
    pub(super) at: u32,
}

impl Machine {
    pub(super) fn new(whole: Node, rack: u32) -> Self {
        let count = whole.free().iter().filter(|free| **free == WHOLE).count();
        let mut free = [0; ACCELERATORS_MAX];
        free.iter_mut().take(count).for_each(|free| *free = WHOLE);
        Self {
            whole,
            cpu_milli: whole.cpu_milli,
            memory_mib: whole.memory_mib,
            free,
            accelerators: u8::try_from(count).unwrap_or(0),
            rack,
            state: OUT,
            at: 0,
        }
    }

    /// The state it would be in.
    pub(super) fn node(&self) -> Node {
        self.whole.with(self.cpu_milli, self.memory_mib, self.free)
    }

    /// Whether `request` fits.
    pub(super) fn fits(&self, request: &Request) -> bool {
        let enough = |free: &&u16| **free >= request.milli.max(1);
        request.cpu_milli <= self.cpu_milli
            && request.memory_mib <= self.memory_mib
            && (request.accelerators == 0
                || (request.accepts(self.whole.model)
                    && self.free.iter().filter(enough).count() >= usize::from(request.accelerators)))
    }

    /// Which accelerators `request` gets, a bit each. A part of one comes from one that has `from` free; otherwise those with
    /// least free that will do, and of equal ones the first.
    pub(super) fn choose(&self, request: &Request, from: u16) -> u16 {
        if request.accelerators == 0 {
            return 0;
        }
        if request.accelerators == 1 {
            return self.free.iter().position(|free| *free == from).map_or(0, |at| 1 << at);
        }
        let (mut chosen, mut left) = (0_u16, request.accelerators);
        let mut bound = request.milli.max(1);
        // Usually all that will do are wholly free, and one pass takes them.
        while left > 0 {
            let Some(least) = self.free.iter().copied().filter(|free| *free >= bound).min() else { return 0 };
            for (at, _) in self.free.iter().enumerate().filter(|(_, free)| **free == least) {
                if left > 0 {
                    chosen |= 1 << at;
                    left -= 1;
                }
            }
            bound = least + 1;
        }
        chosen
    }

    /// What is free on those of `chosen`.
    pub(super) fn free_of(&self, chosen: u16) -> impl Iterator<Item = u16> {
        bits(chosen).filter_map(|at| self.free.get(at).copied())
    }

    /// Whether `place` can be taken exactly as it is.
    pub(super) fn has(&self, place: &Place) -> bool {
        let request = &place.request;
        request.cpu_milli <= self.cpu_milli
            && request.memory_mib <= self.memory_mib
            && place.is_sound()
            && (place.accelerators == 0 || request.accepts(self.whole.model))
            && self.free_of(place.accelerators).all(|free| free >= request.milli.max(1))
    }

    /// Whether `place` can have been taken: there is room for it in what is used.
    pub(super) fn holds(&self, place: &Place) -> bool {
        let request = &place.request;
        request.cpu_milli <= self.whole.cpu_milli - self.cpu_milli
            && request.memory_mib <= self.whole.memory_mib - self.memory_mib
            && place.is_sound()
            && place.accelerators.checked_shr(u32::from(self.accelerators)).unwrap_or(0) == 0
            && self.free_of(place.accelerators).all(|free| free + request.milli <= WHOLE)
    }

    /// Takes `place`, which it [`Self::has`].
    pub(super) fn take(&mut self, place: &Place) {
        self.cpu_milli -= place.request.cpu_milli;
        self.memory_mib -= place.request.memory_mib;
        for at in bits(place.accelerators) {
            if let Some(free) = self.free.get_mut(at) {
                *free -= place.request.milli;
            }
        }
    }

    /// Gives back `place`, which it [`Self::holds`].
    pub(super) fn give(&mut self, place: &Place) {
        self.cpu_milli += place.request.cpu_milli;
        self.memory_mib += place.request.memory_mib;
        for at in bits(place.accelerators) {
            if let Some(free) = self.free.get_mut(at) {
                *free += place.request.milli;
            }
        }
    }
}

/// The numbers of the bits that are set, from the lowest.
fn bits(mut mask: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = usize::try_from(mask.trailing_zeros()).ok().filter(|_| mask != 0)?;
        mask &= mask - 1;
        Some(at)
    })
}

/// All nodes and racks.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    pub(super) machines: Vec<Machine>,
    pub(super) racks: Racks,
}

impl Fleet {
    pub(super) fn machine(&self, node: u32) -> Option<&Machine> {
        self.machines.get(usize::try_from(node).ok()?)
    }

    pub(super) fn machine_mut(&mut self, node: u32) -> Option<&mut Machine> {
        self.machines.get_mut(usize::try_from(node).ok()?)
    }
}
