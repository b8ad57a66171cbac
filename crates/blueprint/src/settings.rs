//! What a blueprint says, typed and checked. Only [`crate::Blueprint::parse`] makes it; nothing further down sees TOML.
//! Each section's settings are in the file that reads it, `read/*.rs`.
//!
//! Invariant: every reference resolves, every default is filled in, maps are ordered by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
pub use crate::read::cluster::Cluster;
pub use crate::read::edge::Edge;
pub use crate::read::fabric::{Fabric, Role, Topology};
pub use crate::read::gateway::{CLASSES, Gateway, ROUTING};
pub use crate::read::policy::Policy;
pub use crate::read::policy::scheduling;
pub use crate::read::pool::{OwnNode, Pool};
pub use crate::read::queue::Queue;
pub use crate::read::service::{CacheFormat, Service, ServiceLayout, ServiceSource, ServingEngine, WeightFormat};
pub use crate::read::service_facts::{ServiceFacts, ServiceRole, ServiceScale};
pub use crate::read::site::{PueSplit, Site};
pub use crate::read::store::{Code as ErasureCode, Compression, Durability, Encryption, Store};
pub use crate::read::target::{Executor, State, Target};
pub use crate::read::tier::{Tier, TierPlace};
pub use crate::read::workload::{
    Command, Optimise, PinnedLayout, Precision, Pretrain, Shape, Train, Workload, WorkloadKind,
};
pub use crate::read::zone::{Allow, Member, Zone};

/// A whole hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The hall's name.
    pub name: String,
    /// Buildings with their electricity; at least one.
    pub sites: BTreeMap<String, Site>,
    /// Groups of equal nodes; at least one.
    pub pools: BTreeMap<String, Pool>,
    /// Networks; none where nodes need no plan of cables.
    pub fabrics: BTreeMap<String, Fabric>,
    /// Object stores; at least one.
    pub stores: BTreeMap<String, Store>,
    /// Where jobs wait; at least one.
    pub queues: BTreeMap<String, Queue>,
    /// Security zones and what may pass between them.
    pub zones: BTreeMap<String, Zone>,
    /// Jobs that can be submitted by name, or planned.
    pub workloads: BTreeMap<String, Workload>,
    /// Models that are served.
    pub services: BTreeMap<String, Service>,
    /// How requests to models go through the hall.
    pub gateway: Gateway,
    /// Limits and rules of the whole hall.
    pub policy: Policy,
    /// Small sites far away that go on alone.
    pub edges: BTreeMap<String, Edge>,
    /// How and where the hall runs.
    pub target: Target,
    /// The catalogue, with what the blueprint adds or overrides.
    pub catalog: Catalog,
}

impl Settings {
    /// Slots of all pools together.
    pub fn slots(&self) -> u64 {
        self.pools.values().map(|pool| u64::from(pool.nodes) * u64::from(pool.slots)).sum()
    }

    /// Nodes of all pools together.
    pub fn nodes(&self) -> u64 {
        self.pools.values().map(|pool| u64::from(pool.nodes)).sum()
    }

    /// Sections and keys that are written and that a running hall does not act on yet, as `zone.compute` or
    /// `policy.power_cap`. A rule that is written down and silently not enforced is worse than none, so whoever runs a hall must
    /// say this aloud.
    pub fn not_enforced(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut all = |kind: &str, group: Vec<&String>| names.extend(group.iter().map(|name| format!("{kind}.{name}")));
        all("fabric", self.fabrics.keys().collect());
        all("zone", self.zones.keys().collect());
        all("edge", self.edges.keys().collect());
        let timed = self.queues.iter().filter(|(_, queue)| queue.max_time.is_some());
        names.extend(timed.map(|(name, _)| format!("queue.{name}.max_time")));
        names.extend(self.policy.not_enforced().map(|key| format!("policy.{key}")));
        names
    }
}
