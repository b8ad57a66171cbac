//! Floors against one device at a time, and against a published design.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn group(name: &str, per_block: u32, role: Role, height: u32, rated: f64) -> Group {
    Group {
        name: name.to_owned(),
        per_block,
        role,
        form: Form::Units(height),
        rated: Watts(rated),
        expected: Watts(rated * 0.8),
        per_rack_max: None,
    }
}

fn block(name: &str, repeats: u32, groups: Vec<Group>) -> Block {
    Block { name: name.to_owned(), repeats, groups }
}

/// 127 DGX H100 in four scalable units, with their leaves, spines and managers.
fn superpod() -> Request {
    let nodes = group("dgx-h100", 32, Role::Nodes { total: 127 }, 8, 10_200.0);
    let leaf = group("compute leaf", 8, Role::Network, 1, 1_700.0);
    let storage = group("storage leaf", 2, Role::Network, 1, 1_700.0);
    let spine = group("compute spine", 16, Role::Network, 1, 1_700.0);
    let manager = group("fabric manager", 4, Role::Network, 1, 500.0);
    let server = group("management server", 5, Role::Network, 2, 800.0);
    let blocks = vec![block("unit", 4, vec![nodes, leaf, storage]), block("core", 1, vec![spine, manager, server])];
    Request { limits: Limits::default(), blocks }
}

#[test]
fn the_published_superpod_stands_in_thirty_two_racks_of_nodes_and_six_more() {
    let floor = Floor::plan(&superpod()).unwrap();
    assert_eq!(floor.node_racks(), 32);
    // Each unit has a network rack; spines, managers and servers share one more. The published design has 38 in all; what
    // stands in its sixth rack beside the nodes' is not said.
    assert_eq!(floor.racks(), 32 + 4 + 1);
    assert_eq!(floor.rows(), 3);
    assert_eq!(floor.count(GroupId(0)), 127);
    assert_eq!(floor.count(GroupId(1)), 32);
    // The 127th node is the third of the last unit's eighth rack: the last unit lacks one.
    let last = floor.place(GroupId(0), 126).unwrap();
    assert_eq!((last.rack, last.row, last.column, last.u), (3 * 9 + 7, 2, 2, 18));
    assert!(floor.place(GroupId(0), 127).is_none());
    assert_eq!(floor.rack_name(last.rack), "C03");
    assert!((last.x.0 - 1.2).abs() < 1e-12 && (last.y.0 - 4.8).abs() < 1e-12);
    assert!((floor.rack_power(0).rated.0 - 40_800.0).abs() < 1e-9);
    assert!((floor.rack_power(last.rack).rated.0 - 30_600.0).abs() < 1e-9);
    assert_eq!(floor.elevation(last.rack).iter().map(|shelf| shelf.index).collect::<Vec<_>>(), [124, 125, 126]);
}

#[test]
fn a_device_that_does_not_fit_is_refused_with_what_would() {
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = superpod();
        change(&mut request);
        Floor::plan(&request).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|request| request.limits.power = Watts(8_000.0)),
        "one of `dgx-h100` is rated 10.2 kW, 2.2 kW more than the 8 kW of a rack; allow 10.2 kW per rack, or choose a \
         smaller node"
    );
    assert_eq!(
        refused(&|request| request.limits.height_u = 9),
        "one of `dgx-h100` is 8 U high, 1 U more than the 7 U that a rack has for devices; a rack of 10 U would hold it"
    );
    assert_eq!(
        refused(&|request| request.blocks[0].groups[0].role = Role::Nodes { total: 90 }),
        "90 of `dgx-h100` do not fill 4 repeats of 32: they need 3, and only the last may lack some"
    );
    assert!(refused(&|request| request.limits.racks_per_row = 0).starts_with("the number of racks in a row"));
    assert!(refused(&|request| request.limits.height_u = 0).starts_with("the height of a rack"));
    assert!(refused(&|request| request.blocks[0].repeats = 0).starts_with("the repeats of block `unit`"));
    assert!(refused(&|request| request.blocks[1].groups[0].form = Form::Units(0)).starts_with("the height of `comp"));
    assert!(refused(&|request| request.blocks[1].groups[0].per_rack_max = Some(0)).starts_with("the most of `comp"));
    assert!(refused(&|request| request.blocks[1].groups[0].expected = Watts(1e9)).starts_with("the power of `comp"));
    assert!(refused(&|request| request.blocks[0].groups[1].per_block = u32::MAX).starts_with("the floor has more"));
    assert!(refused(&|request| request.limits.width = Meters(f64::NAN)).starts_with("the width"));
}

#[test]
fn a_node_that_is_a_rack_by_itself_takes_the_reserved_units_too() {
    let mut node = group("nvl72", 8, Role::Nodes { total: 8 }, 1, 120_000.0);
    node.form = Form::Rack;
    let limits = Limits { power: Watts(132_000.0), height_u: 48, ..Limits::default() };
    let blocks = vec![block("unit", 1, vec![node, group("leaf", 4, Role::Network, 1, 1_000.0)])];
    let floor = Floor::plan(&Request { limits, blocks }).unwrap();
    assert_eq!((floor.racks(), floor.node_racks()), (9, 8));
    assert_eq!(floor.elevation(3), [Shelf { u: 1, height_u: 48, group: GroupId(0), index: 3 }]);
}

