//! Which of the waiting jobs is considered first. One file per policy, one line in [`POLICIES`].
//!
//! Invariant: an order is a function of a [`Candidate`] alone, in whole numbers; the job's id makes it total. The key of a
//! job that waits does not change as time passes, so a queue sorts its jobs once.

mod deadline;
mod expected;
mod fifo;
pub mod gittins;
pub mod knapsack;
mod las;
mod multifactor;
mod srsf;
mod srtf;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use serde::{Deserialize, Serialize};

/// What an order may know of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The job.
    pub job: JobId,
    /// Queue priority plus job priority; higher goes first.
    pub priority: i64,
    /// When it was accepted.
    pub submitted: SimTime,
    /// Accelerators of the whole gang, in thousandths.
    pub milli: u64,
    /// How long it has run so far, all attempts whose work was kept.
    pub attained: Span,
    /// How long it runs in all, if that is known or predicted; a limit counts as a prediction.
    pub length: Option<Span>,
    /// When it should have ended.
    pub deadline: Option<SimTime>,
}

/// Where a job stands in the line: least first, by `class`, then by `value`, then by the job's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Key {
    /// Compared first.
    pub class: i64,
    /// Compared among equals.
    pub value: u64,
}

/// Whom a job that goes first may displace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Displaces {
    /// Nobody: what runs goes on.
    Nobody,
    /// Running jobs of lower priority, where the queue allows it.
    LowerPriority,
    /// Running jobs that are later in this order.
    Later,
}

/// What the value of a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Which job is first, and nothing else.
    Place,
    /// How much service a job still needs: jobs can be weighed against each other by it.
    Service,
}

/// An order of jobs.
pub trait Order: Sync + std::fmt::Debug {
    /// The name used in blueprints.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn about(&self) -> &'static str;

    /// Where the job stands in the line.
    fn key(&self, job: &Candidate) -> Key;

    /// Whom a job that goes first may displace.
    fn displaces(&self) -> Displaces {
        Displaces::LowerPriority
    }

    /// What the value of its keys says.
    fn value(&self) -> Value {
        Value::Place
    }

    /// How much longer the job can run before its key rises (least attained service), if it ever does.
    fn rises_after(&self, _job: &Candidate) -> Option<Span> {
        None
    }
}

/// Every order there is, the default first.
pub const POLICIES: &[&dyn Order] = &[
    &fifo::Fifo,
    &srtf::ShortestRemaining,
    &srsf::ShortestRemainingService,
    &las::LeastAttained,
    &gittins::Gittins,
    &expected::Expected,
    &deadline::Deadline,
    &multifactor::Multifactor::DEFAULT,
];

/// The order called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Order> {
    POLICIES.iter().find(|policy| policy.name() == name).copied()
}

/// The class of a job by priority alone: higher priority, lower class.
pub const fn class_of(priority: i64) -> i64 {
    priority.saturating_neg()
}

/// How much longer the job runs, if that is known or predicted; nothing once it has run longer than that.
fn remaining(job: &Candidate) -> Option<Span> {
    job.length.map(|length| Span(length.0.saturating_sub(job.attained.0)))
}

/// Accelerator time: `span` on `milli` thousandths of accelerators, in accelerator-milliseconds.
fn service(span: Span, milli: u64) -> u64 {
    u64::try_from(u128::from(span.0) * u128::from(milli) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of one accelerator of which nothing else is known.
    pub(super) fn job(id: u64) -> Candidate {
        Candidate {
            job: JobId(id),
            priority: 0,
            submitted: SimTime(0),
            milli: 1000,
            attained: Span(0),
            length: None,
            deadline: None,
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        for (at, policy) in POLICIES.iter().enumerate() {
            let found = POLICIES.iter().position(|other| other.name() == policy.name());
            assert_eq!(found, Some(at));
            assert!(by_name(policy.name()).is_some());
        }
        assert!(by_name("best").is_none());
    }
}
