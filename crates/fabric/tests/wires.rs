//! Wires against counts, for many requests: ports unique, links equal, the graph joined.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use dh_fabric::{CoreGroups, Design, Device, Ratio, Request, Role, SegmentKind, Switch, Topology, design};
use dh_units::{BitsPerSec, Usd, Watts};
use proptest::prelude::*;

fn switch(ports: u32) -> Switch {
    Switch {
        name: format!("s{ports}"),
        ports,
        speed: BitsPerSec(4e11),
        power: Watts(1_000.0),
        price: Some(Usd(10_000.0)),
        height_u: 1,
        uplinks: None,
    }
}

/// Every law that the wires of any design must keep.
fn lawful(request: &Request, design: &Design) {
    let mut ports = BTreeSet::new();
    let mut used: BTreeMap<Device, u32> = BTreeMap::new();
    let mut links: BTreeMap<SegmentKind, u64> = BTreeMap::new();
    let mut cables: BTreeMap<SegmentKind, BTreeSet<u64>> = BTreeMap::new();
    let mut legs = BTreeSet::new();
    let mut pairs: BTreeMap<(SegmentKind, Device), BTreeMap<Device, u32>> = BTreeMap::new();
    let mut count = 0;
    for wire in design.wires() {
        count += 1;
        *links.entry(wire.segment).or_default() += u64::from(wire.links);
        cables.entry(wire.segment).or_default().insert(wire.cable);
        assert!(legs.insert((wire.cable, wire.leg)), "leg twice: {wire:?}");
        for end in [wire.from, wire.to] {
            for link in 0..wire.links {
                // The planes of a node's port are lanes of one port.
                let plane = if matches!(end.device, Device::Node(_) | Device::Manager(_)) { wire.plane } else { 0 };
                assert!(ports.insert((end.device, plane, end.port + link)), "port twice: {wire:?}");
            }
            let most = used.entry(end.device).or_default();
            *most = (*most).max(end.port + wire.links);
        }
        *pairs.entry((wire.segment, wire.from.device)).or_default().entry(wire.to.device).or_default() += wire.links;
    }
    assert_eq!(count, design.segments.iter().map(|segment| segment.wires).sum::<u64>());
    for segment in &design.segments {
        assert_eq!(links.get(&segment.kind).copied().unwrap_or(0), segment.links, "{:?}", segment.kind);
        assert_eq!(cables.get(&segment.kind).map_or(0, BTreeSet::len) as u64, segment.cables, "{:?}", segment.kind);
    }
    for tier in &design.tiers {
        let seen: Vec<_> = used
            .iter()
            .filter(|(device, _)| match device {
                Device::Switch(role, _) => *role == tier.role,
                Device::Ocs(_) => tier.role == Role::Ocs,
                Device::Node(_) | Device::Manager(_) => false,
            })
            .collect();
        assert!(seen.len() as u64 <= tier.count, "{:?}", tier.role);
        for (device, most) in seen {
            assert!(*most <= tier.switch.ports, "{device:?} uses port {most}");
        }
        let of_tier = ports.iter().filter(|(device, ..)| match device {
            Device::Switch(role, index) => *role == tier.role && u64::from(*index) < tier.count,
            Device::Ocs(index) => tier.role == Role::Ocs && u64::from(*index) < tier.count,
            Device::Node(_) | Device::Manager(_) => false,
        });
        assert_eq!(of_tier.count() as u64, tier.ports_used, "{:?}", tier.role);
    }
    // Every leaf gives each spine of its pod, and every spine each core of its group, the same number of links.
    for ((kind, from), to) in &pairs {
        if matches!(kind, SegmentKind::LeafSpine | SegmentKind::SpineCore) {
            let numbers: BTreeSet<u32> = to.values().copied().collect();
            assert_eq!(numbers.len(), 1, "{from:?} is joined unequally: {to:?}");
        }
    }
    assert!((0..request.nodes).all(|node| used.contains_key(&Device::Node(node))));
    joined(request, design);
}

/// All nodes reach each other over wires, in every plane; over nodes too where rails are not joined.
fn joined(request: &Request, design: &Design) {
    for plane in 0..request.planes {
        let mut next: BTreeMap<Device, Vec<Device>> = BTreeMap::new();
        for wire in design.wires().filter(|wire| wire.plane == plane) {
            next.entry(wire.from.device).or_default().push(wire.to.device);
            next.entry(wire.to.device).or_default().push(wire.from.device);
        }
        let first = Device::Node(0);
        let mut seen = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(device) = open.pop() {
            for other in &next[&device] {
                if seen.insert(*other) {
                    open.push(*other);
                }
            }
        }
        assert_eq!(seen.len(), next.len(), "plane {plane} of {request:?} falls apart");
        assert!((0..request.nodes).all(|node| seen.contains(&Device::Node(node))));
    }
}

