//! The engine with the fewest tokens still to compute: one prompt of 100,000 tokens counts as what it is.

use super::{Candidate, Route, View};

pub(super) struct LeastTokens;

impl Route for LeastTokens {
    fn name(&self) -> &'static str {
        "least_tokens"
    }

    fn about(&self) -> &'static str {
        "the engine with the fewest tokens still to compute"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        view.least(|candidate| candidate.tokens)
    }
}
