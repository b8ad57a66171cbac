//! What cannot be built says so, and says what could; what can be built may be large.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use dh_fabric::{Ratio, Request, Role, SegmentKind, Switch, Topology, design};
use dh_units::{BitsPerSec, Ledger, Watts};
use expect_test::expect;
use proptest::prelude::*;

fn switch(ports: u32) -> Switch {
    let speed = BitsPerSec(4e11);
    Switch { name: format!("s{ports}"), ports, speed, power: Watts(0.0), price: None, height_u: 1, uplinks: None }
}

#[test]
fn errors_say_what_is_wrong_and_what_would_fit() {
    let rail = |nodes, ports| Request::new("compute", Topology::RailOptimised, nodes, 8, switch(ports));
    let cases = [
        ("nothing", rail(0, 64)),
        ("odd", rail(4, 63)),
        ("two tiers", Request { tiers: Some(2), ..rail(512, 64) }),
        ("four tiers", rail(16_384, 64)),
        ("too many by far", rail(1_000_000, 8)),
        ("five tiers", Request { tiers: Some(5), ..rail(4, 64) }),
        ("slow", Request { port_speed: BitsPerSec(8e11), ..rail(4, 64) }),
        ("thin", Request { oversubscription: Ratio { down: 1, up: 2 }, ..rail(4, 64) }),
        ("spare", Request { spare_ports: 63, ..rail(4, 64) }),
        ("unit", Request { unit_nodes: Some(40), ..rail(80, 64) }),
        ("huge", rail(u32::MAX, 64)),
        ("planes", Request { planes: 0, ..rail(4, 64) }),
        ("managers", Request { extra_ports: u32::MAX, ..rail(4, 64) }),
        (
            "dragonfly",
            Request { topology: Topology::Dragonfly { hosts: 2, routers: 4, global: 2, groups: None }, ..rail(32, 64) },
        ),
        (
            "router",
            Request {
                topology: Topology::Dragonfly { hosts: 8, routers: 16, global: 8, groups: None },
                ..rail(32, 16)
            },
        ),
        ("torus", Request { topology: Topology::Torus { dims: [4, 4, 4], cube: None }, ..rail(65, 64) }),
        (
            "cubes",
            Request { topology: Topology::Torus { dims: [4, 4, 6], cube: Some(4) }, ports_per_node: 6, ..rail(96, 64) },
        ),
        ("pairs", Request { unit_nodes: Some(27), spine_multiple: Some(2), ..rail(54, 64) }),
        ("pods", Request { pod_units: Some(33), tiers: Some(3), ..rail(2_048, 64) }),
        ("pods of nothing", Request { pod_units: Some(0), ..rail(4, 64) }),
        ("k", Request { topology: Topology::KAry { k: 128 }, ..rail(4, 64) }),
    ];
    let told: Vec<String> = cases
        .into_iter()
        .map(|(name, request)| format!("{name}: {}", design(&request).map(|_| "fits").unwrap_err()))
        .collect();
    expect![[r"
        nothing: nodes must be more than zero
        odd: switch `s63` has 63 ports; an even number is needed, leave one unused
        two tiers: 4096 ends do not fit 2 tiers of `s64` with 64 ports: 3 tiers would fit; a switch of 128 ports would fit, or 2 planes with each switch port split into 2
        four tiers: 131072 ends do not fit 3 tiers of `s64` with 64 ports: needs 4 tiers; a switch of 128 ports would fit, or 2 planes with each switch port split into 2
        too many by far: 8000000 ends do not fit 3 tiers of `s8` with 8 ports: needs 11 tiers
        five tiers: 32 ends do not fit 5 tiers of `s64` with 64 ports: 2 tiers would fit
        slow: a port of switch `s64` carries 400 Gb/s, a node's link needs 800 Gb/s
        thin: an oversubscription of 1:2 is not between 1:1 and 1000:1
        spare: switch `s64` has 64 ports; 63 spare and 1:1 leave none for nodes or none for uplinks
        unit: a unit of 40 nodes does not fit a leaf with 32 ports for nodes
        huge: links at the ends: 34359738360 is more than 268435456
        planes: planes must be more than zero
        managers: links at the ends: 4294967327 is more than 268435456
        dragonfly: 256 ends need 32 groups of 8; 32 are asked for and 9 can be joined by 2 global links of 4 switches each
        router: a router needs 31 ports, switch `s16` has 16
        torus: a torus of 4 x 4 x 4 has 64 nodes, 65 are asked for
        cubes: a torus of 4 x 4 x 6 is not made of whole cubes of side 4
        pairs: 27 uplinks of a leaf are not shared evenly by spines in multiples of 2
        pods: 16384 ends do not fit 3 tiers of `s64` with 64 ports: pods of another size would fit; a switch of 128 ports would fit, or 2 planes with each switch port split into 2
        pods of nothing: units of a pod must be more than zero
        k: a k-ary fat tree needs an even k of at least 2 and switches of k ports: k is 128, `s64` has 64"]].assert_eq(&told.join("\n"));
}

#[test]
fn a_million_accelerators_have_a_design() {
    let base = Request::new("compute", Topology::RailOptimised, 131_072, 8, switch(512));
    let request = Request { planes: 2, port_speed: BitsPerSec(8e11), ..base };
    let made = design(&request).unwrap();
    assert_eq!(made.count(Role::Leaf), 2 * 4_096);
    assert_eq!(made.count(Role::Spine), 2 * 4_096);
    assert_eq!(made.count(Role::Core), 2 * 2_048);
    assert_eq!(made.cables(SegmentKind::NodeLeaf), 1_048_576);
    assert_eq!(made.cables(SegmentKind::SpineCore), 1_048_576);
    let mut ledger = Ledger::new();
    made.record(&request, "test", &mut ledger);
    assert_eq!(ledger.get("network.compute.leaf").unwrap().value.number(), Some(8_192.0));
    assert!((made.bisection().ratio - 1.0).abs() < 1e-9);
}

#[test]
fn wires_need_no_memory_for_each() {
    // The largest network that is allowed: a list of its wires would take some 45 GB before the first were seen.
    let base = Request::new("compute", Topology::RailOptimised, 1 << 22, 8, switch(512));
    let request = Request { planes: 8, port_speed: BitsPerSec(4e11) * 8.0, ..base };
    let made = design(&request).unwrap();
    assert_eq!(made.segments.iter().map(|segment| segment.links).sum::<u64>(), 3 << 28);
    let first: Vec<_> = made.wires().take(9).collect();
    assert_eq!(first.iter().map(|wire| (wire.cable, wire.plane)).max(), Some((1, 0)));
    assert!(std::mem::size_of_val(&first[0]) <= 64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_request_panics(
        shape in 0_u32..7,
        numbers in proptest::array::uniform6(prop_oneof![Just(0_u32), 1_u32..40, 40_u32..5_000, Just(u32::MAX)]),
        radix in prop_oneof![Just(0_u32), 2_u32..600, Just(16_384_u32), Just(u32::MAX)],
        planes in 0_u32..5,
        unit in proptest::option::of(0_u32..4_000),
        tiers in proptest::option::of(0_u32..5),
        pod in proptest::option::of(prop_oneof![0_u32..40, Just(u32::MAX)]),
        multiple in proptest::option::of(prop_oneof![0_u32..9, Just(u32::MAX)]),
    ) {
        let [nodes, ports, one, two, three, extra] = numbers;
        let topology = match shape {
            0 => Topology::RailOptimised,
            1 => Topology::FatTree,
            2 => Topology::RailOnly,
            3 => Topology::KAry { k: one },
            4 => Topology::Dragonfly { hosts: one, routers: two, global: three, groups: unit },
            5 => Topology::DragonflyPlus { hosts: one, leaves: two, spines: three, global: one, groups: unit },
            _ => Topology::Torus { dims: [one, two, three], cube: unit },
        };
        let request = Request {
            planes,
            port_speed: BitsPerSec(4e11) * f64::from(planes),
            unit_nodes: unit,
            pod_units: pod,
            spine_multiple: multiple,
            tiers,
            extra_ports: extra,
            ..Request::new("compute", topology, nodes, ports, switch(radix))
        };
        if let Ok(made) = design(&request) {
            let mut ledger = Ledger::new();
            made.record(&request, "test", &mut ledger);
            let lone = dh_fabric::Topology::Torus { dims: [1; 3], cube: None };
            prop_assert!(made.wires().take(100).count() > 0 || topology == lone);
            prop_assert!(made.bisection().ratio >= 0.0);
        }
    }
}
