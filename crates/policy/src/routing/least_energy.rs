//! The engine that spends the least energy on the request and is not overloaded. Joules of a token come from what the hall
//! measured or what its plan expects of the accelerator.

use super::least_cost::BOUND;
use super::{Candidate, Route, View};

pub(super) struct LeastEnergy;

impl Route for LeastEnergy {
    fn name(&self) -> &'static str {
        "least_energy"
    }

    fn about(&self) -> &'static str {
        "the engine that spends the least energy on this request whose load is at most 150 % of the mean"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        let bound = view.bound(BOUND);
        view.least(|candidate| (candidate.tokens > bound, candidate.energy.of(&view.ask, candidate), candidate.tokens))
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}
