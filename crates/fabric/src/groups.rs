//! Dragonfly and Dragonfly+: groups of switches, every group joined to every other.
//!
//! Balanced Dragonfly (Kim, Dally, Scott, Abts, ISCA 2008): a = 2p = 2h, switches of 4p - 1 ports, a p (a h + 1) ends.
//! Dragonfly+ (Shpiner et al., `HiPINEB` 2017): a group is two tiers, its spines carry the global links.
//!
//! Global ports of a group are numbered; the links to the group `d` places further take slots `(d - 1) x between` on, and
//! slot `s` lies on carrier `s mod carriers`, so that links of one pair of groups lie on different switches.
//! Invariant: all groups are alike and complete, also where the last has few nodes; wire `i` costs O(1).

use crate::clos::switch_port;
use crate::error::Error;
use crate::number::small;
use crate::request::{Request, Topology};
use crate::wire::{Device, Port, Role, SegmentKind, Wire};

/// Groups of one plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Groups {
    pub(crate) planes: u64,
    pub(crate) nodes: u64,
    pub(crate) ports: u64,
    pub(crate) managers: u64,
    /// Ends of one switch that carries ends.
    pub(crate) hosts: u64,
    /// Switches of a group that carry ends: routers or leaves.
    pub(crate) lower: u64,
    /// Spines of a group; 0 in a Dragonfly.
    pub(crate) upper: u64,
    /// Global links of a carrier: a router, or a spine where there are some.
    pub(crate) global: u64,
    /// How many groups.
    pub(crate) count: u64,
    /// Links of each pair of groups.
    pub(crate) between: u64,
}

impl Groups {
    /// The groups that hold the ends of a request.
    pub(crate) fn new(request: &Request) -> Result<Self, Error> {
        let (hosts, lower, upper, global, groups) = match request.topology {
            Topology::Dragonfly { hosts, routers, global, groups } => (hosts, routers, 0, global, groups),
            Topology::DragonflyPlus { hosts, leaves, spines, global, groups } => {
                (hosts, leaves, spines.max(1), global, groups)
            }
            Topology::RailOptimised
            | Topology::FatTree
            | Topology::RailOnly
            | Topology::KAry { .. }
            | Topology::Torus { .. } => return Err(Error::Shape("this shape has no groups".to_owned())),
        };
        for (what, count) in
            [("hosts of a switch", hosts), ("switches of a group", lower), ("groups", groups.unwrap_or(1))]
        {
            if count == 0 {
                return Err(Error::Zero { what: what.to_owned() });
            }
        }
        let (hosts, lower, upper, global) = (u64::from(hosts), u64::from(lower), u64::from(upper), u64::from(global));
        let carriers = if upper == 0 { lower } else { upper };
        let ends = request.node_ends() + u64::from(request.extra_ports);
        let of_group = hosts.saturating_mul(lower);
        let fewest = ends.div_ceil(of_group);
        let groups = groups.map_or(fewest, u64::from);
        let most = carriers.saturating_mul(global).saturating_add(1);
        let mut made = Self {
            planes: request.planes.into(),
            nodes: request.nodes.into(),
            ports: request.ports_per_node.into(),
            managers: request.extra_ports.into(),
            hosts,
            lower,
            upper,
            global,
            count: groups,
            between: 0,
        };
        if groups < fewest || groups > most {
            return Err(Error::Shape(format!(
                "{ends} ends need {fewest} groups of {of_group}; {groups} are asked for and {most} can be joined by {global} \
                 global links of {carriers} switches each"
            )));
        }
        made.between = (carriers * global).checked_div(groups - 1).unwrap_or(0);
        for (model, needed, what) in [
            (&request.leaf, made.lower_ports(), if upper == 0 { "a router" } else { "a leaf" }),
            (request.spine_model(), if upper == 0 { 0 } else { lower + global }, "a spine"),
        ] {
            if needed > u64::from(model.ports) {
                return Err(Error::Shape(format!(
                    "{what} needs {needed} ports, switch `{}` has {}",
                    model.name, model.ports
                )));
            }
        }
        Ok(made)
    }

    /// Ports that a router or leaf needs.
    fn lower_ports(&self) -> u64 {
        if self.is_flat() { self.hosts + self.lower - 1 + self.global } else { self.hosts + self.upper }
    }

