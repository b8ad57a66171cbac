//! Published `SuperPOD` tables against what the crate computes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use dh_fabric::golden::{Row, check, request};
use dh_fabric::{Device, Role, SegmentKind, design};
use expect_test::expect;

/// Fields of one line; quotes hide commas.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().unwrap().push(other),
        }
    }
    fields
}

fn rows() -> Vec<Row> {
    let text = include_str!("golden/superpod.csv");
    let rows = text.lines().skip(1).map(|line| {
        let field = fields(line);
        let number = |place: usize| field[place].parse::<u32>().unwrap_or(0);
        Row {
            source: field[0].clone(),
            switch_radix_end_ports: number(1),
            planes: number(2),
            scalable_units: number(3),
            nodes: number(4),
            accelerators: number(5),
            leaf: number(6).into(),
            spine: number(7).into(),
            core: number(8).into(),
            node_leaf_cables: number(9).into(),
            leaf_spine_cables: number(10).into(),
            spine_core_cables: number(11).into(),
        }
    });
    rows.collect()
}

#[test]
fn published_counts_are_reproduced() {
    let report = check(&rows());
    assert_eq!((report.rows, report.matched), (33, 33));
    assert_eq!(report.mismatches, []);
    // The one number that differs is the page's own slip: 1,296 nodes of 8 are 10,368 accelerators.
    let told: Vec<String> =
        report.notes.iter().map(|one| format!("row {} {}: {}", one.row, one.field, one.note)).collect();
    expect!["row 19 accelerators: the source contradicts itself: 9216 accelerators are no multiple of 1296 nodes; 1296 of 8 each are 10368"].assert_eq(&told.join("\n"));
}

#[test]
fn a_wrong_count_is_named() {
    let mut wrong = rows();
    wrong[3].spine = 15;
    wrong[5].accelerators = 2_048;
    wrong[7].switch_radix_end_ports = 4;
    // A slip in accelerators excuses nothing else.
    wrong[19].leaf_spine_cables = 9_216;
    wrong[25].core = 0;
    wrong[29].leaf_spine_cables = 144;
    wrong[32].core = 63;
    let report = check(&wrong);
    let named: Vec<(usize, &str)> = report.mismatches.iter().map(|one| (one.row, one.field.as_str())).collect();
    assert_eq!(
        named,
        [
            (3, "spine"),
            (5, "leaf"),
            (5, "spine"),
            (5, "node_leaf_cables"),
            (5, "leaf_spine_cables"),
            (7, "design"),
            (19, "leaf_spine_cables"),
            (25, "core"),
            (29, "leaf_spine_cables"),
            (32, "core")
        ]
    );
    assert_eq!(report.matched, 33 - 7);
}

#[test]
fn racks_and_their_trays_are_the_same_design() {
    for row in rows().into_iter().filter(|row| row.source.contains("NVL72")) {
        let racks = Row { nodes: row.nodes / 18, ..row.clone() };
        let silent = |row: &Row| Row { accelerators: 0, ..row.clone() };
        for other in [racks.clone(), silent(&racks), silent(&row)] {
            assert_eq!(request(&other), request(&row), "{}", row.source);
        }
        assert_eq!(check(&[racks]).matched, 1);
    }
}

#[test]
fn gb200_has_the_groups_of_its_text() {
    let row = rows().into_iter().find(|row| row.source.contains("GB200") && row.scalable_units == 4).unwrap();
    let made = design(&request(&row)).unwrap();
    let links: Vec<u64> = made.segments.iter().map(|segment| segment.links).collect();
    assert_eq!(links, [4 * 576; 3], "no tier has fewer cables than nodes");
    // Table 4.1: six core groups of six switches; spine `k` of every pod goes to group `k`.
    let mut cores: BTreeMap<Device, BTreeSet<Device>> = BTreeMap::new();
    let mut spines: BTreeMap<Device, BTreeSet<Device>> = BTreeMap::new();
    for wire in made.wires() {
        let above = if wire.segment == SegmentKind::SpineCore { &mut cores } else { &mut spines };
        above.entry(wire.from.device).or_default().insert(wire.to.device);
    }
    let groups: BTreeSet<_> = cores.values().collect();
    assert_eq!((groups.len(), groups.first().unwrap().len()), (6, 6));
    // A rack's four leaves, one for each rail, are in four pods.
    let pods: BTreeSet<_> = (0..4).map(|leaf| &spines[&Device::Switch(Role::Leaf, leaf)]).collect();
    assert_eq!((pods.len(), pods.first().unwrap().len()), (4, 6));
    // Eight racks of one rail share six spines.
    let shared = (0..8).map(|rack| &spines[&Device::Switch(Role::Leaf, 4 * rack)]).collect::<BTreeSet<_>>();
    assert_eq!(shared.len(), 1);
}

#[test]
fn gb300_follows_the_general_rule() {
    // DGX GB300 with 144-port switches: 8 leaves in one unit, 128 leaves and 72 spines in 16; quoted from summaries of
    // NVIDIA's document, not re-read.
    let row = |units: u32, leaf, spine| Row {
        source: "DGX GB300".to_owned(),
        switch_radix_end_ports: 144,
        planes: 1,
        scalable_units: units,
        nodes: 8 * units,
        accelerators: 576 * units,
        leaf,
        spine,
        core: 0,
        node_leaf_cables: 0,
        leaf_spine_cables: 0,
        spine_core_cables: 0,
    };
    let report = check(&[row(1, 8, 4), row(16, 128, 72)]);
    assert_eq!((report.matched, report.mismatches), (2, vec![]));
}

#[test]
fn three_tiers_group_spines_by_rail() {
    // DGX A100 `SuperPOD` (RA-09950-001, November 2020), 40-port switches, 20 nodes a unit. Its table for 140 nodes is quoted
    // from memory, not re-read: 56 leaves, 80 spines, 28 cores.
    let row = Row {
        source: "DGX A100".to_owned(),
        switch_radix_end_ports: 40,
        planes: 1,
        scalable_units: 7,
        nodes: 140,
        accelerators: 1_120,
        leaf: 56,
        spine: 80,
        core: 28,
        node_leaf_cables: 1_120,
        leaf_spine_cables: 1_120,
        spine_core_cables: 1_120,
    };
    assert_eq!(check(&[row]).mismatches, []);
}
