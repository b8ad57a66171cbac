//! The nodes of a blueprint as the scheduler sees them: class, cores, memory, and where each stands. The live hall and the twin
//! both come here, so what is simulated is what runs.
//!
//! Invariant: nodes are numbered pool by pool in the order of names, and within a pool as racks have them, so that a domain
//! of any level is a range. Nodes without slots are no nodes here; what they draw is in the power model.

use dh_blueprint::{Settings, Topology};
use dh_core::{HasKind, Kind, NodeId};
use dh_facility::floor::GroupId;
use dh_plan::{Standing, What};
use dh_policy::fleet::{ACCELERATORS_MAX, CLASSES_MAX, NodeFacts};
use dh_policy::torus::{Chips, Links, Wiring};

/// Levels of the tree: pool, block (a scalable unit, which has leaf switches of its own), rack.
pub const LEVELS: [&str; 3] = ["pool", "block", "rack"];

/// Level of blocks; the hall is 0.
pub const BLOCK: u8 = 2;

/// Cores (thousandths) and MiB of a node of which nothing is known: never the limit.
const UNKNOWN: u32 = 1_000_000_000;

/// Why a blueprint has no nodes that a scheduler can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No pool has slots.
    #[error("no pool of the hall has slots for jobs")]
    NoSlots,
    /// More than a scheduler takes.
    #[error("the hall has {have} {what}; a scheduler takes {most} at most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        have: usize,
        /// How many there may be.
        most: usize,
    },
}

impl HasKind for LayoutError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSlots => Kind::Infeasible,
            Self::TooMany { .. } => Kind::TooLarge,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSlots => Some("give a pool a node with accelerators".to_owned()),
            Self::TooMany { .. } => None,
        }
    }
}

/// A class of accelerators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// The accelerator's name in the catalogue; the node's where it has none.
    pub name: String,
    /// Peak speed in 16 bits over that of the fastest class, in millionths: how fast work is of which nothing else is known.
    pub speed: u32,
}

/// How many nodes of the largest pool stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Together {
    /// In a rack.
    pub rack: u32,
    /// In a block.
    pub block: u32,
}

/// All nodes with slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What the scheduler is told of each.
    pub facts: Vec<NodeFacts>,
    /// For each, its place in its pool, from 0.
    pub numbers: Vec<u32>,
    /// For each, the place of its pool in the plan.
    pub pools: Vec<usize>,
    /// The classes of their accelerators.
    pub classes: Vec<Class>,
    /// Nodes that are kept in reserve.
    pub spares: Vec<NodeId>,
    /// How many stand together.
    pub together: Together,
    /// Tori that they make.
    pub tori: Vec<Wiring>,
}

/// All nodes with slots, where `standing` has them. What was assumed goes to `notes`.
/// # Errors
/// If there are none, or more accelerators or classes than a scheduler tells apart.
pub fn layout(settings: &Settings, standing: Standing<'_>, notes: &mut Vec<String>) -> Result<Layout, LayoutError> {
    let mut drafted = Layout {
        facts: Vec::new(),
        numbers: Vec::new(),
        pools: Vec::new(),
        classes: Vec::new(),
        spares: Vec::new(),
        together: Together { rack: 1, block: 1 },
        tori: Vec::new(),
    };
    let mut peaks = Vec::new();
    let mut largest = 0;
    for (place, pool) in standing.pools.iter().enumerate() {
        let Some(said) = settings.pools.get(&pool.name).filter(|pool| pool.slots > 0) else { continue };
        let slots = u8::try_from(said.slots).ok().filter(|slots| *slots <= ACCELERATORS_MAX);
        let have = usize::try_from(said.slots).unwrap_or(usize::MAX);
        let most = usize::from(ACCELERATORS_MAX);
        let accelerators = slots.ok_or(LayoutError::TooMany { what: "slots of a node", have, most })?;
        let item = said.item(&settings.catalog);
        let named = pool.accelerator.clone().unwrap_or_else(|| said.node.clone());
        let class = if let Some(known) = drafted.classes.iter().position(|class| class.name == named) {
            known
        } else {
            let peak = settings.catalog.accelerator(&named).and_then(|item| item.bf16.as_ref().or(item.fp16.as_ref()));
            peaks.push(peak.map(|peak| peak.value.0));
            drafted.classes.push(Class { name: named, speed: 1_000_000 });
            drafted.classes.len() - 1
        };
        if drafted.classes.len() > CLASSES_MAX {
            let have = drafted.classes.len();
            return Err(LayoutError::TooMany { what: "classes of accelerators", have, most: CLASSES_MAX });
        }
        let cores = item.as_ref().and_then(|item| item.cpu_cores.as_ref()).map(|cores| cores.value);
        let memory = item.as_ref().and_then(|item| item.memory.as_ref()).map(|memory| memory.value.0 >> 20);
        if cores.is_none() || memory.is_none() {
            notes.push(format!("cores or memory of nodes of pool `{}` are not known and limit nothing", pool.name));
        }
        let facts = NodeFacts {
            class: u8::try_from(class).unwrap_or(u8::MAX),
            accelerators,
            cpu_milli: cores.map_or(UNKNOWN, |cores| cores.saturating_mul(1000).min(UNKNOWN)),
            memory_mib: memory.map_or(UNKNOWN, |mib| u32::try_from(mib).unwrap_or(UNKNOWN).min(UNKNOWN)),
            path: Vec::new(),
        };
        let torus = settings.fabrics.values().find_map(|fabric| match fabric.topology {
            Topology::Torus { dims, cube } if fabric.pools.contains(&pool.name) => Some((dims, cube)),
            Topology::Torus { .. }
            | Topology::Rail
            | Topology::FatTree
            | Topology::RailOnly
            | Topology::KAry { .. }
            | Topology::Dragonfly { .. }
            | Topology::DragonflyPlus { .. } => None,
        });
        if let Some((dims, cube)) = torus {
            let first = u32::try_from(drafted.facts.len()).unwrap_or(u32::MAX);
            match wiring(first, pool.nodes, said.slots, dims, cube) {
                Some(wiring) => drafted.tori.push(wiring),
                None => notes.push(format!(
                    "pool `{}` is a torus of which no node holds an equal box: its nodes are placed as if it were none",
                    pool.name
                )),
            }
        }
        let torus = torus.is_some();
        let paths = paths(standing, place, pool.nodes, torus);
        if pool.accelerators > largest {
            largest = pool.accelerators;
            let same = |level: usize| {
                let first = paths.first().and_then(|path| path.get(level));
                let count = paths.iter().filter(|path| path.get(level) == first).count();
                u32::try_from(count).unwrap_or(u32::MAX).max(1)
            };
            drafted.together = Together { rack: same(2), block: same(1) };
        }
        let first_spare = pool.nodes.saturating_sub(said.spares.unwrap_or(0).min(pool.nodes.saturating_sub(1)));
        for (node, path) in (0_u32..).zip(paths) {
            let id = NodeId(u32::try_from(drafted.facts.len()).unwrap_or(u32::MAX));
            if node >= first_spare {
                drafted.spares.push(id);
            }
            drafted.facts.push(NodeFacts { path, ..facts.clone() });
            drafted.numbers.push(node);
            drafted.pools.push(place);
        }
    }
    if drafted.facts.is_empty() {
        return Err(LayoutError::NoSlots);
    }
    speeds(&mut drafted.classes, &peaks, notes);
    Ok(drafted)
}

