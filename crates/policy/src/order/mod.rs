//! Which of the waiting jobs is considered first. One file per policy, one line in [`POLICIES`].

mod fifo;

use dh_core::{JobId, SimTime};

/// What an order may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The job.
    pub job: JobId,
    /// Queue priority plus job priority; higher goes first.
    pub priority: i64,
    /// When it was accepted.
    pub submitted: SimTime,
}

/// An order of waiting jobs.
pub trait Order: Sync {
    /// The name used in blueprints.
    fn name(&self) -> &'static str;
    /// Sorts `waiting` so that the job to consider first comes first. Total: no two jobs may tie.
    fn sort(&self, waiting: &mut [Waiting]);
}

/// Every order there is, the default first.
pub const POLICIES: &[&dyn Order] = &[&fifo::Fifo];

/// The order called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Order> {
    POLICIES.iter().find(|policy| policy.name() == name).copied()
}
