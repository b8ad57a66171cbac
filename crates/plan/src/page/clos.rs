//! A folded Clos as rows of boxes: ends below, then leaves, spines, cores. Where a row has more than a dozen devices, those
//! that belong together share a box; every wire of the network is in one of the lines between boxes.
//!
//! Invariant: the links of the lines drawn between two rows sum up to the links of one plane between them.

use dh_units::real;
use std::collections::BTreeMap;

use dh_fabric::{Device, Role, SegmentKind, Wire};

use super::frame::{Subject, count, counted, percent};
use super::style;
use super::svg::{Area, Hold, Picture, fit, nth};
use crate::networks::{Counting, EndOf, NetworkPlan};

/// Boxes of a row.
const BOXES: usize = 12;

/// Devices that are drawn as one box.
#[derive(Debug, Clone)]
struct Cell {
    name: String,
    /// How many devices it stands for.
    devices: u64,
    class: &'static str,
}

/// A row of boxes, and which box each device is in.
#[derive(Debug, Clone)]
struct Row {
    title: String,
    below: Vec<String>,
    cells: Vec<Cell>,
    /// By index of the device in one plane.
    cell_of: Vec<usize>,
}

impl Row {
    fn cell(&self, index: u32) -> Option<usize> {
        usize::try_from(index).ok().and_then(|index| self.cell_of.get(index)).copied()
    }
}

/// The picture and what is to be said below it (markup).
pub(crate) fn draw(subject: Subject<'_>, place: usize, network: &NetworkPlan) -> (String, String) {
    let planes = u64::from(network.request.planes.max(1));
    let wires = || network.design.wires().filter(|wire| wire.plane == 0);
    let units = units(network, wires());
    let (ends, managers) = ends(subject, network, &units);
    let mut rows = vec![ends];
    for tier in &network.design.tiers {
        let row = switches(place, network, tier.role, tier.count / planes, &units);
        rows.push(row);
    }
    let level = |role: Role| network.design.tiers.iter().position(|tier| tier.role == role).map(|level| level + 1);
    let mut lines: BTreeMap<[usize; 4], u64> = BTreeMap::new();
    for wire in wires() {
        let at = |device: Device| match device {
            Device::Node(end) => Some((0, rows.first()?.cell(end)?)),
            Device::Manager(_) => Some((0, managers?)),
            Device::Switch(role, index) => {
                let level = level(role)?;
                Some((level, rows.get(level)?.cell(index)?))
            }
            Device::Ocs(_) => None,
        };
        if let (Some((low, from)), Some((high, to))) = (at(wire.from.device), at(wire.to.device)) {
            *lines.entry([low, from, high, to]).or_default() += u64::from(wire.links);
        }
    }
    let picture = picture(network, &rows, &lines);
    let words: Vec<String> = rows.iter().rev().map(|row| format!("{} ({})", row.title, row.below.join(", "))).collect();
    let title = format!("Network {}, from its ends up", network.name);
    let shown = picture.finish(&format!("net-{place}"), &title, &words.join("; "));
    let mut caption = "Every link of the network is in one of the lines; thicker lines are more links. ".to_owned();
    if planes > 1 {
        put!(caption, "One of <b>{planes} planes</b>, all alike, is drawn. ");
    }
    put!(
        caption,
        "Half of the ends can send to the other half with {} of what their ports carry.",
        percent(network.design.bisection().ratio)
    );
    (shown, caption)
}

/// Nodes that share their leaves: for each node its unit, for each leaf of a plane the unit it serves, and how many units.
#[derive(Debug, Default)]
struct Units {
    of_node: Vec<usize>,
    of_leaf: BTreeMap<u32, usize>,
    sizes: Vec<u64>,
}

