//! What is asked of a network, followed down to the lines of its fabric, the ports of its nodes, and what is assumed.
//!
//! Invariant: every number that the model of networks starts from is entered here or beside it, before the model enters its own;
//! so none of them rests on the fabric as a whole.

use dh_blueprint::{Fabric, Kind, Role, Sourced};
use dh_fabric::Request;
use dh_units::BitsPerSec;

use crate::book::Book;
use crate::networks::{Counting, EndOf, Ends, MANAGEMENT_SPEED};
use crate::pools::PoolPlan;

/// Enters ports and speed of the ends, planes, ratios and free ports under `network.NAME`.
pub(crate) fn asked(
    book: &mut Book<'_>,
    name: &str,
    fabric: &Fabric,
    request: &Request,
    ends: &Ends,
    pools: &[PoolPlan],
) {
    let id = |key: &str| format!("network.{name}.{key}");
    let said = "as the blueprint says";
    let ports = ports(book, name, fabric, ends, pools);
    let (formula, inputs) = match ends.count {
        Counting::Nodes => ("of a node, each a rail", ports.as_slice()),
        Counting::Ports => ("ends are counted port by port", ports.as_slice()),
        Counting::Chips { .. } => {
            ("a torus joins each accelerator to two others in three dimensions", ports.as_slice())
        }
    };
    book.sum(&id("ports-per-node"), "ports of an end", request.ports_per_node, formula, inputs);
    let (formula, inputs) = if let Some(speed) = fabric.port_speed {
        (said, vec![book.says(&format!("fabric.{name}.port_speed"), "speed of a node port", speed)])
    } else {
        ("of the catalogue; of different nodes the slowest", speeds(book, name, fabric.role, ends, pools))
    };
    book.sum(&id("port-speed"), "speed of a node port", request.port_speed, formula, &inputs);
    for (key, path, title, value) in [
        ("planes", "planes", "planes", request.planes),
        ("manager-ports", "managers", "ports of fabric managers", request.extra_ports),
        ("spare-ports", "spare_ports", "ports left free on each leaf", request.spare_ports),
    ] {
        let input = book.says(&format!("fabric.{name}.{path}"), title, value);
        book.sum(&id(key), title, value, said, &[input]);
    }
    if request.leaf.uplinks.is_none() {
        let title = "down to up at the leaf";
        let input = book.says(&format!("fabric.{name}.oversubscription"), title, fabric.oversubscription);
        let formula = "as the blueprint says, as a ratio of whole numbers";
        book.sum(&id("oversubscription"), title, request.oversubscription.as_f64(), formula, &[input]);
    }
    let source = "stated assumption: spines of three tiers do not block";
    let ratio = request.spine_oversubscription.as_f64();
    book.ledger.given(&id("spine-oversubscription"), "down to up at the spine", ratio, source);
}

fn members<'p>(ends: &'p Ends, pools: &'p [PoolPlan]) -> impl Iterator<Item = &'p PoolPlan> {
    ends.ranges.iter().filter_map(|range| match &range.of {
        EndOf::Pool(place) => pools.get(*place),
        EndOf::Switches(..) => None,
    })
}

/// Where the numbers of ports come from.
pub(crate) fn ports(book: &mut Book<'_>, name: &str, fabric: &Fabric, ends: &Ends, pools: &[PoolPlan]) -> Vec<String> {
    if let Counting::Chips { dims, .. } = ends.count {
        let id = format!("network.{name}.dims");
        let [x, y, z] = dims;
        let source = book.origin(&format!("fabric.{name}.dims"));
        book.ledger.given(&id, "accelerators of the torus", format!("{x} x {y} x {z}").as_str(), &source);
        return vec![id];
    }
    if let Some(ports) = fabric.ports_per_node {
        return vec![book.says(&format!("fabric.{name}.ports_per_node"), "ports of a node", ports)];
    }
    let mut ids = Vec::new();
    for pool in members(ends, pools) {
        let item = &pool.item;
        let (key, count) = match fabric.role {
            Role::Compute => ("compute_ports", &item.compute_ports),
            Role::Storage => ("storage_ports", &item.storage_ports),
            Role::InBand => ("in_band_ports", &item.in_band_ports),
            Role::OutOfBand => ("out_of_band_ports", &item.out_of_band_ports),
        };
        push(&mut ids, count.as_ref().map(|count| book.fact(Kind::Node, &item.name, key, "ports of a node", count)));
    }
    ids
}

/// Where the speed of the ports comes from, if the blueprint does not say it.
fn speeds(book: &mut Book<'_>, name: &str, role: Role, ends: &Ends, pools: &[PoolPlan]) -> Vec<String> {
    let mut ids = Vec::new();
    for pool in members(ends, pools) {
        let item = &pool.item;
        let (key, speed): (&str, &Option<Sourced<BitsPerSec>>) = match role {
            Role::Compute => ("compute_speed", &item.compute_speed),
            Role::Storage => ("storage_speed", &item.storage_speed),
            Role::InBand => ("in_band_speed", &item.in_band_speed),
            Role::OutOfBand => {
                let id = format!("network.{name}.management-speed");
                let source = "IEEE 802.3ab: a service processor speaks 1 Gb/s; faster ones fall back to it";
                book.ledger.given(&id, "speed of a management port", MANAGEMENT_SPEED, source);
                return vec![id];
            }
        };
        push(&mut ids, speed.as_ref().map(|speed| book.fact(Kind::Node, &item.name, key, "speed of a port", speed)));
    }
    ids
}

fn push(ids: &mut Vec<String>, id: Option<String>) {
    ids.extend(id.filter(|id| !ids.contains(id)));
}
