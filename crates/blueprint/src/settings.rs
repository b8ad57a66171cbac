//! What a blueprint says, typed and checked. Only [`crate::Blueprint::parse`] makes it; nothing further down sees TOML.
//!
//! Invariant: every reference resolves, every default is filled in, maps are ordered by name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dh_units::{Bytes, GramsPerKwh, Seconds, UsdPerKwh, Watts};
use serde::{Deserialize, Serialize};

use crate::DenseModel;

/// A whole hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The hall's name.
    pub name: String,
    /// Buildings with their electricity; at least one.
    pub sites: BTreeMap<String, Site>,
    /// Groups of equal nodes; at least one.
    pub pools: BTreeMap<String, Pool>,
    /// Object stores; at least one.
    pub stores: BTreeMap<String, Store>,
    /// Where jobs wait; at least one.
    pub queues: BTreeMap<String, Queue>,
    /// Jobs that can be submitted by name.
    pub workloads: BTreeMap<String, Workload>,
    /// Models that are served.
    pub services: BTreeMap<String, Service>,
    /// How and where the hall runs.
    pub target: Target,
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
}

/// A building.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Power usage effectiveness, the ratio of the building's power to that of its computers; at least 1.
    pub pue: f64,
    /// What electricity costs.
    pub price: UsdPerKwh,
    /// What electricity emits, where known.
    pub carbon: Option<GramsPerKwh>,
}

/// A group of equal nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// How many.
    pub nodes: u32,
    /// The catalogue item each one is.
    pub node: String,
    /// Accelerator slots of each node; on `this-machine` cores stand in for accelerators.
    pub slots: u32,
    /// Where they stand.
    pub site: String,
    /// Rated power in place of the catalogue's.
    pub rated: Option<Watts>,
    /// Idle power in place of the catalogue's.
    pub idle: Option<Watts>,
}

/// Whether a store compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Objects that shrink are kept compressed.
    #[default]
    Auto,
    /// Objects are kept as they came.
    Off,
}

/// An object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// The most it may hold; all of the drive if not given.
    pub capacity: Option<Bytes>,
    /// Memory for what is read often.
    pub cache: Bytes,
    /// Whether objects are compressed.
    pub compression: Compression,
}

/// A queue of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Higher goes first; -1000 to 1000.
    pub priority: i32,
    /// The most jobs that may wait or run at once.
    pub max_jobs: Option<u32>,
}

/// A job that can be submitted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Processes that start together or not at all.
    pub ranks: u32,
    /// Slots of each rank, all on one node.
    pub slots_per_rank: u32,
    /// Attempts after the first.
    pub retries: u32,
    /// Where it waits.
    pub queue: String,
    /// Where its data and checkpoints are.
    pub store: String,
    /// The most memory one rank may use.
    pub memory: Option<Bytes>,
    /// The longest it may run.
    pub time_limit: Option<Seconds>,
    /// What it does.
    #[serde(flatten)]
    pub kind: WorkloadKind,
}

/// What a workload does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkloadKind {
    /// Built-in training.
    Train(Train),
    /// Any program.
    Command(Command),
}

/// Built-in data-parallel training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// The network.
    pub model: DenseModel,
    /// The data set's name.
    pub dataset: String,
    /// Passes over the data.
    pub epochs: u32,
    /// Samples of one step, over all ranks; a multiple of the ranks.
    pub batch: u32,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Where every random choice starts from.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u32,
}

/// A program that the executor starts once per rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables added for it.
    pub env: BTreeMap<String, String>,
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Where answers come from.
    pub source: ServiceSource,
    /// Copies that run at once; one for an engine at a URL.
    pub replicas: u32,
}

/// Where a service's answers come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceSource {
    /// A model of the catalogue, run by the built-in engine.
    Model(String),
    /// The newest checkpoint of a training workload.
    Workload(String),
    /// An engine that runs already.
    Url(String),
}

/// What starts processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// Processes of this machine.
    #[default]
    Local,
}

/// How and where the hall runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The address every listener binds.
    pub listen: IpAddr,
    /// Whether an address beyond this machine was asked for knowingly.
    pub expose: bool,
    /// Port of the hall's API and pages; 0 is any free one.
    pub api_port: u16,
    /// Port of the model gateway; 0 is any free one.
    pub gateway_port: u16,
    /// Port of the object store; 0 is any free one.
    pub store_port: u16,
    /// What starts processes.
    pub executor: Executor,
}