fn units(network: &NetworkPlan, wires: impl Iterator<Item = Wire>) -> Units {
    let mut units = Units::default();
    if network.ends.count != Counting::Nodes {
        return units;
    }
    let mut by_leaf: BTreeMap<u32, usize> = BTreeMap::new();
    let ends: Vec<Wire> = wires.take_while(|wire| wire.segment == SegmentKind::NodeLeaf).collect();
    for wire in ends.iter().filter(|wire| wire.from.port == 0) {
        let (Device::Node(node), Device::Switch(_, leaf)) = (wire.from.device, wire.to.device) else { continue };
        let next = by_leaf.len();
        let unit = *by_leaf.entry(leaf).or_insert(next);
        if units.sizes.len() <= unit {
            units.sizes.resize(unit + 1, 0);
        }
        if let (Ok(node), Some(size)) = (usize::try_from(node), units.sizes.get_mut(unit)) {
            units.of_node.resize(units.of_node.len().max(node + 1), 0);
            if let Some(of_node) = units.of_node.get_mut(node) {
                *of_node = unit;
            }
            *size += 1;
        }
    }
    for wire in &ends {
        let (Device::Node(node), Device::Switch(_, leaf)) = (wire.from.device, wire.to.device) else { continue };
        if let Some(unit) = usize::try_from(node).ok().and_then(|node| units.of_node.get(node)) {
            units.of_leaf.entry(leaf).or_insert(*unit);
        }
    }
    units
}

/// How many boxes hold `all` things: one each where there are few, else as many equal ones as can be.
fn boxes(all: usize) -> usize {
    if all <= BOXES {
        return all;
    }
    (BOXES / 2..=BOXES).rev().find(|boxes| all.is_multiple_of(*boxes)).unwrap_or(BOXES)
}

/// The box of thing `index`, each box with as many as the next, as far as they can.
fn boxed(index: usize, all: usize, boxes: usize) -> usize {
    (index * boxes).checked_div(all).unwrap_or(0)
}

/// `unit 3`, `units 1–8`: what box `cell` holds.
fn range(one: &str, many: &str, cell: usize, all: usize, boxes: usize) -> String {
    let first = (cell * all).div_ceil(boxes.max(1));
    let after = ((cell + 1) * all).div_ceil(boxes.max(1));
    if after <= first + 1 { format!("{one} {}", first + 1) } else { format!("{many} {}–{after}", first + 1) }
}

fn switches(place: usize, network: &NetworkPlan, role: Role, all: u64, units: &Units) -> Row {
    let class = style::network(place);
    let model = network.design.tiers.iter().find(|tier| tier.role == role).map(|tier| &tier.switch);
    let below = model.map_or_else(Vec::new, |switch| {
        vec![format!("{} × {}", count(all), switch.name), format!("{} ports, {}", switch.ports, switch.speed)]
    });
    let all = usize::try_from(all).unwrap_or(0);
    let first = network.design.tiers.first().is_some_and(|tier| tier.role == role);
    let grouped = all > BOXES && first && units.sizes.len() > 1;
    let (cells, cell_of) = if grouped {
        let boxes = boxes(units.sizes.len());
        let cell = |cell| Cell { name: range("unit", "units", cell, units.sizes.len(), boxes), devices: 0, class };
        let mut cells: Vec<Cell> = (0..boxes).map(cell).collect();
        // Leaves that serve no node carry managers.
        let home = |leaf: u32| units.of_leaf.get(&leaf).map_or(boxes, |unit| boxed(*unit, units.sizes.len(), boxes));
        let cell_of: Vec<usize> = (0..u32::try_from(all).unwrap_or(0)).map(home).collect();
        if cell_of.contains(&boxes) {
            cells.push(Cell { name: "for managers".to_owned(), devices: 0, class });
        }
        for cell in &cell_of {
            if let Some(cell) = cells.get_mut(*cell) {
                cell.devices += 1;
            }
        }
        (cells, cell_of)
    } else {
        let boxes = boxes(all);
        let cell_of: Vec<usize> = (0..all).map(|index| boxed(index, all, boxes)).collect();
        let cell = |cell: usize| {
            let devices = cell_of.iter().filter(|of| **of == cell).count();
            let name = range(role.name(), role.name(), cell, all, boxes);
            Cell { name, devices: nth_count(devices), class }
        };
        ((0..boxes).map(cell).collect(), cell_of)
    };
    Row { title: role.name().to_owned(), below, cells, cell_of }
}

