//! How a scheduler decides: policies by name, and the limits that go with them.

use dh_core::time::Span;
use dh_core::{HasKind, Kind};
use dh_policy::fairness::Stretch;
use dh_policy::fleet::NodeFacts;
use dh_policy::order::Order;
use dh_policy::placement::Shaped;
use dh_policy::sharing::Contention;
use dh_policy::torus::{Bad, Wiring};
use dh_policy::{health, order, placement, prediction};
use serde::{Deserialize, Serialize};

use super::event::QueueRules;

/// Everything that is fixed while a scheduler runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What the levels of the tree are called, outermost first.
    pub levels: Vec<String>,
    /// The nodes; the place in the list is the [`dh_core::NodeId`].
    pub nodes: Vec<NodeFacts>,
    /// Tori that nodes make.
    #[serde(default)]
    pub tori: Vec<Wiring>,
    /// The queues; the place in the list is the [`super::QueueId`].
    pub queues: Vec<QueueRules>,
    /// A name in [`order::POLICIES`].
    pub order: String,
    /// A name in [`placement::POLICIES`].
    pub placement: String,
    /// What may run before a job that is ahead in the line and does not fit.
    pub backfill: Backfill,
    /// How capacity is divided among queues.
    pub sharing: Sharing,
    /// How long freed capacity belongs to the job for which others were stopped.
    pub claim: Span,
    /// How long a job runs at least before one that is ahead in the order alone, not by priority, may displace it.
    pub quantum: Span,
    /// How long a gang that lost ranks keeps its other nodes while it waits for a repair.
    pub repair: Span,
    /// A job that has waited this long is not overtaken any more; `None` is no bound.
    pub patience: Option<Span>,
    /// An elastic gang is not resized more often than this to give it what nobody else can use; `None` is never.
    pub grow_after: Option<Span>,
    /// When a node is kept away on evidence.
    pub health: health::Rules,
    /// A node that has been idle this long is sent to sleep; `None` is never.
    pub sleep_after: Option<Span>,
    /// All jobs are arranged anew ([`dh_policy::rounds`]) in place of one displacement after another, no more often than this;
    /// `None` is never.
    #[serde(default)]
    pub rounds: Option<Span>,
    /// In rounds, jobs whose stages interleave share accelerators, at this cost; `None` is never.
    #[serde(default)]
    pub interleave: Option<Contention>,
    /// How lengths that nobody told are predicted; `None` is not at all.
    #[serde(default)]
    pub predict: Option<Predict>,
    /// The bound on how far the order may set a job back; `None` is none.
    #[serde(default)]
    pub stretch: Option<Stretch>,
}

/// How lengths are predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predict {
    /// What is remembered of jobs that ended.
    pub history: prediction::Settings,
    /// Which answer is taken.
    pub statistic: prediction::Statistic,
    /// What a prediction is good for.
    pub good_for: GoodFor,
    /// What is learned.
    #[serde(default)]
    pub learn: Learn,
}

/// What is learned of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// How long those were that ended.
    #[default]
    Lengths,
    /// Of those that ran so long, how many ended soon after ([`order::gittins::History`]), running ones as far as they got.
    /// The answer is the effective remaining time, whatever the statistic.
    Hazards,
}

/// What a prediction is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodFor {
    /// The order of the line. To backfill the job's length is unknown, so no promise rests on it.
    Order,
    /// Backfill too. A job that outlives its prediction is predicted anew at that moment, what was planned on it is planned
    /// again, and it is counted ([`super::Scheduler::overruns`]).
    Plans,
}

/// What may run before a job that is ahead in the line and does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "backfill")]
pub enum Backfill {
    /// Nothing.
    None,
    /// Whatever fits: large jobs may starve.
    Any,
    /// Whatever does not delay the first of those that wait.
    Easy,
    /// Whatever delays none of the first so many that wait.
    Conservative {
        /// Jobs with a reservation, at most.
        reservations: u32,
    },
}

/// How capacity is divided among queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "sharing")]
pub enum Sharing {
    /// All jobs stand in one line.
    OneLine,
    /// Each queue has its line. The one that has and had least of its share goes first, level by level of the queues' tree.
    Fair {
        /// After this time usage counts half.
        half_life: Span,
    },
}

impl Default for Settings {
    /// No nodes and one queue, first in first out, topology packing, backfill with one reservation.
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            nodes: Vec::new(),
            tori: Vec::new(),
            queues: vec![QueueRules::default()],
            order: "fifo".to_owned(),
            placement: "best".to_owned(),
            backfill: Backfill::Easy,
            sharing: Sharing::OneLine,
            claim: Span::from_secs(600),
            quantum: Span::from_secs(60),
            repair: Span::from_secs(1800),
            patience: None,
            grow_after: Some(Span::from_secs(600)),
            health: health::Rules::default(),
            sleep_after: None,
            rounds: None,
            interleave: None,
            predict: None,
            stretch: None,
        }
    }
}

/// Why settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such policy.
    #[error("there is no {what} `{name}`; there is {known}")]
    Unknown {
        /// Which kind of policy.
        what: &'static str,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A node that the tree or the bounds do not allow.
    #[error(
        "node {0} stands where no node can: its path has another length than the levels, its domain was left before it, or it has too many accelerators"
    )]
    Node(usize),
    /// Nodes that cannot make a torus.
    #[error("no torus: {0}")]
    Torus(Bad),
    /// There is no queue, or there are too many.
    #[error("a scheduler has 1 to 65,535 queues, not {0}")]
    Queues(usize),
    /// A parent that is not there, or a queue that stands above itself.
    #[error("the parent of queue {0} is not there, or stands below it")]
    Parent(usize),
    /// A guarantee that cannot be kept.
    #[error("queue {0} is guaranteed more than what is left of its parent's guarantee, or of the hall")]
    Overbooked(usize),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } => Kind::NotFound,
            Self::Node(_) | Self::Torus(_) | Self::Queues(_) | Self::Parent(_) | Self::Overbooked(_) => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

impl Settings {
    pub(super) fn order(&self) -> Result<&'static dyn Order, Error> {
        order::by_name(&self.order).ok_or_else(|| Error::Unknown {
            what: "order",
            name: self.order.clone(),
            known: names(order::POLICIES.iter().map(|policy| policy.name())),
        })
    }

    pub(super) fn placement(&self) -> Result<Shaped, Error> {
        placement::by_name(&self.placement).map(Shaped).ok_or_else(|| Error::Unknown {
            what: "placement",
            name: self.placement.clone(),
            known: names(placement::POLICIES.iter().map(|policy| policy.name())),
        })
    }
}

fn names(names: impl Iterator<Item = &'static str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
