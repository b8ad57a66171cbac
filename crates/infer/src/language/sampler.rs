//! From scores to the next token: penalties, temperature, top-k, top-p, and a seeded choice.
//!
//! Invariant: the same scores, parameters and seed give the same token. Cost: one pass over the vocabulary for the greedy
//! choice; a softmax and a sort of the likely tokens otherwise.

use std::collections::HashMap;

use super::Error;
use crate::numeric::{count, exp};
use crate::rng::Rng;

/// Below this a temperature means: always the best token.
const TEMPERATURE_MIN: f32 = 1e-4;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 always takes the best token; higher is more varied. `0.0..=2.0`.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability. `0.0..=1.0`; 1 is all.
    pub top_p: f32,
    /// Only this many of the likeliest tokens; 0 is all.
    pub top_k: usize,
    /// Makes the choice repeatable.
    pub seed: u64,
    /// Lowers the score of a token by this for each time it is in the answer. `-2.0..=2.0`.
    pub frequency_penalty: f32,
    /// Lowers the score of a token by this if it is in the answer. `-2.0..=2.0`.
    pub presence_penalty: f32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, top_k: 0, seed: 0, frequency_penalty: 0.0, presence_penalty: 0.0 }
    }
}

impl Sampling {
    /// Checks the bounds that the fields state.
    /// # Errors
    /// [`Error::Parameter`] for the first one out of bounds.
    pub fn check(&self) -> Result<(), Error> {
        let bounds = [
            ("temperature", self.temperature, 0.0, 2.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
        ];
        for (name, value, least, most) in bounds {
            // Written so that what is not a number is refused too.
            if !(least..=most).contains(&value) {
                return Err(Error::Parameter { name, why: format!("is {value}; {least} to {most} is possible") });
            }
        }
        Ok(())
    }
}

/// The state of the choices of one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    rng: Rng,
    counts: HashMap<u32, usize>,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampling, rng: Rng::new(sampling.seed), counts: HashMap::new() }
    }

    /// Chooses the next token and remembers it.
    pub(super) fn choose(&mut self, mut scores: Vec<f32>) -> Result<u32, Error> {
        for (token, times) in &self.counts {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score -= self.sampling.frequency_penalty * count(*times) + self.sampling.presence_penalty;
            }
        }
        let (best, top_score) = best(&scores).ok_or(Error::NotFinite)?;
        let token = if self.sampling.temperature < TEMPERATURE_MIN { best } else { self.draw(&scores, top_score) };
        *self.counts.entry(token).or_insert(0) += 1;
        Ok(token)
    }

    fn draw(&mut self, scores: &[f32], top_score: f32) -> u32 {
        let inverse = 1.0 / self.sampling.temperature;
        let weights: Vec<f32> =
            scores.iter().map(|score| if score.is_nan() { 0.0 } else { exp((score - top_score) * inverse) }).collect();
        let total: f32 = weights.iter().sum();
        // A token in the smallest set of probability `top_p` has more than its share of what is left outside of it.
        let share = (1.0 - self.sampling.top_p) * total / count(weights.len());
        let mut likely: Vec<(f32, u32)> =
            weights.into_iter().zip(0u32..).filter(|(weight, _)| *weight >= share && *weight > 0.0).collect();
        let narrowed = self.sampling.top_p < 1.0 || self.sampling.top_k > 0;
        if narrowed {
            // Ties go to the lower token, so that the order is one order.
            likely.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            if self.sampling.top_k > 0 {
                likely.truncate(self.sampling.top_k);
            }
            let mut seen = 0.0;
            let wanted = self.sampling.top_p * total;
            let kept = likely.iter().take_while(|(weight, _)| {
                let before = seen;
                seen += weight;
                before < wanted
            });
            let kept = kept.count().max(1);
            likely.truncate(kept);
        }
        let mut left = self.rng.unit() * likely.iter().map(|(weight, _)| weight).sum::<f32>();
        let mut chosen = 0;
        for (weight, token) in likely {
            chosen = token;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        chosen
    }
}

/// The best token and its score; the first of equals. Nothing if no score is a finite number.
fn best(scores: &[f32]) -> Option<(u32, f32)> {
    let mut best = None;
    for (score, token) in scores.iter().copied().zip(0u32..) {
        if score.is_finite() && best.is_none_or(|(_, top)| score > top) {
            best = Some((token, score));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: Sampling, scores: &[f32]) -> Vec<usize> {
        let mut sampler = Sampler::new(Sampling { frequency_penalty: 0.0, presence_penalty: 0.0, ..sampling });
        let mut counts = vec![0; scores.len()];
        for _ in 0..4_000 {
            counts[sampler.choose(scores.to_vec()).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_best_and_seeds_repeat() {
        let mut greedy = Sampler::new(Sampling { temperature: 0.0, ..Sampling::default() });
        assert_eq!(greedy.choose(vec![1.0, 3.0, 3.0, f32::NAN]).unwrap(), 1);
        let draw = |seed| {
            let mut sampler = Sampler::new(Sampling { seed, ..Sampling::default() });
            (0..20).map(|_| sampler.choose(vec![0.0; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let got = counts(Sampling::default(), &[0.0, (3.0f32).ln()]);
        assert!((2_850..3_150).contains(&got[1]), "{got:?}");
    }

    #[test]
    fn top_p_and_top_k_cut_the_tail() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let scores = [0.5f32.ln(), 0.25f32.ln(), 0.125f32.ln(), 0.125f32.ln()];
        let nucleus = counts(Sampling { top_p: 0.7, ..Sampling::default() }, &scores);
        assert!(nucleus[0] > 0 && nucleus[1] > 0 && nucleus[2] == 0 && nucleus[3] == 0, "{nucleus:?}");
        let three = counts(Sampling { top_k: 3, ..Sampling::default() }, &scores);
        assert!(three[2] > 0 && three[3] == 0, "{three:?}");
        let one = counts(Sampling { top_p: 0.0, ..Sampling::default() }, &scores);
        assert_eq!(one[0], 4_000);
    }

    #[test]
    fn penalties_push_repeated_tokens_down() {
        let mut sampler = Sampler::new(Sampling {
            temperature: 0.0,
            frequency_penalty: 0.4,
            presence_penalty: 0.2,
            ..Sampling::default()
        });
        let chosen: Vec<u32> = (0..3).map(|_| sampler.choose(vec![1.0, 0.5]).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 0]);
    }

    #[test]
    fn scores_that_are_no_numbers_are_an_error_and_bounds_are_checked() {
        assert!(matches!(Sampler::new(Sampling::default()).choose(vec![f32::NAN; 3]), Err(Error::NotFinite)));
        for bad in [
            Sampling { temperature: f32::NAN, ..Sampling::default() },
            Sampling { temperature: 2.1, ..Sampling::default() },
            Sampling { top_p: -0.1, ..Sampling::default() },
            Sampling { presence_penalty: 3.0, ..Sampling::default() },
        ] {
            assert!(bad.check().is_err());
        }
        assert!(Sampling::default().check().is_ok());
    }
}