/// The row of ends, and the box of managers.
fn ends(subject: Subject<'_>, network: &NetworkPlan, units: &Units) -> (Row, Option<usize>) {
    let ranges = &network.ends.ranges;
    let name = |of: &EndOf| match of {
        EndOf::Pool(pool) => {
            (subject.plan.pools.get(*pool).map_or_else(String::new, |pool| pool.name.clone()), style::pool(*pool))
        }
        EndOf::Switches(other, role) => {
            let other_name = subject.plan.networks.get(*other).map_or("", |network| network.name.as_str());
            (format!("{other_name} {}", role.name()), style::network(*other))
        }
    };
    let devices: u64 = ranges.iter().map(|range| u64::from(range.devices)).sum();
    let mut row = Row { title: "ends".to_owned(), below: Vec::new(), cells: Vec::new(), cell_of: Vec::new() };
    if units.sizes.len() > 1 && devices > nth_count(BOXES) {
        let (all, boxes) = (units.sizes.len(), boxes(units.sizes.len()));
        let class = ranges.first().map_or("p0", |range| name(&range.of).1);
        for cell in 0..boxes {
            let sizes = units.sizes.iter().enumerate().filter(|(unit, _)| boxed(*unit, all, boxes) == cell);
            let devices = sizes.map(|(_, size)| size).sum();
            row.cells.push(Cell { name: range("unit", "units", cell, all, boxes), devices, class });
        }
        row.cell_of = units.of_node.iter().map(|unit| boxed(*unit, all, boxes)).collect();
    } else {
        for range in ranges {
            let (title, class) = name(&range.of);
            let all = usize::try_from(range.devices).unwrap_or(0);
            let (boxes, first) = (boxes_of(devices, range.devices, ranges.len()), row.cells.len());
            let cell_of: Vec<usize> = (0..all).map(|device| boxed(device, all, boxes)).collect();
            for cell in 0..boxes {
                let devices = cell_of.iter().filter(|of| **of == cell).count();
                let name = if devices == 1 && boxes > 1 { format!("{title} {}", cell + 1) } else { title.clone() };
                row.cells.push(Cell { name, devices: nth_count(devices), class });
            }
            let ports =
                if network.ends.count == Counting::Nodes { 1 } else { usize::try_from(range.ports).unwrap_or(1) };
            for cell in cell_of {
                row.cell_of.extend(std::iter::repeat_n(first + cell, ports));
            }
        }
    }
    for range in ranges {
        let (title, _) = name(&range.of);
        row.below.push(format!("{} {title} × {}", count(range.devices.into()), range.ports));
    }
    if row.below.len() > 4 {
        row.below = vec![counted(devices, "device", "devices"), format!("of {} kinds", ranges.len())];
    }
    let managers = network.request.extra_ports;
    let cell = (managers > 0).then(|| {
        row.cells.push(Cell { name: "managers".to_owned(), devices: managers.into(), class: "rest" });
        row.cells.len() - 1
    });
    (row, cell)
}

/// Boxes of one kind of devices among several: in proportion, at least one; one each where there are many kinds.
fn boxes_of(all: u64, devices: u32, kinds: usize) -> usize {
    let devices_here = usize::try_from(devices).unwrap_or(usize::MAX);
    if all <= nth_count(BOXES) {
        return devices_here;
    }
    if kinds > 3 {
        return devices_here.min(1);
    }
    let share = u64::from(devices) * nth_count(BOXES) / all.max(1);
    usize::try_from(share).unwrap_or(1).clamp(1, BOXES).min(devices_here)
}

