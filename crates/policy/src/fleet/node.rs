//! One node: what it has, and what is free on it.

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

use super::room::View;
use crate::packing::{Request, WHOLE};

/// Accelerators of one node, at most: one bit each in a mask.
pub const ACCELERATORS_MAX: u8 = 128;

/// Accelerators of a node, a bit each.
pub type Mask = u128;

/// Classes of accelerators in one fleet, at most.
pub const CLASSES_MAX: usize = 32;

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The class of its accelerators, below [`CLASSES_MAX`].
    pub class: u8,
    /// Accelerators, at most [`ACCELERATORS_MAX`].
    pub accelerators: u8,
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Where it stands: one number for each level of the tree, outermost first.
    pub path: Vec<u32>,
}

/// Whether a node takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// It does.
    Up,
    /// It would, once it is awake.
    Asleep,
    /// It is kept for the repair of gangs.
    Spare,
    /// What runs goes on, and nothing new comes.
    Drained,
    /// Kept away on evidence: what runs goes on, and nothing new comes.
    Quarantined,
    /// It is gone, with what ran on it.
    Down,
}

/// What one rank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holding {
    /// The node.
    pub node: NodeId,
    /// The accelerators, a bit each.
    pub mask: Mask,
    /// Thousandths of each of them.
    pub milli: u16,
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Memory, MiB.
    pub memory_mib: u32,
}

/// A node's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) class: u8,
    pub(super) accelerators: u8,
    pub(super) service: Service,
    pub(super) reserved: u8,
    cpu: u32,
    memory: u32,
    cpu_free: u32,
    memory_free: u32,
    /// Accelerators wholly free.
    pub(super) whole: Mask,
    /// Accelerators used in part, by number, with the thousandths still free: few nodes have any.
    parts: Vec<(u8, u16)>,
}

impl State {
    pub(super) fn new(facts: &NodeFacts) -> Self {
        Self {
            class: facts.class,
            accelerators: facts.accelerators,
            service: Service::Up,
            reserved: 0,
            cpu: facts.cpu_milli,
            memory: facts.memory_mib,
            cpu_free: facts.cpu_milli,
            memory_free: facts.memory_mib,
            whole: every(facts.accelerators),
            parts: Vec::new(),
        }
    }

    pub(super) fn emptied(&self) -> Self {
        Self {
            service: Service::Up,
            reserved: 0,
            cpu_free: self.cpu,
            memory_free: self.memory,
            whole: every(self.accelerators),
            parts: Vec::new(),
            ..*self
        }
    }

    /// Whole accelerators that new work may take.
    pub(super) fn free(&self, view: View) -> u8 {
        if !matches!(self.service, Service::Up | Service::Asleep) {
            return 0;
        }
        let free = u8::try_from(self.whole.count_ones()).unwrap_or(0);
        match view {
            View::All => free,
            View::Open => free.saturating_sub(self.reserved),
        }
    }

    pub(super) fn idle(&self) -> bool {
        u8::try_from(self.whole.count_ones()) == Ok(self.accelerators)
            && self.cpu_free == self.cpu
            && self.memory_free == self.memory
    }

    pub(super) fn ranks(&self, rank: &Request, view: View) -> u32 {
        if !matches!(self.service, Service::Up | Service::Asleep)
            || (rank.accelerators > 0 && !rank.accepts(self.class))
        {
            return 0;
        }
        let beside = u32::min(per(self.cpu_free, rank.cpu_milli), per(self.memory_free, rank.memory_mib));
        let free = u32::from(self.free(view));
        let count = u32::from(rank.accelerators);
        let accelerators = match count {
            0 => u32::MAX,
            _ if rank.milli >= WHOLE => free / count,
            // Parts: of each accelerator as many as fit, and each rank wants `count` different ones; exact for one.
            _ => {
                let each = u32::from(WHOLE / rank.milli.max(1));
                let parts: u32 = self.parts.iter().map(|(_, free)| u32::from(free / rank.milli.max(1))).sum();
                (free * each + parts) / count
            }
        };
        accelerators.min(beside)
    }

    pub(super) fn ranks_empty(&self, rank: &Request) -> u32 {
        if rank.accelerators > 0 && !rank.accepts(self.class) {
            return 0;
        }
        let beside = u32::min(per(self.cpu, rank.cpu_milli), per(self.memory, rank.memory_mib));
        let each = if rank.milli >= WHOLE { 1 } else { u32::from(WHOLE / rank.milli.max(1)) };
        let accelerators = match u32::from(rank.accelerators) {
            0 => u32::MAX,
            count => u32::from(self.accelerators) * each / count,
        };
        accelerators.min(beside)
    }

