//! `[fabric.NAME]`: one network: which nodes it joins, in which topology, with which switches.

use dh_units::BitsPerSec;
use serde::{Deserialize, Serialize};

use super::{Facts, existing, in_catalog, once};
use crate::catalog::Kind;
use crate::codes::Code;
use crate::docs::Doc;
use crate::section::Section;
use crate::write::{Writer, list};

/// What a network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Accelerators to each other.
    Compute,
    /// Nodes to storage.
    Storage,
    /// Logins, the scheduler, the internet.
    InBand,
    /// Service processors, power supplies, switches' own ports.
    OutOfBand,
}

const ROLES: [(&str, Role); 4] = [
    ("compute", Role::Compute),
    ("storage", Role::Storage),
    ("in-band", Role::InBand),
    ("out-of-band", Role::OutOfBand),
];

impl Role {
    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        ROLES.iter().find(|(_, role)| *role == self).map_or("", |(word, _)| word)
    }
}

/// How switches are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Topology {
    /// A Clos network in which port `i` of every node of a unit goes to leaf `i` of that unit.
    Rail,
    /// A Clos network in which all ports of a node go to the same leaf.
    FatTree,
    /// The fat tree of k-port switches (Al-Fares et al. 2008).
    KAry {
        /// Ports of each switch; even.
        k: u32,
    },
    /// Rails without spines: a network for each rail and none between rails.
    RailOnly,
    /// Groups of routers, all joined to all (Kim et al. 2008).
    Dragonfly {
        /// Hosts of each router.
        hosts: u32,
        /// Routers of each group.
        routers: u32,
        /// Links of each router to other groups.
        global: u32,
        /// Groups.
        groups: u32,
    },
    /// Groups that are two-tier Clos networks, joined by their spines (Shpiner et al. 2017).
    DragonflyPlus {
        /// Hosts of each leaf.
        hosts: u32,
        /// Leaves of each group, and spines.
        routers: u32,
        /// Links of each spine to other groups.
        global: u32,
        /// Groups.
        groups: u32,
    },
    /// A three-dimensional torus of cubes, joined by optical circuit switches.
    Torus {
        /// Accelerators along each dimension.
        dims: [u32; 3],
        /// Accelerators along the edge of one cube, which is wired electrically.
        cube: u32,
    },
}

impl Topology {
    /// The word in blueprints.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rail => "rail",
            Self::FatTree => "fat-tree",
            Self::KAry { .. } => "k-ary",
            Self::RailOnly => "rail-only",
            Self::Dragonfly { .. } => "dragonfly",
            Self::DragonflyPlus { .. } => "dragonfly-plus",
            Self::Torus { .. } => "torus",
        }
    }
}

/// One network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fabric {
    /// What it is for.
    pub role: Role,
    /// How its switches are joined.
    pub topology: Topology,
    /// The pools it joins.
    pub pools: Vec<String>,
    /// The switch of the catalogue that it is made of.
    pub switch: String,
    /// Another switch for the second tier.
    pub spine: Option<String>,
    /// Another switch for the third tier.
    pub core: Option<String>,
    /// Ports of each node; the catalogue's figure for this role if not given.
    pub ports_per_node: Option<u32>,
    /// Speed of a node's port over all planes; the catalogue's figure for this role if not given.
    pub port_speed: Option<BitsPerSec>,
    /// Separate networks that each node's port is split over.
    pub planes: u32,
    /// Tiers of switches; the fewest that fit if not given.
    pub tiers: Option<u32>,
    /// Ratio of bandwidth down from a leaf to bandwidth up.
    pub oversubscription: f64,
    /// Ports left free on each leaf.
    pub spare_ports: u32,
    /// Nodes of one scalable unit; the pool's or the leaf's down ports if not given.
    pub unit: Option<u32>,
    /// End ports beside the nodes': fabric managers.
    pub managers: u32,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "fabric.*",
    about: "One network: which nodes it joins, in which topology, with which switches.",
    keys: &[
        (
            "role",
            "What it is for: \"compute\", \"storage\", \"in-band\" or \"out-of-band\"; the fabric's name if that is one of these words, \"compute\" otherwise.",
        ),
        (
            "topology",
            "How switches are joined: \"rail\" (rail-optimised), \"fat-tree\", \"k-ary\", \"rail-only\", \"dragonfly\", \"dragonfly-plus\" or \"torus\".",
        ),
        ("pools", "The pools it joins; all if left out, and for a compute network all that have accelerators."),
        ("switch", "The switch it is made of (`datahall catalog switch`); in a torus the optical circuit switch."),
        ("spine_switch", "Another switch for the second tier."),
        ("core_switch", "Another switch for the third tier."),
        (
            "ports_per_node",
            "Ports of each node; the catalogue's figure for this role if left out. In a rail topology this is the number of rails.",
        ),
        ("port_speed", "Speed of a node's port over all planes; the catalogue's figure for this role if left out."),
        ("planes", "Separate networks that each node's port is split over, 1 to 16."),
        ("tiers", "Tiers of switches, 1 to 3; the fewest that fit if left out."),
        ("oversubscription", "Bandwidth down from a leaf over bandwidth up, 1 to 64. 1 does not block."),
        ("spare_ports", "Ports left free on each leaf for what comes later."),
        ("unit", "Nodes of one scalable unit, which has a whole set of leaf switches."),
        ("managers", "End ports beside the nodes', for fabric managers."),
        ("k", "Of topology \"k-ary\": ports of each switch, even."),
        ("hosts", "Of dragonflies: hosts of each router (or leaf)."),
        ("routers", "Of dragonflies: routers of each group (or leaves, and as many spines)."),
        ("global", "Of dragonflies: links of each router (or spine) to other groups."),
        ("groups", "Of dragonflies: how many groups, at most `routers` x `global` + 1; so many if left out."),
        ("dims", "Of topology \"torus\": accelerators along each dimension, [x, y, z]."),
        ("cube", "Of topology \"torus\": accelerators along the edge of one electrically wired cube."),
    ],
};

