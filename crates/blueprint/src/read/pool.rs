//! `[pool.NAME]`: equal nodes of one kind at one site.

use std::borrow::Cow;

use dh_units::{Quantity, Usd, Watts};
use serde::{Deserialize, Serialize};

use super::{DEFAULT_SITE, Facts, reference};
use crate::catalog::{Catalog, Kind, NodeItem, Sourced};
use crate::codes::Code;
use crate::docs::Doc;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::Writer;

const NODES_MAX: u32 = 1 << 20;

/// Slots of one node: a bit each in the hall's masks. The largest nodes have 72 accelerators.
const SLOTS_MAX: u32 = 128;

/// The node that a pool has if it names none: the machine the program runs on.
const NODE: &str = "this-machine";

/// Ratio of expected to rated power: published eight-GPU nodes drew 76 % of their rating in compute-bound training
/// (arXiv 2506.14551) and 82 to 83 % at most (IEEE Access 13 (2025) 61740).
const LOAD: f64 = 0.8;

/// A node's power over that of its accelerators' ratings: the eight-GPU nodes of the catalogue have 1.68 to 1.82 (H100: 10.2
/// kW over 5.6 kW; B200: 14.3 kW over 8 kW).
const SERVER_FACTOR: f64 = 1.8;

/// A group of equal nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How many.
    pub nodes: u32,
    /// The catalogue item each one is; empty for a node of one's own.
    pub node: String,
    /// A node that is only known by its accelerators.
    pub own: Option<OwnNode>,
    /// Accelerator slots of each node; on `this-machine` cores stand in for accelerators.
    pub slots: u32,
    /// Where they stand.
    pub site: String,
    /// Rated power in place of the catalogue's.
    pub rated: Option<Watts>,
    /// Idle power in place of the catalogue's.
    pub idle: Option<Watts>,
    /// Ratio of expected to rated power, 0 to 1.
    pub load: f64,
    /// Price of a node in place of the catalogue's.
    pub price: Option<Usd>,
    /// The most nodes of one rack; as many as its limits allow if not given.
    pub nodes_per_rack: Option<u32>,
    /// Nodes of one scalable unit, which stands together and has leaf switches of its own.
    pub unit: Option<u32>,
    /// Nodes kept in reserve, counted in `nodes`; as many as the failure rates want if not given.
    pub spares: Option<u32>,
}

/// A node that is only known by its accelerators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnNode {
    /// The accelerator's name in the catalogue.
    pub accelerator: String,
    /// How many in each node.
    pub per_node: u32,
    /// Ratio of the node's rated power to that of its accelerators.
    pub server_factor: f64,
}

impl Pool {
    /// The node as a catalogue item, made from its accelerators where the catalogue has no such node.
    pub fn item<'c>(&self, catalog: &'c Catalog) -> Option<Cow<'c, NodeItem>> {
        let Some(own) = &self.own else { return catalog.node(&self.node).map(Cow::Borrowed) };
        let accelerator = catalog.accelerator(&own.accelerator)?;
        let tdp = accelerator.tdp.as_ref()?;
        let (count, factor) = (own.per_node, own.server_factor);
        let source =
            format!("{count} x {} of {} ({}) x server factor {factor}", tdp.value, own.accelerator, tdp.source);
        let rated = Sourced { value: tdp.value * f64::from(count) * factor, source };
        Some(Cow::Owned(NodeItem::of_accelerators(accelerator, count, rated)))
    }
}

