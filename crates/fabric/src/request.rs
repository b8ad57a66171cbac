//! What a network is asked to be: its ends, its shape and its switch models.
//!
//! Invariant: a request that [`check`] accepts has no zero counts and is small enough that every index fits `u32`.

use dh_units::{BitsPerSec, Usd, Watts};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Ports of a model that only face up, faster than its others.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Uplinks {
    /// How many. On the switch they are numbered after the other ports.
    pub ports: u32,
    /// Speed of one, one direction.
    pub speed: BitsPerSec,
}

/// A switch model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// The model's name.
    pub name: String,
    /// End ports at `speed`: a 64-port 800 Gb/s switch whose ports are split counts as 128 ports of 400 Gb/s.
    pub ports: u32,
    /// Speed of one port, one direction.
    pub speed: BitsPerSec,
    /// Rated power without optics.
    pub power: Watts,
    /// Price, where one is known.
    pub price: Option<Usd>,
    /// Height in rack units.
    pub height_u: u32,
    /// Uplink ports beside `ports`, of access switches. Of a leaf with some all `ports` face down, and all uplinks go up,
    /// whatever oversubscription is asked for: what a leaf has is what its nodes get. Other roles leave them free.
    #[serde(default)]
    pub uplinks: Option<Uplinks>,
}

impl Switch {
    /// All ports of the box.
    pub fn all_ports(&self) -> u64 {
        u64::from(self.ports) + self.uplinks.map_or(0, |uplinks| u64::from(uplinks.ports))
    }

    /// Speed of the ports that face up where the switch is a leaf.
    pub fn up_speed(&self) -> BitsPerSec {
        self.uplinks.map_or(self.speed, |uplinks| uplinks.speed)
    }
}

/// Bandwidth towards the nodes to bandwidth towards the middle: `7:1` carries a seventh of what the ends could send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratio {
    /// Share of the down side.
    pub down: u32,
    /// Share of the up side; at most `down`.
    pub up: u32,
}

impl Ratio {
    /// As much up as down: non-blocking.
    pub const FULL: Self = Self { down: 1, up: 1 };

    /// The ratio as a real number, at least 1 where the request is valid.
    pub fn as_f64(self) -> f64 {
        f64::from(self.down) / f64::from(self.up)
    }
}

/// The shape of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Topology {
    /// Port `r` of every node of a scalable unit goes to leaf `r` of that unit; leaves are joined by a folded Clos.
    RailOptimised,
    /// Node ports fill leaves one after the other; leaves are joined by a folded Clos.
    FatTree,
    /// The fat tree of Al-Fares, Loukissas and Vahdat (SIGCOMM 2008), complete whatever the number of nodes.
    KAry {
        /// Ports used of each switch; even.
        k: u32,
    },
    /// Port `r` of every node goes to network `r`; rails are not joined (Wang et al., arXiv 2307.12169).
    RailOnly,
    /// Groups of fully joined routers, all groups joined (Kim et al., ISCA 2008).
    Dragonfly {
        /// Node ports of one router, *p*.
        hosts: u32,
        /// Routers of one group, *a*.
        routers: u32,
        /// Global links of one router, *h*.
        global: u32,
        /// Groups; the fewest that hold the nodes where not given.
        groups: Option<u32>,
    },
    /// Groups of two tiers whose spines carry the global links (Shpiner et al., `HiPINEB` 2017).
    DragonflyPlus {
        /// Node ports of one leaf.
        hosts: u32,
        /// Leaves of one group.
        leaves: u32,
        /// Spines of one group; each leaf has one link to each.
        spines: u32,
        /// Global links of one spine.
        global: u32,
        /// Groups; the fewest that hold the nodes where not given.
        groups: Option<u32>,
    },
    /// A torus of nodes with one link in each of six directions. The leaf model is the optical circuit switch, if any.
    Torus {
        /// Nodes along each axis.
        dims: [u32; 3],
        /// Side of the electrically wired cubes that optical circuit switches join; direct wiring where not given.
        cube: Option<u32>,
    },
}

