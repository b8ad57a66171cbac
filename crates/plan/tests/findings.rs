//! What cannot be had gives exactly one finding or error, which says what, how much, and what would do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use dh_core::{HasKind, Kind};
use dh_plan::{Plan, Weight};
use expect_test::{Expect, expect};
use planned::{entry, planned, refused, try_plan};

/// 64 nodes on rails, a store, a training: all of it can be had.
const SMALL: &str = r#"
schema = 1
name = "small"

[site.main]
pue = 1.25
price = "$0.08/kWh"

[pool.train]
nodes = 64
node = "dgx-h100"

[pool.disks]
nodes = 12
node = "cpu-storage"

[fabric.compute]
topology = "rail"
switch = "qm9700"

[fabric.out-of-band]
topology = "fat-tree"
switch = "sn2201"
spine_switch = "sn4600c"

[store.main]
pool = "disks"
code = "8+3"

[workload.llm]
kind = "pretrain"
model = "llama-3-70b"
tokens = "1 T tokens"
batch_tokens = "4 M tokens"
mfu = 0.4

[policy]
"#;

/// `SMALL` with lines added under a header.
fn with(header: &str, lines: &str) -> String {
    let header = format!("[{header}]\n");
    assert!(SMALL.contains(&header));
    SMALL.replace(&header, &format!("{header}{lines}\n"))
}