pub(crate) const DOC: Doc = Doc {
    pattern: "pool.*",
    about: "A group of equal nodes at one site.",
    keys: &[
        ("nodes", "How many nodes, spares included."),
        (
            "node",
            "The catalogue item each one is (`datahall catalog node`); the machine the program runs on if left out.",
        ),
        (
            "accelerator",
            "For a node that the catalogue does not have: the accelerator it is built around (`datahall catalog accelerator`).",
        ),
        ("accelerators_per_node", "How many of them are in one node; 8 if left out."),
        ("server_factor", "The node's rated power over that of its accelerators, 1 to 4."),
        (
            "slots",
            "Accelerator slots of each node that jobs may use; all accelerators if left out. On `this-machine`, shares of the processor.",
        ),
        ("site", "Where the nodes stand."),
        ("rated", "The most one node draws, in place of the catalogue's figure."),
        ("idle", "What one node draws doing nothing, in place of the catalogue's figure."),
        (
            "load",
            "Ratio of expected to rated power, above 0 and at most 1. Measured: 0.76 to 0.83 on eight-GPU nodes in training.",
        ),
        ("price", "Price of one node, in place of the catalogue's figure."),
        ("nodes_per_rack", "The most nodes of one rack; as many as the rack's power and height allow if left out."),
        ("unit", "Nodes of one scalable unit, which stands together and has leaf switches of its own."),
        ("spares", "Nodes kept in reserve, counted in `nodes`; as many as the failure rates want if left out."),
    ],
};

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Pool> {
    let nodes = section.need("nodes", section.integer("nodes", 1..=NODES_MAX));
    let own = own_node(section, facts);
    let item = node(section, facts);
    let slots = section.integer("slots", 1..=SLOTS_MAX);
    let mut pool = Pool {
        nodes: nodes.as_ref().map_or(1, |nodes| nodes.value),
        node: item.map_or_else(String::new, |item| item.name.clone()),
        own,
        slots: 1,
        site: String::new(),
        rated: section.positive("rated", Watts(0.0)).map(|rated| rated.value),
        idle: section.quantity("idle").map(|idle| idle.value),
        load: section
            .real("load", "a ratio above 0, at most 1", |load| load > 0.0 && load <= 1.0)
            .map_or(LOAD, |load| load.value),
        price: section.quantity("price").map(|price| price.value),
        nodes_per_rack: section.integer("nodes_per_rack", 1..=64).map(|count| count.value),
        unit: section.integer("unit", 1..=NODES_MAX).map(|unit| unit.value),
        spares: spares(section, nodes.as_ref()),
    };
    let made = if section.has("accelerator") && pool.own.is_none() { None } else { pool.item(facts.catalog) };
    pool.slots = match &made {
        Some(item) => slots_of(section, slots, item),
        None => slots.map_or(1, |slots| slots.value),
    };
    let site = reference(section, "site", section.text("site"), &facts.sites, DEFAULT_SITE);
    if let Some(item) = &made {
        idle_below_rated(section, &pool, item);
    }
    section.finish();
    pool.site = site?;
    nodes?;
    made?;
    Some(pool)
}

/// Nodes in reserve: not all of them.
fn spares(section: &Section<'_>, nodes: Option<&Spot<u32>>) -> Option<u32> {
    let spares = section.integer("spares", 0..=NODES_MAX)?;
    if let Some(nodes) = nodes
        && spares.value >= nodes.value
    {
        let message = format!("`spares` is {}, but the pool has only {} nodes", spares.value, nodes.value);
        section.problems.add(Code::OUT_OF_RANGE, &spares.at, message, Some("spares are counted in `nodes`".to_owned()));
    }
    Some(spares.value)
}

fn own_node(section: &Section<'_>, facts: &Facts<'_>) -> Option<OwnNode> {
    let accelerator = section.text("accelerator");
    let per_node = section.integer("accelerators_per_node", 1..=SLOTS_MAX);
    let factor = section.real("server_factor", "a ratio from 1 to 4", |factor| (1.0..=4.0).contains(&factor));
    if !section.has("accelerator") {
        for key in ["accelerators_per_node", "server_factor"].into_iter().filter(|key| section.has(key)) {
            let message = format!("`{key}` belongs to a pool that is made of an `accelerator`");
            let hint =
                Some("add accelerator = \"h100-80gb-sxm\", or change the node in [catalog.node.NAME]".to_owned());
            section.problems.add(Code::ELSEWHERE, &section.key_at(key), message, hint);
        }
    }
    let name = super::in_catalog(section, facts, Kind::Accelerator, accelerator?)?;
    if section.has("node") {
        let message = "`node` and `accelerator` exclude each other";
        let hint = super::of_base(section, ["node", "accelerator"])
            .or_else(|| Some("`node` is a whole node of the catalogue, `accelerator` makes one".to_owned()));
        section.problems.add(Code::ONE_OF, &section.key_at("node"), message, hint);
    }
    if facts.catalog.accelerator(&name.value).is_some_and(|item| item.tdp.is_none()) {
        let message = format!("the catalogue does not know the power of {}", quoted(&name.value));
        let hint = Some(format!(
            "write it: [catalog.accelerator.{}] with tdp = \"700 W\"",
            crate::problem::plain(&name.value)
        ));
        section.problems.add(Code::NOT_IN_CATALOG, &name.at, message, hint);
        return None;
    }
    Some(OwnNode {
        accelerator: name.value,
        per_node: per_node.map_or(8, |count| count.value),
        server_factor: factor.map_or(SERVER_FACTOR, |factor| factor.value),
    })
}

