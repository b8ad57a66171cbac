//! The engine with the fewest requests under way. Better than taking turns when answers differ much in length.

use super::{Candidate, Route, View};

pub(super) struct LeastInFlight;

impl Route for LeastInFlight {
    fn name(&self) -> &'static str {
        "least_in_flight"
    }

    fn about(&self) -> &'static str {
        "the engine with the fewest requests under way"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        view.least(|candidate| candidate.in_flight)
    }
}