/// Groups of a dragonfly, a stated bound: a balanced one of 64-port switches (Kim et al. 2008) has at most 513.
const GROUPS_MAX: u32 = 65_536;

/// Keys that only some topologies have.
const SPECIAL: [(&str, &[&str]); 7] = [
    ("k", &["k-ary"]),
    ("hosts", &["dragonfly", "dragonfly-plus"]),
    ("routers", &["dragonfly", "dragonfly-plus"]),
    ("global", &["dragonfly", "dragonfly-plus"]),
    ("groups", &["dragonfly", "dragonfly-plus"]),
    ("dims", &["torus"]),
    ("cube", &["torus"]),
];

const WORDS: [(&str, &str); 7] = [
    ("rail", "rail"),
    ("fat-tree", "fat-tree"),
    ("k-ary", "k-ary"),
    ("rail-only", "rail-only"),
    ("dragonfly", "dragonfly"),
    ("dragonfly-plus", "dragonfly-plus"),
    ("torus", "torus"),
];

pub(super) fn read(name: &str, section: &Section<'_>, facts: &Facts<'_>) -> Option<Fabric> {
    let role = section.word("role", &ROLES);
    let role = match role {
        Some(role) => Some(role.value),
        None if section.has("role") => None,
        None => Some(ROLES.iter().find(|(word, _)| *word == name).map_or(Role::Compute, |(_, role)| *role)),
    };
    let topology = section.need("topology", section.word("topology", &WORDS));
    if topology.is_none() {
        section.know(&SPECIAL.map(|(key, _)| key));
    }
    let topology = topology.map(|word| topology_of(section, word.value));
    let pools = pools(section, role, facts);
    let switch = section.need("switch", section.text("switch"));
    let switch = switch.and_then(|found| in_catalog(section, facts, Kind::Switch, found));
    let [spine, core] = ["spine_switch", "core_switch"].map(|key| {
        let found = section.text(key).and_then(|found| in_catalog(section, facts, Kind::Switch, found));
        if section.has(key) && found.is_none() { None } else { Some(found.map(|found| found.value)) }
    });
    let ports = section.integer("ports_per_node", 1..=1_024);
    let speed = section.positive("port_speed", BitsPerSec(0.0));
    let planes = section.integer("planes", 1..=16);
    let tiers = section.integer("tiers", 1..=3);
    let over = section.real("oversubscription", "a ratio from 1 to 64", |ratio| (1.0..=64.0).contains(&ratio));
    let spare = section.integer("spare_ports", 0..=1_024);
    let unit = section.integer("unit", 1..=1 << 20);
    let managers = section.integer("managers", 0..=1_024);
    section.finish();
    Some(Fabric {
        role: role?,
        topology: topology??,
        pools: pools?,
        switch: switch?.value,
        spine: spine?,
        core: core?,
        ports_per_node: ports.map(|ports| ports.value),
        port_speed: speed.map(|speed| speed.value),
        planes: planes.map_or(1, |planes| planes.value),
        tiers: tiers.map(|tiers| tiers.value),
        oversubscription: over.map_or(1.0, |ratio| ratio.value),
        spare_ports: spare.map_or(0, |ports| ports.value),
        unit: unit.map(|unit| unit.value),
        managers: managers.map_or(0, |managers| managers.value),
    })
}

