//! The design of a network: its tiers, its cables and its wires.
//!
//! Invariant: made only by [`design`]; for every segment, the links of its wires sum up to [`Segment::links`].

use dh_units::{BitsPerSec, Usd, Watts, real};
use serde::Serialize;

use crate::attach::Managers;
use crate::clos::Roles;
use crate::error::Error;
use crate::groups::Groups;
use crate::request::{Request, Switch, Topology, check};
use crate::solve::{Solved, k_ary, slower, solve};
use crate::torus::Torus;
use crate::wire::{Role, SegmentKind, Wire};

/// The switches of one role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tier {
    /// What they do.
    pub role: Role,
    /// Their model.
    pub switch: Switch,
    /// How many, over all planes.
    pub count: u64,
    /// Ports with a wire, over all.
    pub ports_used: u64,
    /// Ports without.
    pub ports_free: u64,
    /// Rated power of all, without optics.
    pub power: Watts,
    /// Price of all, where the model's is known.
    pub price: Option<Usd>,
}

impl Tier {
    pub(crate) fn new(role: Role, switch: &Switch, count: u64, ports_used: u64) -> Self {
        Self {
            role,
            switch: switch.clone(),
            count,
            ports_used,
            ports_free: (count * switch.all_ports()).saturating_sub(ports_used),
            power: switch.power * real(count),
            price: switch.price.map(|price| price * real(count)),
        }
    }
}

/// The links between two tiers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Segment {
    /// Between which.
    pub kind: SegmentKind,
    /// Links of all planes.
    pub links: u64,
    /// Cables: each carries up to one link for each plane; a split one counts once.
    pub cables: u64,
    /// [`Wire`]s: legs of split cables count one by one.
    pub wires: u64,
    /// Speed of one link, one direction.
    pub speed: BitsPerSec,
}

/// How the wires are computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// A folded Clos.
    Clos(Solved, Roles),
    /// A Dragonfly or Dragonfly+.
    Groups(Groups),
    /// A torus.
    Torus(Torus),
}

/// A network.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// Its name.
    pub name: String,
    /// Its switches, from the nodes up.
    pub tiers: Vec<Tier>,
    /// Its links, from the nodes up.
    pub segments: Vec<Segment>,
    pub(crate) topology: Topology,
    pub(crate) shape: Shape,
}

/// Designs the network that `request` asks for. O(1) in its size.
/// # Errors
/// [`Error`] says what contradicts what, and what would fit.
pub fn design(request: &Request) -> Result<Design, Error> {
    check(request)?;
    let design = shaped(request)?;
    match design.tiers.iter().map(|tier| tier.count).max() {
        Some(most) if most > MAX_SWITCHES => {
            Err(Error::TooLarge { what: "switches of one tier".to_owned(), value: most, limit: MAX_SWITCHES })
        }
        _ => Ok(design),
    }
}

/// Switches of one tier; keeps every index in `u32`.
const MAX_SWITCHES: u64 = 1 << 28;

fn shaped(request: &Request) -> Result<Design, Error> {
    match request.topology {
        Topology::RailOptimised | Topology::FatTree | Topology::RailOnly => {
            Ok(of_clos(request, solve(request)?, Roles { spine: Role::Spine }))
        }
        Topology::KAry { k } => Ok(of_clos(request, k_ary(request, k)?, Roles { spine: Role::Aggregation })),
        Topology::Dragonfly { .. } | Topology::DragonflyPlus { .. } => Ok(of_groups(request, Groups::new(request)?)),
        Topology::Torus { .. } => Ok(of_torus(request, Torus::new(request)?)),
    }
}

/// A segment in which every link is a cable of its own.
fn single(kind: SegmentKind, links: u64, speed: BitsPerSec) -> Segment {
    Segment { kind, links, cables: links, wires: links, speed }
}

fn of_groups(request: &Request, groups: Groups) -> Design {
    let (ends, local, global) = (groups.end_links(), groups.local_links(), groups.global_links());
    let all = groups.planes * groups.count;
    let spine = request.spine_model();
    let mut segments =
        vec![Segment { cables: ends / groups.planes, ..single(SegmentKind::NodeLeaf, ends, request.link_speed()) }];
    let tiers = if groups.is_flat() {
        segments.push(single(SegmentKind::Local, local, request.leaf.speed));
        segments.push(single(SegmentKind::Global, global, request.leaf.speed));
        vec![Tier::new(Role::Router, &request.leaf, all * groups.lower, ends + 2 * (local + global))]
    } else {
        segments.push(single(SegmentKind::LeafSpine, local, slower(request.leaf.speed, spine.speed)));
        segments.push(single(SegmentKind::Global, global, spine.speed));
        vec![
            Tier::new(Role::Leaf, &request.leaf, all * groups.lower, ends + local),
            Tier::new(Role::Spine, spine, all * groups.upper, local + 2 * global),
        ]
    };
    Design { name: request.name.clone(), tiers, segments, topology: request.topology, shape: Shape::Groups(groups) }
}