/// How the spines of pods are joined in three tiers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoreGroups {
    /// As few cores as serve all spines, in as few groups as that many make.
    #[default]
    FewestCores,
    /// Spine `k` of every pod goes to core group `k`, and to no other: DGX GB200 (NVIDIA RA-11338-001, section 4). Small
    /// networks need more cores; one that grows need not be wired again.
    EachSpine,
}

/// What a network must join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its name, part of ids and labels: `compute`.
    pub name: String,
    /// Its shape.
    pub topology: Topology,
    /// Nodes.
    pub nodes: u32,
    /// Ports of each node into this network; the number of rails in rail topologies; 6 in a torus.
    pub ports_per_node: u32,
    /// Speed of one node port, all planes together, one direction.
    pub port_speed: BitsPerSec,
    /// Planes that each node port is split over; 1 is the ordinary network.
    pub planes: u32,
    /// Nodes of one scalable unit, each with leaf switches of its own; in a fat tree of three tiers also the pod.
    /// Default: as many as a leaf has down ports (rail-optimised), all nodes (fat tree).
    pub unit_nodes: Option<u32>,
    /// Scalable units of one pod of three tiers, whose spines are complete also where units are absent; in a rail-only
    /// network leaves of one rail. Default: as many as make the fewest switches; one, in a fat tree with `unit_nodes`.
    #[serde(default)]
    pub pod_units: Option<u32>,
    /// End ports beside the nodes', for fabric managers.
    pub extra_ports: u32,
    /// Model of the leaves; of every switch where no other is given.
    pub leaf: Switch,
    /// Model of the spines; needed where a leaf has uplink ports and there is more than one leaf.
    pub spine: Option<Switch>,
    /// Model of the cores.
    pub core: Option<Switch>,
    /// The spines of a pod (all of a plane in two tiers) are a multiple of this: 2 places them in pairs.
    #[serde(default)]
    pub spine_multiple: Option<u32>,
    /// How the spines of pods are joined in three tiers.
    #[serde(default)]
    pub core_groups: CoreGroups,
    /// Tiers of switches, 1 to 3; the fewest that fit where not given.
    pub tiers: Option<u32>,
    /// Down to up bandwidth of a leaf; not used where the leaf has uplink ports of its own.
    pub oversubscription: Ratio,
    /// Down to up bandwidth of a spine of three tiers: joins full pods thinly.
    pub spine_oversubscription: Ratio,
    /// Ports left free on each leaf.
    pub spare_ports: u32,
}

impl Request {
    /// A non-blocking network of one plane and one switch model, with nothing out of the ordinary.
    pub fn new(name: &str, topology: Topology, nodes: u32, ports_per_node: u32, leaf: Switch) -> Self {
        Self {
            name: name.to_owned(),
            topology,
            nodes,
            ports_per_node,
            port_speed: leaf.speed,
            planes: 1,
            unit_nodes: None,
            pod_units: None,
            extra_ports: 0,
            leaf,
            spine: None,
            core: None,
            spine_multiple: None,
            core_groups: CoreGroups::FewestCores,
            tiers: None,
            oversubscription: Ratio::FULL,
            spine_oversubscription: Ratio::FULL,
            spare_ports: 0,
        }
    }

    /// The model of the spines.
    pub fn spine_model(&self) -> &Switch {
        self.spine.as_ref().unwrap_or(&self.leaf)
    }

    /// The model of the cores: the spines' where none is given.
    pub fn core_model(&self) -> &Switch {
        self.core.as_ref().unwrap_or_else(|| self.spine_model())
    }

    /// Speed of a node port's link in one plane.
    pub fn link_speed(&self) -> BitsPerSec {
        self.port_speed / f64::from(self.planes)
    }

    /// Node ports, not counting managers.
    pub fn node_ends(&self) -> u64 {
        u64::from(self.nodes) * u64::from(self.ports_per_node)
    }
}

