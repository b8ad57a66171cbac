//! The cable list and the racks are of the same devices: each stands in one place, and each of its ports has one cable.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod planned;

use std::collections::{BTreeMap, BTreeSet};

use dh_plan::{Plan, What};
use planned::{planned, text_of};

/// One end of a row of the list.
struct End {
    device: String,
    ports: std::ops::RangeInclusive<u32>,
    place: (String, u32),
}

/// One row of the list; no name or rack of these halls has a comma.
struct Row {
    label: String,
    segment: String,
    ends: [End; 2],
}

fn rows(plan: &Plan) -> Vec<Row> {
    let mut list = String::new();
    plan.write_cables(&mut list).unwrap();
    let end = |fields: &[&str]| {
        let (first, last) = fields[1].split_once('-').unwrap_or((fields[1], fields[1]));
        End {
            device: fields[0].to_owned(),
            ports: first.parse().unwrap()..=last.parse().unwrap(),
            place: (fields[2].to_owned(), fields[3].parse().unwrap()),
        }
    };
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 14, "{line}");
        Row {
            label: fields[1].to_owned(),
            segment: fields[2].to_owned(),
            ends: [end(&fields[3..7]), end(&fields[7..11])],
        }
    };
    list.lines().skip(1).map(row).collect()
}

/// Every device of the racks by rack and bottom unit, and how high it is.
fn standing(plan: &Plan) -> BTreeMap<(String, u32), (What, u32, u32)> {
    let mut found = BTreeMap::new();
    let several = plan.floors.sites.len() > 1;
    for site in &plan.floors.sites {
        for rack in 0..site.floor.racks() {
            let name = site.floor.rack_name(rack);
            let name = if several { format!("{}-{name}", site.site) } else { name };
            for shelf in site.floor.elevation(rack) {
                let what = site.groups[shelf.group.0 as usize];
                let before = found.insert((name.clone(), shelf.u), (what, shelf.index, shelf.height_u));
                assert!(before.is_none(), "two devices at {name} unit {}", shelf.u);
            }
        }
    }
    found
}

const HALLS: [&str; 5] = ["su32", "su127", "tpu-pod", "reference", "lab"];

#[test]
fn every_place_holds_one_device() {
    for hall in HALLS {
        let plan = planned(text_of(hall));
        let standing = standing(&plan);
        let mut above: BTreeMap<&str, u32> = BTreeMap::new();
        for ((rack, u), (_, _, height)) in &standing {
            let free_from = above.entry(rack).or_insert(1);
            assert!(*u >= *free_from, "{hall}: {rack} unit {u} is taken");
            *free_from = u + height;
        }
        let nodes: u64 = plan.pools.iter().map(|pool| u64::from(pool.nodes)).sum();
        let switches: u64 = plan.networks.iter().flat_map(|network| &network.design.tiers).map(|tier| tier.count).sum();
        let managers: u64 = plan.networks.iter().map(|network| u64::from(network.request.extra_ports)).sum();
        assert_eq!(u64::try_from(standing.len()).unwrap(), nodes + switches + managers, "{hall}");
    }
}

#[test]
fn every_port_of_a_device_has_one_cable() {
    for hall in HALLS {
        let plan = planned(text_of(hall));
        // A node's ports are counted in each network, and it has the same number of legs in each plane.
        let mut taken: BTreeSet<(String, String, u32, u64)> = BTreeSet::new();
        for row in rows(&plan) {
            let network = row.label.rsplit_once('-').unwrap().0.to_owned();
            let leg = row.label.rsplit_once('/').map_or(1, |(_, leg)| leg.parse::<u64>().unwrap());
            for (side, end) in row.ends.iter().enumerate() {
                let switch =
                    side == 1 || matches!(row.segment.as_str(), "leaf-spine" | "spine-core" | "local" | "global");
                for port in end.ports.clone() {
                    let plane = if switch { 0 } else { leg };
                    let new = taken.insert((network.clone(), end.device.clone(), port, plane));
                    assert!(new, "{hall}: port {port} of {} has two cables of {network}", end.device);
                }
            }
        }
    }
}

#[test]
fn every_device_of_the_list_stands_where_the_list_says() {
    for hall in HALLS {
        let plan = planned(text_of(hall));
        let standing = standing(&plan);
        let mut places: BTreeMap<String, (String, u32)> = BTreeMap::new();
        let mut holders: BTreeMap<(String, u32), String> = BTreeMap::new();
        for row in rows(&plan) {
            for end in row.ends {
                assert!(standing.contains_key(&end.place), "{hall}: {} at {:?}", end.device, end.place);
                let place = places.entry(end.device.clone()).or_insert_with(|| end.place.clone());
                assert_eq!(*place, end.place, "{hall}: {} stands twice", end.device);
                let holder = holders.entry(end.place).or_insert_with(|| end.device.clone());
                assert_eq!(*holder, end.device, "{hall}: two devices at one place");
            }
        }
        // Nothing stands in a rack that no cable reaches, where an out-of-band network reaches everything.
        if plan.networks.iter().any(|network| network.role == dh_blueprint::Role::OutOfBand) {
            let lonely = standing.iter().filter(|(place, _)| !holders.contains_key(*place)).count();
            assert_eq!(lonely, 0, "{hall}");
        }
    }
}

#[test]
fn names_in_the_list_are_those_of_the_racks() {
    for hall in ["su32", "su127", "tpu-pod"] {
        let plan = planned(text_of(hall));
        let standing = standing(&plan);
        for row in rows(&plan) {
            for end in row.ends {
                let (kind, number) = end.device.rsplit_once('-').unwrap();
                match standing[&end.place] {
                    (What::Nodes { pool, first }, index, _) => {
                        assert_eq!(kind, plan.pools[pool].name);
                        assert_eq!(number.parse::<u32>().unwrap(), first + index + 1, "{hall}: {}", end.device);
                    }
                    (What::Switches { network, role }, _, _) => {
                        assert_eq!(kind, format!("{}-{}", plan.networks[network].name, role.name()));
                    }
                    (What::Managers { network }, index, _) => {
                        assert_eq!(kind, format!("{}-manager", plan.networks[network].name));
                        assert_eq!(number.parse::<u32>().unwrap(), index + 1);
                    }
                }
            }
        }
    }
}
