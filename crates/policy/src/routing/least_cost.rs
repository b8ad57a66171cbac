//! The cheapest engine that is not overloaded: cached tokens cost nothing, and an engine above 150 % of the mean load is left
//! out, because a bargain that queues is none.

use super::{Candidate, Route, View};

/// Percent of the mean load that an engine may have.
pub(super) const BOUND: u64 = 150;

pub(super) struct LeastCost;

impl Route for LeastCost {
    fn name(&self) -> &'static str {
        "least_cost"
    }

    fn about(&self) -> &'static str {
        "the cheapest engine for this request whose load is at most 150 % of the mean"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        let bound = view.bound(BOUND);
        view.least(|candidate| (candidate.tokens > bound, candidate.price.of(&view.ask, candidate), candidate.tokens))
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}
