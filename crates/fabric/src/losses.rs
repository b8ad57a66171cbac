//! Bisection bandwidth, and what one lost part takes from it and from the nodes.
//!
//! The bisection of a Clos is the least of half of what its ends, its leaves' uplinks and its spines' uplinks carry; that of
//! a Dragonfly is a cut of its groups into halves, that of a torus a cut across its longest axis.
//! Stated assumption: a lost part's traffic is spread evenly over the parts like it, as adaptive routing does; with static
//! hashing some flows lose more. A tier with more bandwidth than is sent to it loses its surplus first.
//! Invariant: no loss leaves more than there was, and a part of which there is one leaves nothing of what it carried.

use dh_units::{BitsPerSec, real};
use serde::Serialize;

use crate::attach::Attach;
use crate::clos::Clos;
use crate::design::{Design, Shape};
use crate::groups::Groups;
use crate::solve::Solved;
use crate::torus::{DIRECTIONS, Torus};
use crate::wire::{Role, SegmentKind};

/// What half of the ends can send to the other half, one direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bisection {
    /// Over the cut.
    pub bandwidth: BitsPerSec,
    /// What half of the node ports could send.
    pub full: BitsPerSec,
    /// `bandwidth / full`; at most 1 in switched networks.
    pub ratio: f64,
}

/// A kind of part of which one is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// One switch.
    Switch(Role),
    /// One cable, all its links.
    Cable(SegmentKind),
    /// The same port of every node and its leaves.
    Rail,
    /// All switches of one plane.
    Plane,
}

impl Part {
    /// Its name in ids: `leaf`, `cable-node-leaf`.
    pub fn name(self) -> String {
        match self {
            Self::Switch(role) => role.name().to_owned(),
            Self::Cable(kind) => format!("cable-{}", kind.name()),
            Self::Rail => "rail".to_owned(),
            Self::Plane => "plane".to_owned(),
        }
    }
}

/// What one lost part costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loss {
    /// The part.
    pub part: Part,
    /// Nodes that lose bandwidth.
    pub nodes: u64,
    /// Share of its bandwidth that each of them loses: of all of it where its own links are gone, of what it sends through
    /// the lost tier otherwise. 0 where what is left carries all that full leaves send.
    pub bandwidth_lost: f64,
    /// Bisection bandwidth left, as share of the whole network's.
    pub bisection_left: f64,
}

/// What each stage of a Clos carries over the cut: half of its links, in bits per second.
#[derive(Debug, Clone, Copy)]
struct Stages {
    ends: f64,
    leaves: f64,
    spines: f64,
}

impl Stages {
    fn least(self) -> f64 {
        self.ends.min(self.leaves).min(self.spines)
    }

    /// What is left where shares of the stages are lost.
    fn left(self, ends: f64, leaves: f64, spines: f64) -> f64 {
        let left = Self {
            ends: self.ends * (1.0 - ends),
            leaves: self.leaves * (1.0 - leaves),
            spines: self.spines * (1.0 - spines),
        };
        // Guards against the last bit of a product above one.
        (left.least() / self.least()).clamp(0.0, 1.0)
    }
}

fn stages(design: &Design, solved: &Solved) -> Stages {
    let half = |kind: SegmentKind| {
        design.segment(kind).map_or(f64::INFINITY, |segment| real(segment.links) * segment.speed.0 / 2.0)
    };
    let link = design.segment(SegmentKind::NodeLeaf).map_or(0.0, |segment| segment.speed.0);
    Stages {
        ends: real(solved.ends.nodes * solved.ends.ports * solved.clos.planes) * link / 2.0,
        leaves: half(SegmentKind::LeafSpine),
        spines: half(SegmentKind::SpineCore),
    }
}

impl Design {
    /// What half of the ends can send to the other half.
    pub fn bisection(&self) -> Bisection {
        let (bandwidth, full) = match &self.shape {
            Shape::Clos(solved, _) => {
                let stages = stages(self, solved);
                (stages.least(), stages.ends)
            }
            Shape::Groups(groups) => {
                let speed = |kind| self.segment(kind).map_or(0.0, |segment| segment.speed.0);
                let full = real(groups.nodes * groups.ports * groups.planes) * speed(SegmentKind::NodeLeaf) / 2.0;
                let crossed = if groups.count > 1 {
                    SegmentKind::Global
                } else if groups.is_flat() {
                    SegmentKind::Local
                } else {
                    SegmentKind::LeafSpine
                };
                let one_switch = groups.count * groups.lower == 1;
                let cut = if one_switch { full } else { real(groups.cut_links()) * speed(crossed) };
                (cut.min(full), full)
            }
            Shape::Torus(torus) => {
                let speed = self.segments.first().map_or(0.0, |segment| segment.speed.0);
                let full = real(torus.nodes()) * f64::from(DIRECTIONS) * speed / 2.0;
                (real(torus.cut_links()) * speed, full)
            }
        };
        Bisection {
            bandwidth: BitsPerSec(bandwidth),
            full: BitsPerSec(full),
            ratio: if full > 0.0 { bandwidth / full } else { 1.0 },
        }
    }

