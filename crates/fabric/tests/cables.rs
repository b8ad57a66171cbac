//! Cable lists of whole halls: every cable once, split cables in legs, kinds that reach.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_fabric::cables::{CSV_HEADER, CableKind, Error, Hall, Place, Route, list, write_csv};
use dh_fabric::{Device, Request, SegmentKind, Switch, Topology, design};
use dh_units::{BitsPerSec, Meters, Usd, Watts};
use expect_test::expect;

/// Rows of 16 racks; four nodes in a rack, switches in racks of their own at the end.
struct Grid {
    names: Vec<String>,
    node_racks: u32,
}

impl Grid {
    fn new(nodes: u32, racks: u32) -> Self {
        Self { names: (0..racks).map(|rack| format!("r{rack:03}")).collect(), node_racks: nodes.div_ceil(4) }
    }
}

impl Hall for Grid {
    fn place(&self, device: Device) -> Place {
        let (rack, u) = match device {
            Device::Node(node) => (node / 4, 2 + node % 4 * 10),
            Device::Manager(manager) => (self.node_racks, 1 + manager),
            Device::Switch(_, index) | Device::Ocs(index) => (self.node_racks + index / 8, 10 + index % 8 * 2),
        };
        let (row, along) = (rack / 16, rack % 16);
        Place { row, rack, u, x: Meters(f64::from(along) * 0.6), y: Meters(f64::from(row) * 3.0) }
    }

    fn rack_name(&self, rack: u32) -> &str {
        self.names.get(rack as usize).map_or("", String::as_str)
    }
}

fn switch(ports: u32) -> Switch {
    let speed = BitsPerSec(4e11);
    Switch { name: format!("s{ports}"), ports, speed, power: Watts(0.0), price: None, height_u: 1, uplinks: None }
}

fn kind(name: &str, reach: f64, price: f64, power: f64) -> CableKind {
    CableKind {
        name: name.to_owned(),
        reach: Meters(reach),
        price: Some(Usd(price)),
        power_each_end: Watts(power),
        only: None,
    }
}

