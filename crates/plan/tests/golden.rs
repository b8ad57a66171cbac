//! Published `SuperPOD` tables, written as blueprints: the ledger has their counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use dh_plan::Plan;
use planned::planned;

/// Numeric columns of the table: those after the source and before the notes, which alone have quotes.
const COLUMNS: [(&str, usize); 7] = [
    ("count.accelerators", 5),
    ("network.compute.leaf", 6),
    ("network.compute.spine", 7),
    ("network.compute.core", 8),
    ("network.compute.cables.node-leaf", 9),
    ("network.compute.cables.leaf-spine", 10),
    ("network.compute.cables.spine-core", 11),
];

/// What is published of one design.
struct Row {
    source: &'static str,
    numbers: Vec<u32>,
}

fn rows() -> Vec<Row> {
    let text = include_str!("../../fabric/tests/golden/superpod.csv");
    let row = |line: &'static str| {
        let fields: Vec<&str> = line.split(',').collect();
        Row { source: fields[0], numbers: fields[..12].iter().map(|field| field.parse().unwrap_or(0)).collect() }
    };
    text.lines().skip(1).map(row).filter(|row| node_and_switch(row).is_some()).collect()
}

/// Node and switch of a design; nothing where no blueprint can say what was published: NVL72 racks are counted there by
/// their trays, and one design is of no product.
fn node_and_switch(row: &Row) -> Option<(&'static str, &'static str)> {
    match row.source {
        "DGX SuperPOD H100 reference architecture" => Some(("dgx-h100", "switch = \"qm9700\"")),
        "DGX SuperPOD B200 reference architecture" => Some(("dgx-b200", "switch = \"qm9700\"")),
        "DGX SuperPOD B300 Ethernet reference architecture" => Some(("dgx-b300", "switch = \"sn5600\"\nplanes = 2")),
        "DGX SuperPOD B300 InfiniBand XDR reference architecture" => Some(("dgx-b300", "switch = \"q3400\"")),
        _ => None,
    }
}

/// The design as somebody would write it who knows the parts: nothing that is counted stands in it.
fn blueprint(row: &Row) -> String {
    let (nodes, units) = (row.numbers[4], row.numbers[3]);
    let (node, fabric) = node_and_switch(row).unwrap();
    // One node less than units of 32: its place is that of the fabric managers, which have four cables.
    let managers = if nodes + 1 == units * 32 { "managers = 4" } else { "" };
    format!(
        "schema = 1\nname = \"golden\"\n[site.main]\nracks_per_row = 100\n\
         [pool.train]\nnodes = {nodes}\nnode = \"{node}\"\n\
         [fabric.compute]\ntopology = \"rail\"\n{fabric}\n{managers}\n"
    )
}

/// A tier that a network does not have is not in the ledger and is 0 in the table.
fn count(plan: &Plan, id: &str) -> f64 {
    plan.ledger.get(id).map_or(0.0, |number| number.value.number().unwrap())
}

#[test]
fn every_published_design_is_counted_from_its_blueprint() {
    let rows = rows();
    assert_eq!(rows.len(), 25);
    let mut differ = Vec::new();
    for row in &rows {
        let plan = planned(&blueprint(row));
        for (id, column) in COLUMNS {
            let (published, counted) = (f64::from(row.numbers[column]), count(&plan, id));
            if (published - counted).abs() > 0.0 {
                differ.push(format!("{} nodes, {id}: {published} published, {counted} counted", row.numbers[4]));
            }
        }
    }
    // The page's own slip: 1,296 nodes of 8 are 10,368 accelerators, as its cables are.
    assert_eq!(differ, ["1296 nodes, count.accelerators: 9216 published, 10368 counted"]);
}

#[test]
fn the_template_is_the_published_design_of_four_units() {
    let plan = planned(planned::text_of("su127"));
    let row = rows().into_iter().find(|row| row.numbers[4] == 127).unwrap();
    for (id, column) in COLUMNS {
        assert!((count(&plan, id) - f64::from(row.numbers[column])).abs() < 0.5, "{id}");
    }
}

#[test]
fn cables_of_the_list_are_those_counted() {
    for row in rows().iter().filter(|row| row.numbers[4] < 300) {
        let plan = planned(&blueprint(row));
        let counted = row.numbers[9] + row.numbers[10] + row.numbers[11];
        assert_eq!(plan.cable_count(), u64::from(counted), "{} nodes of {}", row.numbers[4], row.source);
    }
}