fn node<'f>(section: &Section<'_>, facts: &Facts<'f>) -> Option<&'f NodeItem> {
    let written = section.text("node");
    if (written.is_none() && section.has("node")) || section.has("accelerator") {
        return None;
    }
    let (name, at) = written.map_or((NODE.to_owned(), section.at.clone()), |found| (found.value, found.at));
    let found = facts.catalog.node(&name);
    if found.is_none() {
        let hint = suggestion(&name, facts.catalog.names(Kind::Node), "node");
        section.problems.add(
            Code::NOT_IN_CATALOG,
            &at,
            format!("the catalogue has no node {}", quoted(&name)),
            Some(hint),
        );
    }
    found
}

/// A slot is one accelerator, where the catalogue knows how many there are.
fn slots_of(section: &Section<'_>, written: Option<Spot<u32>>, item: &NodeItem) -> u32 {
    let Some(accelerators) = item.accelerators.as_ref().map(|count| count.value) else {
        return written.map_or(1, |slots| slots.value);
    };
    let Some(slots) = written else { return accelerators };
    if slots.value > accelerators {
        let message = format!("`slots` is {}, but {} has {accelerators} accelerators", slots.value, item.name);
        let hint = match accelerators {
            0 => "leave it out".to_owned(),
            some => format!("slots = {some}, or leave it out"),
        };
        section.problems.add(Code::TOO_MANY_SLOTS, &slots.at, message, Some(hint));
    }
    slots.value
}

fn idle_below_rated(section: &Section<'_>, pool: &Pool, item: &NodeItem) {
    let rated = pool.rated.unwrap_or(item.rated.value);
    let key = if pool.idle.is_some() { "idle" } else { "rated" };
    let Some(idle) = pool.idle.or_else(|| item.idle.as_ref().map(|idle| idle.value)) else { return };
    if section.has(key) && idle > rated {
        let (idle, rated) = (idle.print_exact(), rated.print_exact());
        let message = format!("the idle power of {idle} is above the rated power of {rated}");
        let hint = Some("write both `rated` and `idle`, or neither".to_owned());
        section.problems.add(Code::IDLE_ABOVE_RATED, &section.value_at(key), message, hint);
    }
}

pub(crate) fn write(out: &mut Writer<'_>, pool: &Pool) {
    out.integer("nodes", pool.nodes);
    match &pool.own {
        Some(own) => {
            out.text("accelerator", &own.accelerator);
            out.integer("accelerators_per_node", own.per_node);
            out.real("server_factor", own.server_factor);
        }
        None => out.text("node", &pool.node),
    }
    // Nodes without accelerators have no slots, and none can be written.
    if pool.slots > 0 {
        out.integer("slots", pool.slots);
    }
    out.text("site", &pool.site);
    out.maybe_quantity("rated", pool.rated);
    out.maybe_quantity("idle", pool.idle);
    out.real("load", pool.load);
    out.maybe_quantity("price", pool.price);
    out.maybe_integer("nodes_per_rack", pool.nodes_per_rack);
    out.maybe_integer("unit", pool.unit);
    out.maybe_integer("spares", pool.spares);
}
