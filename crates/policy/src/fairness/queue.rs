//! What a queue is: its place in the tree, its weight, and its quotas.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kinds of resources.
pub(super) const KINDS: usize = 3;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Accelerators, in thousandths.
    AcceleratorsMilli,
    /// Processor cores, in thousandths.
    CpuMilli,
    /// Memory, in MiB.
    MemoryMib,
}

impl Resource {
    /// Every kind, in the order in which [`Amounts`] holds them.
    pub const ALL: [Self; KINDS] = [Self::AcceleratorsMilli, Self::CpuMilli, Self::MemoryMib];
}

/// An amount of each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amounts {
    /// Accelerators, in thousandths.
    pub accelerators_milli: u64,
    /// Processor cores, in thousandths.
    pub cpu_milli: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl Amounts {
    /// Nothing.
    pub const NONE: Self = Self { accelerators_milli: 0, cpu_milli: 0, memory_mib: 0 };
    /// No bound.
    pub const ALL: Self = Self { accelerators_milli: u64::MAX, cpu_milli: u64::MAX, memory_mib: u64::MAX };

    /// As an array, in the order of [`Resource::ALL`].
    pub const fn each(self) -> [u64; KINDS] {
        [self.accelerators_milli, self.cpu_milli, self.memory_mib]
    }

    fn of(each: [u64; KINDS]) -> Self {
        let [accelerators_milli, cpu_milli, memory_mib] = each;
        Self { accelerators_milli, cpu_milli, memory_mib }
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let other = other.each();
        let mut index = 0;
        Self::of(self.each().map(|amount| {
            index += 1;
            with(amount, other[index - 1])
        }))
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What is left without `other`; no less than nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    /// The smaller amount of each.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        self.zip(other, u64::min)
    }

    /// The first resource of which this is more than `bound`.
    pub fn beyond(self, bound: Self) -> Option<Resource> {
        let pairs = self.each().into_iter().zip(bound.each());
        Resource::ALL.into_iter().zip(pairs).find(|(_, (amount, bound))| amount > bound).map(|(kind, _)| kind)
    }
}

/// A queue of the tree: its position there, the root being 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u32);

/// A queue: of a department, a team, a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Its name, for people.
    pub name: String,
    /// Its share, relative to its siblings'.
    pub weight: u32,
    /// What it gets back at any time, by preemption if it was lent out. No more in sum over siblings than their parent has.
    pub guaranteed: Amounts,
    /// How much of an idle guarantee others may borrow.
    pub lends: Amounts,
    /// The most it may hold, borrowed or not.
    pub limit: Amounts,
}

impl Queue {
    /// A queue of weight 1 that owns nothing, may borrow everything, and lends what it is given.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), weight: 1, guaranteed: Amounts::NONE, lends: Amounts::ALL, limit: Amounts::ALL }
    }
}

/// Which quota keeps a job waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// The queue's own limit: nothing but an end in this queue helps.
    Limit,
    /// It is within the queue's guarantee, and others have borrowed it: they can be made to give it back.
    Guarantee,
    /// It would have to be borrowed, and nothing is left to lend.
    Lent,
}

/// Why a job may not start: the first queue on the way to the root that refuses, and what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The queue that refuses.
    pub queue: QueueId,
    /// Its quota.
    pub quota: Quota,
    /// The first resource that is short.
    pub resource: Resource,
}

/// Why a queue cannot be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no such parent.
    NoParent(QueueId),
    /// A weight of zero is no share at all.
    NoWeight(String),
    /// The children of this queue would be guaranteed more of this than it has.
    Overbooked(QueueId, Resource),
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoParent(parent) => write!(f, "there is no queue {} to be the parent", parent.0),
            Self::NoWeight(name) => write!(f, "the weight of queue {name} must be at least 1"),
            Self::Overbooked(queue, resource) => {
                write!(f, "the children of queue {} would be guaranteed more {resource:?} than it has", queue.0)
            }
        }
    }
}