    /// What one lost part of each kind costs, the worst of its kind.
    pub fn losses(&self) -> Vec<Loss> {
        match &self.shape {
            Shape::Clos(solved, roles) => of_clos(self, solved, roles.spine),
            Shape::Groups(groups) => of_groups(self, groups),
            Shape::Torus(torus) => of_torus(torus),
        }
    }
}

/// How much more the tiers of a Clos carry up than full leaves send to them; below one where they are oversubscribed.
#[derive(Debug, Clone, Copy)]
struct Headroom {
    /// A leaf's uplinks.
    leaf: f64,
    /// A spine's uplinks.
    spine: f64,
}

impl Headroom {
    fn new(design: &Design, clos: &Clos) -> Self {
        let speed = |kind| design.segment(kind).map_or(0.0, |segment| segment.speed.0);
        let up = speed(SegmentKind::LeafSpine);
        let leaf = real(clos.up) * up / (real(clos.down) * speed(SegmentKind::NodeLeaf));
        let spine = real(clos.spine_up) * speed(SegmentKind::SpineCore) / (real(clos.spine_down()) * up);
        // What full leaves send fills their uplinks only where there is no headroom.
        Self { leaf, spine: spine * leaf.max(1.0) }
    }

    /// What is lost of the traffic of a tier that loses the share `part` of its links.
    fn lost(tier: f64, part: f64) -> f64 {
        (1.0 - (1.0 - part) * tier.max(1.0)).max(0.0)
    }
}

fn of_clos(design: &Design, solved: &Solved, middle: Role) -> Vec<Loss> {
    let (clos, ends) = (&solved.clos, &solved.ends);
    let stages = stages(design, solved);
    let planes = real(clos.planes);
    let ports = real(ends.ports);
    let all = real(ends.nodes * ends.ports);
    // A leaf: how many nodes it joins, how many ports of each.
    let (leaf_nodes, leaf_ports) = match ends.attach {
        Attach::Rails { unit_nodes, .. } => (unit_nodes.min(ends.nodes), 1),
        Attach::RailOnly { per_leaf, .. } => (per_leaf.min(ends.nodes), 1),
        Attach::Packed { per_leaf, .. } => (per_leaf.div_ceil(ends.ports).min(ends.nodes), per_leaf.min(ends.ports)),
    };
    let leaf_share = real(leaf_ports) / ports / planes;
    let leaf_ends = (real(leaf_nodes * leaf_ports) / all).min(1.0) / planes;
    let leaves = planes * real(clos.leaf_count());
    let mut losses = vec![Loss {
        part: Part::Switch(Role::Leaf),
        nodes: leaf_nodes,
        bandwidth_lost: leaf_share,
        bisection_left: stages.left(leaf_ends, 1.0 / leaves, 0.0),
    }];
    // Spines of one rail carry only that port of a node.
    let of_rail = clos.lanes > 1 || clos.components > 1;
    let pod_share = if of_rail { 1.0 / ports } else { 1.0 };
    if clos.spines > 0 {
        let pod_nodes = match ends.attach {
            Attach::Rails { unit_nodes, .. } if of_rail => clos.per_pod * unit_nodes,
            Attach::Rails { .. } => ends.nodes,
            Attach::RailOnly { per_leaf, .. } => clos.per_pod * per_leaf,
            Attach::Packed { per_leaf, .. } => (clos.per_pod * per_leaf).div_ceil(ends.ports),
        };
        let pod_nodes = pod_nodes.min(ends.nodes);
        let spines = planes * real(clos.spine_count());
        let headroom = Headroom::new(design, clos);
        let share = pod_share / real(clos.spines) / planes;
        let cores_hit = if clos.cores > 0 { 1.0 / spines } else { 0.0 };
        losses.push(Loss {
            part: Part::Switch(middle),
            nodes: pod_nodes,
            bandwidth_lost: pod_share * Headroom::lost(headroom.leaf, 1.0 / real(clos.spines) / planes),
            bisection_left: stages.left(0.0, 1.0 / spines, cores_hit),
        });
        let cable = real(clos.planes.min(clos.up));
        losses.push(Loss {
            part: Part::Cable(SegmentKind::LeafSpine),
            nodes: leaf_nodes,
            bandwidth_lost: leaf_share * Headroom::lost(headroom.leaf, cable / real(clos.up)),
            bisection_left: stages.left(0.0, cable / (leaves * real(clos.up)), 0.0),
        });
        if clos.cores > 0 {
            let cores = planes * real(clos.core_count());
            losses.push(Loss {
                part: Part::Switch(Role::Core),
                nodes: ends.nodes,
                bandwidth_lost: if clos.components > 1 { 1.0 / ports } else { 1.0 }
                    * Headroom::lost(headroom.spine, 1.0 / real(clos.groups * clos.cores) / planes),
                bisection_left: stages.left(0.0, 0.0, 1.0 / cores),
            });
            let cable = real(clos.planes.min(clos.spine_up)) / real(clos.spine_up);
            losses.push(Loss {
                part: Part::Cable(SegmentKind::SpineCore),
                nodes: pod_nodes,
                bandwidth_lost: share * Headroom::lost(headroom.spine, cable),
                bisection_left: stages.left(0.0, 0.0, cable / spines),
            });
        }
    }
    losses.push(Loss {
        part: Part::Cable(SegmentKind::NodeLeaf),
        nodes: 1,
        bandwidth_lost: 1.0 / ports,
        bisection_left: stages.left(1.0 / all, 0.0, 0.0),
    });
    if !matches!(ends.attach, Attach::Packed { .. }) {
        losses.push(whole(Part::Rail, ends.nodes, ports));
    }
    if clos.planes > 1 {
        losses.push(whole(Part::Plane, ends.nodes, planes));
    }
    losses
}

