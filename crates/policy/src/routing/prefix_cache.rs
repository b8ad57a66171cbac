//! The engine where the prompt is done soonest: tokens that it has to compute for this prompt, and those that it has to
//! compute for others first. Hits and balance in one sum, so there is no threshold between two modes to tune: a prefix that
//! many ask for spreads to a second engine as soon as the queue at the first costs more than computing it again.
//! Source: the cost of Srivatsa et al. 2024, "Preble", without its tree; measured in `examples/mooncake.rs`.

use super::{Candidate, Route, View};

/// How much a token in the queue weighs against one of this prompt.
const QUEUE_WEIGHT: u64 = 2;

pub(super) struct PrefixCache;

impl Route for PrefixCache {
    fn name(&self) -> &'static str {
        "prefix_cache"
    }

    fn about(&self) -> &'static str {
        "the engine with the fewest tokens to compute, of this prompt beyond what it has cached and of those before it"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        view.least(|candidate| {
            view.ask.uncached(candidate).saturating_add(candidate.tokens.saturating_mul(QUEUE_WEIGHT))
        })
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}
