//! The same blueprint gives the same plan, and no name of a part meets a word of the ledger.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use std::collections::BTreeSet;

use dh_blueprint::TEMPLATES;
use dh_plan::Plan;
use planned::{number, planned, refused, text_of};
use proptest::prelude::*;

/// Words that stand in ids of the ledger beside names, or that names of devices are made of; in order.
const NASTY: [&str; 24] = [
    "build", "building", "cables", "cost", "count", "energy", "failures", "it", "item", "items", "leaf", "load",
    "main", "manager", "network", "nodes", "pool", "power", "rack", "racks", "share", "site", "supply", "year",
];

fn list(plan: &Plan) -> String {
    let mut list = String::new();
    plan.write_cables(&mut list).unwrap();
    list
}

/// Two pools at one site, one of own nodes at another, two fabrics, a store and a training, all called as given.
fn blueprint(names: &[&str; 8]) -> String {
    let [first, second, train, disks, own, compute, storage, store] = names;
    format!(
        "schema = 1\nname = \"{first}\"\n[site.{first}]\n[site.{second}]\n\
         [pool.{train}]\nnodes = 4\nnode = \"dgx-h100\"\nsite = \"{first}\"\n\
         [pool.{disks}]\nnodes = 3\nnode = \"cpu-storage\"\nsite = \"{first}\"\n\
         [pool.{own}]\nnodes = 2\naccelerator = \"h100-80gb-sxm\"\nsite = \"{second}\"\n\
         [fabric.{compute}]\nrole = \"compute\"\ntopology = \"rail\"\npools = [\"{train}\"]\nswitch = \"qm9700\"\nmanagers = 1\n\
         [fabric.{storage}]\nrole = \"storage\"\ntopology = \"fat-tree\"\npools = [\"{train}\", \"{disks}\"]\nswitch = \"qm9700\"\n\
         [store.{store}]\npool = \"{disks}\"\n\
         [workload.{store}]\nkind = \"pretrain\"\nmodel = \"llama-3-8b\"\ntokens = \"1 B tokens\"\nbatch_tokens = \"1 M tokens\"\n"
    )
}

/// As many different words as there are parts of one kind; other kinds may be called the same. They keep the order of the
/// plain names, because parts stand in the order of their names and that decides which share a rack.
fn names() -> impl Strategy<Value = [&'static str; 8]> {
    let some = |count: usize| prop::sample::subsequence(NASTY.to_vec(), count);
    (some(2), some(3), some(2), some(1)).prop_map(|(sites, pools, fabrics, store)| {
        [sites[0], sites[1], pools[0], pools[1], pools[2], fabrics[0], fabrics[1], store[0]]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_name_changes_a_number(names in names()) {
        let plain = planned(&blueprint(&["a", "b", "c", "d", "e", "f", "g", "h"]));
        let plan = planned(&blueprint(&names));
        prop_assert_eq!(plan.ledger.numbers().len(), plain.ledger.numbers().len());
        for id in ["power.rated", "power.energy", "cost.build", "cost.year", "floor.racks", "count.accelerators"] {
            let (value, expected) = (number(&plan, id), number(&plain, id));
            prop_assert!((value - expected).abs() <= 1e-9 * expected, "{} is {}, expected {}", id, value, expected);
        }
        prop_assert_eq!(plan.cable_count(), plain.cable_count());
    }
}

#[test]
fn planning_twice_gives_the_same_ledger_and_list() {
    for (name, _) in TEMPLATES {
        let (first, second) = (planned(text_of(name)), planned(text_of(name)));
        assert_eq!(first, second, "{name}");
        assert_eq!(list(&first), list(&second), "{name}");
    }
}

#[test]
fn the_order_in_which_sections_are_written_changes_no_number() {
    let text = text_of("su127");
    let mut sections: Vec<&str> = text.split("\n[").collect();
    let head = sections.remove(0);
    let straight = planned(text);
    sections.reverse();
    let reversed = planned(&format!("{head}\n[{}\n", sections.join("\n\n[")));
    for number in straight.ledger.numbers() {
        let other = planned::entry(&reversed, &number.id);
        assert_eq!((&number.value, &number.formula, &number.inputs), (&other.value, &other.formula, &other.inputs));
    }
    assert_eq!(list(&straight), list(&reversed));
}

#[test]
fn two_pools_of_the_same_accelerators_may_be_different_nodes() {
    let plan = planned(
        "schema = 1\nname = \"own\"\n\
         [pool.a]\nnodes = 2\naccelerator = \"h100-80gb-sxm\"\nserver_factor = 1.3\n\
         [pool.b]\nnodes = 2\naccelerator = \"h100-80gb-sxm\"\nserver_factor = 2.0\n",
    );
    let rated = ["a", "b"].map(|pool| number(&plan, &format!("pool.{pool}.node.rated")));
    assert!((rated[0] - 8.0 * 700.0 * 1.3).abs() < 1e-9 && (rated[1] - 8.0 * 700.0 * 2.0).abs() < 1e-9, "{rated:?}");
    assert!((number(&plan, "power.it.rated") - 2.0 * (rated[0] + rated[1])).abs() < 1e-6);
}

#[test]
fn a_node_and_a_switch_of_one_name_are_refused() {
    let names = |train, compute| blueprint(&["a", "b", train, "d", "e", compute, "g", "h"]);
    let told = refused(&names("net-leaf", "net"));
    assert!(told.contains("`net-leaf`") && told.contains("`net`") && told.contains("another name"), "{told}");
    assert!(refused(&names("net-manager", "net")).contains("manager devices of fabric `net`"));
    // What only looks alike is not.
    let plan = planned(&names("net-leaf", "network"));
    let devices: BTreeSet<String> =
        list(&plan).lines().skip(1).map(|row| row.split(',').nth(3).unwrap().to_owned()).collect();
    assert!(devices.contains("net-leaf-0001"));
}