/// One of `count` equal parts that each carry a share of everything.
fn whole(part: Part, nodes: u64, count: f64) -> Loss {
    Loss { part, nodes, bandwidth_lost: 1.0 / count, bisection_left: 1.0 - 1.0 / count }
}

fn of_groups(design: &Design, groups: &Groups) -> Vec<Loss> {
    let planes = real(groups.planes);
    let bisection = design.bisection();
    let speed = |kind| design.segment(kind).map_or(0.0, |segment| segment.speed.0);
    let cut = if groups.count > 1 { real(groups.cut_links()) * speed(SegmentKind::Global) } else { f64::INFINITY };
    let left = |ends: f64, links: f64| {
        let least = (bisection.full.0 * (1.0 - ends)).min(cut * (1.0 - links));
        if bisection.bandwidth.0 > 0.0 { (least / bisection.bandwidth.0).clamp(0.0, 1.0) } else { 1.0 }
    };
    let all = real(groups.nodes * groups.ports);
    let ends = real(groups.hosts).min(all);
    let lower = planes * real(groups.count * groups.lower);
    let is_router = groups.is_flat();
    let mut losses = vec![Loss {
        part: Part::Switch(groups.lower_role()),
        nodes: groups.hosts.div_ceil(groups.ports).min(groups.nodes),
        bandwidth_lost: real(groups.hosts.min(groups.ports)) / real(groups.ports) / planes,
        bisection_left: left(ends / all / planes, if is_router { 1.0 / lower } else { 0.0 }),
    }];
    let group_nodes = (groups.hosts * groups.lower).div_ceil(groups.ports).min(groups.nodes);
    if !is_router {
        losses.push(Loss {
            part: Part::Switch(Role::Spine),
            nodes: group_nodes,
            bandwidth_lost: 1.0 / real(groups.upper) / planes,
            bisection_left: left(0.0, 1.0 / (planes * real(groups.count * groups.upper))),
        });
    }
    losses.push(Loss {
        part: Part::Cable(SegmentKind::NodeLeaf),
        nodes: 1,
        bandwidth_lost: 1.0 / real(groups.ports),
        bisection_left: left(1.0 / all, 0.0),
    });
    if groups.count > 1 {
        losses.push(Loss {
            part: Part::Cable(SegmentKind::Global),
            nodes: (2 * group_nodes).min(groups.nodes),
            bandwidth_lost: 1.0 / real(groups.between * (groups.count - 1)) / planes,
            bisection_left: left(0.0, 1.0 / real(groups.cut_links())),
        });
    }
    if groups.planes > 1 {
        losses.push(whole(Part::Plane, groups.nodes, planes));
    }
    losses
}

fn of_torus(torus: &Torus) -> Vec<Loss> {
    let link = 1.0 / f64::from(DIRECTIONS);
    let cut = real(torus.cut_links());
    let left = |links: f64| if cut > 0.0 { ((cut - links) / cut).clamp(0.0, 1.0) } else { 1.0 };
    let mut losses = Vec::new();
    if torus.electrical() > 0 {
        losses.push(Loss {
            part: Part::Cable(SegmentKind::NodeNode),
            nodes: 2,
            bandwidth_lost: link,
            bisection_left: left(1.0),
        });
    }
    if let Some(side) = torus.cube {
        losses.push(Loss {
            part: Part::Cable(SegmentKind::NodeOcs),
            nodes: 2,
            bandwidth_lost: link,
            bisection_left: left(1.0),
        });
        // A cube of side one has both its faces in one node.
        let (faces, each) = if side == 1 { (1, 2.0) } else { (2, 1.0) };
        losses.push(Loss {
            part: Part::Switch(Role::Ocs),
            nodes: faces * torus.cubes(),
            bandwidth_lost: each * link,
            bisection_left: left(cut / real(side * side)),
        });
    }
    losses
}
