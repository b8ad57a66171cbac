//! What jobs of a hall share beside its nodes: what stores read and write, and uplinks of blocks that are not as wide as
//! what hangs on them.
//!
//! Invariant: capacities are those of the plan: drives and ports of stores, ports and oversubscription of the compute network.

use dh_blueprint::{Role, Settings, Topology};
use dh_plan::Plan;
use dh_units::whole;

use crate::kernel::{Reach, Resource};
use dh_hall::layout::{BLOCK, Layout};

/// The name of a store's reading, as a resource.
pub(super) fn read_of(store: &str) -> String {
    format!("store.{store}.read")
}

/// The name of a store's writing.
pub(super) fn write_of(store: &str) -> String {
    format!("store.{store}.write")
}

/// The name of a network's uplinks.
pub(super) fn uplinks_of(fabric: &str) -> String {
    format!("fabric.{fabric}.uplinks")
}

/// What is shared.
pub(super) fn resources(settings: &Settings, plan: &Plan, drafted: &Layout, notes: &mut Vec<String>) -> Vec<Resource> {
    let mut resources = Vec::new();
    for store in &plan.stores {
        for (name, rate) in [(read_of(&store.name), store.read), (write_of(&store.name), store.write)] {
            resources.push(Resource { name, capacity: whole(rate.0.max(1.0)), reach: Reach::Hall });
        }
    }
    for (name, fabric) in settings.fabrics.iter().filter(|(_, fabric)| fabric.role == Role::Compute) {
        match fabric.topology {
            Topology::Rail | Topology::FatTree | Topology::RailOnly => {}
            Topology::KAry { .. } | Topology::Dragonfly { .. } | Topology::DragonflyPlus { .. } => {
                notes.push(format!("network `{name}`: groups and global links are not modelled"));
            }
            Topology::Torus { .. } => continue,
        }
        let node = fabric.pools.iter().find_map(|pool| node_bytes(settings, name, pool));
        let Some(node) = node.filter(|_| fabric.oversubscription > 1.0) else { continue };
        let capacity = whole(node * f64::from(drafted.together.block) / fabric.oversubscription);
        resources.push(Resource { name: uplinks_of(name), capacity: capacity.max(1), reach: Reach::Uplinks(BLOCK) });
    }
    resources
}

/// What a node of a pool sends into a network, bytes a second.
pub(super) fn node_bytes(settings: &Settings, fabric: &str, pool: &str) -> Option<f64> {
    let fabric = settings.fabrics.get(fabric)?;
    let item = settings.pools.get(pool).filter(|pool| pool.slots > 0)?.item(&settings.catalog)?;
    let ports = fabric.ports_per_node.or(item.compute_ports.as_ref().map(|ports| ports.value))?;
    let speed = fabric.port_speed.or(item.compute_speed.as_ref().map(|speed| speed.value))?;
    Some(f64::from(ports) * speed.0 / 8.0)
}
