//! The engine where the prompt is done soonest: tokens that it has to compute for this prompt, and half of those that stand
//! before it. Hits and balance in one sum, so there is no threshold between two modes to tune: a prefix that many ask for
//! spreads to a second engine as soon as the queue at the first costs more than computing it again. What an engine computed
//! lately beyond 110 % of the mean counts in full, so no engine is worked harder than others for long either.
//! Source: the cost of Srivatsa et al. 2024, "Preble", without its tree; weights measured in `examples/mooncake.rs`.

use super::{Candidate, Route, View};

pub(super) struct PrefixCache;

impl Route for PrefixCache {
    fn name(&self) -> &'static str {
        "prefix_cache"
    }

    fn about(&self) -> &'static str {
        "the engine with the fewest tokens to compute, of this prompt beyond what it has cached and of those before it"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        let count = u64::try_from(view.candidates.len()).unwrap_or(u64::MAX).max(1);
        let recent = view.candidates.iter().fold(0_u64, |sum, candidate| sum.saturating_add(candidate.recent));
        let share = recent / count;
        let fair = share.saturating_add(share / 10);
        view.least(|candidate| {
            let cost = view.ask.uncached(candidate).saturating_add(candidate.queued / 2);
            (cost.saturating_add(candidate.recent.saturating_sub(fair)), candidate.tokens, candidate.recent)
        })
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}
