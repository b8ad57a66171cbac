//! The engine with the fewest requests under way. Better than taking turns when answers differ much in length; equals take
//! turns, so an idle hall still warms all its engines.

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
        let (before, from) = view.candidates.split_at_checked(view.start())?;
        from.iter().chain(before).min_by_key(|candidate| candidate.in_flight).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_wins_whatever_the_turn() {
        let candidates = [(0, 3), (1, 1), (2, 2)].map(|(engine, in_flight)| Candidate { engine, in_flight });
        for turn in 0..10 {
            assert_eq!(LeastInFlight.pick(View { turn, candidates: &candidates }).unwrap().engine, 1);
        }
    }
}
