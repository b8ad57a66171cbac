//! How much work a request is and where it would be done best: what the policy is asked with, and what engines teach.
//!
//! Tokens are estimated from bytes by a ratio that each model's own answers teach; prompts are looked up in the model's index
//! of beginnings only if the policy reads it. Cost: one pass over the prompt, a lock of the index for some microseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dh_core::DataClass;
use dh_policy::hedging::Hedges;
use dh_policy::routing::chain::{self, Link, digest_of};
use dh_policy::routing::index::{Believed, Held, PrefixIndex};
use dh_policy::routing::{Ask, Route};

use crate::config::PREFIX_LINKS;
use crate::engines::Tokens;
use crate::facts::{EngineFacts, Part};
use crate::request::Prompt;
use crate::usage::Usage;

const MILLI: u64 = 1_000;
/// Bytes of a token in thousandths, before a model's answers say: English text has about four.
const BYTES_PER_TOKEN_MILLI: u64 = 4_000;
/// Tokens of an answer before a model's answers say.
const ANSWER_TOKENS: u64 = 256;
/// Engines refuse to write more answers to one prompt; a caller's wish counts no further.
const ANSWERS_MAX: u64 = 128;
/// The prompt begins here for policies that hash it: enough for a system text and the first question.
const BEGINNING_BYTES: usize = 1_024;

/// What is learned about a model; it outlives snapshots.
pub(crate) struct Knowledge {
    index: Mutex<PrefixIndex>,
    bytes_per_token_milli: AtomicU64,
    answer_tokens: AtomicU64,
    hedges: Mutex<Hedges>,
}

impl Default for Knowledge {
    fn default() -> Self {
        Self {
            index: Mutex::new(PrefixIndex::new(PREFIX_LINKS)),
            bytes_per_token_milli: AtomicU64::new(BYTES_PER_TOKEN_MILLI),
            answer_tokens: AtomicU64::new(ANSWER_TOKENS),
            hedges: Mutex::default(),
        }
    }
}

/// One request, weighed.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) ask: Ask,
    /// What its data is; engines that are not cleared for it are not asked.
    pub(crate) fence: DataClass,
    /// What is to be done of it.
    pub(crate) part: Part,
    links: Vec<Link>,
    held: Vec<Held>,
    prompt_bytes: u64,
    /// Those of them that stand before the first link.
    ahead_bytes: u64,
    bytes_per_token_milli: u64,
}

/// What the chosen engine is believed to hold of the prompt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Belief {
    slot: usize,
    held: Believed,
    prompt_bytes: u64,
}

impl Knowledge {
    /// Weighs a request; `slots` engines may be asked.
    pub(crate) fn weigh(&self, prompt: &Prompt<'_>, turn: u64, policy: &dyn Route, slots: usize) -> Work {
        let ratio = self.bytes_per_token_milli.load(Ordering::Relaxed).max(1);
        let mut work = Work { prompt_bytes: prompt.bytes(), bytes_per_token_milli: ratio, ..Work::default() };
        let expected = self.answer_tokens.load(Ordering::Relaxed);
        let answer = prompt.answer_max.map_or(expected, |most| most.min(expected));
        work.ask = Ask {
            turn,
            seed: turn,
            prompt: work.tokens(work.prompt_bytes),
            answer: answer.saturating_mul(prompt.answers.unwrap_or(1).min(ANSWERS_MAX)),
            prefix: 0,
            session: (!prompt.session.is_empty()).then(|| digest_of(0, prompt.session)),
        };
        if policy.reads_prompt() {
            let seed = digest_of(digest_of(1, prompt.tools), prompt.system);
            work.ask.prefix = digest_of(seed, prompt.text.get(..BEGINNING_BYTES).unwrap_or(prompt.text));
            chain::links(seed, prompt.text, &mut work.links);
            work.ahead_bytes = u64::try_from(prompt.tools.len() + prompt.system.len()).unwrap_or(0);
            if !work.links.is_empty() {
                self.index().look(&work.links, slots, &mut work.held);
            }
        }
        work
    }

    /// The engine of `slot` gets the request.
    pub(crate) fn sent(&self, work: &Work, slot: usize) -> Belief {
        if work.part == Part::Decode {
            // The prompt comes from elsewhere, so its cache teaches nothing.
            return Belief { slot, ..Belief::default() };
        }
        let held = work.held.get(slot).copied().unwrap_or_default();
        let held = if work.links.is_empty() {
            Believed::default()
        } else {
            self.index().computes(&work.links, work.prompt_bytes, slot, held)
        };
        Belief { slot, held, prompt_bytes: work.prompt_bytes }
    }