    /// The accelerators that a rank would get.
    pub(super) fn choose(&self, rank: &Request, wanted: Mask) -> Option<Mask> {
        let usable = matches!(self.service, Service::Up | Service::Asleep | Service::Spare);
        if !usable || rank.cpu_milli > self.cpu_free || rank.memory_mib > self.memory_free {
            return None;
        }
        let count = u32::from(rank.accelerators);
        if count == 0 {
            return Some(0);
        }
        if !rank.accepts(self.class) {
            return None;
        }
        if rank.milli >= WHOLE {
            if wanted != 0 && wanted & self.whole == wanted && wanted.count_ones() == count {
                return Some(wanted);
            }
            return (self.whole.count_ones() >= count).then(|| lowest(self.whole, count));
        }
        // Parts first, tightest first, so that whole accelerators stay whole.
        let mut fitting: Vec<(u16, u8)> =
            self.parts.iter().filter(|(_, free)| *free >= rank.milli).map(|(number, free)| (*free, *number)).collect();
        fitting.sort_unstable();
        let mut mask: Mask =
            fitting.iter().take(usize::from(rank.accelerators)).fold(0, |mask, (_, number)| mask | 1 << number);
        let missing = count - mask.count_ones();
        if missing > self.whole.count_ones() {
            return None;
        }
        mask |= lowest(self.whole, missing);
        Some(mask)
    }

    pub(super) fn take(&mut self, rank: &Request, mask: Mask) {
        self.cpu_free = self.cpu_free.saturating_sub(rank.cpu_milli);
        self.memory_free = self.memory_free.saturating_sub(rank.memory_mib);
        if rank.milli >= WHOLE {
            self.whole &= !mask;
            return;
        }
        for number in bits(mask) {
            if let Some((_, free)) = self.parts.iter_mut().find(|(part, _)| *part == number) {
                *free = free.saturating_sub(rank.milli);
            } else {
                self.whole &= !(1 << number);
                self.parts.push((number, WHOLE - rank.milli));
                self.parts.sort_unstable();
            }
        }
    }

    /// Takes exactly `holding`: the opposite of [`Self::release`].
    pub(super) fn occupy(&mut self, holding: &Holding) {
        let rank = Request {
            cpu_milli: holding.cpu_milli,
            memory_mib: holding.memory_mib,
            accelerators: 0,
            milli: holding.milli,
            models: 0,
        };
        self.take(&rank, holding.mask);
    }

    /// What is free of `wanted`, in pieces: all that is wholly free, and each accelerator that is free in part.
    pub(super) fn free_of(&self, wanted: &Holding) -> Vec<Holding> {
        let free = |number: u8| match self.parts.iter().find(|(part, _)| *part == number) {
            Some((_, free)) => *free,
            None if self.whole >> number & 1 == 1 => WHOLE,
            None => 0,
        };
        let bit = |number: u8| Mask::from(1_u8) << number;
        let mask = bits(wanted.mask).filter(|number| free(*number) >= wanted.milli).fold(0, |mask, n| mask | bit(n));
        let (cpu_milli, memory_mib) = (wanted.cpu_milli.min(self.cpu_free), wanted.memory_mib.min(self.memory_free));
        let first = Holding { mask, cpu_milli, memory_mib, ..*wanted };
        let parts = bits(wanted.mask & !mask).map(|number| (number, free(number))).filter(|(_, free)| *free > 0);
        let parts = parts.map(|(number, milli)| Holding {
            mask: bit(number),
            milli,
            cpu_milli: 0,
            memory_mib: 0,
            node: wanted.node,
        });
        std::iter::once(first).chain(parts).collect()
    }

    pub(super) fn release(&mut self, holding: &Holding) {
        self.cpu_free = self.cpu_free.saturating_add(holding.cpu_milli).min(self.cpu);
        self.memory_free = self.memory_free.saturating_add(holding.memory_mib).min(self.memory);
        if holding.milli >= WHOLE {
            self.whole |= holding.mask;
            return;
        }
        for number in bits(holding.mask) {
            let mut full = false;
            if let Some((_, free)) = self.parts.iter_mut().find(|(part, _)| *part == number) {
                *free = free.saturating_add(holding.milli).min(WHOLE);
                full = *free == WHOLE;
            }
            if full {
                self.parts.retain(|(part, _)| *part != number);
                self.whole |= 1 << number;
            }
        }
    }
}

/// A bit for each of `count` accelerators.
fn every(count: u8) -> Mask {
    Mask::MAX.checked_shr(Mask::BITS - u32::from(count.min(ACCELERATORS_MAX))).unwrap_or(0)
}

/// How often `need` goes into `free`.
fn per(free: u32, need: u32) -> u32 {
    free.checked_div(need).unwrap_or(u32::MAX)
}

/// The lowest `count` bits of `mask`.
fn lowest(mask: Mask, count: u32) -> Mask {
    let mut rest = mask;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    mask & !rest
}

/// The numbers of the bits of `mask`.
fn bits(mask: Mask) -> impl Iterator<Item = u8> {
    (0..ACCELERATORS_MAX).filter(move |number| mask >> number & 1 == 1)
}
