//! No crate uses one that it may not: every arrow points to a lower layer, and layers 0 to 3 have no async runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::gate::root;

/// The layer of each crate; `ARCHITECTURE.md` gives the reason for each arrow.
const LAYERS: &[(&str, u8)] = &[
    ("dh-units", 0),
    ("dh-core", 0),
    ("dh-blueprint", 1),
    ("dh-perf", 1),
    ("dh-facility", 1),
    ("dh-fabric", 1),
    ("dh-policy", 2),
    ("dh-plan", 2),
    ("dh-accuracy", 2),
    ("dh-hall", 3),
    ("dh-twin", 3),
    ("dh-store", 4),
    ("dh-s3", 4),
    ("dh-gateway", 4),
    ("dh-rig", 4),
    ("dh-learn", 4),
    ("dh-infer", 4),
    ("dh-exec", 4),
    ("dh-guard", 4),
    ("dh-server", 5),
    ("datahall", 5),
];

/// The arrows inside one layer that are meant.
const SAME_LAYER: &[(&str, &str)] = &[
    ("dh-facility", "dh-blueprint"),
    ("dh-perf", "dh-blueprint"),
    ("dh-twin", "dh-hall"),
    ("dh-store", "dh-s3"),
    ("datahall", "dh-server"),
];

/// What must not be in the tree of layers 0 to 3.
const NO_RUNTIME: &[&str] = &["tokio", "mio", "hyper", "async-std", "smol", "reqwest", "ureq"];

pub(crate) fn run() -> Result<()> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root()?)
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let graph = graph(&metadata)?;
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for (package, uses) in &graph {
        let Some(layer) = layers.get(package.as_str()) else {
            if package.starts_with("dh-") {
                faults
                    .push(format!("{package} has no layer: give it one in xtask/src/layers.rs and in ARCHITECTURE.md"));
            }
            continue;
        };
        for used in uses {
            let Some(below) = layers.get(used.as_str()) else { continue };
            if below >= layer && !SAME_LAYER.contains(&(package.as_str(), used.as_str())) {
                faults.push(format!("{package} (layer {layer}) may not use {used} (layer {below})"));
            }
        }
        if *layer <= 3 {
            let tree = reachable(&graph, package);
            for runtime in NO_RUNTIME.iter().filter(|name| tree.contains(**name)) {
                faults.push(format!("{package} (layer {layer}) has {runtime} in its tree"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("layers:\n  {}", faults.join("\n  ")) }
}

/// Package name to the names of what it uses in a normal build (not for tests).
fn graph(metadata: &serde_json::Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let names: BTreeMap<&str, &str> =
        packages.iter().filter_map(|one| Some((one["id"].as_str()?, one["name"].as_str()?))).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().context("no resolve graph")?;
    let mut graph = BTreeMap::new();
    for node in nodes {
        let name = node["id"].as_str().and_then(|id| names.get(id)).context("a node without a package")?;
        let mut uses = BTreeSet::new();
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let normal =
                dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            if let Some(used) = dependency["pkg"].as_str().and_then(|id| names.get(id))
                && normal
            {
                uses.insert((*used).to_owned());
            }
        }
        graph.insert((*name).to_owned(), uses);
    }
    Ok(graph)
}

fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(name) = open.pop() {
        for used in graph.get(&name).into_iter().flatten() {
            if found.insert(used.clone()) {
                open.push(used.clone());
            }
        }
    }
    found
}