fn nth_count(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

const WIDTH: f64 = 1_100.0;
const LEFT: f64 = 190.0;
const BOX: f64 = 46.0;
const STEP: f64 = 150.0;

/// The box of a cell.
fn area(rows: &[Row], level: usize, cell: usize) -> Area {
    let cells = rows.get(level).map_or(1, |row| row.cells.len().max(1));
    let step = (WIDTH - LEFT - 8.0) / nth(cells);
    let w = (step - 12.0).min(190.0);
    let y = 14.0 + STEP * nth(rows.len() - 1 - level);
    Area::new(LEFT + step * nth(cell) + (step - w) / 2.0, y, w, BOX)
}

fn picture(network: &NetworkPlan, rows: &[Row], lines: &BTreeMap<[usize; 4], u64>) -> Picture {
    let height = STEP * nth(rows.len().saturating_sub(1)) + BOX + 34.0;
    let mut picture = Picture::new(WIDTH, height);
    for ([low, from, high, to], links) in lines {
        let (lower, upper) = (area(rows, *low, *from), area(rows, *high, *to));
        // A line ten times as thick as another has some hundred times its links.
        let width = (0.7 + real(*links).log2() * 0.42).min(6.0);
        let name = |level: &usize, cell: &usize| {
            rows.get(*level).and_then(|row| row.cells.get(*cell)).map_or("", |cell| cell.name.as_str())
        };
        let tip = format!("{} – {}: {}", name(low, from), name(high, to), counted(*links, "link", "links"));
        picture.thick((lower.middle().0, lower.y), (upper.middle().0, upper.y + upper.h), width, "link", &tip);
    }
    for (level, row) in rows.iter().enumerate() {
        let y = 14.0 + STEP * nth(rows.len() - 1 - level);
        let title = if level == 0 { "ends".to_owned() } else { row.title.clone() };
        picture.text((0.0, y + 14.0), "t b", Hold::Start, title);
        for (line, words) in row.below.iter().take(4).enumerate() {
            picture.text((0.0, y + 30.0 + 15.0 * nth(line)), "s", Hold::Start, fit(words, LEFT - 14.0, 11.5));
        }
        for (place, cell) in row.cells.iter().enumerate() {
            draw_cell(&mut picture, area(rows, level, place), cell, &row.title);
        }
    }
    let planes = match network.request.planes {
        0 | 1 => String::new(),
        planes => format!(", {planes} planes"),
    };
    for (level, segment) in network.design.segments.iter().enumerate().take(rows.len().saturating_sub(1)) {
        let y = 14.0 + STEP * nth(rows.len() - 2 - level) + BOX + (STEP - BOX) / 2.0;
        picture.text(
            (0.0, y - 2.0),
            "s b",
            Hold::Start,
            format!("{} of {}", counted(segment.links, "link", "links"), segment.speed),
        );
        picture.text((0.0, y + 13.0), "s", Hold::Start, counted(segment.cables, "cable", "cables") + &planes);
    }
    picture
}

fn draw_cell(picture: &mut Picture, area: Area, cell: &Cell, row: &str) {
    let (middle, low) = area.middle();
    // Where the whole name is too long, the numbers say enough: the row has its name at the left.
    let short = cell.name.rsplit(' ').next().filter(|short| short.starts_with(|letter: char| letter.is_ascii_digit()));
    let whole = fit(&cell.name, area.w - 4.0, 11.0);
    let name = if whole == cell.name { whole } else { fit(short.unwrap_or(&cell.name), area.w - 4.0, 11.0) };
    let tip =
        if cell.devices == 1 { cell.name.clone() } else { format!("{}: {} of {row}", cell.name, count(cell.devices)) };
    if cell.devices > 1 {
        for shift in [6.0, 3.0] {
            picture.round(
                Area::new(area.x + shift, area.y - shift, area.w, area.h),
                &format!("{} lit", cell.class),
                "",
            );
        }
    }
    picture.round(area, &format!("{} lit", cell.class), &tip);
    if cell.devices == 1 {
        picture.text((middle, low + 4.0), "on", Hold::Middle, &name);
    } else {
        picture.text((middle, low - 3.0), "on", Hold::Middle, &name);
        picture.text((middle, low + 14.0), "on b", Hold::Middle, format!("× {}", count(cell.devices)));
    }
}