/// Links of all planes at the ends; the largest machine has about 10^6 accelerators, and 2^28 links keep indices in `u32`.
const MAX_ENDS: u64 = 1 << 28;
/// Ports of one switch; the largest chip of 2025 has 512, chassis a few thousand.
const MAX_PORTS: u32 = 1 << 14;
/// Planes; Ethernet lanes of one port do not split further.
const MAX_PLANES: u32 = 16;

/// Refuses what no network can be made from, before anything is computed.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let zero = [
        ("nodes", request.nodes),
        ("ports per node", request.ports_per_node),
        ("planes", request.planes),
        ("nodes of a unit", request.unit_nodes.unwrap_or(1)),
        ("units of a pod", request.pod_units.unwrap_or(1)),
        ("multiple of spines", request.spine_multiple.unwrap_or(1)),
        ("tiers", request.tiers.unwrap_or(1)),
        ("oversubscription", request.oversubscription.down.min(request.oversubscription.up)),
        ("oversubscription of the spines", request.spine_oversubscription.down.min(request.spine_oversubscription.up)),
    ];
    for (what, count) in zero {
        if count == 0 {
            return Err(Error::Zero { what: what.to_owned() });
        }
    }
    for ratio in [request.oversubscription, request.spine_oversubscription] {
        if ratio.down < ratio.up || ratio.down > 1_000 {
            return Err(Error::BadRatio { down: ratio.down, up: ratio.up });
        }
    }
    let ends = request.node_ends().saturating_add(request.extra_ports.into()).saturating_mul(request.planes.into());
    if ends > MAX_ENDS {
        return Err(Error::TooLarge { what: "links at the ends".to_owned(), value: ends, limit: MAX_ENDS });
    }
    if request.planes > MAX_PLANES {
        return Err(Error::TooLarge {
            what: "planes".to_owned(),
            value: request.planes.into(),
            limit: MAX_PLANES.into(),
        });
    }
    if !(request.port_speed.0.is_finite() && request.port_speed.0 > 0.0) {
        return Err(Error::Zero { what: "port speed".to_owned() });
    }
    if matches!(request.topology, Topology::Torus { cube: None, .. }) {
        return Ok(());
    }
    for switch in [Some(&request.leaf), request.spine.as_ref(), request.core.as_ref()].into_iter().flatten() {
        if switch.ports == 0 {
            return Err(Error::Zero { what: format!("ports of switch `{}`", switch.name) });
        }
        // A leaf with uplink ports of its own does not divide the others.
        if switch.ports % 2 == 1 && switch.uplinks.is_none() {
            return Err(Error::OddRadix { switch: switch.name.clone(), ports: switch.ports });
        }
        if switch.all_ports() > MAX_PORTS.into() {
            return Err(Error::TooLarge {
                what: format!("ports of switch `{}`", switch.name),
                value: switch.all_ports(),
                limit: MAX_PORTS.into(),
            });
        }
        // A part in 10^9 below is a rounding error of dividing a port by three planes.
        if !switch.speed.0.is_finite() || switch.speed.0 < request.link_speed().0 * (1.0 - 1e-9) {
            return Err(Error::PortTooSlow {
                switch: switch.name.clone(),
                speed: switch.speed,
                needed: request.link_speed(),
            });
        }
        if let Some(uplinks) = switch.uplinks
            && (uplinks.ports == 0 || !uplinks.speed.0.is_finite() || uplinks.speed.0 <= 0.0)
        {
            return Err(Error::Zero { what: format!("uplinks of switch `{}` and their speed", switch.name) });
        }
    }
    let alike = !matches!(request.topology, Topology::RailOptimised | Topology::FatTree | Topology::RailOnly);
    if alike && request.leaf.uplinks.is_some() {
        return Err(Error::Shape(format!(
            "this shape needs switches whose ports are all alike; `{}` has uplink ports",
            request.leaf.name
        )));
    }
    Ok(())
}
