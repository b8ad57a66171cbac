//! Leaves with uplink ports of their own: counts, speeds, port numbers, losses and formulas.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use dh_fabric::{Design, Device, Error, Part, Request, Role, SegmentKind, Switch, Topology, Uplinks, design};
use dh_units::{BitsPerSec, Ledger, Watts};
use expect_test::expect;
use proptest::prelude::*;

const GIGABIT: f64 = 1e9;

fn switch(name: &str, ports: u32, speed: f64) -> Switch {
    Switch {
        name: name.to_owned(),
        ports,
        speed: BitsPerSec(speed),
        power: Watts(100.0),
        price: None,
        height_u: 1,
        uplinks: None,
    }
}

/// The proportions of an NVIDIA SN2201.
fn access(ports: u32, uplinks: u32) -> Switch {
    let speed = BitsPerSec(100.0 * GIGABIT);
    Switch { uplinks: Some(Uplinks { ports: uplinks, speed }), ..switch("access", ports, GIGABIT) }
}

fn spine(ports: u32, speed: f64) -> Switch {
    switch("spine", ports, speed * GIGABIT)
}

fn out_of_band(nodes: u32, above: Option<Switch>) -> Request {
    Request { spine: above, ..Request::new("out-of-band", Topology::FatTree, nodes, 1, access(48, 4)) }
}

#[test]
fn all_ports_face_down_and_all_uplinks_up() {
    // Nodes, ports of the spine, its port speed: leaves, spines, links up, their speed, spine ports free.
    for (nodes, ports, speed, leaves, spines, up_speed, free) in [
        (49, 64, 100.0, 2, 1, 100.0, 64 - 8),
        (768, 64, 100.0, 16, 1, 100.0, 0),
        (769, 64, 100.0, 17, 2, 100.0, 2 * 64 - 68),
        (1_536, 64, 25.0, 32, 2, 25.0, 0),
        // 33 leaves of 4 uplinks need 2.06 spines: the next divisor of 4 is 4.
        (1_584, 64, 400.0, 33, 4, 100.0, 4 * 64 - 132),
        (3_072, 64, 100.0, 64, 4, 100.0, 0),
    ] {
        let made = design(&out_of_band(nodes, Some(spine(ports, speed)))).unwrap();
        assert_eq!((made.count(Role::Leaf), made.count(Role::Spine)), (leaves, spines), "{nodes}");
        let up = made.segment(SegmentKind::LeafSpine).unwrap();
        assert_eq!((up.links, up.cables, up.speed), (leaves * 4, leaves * 4, BitsPerSec(up_speed * GIGABIT)));
        assert_eq!(made.segment(SegmentKind::NodeLeaf).unwrap().speed, BitsPerSec(GIGABIT));
        assert_eq!(made.tiers[0].ports_used, u64::from(nodes) + leaves * 4);
        assert_eq!(made.tiers[0].ports_free, leaves * 48 - u64::from(nodes));
        assert_eq!(made.tiers[1].ports_free, free);
        // Four uplinks of 25 Gb/s and more carry 48 ports of 1 Gb/s.
        assert!((made.bisection().ratio - 1.0).abs() < 1e-9);
        lawful(&made, 48);
    }
    let three = design(&out_of_band(3_073, Some(spine(64, 100.0)))).unwrap();
    assert_eq!(three.tiers.len(), 3, "65 leaves do not all reach a spine of 64 ports");
    lawful(&three, 48);
}

#[test]
fn one_switch_needs_nothing_above() {
    let made = design(&out_of_band(48, None)).unwrap();
    assert_eq!((made.tiers.len(), made.tiers[0].count, made.tiers[0].ports_free), (1, 1, 4));
    let error = design(&out_of_band(49, None)).unwrap_err();
    assert_eq!(error, Error::NeedsSpine { switch: "access".to_owned(), ends: 49 });
}

