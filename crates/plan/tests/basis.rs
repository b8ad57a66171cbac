//! Every number of a plan can be followed down to what was given, and what was given has a source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use std::collections::BTreeSet;

use dh_blueprint::TEMPLATES;
use dh_plan::Plan;
use planned::{entry, planned, text_of};

/// Sums that may be over nothing: their value is zero, and there is nothing to follow.
fn may_be_a_sum_over_nothing(id: &str) -> bool {
    let parts: Vec<&str> = id.split('.').collect();
    match parts.as_slice() {
        // A site of which this part is not bought, or whose price is not known (its formula says so then).
        ["cost", _, "build", part] => ["compute", "network", "storage", "facility"].contains(part),
        ["cost", _, part] => *part == "capital",
        // A site without pools.
        ["power", _, "it", side] => ["rated", "expected"].contains(side),
        _ => false,
    }
}

fn ends(plan: &Plan, id: &str, seen: &mut BTreeSet<String>, found: &mut Vec<String>) {
    if !seen.insert(id.to_owned()) {
        return;
    }
    let number = entry(plan, id);
    if number.inputs.is_empty() {
        found.push(id.to_owned());
    }
    for input in &number.inputs {
        ends(plan, input, seen, found);
    }
}

#[test]
fn every_chain_of_inputs_ends_in_a_source() {
    for (name, _) in TEMPLATES {
        let plan = planned(text_of(name));
        for number in plan.ledger.numbers() {
            let mut found = Vec::new();
            ends(&plan, &number.id, &mut BTreeSet::new(), &mut found);
            assert!(!found.is_empty(), "{name}: {}", number.id);
            for end in found {
                let end = entry(&plan, &end);
                let sourced = end.source.as_ref().is_some_and(|source| !source.trim().is_empty());
                let nothing = end.value.number() == Some(0.0) && may_be_a_sum_over_nothing(&end.id);
                assert!(sourced || nothing, "{name}: {} ends in {end:?}", number.id);
            }
        }
    }
}

#[test]
fn sources_are_lines_of_the_blueprint_defaults_or_words_that_can_be_checked() {
    for (name, _) in TEMPLATES {
        let plan = planned(text_of(name));
        for number in plan.ledger.numbers() {
            let Some(source) = &number.source else { continue };
            // What a model says of an input that nobody explained to it.
            let empty = ["what is asked", "what is planned", "what the job uses", "blueprint", "model "];
            assert!(!empty.iter().any(|word| source.starts_with(word)), "{name}: {} = {source}", number.id);
        }
    }
}

#[test]
fn what_the_blueprint_says_points_at_its_line() {
    let text = text_of("su127");
    let plan = planned(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut checked = 0;
    for number in plan.ledger.numbers() {
        let Some((line, key)) = number.source.as_ref().and_then(|source| {
            let (line, key) = source.strip_prefix("hall.toml:")?.split_once(", key `")?;
            Some((line.parse::<usize>().unwrap(), key.split('`').next().unwrap().to_owned()))
        }) else {
            continue;
        };
        assert!(lines.get(line - 1).is_some_and(|written| written.starts_with(&key)), "{}: {line} {key}", number.id);
        checked += 1;
    }
    assert!(checked > 10, "{checked} numbers of the blueprint itself");
}

#[test]
fn formulas_of_sums_hold_their_inputs() {
    let plan = planned(text_of("su127"));
    for (sum, parts) in [
        ("network.compute.cables", vec!["network.compute.cables.node-leaf", "network.compute.cables.leaf-spine"]),
        ("count.nodes", vec!["pool.train.nodes", "pool.disks.nodes"]),
        (
            "power.main.it.rated",
            vec!["power.main.pool.train.rated", "power.main.pool.disks.rated", "power.main.network.rated"],
        ),
        ("network.compute.cables.price", vec!["network.compute.cables", "catalog.cable.fiber-mpo-mm.price"]),
        ("failures.bandwidth", vec!["storage.main.write"]),
    ] {
        let inputs = &entry(&plan, sum).inputs;
        for part in parts {
            assert!(inputs.iter().any(|input| input == part), "{sum} has {inputs:?} and not {part}");
        }
    }
}

#[test]
fn no_number_rests_on_a_fabric_as_a_whole() {
    for (name, _) in TEMPLATES {
        let plan = planned(text_of(name));
        for number in plan.ledger.numbers() {
            assert!(
                !number.source.as_ref().is_some_and(|source| source.contains("key `topology`")),
                "{name}: {number:?}"
            );
        }
    }
    let plan = planned(text_of("su127"));
    for (id, root) in [
        ("network.compute.port-speed", "catalog.node.dgx-h100.compute_speed"),
        ("network.compute.ports-per-node", "catalog.node.dgx-h100.compute_ports"),
        ("network.compute.manager-ports", "fabric.compute.managers"),
        ("network.storage.port-speed", "fabric.storage.port_speed"),
        ("network.storage.nodes", "catalog.node.cpu-storage.storage_ports"),
        ("network.out-of-band.port-speed", "network.out-of-band.management-speed"),
    ] {
        assert!(entry(&plan, id).inputs.iter().any(|input| input == root), "{id} has {:?}", entry(&plan, id).inputs);
    }
}