#[test]
fn powers_that_only_just_fit_do_fit() {
    let blocks = vec![block("unit", 1, vec![group("node", 3, Role::Nodes { total: 3 }, 1, 100.1)])];
    let limits = Limits { power: Watts(300.3), ..Limits::default() };
    assert_eq!(Floor::plan(&Request { limits, blocks }).unwrap().racks(), 1);
}

#[test]
fn rows_are_lettered_like_columns_of_a_sheet() {
    let rows = [(0, "A01"), (25, "Z01"), (26, "AA01"), (27, "AB01"), (701, "ZZ01"), (702, "AAA01")];
    for (row, name) in rows {
        assert_eq!(rack_name(row, 0), name);
    }
    assert_eq!((rack_name(0, 6), rack_name(27, 11), rack_name(1, 119)), ("A07".into(), "AB12".into(), "B120".into()));
    assert_eq!(rack_name(u32::MAX, u32::MAX), "MWLQKWV4294967296");
}

#[test]
fn a_floor_of_a_million_accelerators_is_as_large_in_memory_as_a_small_one() {
    let unit = vec![
        group("node", 32, Role::Nodes { total: 131_072 }, 8, 10_200.0),
        group("leaf", 8, Role::Network, 1, 1_700.0),
    ];
    let floor = Floor::plan(&Request { limits: Limits::default(), blocks: vec![block("unit", 4_096, unit)] }).unwrap();
    assert_eq!((floor.racks(), floor.node_racks()), (4_096 * 9, 4_096 * 8));
    assert_eq!(floor.blocks.len(), 1);
    let last = floor.place(GroupId(0), 131_071).unwrap();
    assert_eq!(last.rack, 4_096 * 9 - 2);
    assert_eq!(floor.elevation(last.rack).last().unwrap().index, 131_071);
}

#[test]
fn the_ledger_says_how_many_racks_and_why() {
    let mut ledger = Ledger::new();
    Floor::plan(&superpod()).unwrap().enter("floor", &[], &[], &mut ledger);
    let racks = ledger.get("floor.racks").unwrap();
    assert_eq!((racks.value.clone(), racks.formula.as_str()), (37_u32.into(), "32 + 5"));
    assert_eq!(ledger.get("floor.rows").unwrap().value, 3_u32.into());
}

/// One device at a time, racks as lists: what the closed form must give.
fn by_hand(request: &Request) -> Vec<Vec<Shelf>> {
    let Limits { height_u, reserved_bottom_u, reserved_top_u, power, .. } = request.limits;
    let mut racks: Vec<Vec<Shelf>> = Vec::new();
    let mut first = 0;
    for block in &request.blocks {
        for repeat in 0..block.repeats {
            for nodes in [true, false] {
                let mut fresh = true;
                for (group, id) in block.groups.iter().zip(first..) {
                    let Form::Units(height) = group.form else { unreachable!() };
                    let total = match group.role {
                        Role::Nodes { total } if nodes => total,
                        Role::Network if !nodes => group.per_block * block.repeats,
                        Role::Nodes { .. } | Role::Network => continue,
                    };
                    fresh |= nodes;
                    let from = repeat * group.per_block;
                    for index in from..total.min(from + group.per_block) {
                        let open = racks.last().filter(|_| !fresh);
                        let used: f64 =
                            open.map_or(0.0, |rack| rack.iter().map(|shelf| rated(request, shelf.group)).sum());
                        let same = open.map_or(0, |rack| rack.iter().filter(|shelf| shelf.group.0 == id).count());
                        let u = open.and_then(|rack| rack.last()).map_or(reserved_bottom_u + 1, |s| s.u + s.height_u);
                        let fits = open.is_some()
                            && u + height - 1 <= height_u - reserved_top_u
                            && used + group.rated.0 <= power.0
                            && group.per_rack_max.is_none_or(|max| same < usize::try_from(max).unwrap());
                        let u = if fits { u } else { reserved_bottom_u + 1 };
                        if !fits {
                            racks.push(Vec::new());
                        }
                        let shelf = Shelf { u, height_u: height, group: GroupId(id), index };
                        racks.last_mut().unwrap().push(shelf);
                        fresh = false;
                    }
                }
            }
        }
        first += u32::try_from(block.groups.len()).unwrap();
    }
    racks
}

fn rated(request: &Request, group: GroupId) -> f64 {
    let mut groups = request.blocks.iter().flat_map(|block| &block.groups);
    groups.nth(usize::try_from(group.0).unwrap()).unwrap().rated.0
}