    /// An engine reported what the request took.
    pub(crate) fn learn(&self, belief: Belief, usage: Usage) {
        let Some(tokens) = usage.prompt_tokens.filter(|tokens| *tokens > 0) else { return };
        if belief.prompt_bytes >= MILLI {
            // Shorter prompts are mostly template.
            let ratio = (belief.prompt_bytes.saturating_mul(MILLI) / tokens).clamp(500, 64_000);
            drift(&self.bytes_per_token_milli, ratio);
        }
        if let Some(answer) = usage.completion_tokens {
            drift(&self.answer_tokens, answer);
        }
        if let Some(cached) = usage.cached_tokens
            && belief.prompt_bytes > 0
        {
            let bytes = u128::from(cached) * u128::from(belief.prompt_bytes) / u128::from(tokens);
            self.index().learn(belief.slot, belief.held, u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// A slot was given to another engine.
    pub(crate) fn forget(&self, slot: usize) {
        self.index().forget(slot);
    }

    /// An engine reports that it lost the beginnings with these digests. Gives how many of them it was believed to hold.
    pub(crate) fn lost(&self, slot: usize, digests: &[u64]) -> u64 {
        if digests.is_empty() {
            return 0;
        }
        let mut index = self.index();
        let lost = digests.iter().filter(|digest| index.lost(**digest, slot)).count();
        u64::try_from(lost).unwrap_or(u64::MAX)
    }

    /// The cache of an engine is full with so many tokens.
    pub(crate) fn bound(&self, slot: usize, tokens: u64) {
        let ratio = self.bytes_per_token_milli.load(Ordering::Relaxed);
        self.index().bound(slot, tokens.saturating_mul(ratio) / MILLI);
    }

    /// Tokens that `bytes` may be at most, for reservations: half as many again as expected.
    pub(crate) fn tokens_at_most(&self, bytes: u64) -> u64 {
        let ratio = self.bytes_per_token_milli.load(Ordering::Relaxed).max(1);
        bytes.saturating_mul(MILLI + MILLI / 2).div_ceil(ratio).saturating_add(16)
    }

    /// What is known about its first bytes, and its second tries.
    pub(crate) fn hedges(&self) -> MutexGuard<'_, Hedges> {
        self.hedges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // No step of the index can panic half-way, so a poisoned lock still guards a sound one.
    fn index(&self) -> MutexGuard<'_, PrefixIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prompt whose end an engine has computed, with the ends of its links.
#[derive(Debug)]
pub(crate) struct Fresh {
    links: Box<[Link]>,
    ahead: u64,
    bytes: u64,
}

impl Fresh {
    /// The digests of the links, each with the token that it ends before, if the prompt has so many tokens: bytes and tokens are taken
    /// to lie equally dense.
    pub(crate) fn ends_in(&self, tokens: usize) -> Vec<(u64, usize)> {
        let tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        let end = |link: &Link| {
            let bytes = u128::from(self.ahead.saturating_add(link.end));
            let token = (bytes * u128::from(tokens)).div_ceil(u128::from(self.bytes.max(1))).min(u128::from(tokens));
            (link.digest, usize::try_from(token).unwrap_or(usize::MAX))
        };
        self.links.iter().map(end).collect()
    }
}

/// Less that is new is not worth a question.
const FRESH_BYTES: u64 = 1 << 10;

impl Work {
    /// The prompt, if so much of it is new to the engine of `slot` that its blocks are worth following.
    pub(crate) fn fresh_on(&self, slot: usize) -> Option<Fresh> {
        let last = self.links.last()?;
        let held = self.held.get(slot).map_or(0, |held| held.bytes);
        let worth = last.end.saturating_sub(held) >= FRESH_BYTES && self.part != Part::Decode;
        worth.then(|| Fresh { links: self.links.as_slice().into(), ahead: self.ahead_bytes, bytes: self.prompt_bytes })
    }

    fn tokens(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(MILLI) / self.bytes_per_token_milli.max(1)
    }

    /// Whether an engine of which this is known may be asked.
    pub(crate) fn admits(&self, facts: &EngineFacts) -> bool {
        facts.data_class >= self.fence && self.part.is_for(facts.role)
    }

    /// Tokens that the engine of `slot` likely holds.
    pub(crate) fn cached(&self, slot: usize) -> u64 {
        self.held.get(slot).map_or(0, |held| self.tokens(held.bytes))
    }

    /// Tokens that the engine of `slot` had to compute lately.
    pub(crate) fn recent(&self, slot: usize) -> u64 {
        self.held.get(slot).map_or(0, |held| self.tokens(held.recent))
    }

    /// Tokens that the request makes the engine of `slot` compute.
    pub(crate) fn load_on(&self, slot: usize) -> Tokens {
        let prompt = match self.part {
            // Another engine has read it.
            Part::Decode => 0,
            Part::Whole | Part::Any | Part::Prefill => self.ask.prompt.saturating_sub(self.cached(slot)),
        };
        Tokens { prompt, answer: if self.part == Part::Prefill { 1 } else { self.ask.answer } }
    }
}

/// Moves `towards` by a sixteenth; races lose an observation, which does not matter.
fn drift(value: &AtomicU64, towards: u64) {
    let old = value.load(Ordering::Relaxed);
    let step = old.abs_diff(towards).div_ceil(16);
    value.store(if towards > old { old + step } else { old - step }, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dh_policy::routing::by_name;

    #[test]
    fn a_repeated_prompt_is_believed_where_it_went_and_answers_teach_the_ratio() {
        let knowledge = Knowledge::default();
        let policy = by_name("prefix_cache").unwrap();
        let text = vec![b'x'; 4_096];
        let prompt = Prompt { text: &text, answer_max: Some(10), ..Prompt::default() };
        let work = knowledge.weigh(&prompt, 0, policy, 4);
        assert_eq!(
            (work.ask.prompt, work.cached(2), work.load_on(2)),
            (1_024, 0, Tokens { prompt: 1_024, answer: 10 })
        );
        knowledge.sent(&work, 2);
        let again = knowledge.weigh(&prompt, 1, policy, 4);
        assert_eq!((again.cached(2), again.cached(1), again.load_on(2)), (1_024, 0, Tokens { prompt: 0, answer: 10 }));
        let other = Prompt { tools: b"[{}]", ..prompt };
        assert_eq!(knowledge.weigh(&other, 2, policy, 4).cached(2), 0, "tools come first");
        let belief = knowledge.sent(&again, 2);
        for _ in 0..200 {
            let usage = Usage { prompt_tokens: Some(2_048), completion_tokens: Some(4), cached_tokens: Some(2_048) };
            knowledge.learn(belief, usage);
        }
        let work = knowledge.weigh(&prompt, 3, policy, 4);
        assert_eq!((work.ask.prompt, work.ask.answer), (2_048, 4));
        assert!(knowledge.tokens_at_most(4_096) >= 3_072);
    }
}
