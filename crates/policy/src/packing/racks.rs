//! Racks by how full they are, so that small requests fill the fullest and leave whole racks whole.
//!
//! Among nodes of one state that of the fullest rack is taken. A state with few nodes is scanned; one with many keeps a bit for
//! each rack, which is met with the bits of the racks of each level. Invariant: both find the same node.
//! Cost: racks / 64 words for each level that some rack is at.

use serde::{Deserialize, Serialize};

use super::fleet::Machine;

/// Levels of fullness; at the last are racks that are wholly free.
const LEVELS: usize = 64;
/// Nodes without a rack stand in blocks of so many, all of which are as full as can be: the node that was added first wins.
const BLOCK: usize = 16;

#[derive(Debug)]
struct Rack {
    nodes: Vec<u32>,
    /// Thousandths of accelerators, of nodes in service.
    free: u64,
    whole: u64,
    level: usize,
    ranked: Ranking,
}

/// Whether a rack's fullness counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ranking {
    Fullest,
    Block,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Racks {
    all: Vec<Rack>,
    levels: Vec<Vec<u64>>,
    /// How many racks are at each level.
    at_level: [u32; LEVELS],
    block: Option<u32>,
}

impl Default for Racks {
    fn default() -> Self {
        Self { all: Vec::new(), levels: vec![Vec::new(); LEVELS], at_level: [0; LEVELS], block: None }
    }
}

/// In which racks a state has nodes.
#[derive(Debug, Default)]
pub(super) struct Spread {
    nodes: Vec<u16>,
    bits: Vec<u64>,
}

impl Spread {
    pub(super) fn enter(&mut self, rack: u32) {
        let Ok(rack) = usize::try_from(rack) else { return };
        if self.nodes.len() <= rack {
            self.nodes.resize(rack + 1, 0);
            self.bits.resize(rack / 64 + 1, 0);
        }
        if let (Some(nodes), Some(word)) = (self.nodes.get_mut(rack), self.bits.get_mut(rack / 64)) {
            *nodes += 1;
            *word |= 1 << (rack % 64);
        }
    }

    pub(super) fn leave(&mut self, rack: u32) {
        let Ok(rack) = usize::try_from(rack) else { return };
        if let (Some(nodes), Some(word)) = (self.nodes.get_mut(rack), self.bits.get_mut(rack / 64)) {
            *nodes = nodes.saturating_sub(1);
            if *nodes == 0 {
                *word &= !(1 << (rack % 64));
            }
        }
    }
}

impl Racks {
    /// A rack of its own, empty.
    pub(super) fn open(&mut self) -> u32 {
        self.push(Ranking::Fullest)
    }

    /// The rack of a node that has none.
    pub(super) fn block(&mut self) -> u32 {
        let open = self.block.and_then(|block| self.all.get(usize::try_from(block).ok()?).map(|rack| (block, rack)));
        if let Some((block, _)) = open.filter(|(_, rack)| rack.nodes.len() < BLOCK) {
            return block;
        }
        let block = self.push(Ranking::Block);
        self.block = Some(block);
        block
    }

    fn push(&mut self, ranked: Ranking) -> u32 {
        let at = self.all.len();
        self.all.push(Rack { nodes: Vec::new(), free: 0, whole: 0, level: 0, ranked });
        for level in &mut self.levels {
            level.resize(at / 64 + 1, 0);
        }
        self.mark(at, 0);
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(super) fn stand(&mut self, rack: u32, node: u32) {
        if let Some(rack) = usize::try_from(rack).ok().and_then(|rack| self.all.get_mut(rack)) {
            rack.nodes.push(node);
        }
    }

    /// What each rack is, in their order: [`Self::of`] makes them again, without nodes.
    pub(super) fn rankings(&self) -> impl Iterator<Item = Ranking> {
        self.all.iter().map(|rack| rack.ranked)
    }

    pub(super) fn of(rankings: &[Ranking]) -> Self {
        let mut racks = Self::default();
        for ranked in rankings {
            let rack = racks.push(*ranked);
            if *ranked == Ranking::Block {
                racks.block = Some(rack);
            }
        }
        racks
    }

    /// A rack's free and whole thousandths become more and less by these.
    pub(super) fn change(&mut self, rack: u32, free: i64, whole: i64) {
        let Some((at, rack)) = usize::try_from(rack).ok().and_then(|at| Some((at, self.all.get_mut(at)?))) else {
            return;
        };
        rack.free = rack.free.saturating_add_signed(free);
        rack.whole = rack.whole.saturating_add_signed(whole);
        if rack.ranked == Ranking::Block {
            return;
        }
        let last = u64::try_from(LEVELS - 1).unwrap_or(0);
        let level = usize::try_from(rack.free * last / rack.whole.max(1)).unwrap_or(0).min(LEVELS - 1);
        let before = std::mem::replace(&mut rack.level, level);
        if before != level {
            self.clear(at, before);
            self.mark(at, level);
        }
    }

    fn mark(&mut self, rack: usize, level: usize) {
        if let Some(word) = self.levels.get_mut(level).and_then(|bits| bits.get_mut(rack / 64)) {
            *word |= 1 << (rack % 64);
        }
        if let Some(count) = self.at_level.get_mut(level) {
            *count += 1;
        }
    }

    fn clear(&mut self, rack: usize, level: usize) {
        if let Some(word) = self.levels.get_mut(level).and_then(|bits| bits.get_mut(rack / 64)) {
            *word &= !(1 << (rack % 64));
        }
        if let Some(count) = self.at_level.get_mut(level) {
            *count = count.saturating_sub(1);
        }
    }

    fn rack(&self, rack: u32) -> Option<&Rack> {
        self.all.get(usize::try_from(rack).ok()?)
    }

    /// By what a node comes before another of the same state: the least is first.
    pub(super) fn order(&self, machine: &Machine, node: u32) -> (usize, u32, u32) {
        (self.rack(machine.rack).map_or(0, |rack| rack.level), machine.rack, node)
    }

    /// The first in that order of a state's nodes, which are spread over racks like this.
    pub(super) fn first(&self, spread: &Spread, machines: &[Machine], state: u32) -> Option<u32> {
        let levels = self.levels.iter().zip(&self.at_level).filter(|(_, count)| **count > 0);
        for (level, _) in levels {
            for (word, (here, there)) in level.iter().zip(&spread.bits).enumerate() {
                let both = here & there;
                if both != 0 {
                    let rack = self.all.get(word * 64 + usize::try_from(both.trailing_zeros()).ok()?)?;
                    let is_in = |node: &&u32| {
                        let at = usize::try_from(**node).ok();
                        at.and_then(|at| machines.get(at)).is_some_and(|machine| machine.state == state)
                    };
                    return rack.nodes.iter().find(is_in).copied();
                }
            }
        }
        None
    }
}