#[test]
fn a_small_list_reads_well() {
    let base = Request::new("compute", Topology::RailOptimised, 5, 2, switch(8));
    let request = Request { planes: 2, port_speed: BitsPerSec(8e11), extra_ports: 1, ..base };
    let made = design(&request).unwrap();
    let kinds = [kind("copper", 5.0, 100.0, 0.1), kind("fibre", 50.0, 900.0, 9.0)];
    let mut text = CSV_HEADER.to_owned();
    let summary = write_csv(&made, &Grid::new(5, 8), &kinds, &Route::default(), &mut text).unwrap();
    let shown: Vec<&str> = text.lines().enumerate().filter(|(line, _)| line % 5 < 2).map(|(_, line)| line).collect();
    expect![[r"
        number,label,segment,from_device,from_port,from_rack,from_u,to_device,to_port,to_rack,to_u,kind,length_m,links
        1,compute-000001/1,node-leaf,node-0001,1,r000,2,compute-leaf-0001,1,r002,10,fibre,7,1
        3,compute-000003/1,node-leaf,node-0002,1,r000,12,compute-leaf-0001,2,r002,10,fibre,7,1
        3,compute-000003/2,node-leaf,node-0002,1,r000,12,compute-leaf-0005,2,r002,18,fibre,7,1
        5,compute-000005/2,node-leaf,node-0003,1,r000,22,compute-leaf-0005,3,r002,18,fibre,7,1
        6,compute-000006/1,node-leaf,node-0003,2,r000,22,compute-leaf-0002,3,r002,12,fibre,7,1
        8,compute-000008/1,node-leaf,node-0004,2,r000,32,compute-leaf-0002,4,r002,12,fibre,7,1
        8,compute-000008/2,node-leaf,node-0004,2,r000,32,compute-leaf-0006,4,r002,20,fibre,5,1
        10,compute-000010/2,node-leaf,node-0005,2,r001,2,compute-leaf-0008,1,r002,24,fibre,7,1
        11,compute-000011/1,node-leaf,compute-manager-0001,1,r002,1,compute-leaf-0003,2,r002,14,copper,2,1
        14,compute-000014,leaf-spine,compute-leaf-0002,5-6,r002,12,compute-spine-0001,3-4,r002,10,copper,1.5,2
        15,compute-000015,leaf-spine,compute-leaf-0002,7-8,r002,12,compute-spine-0002,3-4,r002,12,copper,1,2
        19,compute-000019,leaf-spine,compute-leaf-0004,7-8,r002,16,compute-spine-0002,7-8,r002,12,copper,1.5,2
        20,compute-000020,leaf-spine,compute-leaf-0005,5-6,r002,18,compute-spine-0003,1-2,r002,14,copper,1.5,2
        24,compute-000024,leaf-spine,compute-leaf-0007,5-6,r002,22,compute-spine-0003,5-6,r002,14,copper,1.5,2
        25,compute-000025,leaf-spine,compute-leaf-0007,7-8,r002,22,compute-spine-0004,5-6,r002,16,copper,1.5,2"]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(summary.cables(), made.segments.iter().map(|segment| segment.cables).sum::<u64>());
    assert_eq!(summary.cables(), 11 + 16);
}

#[test]
fn every_cable_is_listed_once_and_reaches() {
    let base = Request::new("compute", Topology::RailOptimised, 200, 8, switch(64));
    for planes in [1, 2, 3] {
        let request = Request { planes, port_speed: BitsPerSec(4e11) * f64::from(planes), ..base.clone() };
        let made = design(&request).unwrap();
        let grid = Grid::new(200, 100);
        let route = Route::default();
        let kinds = [kind("copper", 3.0, 100.0, 0.1), kind("fibre", 100.0, 900.0, 9.0)];
        let mut seen = std::collections::BTreeMap::new();
        for cable in list(&made, &grid, &kinds, &route) {
            let cable = cable.unwrap();
            assert!(cable.length.0 >= route.length(cable.from.place, cable.to.place).0 - 2e-3);
            assert!(cable.length.0 <= kinds[cable.kind].reach.0);
            let known = seen.entry(cable.number).or_insert((cable.kind, cable.legs, 0));
            known.2 += 1;
            assert_eq!((known.0, known.1), (cable.kind, cable.legs), "legs of one cable are of one kind");
        }
        assert!(seen.values().all(|(_, legs, rows)| legs == rows));
        let count: u64 = made.segments.iter().map(|segment| segment.cables).sum();
        assert_eq!(seen.len() as u64, count);
        assert_eq!(*seen.keys().next_back().unwrap(), count, "numbers have no gaps");
    }
}

#[test]
fn what_no_kind_reaches_is_an_error_with_its_length() {
    let made = design(&Request::new("compute", Topology::FatTree, 256, 1, switch(64))).unwrap();
    let grid = Grid::new(256, 100);
    let copper = [kind("copper", 3.0, 100.0, 0.1)];
    let error = write_csv(&made, &grid, &copper, &Route::default(), &mut String::new()).unwrap_err();
    assert!(matches!(error, Error::TooFar { number: 1, reach: Meters(3.0), .. }), "{error}");
    let none = write_csv(&made, &grid, &[], &Route::default(), &mut String::new()).unwrap_err();
    assert!(none.to_string().ends_with("reaches 0 mm"), "{none}");
}

#[test]
fn sums_are_those_of_the_rows() {
    let made = design(&Request::new("compute", Topology::RailOptimised, 64, 8, switch(64))).unwrap();
    let kinds = [kind("copper", 5.0, 100.0, 0.5), kind("fibre", 100.0, 900.0, 9.0)];
    let (grid, route) = (Grid::new(64, 40), Route::default());
    let mut text = String::new();
    let summary = write_csv(&made, &grid, &kinds, &route, &mut text).unwrap();
    let (mut price, mut power, mut meters) = (0.0, 0.0, 0.0);
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let kind = kinds.iter().find(|kind| kind.name == fields[11]).unwrap();
        price += kind.price.unwrap().0;
        power += 2.0 * kind.power_each_end.0;
        meters += fields[12].parse::<f64>().unwrap();
    }
    assert!((summary.price(&kinds).unwrap().0 - price).abs() < 1e-6);
    assert!((summary.power(&kinds).0 - power).abs() < 1e-6);
    assert!((summary.length().0 - meters).abs() < 1e-6);
    let unpriced = [CableKind { price: None, ..kinds[0].clone() }, kinds[1].clone()];
    let copper_used = summary.sums().any(|(_, kind, _)| kind == 0);
    assert_eq!(summary.price(&unpriced).is_none(), copper_used);
}

#[test]
fn a_kind_of_other_tiers_is_not_taken() {
    let made = design(&Request::new("compute", Topology::RailOptimised, 5, 2, switch(8))).unwrap();
    let only = |name: &str, segment| CableKind { only: Some(segment), ..kind(name, 500.0, 1.0, 0.0) };
    let kinds = [only("up", SegmentKind::LeafSpine), only("down", SegmentKind::NodeLeaf)];
    let hall = Grid::new(5, 8);
    for cable in list(&made, &hall, &kinds, &Route::default()).map(Result::unwrap) {
        assert_eq!(kinds[cable.kind].only, Some(cable.segment));
    }
    let none = list(&made, &hall, &kinds[..1], &Route::default()).next().unwrap().unwrap_err();
    assert!(none.to_string().contains("the longest kind reaches 0 m"), "{none}");
}
