//! What a request took: money and energy, by the figures of the engine that answered it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Price;
use crate::engines::Engine;
use crate::facts::Energy;
use crate::relay::Begun;
use crate::usage::Usage;

const COST: HeaderName = HeaderName::from_static("x-datahall-cost-usd");
const JOULES: HeaderName = HeaderName::from_static("x-datahall-joules");

/// Money in millionths of a dollar and energy in millionths of a joule; nothing of what has no figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) micro_usd: Option<u64>,
    pub(crate) micro_joules: Option<u64>,
}

/// Whether a request that `engine` answers has a bill at all.
pub(crate) fn is_due(engine: &Engine, price: Option<Price>) -> bool {
    price.is_some() || engine.facts.price.is_some() || engine.facts.energy.is_some()
}

/// The bill of a request that `engine` answered with `usage`. A prompt that another engine read is that one's work.
pub(crate) fn bill(engine: &Engine, begun: &Begun, usage: Usage) -> Bill {
    let (reader, read) = begun.read_by.as_ref().map_or((engine, usage), |(reader, read)| (&**reader, *read));
    let prompt = read.prompt_tokens.unwrap_or(0);
    let cached = read.cached_tokens.unwrap_or(0).min(prompt);
    let answer = usage.completion_tokens.unwrap_or(0);
    let energy = |engine: &Engine, part: fn(Energy) -> u64, tokens: u64| {
        engine.facts.energy.map(|energy| part(energy).saturating_mul(tokens))
    };
    let money = |engine: &Engine, prompt: u64, cached: u64, answer: u64| {
        engine.facts.price.or(begun.price).map(|price| cost(price, prompt, cached, answer))
    };
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    };
    let micro_joules =
        sum(energy(reader, |energy| energy.prompt, prompt - cached), energy(engine, |energy| energy.answer, answer));
    let micro_usd = if begun.read_by.is_some() {
        sum(money(reader, prompt - cached, cached, 0), money(engine, 0, 0, answer))
    } else {
        money(engine, prompt - cached, cached, answer)
    };
    Bill { micro_usd, micro_joules }
}

/// In millionths of a dollar, rounded up.
pub(crate) fn cost(price: Price, prompt: u64, cached: u64, answer: u64) -> u64 {
    let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
    let all = part(prompt, price.prompt) + part(cached, price.cached) + part(answer, price.answer);
    u64::try_from(all.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Bill {
    /// Writes it into the head of an answer.
    pub(crate) fn head(self, headers: &mut HeaderMap) {
        for (name, micro) in [(COST, self.micro_usd), (JOULES, self.micro_joules)] {
            let text = micro.map(decimal).and_then(|text| HeaderValue::try_from(text).ok());
            if let Some(text) = text {
                headers.insert(name, text);
            }
        }
    }
}

/// Millionths as a decimal number.
pub(crate) fn decimal(micro: u64) -> String {
    format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_by_direction_and_rounded_up() {
        let price = Price { prompt: 2_000_000, cached: 500_000, answer: 8_000_000 };
        assert_eq!(cost(price, 10, 4, 3), 20 + 2 + 24);
        assert_eq!(cost(price, 0, 1, 0), 1);
        assert_eq!(cost(Price::default(), u64::MAX, 1, 1), 0);
    }
}
