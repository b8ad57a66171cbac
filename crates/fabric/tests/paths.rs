//! Paths and flows against search: hop counts by breadth-first search, full bisection by maximum flow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    clippy::cast_precision_loss,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, VecDeque};

use dh_fabric::{CoreGroups, Design, Device, Part, Ratio, Request, Role, Switch, Topology, design};
use dh_units::{BitsPerSec, Watts};

fn switch(ports: u32) -> Switch {
    let speed = BitsPerSec(4e11);
    Switch { name: format!("s{ports}"), ports, speed, power: Watts(0.0), price: None, height_u: 1, uplinks: None }
}

/// A node port, or a switch as a whole.
type Vertex = (Device, u32);

/// Vertices of plane 0: every node port and every switch on its own; a torus has nodes instead of ports.
fn graph(design: &Design, by_port: bool) -> BTreeMap<Vertex, Vec<(Vertex, u32)>> {
    let mut next: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for wire in design.wires().filter(|wire| wire.plane == 0) {
        let vertex = |end: dh_fabric::Port| match end.device {
            Device::Node(_) if by_port => (end.device, end.port),
            Device::Node(_) | Device::Manager(_) | Device::Switch(..) | Device::Ocs(_) => (end.device, 0),
        };
        let (from, to) = (vertex(wire.from), vertex(wire.to));
        next.entry(from).or_default().push((to, wire.links));
        next.entry(to).or_default().push((from, wire.links));
    }
    next
}

/// Worst and mean distance in links between different node vertices that are joined.
fn searched(design: &Design, by_port: bool) -> (u32, f64) {
    let next = graph(design, by_port);
    let (mut worst, mut sum, mut pairs) = (0, 0_u64, 0_u64);
    for from in next.keys().filter(|(device, _)| matches!(device, Device::Node(_))) {
        let mut far = BTreeMap::from([(*from, 0_u32)]);
        let mut open = VecDeque::from([*from]);
        while let Some(vertex) = open.pop_front() {
            let here = far[&vertex];
            for (other, _) in &next[&vertex] {
                far.entry(*other).or_insert_with(|| {
                    open.push_back(*other);
                    here + 1
                });
            }
        }
        for (vertex, links) in far {
            if vertex != *from && matches!(vertex.0, Device::Node(_)) {
                worst = worst.max(links);
                sum += u64::from(links);
                pairs += 1;
            }
        }
    }
    (worst, if pairs == 0 { 0.0 } else { sum as f64 / pairs as f64 })
}

#[test]
fn hops_are_what_a_search_finds() {
    let mut looked = 0;
    for topology in [
        Topology::RailOptimised,
        Topology::FatTree,
        Topology::RailOnly,
        Topology::KAry { k: 6 },
        Topology::Dragonfly { hosts: 2, routers: 4, global: 2, groups: None },
        Topology::DragonflyPlus { hosts: 2, leaves: 3, spines: 2, global: 3, groups: None },
    ] {
        for tiers in [None, Some(3)] {
            for nodes in [2, 3, 8, 13, 20] {
                let request = Request { tiers, ..Request::new("compute", topology, nodes, 2, switch(8)) };
                let made = design(&request).unwrap();
                let (worst, mean) = searched(&made, true);
                let hops = made.hops();
                assert_eq!(hops.diameter, worst, "{request:?}");
                assert_eq!(hops.worst + 1, worst, "{request:?}");
                assert!((hops.mean.unwrap() + 1.0 - mean).abs() < 1e-9, "{request:?}: {hops:?} {mean}");
                looked += 1;
            }
        }
    }
    assert_eq!(looked, 60);
}

#[test]
fn distances_in_a_torus_are_what_a_search_finds() {
    for dims in [[4, 3, 2], [5, 1, 1], [4, 4, 4], [1, 1, 2]] {
        let nodes = dims.iter().product();
        let made = design(&Request::new("ici", Topology::Torus { dims, cube: None }, nodes, 6, switch(8))).unwrap();
        let (worst, mean) = searched(&made, false);
        assert_eq!(made.hops().worst, worst);
        assert!((made.hops().mean.unwrap() - mean).abs() < 1e-9);
    }
}

#[test]
fn rails_are_one_switch_apart_in_a_unit_and_three_beyond() {
    let of = |nodes, tiers| {
        let request = Request { tiers, ..Request::new("compute", Topology::RailOptimised, nodes, 8, switch(64)) };
        let hops = design(&request).unwrap().hops();
        (hops.same_rail, hops.cross_rail, hops.cross_pod)
    };
    assert_eq!(of(32, None), (Some(1), Some(3), None));
    assert_eq!(of(256, None), (Some(3), Some(3), None));
    assert_eq!(of(1_024, None), (Some(3), Some(5), Some(5)), "spines are grouped by rail");
    assert_eq!(of(2_048, None), (Some(5), Some(5), Some(5)), "a rail of two pods");
}

