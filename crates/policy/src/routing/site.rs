//! The engine that answers soonest across sites: the way there and back, the queue before this prompt, and the prompt's own
//! tokens beyond what is cached, all as time.

use super::{Candidate, Route, View};

/// What a thousand tokens of a prompt take an engine of which nobody said: a 70B model on eight accelerators, about.
const PREFILL_US: u64 = 50_000;

pub(super) struct Site;

impl Route for Site {
    fn name(&self) -> &'static str {
        "site"
    }

    fn about(&self) -> &'static str {
        "the engine that answers soonest, with the way to its site counted"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        view.least(|candidate| {
            let pace = if candidate.prefill_us == 0 { PREFILL_US } else { candidate.prefill_us };
            let work = view.ask.uncached(candidate).saturating_add(candidate.queued);
            candidate.round_trip_us.saturating_add(work.saturating_mul(pace) / 1_000)
        })
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}
