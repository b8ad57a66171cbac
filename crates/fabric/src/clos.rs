//! A folded Clos as a dozen numbers, and its wires as arithmetic on them.
//!
//! One plane has `components` networks that are not joined to each other (rails of a rail-only network; otherwise one).
//! Leaves of a component stand in `lanes` columns (the rails of a three-tier rail-optimised network; otherwise one) and
//! `rows` rows; a pod is `per_pod` rows of one lane and its own spines. Spines with the same place in their pods form a
//! core group: each has the same number of links to each core of the group.
//!
//! Invariant: wire `i` costs O(1) and needs no memory; every leaf of a pod gives each of the pod's spines the same number
//! of links, and every spine each core of its group.

use crate::attach::{Attach, Managers};
use crate::number::small;
use crate::wire::{Device, Port, Role, SegmentKind, Wire};

/// A folded Clos; counts of one plane unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clos {
    pub(crate) planes: u64,
    pub(crate) components: u64,
    pub(crate) lanes: u64,
    pub(crate) rows: u64,
    /// Down ports of a leaf.
    pub(crate) down: u64,
    /// Uplinks of a leaf; 0 with one tier.
    pub(crate) up: u64,
    /// Port of the first uplink of a leaf.
    pub(crate) up_port: u64,
    /// Pods of one component.
    pub(crate) pods: u64,
    /// Leaves of a full pod; the last pod of a lane may have fewer.
    pub(crate) per_pod: u64,
    /// Spines of one pod; 0 with one tier.
    pub(crate) spines: u64,
    /// Down ports that a spine may use.
    pub(crate) spine_limit: u64,
    /// Uplinks of a spine; 0 with fewer than three tiers.
    pub(crate) spine_up: u64,
    /// Core groups of one component.
    pub(crate) groups: u64,
    /// Cores of one group.
    pub(crate) cores: u64,
}

/// The ends of a Clos: all planes carry the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) nodes: u64,
    pub(crate) ports: u64,
    pub(crate) managers: u64,
    pub(crate) attach: Attach,
    pub(crate) managers_at: Managers,
}

impl Clos {
    pub(crate) fn tiers(&self) -> u32 {
        1 + u32::from(self.spines > 0) + u32::from(self.cores > 0)
    }

    pub(crate) fn leaf_count(&self) -> u64 {
        self.components * self.lanes * self.rows
    }

    pub(crate) fn spine_count(&self) -> u64 {
        self.components * self.pods * self.spines
    }

    pub(crate) fn core_count(&self) -> u64 {
        self.components * self.groups * self.cores
    }

    /// Links of one leaf to one spine of its pod.
    pub(crate) fn leaf_spine(&self) -> u64 {
        self.up.checked_div(self.spines).unwrap_or(0)
    }

    /// Links of one spine to one core of its group.
    pub(crate) fn spine_core(&self) -> u64 {
        self.spine_up.checked_div(self.cores).unwrap_or(0)
    }

    /// Down ports used of a spine of a full pod.
    pub(crate) fn spine_down(&self) -> u64 {
        self.per_pod * self.leaf_spine()
    }

    /// Links of one leg of a cable between two switches. A cable takes as many consecutive uplinks of the lower switch as
    /// there are planes; where they go to several upper switches it is split into legs of this many links.
    fn leg(&self, links: u64) -> u64 {
        gcd(links, self.planes).max(1)
    }

    /// Links, cables and legs of all planes from leaves to spines.
    pub(crate) fn leaf_spine_counts(&self) -> (u64, u64, u64) {
        let leaves = self.planes * self.leaf_count();
        let links = leaves * self.spines * self.leaf_spine();
        (links, leaves * (self.spines * self.leaf_spine()).div_ceil(self.planes), links / self.leg(self.leaf_spine()))
    }

    /// Links, cables and legs of all planes from spines to cores.
    pub(crate) fn spine_core_counts(&self) -> (u64, u64, u64) {
        let spines = self.planes * self.spine_count();
        let links = spines * self.cores * self.spine_core();
        (links, spines * (self.cores * self.spine_core()).div_ceil(self.planes), links / self.leg(self.spine_core()))
    }

