//! Planned windows: batch after batch of nodes, again and again.
//!
//! Invariant: no chance; a round ends before the next begins, and at most one batch is down at a time.

use dh_core::time::{SimTime, Span};

use super::Error;

/// A rolling plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maintenance {
    /// When the first batch goes down.
    pub first: SimTime,
    /// From a round to the next.
    pub every: Span,
    /// How long a batch is down.
    pub length: Span,
    /// Nodes of a batch.
    pub batch: u32,
}

impl Maintenance {
    pub(super) fn check(&self, nodes: u32) -> Result<(), Error> {
        if self.batch == 0 || self.length.0 == 0 {
            return Err(Error { what: "batch and length of maintenance", want: "above 0" });
        }
        let round = u128::from(nodes.div_ceil(self.batch)) * u128::from(self.length.0);
        if round > u128::from(self.every.0) {
            return Err(Error { what: "a round of maintenance", want: "over before the next begins" });
        }
        Ok(())
    }

    /// When `node` goes down in a round.
    pub(super) fn start(&self, round: u64, node: u32) -> SimTime {
        let batch = u64::from(node / self.batch.max(1));
        let rounds = Span(self.every.0.saturating_mul(round));
        self.first.after(rounds).after(Span(self.length.0.saturating_mul(batch)))
    }
}