/// Maximum flow of plane 0 from the ends that `is_source` to the others, by augmenting shortest paths.
fn max_flow(design: &Design, is_source: impl Fn(u32, u32) -> bool) -> u32 {
    let source: Vertex = (Device::Manager(u32::MAX), 0);
    let sink: Vertex = (Device::Manager(u32::MAX), 1);
    let mut capacity: BTreeMap<Vertex, BTreeMap<Vertex, u32>> =
        BTreeMap::from([(source, BTreeMap::new()), (sink, BTreeMap::new())]);
    for (from, to) in graph(design, true) {
        for (other, links) in to {
            *capacity.entry(from).or_default().entry(other).or_default() += links;
        }
        if let Device::Node(node) = from.0 {
            let (one, other) = if is_source(node, from.1) { (source, from) } else { (from, sink) };
            capacity.entry(one).or_default().insert(other, 1);
            capacity.entry(other).or_default().entry(one).or_default();
        }
    }
    let mut flow = 0;
    loop {
        let mut came: BTreeMap<Vertex, Vertex> = BTreeMap::new();
        let mut open = VecDeque::from([source]);
        while let Some(vertex) = open.pop_front() {
            for (other, left) in &capacity[&vertex] {
                if *left > 0 && *other != source && !came.contains_key(other) {
                    came.insert(*other, vertex);
                    open.push_back(*other);
                }
            }
        }
        if !came.contains_key(&sink) {
            return flow;
        }
        let mut vertex = sink;
        while vertex != source {
            let before = came[&vertex];
            *capacity.get_mut(&before).unwrap().get_mut(&vertex).unwrap() -= 1;
            *capacity.get_mut(&vertex).unwrap().entry(before).or_default() += 1;
            vertex = before;
        }
        flow += 1;
    }
}

#[test]
fn full_bisection_carries_any_half_to_the_other() {
    // The proportions of seven units of DGX A100 are among them: leaves of a rail that no divisor of the uplinks meets.
    for (topology, nodes, ports, radix, tiers) in [
        (Topology::RailOptimised, 12, 2, 8, Some(3)),
        (Topology::RailOptimised, 14, 4, 8, Some(3)),
        (Topology::RailOptimised, 20, 4, 8, None),
        (Topology::RailOptimised, 30, 2, 12, Some(3)),
        (Topology::RailOptimised, 16, 2, 8, Some(2)),
        (Topology::FatTree, 44, 1, 8, None),
        (Topology::FatTree, 31, 3, 8, None),
        (Topology::FatTree, 24, 1, 8, Some(2)),
        (Topology::KAry { k: 6 }, 54, 1, 6, None),
    ] {
        let request = Request { tiers, ..Request::new("compute", topology, nodes, ports, switch(radix)) };
        let made = design(&request).unwrap();
        assert!((made.bisection().ratio - 1.0).abs() < 1e-9, "{request:?}");
        let all = nodes * ports;
        // Halves of nodes, of ports, alternate nodes, thirds apart: as many sources as sinks, or fewer.
        let cut = |name: &str, node: u32, port: u32| match name {
            "first nodes" => node < nodes / 2,
            "first rails" => port < ports / 2,
            "alternate nodes" => node.is_multiple_of(2),
            _ => (node + port).is_multiple_of(3),
        };
        for name in ["first nodes", "first rails", "alternate nodes", "stripes"] {
            let sources = (0..nodes)
                .flat_map(|node| (0..ports).map(move |port| (node, port)))
                .filter(|(node, port)| cut(name, *node, *port))
                .count();
            let sources = u32::try_from(sources).unwrap();
            let flow = max_flow(&made, |node, port| cut(name, node, port));
            assert_eq!(flow, sources.min(all - sources), "{name} of {request:?}");
        }
    }
}