    /// Pod (within all components of a plane) and place in it of a leaf.
    pub(crate) fn pod_of(&self, leaf: u64) -> (u64, u64) {
        let of_component = self.lanes * self.rows;
        let (component, leaf) = (leaf / of_component, leaf % of_component);
        let (lane, row) = (leaf % self.lanes, leaf / self.lanes);
        (component * self.pods + lane * (self.pods / self.lanes) + row / self.per_pod, row % self.per_pod)
    }

    /// Wire `index` of the ends: node after node, port after port, its planes beside each other; then managers.
    pub(crate) fn end_wire(&self, ends: &Ends, roles: Roles, index: u64) -> Wire {
        let (plane, end) = (index % self.planes, index / self.planes);
        let of_nodes = ends.nodes * ends.ports;
        let (from, is_leaf, switch, port) = if end < of_nodes {
            let (node, port) = (end / ends.ports, end % ends.ports);
            let (leaf, down) = ends.attach.leaf(node, port);
            (Port { device: Device::Node(small(node)), port: small(port) }, true, leaf, down)
        } else {
            let manager = end - of_nodes;
            let (is_leaf, switch, port) = ends.managers_at.place(manager);
            (Port { device: Device::Manager(small(manager)), port: 0 }, is_leaf, switch, port)
        };
        let (role, count) = if is_leaf { (Role::Leaf, self.leaf_count()) } else { (roles.spine, self.spine_count()) };
        Wire {
            segment: SegmentKind::NodeLeaf,
            plane: small(plane),
            from,
            to: switch_port(role, plane * count + switch, port),
            links: 1,
            cable: end,
            leg: small(plane),
        }
    }

    /// Leg `index` from leaves to spines: plane, leaf, its uplinks in order.
    pub(crate) fn leaf_spine_wire(&self, roles: Roles, index: u64) -> Wire {
        let links = self.leaf_spine();
        let uplinks = self.spines * links;
        let at = Uplink::new(index, self.leg(links), uplinks, self.planes);
        let (plane, leaf) = (at.switch / self.leaf_count(), at.switch % self.leaf_count());
        let (pod, place) = self.pod_of(leaf);
        let (spine, first) = (at.first / links, at.first % links);
        Wire {
            segment: SegmentKind::LeafSpine,
            plane: small(plane),
            from: switch_port(Role::Leaf, at.switch, self.up_port + at.first),
            to: switch_port(roles.spine, plane * self.spine_count() + pod * self.spines + spine, place * links + first),
            links: small(self.leg(links)),
            cable: at.cable,
            leg: at.leg,
        }
    }

    /// Leg `index` from spines to cores: plane, spine, its uplinks in order.
    pub(crate) fn spine_core_wire(&self, roles: Roles, index: u64) -> Wire {
        let links = self.spine_core();
        let uplinks = self.cores * links;
        let at = Uplink::new(index, self.leg(links), uplinks, self.planes);
        let (plane, spine) = (at.switch / self.spine_count(), at.switch % self.spine_count());
        let (pod, place) = (spine / self.spines, spine % self.spines);
        let (component, pod_in) = (pod / self.pods, pod % self.pods);
        let of_group = self.spines / self.groups;
        let (group, in_group) = (place / of_group, place % of_group);
        let (core, first) = (at.first / links, at.first % links);
        Wire {
            segment: SegmentKind::SpineCore,
            plane: small(plane),
            from: switch_port(roles.spine, at.switch, self.spine_down() + at.first),
            to: switch_port(
                Role::Core,
                plane * self.core_count() + (component * self.groups + group) * self.cores + core,
                (pod_in * of_group + in_group) * links + first,
            ),
            links: small(self.leg(links)),
            cable: at.cable,
            leg: at.leg,
        }
    }
}

/// Where a leg starts: the lower switch over all planes, its first uplink there, and the cable that it is part of.
struct Uplink {
    switch: u64,
    first: u64,
    cable: u64,
    leg: u32,
}

impl Uplink {
    fn new(index: u64, leg: u64, uplinks: u64, planes: u64) -> Self {
        let legs = uplinks / leg;
        let (switch, first) = (index / legs, index % legs * leg);
        Self {
            switch,
            first,
            cable: switch * uplinks.div_ceil(planes) + first / planes,
            leg: small(first % planes / leg),
        }
    }
}

fn gcd(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

/// What the middle tier is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) spine: Role,
}

/// Port `port` of a switch.
pub(crate) fn switch_port(role: Role, index: u64, port: u64) -> Port {
    Port { device: Device::Switch(role, small(index)), port: small(port) }
}
