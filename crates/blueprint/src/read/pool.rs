//! `[pool.NAME]`: equal nodes of one kind at one site.

use dh_units::{Quantity, Watts};

use super::{DEFAULT_SITE, Facts, reference};
use crate::catalog::NodeItem;
use crate::codes::Code;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::settings::Pool;

const NODES_MAX: u32 = 1 << 20;

/// Slots of one node. The largest nodes have 16 accelerators; a laptop may stand in for a small cluster.
const SLOTS_MAX: u32 = 1_024;

/// The node that a pool has if it names none: the machine the program runs on.
const NODE: &str = "this-machine";

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Pool> {
    let nodes = section.need("nodes", section.integer("nodes", 1..=NODES_MAX));
    let item = node(section, facts);
    let slots = section.integer("slots", 1..=SLOTS_MAX);
    let slots = match item {
        Some(item) => slots_of(section, slots, item),
        None => slots.map_or(1, |slots| slots.value),
    };
    let site = reference(section, "site", section.text("site"), &facts.sites, DEFAULT_SITE);
    let rated = section.positive("rated", Watts(0.0));
    let idle = section.quantity("idle");
    if let Some(item) = item {
        idle_below_rated(section, rated.as_ref(), idle.as_ref(), item);
    }
    section.finish();
    Some(Pool {
        nodes: nodes?.value,
        node: item?.name.clone(),
        slots,
        site: site?,
        rated: rated.map(|rated| rated.value),
        idle: idle.map(|idle| idle.value),
    })
}

fn node<'f>(section: &Section<'_>, facts: &Facts<'f>) -> Option<&'f NodeItem> {
    let written = section.text("node");
    if written.is_none() && section.has("node") {
        return None;
    }
    let (name, at) = written.map_or((NODE.to_owned(), section.at.clone()), |found| (found.value, found.at));
    let found = facts.catalog.node(&name);
    if found.is_none() {
        let hint = suggestion(&name, facts.catalog.nodes().map(|node| node.name.as_str()), "node");
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
        section.problems.add(
            Code::TOO_MANY_SLOTS,
            &slots.at,
            message,
            Some(format!("slots = {accelerators}, or leave it out")),
        );
    }
    slots.value
}

fn idle_below_rated(section: &Section<'_>, rated: Option<&Spot<Watts>>, idle: Option<&Spot<Watts>>, item: &NodeItem) {
    let rated_power = rated.map_or(item.rated.value, |rated| rated.value);
    let idle_power = idle.map(|idle| idle.value).or_else(|| item.idle.as_ref().map(|idle| idle.value));
    let Some(at) = idle.map(|idle| &idle.at).or_else(|| rated.map(|rated| &rated.at)) else { return };
    if let Some(idle_power) = idle_power
        && idle_power > rated_power
    {
        let (idle, rated) = (idle_power.print_exact(), rated_power.print_exact());
        let message = format!("the idle power of {idle} is above the rated power of {rated}");
        let hint = Some("write both `rated` and `idle`, or neither".to_owned());
        section.problems.add(Code::IDLE_ABOVE_RATED, at, message, hint);
    }
}
