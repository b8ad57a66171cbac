//! The engine where the prompt costs least: tokens that it has to compute for it, and a sixteenth of those that stand before it.
//! Hits and balance in one sum, so there is no threshold between two modes to tune: a prefix that many ask for spreads to a
//! second engine once the queue at the first is worth more than computing it again. And whatever that sum says, no engine
//! computes more than its share by a tenth (or, where prompts are long, by one prompt): the sum is over what was lately computed.
//!
//! Why waiting weighs so little: a prompt that moves away from its queue is computed twice, what it displaces in the other
//! engine's cache is computed again by somebody else, and all of that stands before others. `examples/mooncake.rs`, conversations,
//! six seeds each, an eighth, a sixteenth, a sixty-fourth: with engines busy for an eighth of the time 31.4, 31.7, 31.9 % hits
//! and 479, 489, 518 ms to the first token; for half of it 30.4, 31.5, 31.8 % and 2.88, 2.91, 3.43 s. A half, which is best for idle
//! engines by a twentieth, is worse by a half when they are full. Source: the cost of Srivatsa et al. 2024,
//! "Preble", without its tree.

use super::{Ask, Candidate, Route, View};

/// A token to be waited for is worth this part of one to be computed.
const PATIENCE: u64 = 16;
/// What an engine may have computed lately, in hundredths of the mean.
const SHARE_PERCENT: u64 = 110;

pub(super) struct PrefixCache;

impl Route for PrefixCache {
    fn name(&self) -> &'static str {
        "prefix_cache"
    }

    fn about(&self) -> &'static str {
        "the engine with the fewest tokens to compute, of this prompt beyond what it has cached and of those before it"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        let bound = bound(view.ask, view.candidates);
        view.least(|candidate| {
            let uncached = view.ask.uncached(candidate);
            let over = candidate.recent.saturating_add(uncached).saturating_sub(bound);
            let cost = uncached.saturating_add(candidate.queued / PATIENCE);
            (over, cost, candidate.tokens, candidate.recent)
        })
    }

    fn reads_prompt(&self) -> bool {
        true
    }
}

/// What an engine may have computed lately, this prompt included. The one that computed least is always within it.
fn bound(ask: Ask, candidates: &[Candidate]) -> u64 {
    let count = u128::try_from(candidates.len()).unwrap_or(u128::MAX).max(1);
    let recent: u128 = candidates.iter().map(|candidate| u128::from(candidate.recent)).sum();
    let share = (recent * u128::from(SHARE_PERCENT) / 100 / count).max(recent / count + u128::from(ask.prompt));
    u64::try_from(share).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;

    #[test]
    fn no_engine_computes_more_than_its_share_and_a_tenth_whatever_is_cached_where() {
        for seed in 0..200_u64 {
            let count = 2 + usize::try_from(seed % 9).unwrap();
            let mut engines: Vec<Candidate> =
                (0..count).map(|engine| Candidate { engine, ..Candidate::default() }).collect();
            let mut longest = 0;
            for turn in 0..3_000 {
                let prompt = 1 + mix(seed, turn) % 20_000;
                longest = prompt.max(longest);
                // An adversary: nearly all of every prompt is cached at the first two, and the others have long queues.
                for engine in &mut engines {
                    let favoured = engine.engine < 2;
                    engine.cached = if favoured { prompt / 2 + mix(turn, 7) % (prompt / 2 + 1) } else { 0 };
                    engine.queued = if favoured { 0 } else { 1_000_000 };
                }
                let ask = Ask { turn, prompt, ..Ask::default() };
                let picked = PrefixCache.pick(View { ask, candidates: &engines }).unwrap();
                engines[picked.engine].recent += ask.uncached(&picked);
                let all: u64 = engines.iter().map(|engine| engine.recent).sum();
                let mean = all / count as u64;
                let most = engines.iter().map(|engine| engine.recent).max().unwrap();
                assert!(
                    most <= (mean + mean / 10 + 1).max(mean + longest),
                    "{most} of a mean of {mean} ({seed}, {turn})"
                );
            }
        }
    }
}
