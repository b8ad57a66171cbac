//! What a caller asks for.

use std::collections::BTreeMap;

use dh_core::time::Span;
use serde::{Deserialize, Serialize};

/// A job as submitted. Everything that decides is in here; secrets are not, only what they are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// A name for people; not unique.
    pub name: String,
    /// Program and arguments, the same for every rank.
    pub command: Vec<String>,
    /// Environment of every rank.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Ranks of the gang; they start together or not at all.
    pub ranks: u32,
    /// Accelerator slots of one rank, all on one node.
    pub slots_per_rank: u32,
    /// What a rank needs of its one slot, if that is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The queue.
    pub queue: String,
    /// Added to the queue's priority.
    #[serde(default)]
    pub priority: i32,
    /// How many failed attempts are tried again. Attempts lost with a node or a server do not count.
    #[serde(default)]
    pub retries: u32,
    /// Longest time of one attempt.
    #[serde(default)]
    pub time_limit: Option<Span>,
    /// Memory of one rank, in bytes.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Ends by itself, or is kept alive.
    #[serde(default)]
    pub kind: JobKind,
    /// The workload of the blueprint that this job is a run of.
    #[serde(default)]
    pub workload: Option<String>,
    /// The fewest ranks with which it starts and goes on, if it is elastic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks_min: Option<u32>,
    /// The level of the hall's tree in one domain of which all ranks must be, such as `rack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Data in the store that it reads, `s3://BUCKET/PREFIX`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<String>,
    /// The seed of the order in which it reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_seed: Option<u64>,
    /// Where it keeps what it goes on from, `s3://BUCKET/PREFIX`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<String>,
    /// Variables whose values are secrets, each with the name under which the hall's server keeps it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// The only nodes that it may run on, by their names; all if there are none here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Nodes that it may not run on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub avoid_nodes: Vec<String>,
}

/// A part of one accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Part {
    /// A share of its time and its memory.
    Share {
        /// Thousandths of it, 1 to 999.
        milli: u16,
        /// The memory of it that the rank may use, bytes.
        #[serde(default)]
        memory_bytes: Option<u64>,
    },
    /// A slice that it is cut into.
    Slice {
        /// The profile's name.
        profile: String,
        /// Thousandths of the accelerator, 1 to 1,000.
        milli: u16,
        /// Slots of the accelerator that it takes, 1 to 8.
        size: u8,
        /// Where it may begin, a bit for each slot.
        starts: u8,
    },
}

impl Part {
    /// Thousandths of the accelerator.
    pub const fn milli(&self) -> u16 {
        match self {
            Self::Share { milli, .. } | Self::Slice { milli, .. } => *milli,
        }
    }
}

/// Whether a job ends by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum JobKind {
    /// Runs to its end.
    #[default]
    Batch,
    /// Kept running: one replica of a model service.
    Service {
        /// The service of the blueprint or of a `serve` command.
        service: String,
        /// The model name under which the gateway offers it.
        model: String,
        /// What its listener speaks.
        protocol: Protocol,
    },
}

/// What a service's listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI-style chat and completions.
    Chat,
    /// Open Inference Protocol v2.
    Inference,
}

impl JobKind {
    /// Whether this is kept alive.
    pub const fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}
