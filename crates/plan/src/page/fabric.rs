//! Every network: its picture, its tiers, its links, and what one lost part costs.

use dh_fabric::{Part, Topology};
use dh_units::significant;

use super::frame::{Column, Subject, count, facts, figure, money, percent, table};
use super::style;
use super::svg::escape;
use super::{clos, dragonfly, torus};
use crate::networks::NetworkPlan;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let networks = &subject.plan.networks;
    if networks.is_empty() {
        return "<p>No network is written: nodes need no plan of cables.</p>".to_owned();
    }
    let each = networks.iter().enumerate().map(|(place, network)| one(subject, place, network));
    each.collect()
}

/// What a shape is called.
fn shape(topology: Topology) -> String {
    match topology {
        Topology::RailOptimised => "rail-optimised fat tree".to_owned(),
        Topology::FatTree => "fat tree".to_owned(),
        Topology::KAry { k } => format!("{k}-ary fat tree"),
        Topology::RailOnly => "rails that are not joined".to_owned(),
        Topology::Dragonfly { .. } => "dragonfly".to_owned(),
        Topology::DragonflyPlus { .. } => "dragonfly+".to_owned(),
        Topology::Torus { dims: [x, y, z], .. } => format!("torus of {x} × {y} × {z}"),
    }
}

fn one(subject: Subject<'_>, place: usize, network: &NetworkPlan) -> String {
    let id = |key: &str| format!("network.{}.{key}", network.name);
    let (bisection, hops) = (network.design.bisection(), network.design.hops());
    let planes = network.request.planes;
    let mut text = format!(
        "<div class=\"net\"><h3><i class=\"tag {}\"></i>{}: {}</h3>",
        style::network(place),
        escape(&network.name),
        escape(shape(network.request.topology))
    );
    let mean = hops.mean.map_or_else(|| "–".to_owned(), significant);
    text.push_str(&facts(&[
        ("what it is for", escape(network.role.word())),
        ("ends", subject.number(&id("nodes"))),
        ("speed of a port", subject.number(&id("port-speed"))),
        ("planes", planes.to_string()),
        ("share of full bisection", subject.link(&id("bisection.ratio"), &percent(bisection.ratio))),
        ("bandwidth between halves", subject.number(&id("bisection"))),
        ("hops at most", subject.link(&id("hops.worst"), &hops.worst.to_string())),
        ("hops in the mean", subject.link(&id("hops.mean"), &mean)),
        ("power of the switches", subject.number(&id("power"))),
        ("price of the switches", subject.number(&id("price"))),
    ]));
    let picture = match network.request.topology {
        Topology::Dragonfly { .. } | Topology::DragonflyPlus { .. } => dragonfly::draw(place, network),
        Topology::Torus { dims, cube } => torus::draw(place, network, dims, cube),
        Topology::RailOptimised | Topology::FatTree | Topology::KAry { .. } | Topology::RailOnly => {
            clos::draw(subject, place, network)
        }
    };
    text.push_str(&figure(&picture.0, &picture.1, ""));
    text.push_str(&tiers(subject, network));
    put!(text, "<div class=\"pair\">{}{}</div>", segments(subject, network), losses(network));
    text.push_str("</div>\n");
    text
}

fn tiers(subject: Subject<'_>, network: &NetworkPlan) -> String {
    let rows: Vec<Vec<String>> = network
        .design
        .tiers
        .iter()
        .map(|tier| {
            let id = format!("network.{}.{}", network.name, tier.role.name());
            vec![
                escape(tier.role.name()),
                escape(&tier.switch.name),
                subject.link(&id, &count(tier.count)),
                format!("{} × {}", tier.switch.ports, escape(tier.switch.speed)),
                count(tier.ports_used),
                count(tier.ports_free),
                escape(tier.power),
                escape(tier.price.map_or_else(|| "not known".to_owned(), money)),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Tier"),
        Column::Words("Switch"),
        Column::Numbers("Count"),
        Column::Numbers("Ports of one"),
        Column::Numbers("Used, all"),
        Column::Numbers("Free, all"),
        Column::Numbers("Power"),
        Column::Numbers("Price"),
    ];
    table("Tiers, from the nodes up", &columns, &rows)
}

fn segments(subject: Subject<'_>, network: &NetworkPlan) -> String {
    let rows: Vec<Vec<String>> = network
        .design
        .segments
        .iter()
        .map(|segment| {
            let id = format!("network.{}.cables.{}", network.name, segment.kind.name());
            vec![
                escape(segment.kind.name()),
                count(segment.links),
                escape(segment.speed),
                subject.link(&id, &count(segment.cables)),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Between"),
        Column::Numbers("Links"),
        Column::Numbers("Speed of one"),
        Column::Numbers("Cables"),
    ];
    table("Links between tiers", &columns, &rows)
}

fn losses(network: &NetworkPlan) -> String {
    let part = |part: Part| match part {
        Part::Switch(role) => format!("one {} switch", role.name()),
        Part::Cable(kind) => format!("one {} cable", kind.name()),
        Part::Rail => "one rail".to_owned(),
        Part::Plane => "one plane".to_owned(),
    };
    let rows: Vec<Vec<String>> = network
        .design
        .losses()
        .iter()
        .map(|loss| {
            vec![escape(part(loss.part)), count(loss.nodes), percent(loss.bandwidth_lost), percent(loss.bisection_left)]
        })
        .collect();
    let columns = [
        Column::Words("Lost"),
        Column::Numbers("Ends hit"),
        Column::Numbers("Each loses"),
        Column::Numbers("Bisection left"),
    ];
    table("What one lost part costs", &columns, &rows)
}
