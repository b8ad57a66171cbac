//! The engine that the prompt's beginning hashes to, unless it is loaded beyond 125 % of the mean: then the next in the
//! prompt's own order. Several gateways choose alike without talking to each other, and an engine that leaves moves only
//! its own prompts. Sources: Thaler, Ravishankar 1998 (highest random weight); Mirrokni, Thorup, Zadimoghaddam 2018,
//! "Consistent hashing with bounded loads".

use super::{Candidate, Route, View, mix};

/// Percent of the mean load that an engine may have.
const BOUND: u64 = 125;

pub(super) struct BoundedHash;

impl Route for BoundedHash {
    fn name(&self) -> &'static str {
        "bounded_hash"
    }

    fn about(&self) -> &'static str {
        "the engine that the prompt's beginning hashes to, while its load is at most 125 % of the mean"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        by_key(view, view.ask.prefix)
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}

/// The engine that `key` hashes to, among those within the bound.
pub(super) fn by_key(view: View<'_>, key: u64) -> Option<Candidate> {
    let bound = view.bound(BOUND);
    let within = view.candidates.iter().filter(|candidate| candidate.tokens <= bound);
    let rank = |candidate: &&Candidate| (mix(candidate.identity, key), candidate.engine);
    // The least loaded one is never above the mean, so somebody is within the bound.
    within.max_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::Ask;

    #[test]
    fn an_engine_that_leaves_moves_only_its_own_prompts() {
        let all: Vec<Candidate> =
            (0..8).map(|engine| Candidate { engine, identity: mix(engine as u64, 7), ..Default::default() }).collect();
        let fewer: Vec<Candidate> = all.iter().copied().filter(|candidate| candidate.engine != 3).collect();
        let mut counts = [0; 8];
        for key in 0..4_000 {
            let ask = Ask { prefix: key, ..Ask::default() };
            let before = BoundedHash.pick(View { ask, candidates: &all }).unwrap().engine;
            let after = BoundedHash.pick(View { ask, candidates: &fewer }).unwrap().engine;
            assert!(before == 3 || before == after);
            counts[before] += 1;
        }
        assert!(counts.iter().all(|count| (400..600).contains(count)), "{counts:?}");
    }

    #[test]
    fn nobody_is_loaded_beyond_the_bound() {
        let mut all: Vec<Candidate> =
            (0..5).map(|engine| Candidate { engine, identity: engine as u64, ..Default::default() }).collect();
        for turn in 1..1_000_u64 {
            let ask = Ask { prefix: 1, prompt: 10, ..Ask::default() };
            let picked = BoundedHash.pick(View { ask, candidates: &all }).unwrap().engine;
            all[picked].tokens += 10;
            let most = all.iter().map(|candidate| candidate.tokens).max().unwrap();
            assert!(most <= (turn * 10 * 125).div_ceil(500) + 10, "{turn}: {all:?}");
        }
    }
}
