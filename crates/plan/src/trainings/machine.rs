//! What a training runs on, as the models of performance see it: accelerators of its pool, and the network between them.

use dh_blueprint::{AcceleratorItem, Role};
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::hardware::{Accelerator, Machine, Network};
use dh_units::{BitsPerSec, BytesPerSec, significant};

use crate::book::Book;
use crate::networks::{Counting, EndOf, NetworkPlan};
use crate::pools::PoolPlan;

/// Accelerators of the largest scale-up domain that is a node and not a rack.
const NODE_DOMAIN: u32 = 8;

/// Line rate of an accelerator where no network is planned and the catalogue knows no ports of its node: what nodes of eight
/// have been sold with since 2023. Stated assumption.
const USUAL: BitsPerSec = BitsPerSec(400e9);

/// A machine, and the number that its network rests on.
pub(super) struct Found {
    pub(super) machine: Machine,
    /// Id of the line rate of one accelerator, if there is a network.
    pub(super) network: Option<String>,
}

/// The machine of `pool`, whose accelerators are `item`.
/// # Errors
/// Why the models cannot know it.
pub(super) fn machine(
    book: &mut Book<'_>,
    prefix: &str,
    (place, pool): (usize, &PoolPlan),
    item: &AcceleratorItem,
    networks: &[NetworkPlan],
) -> Result<Found, String> {
    let accelerator = Accelerator::of(item).map_err(|error| error.to_string())?;
    let (network, id) = match network(book, prefix, (place, pool), networks) {
        Some((network, id)) => (Some(network), Some(id)),
        None => (None, None),
    };
    let mut machine = Machine::new(accelerator, network);
    let domain = &mut machine.fabric.scale_up.accelerators;
    if *domain <= NODE_DOMAIN {
        // A node may hold fewer than its links could join.
        *domain = (*domain).min(pool.accelerators_per_node).max(1);
    }
    Ok(Found { machine, network: id })
}

/// What one accelerator of `pool` has of the compute network to itself; nothing where accelerators are a torus, which is their
/// scale-up network.
fn network(
    book: &mut Book<'_>,
    prefix: &str,
    (place, pool): (usize, &PoolPlan),
    networks: &[NetworkPlan],
) -> Option<(Network, String)> {
    let id = format!("{prefix}.network");
    let title = "network of each accelerator";
    let joins = |network: &&NetworkPlan| {
        network.role == Role::Compute && network.ends.ranges.iter().any(|range| range.of == EndOf::Pool(place))
    };
    let per_node = f64::from(pool.accelerators_per_node.max(1));
    if let Some(planned) = networks.iter().find(joins) {
        if matches!(planned.ends.count, Counting::Chips { .. }) {
            return None;
        }
        let range = planned.ends.ranges.iter().find(|range| range.of == EndOf::Pool(place))?;
        let speed = planned.request.port_speed;
        let rate = speed * (f64::from(range.ports) / per_node);
        let inputs = [format!("network.{}.port-speed", planned.name)];
        let inputs: Vec<String> = inputs.into_iter().filter(|id| book.ledger.get(id).is_some()).collect();
        let formula =
            format!("{} ports of a node x {speed} / {} accelerators", range.ports, pool.accelerators_per_node);
        book.sum(&id, title, rate, formula, &inputs);
        let ratio = planned.design.bisection().ratio;
        let leaf = book.settings.catalog.switch(&planned.request.leaf.name);
        let speaks = leaf.and_then(|leaf| leaf.fabric.as_ref()).map_or("", |fabric| fabric.value.as_str());
        let network = Network {
            bandwidth: BytesPerSec::from(rate),
            oversubscription: if ratio > 0.0 { (1.0 / ratio).max(1.0) } else { 1.0 },
            in_network: leaf.is_some_and(|leaf| leaf.in_network_reduction.is_some()),
            profile: profile(speaks),
        };
        return Some((network, id));
    }
    let (rate, source) = match (&pool.item.compute_ports, &pool.item.compute_speed) {
        (Some(ports), Some(speed)) if ports.value > 0 => {
            let rate = speed.value * (f64::from(ports.value) / per_node);
            let each = significant(f64::from(ports.value) / per_node);
            (rate, format!("no compute network is planned; the catalogue's nodes have {each} ports of {}", speed.value))
        }
        _ => (USUAL, "no compute network is planned; stated assumption: what such nodes are sold with".to_owned()),
    };
    book.ledger.given(&id, title, rate, &source);
    let network = Network {
        bandwidth: BytesPerSec::from(rate),
        oversubscription: 1.0,
        in_network: false,
        profile: ScaleOutProfile::UNKNOWN,
    };
    Some((network, id))
}

/// The kind of network that switches speak.
fn profile(speaks: &str) -> ScaleOutProfile {
    if speaks.contains("InfiniBand") {
        ScaleOutProfile::INFINIBAND
    } else if speaks.contains("Ethernet") {
        ScaleOutProfile::ROCE
    } else {
        ScaleOutProfile::UNKNOWN
    }
}