fn topologies() -> impl Strategy<Value = Topology> {
    prop_oneof![Just(Topology::RailOptimised), Just(Topology::FatTree), Just(Topology::RailOnly)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_design_is_what_its_wires_are(
        topology in topologies(),
        nodes in 1_u32..150,
        ports in 1_u32..9,
        radix in 2_u32..20,
        planes in 1_u32..4,
        unit in proptest::option::of(1_u32..12),
        extra in 0_u32..6,
        tiers in proptest::option::of(1_u32..4),
        (down, thin) in (1_u32..4, 1_u32..8),
        spare in 0_u32..3,
        other in proptest::option::of(4_u32..32),
        (pod, multiple, each) in (proptest::option::of(1_u32..6), proptest::option::of(1_u32..4), any::<bool>()),
    ) {
        let request = Request {
            planes,
            port_speed: BitsPerSec(4e11) * f64::from(planes),
            unit_nodes: unit,
            pod_units: pod,
            spine_multiple: multiple,
            core_groups: if each { CoreGroups::EachSpine } else { CoreGroups::FewestCores },
            extra_ports: extra,
            tiers,
            oversubscription: Ratio { down, up: 1 },
            spine_oversubscription: Ratio { down: thin, up: 1 },
            spare_ports: spare,
            spine: other.map(|ports| switch(2 * ports)),
            ..Request::new("compute", topology, nodes, ports, switch(2 * radix))
        };
        if let Ok(design) = design(&request) {
            lawful(&request, &design);
            grouped(&request, &design);
        }
    }
}

/// Pods, their spines and core groups are those asked for.
fn grouped(request: &Request, design: &Design) {
    // Spines of each leaf, cores of each spine.
    let mut above: BTreeMap<Device, BTreeSet<Device>> = BTreeMap::new();
    for wire in design.wires().filter(|wire| !matches!(wire.from.device, Device::Node(_) | Device::Manager(_))) {
        above.entry(wire.from.device).or_default().insert(wire.to.device);
    }
    let of = |wanted: Role| {
        above.iter().filter(move |(device, _)| matches!(device, Device::Switch(role, _) if *role == wanted))
    };
    for (leaf, spines) in of(Role::Leaf) {
        assert!(
            (spines.len() as u64).is_multiple_of(request.spine_multiple.unwrap_or(1).into()),
            "{leaf:?}: {spines:?}"
        );
    }
    if request.core_groups == CoreGroups::EachSpine && design.count(Role::Core) > 0 {
        let pods: BTreeSet<_> = of(Role::Leaf).map(|(_, spines)| spines).collect();
        for spines in pods {
            let cores: Vec<_> = spines.iter().map(|spine| &above[spine]).collect();
            for (place, one) in cores.iter().enumerate() {
                assert!(cores[place + 1..].iter().all(|other| one.is_disjoint(other)), "a group for each spine");
            }
        }
    }
    if let (Topology::RailOptimised, Some(units)) = (request.topology, request.pod_units)
        && design.count(Role::Core) > 0
    {
        let mut below: BTreeMap<&BTreeSet<Device>, u32> = BTreeMap::new();
        for (_, spines) in of(Role::Leaf) {
            *below.entry(spines).or_default() += 1;
        }
        assert!(below.values().all(|leaves| *leaves <= units), "{below:?}");
    }
}

#[test]
fn every_shape_of_a_small_hall_is_lawful() {
    let mut made = 0;
    for topology in [Topology::RailOptimised, Topology::FatTree, Topology::RailOnly] {
        for tiers in [None, Some(2), Some(3)] {
            for nodes in [1, 3, 4, 7, 8, 12, 14] {
                for (planes, extra_ports) in [(1, 0), (2, 1), (3, 3)] {
                    let base = Request::new("compute", topology, nodes, 2, switch(8));
                    let port_speed = base.port_speed * f64::from(planes);
                    let request = Request { tiers, planes, port_speed, extra_ports, ..base };
                    let design = design(&request).unwrap();
                    lawful(&request, &design);
                    made += 1;
                }
            }
        }
    }
    assert_eq!(made, 189);
}

#[test]
fn a_k_ary_fat_tree_has_the_published_counts() {
    for (k, hosts, switches) in [(4, 16, 20), (8, 128, 80), (64, 65_536, 5_120)] {
        let request = Request::new("compute", Topology::KAry { k }, hosts, 1, switch(k));
        let design = design(&request).unwrap();
        let all = [Role::Leaf, Role::Aggregation, Role::Core].map(|role| design.count(role));
        assert_eq!(all.iter().sum::<u64>(), switches);
        assert_eq!(all, [u64::from(k * k / 2), u64::from(k * k / 2), u64::from(k * k / 4)]);
        if k < 64 {
            lawful(&request, &design);
        }
    }
    let full = Request { extra_ports: 1, ..Request::new("compute", Topology::KAry { k: 4 }, 16, 1, switch(4)) };
    let error = design(&full).unwrap_err().to_string();
    assert!(error.ends_with("the next k that fits is 6"), "{error}");
}

#[test]
fn a_balanced_dragonfly_has_the_published_counts() {
    for (hosts, ends) in [(2, 72), (4, 1_056), (8, 16_512), (16, 262_656)] {
        let topology = Topology::Dragonfly { hosts, routers: 2 * hosts, global: hosts, groups: None };
        // A router has 4p - 1 ports; switches are sold with an even number.
        let request = Request::new("compute", topology, ends, 1, switch(4 * hosts));
        let made = design(&request).unwrap();
        let groups = u64::from(2 * hosts * hosts + 1);
        assert_eq!(made.count(Role::Router), groups * u64::from(2 * hosts));
        assert_eq!(made.tiers[0].ports_used, made.count(Role::Router) * u64::from(4 * hosts - 1));
        if hosts < 5 {
            lawful(&request, &made);
        }
        assert!(design(&Request { nodes: ends + 1, ..request }).is_err());
    }
}

#[test]
fn dragonflies_of_any_size_are_lawful() {
    let mut made = 0;
    for nodes in [1, 5, 16, 40, 75] {
        for (routers, global, groups) in [(1, 8, None), (3, 2, None), (4, 3, Some(7)), (5, 1, None), (4, 3, Some(13))] {
            for planes in [1, 2] {
                for topology in [
                    Topology::Dragonfly { hosts: 4, routers, global, groups },
                    Topology::DragonflyPlus { hosts: 4, leaves: routers, spines: 3, global, groups },
                ] {
                    let base = Request::new("compute", topology, nodes, 1, switch(16));
                    let request = Request { planes, port_speed: base.port_speed * f64::from(planes), ..base };
                    if let Ok(design) = design(&request) {
                        lawful(&request, &design);
                        made += 1;
                    }
                }
            }
        }
    }
    assert!(made > 60, "{made}");
}

#[test]
fn cubes_joined_by_optical_switches_have_the_published_counts() {
    let cubes = Topology::Torus { dims: [16, 16, 16], cube: Some(4) };
    let request = Request::new("ici", cubes, 4_096, 6, switch(136));
    let made = design(&request).unwrap();
    assert_eq!(made.count(Role::Ocs), 48);
    assert_eq!(made.tiers[0].ports_used, 48 * 128);
    lawful(&request, &made);
    let small = Request { leaf: switch(64), ..request };
    assert!(design(&small).unwrap_err().to_string().contains("needs 128 ports"));
}

#[test]
fn a_torus_gives_every_node_two_links_along_each_axis() {
    for (dims, cube) in
        [([4, 3, 2], None), ([5, 1, 1], None), ([4, 4, 2], Some(2)), ([2, 4, 6], Some(2)), ([3, 3, 3], Some(1))]
    {
        let request = Request::new("ici", Topology::Torus { dims, cube }, dims.iter().product(), 6, switch(64));
        let made = design(&request).unwrap();
        lawful(&request, &made);
        let ends: u64 = made.wires().map(|wire| 1 + u64::from(wire.segment == SegmentKind::NodeNode)).sum();
        let axes = dims.iter().filter(|dim| **dim > 1 || cube.is_some()).count() as u64;
        assert_eq!(ends, u64::from(request.nodes) * 2 * axes, "{dims:?}");
    }
}

#[test]
fn managers_take_free_leaf_ports_then_free_spine_ports_then_leaves_of_their_own() {
    let of = |nodes, extra_ports| {
        let request = Request { extra_ports, ..Request::new("compute", Topology::RailOptimised, nodes, 8, switch(64)) };
        let made = design(&request).unwrap();
        lawful(&request, &made);
        let managers = made.wires().filter(|wire| matches!(wire.from.device, Device::Manager(_)));
        let on: BTreeSet<Role> = managers
            .filter_map(|wire| match wire.to.device {
                Device::Switch(role, _) => Some(role),
                Device::Node(_) | Device::Manager(_) | Device::Ocs(_) => None,
            })
            .collect();
        (made.count(Role::Leaf), on.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(of(95, 4), (24, vec![Role::Leaf]), "one node's place is free");
    assert_eq!(of(96, 4), (24, vec![Role::Spine]), "16 spines have 48 of 64 ports in use");
    assert_eq!(of(64, 4), (24, vec![Role::Leaf]), "leaves and spines are full: a third unit");
}