#[test]
fn pods_of_a_fixed_size_carry_any_half_to_the_other() {
    // The proportions of a DGX GB200 unit at a third: leaves of 6 down and 6 up, pods of 4 leaves of a rail; also with the
    // last pod half empty, and of a core group for each spine.
    for (nodes, each) in [(24, CoreGroups::EachSpine), (36, CoreGroups::EachSpine), (36, CoreGroups::FewestCores)] {
        let request = Request {
            unit_nodes: Some(6),
            pod_units: Some(4),
            core_groups: each,
            tiers: Some(3),
            ..Request::new("compute", Topology::RailOptimised, nodes, 2, switch(20))
        };
        let made = design(&request).unwrap();
        assert_eq!(made.count(Role::Spine), u64::from(nodes.div_ceil(24)) * 2 * 3, "{request:?}");
        assert!((made.bisection().ratio - 1.0).abs() < 1e-9, "{request:?}");
        assert_eq!(max_flow(&made, |node, _| node < nodes / 2), nodes, "first nodes of {request:?}");
        assert_eq!(max_flow(&made, |_, port| port == 0), nodes, "first rail of {request:?}");
        assert_eq!(max_flow(&made, |node, port| (node + port).is_multiple_of(2)), nodes, "stripes of {request:?}");
        let (worst, mean) = searched(&made, true);
        assert_eq!(made.hops().diameter, worst);
        assert!((made.hops().mean.unwrap() + 1.0 - mean).abs() < 1e-9);
    }
}

#[test]
fn oversubscription_is_what_the_flow_shows() {
    // 3:1 at leaves of 16 ports: 12 down, 4 up.
    let request = Request {
        oversubscription: Ratio { down: 3, up: 1 },
        ..Request::new("compute", Topology::FatTree, 48, 1, switch(16))
    };
    let made = design(&request).unwrap();
    assert!((made.bisection().ratio - 1.0 / 3.0).abs() < 1e-9);
    assert_eq!(max_flow(&made, |node, _| node < 24), 8, "24 ends over two leaves with four uplinks each");
}

#[test]
fn eight_full_pods_joined_thinly_have_a_seventh_of_the_bisection() {
    // The proportions of a hall of 24,576 accelerators in 8 pods of 3,072 joined at 1:7.
    let request = Request {
        unit_nodes: Some(384),
        tiers: Some(3),
        spine_oversubscription: Ratio { down: 7, up: 1 },
        ..Request::new("compute", Topology::FatTree, 3_072, 8, switch(128))
    };
    let made = design(&request).unwrap();
    assert_eq!(made.count(Role::Leaf), 384, "48 leaves of 64 ends in each of 8 pods");
    let bisection = made.bisection();
    assert!((1.0 / 7.0..0.16).contains(&bisection.ratio), "{bisection:?}");
}

#[test]
fn a_lost_part_costs_its_share() {
    let request = Request::new("compute", Topology::RailOptimised, 128, 8, switch(64));
    let made = design(&request).unwrap();
    let of = |made: &Design, part| {
        let loss = made.losses().into_iter().find(|loss| loss.part == part).unwrap();
        (loss.nodes, loss.bandwidth_lost, loss.bisection_left)
    };
    assert_eq!(of(&made, Part::Switch(Role::Leaf)), (32, 0.125, 1.0 - 1.0 / 32.0));
    assert_eq!(of(&made, Part::Switch(Role::Spine)), (128, 1.0 / 16.0, 1.0 - 1.0 / 16.0));
    assert_eq!(of(&made, Part::Rail), (128, 0.125, 0.875));
    let planes = Request { planes: 2, port_speed: BitsPerSec(8e11), ..request };
    let made = design(&planes).unwrap();
    assert_eq!(of(&made, Part::Plane), (128, 0.5, 0.5));
    let cubes = Topology::Torus { dims: [16, 16, 16], cube: Some(4) };
    let made = design(&Request::new("ici", cubes, 4_096, 6, switch(136))).unwrap();
    assert_eq!(of(&made, Part::Switch(Role::Ocs)), (128, 1.0 / 6.0, 1.0 - 1.0 / 16.0));
}

#[test]
fn losses_never_leave_more_than_there_was() {
    for topology in [
        Topology::RailOptimised,
        Topology::FatTree,
        Topology::RailOnly,
        Topology::KAry { k: 16 },
        Topology::Dragonfly { hosts: 4, routers: 8, global: 4, groups: None },
        Topology::DragonflyPlus { hosts: 4, leaves: 4, spines: 4, global: 4, groups: None },
    ] {
        for nodes in [1, 9, 64] {
            let made = design(&Request::new("compute", topology, nodes, 4, switch(16))).unwrap();
            let bisection = made.bisection();
            assert!(bisection.ratio > 0.0 && bisection.ratio <= 1.0 + 1e-12, "{topology:?} {bisection:?}");
            for loss in made.losses() {
                assert!((0.0..=1.0).contains(&loss.bisection_left), "{topology:?} {loss:?}");
                assert!(loss.bandwidth_lost > 0.0 && loss.bandwidth_lost <= 1.0, "{topology:?} {loss:?}");
                assert!(loss.nodes > 0 && loss.nodes <= u64::from(nodes), "{topology:?} {loss:?}");
            }
        }
    }
}
