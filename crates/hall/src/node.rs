//! Nodes and queues.

use std::collections::BTreeMap;

use dh_core::{AttemptId, NodeId, Rank};
use serde::{Deserialize, Serialize};

/// A node as the blueprint describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name, such as `local-0`.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Accelerator slots.
    pub slots: u32,
}

/// A queue as the blueprint describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// Added to the priority of its jobs.
    pub priority: i32,
    /// Jobs that may be open in it at once.
    pub max_jobs: Option<u32>,
    /// The queue of which it is a part.
    #[serde(default)]
    pub parent: Option<String>,
    /// Its weight beside other queues; 0 counts as 1.
    #[serde(default)]
    pub share: u32,
    /// Slots that its jobs may hold at once.
    #[serde(default)]
    pub quota: Option<u32>,
    /// Slots that its jobs may take back from queues that hold more than is theirs.
    #[serde(default)]
    pub guarantee: u32,
    /// How many of those others may borrow while they are idle; none is all.
    #[serde(default)]
    pub lends: Option<u32>,
    /// Whether its jobs may stop running jobs of lower priority.
    #[serde(default)]
    pub preempts: bool,
}

/// Whether a node may take work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It may.
    Up,
    /// An operator keeps new work away; what runs goes on.
    Drained,
}

/// A node with its owners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its description.
    pub spec: NodeSpec,
    /// Whether it may take work.
    pub health: Health,
    /// The owner of each busy slot.
    pub busy: BTreeMap<u32, (AttemptId, Rank)>,
}

impl Node {
    /// Slots that new work may take.
    pub fn free(&self) -> u32 {
        match self.health {
            Health::Up => {
                let busy = u32::try_from(self.busy.len()).unwrap_or(u32::MAX);
                self.spec.slots.saturating_sub(busy)
            }
            Health::Drained => 0,
        }
    }

    pub(crate) fn release(&mut self, attempt: AttemptId) {
        self.busy.retain(|_, owner| owner.0 != attempt);
    }
}

/// The key under which a node stands in the hall.
pub(crate) type Nodes = BTreeMap<NodeId, Node>;
