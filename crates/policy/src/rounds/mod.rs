//! Rounds: which of all jobs, running or not, hold accelerators next, and where. For orders by which running jobs may be
//! displaced, where a stop costs little against how long jobs run.
//!
//! One displacement after another finds a place for the head of the line among the jobs behind it; what is left over between
//! them fits nobody. A round looks at all jobs at once: it chooses the set ([`choose`]), keeps whoever can stay where it is,
//! and moves narrow jobs out of the way of wide ones ([`round`]). Published simulators of such orders assume as much.
//!
//! Invariant: whoever is chosen and does not move is not stopped; nothing is started on what another one holds or will hold; a
//! job is stopped only if it was not chosen, or if another one that was chosen gets what it held.
//! Cost: the choice O(n log n); for each job that has to find a place one placement, and a few more where it fits nowhere.

mod choice;
mod groups;
mod places;

pub use choice::{Choice, choose};
pub use groups::{beside, round_of_groups, spot};
pub use places::{Round, round};

use dh_core::JobId;

use crate::fleet::Holding;
use crate::order::Key;
use crate::placement::Need;

/// A job that may run in the next round. It asks for whole accelerators.
#[derive(Debug, Clone, Copy)]
pub struct Entrant<'a> {
    /// The job.
    pub job: JobId,
    /// What it needs.
    pub need: Need,
    /// Where it stands in the order.
    pub key: Key,
    /// What its ranks hold, if it runs; nothing if it waits.
    pub held: &'a [Holding],
}

impl Entrant<'_> {
    /// Accelerators that it needs.
    pub fn width(&self) -> u32 {
        self.need.ranks.saturating_mul(u32::from(self.need.rank.accelerators))
    }

    fn runs(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests;