#[test]
fn what_cannot_be_built_says_why() {
    let above = || Some(spine(64, 100.0));
    let stopped = Uplinks { ports: 4, speed: BitsPerSec(0.0) };
    let cases = [
        ("no spine", out_of_band(49, None)),
        ("spare", Request { spare_ports: 1, ..out_of_band(48, None) }),
        ("all spare", Request { spare_ports: 48, ..out_of_band(48, above()) }),
        ("no uplinks", Request { leaf: access(48, 0), ..out_of_band(48, above()) }),
        ("no speed", Request { leaf: Switch { uplinks: Some(stopped), ..access(48, 4) }, ..out_of_band(48, above()) }),
        ("two tiers", Request { tiers: Some(2), ..out_of_band(3_073, above()) }),
        ("four tiers", out_of_band(48 * 32 * 64 + 1, above())),
        ("shape", Request { topology: Topology::KAry { k: 4 }, ..out_of_band(8, above()) }),
    ];
    let told: Vec<String> = cases
        .into_iter()
        .map(|(name, request)| format!("{name}: {}", design(&request).map(|_| "fits").unwrap_err()))
        .collect();
    expect![[r"
        no spine: 49 ends need spines above leaves `access`, whose uplinks face up only: a spine model is needed
        spare: 48 ends need spines above leaves `access`, whose uplinks face up only: a spine model is needed
        all spare: switch `access` has 48 ports; 48 spare and 1:1 leave none for nodes or none for uplinks
        no uplinks: uplinks of switch `access` and their speed must be more than zero
        no speed: uplinks of switch `access` and their speed must be more than zero
        two tiers: 3073 ends do not fit 2 tiers of `access` with 48 ports: 3 tiers would fit; leaves of 96 ports under spines of 128 would fit
        four tiers: 98305 ends do not fit 3 tiers of `access` with 48 ports: needs 4 tiers; leaves of 96 ports under spines of 128 would fit
        shape: this shape needs switches whose ports are all alike; `access` has uplink ports"]].assert_eq(&told.join("\n"));
}

#[test]
fn a_surplus_of_uplinks_is_lost_first() {
    let of = |speed, part| {
        let made = design(&out_of_band(96, Some(spine(4, speed)))).unwrap();
        assert_eq!(made.count(Role::Spine), 2);
        let loss = made.losses().into_iter().find(|loss| loss.part == part).unwrap();
        (loss.bandwidth_lost, loss.bisection_left)
    };
    let cable = Part::Cable(SegmentKind::LeafSpine);
    // 4 x 100 Gb/s carry 48 Gb/s also without one link or one spine.
    assert_eq!(of(100.0, cable), (0.0, 1.0));
    assert_eq!(of(100.0, Part::Switch(Role::Spine)), (0.0, 1.0));
    // 4 x 15 Gb/s = 60: three links are 45 of 48, one of two spines 30 of 48.
    let close = |(lost, left): (f64, f64), kept: f64| {
        assert!((lost - (1.0 - kept)).abs() < 1e-9, "{lost}");
        assert!(left >= kept - 1e-9 && left < 1.0 + 1e-9, "{left}");
    };
    close(of(15.0, cable), 45.0 / 48.0);
    close(of(15.0, Part::Switch(Role::Spine)), 30.0 / 48.0);
    // 4 x 6 Gb/s = 24 of 48: what is sent through them loses its share, and so does the bisection.
    assert_eq!(of(6.0, cable), (0.25, 1.0 - 1.0 / 8.0));
    assert_eq!(of(6.0, Part::Switch(Role::Spine)), (0.5, 0.5));
    let thin = design(&out_of_band(96, Some(spine(4, 6.0)))).unwrap();
    assert!((thin.bisection().ratio - 0.5).abs() < 1e-9);
}

#[test]
fn formulas_name_the_uplinks() {
    let request = Request { spare_ports: 2, ..out_of_band(400, Some(spine(64, 25.0))) };
    let mut ledger = Ledger::new();
    design(&request).unwrap().record(&request, "hall.toml:3", &mut ledger);
    let told: Vec<String> =
        ["leaf-down", "leaf-model.uplinks", "oversubscription", "leaf", "spine", "cables.leaf-spine"]
            .into_iter()
            .map(|id| ledger.get(&format!("network.out-of-band.{id}")).unwrap())
            .map(|number| {
                format!("{} = {} = {} [{}]", number.id, number.value, number.formula, number.inputs.join(" "))
            })
            .collect();
    expect![[r"
        leaf-down = 46 = of 48 ports beside the uplinks, 2 spare: 46 down [leaf-model.ports spare-ports]
        leaf-model.uplinks = 4 =  []
        oversubscription = 0.46 = 46 x 1 Gb/s / (4 x 25 Gb/s, the slower of 100 Gb/s and a spine's port) [leaf-down port-speed planes leaf-model.uplinks leaf-model.uplink-speed]
        leaf = 9 = ceil(400 ends / 46 down) [nodes ports-per-node manager-ports planes leaf-down]
        spine = 1 = 1 pods x 1 spines, the smallest divisor of 4 that is at least ceil(9 leaves x 4 uplinks / 64 ports) [leaf leaf-down leaf-model.uplinks planes spine-model.ports spine-oversubscription]
        cables.leaf-spine = 36 = 9 leaves x 4 uplinks [leaf leaf-down leaf-model.uplinks planes]"]].assert_eq(&told.join("\n").replace("network.out-of-band.", ""));
}

/// Ports are unique and where they should be, counts are those of the wires, every spine has equally many links of a leaf.
fn lawful(made: &Design, ports: u32) {
    let mut taken = BTreeSet::new();
    let mut used: BTreeMap<Role, u64> = BTreeMap::new();
    let mut pairs: BTreeMap<Device, BTreeMap<Device, u32>> = BTreeMap::new();
    let mut links: BTreeMap<SegmentKind, u64> = BTreeMap::new();
    for wire in made.wires() {
        *links.entry(wire.segment).or_default() += u64::from(wire.links);
        for end in [wire.from, wire.to] {
            let Device::Switch(role, index) = end.device else { continue };
            for port in end.port..end.port + wire.links {
                assert!(taken.insert((end.device, port)), "port twice: {wire:?}");
                if role == Role::Leaf {
                    assert_eq!(port >= ports, wire.segment == SegmentKind::LeafSpine, "{wire:?}");
                }
                let tier = made.tiers.iter().find(|tier| tier.role == role).unwrap();
                assert!(u64::from(port) < tier.switch.all_ports() && u64::from(index) < tier.count, "{wire:?}");
                *used.entry(role).or_default() += 1;
            }
        }
        if wire.segment == SegmentKind::LeafSpine {
            *pairs.entry(wire.from.device).or_default().entry(wire.to.device).or_default() += wire.links;
        }
    }
    for tier in &made.tiers {
        assert_eq!(used.get(&tier.role).copied().unwrap_or(0), tier.ports_used, "{:?}", tier.role);
        assert_eq!(tier.ports_used + tier.ports_free, tier.count * tier.switch.all_ports());
    }
    for segment in &made.segments {
        assert_eq!(links.get(&segment.kind), Some(&segment.links), "{:?}", segment.kind);
    }
    for (leaf, to) in pairs {
        assert_eq!(to.values().collect::<BTreeSet<_>>().len(), 1, "{leaf:?} is joined unequally: {to:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn leaves_with_uplinks_are_lawful(
        topology in prop_oneof![Just(Topology::RailOptimised), Just(Topology::FatTree), Just(Topology::RailOnly)],
        nodes in 1_u32..120,
        ends in 1_u32..5,
        ports in 2_u32..14,
        uplinks in 1_u32..7,
        (spine_ports, spine_speed) in (1_u32..20, 1_u32..200),
        (core_ports, core_speed) in (1_u32..20, 1_u32..200),
        planes in 1_u32..4,
        unit in proptest::option::of(1_u32..12),
        (extra, spare) in (0_u32..6, 0_u32..3),
        tiers in proptest::option::of(1_u32..4),
    ) {
        let base = Request::new("compute", topology, nodes, ends, access(ports, uplinks));
        let request = Request {
            spine: Some(spine(2 * spine_ports, spine_speed.into())),
            core: Some(spine(2 * core_ports, core_speed.into())),
            planes,
            port_speed: base.port_speed * f64::from(planes),
            unit_nodes: unit,
            extra_ports: extra,
            spare_ports: spare,
            tiers,
            ..base
        };
        if let Ok(made) = design(&request) {
            lawful(&made, ports);
            if let Some(up) = made.segment(SegmentKind::LeafSpine) {
                prop_assert_eq!(up.links, made.count(Role::Leaf) * u64::from(uplinks), "all are used");
            }
            let bisection = made.bisection();
            prop_assert!(bisection.ratio > 0.0 && bisection.ratio < 1.0 + 1e-9);
            for loss in made.losses() {
                prop_assert!((0.0..=1.0).contains(&loss.bandwidth_lost), "{:?}", loss);
                prop_assert!((0.0..=1.0).contains(&loss.bisection_left), "{:?}", loss);
            }
        }
    }
}
