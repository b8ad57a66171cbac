//! How far apart ends are: switches that a message passes, and links on the longest of the shortest paths.
//!
//! Invariant: a Clos and a torus are computed exactly from their numbers (checked against breadth-first search in
//! `tests/paths.rs`); a small Dragonfly is searched, a large one has its bound and no mean.

use dh_units::real;
use std::collections::VecDeque;

use serde::Serialize;

use crate::attach::Attach;
use crate::clos::Clos;
use crate::design::{Design, Shape};
use crate::groups::Groups;
use crate::request::Topology;
use crate::solve::Solved;
use crate::wire::{Device, SegmentKind};

/// Switches passed between two node ports of one plane; in a torus, links between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hops {
    /// Between ports on one leaf; the next node in a torus.
    pub nearest: u32,
    /// The worst between equal ports of two nodes: one rail.
    pub same_rail: Option<u32>,
    /// The worst between different ports of two nodes. Where rails are not joined there is no such way but through a node.
    pub cross_rail: Option<u32>,
    /// Between pods, where there are several; between groups in a Dragonfly, at most.
    pub cross_pod: Option<u32>,
    /// The worst of all; in a large Dragonfly, at most.
    pub worst: u32,
    /// The mean over all pairs of different node ports that are joined; `None` for a large Dragonfly.
    pub mean: Option<f64>,
    /// Links on the longest shortest path from node to node.
    pub diameter: u32,
}

/// Routers of one plane up to which a Dragonfly is searched: a search from each is then some ten million steps.
const SEARCHED: u64 = 512;

impl Design {
    /// How far apart ends are. O(leaves) for a Clos.
    pub fn hops(&self) -> Hops {
        match &self.shape {
            Shape::Clos(solved, _) => of_clos(self.topology, solved),
            Shape::Groups(groups) => of_groups(self, groups),
            Shape::Torus(torus) => {
                let (longest, mean) = torus.distances();
                let worst = crate::number::small(longest);
                Hops {
                    nearest: worst.min(1),
                    same_rail: None,
                    cross_rail: None,
                    cross_pod: None,
                    worst,
                    mean: Some(mean),
                    diameter: worst,
                }
            }
        }
    }
}

/// Node ports on a leaf of one plane.
fn ends_of(solved: &Solved, leaf: u64) -> u64 {
    let nodes = solved.ends.nodes;
    match solved.ends.attach {
        Attach::Rails { unit_nodes, rails } => nodes.saturating_sub(leaf / rails * unit_nodes).min(unit_nodes),
        Attach::Packed { unit_nodes, unit_leaves, per_leaf, ports } => {
            let of_unit = nodes.saturating_sub(leaf / unit_leaves * unit_nodes).min(unit_nodes) * ports;
            of_unit.saturating_sub(leaf % unit_leaves * per_leaf).min(per_leaf)
        }
        Attach::RailOnly { per_leaf, rows } => nodes.saturating_sub(leaf % rows * per_leaf).min(per_leaf),
    }
}

/// Ordered pairs of different ends by where they meet.
#[derive(Debug, Default)]
struct Pairs {
    leaf: f64,
    pod: f64,
    component: f64,
}

fn pairs(solved: &Solved) -> Pairs {
    let clos: &Clos = &solved.clos;
    let count = usize::try_from(clos.components * clos.pods).unwrap_or(usize::MAX);
    let mut pods = vec![0_u64; count];
    let mut found = Pairs::default();
    for leaf in 0..clos.leaf_count() {
        let ends = ends_of(solved, leaf);
        found.leaf += real(ends) * (real(ends) - 1.0).max(0.0);
        let (pod, _) = clos.pod_of(leaf);
        if let Some(sum) = usize::try_from(pod).ok().and_then(|pod| pods.get_mut(pod)) {
            *sum += ends;
        }
    }
    let squares: f64 = pods.iter().map(|ends| real(*ends) * (real(*ends) - 1.0).max(0.0)).sum();
    found.pod = squares - found.leaf;
    let of_component = real(solved.ends.nodes * solved.ends.ports / clos.components);
    found.component = real(clos.components) * of_component * (of_component - 1.0) - squares;
    found
}