/// Speeds of classes over the fastest, where peaks are known.
fn speeds(classes: &mut [Class], peaks: &[Option<f64>], notes: &mut Vec<String>) {
    let Some(most) = peaks.iter().flatten().copied().reduce(f64::max).filter(|most| *most > 0.0) else { return };
    for (class, peak) in classes.iter_mut().zip(peaks) {
        let share = peak.map_or(1.0, |peak| peak / most);
        class.speed = u32::try_from(dh_units::whole((share * 1e6).round())).unwrap_or(1_000_000).clamp(1, 1_000_000);
    }
    if classes.len() > 1 {
        notes.push("work of which nothing else is known runs on each class as fast as its peak in 16 bits".to_owned());
    }
}

/// Where each node of a pool stands: pool, block, rack.
fn paths(standing: Standing<'_>, pool: usize, nodes: u32, one_block: bool) -> Vec<Vec<u32>> {
    let mut groups = Vec::new();
    for site in &standing.floors.sites {
        for (group, what) in (0_u32..).zip(&site.groups) {
            match what {
                What::Nodes { pool: of, first } if *of == pool => groups.push((*first, site, GroupId(group))),
                What::Nodes { .. } | What::Switches { .. } | What::Managers { .. } => {}
            }
        }
    }
    groups.sort_by_key(|(first, ..)| *first);
    let of = u32::try_from(pool).unwrap_or(u32::MAX);
    let path = |node: u32| {
        let block = groups.partition_point(|(first, ..)| *first <= node).saturating_sub(1);
        let place = groups.get(block).and_then(|(first, site, group)| {
            let slot = site.floor.place(*group, node - first)?;
            Some(site.first_rack + slot.rack)
        });
        let block = if one_block { 0 } else { u32::try_from(block).unwrap_or(u32::MAX) };
        vec![of, block, place.unwrap_or(u32::MAX)]
    };
    (0..nodes).map(path).collect()
}

/// How nodes make a torus of cubes that optical switches join, if each holds a box of the same sides: the most compact that
/// tiles a cube. Nodes follow each other along the last axis first.
fn wiring(first: u32, nodes: u32, slots: u32, dims: [u32; 3], cube: u32) -> Option<Wiring> {
    let sides = (1..=cube).filter(|side| cube.is_multiple_of(*side));
    let boxes = sides.clone().flat_map(|p| sides.clone().map(move |q| (p, q))).filter_map(|(p, q)| {
        let r = slots.checked_div(p * q).filter(|r| p * q * r == slots && *r > 0 && cube.is_multiple_of(*r))?;
        (p >= q && q >= r).then_some((p * q + q * r + p * r, [p, q, r]))
    });
    let (_, node) = boxes.min()?;
    let small = |sides: [u32; 3]| -> Option<[u16; 3]> {
        let [a, b, c] = sides.map(|side| u16::try_from(side).ok());
        Some([a?, b?, c?])
    };
    let links = Links::Optical { cube: u16::try_from(cube).ok()? };
    let wiring = Wiring { first, dims: small(dims)?, node: small(node)?, links };
    let tiles = Chips::new(wiring).is_ok() && wiring.nodes().len() == usize::try_from(nodes).ok()?;
    tiles.then_some(wiring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_torus_are_cubes_or_the_most_compact_part_of_one() {
        let node = |slots, nodes| wiring(3, nodes, slots, [16, 16, 16], 4).map(|wiring| wiring.node);
        assert_eq!(node(64, 64), Some([4, 4, 4]));
        assert_eq!(node(4, 1024), Some([2, 2, 1]));
        assert_eq!(node(8, 512), Some([2, 2, 2]));
        assert_eq!((node(6, 683), node(64, 63)), (None, None));
    }
}