/// Keys of the topology called `word`; those of others are reported.
fn topology_of(section: &Section<'_>, word: &'static str) -> Option<Topology> {
    let k = section.integer("k", 2..=1_024);
    let hosts = section.integer("hosts", 1..=1_024);
    let routers = section.integer("routers", 1..=4_096);
    let global = section.integer("global", 1..=1_024);
    let groups = section.integer("groups", 2..=GROUPS_MAX);
    let dims = section.integers::<3>("dims", 1..=1_024);
    let cube = section.integer("cube", 1..=64);
    for (key, topologies) in SPECIAL.iter().filter(|(key, words)| section.has(key) && !words.contains(&word)) {
        let message =
            format!("`{key}` is a key of topology \"{}\", and this fabric has \"{word}\"", topologies.join("\" or \""));
        section.problems.add(Code::ELSEWHERE, &section.key_at(key), message, None);
    }
    match word {
        "rail" => Some(Topology::Rail),
        "fat-tree" => Some(Topology::FatTree),
        "rail-only" => Some(Topology::RailOnly),
        "k-ary" => {
            let k = needed(section, "k", k, word)?;
            if k.value % 2 != 0 {
                let message = format!("`k` is {}, and half of a switch's ports go up", k.value);
                section.problems.add(Code::OUT_OF_RANGE, &k.at, message, Some("write an even number".to_owned()));
                return None;
            }
            Some(Topology::KAry { k: k.value })
        }
        "dragonfly" | "dragonfly-plus" => {
            let hosts = needed(section, "hosts", hosts, word);
            // Balanced: a = 2p = 2h (Kim et al. 2008).
            let hosts = hosts?.value;
            let plus = word == "dragonfly-plus";
            let routers = routers.map_or(if plus { hosts } else { 2 * hosts }, |routers| routers.value);
            let global = global.map_or(hosts, |global| global.value);
            // Every group has a link to every other, so that there are at most so many.
            let most = (routers * global + 1).min(GROUPS_MAX);
            if let Some(groups) = &groups
                && groups.value > most
            {
                let message = format!(
                    "`groups` is {}, but {routers} x {global} links of a group join at most {most}",
                    groups.value
                );
                let hint = Some("fewer groups, or more `routers` or `global` links".to_owned());
                section.problems.add(Code::OUT_OF_RANGE, &groups.at, message, hint);
            }
            let groups = groups.map_or(most, |groups| groups.value);
            Some(if plus {
                Topology::DragonflyPlus { hosts, routers, global, groups }
            } else {
                Topology::Dragonfly { hosts, routers, global, groups }
            })
        }
        _ => {
            let dims = needed(section, "dims", dims, word);
            let cube = cube.map_or(4, |cube| cube.value);
            let dims = dims?;
            if dims.value.iter().any(|dim| dim % cube != 0) {
                let message = format!("`dims` {:?} cannot be cut into cubes of {cube}", dims.value);
                let hint = Some(format!("multiples of {cube}, or another `cube`"));
                section.problems.add(Code::OUT_OF_RANGE, &dims.at, message, hint);
                return None;
            }
            Some(Topology::Torus { dims: dims.value, cube })
        }
    }
}

/// A key without which a topology is not known; it is not needed by the others.
fn needed<T>(section: &Section<'_>, key: &str, found: Option<T>, word: &str) -> Option<T> {
    if found.is_none() && !section.has(key) {
        section.problems.missing(&section.at, format!("a fabric of topology \"{word}\""), key);
    }
    found
}

fn pools(section: &Section<'_>, role: Option<Role>, facts: &Facts<'_>) -> Option<Vec<String>> {
    let Some(written) = section.spots("pools") else {
        if section.has("pools") {
            return None;
        }
        let with_accelerators = role.unwrap_or(Role::Compute) == Role::Compute && !facts.accelerated.is_empty();
        return Some(if with_accelerators { facts.accelerated.clone() } else { facts.pools.clone() });
    };
    if written.value.is_empty() {
        let message = "`pools` is empty, so this network joins nothing";
        section.problems.add(Code::OUT_OF_RANGE, &written.at, message, Some("leave it out for all pools".to_owned()));
    }
    once(section, "pools", &written.value);
    let count = written.value.len();
    let pools: Vec<String> =
        written.value.into_iter().filter_map(|found| existing(section, "pool", found, &facts.pools)).collect();
    (pools.len() == count && count > 0).then_some(pools)
}

pub(crate) fn write(out: &mut Writer<'_>, fabric: &Fabric) {
    out.text("role", fabric.role.word());
    out.text("topology", fabric.topology.word());
    match fabric.topology {
        Topology::Rail | Topology::FatTree | Topology::RailOnly => {}
        Topology::KAry { k } => out.integer("k", k),
        Topology::Dragonfly { hosts, routers, global, groups }
        | Topology::DragonflyPlus { hosts, routers, global, groups } => {
            out.integer("hosts", hosts);
            out.integer("routers", routers);
            out.integer("global", global);
            out.integer("groups", groups);
        }
        Topology::Torus { dims, cube } => {
            out.raw("dims", &list(dims.iter().map(ToString::to_string)));
            out.integer("cube", cube);
        }
    }
    out.texts("pools", &fabric.pools);
    out.text("switch", &fabric.switch);
    out.maybe_text("spine_switch", fabric.spine.as_deref());
    out.maybe_text("core_switch", fabric.core.as_deref());
    out.maybe_integer("ports_per_node", fabric.ports_per_node);
    out.maybe_quantity("port_speed", fabric.port_speed);
    out.integer("planes", fabric.planes);
    out.maybe_integer("tiers", fabric.tiers);
    out.real("oversubscription", fabric.oversubscription);
    out.integer("spare_ports", fabric.spare_ports);
    out.maybe_integer("unit", fabric.unit);
    out.integer("managers", fabric.managers);
}
