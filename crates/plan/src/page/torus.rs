//! A torus as blocks in space: cubes of accelerators, the optical circuit switches that join them, and one cube opened.

use dh_fabric::SegmentKind;

use super::frame::{count, counted, percent};
use super::solid::View;
use super::style;
use super::svg::{Area, Hold, Picture, at};
use crate::networks::NetworkPlan;

/// Blocks along an axis that are drawn.
const DRAWN: u32 = 8;

const AXES: [(&str, &str); 3] = [("x", "x-axis"), ("y", "y-axis"), ("z", "z-axis")];

/// The picture and what is to be said below it (markup).
pub(crate) fn draw(place: usize, network: &NetworkPlan, dims: [u32; 3], cube: Option<u32>) -> (String, String) {
    let side = cube.unwrap_or(1).max(1);
    let blocks = dims.map(|dim| dim / side);
    let drawn = blocks.map(|blocks| blocks.min(DRAWN));
    let mut picture = Picture::new(1_100.0, 500.0);
    let joined = joined(&mut picture, network, drawn);
    blocks_of(&mut picture, drawn, joined);
    let [x, y, z] = blocks;
    let what = if cube.is_some() {
        format!("{x} × {y} × {z} cubes of {side} × {side} × {side}")
    } else {
        format!("{x} × {y} × {z} accelerators")
    };
    picture.text((226.0, 488.0), "s", Hold::Middle, &what);
    if cube.is_some() {
        inside(&mut picture, network, side);
    }
    switches(&mut picture, place, network, cube);
    let [x, y, z] = dims;
    let alternative = format!("A torus of {x} by {y} by {z} accelerators: {what}");
    let shown =
        picture.finish(&format!("net-{place}"), &format!("Network {}: a torus in space", network.name), &alternative);
    let mut caption = String::new();
    if drawn != blocks {
        put!(caption, "At most {DRAWN} blocks along an axis are drawn. ");
    }
    if cube.is_some() {
        caption.push_str(
            "Inside a cube, neighbours are joined by copper. On each face of a cube, every accelerator has a fibre to an optical \
             circuit switch; the two ends of an axis meet at the same switch, \
             which closes the ring and lets cubes be joined in any order. ");
    }
    put!(
        caption,
        "Half of the accelerators can send to the other half with {} of what their links carry.",
        percent(network.design.bisection().ratio)
    );
    (shown, caption)
}

/// Where fibres leave for the switches; draws them, so that blocks stand in front.
fn joined(picture: &mut Picture, network: &NetworkPlan, drawn: [u32; 3]) -> (View, [f64; 3]) {
    let size = drawn.map(f64::from);
    let (view, (width, height)) = View::fitting(size, (16.0, 30.0), (420.0, 420.0));
    let shift = ((420.0 - width) / 2.0, (420.0 - height) / 2.0);
    let view = View { origin: (view.origin.0 + shift.0, view.origin.1 + shift.1), scale: view.scale };
    if network.design.segment(SegmentKind::NodeOcs).is_some() {
        let [x, y, z] = size;
        let ends = [[x, y / 2.0, z / 2.0], [x / 2.0, y, z / 2.0], [x / 2.0, y / 2.0, z]];
        for ((end, (_, class)), level) in ends.into_iter().zip(AXES).zip([240.0, 376.0, 104.0]) {
            let (right, down) = view.project(end);
            let [right, down, bend, level] = [right, down, 500.0, level].map(at);
            picture.path(
                &format!("M{right} {down}C{bend} {down} {bend} {level} 550 {level}"),
                &format!("axis {class}"),
                "",
            );
        }
    }
    (view, size)
}

fn blocks_of(picture: &mut Picture, [x, y, z]: [u32; 3], (view, _): (View, [f64; 3])) {
    const EDGE: f64 = 0.82;
    for at_z in 0..z {
        for at_y in 0..y {
            for at_x in 0..x {
                // Blocks behind three others are not seen.
                if at_x + 1 < x && at_y + 1 < y && at_z + 1 < z {
                    continue;
                }
                let corner = [at_x, at_y, at_z].map(f64::from);
                let tip = format!("({}, {}, {})", at_x + 1, at_y + 1, at_z + 1);
                view.block(picture, corner, [EDGE; 3], "p0 lit", &tip);
            }
        }
    }
}

/// One cube with its accelerators and their links.
fn inside(picture: &mut Picture, network: &NetworkPlan, side: u32) {
    let side = side.min(6);
    picture.round(Area::new(858.0, 120.0, 234.0, 220.0), "frame", "");
    let (view, (width, _)) = View::fitting([f64::from(side - 1); 3], (0.0, 162.0), (210.0, 142.0));
    let view = View { origin: (view.origin.0 + 975.0 - width / 2.0, view.origin.1), scale: view.scale };
    picture.text((874.0, 146.0), "t b", Hold::Start, "Inside a cube");
    let spot = |x: u32, y: u32, z: u32| view.project([x, y, z].map(f64::from));
    for z in 0..side {
        for y in 0..side {
            for x in 0..side {
                for (end, (_, class)) in [(x + 1, y, z), (x, y + 1, z), (x, y, z + 1)].into_iter().zip(AXES) {
                    let (to_x, to_y, to_z) = end;
                    if to_x < side && to_y < side && to_z < side {
                        picture.line(spot(x, y, z), spot(to_x, to_y, to_z), &format!("axis {class}"));
                    }
                }
            }
        }
    }
    for z in 0..side {
        for y in 0..side {
            for x in 0..side {
                picture.circle(spot(x, y, z), 3.6, "ink", "");
            }
        }
    }
    if let Some(segment) = network.design.segment(SegmentKind::NodeNode) {
        picture.text(
            (975.0, 329.0),
            "s",
            Hold::Middle,
            format!("{} of {}", counted(segment.links, "copper link", "copper links"), segment.speed),
        );
    }
}

/// The optical circuit switches, a third for each axis.
fn switches(picture: &mut Picture, place: usize, network: &NetworkPlan, cube: Option<u32>) {
    let Some(tier) = network.design.tiers.first().filter(|_| cube.is_some()) else { return };
    let of_axis = tier.count / 3;
    let class = format!("{} lit", style::network(place));
    for ((axis, name), y) in AXES.into_iter().zip([240.0, 376.0, 104.0]) {
        let drawn = of_axis.min(16);
        picture.path(&format!("M550 {}V{}", at(y - 44.0), at(y + 44.0)), &format!("axis {name}"), "");
        let mut column = 0.0;
        let mut row = 0.0;
        for switch in 0..drawn {
            let area = Area::new(564.0 + column * 33.0, y - 26.0 + row * 28.0, 28.0, 22.0);
            picture.round(area, &class, &format!("{} {axis}{}", tier.switch.name, switch + 1));
            column += 1.0;
            if column >= 8.0 {
                (column, row) = (0.0, row + 1.0);
            }
        }
        picture.text(
            (564.0, y - 34.0),
            "s b",
            Hold::Start,
            format!("axis {axis}: {} × {}", count(of_axis), tier.switch.name),
        );
    }
    if let Some(segment) = network.design.segment(SegmentKind::NodeOcs) {
        picture.text(
            (564.0, 462.0),
            "s",
            Hold::Start,
            format!("{} of {}", counted(segment.links, "fibre", "fibres"), segment.speed),
        );
    }
}