fn of_torus(request: &Request, torus: Torus) -> Design {
    let mut segments = vec![single(SegmentKind::NodeNode, torus.electrical(), request.port_speed)];
    let mut tiers = Vec::new();
    if torus.cube.is_some() {
        segments.push(single(SegmentKind::NodeOcs, torus.optical(), request.port_speed));
        tiers.push(Tier::new(Role::Ocs, &request.leaf, torus.switches(), torus.optical()));
    }
    Design { name: request.name.clone(), tiers, segments, topology: request.topology, shape: Shape::Torus(torus) }
}

fn of_clos(request: &Request, solved: Solved, roles: Roles) -> Design {
    let Solved { clos, ends } = solved;
    let end_links = (ends.nodes * ends.ports + ends.managers) * clos.planes;
    let (ls_links, ls_cables, ls_wires) = clos.leaf_spine_counts();
    let (sc_links, sc_cables, sc_wires) = clos.spine_core_counts();
    let on_spines = match ends.managers_at {
        Managers::Spines { .. } => ends.managers * clos.planes,
        Managers::Leaves { .. } | Managers::LastUnit { .. } => 0,
    };
    let mut tiers =
        vec![Tier::new(Role::Leaf, &request.leaf, clos.planes * clos.leaf_count(), end_links - on_spines + ls_links)];
    let mut segments = vec![Segment {
        kind: SegmentKind::NodeLeaf,
        links: end_links,
        cables: end_links / clos.planes,
        wires: end_links,
        speed: request.link_speed(),
    }];
    if clos.spines > 0 {
        let spine = request.spine_model();
        tiers.push(Tier::new(roles.spine, spine, clos.planes * clos.spine_count(), ls_links + sc_links + on_spines));
        segments.push(Segment {
            kind: SegmentKind::LeafSpine,
            links: ls_links,
            cables: ls_cables,
            wires: ls_wires,
            speed: slower(request.leaf.up_speed(), spine.speed),
        });
    }
    if clos.cores > 0 {
        tiers.push(Tier::new(Role::Core, request.core_model(), clos.planes * clos.core_count(), sc_links));
        segments.push(Segment {
            kind: SegmentKind::SpineCore,
            links: sc_links,
            cables: sc_cables,
            wires: sc_wires,
            speed: slower(request.spine_model().speed, request.core_model().speed),
        });
    }
    Design {
        name: request.name.clone(),
        tiers,
        segments,
        topology: request.topology,
        shape: Shape::Clos(solved, roles),
    }
}

impl Design {
    /// Switches of one role, over all planes; 0 where there is no such tier.
    pub fn count(&self, role: Role) -> u64 {
        self.tiers.iter().find(|tier| tier.role == role).map_or(0, |tier| tier.count)
    }

    /// The links of one kind.
    pub fn segment(&self, kind: SegmentKind) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.kind == kind)
    }

    /// Cables of one kind; 0 where there is no such segment.
    pub fn cables(&self, kind: SegmentKind) -> u64 {
        self.segment(kind).map_or(0, |segment| segment.cables)
    }

    /// Rated power of all switches, without optics.
    pub fn power(&self) -> Watts {
        self.tiers.iter().map(|tier| tier.power).sum()
    }

    /// Price of all switches; `None` if that of one model is not known.
    pub fn price(&self) -> Option<Usd> {
        self.tiers.iter().map(|tier| tier.price).try_fold(Usd(0.0), |sum, price| Some(sum + price?))
    }

    /// Wire `index` of a segment, in O(1). An index beyond [`Segment::wires`] has no meaning.
    fn wire(&self, kind: SegmentKind, index: u64) -> Wire {
        match (&self.shape, kind) {
            (Shape::Clos(Solved { clos, .. }, roles), SegmentKind::LeafSpine) => clos.leaf_spine_wire(*roles, index),
            (Shape::Clos(Solved { clos, .. }, roles), SegmentKind::SpineCore) => clos.spine_core_wire(*roles, index),
            (Shape::Clos(Solved { clos, ends }, roles), _) => clos.end_wire(ends, *roles, index),
            (Shape::Groups(groups), SegmentKind::NodeLeaf) => groups.end_wire(index),
            (Shape::Groups(groups), SegmentKind::Global) => groups.global_wire(index),
            (Shape::Groups(groups), _) => groups.local_wire(index),
            (Shape::Torus(torus), SegmentKind::NodeOcs) => torus.optical_wire(index),
            (Shape::Torus(torus), _) => torus.electrical_wire(index),
        }
    }

    /// Every wire, segment after segment, computed as it is asked for.
    pub fn wires(&self) -> impl Iterator<Item = Wire> + '_ {
        let mut before = 0;
        self.segments.iter().flat_map(move |segment| {
            let first = before;
            before += segment.cables;
            (0..segment.wires).map(move |index| {
                let wire = self.wire(segment.kind, index);
                Wire { cable: first + wire.cable, ..wire }
            })
        })
    }
}
