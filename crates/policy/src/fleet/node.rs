//! One node: what it has, and what is free on it.

use dh_core::NodeId;
use serde::{Deserialize, Serialize};

use super::room::View;
use super::slots::Slice;
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
    /// Slots of the one accelerator, a bit each, if it is a slice; 0 if it is none.
    #[serde(default)]
    pub slots: u8,
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
    /// Accelerators that are cut into slices, by number, with the slots that are taken.
    #[serde(default)]
    slices: Vec<(u8, u8)>,
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
            slices: Vec::new(),
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
            slices: Vec::new(),
            ..*self
        }
    }

    /// Whether new work may come.
    pub(super) const fn works(&self) -> bool {
        matches!(self.service, Service::Up | Service::Asleep)
    }

    /// Accelerators used in part.
    pub(super) fn parts(&self) -> &[(u8, u16)] {
        &self.parts
    }

    /// Accelerators that are cut into slices.
    pub(super) fn slices(&self) -> &[(u8, u8)] {
        &self.slices
    }

    /// Ranks for which there are cores and memory.
    pub(super) fn beside(&self, rank: &Request) -> u32 {
        u32::min(per(self.cpu_free, rank.cpu_milli), per(self.memory_free, rank.memory_mib))
    }

    /// Whole accelerators that new work may take.
    pub(super) fn free(&self, view: View) -> u8 {
        if !self.works() {
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
        let beside = self.beside(rank);
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
        let has = |number: u8| match self.parts.iter().find(|(part, _)| *part == number) {
            Some((_, free)) => *free >= rank.milli,
            None => self.whole >> number & 1 == 1,
        };
        if wanted != 0 && wanted.count_ones() == count && bits(wanted).all(has) {
            return Some(wanted);
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

    /// Slices that fit.
    pub(super) fn ranks_sliced(&self, slice: Slice, rank: &Request, view: View) -> u32 {
        if !self.works() || !rank.accepts(self.class) {
            return 0;
        }
        let cut: u32 = self.slices.iter().map(|(_, busy)| slice.most(*busy)).sum();
        (cut + u32::from(self.free(view)) * slice.most(0)).min(self.beside(rank))
    }

    /// The accelerator and the slots that a slice would get: on `wanted` if it fits there, else where it breaks least.
    pub(super) fn choose_slice(&self, slice: Slice, rank: &Request, wanted: Mask) -> Option<(u8, u8)> {
        let usable = matches!(self.service, Service::Up | Service::Asleep | Service::Spare);
        if !usable || self.beside(rank) == 0 || !rank.accepts(self.class) {
            return None;
        }
        let cut = self.slices.iter().filter_map(|(number, busy)| {
            let (loss, slots) = slice.best(*busy)?;
            Some((wanted >> number & 1 == 0, loss, busy.count_zeros(), *number, slots))
        });
        let whole = bits(lowest(self.whole & wanted, 1) | lowest(self.whole, 1)).filter_map(|number| {
            let (_, slots) = slice.best(0)?;
            // Whole accelerators stay whole if they can.
            Some((wanted >> number & 1 == 0, u32::MAX, 0, number, slots))
        });
        cut.chain(whole).min().map(|(.., number, slots)| (number, slots))
    }

    /// Takes exactly `holding`: the opposite of [`Self::release`].
    pub(super) fn occupy(&mut self, holding: &Holding) {
        if holding.slots != 0 {
            self.cpu_free = self.cpu_free.saturating_sub(holding.cpu_milli);
            self.memory_free = self.memory_free.saturating_sub(holding.memory_mib);
            for number in bits(holding.mask) {
                if let Some((_, busy)) = self.slices.iter_mut().find(|(cut, _)| *cut == number) {
                    *busy |= holding.slots;
                } else {
                    self.whole &= !(1 << number);
                    self.slices.push((number, holding.slots));
                    self.slices.sort_unstable();
                }
            }
            return;
        }
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
        if wanted.slots != 0 {
            let first = self.free_slots_of(wanted);
            // Of one that is cut nothing else is wanted; one that is shared is wanted whole, to be cut.
            let cut = self.slices.iter().any(|(number, _)| wanted.mask >> number & 1 == 1);
            let rest = if cut { 0 } else { wanted.mask & !first.mask };
            return std::iter::once(first).chain(self.pieces(wanted.node, rest)).collect();
        }
        let free = |number: u8| match self.parts.iter().find(|(part, _)| *part == number) {
            Some((_, free)) => *free,
            None if self.whole >> number & 1 == 1 => WHOLE,
            None => 0,
        };
        let bit = |number: u8| Mask::from(1_u8) << number;
        let mask = bits(wanted.mask).filter(|number| free(*number) >= wanted.milli).fold(0, |mask, n| mask | bit(n));
        let (cpu_milli, memory_mib) = (wanted.cpu_milli.min(self.cpu_free), wanted.memory_mib.min(self.memory_free));
        let first = Holding { mask, cpu_milli, memory_mib, ..*wanted };
        std::iter::once(first).chain(self.pieces(wanted.node, wanted.mask & !mask)).collect()
    }

    /// What is free of accelerators that are in use in part, each a piece.
    fn pieces(&self, node: NodeId, mask: Mask) -> impl Iterator<Item = Holding> {
        let piece = move |number: u8, milli: u16, slots: u8| Holding {
            mask: Mask::from(1_u8) << number,
            milli,
            cpu_milli: 0,
            memory_mib: 0,
            node,
            slots,
        };
        let wanted = move |number: u8| mask >> number & 1 == 1;
        let parts = self.parts.iter().filter(move |(number, free)| wanted(*number) && *free > 0);
        let slices = self.slices.iter().filter(move |(number, busy)| wanted(*number) && *busy != u8::MAX);
        let shared = parts.map(move |(number, free)| piece(*number, *free, 0));
        let cut = slices.map(move |(number, busy)| {
            let eighths = u16::try_from(busy.count_zeros()).unwrap_or(0);
            piece(*number, WHOLE / 8 * eighths, !busy)
        });
        shared.chain(cut)
    }

    /// What is free of a slice that is wanted: some of its slots, or nothing.
    fn free_slots_of(&self, wanted: &Holding) -> Holding {
        let number = bits(wanted.mask).next().unwrap_or(0);
        let busy = match self.slices.iter().find(|(cut, _)| *cut == number) {
            Some((_, busy)) => *busy,
            None if self.whole >> number & 1 == 1 => 0,
            None => u8::MAX,
        };
        let slots = wanted.slots & !busy;
        let (cpu_milli, memory_mib) = (wanted.cpu_milli.min(self.cpu_free), wanted.memory_mib.min(self.memory_free));
        if slots == 0 {
            return Holding { mask: 0, cpu_milli, memory_mib, slots: 0, ..*wanted };
        }
        let milli = u32::from(wanted.milli) * slots.count_ones() / wanted.slots.count_ones().max(1);
        let milli = u16::try_from(milli).unwrap_or(wanted.milli);
        Holding { milli, cpu_milli, memory_mib, slots, ..*wanted }
    }

    pub(super) fn release(&mut self, holding: &Holding) {
        self.cpu_free = self.cpu_free.saturating_add(holding.cpu_milli).min(self.cpu);
        self.memory_free = self.memory_free.saturating_add(holding.memory_mib).min(self.memory);
        if holding.slots != 0 {
            for number in bits(holding.mask) {
                if let Some(at) = self.slices.iter().position(|(cut, _)| *cut == number)
                    && let Some((_, busy)) = self.slices.get_mut(at)
                {
                    *busy &= !holding.slots;
                    if *busy == 0 {
                        self.slices.remove(at);
                        self.whole |= 1 << number;
                    }
                }
            }
            return;
        }
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
    let mut rest = mask;
    std::iter::from_fn(move || {
        let bit = u8::try_from(rest.trailing_zeros()).ok().filter(|_| rest != 0)?;
        rest &= rest.wrapping_sub(1);
        Some(bit)
    })
}
