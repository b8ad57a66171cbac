//! Nodes and queues.

use std::collections::BTreeMap;

use dh_core::{AttemptId, NodeId, Rank};
use dh_policy::fleet::{ACCELERATORS_MAX, NodeFacts, Service};
use dh_policy::packing::WHOLE;
use serde::{Deserialize, Serialize};

use crate::job::{Held, Placed};

/// A node as the blueprint describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name, such as `local-0`.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Accelerator slots.
    pub slots: u32,
    /// What the scheduler knows of it beyond its slots; a log of before this was known has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<NodeFacts>,
}

impl NodeSpec {
    /// What the scheduler is told of it.
    pub(crate) fn told(&self) -> NodeFacts {
        let accelerators = u8::try_from(self.slots).unwrap_or(u8::MAX).min(ACCELERATORS_MAX);
        let unknown =
            || NodeFacts { class: 0, accelerators, cpu_milli: u32::MAX, memory_mib: u32::MAX, path: Vec::new() };
        self.facts.clone().map_or_else(unknown, |facts| NodeFacts { accelerators, ..facts })
    }

    /// Whether it is the same node, whatever more or less is known of it.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (&self.name, &self.pool, self.slots) == (&other.name, &other.pool, other.slots)
    }
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
    /// Why the executor's own system gives it no work, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// The owner of each slot that has one owner.
    pub busy: BTreeMap<u32, (AttemptId, Rank)>,
    /// The owners of each slot that is given out in parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<u32, Vec<PartOwner>>,
}

/// Who has a part of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOwner {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its rank.
    pub rank: Rank,
    /// What it has.
    pub held: Held,
}

impl Node {
    /// Slots of which anything is given out.
    pub fn taken(&self) -> u32 {
        u32::try_from(self.busy.len() + self.parts.len()).unwrap_or(u32::MAX)
    }

    /// Whole slots that new work may take.
    pub fn free(&self) -> u32 {
        match self.health {
            Health::Up if self.down.is_none() => self.spec.slots.saturating_sub(self.taken()),
            Health::Up | Health::Drained => 0,
        }
    }

    /// What the scheduler is told of it. A node that is down is drained for it: whoever runs there ends rank by rank, as the
    /// executor finds out.
    pub(crate) fn service(&self) -> Service {
        match self.health {
            Health::Up if self.down.is_none() => Service::Up,
            Health::Up | Health::Drained => Service::Drained,
        }
    }

    pub(crate) fn release(&mut self, attempt: AttemptId) {
        self.busy.retain(|_, owner| owner.0 != attempt);
        for owners in self.parts.values_mut() {
            owners.retain(|owner| owner.attempt != attempt);
        }
        self.parts.retain(|_, owners| !owners.is_empty());
    }

    /// A rank owns `slot`, or its part of it.
    pub(crate) fn give(&mut self, slot: u32, attempt: AttemptId, placed: &Placed) {
        match placed.held {
            None => {
                self.busy.insert(slot, (attempt, placed.rank));
            }
            Some(held) => {
                self.parts.entry(slot).or_default().push(PartOwner { attempt, rank: placed.rank, held });
            }
        }
    }

    /// What must hold of parts.
    ///
    /// # Panics
    /// If parts of a slot overlap, are more than the whole, or one of them is somebody's whole slot.
    pub(crate) fn check_parts(&self) {
        for (slot, owners) in &self.parts {
            assert!(!self.busy.contains_key(slot), "slot {slot} is given out in parts and as a whole");
            let milli: u32 = owners.iter().map(|owner| u32::from(owner.held.milli)).sum();
            assert!(milli <= u32::from(WHOLE), "slot {slot} is given out more than once");
            let mut cut = 0_u8;
            for owner in owners {
                assert_eq!(cut & owner.held.cut, 0, "slices of slot {slot} overlap");
                cut |= owner.held.cut;
            }
            let cuts = owners.iter().filter(|owner| owner.held.cut != 0).count();
            assert!(cuts == 0 || cuts == owners.len(), "slot {slot} is shared and cut");
        }
    }
}

/// The key under which a node stands in the hall.
pub(crate) type Nodes = BTreeMap<NodeId, Node>;
