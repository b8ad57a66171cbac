//! `datahall graph`: a network as a Graphviz graph, each device a vertex and the cables between two devices an edge.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use dh_core::Kind;
use dh_fabric::Device;
use dh_fabric::cables::Hall;
use dh_plan::{NetworkPlan, Plan};

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::{Failure, OrFail};
use crate::output;

/// Edges of the largest graph that is written; layout programs give up far below.
const EDGES_MAX: usize = 200_000;

#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The blueprint
    blueprint: Option<PathBuf>,
    /// The network; the first one if left out
    #[arg(long)]
    network: Option<String>,
}

impl Verb for Graph {
    const NAME: &'static str = "graph";
    const ABOUT: &'static str = "Print a network of a blueprint as a Graphviz graph";
    const AFTER: &'static str = "Example:\n  datahall graph hall.toml --network compute | dot -Tsvg > compute.svg";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let path = blueprint_file::path(globals, self.blueprint.as_deref());
        let (settings, origins) = blueprint_file::load_with_origins(&path)?;
        let plan = super::plan::planned(&settings, &origins, globals)?;
        let names: Vec<&str> = plan.networks.iter().map(|network| network.name.as_str()).collect();
        let wanted = self.network.as_deref().or(names.first().copied()).ok_or_else(|| {
            Failure::new(Kind::NotFound, "the blueprint has no network")
                .hint("a section [fabric.compute] describes one")
        })?;
        let place = names.iter().position(|name| *name == wanted);
        let found = place.and_then(|place| Some((place, plan.networks.get(place)?)));
        let (place, network) = found.ok_or_else(|| {
            Failure::new(Kind::NotFound, format!("there is no network `{wanted}`"))
                .hint(format!("there is {}", names.join(", ")))
        })?;
        output::piece(dot(&plan, place, network)?);
        Ok(0)
    }
}

fn dot(plan: &Plan, place: usize, network: &NetworkPlan) -> Result<String, Failure> {
    let hall = plan.floors.hall(place, &plan.pools, &plan.networks);
    let name = |device: Device| {
        let mut text = String::new();
        hall.write_name(&network.name, device, &mut text).or_fail("name a device").map(|()| text)
    };
    let mut edges: BTreeMap<(String, String), u32> = BTreeMap::new();
    for wire in network.design.wires() {
        *edges.entry((name(wire.from.device)?, name(wire.to.device)?)).or_default() += wire.links;
        if edges.len() > EDGES_MAX {
            let message = format!("network `{}` has more than {EDGES_MAX} pairs of joined devices", network.name);
            return Err(Failure::new(Kind::TooLarge, message).hint("`datahall plan --cables FILE` lists every cable"));
        }
    }
    let mut text =
        format!("graph \"{}\" {{\n  rankdir = BT;\n  node [shape = box, fontname = \"sans-serif\"];\n", network.name);
    for ((from, to), links) in &edges {
        let label = if *links > 1 { format!(" [label = \"{links}\"]") } else { String::new() };
        writeln!(text, "  \"{from}\" -- \"{to}\"{label};").or_fail("write the graph")?;
    }
    text.push_str("}\n");
    Ok(text)
}
