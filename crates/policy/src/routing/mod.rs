//! Which engine serves a request: one policy a file, one row in [`POLICIES`], chosen by name.
//!
//! *Invariant*: a choice follows from what the policy is shown: the request, and each engine's load and likely cache. Loads
//! are tokens still to be computed, not requests, because one long prompt weighs a thousand short ones. Costs are integers,
//! and equals take turns, so an idle hall still warms all its engines.
//!
//! Cost: one pass over the candidates. Sources of the ideas stand in each file.

pub mod chain;
pub mod index;

mod bounded_hash;
mod least_cost;
mod least_energy;
mod least_in_flight;
mod least_tokens;
mod power_of_two;
mod prefix_cache;
mod recency;
mod round_robin;
mod session;
mod site;

/// An engine that may take the request: it serves the model, was not tried yet, and its breaker lets it through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The engine's place among the engines of its model.
    pub engine: usize,
    /// A number of the engine alone, which stays when others come and go.
    pub identity: u64,
    /// Requests it is working on for this gateway.
    pub in_flight: u32,
    /// Tokens that it has still to compute for them: of prompts that it had not cached, and of answers.
    pub tokens: u64,
    /// Those of them that stand before a new prompt: of prompts whose first token has not come.
    pub queued: u64,
    /// Tokens of prompts that it had to compute lately; older ones fade.
    pub recent: u64,
    /// Tokens of this prompt that it likely holds already.
    pub cached: u64,
    /// To its site and back, in microseconds.
    pub round_trip_us: u64,
    /// What a thousand tokens of a prompt take it, in microseconds; 0 if nobody knows.
    pub prefill_us: u64,
    /// Money for a million tokens of a prompt and of an answer, in millionths of a dollar.
    pub price: Rates,
    /// Energy for a thousand tokens of a prompt and of an answer, in millijoules.
    pub energy: Rates,
}

/// What tokens cost, by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// Tokens that are read.
    pub prompt: u64,
    /// Tokens that are written.
    pub answer: u64,
}

impl Rates {
    /// The price of one request whose cached tokens cost nothing.
    fn of(self, ask: &Ask, candidate: &Candidate) -> u64 {
        let read = self.prompt.saturating_mul(ask.uncached(candidate));
        read.saturating_add(self.answer.saturating_mul(ask.answer))
    }
}

/// The request, as far as routing goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ask {
    /// Counts the requests for this model, by one each.
    pub turn: u64,
    /// A number drawn for this request.
    pub seed: u64,
    /// Tokens of the prompt, about.
    pub prompt: u64,
    /// Tokens of the answer, about.
    pub answer: u64,
    /// A digest of how the prompt begins.
    pub prefix: u64,
    /// A digest of what names the caller's session, if it named one.
    pub session: Option<u64>,
}

impl Ask {
    /// Tokens of the prompt that `candidate` has to compute.
    pub fn uncached(&self, candidate: &Candidate) -> u64 {
        self.prompt.saturating_sub(candidate.cached)
    }
}

/// What a policy decides from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The request.
    pub ask: Ask,
    /// In the order of the engines.
    pub candidates: &'a [Candidate],
}

impl<'a> View<'a> {
    /// The candidates, from the one whose turn it is: the first of equals is then another one each time.
    fn in_turn(&self) -> impl Iterator<Item = &'a Candidate> + use<'a> {
        let count = u64::try_from(self.candidates.len()).unwrap_or(u64::MAX).max(1);
        let start = usize::try_from(self.ask.turn % count).unwrap_or(0);
        let (before, from) = self.candidates.split_at_checked(start).unwrap_or((self.candidates, &[]));
        from.iter().chain(before)
    }

    /// The candidate of least `cost`; equals take turns.
    fn least<K: Ord>(&self, cost: impl Fn(&Candidate) -> K) -> Option<Candidate> {
        self.in_turn().min_by_key(|candidate| cost(candidate)).copied()
    }

    /// The least load that a bounded policy still gives to anybody: `percent` of the mean, this request included.
    fn bound(&self, percent: u64) -> u64 {
        let all: u128 = self.candidates.iter().map(|candidate| u128::from(candidate.tokens)).sum();
        let count = u128::try_from(self.candidates.len()).unwrap_or(u128::MAX).max(1);
        let own = u128::from(self.ask.prompt) + u128::from(self.ask.answer);
        u64::try_from(((all + own) * u128::from(percent)).div_ceil(100).div_ceil(count)).unwrap_or(u64::MAX)
    }
}

/// A routing policy.
pub trait Route: Send + Sync {
    /// Its name in configurations.
    fn name(&self) -> &'static str;
    /// One sentence for people who choose.
    fn about(&self) -> &'static str;
    /// The chosen one of `view.candidates`; `None` only if there are none.
    fn pick(&self, view: View<'_>) -> Option<Candidate>;
    /// Whether it looks at [`Candidate::cached`] or [`Ask::prefix`]; for others nobody need read the prompt.
    fn reads_prompt(&self) -> bool {
        false
    }
}

/// All policies.
pub static POLICIES: &[&dyn Route] = &[
    &round_robin::RoundRobin,
    &least_in_flight::LeastInFlight,
    &least_tokens::LeastTokens,
    &power_of_two::PowerOfTwo,
    &bounded_hash::BoundedHash,
    &session::Session,
    &prefix_cache::PrefixCache,
    &site::Site,
    &least_cost::LeastCost,
    &least_energy::LeastEnergy,
];

/// The policy called `name`.
pub fn by_name(name: &str) -> Option<&'static dyn Route> {
    POLICIES.iter().copied().find(|policy| policy.name() == name)
}

/// The names there are, for messages.
pub fn names() -> Vec<&'static str> {
    POLICIES.iter().map(|policy| policy.name()).collect()
}

/// A well-mixed number of two: the finisher of `SplitMix64` over both. Source: Steele, Lea, Flood 2014.
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let mut word = one.wrapping_add(other.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
