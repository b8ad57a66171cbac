//! What is known about an engine beside its address: where it stands, what it costs, what it may read, which part of a request
//! it does.

use std::time::Duration;

use dh_core::DataClass;
use dh_policy::routing::Rates;

use crate::config::Price;
use crate::kv::KvEvents;

/// Bytes of text that a token of a prompt is on a line, about: English text.
const PROMPT_BYTES: u64 = 4;
/// Bytes that a token of an answer is on a line as an event of a stream: 165 were measured with ordinary engines.
const ANSWER_BYTES: u64 = 165;

/// The part of a request that an engine does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineRole {
    /// Whole requests.
    #[default]
    Both,
    /// Prompts, whose keys and values it hands to an engine that writes the answer.
    Prefill,
    /// Answers to prompts that another engine read.
    Decode,
}

impl EngineRole {
    /// All of them with their words.
    pub const ALL: [(&str, Self); 3] = [("both", Self::Both), ("prefill", Self::Prefill), ("decode", Self::Decode)];
}

/// Energy of tokens by direction, in millionths of a joule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// For a token of a prompt that is computed.
    pub prompt: u64,
    /// For a token of an answer.
    pub answer: u64,
}

/// What is known about an engine. What is not known is left as it is by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// The site that it stands in.
    pub site: Option<String>,
    /// To its site and back.
    pub round_trip: Duration,
    /// What a thousand million bytes to or from its site cost, in millionths of a dollar.
    pub egress_micro_usd: u64,
    /// The data that it may read.
    pub data_class: DataClass,
    /// What its tokens cost, if that differs from its model's price.
    pub price: Option<Price>,
    /// What its tokens take.
    pub energy: Option<Energy>,
    /// The part of a request that it does.
    pub role: EngineRole,
    /// Where it publishes what happens in its cache, if it does.
    pub kv_events: Option<KvEvents>,
}

impl EngineFacts {
    /// Money for a million tokens, the way to its site included.
    pub(crate) fn price_rates(&self) -> Option<Rates> {
        let carried = |bytes: u64| self.egress_micro_usd.saturating_mul(bytes) / 1_000;
        let way = Rates { prompt: carried(PROMPT_BYTES), answer: carried(ANSWER_BYTES) };
        match self.price {
            Some(Price { prompt, answer, .. }) => {
                Some(Rates { prompt: prompt.saturating_add(way.prompt), answer: answer.saturating_add(way.answer) })
            }
            None => (self.egress_micro_usd > 0).then_some(way),
        }
    }

    /// Energy for a thousand tokens in thousandths of a joule, which is a token's in millionths.
    pub(crate) fn energy_rates(&self) -> Option<Rates> {
        self.energy.map(|Energy { prompt, answer }| Rates { prompt, answer })
    }
}

/// The dearer of two by direction.
pub(crate) fn dearest(one: Rates, other: Rates) -> Rates {
    Rates { prompt: one.prompt.max(other.prompt), answer: one.answer.max(other.answer) }
}

/// Which engines may do what a request needs next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    #[default]
    Whole,
    Prefill,
    Decode,
    /// All of it, by an engine that usually does a part.
    Any,
}

impl Part {
    pub(crate) fn is_for(self, role: EngineRole) -> bool {
        match self {
            Self::Whole => role == EngineRole::Both,
            Self::Prefill => role == EngineRole::Prefill,
            Self::Decode => role == EngineRole::Decode,
            // Engines that decode can read a prompt as well.
            Self::Any => role != EngineRole::Prefill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_site_costs_by_the_byte() {
        let price = Price { prompt: 500_000, cached: 0, answer: 1_500_000 };
        // Nine cents for a gigabyte: a million tokens of a prompt are four megabytes.
        let facts = EngineFacts { price: Some(price), egress_micro_usd: 90_000, ..EngineFacts::default() };
        assert_eq!(facts.price_rates(), Some(Rates { prompt: 500_360, answer: 1_514_850 }));
        assert_eq!(EngineFacts::default().price_rates(), None);
    }
}
