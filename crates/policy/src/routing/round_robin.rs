//! Each engine in turn. Fair when requests cost alike; needs no measurement.

use super::{Candidate, Route, View};

pub(super) struct RoundRobin;

impl Route for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn about(&self) -> &'static str {
        "each engine in turn"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        view.in_turn().next().copied()
    }
}
