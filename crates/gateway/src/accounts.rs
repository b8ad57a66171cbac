//! What callers use, held against what their keys grant: reserved before a request goes out, settled when its answer ended.
//!
//! *Invariant*: every reservation is settled or given back, whichever way the request ends, because [`Charge`] gives back
//! what it holds when it is dropped. One lock a caller, held for a hundred instructions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dh_core::Grant;
use dh_policy::quota::{Account, Bound, Refusal, Ticket, Use};

use crate::Error;
use crate::bill::cost;
use crate::config::{ACCOUNTS_MAX, Price};
use crate::engines::Model;
use crate::error::Limit;
use crate::gateway::Shared;
use crate::ledger::{self, LedgerConfig, Shares};
use crate::request::Prompt;
use crate::usage::Usage;

/// The accounts of all callers whose keys have bounds.
#[derive(Default)]
pub(crate) struct Accounts {
    by_caller: RwLock<HashMap<String, Arc<Mutex<Account>>>>,
    /// Parts of what a ledger keeps; without one the accounts above are all there is, and end with the process.
    pub(crate) shares: Option<Shares>,
}

/// A reservation under way.
pub(crate) struct Charge {
    /// Taken when it is settled.
    held: Option<Held>,
    reserved: Use,
    prompt: u64,
    price: Price,
}

/// Where a reservation lies.
enum Held {
    Own(Arc<Mutex<Account>>, Ticket),
    Lent(Arc<ledger::Share>, dh_policy::ledger::Ticket),
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
    pub(crate) fn open(ledger: Option<&LedgerConfig>) -> Result<Self, Error> {
        Ok(Self { by_caller: RwLock::default(), shares: ledger.map(Shares::open).transpose()? })
    }

    /// Refuses a caller whose key is for other models.
    pub(crate) fn scope(shared: &Shared, caller: &str, model: &Model) -> Result<Option<Arc<Grant>>, Error> {
        let grant = shared.auth.grant(caller);
        if grant.as_ref().is_some_and(|grant| !grant.allows(&model.name)) {
            return Err(Error::OutOfScope { caller: caller.to_owned(), model: model.name.to_string() });
        }
        Ok(grant)
    }

    /// Reserves the most that a request may take; nothing for a caller without bounds.
    pub(crate) async fn reserve(
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
        let price = shared.price(model).unwrap_or(model.dearest);
        let reserved = Use { tokens: read.saturating_add(answer), micro_usd: cost(price, read, 0, answer) };
        if let Some(shares) = &self.shares {
            // On the heap, as few callers share bounds with another gateway.
            let (share, ticket) = Box::pin(shares.reserve(shared, caller, &grant, reserved)).await?;
            return Ok(Some(Charge { held: Some(Held::Lent(share, ticket)), reserved, prompt: read, price }));
        }
        let account = self.of(caller)?;
        let ticket = lock(&account).reserve(shared.clock.now(), &grant, reserved);
        match ticket {
            Ok(ticket) => Ok(Some(Charge { held: Some(Held::Own(account, ticket)), reserved, prompt: read, price })),
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
        let price = shared.price(model).unwrap_or(model.dearest);
        let answer = self.reserved.tokens.saturating_sub(self.prompt);
        let fits = cost(price, self.prompt, 0, answer) <= self.reserved.micro_usd;
        if fits {
            self.price = price;
        }
        fits
    }

    /// Counts what was used at the answering engine's price, where the model has none; the rest is free again.
    pub(crate) fn settle(mut self, used: Used, price: Option<Price>) {
        self.price = price.unwrap_or(self.price);
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
        match self.held.take() {
            Some(Held::Own(account, ticket)) => lock(&account).settle(&ticket, used),
            Some(Held::Lent(share, ticket)) => share.settle(&ticket, used),
            None => {}
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        // No engine answered.
        self.end(Use::default());
    }
}
