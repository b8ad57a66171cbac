//! A dragonfly as a ring of groups, every one joined to every other, and one group beside it with what is in it.

use dh_fabric::{Role, SegmentKind, Topology};
use dh_units::real;

use super::frame::{count, counted, percent};
use super::style;
use super::svg::{Area, Hold, Picture, nth};
use crate::networks::NetworkPlan;

/// Groups, and switches of a group, that are drawn.
const DRAWN: u64 = 16;

/// What a group is made of.
struct Made {
    groups: u64,
    hosts: u64,
    lower: u64,
    upper: u64,
}

fn made(network: &NetworkPlan) -> Option<Made> {
    let planes = u64::from(network.request.planes.max(1));
    let (hosts, lower, upper, role) = match network.request.topology {
        Topology::Dragonfly { hosts, routers, .. } => (hosts, routers, 0, Role::Router),
        Topology::DragonflyPlus { hosts, leaves, spines, .. } => (hosts, leaves, spines, Role::Leaf),
        Topology::RailOptimised
        | Topology::FatTree
        | Topology::RailOnly
        | Topology::KAry { .. }
        | Topology::Torus { .. } => return None,
    };
    let groups = network.design.count(role) / planes / u64::from(lower.max(1));
    Some(Made { groups, hosts: hosts.into(), lower: lower.into(), upper: upper.into() })
}

/// The picture and what is to be said below it (markup).
pub(crate) fn draw(place: usize, network: &NetworkPlan) -> (String, String) {
    let Some(made) = made(network) else { return (String::new(), String::new()) };
    let planes = u64::from(network.request.planes.max(1));
    let pairs = (made.groups * made.groups.saturating_sub(1) / 2).max(1);
    let global = network.design.segment(SegmentKind::Global);
    let between = global.map_or(0, |segment| segment.links) / planes / pairs;
    let mut picture = Picture::new(1_100.0, 470.0);
    let class = format!("{} lit", style::network(place));
    let drawn = made.groups.min(DRAWN);
    let ring = ring((270.0, 240.0), 185.0, drawn);
    let tip = format!("{} between two groups", counted(between, "link", "links"));
    for (one, from) in ring.iter().enumerate() {
        for to in ring.iter().skip(one + 1) {
            picture.thick(*from, *to, (0.6 + real(between.max(1)).log2() * 0.3).min(3.0), "link", &tip);
        }
    }
    for (group, spot) in ring.iter().enumerate() {
        let rest = made.groups > drawn && nth(group + 1) >= real(drawn);
        let name = if rest { format!("+{}", count(made.groups + 1 - drawn)) } else { format!("{}", group + 1) };
        picture.circle(
            *spot,
            24.0,
            &class,
            &format!("group {name}: {} of {} ends", count(made.lower), count(made.hosts)),
        );
        picture.text((spot.0, spot.1 + 4.0), "on b", Hold::Middle, name);
    }
    picture.text((270.0, 462.0), "s", Hold::Middle, format!("{}, {tip}", counted(made.groups, "group", "groups")));
    inset(&mut picture, &made, &class);
    let alternative = format!(
        "{} of {} switches each, {} ends on a switch; {tip}",
        counted(made.groups, "group", "groups"),
        made.lower + made.upper,
        made.hosts
    );
    let shown = picture.finish(
        &format!("net-{place}"),
        &format!("Network {}: groups and one of them", network.name),
        &alternative,
    );
    let caption = format!(
        "Left: every group is joined to every other. Right: one group. Half of the ends can send to the other half with {} of what \
         their ports carry.",
        percent(network.design.bisection().ratio)
    );
    (shown, caption)
}

/// Points of a ring, from the top on.
fn ring((x, y): (f64, f64), radius: f64, points: u64) -> Vec<(f64, f64)> {
    let turn = |point: u64| std::f64::consts::TAU * real(point) / real(points.max(1));
    (0..points).map(|point| (x + radius * turn(point).sin(), y - radius * turn(point).cos())).collect()
}

/// One group: routers that are all joined, or leaves below spines.
fn inset(picture: &mut Picture, made: &Made, class: &str) {
    picture.round(Area::new(570.0, 20.0, 510.0, 420.0), "frame", "");
    picture.text((588.0, 44.0), "t b", Hold::Start, "One group");
    let drawn = made.lower.min(DRAWN);
    let more = |all: u64| if all > DRAWN { format!(" ({DRAWN} are drawn)") } else { String::new() };
    if made.upper == 0 {
        let ring = ring((825.0, 232.0), 130.0, drawn);
        for (one, from) in ring.iter().enumerate() {
            for to in ring.iter().skip(one + 1) {
                picture.line(*from, *to, "link");
            }
        }
        for spot in &ring {
            picture.circle(*spot, 11.0, class, &format!("a router with {}", counted(made.hosts, "end", "ends")));
        }
        let words = format!(
            "{} routers, all joined{}; {} on each",
            count(made.lower),
            more(made.lower),
            counted(made.hosts, "end", "ends")
        );
        picture.text((825.0, 420.0), "s", Hold::Middle, words);
        return;
    }
    let spots = |all: u64, y: f64| -> Vec<(f64, f64)> {
        let all = all.min(DRAWN);
        (0..all).map(|spot| (600.0 + 450.0 * (real(spot) + 0.5) / real(all), y)).collect()
    };
    let (lower, upper) = (spots(made.lower, 300.0), spots(made.upper, 140.0));
    for from in &lower {
        for to in &upper {
            picture.line(*from, *to, "link");
        }
        picture.line(*from, (from.0, 350.0), "link");
    }
    for (spot, name) in upper.iter().map(|spot| (spot, "a spine")).chain(lower.iter().map(|spot| (spot, "a leaf"))) {
        picture.circle(*spot, 11.0, class, name);
    }
    picture.text(
        (825.0, 105.0),
        "s",
        Hold::Middle,
        format!("{} spines, which carry the links to other groups{}", count(made.upper), more(made.upper)),
    );
    let words =
        format!("{} leaves{}; {} on each", count(made.lower), more(made.lower), counted(made.hosts, "end", "ends"));
    picture.text((825.0, 375.0), "s", Hold::Middle, words);
}