/// The fewest racks for devices in a given order, by dynamic programming over where a rack may end.
fn fewest(devices: &[(u32, f64)], room: u32, power: f64) -> usize {
    let mut best = vec![0];
    for end in 1..=devices.len() {
        let ends = (0..end).filter(|start| {
            let part = &devices[*start..end];
            part.iter().map(|device| device.0).sum::<u32>() <= room
                && part.iter().map(|device| device.1).sum::<f64>() <= power
        });
        best.push(ends.map(|start| best[start] + 1).min().unwrap());
    }
    best[devices.len()]
}

prop_compose! {
    /// Whole watts, so that sums are exact.
    fn any_group(repeats: u32)(
        per_block in 0_u32..20, missing in 0_u32..20, network in any::<bool>(), height in 1_u32..7,
        rated in 0_u32..3_000, max in proptest::option::of(1_u32..5),
    ) -> Group {
        let total = (per_block * repeats).saturating_sub(missing % per_block.max(1));
        let role = if network { Role::Network } else { Role::Nodes { total } };
        Group { per_rack_max: max, ..group("device", per_block, role, height, rated.into()) }
    }
}

fn any_block() -> impl Strategy<Value = Block> {
    (1_u32..5).prop_flat_map(|repeats| {
        proptest::collection::vec(any_group(repeats), 0..5).prop_map(move |groups| block("block", repeats, groups))
    })
}

prop_compose! {
    fn any_request()(
        blocks in proptest::collection::vec(any_block(), 0..4), power in 3_000_u32..12_000, height_u in 8_u32..20,
        bottom in 0_u32..2, top in 0_u32..2, racks_per_row in 1_u32..9,
    ) -> Request {
        let limits = Limits {
            power: Watts(power.into()), height_u, reserved_bottom_u: bottom, reserved_top_u: top, racks_per_row,
            ..Limits::default()
        };
        Request { limits, blocks }
    }
}

proptest! {
    #[test]
    fn the_closed_form_is_one_device_at_a_time(request in any_request()) {
        let floor = Floor::plan(&request).unwrap();
        let racks = by_hand(&request);
        prop_assert_eq!(usize::try_from(floor.racks()).unwrap(), racks.len());
        for (rack, expected) in (0..).zip(&racks) {
            prop_assert_eq!(&floor.elevation(rack), expected, "rack {}", rack);
        }
        prop_assert!(floor.elevation(floor.racks()).is_empty());
    }

    #[test]
    fn no_rack_is_above_a_limit_and_no_two_devices_overlap(request in any_request()) {
        let floor = Floor::plan(&request).unwrap();
        for rack in 0..floor.racks() {
            let power = floor.rack_power(rack);
            prop_assert!(power.rated <= power.limit && power.expected <= power.rated);
            let shelves = floor.elevation(rack);
            prop_assert!(!shelves.is_empty());
            let mut free = request.limits.reserved_bottom_u + 1;
            for shelf in &shelves {
                prop_assert!(shelf.u >= free);
                free = shelf.u + shelf.height_u;
            }
            prop_assert!(free <= request.limits.height_u - request.limits.reserved_top_u + 1);
        }
    }

    #[test]
    fn every_device_has_one_place_and_the_elevation_agrees(request in any_request()) {
        let floor = Floor::plan(&request).unwrap();
        let mut seen = BTreeMap::new();
        for rack in 0..floor.racks() {
            for shelf in floor.elevation(rack) {
                prop_assert!(seen.insert((shelf.group, shelf.index), (rack, shelf.u)).is_none());
            }
        }
        let mut devices = 0;
        for group in (0..).map(GroupId).take(floor.groups().len()) {
            let count = u32::try_from(floor.count(group)).unwrap();
            devices += count;
            for index in 0..count {
                let slot = floor.place(group, index).unwrap();
                prop_assert_eq!(seen.get(&(group, index)), Some(&(slot.rack, slot.u)));
                prop_assert_eq!(slot.row * request.limits.racks_per_row + slot.column, slot.rack);
            }
            prop_assert!(floor.place(group, count).is_none());
        }
        prop_assert_eq!(usize::try_from(devices).unwrap(), seen.len());
    }

    /// Among all ways to cut the devices, in their order, into racks.
    #[test]
    fn no_packing_in_this_order_needs_fewer_racks(request in any_request()) {
        let mut request = request;
        let mut expected = 0;
        let room = request.limits.height_u - request.limits.reserved_bottom_u - request.limits.reserved_top_u;
        for block in &mut request.blocks {
            block.repeats = 1;
            let mut shared = Vec::new();
            for group in &mut block.groups {
                group.per_rack_max = None;
                let Form::Units(height) = group.form else { unreachable!() };
                let mut devices: Vec<(u32, f64)> = (0..group.per_block).map(|_| (height, group.rated.0)).collect();
                if group.role == Role::Network {
                    shared.append(&mut devices);
                } else {
                    group.role = Role::Nodes { total: group.per_block };
                    expected += fewest(&devices, room, request.limits.power.0);
                }
            }
            expected += fewest(&shared, room, request.limits.power.0);
        }
        prop_assert_eq!(usize::try_from(Floor::plan(&request).unwrap().racks()).unwrap(), expected);
    }
}