    /// Whether it is a Dragonfly: groups of one tier.
    pub(crate) const fn is_flat(&self) -> bool {
        self.upper == 0
    }

    fn carriers(&self) -> u64 {
        if self.is_flat() { self.lower } else { self.upper }
    }

    pub(crate) fn lower_role(&self) -> Role {
        if self.is_flat() { Role::Router } else { Role::Leaf }
    }

    /// Links between ends and switches, all planes.
    pub(crate) fn end_links(&self) -> u64 {
        (self.nodes * self.ports + self.managers) * self.planes
    }

    /// Links inside groups, all planes.
    pub(crate) fn local_links(&self) -> u64 {
        let of_group = if self.is_flat() { self.lower * (self.lower - 1) / 2 } else { self.lower * self.upper };
        self.planes * self.count * of_group
    }

    /// Links between groups, all planes.
    pub(crate) fn global_links(&self) -> u64 {
        self.planes * self.count * (self.count - 1) / 2 * self.between
    }

    /// Links of all planes that a cut of the groups into halves crosses; inside the group where there is only one.
    pub(crate) fn cut_links(&self) -> u64 {
        let across = |count: u64| (count / 2) * count.div_ceil(2);
        if self.count > 1 {
            self.planes * across(self.count) * self.between
        } else if self.is_flat() {
            self.planes * across(self.lower)
        } else {
            self.planes * self.lower * self.upper / 2
        }
    }

    pub(crate) fn end_wire(&self, index: u64) -> Wire {
        let (plane, end) = (index % self.planes, index / self.planes);
        let of_nodes = self.nodes * self.ports;
        let from = if end < of_nodes {
            Port { device: Device::Node(small(end / self.ports)), port: small(end % self.ports) }
        } else {
            Port { device: Device::Manager(small(end - of_nodes)), port: 0 }
        };
        let switch = plane * self.count * self.lower + end / self.hosts;
        Wire {
            segment: SegmentKind::NodeLeaf,
            plane: small(plane),
            from,
            to: switch_port(self.lower_role(), switch, end % self.hosts),
            links: 1,
            cable: end,
            leg: small(plane),
        }
    }

    /// Inside a group: each router with the routers `d` places further, or each leaf with each spine.
    pub(crate) fn local_wire(&self, index: u64) -> Wire {
        let of_group = self.local_links() / self.planes / self.count;
        let (group, at) = (index / of_group, index % of_group);
        let (segment, from, to) = if self.is_flat() {
            let (one, further) = (at % self.lower, at / self.lower + 1);
            let other = (one + further) % self.lower;
            // A router has no port to itself.
            let port = |here: u64, there: u64| self.hosts + if there < here { there } else { there - 1 };
            let router =
                |here: u64, there: u64| switch_port(Role::Router, group * self.lower + here, port(here, there));
            (SegmentKind::Local, router(one, other), router(other, one))
        } else {
            let (leaf, spine) = (at / self.upper, at % self.upper);
            (
                SegmentKind::LeafSpine,
                switch_port(Role::Leaf, group * self.lower + leaf, self.hosts + spine),
                switch_port(Role::Spine, group * self.upper + spine, leaf),
            )
        };
        Wire { segment, plane: small(group / self.count), from, to, links: 1, cable: index, leg: 0 }
    }

    /// Between groups: each group with the groups `d` places further.
    pub(crate) fn global_wire(&self, index: u64) -> Wire {
        let of_plane = self.global_links() / self.planes;
        let (plane, at) = (index / of_plane, index % of_plane);
        let (pair, link) = (at / self.between, at % self.between);
        let (one, further) = (pair % self.count, pair / self.count + 1);
        let other = (one + further) % self.count;
        let (role, first) =
            if self.is_flat() { (Role::Router, self.hosts + self.lower - 1) } else { (Role::Spine, self.lower) };
        let port = |group: u64, distance: u64| {
            let slot = (distance - 1) * self.between + link;
            let switch = (plane * self.count + group) * self.carriers() + slot % self.carriers();
            switch_port(role, switch, first + slot / self.carriers())
        };
        Wire {
            segment: SegmentKind::Global,
            plane: small(plane),
            from: port(one, further),
            to: port(other, self.count - further),
            links: 1,
            cable: index,
            leg: 0,
        }
    }
}