/// Everything that the plan says, one line each.
fn said(plan: &Plan) -> String {
    let lines = plan.findings.iter().map(|finding| {
        // Each points at a number that is there.
        entry(plan, &finding.number);
        format!("{:?}: {}", finding.weight, finding.text)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&said(&planned(text)));
}

fn check_error(text: &str, kind: Kind, expected: &Expect) {
    expected.assert_eq(&refused(text));
    assert_eq!(try_plan(text).unwrap_err().kind(), kind);
}

#[test]
fn what_can_be_had_is_not_talked_about() {
    check(SMALL, &expect![[""]]);
}

#[test]
fn a_site_above_its_power_limit_is_infeasible_and_one_between_expected_and_rated_is_warned() {
    check(
        &with("site.main", "power_limit = \"500 kW\""),
        &expect![
            "Infeasible: site `main` draws 712 kW at work, 212 kW more than its `power_limit` of 500 kW; 70.2 % of it would fit"
        ],
    );
    check(
        &with("site.main", "power_limit = \"800 kW\""),
        &expect![
            "Warning: site `main` may draw 880 kW when everything draws its rating; its supply of 800 kW bears the expected 712 kW and needs a `power_cap` in [policy]"
        ],
    );
    check(&with("site.main", "power_limit = \"900 kW\""), &expect![[""]]);
}

#[test]
fn a_power_cap_below_what_is_drawn_is_warned() {
    check(
        &with("policy", "power_cap = \"400 kW\""),
        &expect![
            "Warning: computers draw 570 kW at work, the policy caps them at 400 kW: 29.8 % of the hall stands still (712 kW with the buildings)"
        ],
    );
}

#[test]
fn a_node_that_fits_no_rack_is_an_error() {
    check_error(
        &with("site.main", "rack_power = \"8 kW\""),
        Kind::Infeasible,
        &expect![
            "site `main`: one of `NVIDIA DGX H100` is rated 10.2 kW, 2.2 kW more than the 8 kW of a rack; allow 10.2 kW per rack, or choose a smaller node"
        ],
    );
    check_error(
        &with("site.main", "rack_height = 7"),
        Kind::Infeasible,
        &expect![
            "site `main`: one of `NVIDIA DGX H100` is 8 U high, 1 U more than the 7 U that a rack has for devices; a rack of 8 U would hold it"
        ],
    );
}

#[test]
fn a_deadline_too_near_is_infeasible() {
    check(
        &with("workload.llm", "deadline = \"10 d\""),
        &expect![
            "Infeasible: workload `llm` takes 24.1 d with interruptions and must be done in 10 d; about 2.41 times the accelerators would do"
        ],
    );
    check(&with("workload.llm", "deadline = \"25 d\""), &expect![[""]]);
}

#[test]
fn kept_time_below_what_the_policy_wants_is_infeasible() {
    check(
        &with("policy", "ettr_min = 0.9999"),
        &expect![
            "Infeasible: workload `llm` keeps 99.7 % of its time, the policy wants 99.990 %: checkpoints of 962 ms every 13.8 min; a store that writes faster or `checkpoint_blocks` raises it, as far as failures and restarts leave room"
        ],
    );
    check(&with("policy", "ettr_min = 0.99"), &expect![[""]]);
}

#[test]
fn a_store_too_small_or_too_slow_is_infeasible_and_the_nodes_that_would_do_are_enough() {
    let wants = "capacity = \"10 PB\"\nread = \"2 TB/s\"\nwrite = \"1 TB/s\"";
    check(
        &with("store.main", wants),
        &expect![[r"
        Infeasible: store `main` must hold 10 PB and has room for 3.22 PB; 38 nodes of pool `disks` in place of 12 would do
        Infeasible: store `main` must write 1 TB/s and does 873 GB/s; 14 nodes of pool `disks` in place of 12 would do
        Infeasible: store `main` must read 2 TB/s and does 1.2 TB/s; 20 nodes of pool `disks` in place of 12 would do"]],
    );
    check(&with("store.main", wants).replace("nodes = 12", "nodes = 38"), &expect![[""]]);
}

#[test]
fn a_training_that_does_not_fit_cannot_run() {
    // 70 billion parameters of 16 bytes and more are 1.1 TB; 8 accelerators have 640 GB.
    let plan = planned(&with("workload.llm", "accelerators = 8"));
    let [finding] = plan.findings.as_slice() else { panic!("{:?}", plan.findings) };
    assert_eq!(finding.weight, Weight::Infeasible);
    let start = "workload `llm` cannot run: no layout of llama-3-70b fits on 8 x h100-80gb-sxm: the closest (";
    assert!(finding.text.starts_with(start) && finding.text.ends_with(" more than there is"), "{}", finding.text);
    check(&with("workload.llm", "accelerators = 32"), &expect![[""]]);
}

#[test]
fn a_torus_of_another_size_than_its_pool_is_an_error() {
    let torus = |dims: &str| {
        let fabric = format!("topology = \"torus\"\nswitch = \"palomar-ocs\"\ndims = {dims}");
        SMALL.replace("topology = \"rail\"\nswitch = \"qm9700\"", &fabric)
    };
    check_error(
        &torus("[8, 8, 16]"),
        Kind::Blueprint,
        &expect![
            "fabric `compute`: a torus of 8 x 8 x 16 joins 1024 accelerators, pool `train` has 512; change `dims`, or `nodes` of the pool to 128"
        ],
    );
    check(&torus("[8, 8, 8]"), &expect![[""]]);
}

#[test]
fn copper_that_does_not_reach_is_warned_and_what_no_cable_reaches_is_an_error() {
    // A hall of one endless row: 600 m.
    let row = with("site.main", "racks_per_row = 1000").replace("nodes = 64", "nodes = 1024");
    check(
        &row,
        &expect![
            "Warning: 156 cables of fabric `out-of-band` join ports of twisted pair and are longer than it reaches; they are counted as dr-100g and need a switch nearer by, or converters at both ends"
        ],
    );
    // One rack a row: the hall is as deep as there are racks.
    let deep = with("site.main", "racks_per_row = 1").replace("nodes = 64", "nodes = 4096");
    check_error(
        &deep,
        Kind::Infeasible,
        &expect![
            "fabric `compute`: cable 32769 of `compute` must be 2.8 km long; the longest kind reaches 2 km; rows about as long as the hall is deep (`racks_per_row`), or more in a rack (`rack_power`), bring racks nearer"
        ],
    );
}

#[test]
fn rails_of_nodes_with_different_numbers_of_ports_are_an_error() {
    let pools = SMALL.replace("[fabric.compute]", "[pool.more]\nnodes = 8\nnode = \"gb200-nvl72\"\n\n[fabric.compute]");
    check_error(
        &pools,
        Kind::Blueprint,
        &expect![
            "fabric `compute`: nodes of its pools have different numbers of ports, and each port is a rail; write `ports_per_node`, or a fabric for each pool"
        ],
    );
}

#[test]
fn switches_of_unknown_power_and_price_are_named() {
    check(
        &SMALL.replace("\"qm9700\"", "\"tomahawk-6\""),
        &expect![[r"
        Warning: no price is known of switch-tomahawk-6; every sum that holds them is too low
        Warning: the power of tomahawk-6 is not known; every sum of power, energy and their cost that holds them is too low"]],
    );
}

#[test]
fn what_cannot_be_comes_before_what_somebody_should_know() {
    let text = with("policy", "power_cap = \"400 kW\"\nettr_min = 0.9999");
    let text = text.replace("[site.main]\n", "[site.main]\npower_limit = \"500 kW\"\n");
    let weights: Vec<Weight> = planned(&text).findings.iter().map(|finding| finding.weight).collect();
    assert_eq!(weights, [Weight::Infeasible, Weight::Infeasible, Weight::Warning]);
}