fn of_clos(topology: Topology, solved: &Solved) -> Hops {
    let clos = &solved.clos;
    let found = pairs(solved);
    let all = found.leaf + found.pod + found.component;
    let worst = if found.component > 0.5 {
        5
    } else if found.pod > 0.5 {
        3
    } else {
        1
    };
    let several_rails = solved.ends.ports > 1;
    let rows = match solved.ends.attach {
        Attach::Rails { unit_nodes, .. } => solved.ends.nodes.div_ceil(unit_nodes),
        Attach::RailOnly { .. } => clos.rows,
        Attach::Packed { .. } => 1,
    };
    // Along a rail: one leaf, the spines of one pod, or the cores.
    let along = if rows == 1 {
        1
    } else if clos.cores > 0 && rows > clos.per_pod {
        5
    } else {
        3
    };
    let (same_rail, cross_rail) = match topology {
        Topology::RailOptimised => (Some(along), several_rails.then_some(worst)),
        Topology::RailOnly => (Some(along), None),
        Topology::FatTree
        | Topology::KAry { .. }
        | Topology::Dragonfly { .. }
        | Topology::DragonflyPlus { .. }
        | Topology::Torus { .. } => (None, None),
    };
    Hops {
        nearest: 1,
        same_rail,
        cross_rail,
        cross_pod: (found.component > 0.5).then_some(5),
        worst,
        mean: Some(if all > 0.5 { (found.leaf + 3.0 * found.pod + 5.0 * found.component) / all } else { 1.0 }),
        diameter: worst + 1,
    }
}

fn of_groups(design: &Design, groups: &Groups) -> Hops {
    let small = groups.count * (groups.lower + groups.upper) <= SEARCHED;
    let bound = match (groups.count, groups.upper, groups.lower) {
        (1, _, 1) => 1,
        (1, 0, _) | (_, 0, 1) => 2,
        (1, ..) => 3,
        _ => 4,
    };
    let (worst, mean) = if small {
        let (worst, mean) = searched(design, groups);
        (worst, Some(mean))
    } else {
        (bound, None)
    };
    Hops {
        nearest: 1,
        same_rail: None,
        cross_rail: None,
        cross_pod: (groups.count > 1).then_some(worst),
        worst,
        mean,
        diameter: worst + 1,
    }
}

/// Breadth-first search from every switch with ends, over one plane.
fn searched(design: &Design, groups: &Groups) -> (u32, f64) {
    let lower = groups.count * groups.lower;
    // Routers and leaves first, spines after them.
    let place = |device: Device| match device {
        Device::Switch(role, index) if role == groups.lower_role() => usize::try_from(index).ok(),
        Device::Switch(_, index) => usize::try_from(lower + u64::from(index)).ok(),
        Device::Node(_) | Device::Manager(_) | Device::Ocs(_) => None,
    };
    let count = usize::try_from(lower + groups.count * groups.upper).unwrap_or(0);
    let mut next = vec![Vec::new(); count];
    for wire in design.wires().filter(|wire| wire.plane == 0 && wire.segment != SegmentKind::NodeLeaf) {
        if let (Some(from), Some(to)) = (place(wire.from.device), place(wire.to.device)) {
            next[from].push(to);
            next[to].push(from);
        }
    }
    let all = groups.nodes * groups.ports;
    let ends = |switch: usize| {
        real(
            all.saturating_sub(u64::try_from(switch).unwrap_or(u64::MAX).saturating_mul(groups.hosts))
                .min(groups.hosts),
        )
    };
    let carrying = usize::try_from(lower).unwrap_or(0);
    let (mut worst, mut sum) = (1, 0.0);
    for from in (0..carrying).take_while(|from| ends(*from) > 0.0) {
        let mut passed = vec![0_u32; count];
        passed[from] = 1;
        let mut open = VecDeque::from([from]);
        while let Some(switch) = open.pop_front() {
            for other in &next[switch] {
                if passed[*other] == 0 {
                    passed[*other] = passed[switch] + 1;
                    open.push_back(*other);
                }
            }
        }
        for (to, hops) in passed.iter().enumerate().take(carrying) {
            let pairs = ends(from) * if to == from { ends(to) - 1.0 } else { ends(to) };
            if pairs > 0.0 {
                worst = worst.max(*hops);
                sum += pairs * f64::from(*hops);
            }
        }
    }
    let pairs = real(all) * (real(all) - 1.0);
    (worst, if pairs > 0.0 { sum / pairs } else { 1.0 })
}
