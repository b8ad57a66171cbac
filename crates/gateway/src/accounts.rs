//! What callers use, held against what their keys grant: reserved before a request goes out, settled when its answer ended.
//!
//! *Invariant*: every reservation is settled or given back, whichever way the request ends, because [`Charge`] gives back
//! what it holds when it is dropped. One lock a caller, held for a hundred instructions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dh_core::Grant;
use dh_policy::quota::{Account, Bound, Refusal, Ticket, Use};

use crate::Error;
use crate::config::{ACCOUNTS_MAX, Price};
use crate::engines::Model;
use crate::error::Limit;
use crate::gateway::Shared;
use crate::request::Prompt;
use crate::usage::Usage;

/// The accounts of all callers whose keys have bounds.
#[derive(Default)]
pub(crate) struct Accounts {
    by_caller: RwLock<HashMap<String, Arc<Mutex<Account>>>>,
}

/// A reservation under way.
pub(crate) struct Charge {
    account: Arc<Mutex<Account>>,
    /// Taken when it is settled.
    ticket: Option<Ticket>,
    reserved: Use,
    prompt: u64,
    price: Price,
}

/// What a request took.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used {
    /// The engine counted.
    Counted(Usage),
    /// So many tokens of the answer came.
    Pieces(u64),
    /// As much as was reserved.
    All,
    Nothing,
}

// No step of an account can panic half-way, so a poisoned lock still guards a sound one.
fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// Refuses a caller whose key is for other models.
    pub(crate) fn scope(shared: &Shared, caller: &str, model: &Model) -> Result<Option<Arc<Grant>>, Error> {
        let grant = shared.auth.grant(caller);
        if grant.as_ref().is_some_and(|grant| !grant.allows(&model.name)) {
            return Err(Error::OutOfScope { caller: caller.to_owned(), model: model.name.to_string() });
        }
        Ok(grant)
    }

    /// Reserves the most that a request may take; nothing for a caller without bounds.
    pub(crate) fn reserve(
        &self,
        shared: &Shared,
        caller: &str,
        model: &Model,
        prompt: &Prompt<'_>,
    ) -> Result<Option<Charge>, Error> {
        let Some(grant) = Self::scope(shared, caller, model)? else { return Ok(None) };
        let answer =
            prompt.answer_max.unwrap_or(shared.config.answer_tokens).saturating_mul(prompt.answers.unwrap_or(1));
        let read = if prompt.answered { 0 } else { model.knowledge.tokens_at_most(prompt.bytes()) };
        let price = shared.config.prices.get(&*model.name).copied().unwrap_or_default();
        let reserved = Use { tokens: read.saturating_add(answer), micro_usd: cost(price, read, 0, answer) };
        let account = self.of(caller)?;
        let ticket = lock(&account).reserve(shared.clock.now(), &grant, reserved);
        match ticket {
            Ok(ticket) => Ok(Some(Charge { account, ticket: Some(ticket), reserved, prompt: read, price })),
            Err(Refusal { bound, wait }) => {
                let (most, asked) = match bound {
                    Bound::Requests => (grant.requests_per_minute, 1),
                    Bound::Tokens => (grant.tokens_per_minute, reserved.tokens),
                    Bound::Budget => (grant.budget_micro_usd, reserved.micro_usd),
                };
                Err(Error::Limited(Limit { caller: caller.to_owned(), bound, most: most.unwrap_or(0), asked, wait }))
            }
        }
    }

    fn of(&self, caller: &str) -> Result<Arc<Mutex<Account>>, Error> {
        if let Some(account) = self.by_caller.read().unwrap_or_else(PoisonError::into_inner).get(caller) {
            return Ok(Arc::clone(account));
        }
        let mut all = self.by_caller.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ACCOUNTS_MAX && !all.contains_key(caller) {
            return Err(Error::Busy("too many callers have accounts"));
        }
        Ok(Arc::clone(all.entry(caller.to_owned()).or_default()))
    }
}

impl Charge {
    /// Another model answers: its price counts. Tells whether what was reserved is enough for it.
    pub(crate) fn moves_to(&mut self, shared: &Shared, model: &Model) -> bool {
        let price = shared.config.prices.get(&*model.name).copied().unwrap_or_default();
        let answer = self.reserved.tokens.saturating_sub(self.prompt);
        let fits = cost(price, self.prompt, 0, answer) <= self.reserved.micro_usd;
        if fits {
            self.price = price;
        }
        fits
    }

    /// Counts what was used; the rest is free again.
    pub(crate) fn settle(mut self, used: Used) {
        let used = match used {
            Used::Nothing => Use::default(),
            Used::All => self.reserved,
            Used::Pieces(pieces) => {
                let prompt = self.prompt;
                Use { tokens: prompt.saturating_add(pieces), micro_usd: cost(self.price, prompt, 0, pieces) }
            }
            Used::Counted(usage) => {
                let prompt = usage.prompt_tokens.unwrap_or(self.prompt);
                let (cached, answer) =
                    (usage.cached_tokens.unwrap_or(0).min(prompt), usage.completion_tokens.unwrap_or(0));
                let micro_usd = cost(self.price, prompt - cached, cached, answer);
                Use { tokens: prompt.saturating_add(answer), micro_usd }
            }
        };
        self.end(used);
    }

    fn end(&mut self, used: Use) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.account).settle(&ticket, used);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // No engine answered.
        self.end(Use::default());
    }
}

/// In millionths of a dollar, rounded up.
fn cost(price: Price, prompt: u64, cached: u64, answer: u64) -> u64 {
    let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
    let all = part(prompt, price.prompt) + part(cached, price.cached) + part(answer, price.answer);
    u64::try_from(all.div_ceil(1_000_000)).unwrap_or(u64::MAX)
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
