//! Wires: which port of which device is joined to which.
//!
//! Invariant: ports are counted from 0 on each device; no port of a switch is named by two wires.

use serde::{Deserialize, Serialize};

/// What a switch does in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Joins nodes.
    Leaf,
    /// Joins leaves.
    Spine,
    /// Joins edge switches of a pod in a k-ary fat tree.
    Aggregation,
    /// Joins pods.
    Core,
    /// Joins nodes and other routers.
    Router,
    /// Optical circuit switch.
    Ocs,
}

impl Role {
    /// Its name in ids and labels: `leaf`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Spine => "spine",
            Self::Aggregation => "aggregation",
            Self::Core => "core",
            Self::Router => "router",
            Self::Ocs => "ocs",
        }
    }
}

/// One device of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// A node, counted from 0.
    Node(u32),
    /// A port of the fabric managers, counted from 0.
    Manager(u32),
    /// A switch: its role and its index over all planes, plane after plane.
    Switch(Role, u32),
    /// An optical circuit switch.
    Ocs(u32),
}

/// A port of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// The device.
    pub device: Device,
    /// The port, from 0. A node's port has this number in every plane.
    pub port: u32,
}

/// Between which tiers a wire runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentKind {
    /// Nodes and managers to their switches.
    NodeLeaf,
    /// Leaf to spine (edge to aggregation in a k-ary fat tree).
    LeafSpine,
    /// Spine to core.
    SpineCore,
    /// Router to router of one group.
    Local,
    /// Group to group.
    Global,
    /// Node to node, electrical.
    NodeNode,
    /// Node to optical circuit switch.
    NodeOcs,
}

impl SegmentKind {
    /// Its name in ids and labels: `leaf-spine`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeLeaf => "node-leaf",
            Self::LeafSpine => "leaf-spine",
            Self::SpineCore => "spine-core",
            Self::Local => "local",
            Self::Global => "global",
            Self::NodeNode => "node-node",
            Self::NodeOcs => "node-ocs",
        }
    }
}

/// One run of cable between two devices.
///
/// With one plane it is a cable with one link. With more, a cable has as many links as there are planes: at a node one leg
/// to each plane's leaf, between switches all links to one switch or legs to several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// Between which tiers.
    pub segment: SegmentKind,
    /// The plane, from 0.
    pub plane: u32,
    /// The lower end.
    pub from: Port,
    /// The upper end.
    pub to: Port,
    /// Links in it: between switches they take this many ports from `from.port` and `to.port` on.
    pub links: u32,
    /// The cable that it is part of, counted from 0 over the whole network.
    pub cable: u64,
    /// Which leg of that cable, from 0; a cable with one leg is an ordinary one.
    pub leg: u32,
}
