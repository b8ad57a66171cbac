//! `[edge.NAME]`: a small site far away that goes on when the line to it is cut.

use dh_units::{BitsPerSec, Bytes, Seconds};
use serde::{Deserialize, Serialize};

use super::{Facts, existing, in_catalog};
use crate::catalog::Kind;
use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

const NODES_MAX: u32 = 4_096;
const NODE: &str = "this-machine";

/// A day cut off; a stated assumption.
const AUTONOMY: Seconds = Seconds(86_400.0);

/// What a box keeps of results and logs while it is cut off; a stated assumption.
const BUFFER: Bytes = Bytes(10_000_000_000);

/// A small site far away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// How many nodes.
    pub nodes: u32,
    /// The catalogue item each one is.
    pub node: String,
    /// Speed of the line to it.
    pub link: BitsPerSec,
    /// Time for a message there and back, where known.
    pub round_trip: Option<Seconds>,
    /// How long it must go on when cut off.
    pub autonomy: Seconds,
    /// Services whose models are kept there.
    pub services: Vec<String>,
    /// Room for results and logs while it is cut off.
    pub buffer: Bytes,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "edge.*",
    about: "A small site far away that goes on when the line to it is cut.",
    keys: &[
        ("nodes", "How many nodes; 1 if left out."),
        ("node", "The catalogue item each one is."),
        ("link", "Speed of the line to it."),
        ("round_trip", "Time for a message there and back."),
        ("autonomy", "How long it must go on when cut off."),
        ("services", "Services whose models are kept there."),
        ("buffer", "Room for results and logs while it is cut off."),
    ],
};

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Edge> {
    let nodes = section.integer("nodes", 1..=NODES_MAX);
    let node = match section.text("node") {
        Some(found) => in_catalog(section, facts, Kind::Node, found).map(|found| found.value),
        None => (!section.has("node")).then(|| NODE.to_owned()),
    };
    let link = section.need("link", section.positive("link", BitsPerSec(0.0)));
    let round_trip = section.positive("round_trip", Seconds(0.0));
    let autonomy = section.positive("autonomy", Seconds(0.0));
    let written = section.spots("services").map_or_else(Vec::new, |list| list.value);
    super::once(section, "services", &written);
    let count = written.len();
    let services: Vec<String> =
        written.into_iter().filter_map(|found| existing(section, "service", found, &facts.services)).collect();
    let buffer = section.quantity("buffer");
    section.finish();
    if services.len() != count {
        return None;
    }
    Some(Edge {
        nodes: nodes.map_or(1, |nodes| nodes.value),
        node: node?,
        link: link?.value,
        round_trip: round_trip.map(|time| time.value),
        autonomy: autonomy.map_or(AUTONOMY, |time| time.value),
        services,
        buffer: buffer.map_or(BUFFER, |buffer| buffer.value),
    })
}

pub(crate) fn write(out: &mut Writer<'_>, edge: &Edge) {
    out.integer("nodes", edge.nodes);
    out.text("node", &edge.node);
    out.quantity("link", edge.link);
    out.maybe_quantity("round_trip", edge.round_trip);
    out.quantity("autonomy", edge.autonomy);
    out.texts("services", &edge.services);
    out.quantity("buffer", edge.buffer);
}
