//! One caller's bounds, held by several gateways at once: a keeper lends parts of them for some seconds, and a gateway admits
//! requests with what it was lent, without asking for each.
//!
//! *Invariants*: what is lent counts as used, from when it is lent until its gateway says what it did use, or for the minute
//! after the loan ran out; so no window ever holds more than was granted, whichever gateway dies and whichever message is
//! lost, doubled or late. Money that was lent is spent until it is given back: a gateway that dies costs its caller what it
//! held, at most a [`MONEY_SHARE`]th of the budget beyond what was under way, and never gives anything away.
//!
//! A message has a number; its answer is kept, so asking again is harmless. State is small and pure: the keeper's journal is the
//! messages themselves ([`Ledger::apply`] is a function of them), and [`Ledger`] serializes as the journal's beginning.
//! A lender's clock and a borrower's need not agree, only run at one pace: a loan ends for the borrower a fixed time after it
//! *sent* its message, which is before the lender's own count began.

mod lessee;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use dh_core::time::Span;
use dh_core::{Grant, SimTime};
use serde::{Deserialize, Serialize};

pub use crate::quota::{Bound, Refusal, Use};
use crate::quota::{SECOND, SLOTS, Window};
pub use lessee::{Lessee, Short, Ticket};

/// Of what is free a loan takes a quarter, so that others find something; of a budget a 64th, so that a crash costs little.
const RATE_SHARE: u64 = 4;
/// See the invariants.
pub const MONEY_SHARE: u64 = 64;
/// A party that was silent so long is forgotten; what it holds of the budget stays spent.
const SILENCE: u64 = 600;
/// Gateways that share one caller.
const PARTIES_MAX: usize = 1_024;

/// The bounds that a message is judged by: those of the caller's [`Grant`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Requests in any 60 seconds.
    pub requests: Option<u64>,
    /// Tokens in any 60 seconds.
    pub tokens: Option<u64>,
    /// Money in all, in millionths of a dollar.
    pub micro_usd: Option<u64>,
}

impl From<&Grant> for Bounds {
    fn from(grant: &Grant) -> Self {
        Self { requests: grant.requests_per_minute, tokens: grant.tokens_per_minute, micro_usd: grant.budget_micro_usd }
    }
}

/// What a gateway tells and asks about one caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// A number that no other run of any gateway has.
    pub gateway: u64,
    /// Whose bounds.
    pub caller: String,
    /// Counts this gateway's messages about this caller from 1.
    pub seq: u64,
    /// Requests that it admitted since its last message.
    pub requests: u64,
    /// Tokens that it admitted them with.
    pub tokens: u64,
    /// Tokens that were told as used in an earlier message, by its number, and were not.
    pub less: Vec<(u64, u64)>,
    /// Money that it has used in all, with what is reserved.
    pub micro_usd: u64,
    /// What the next request takes; nothing if none waits.
    pub wants: Option<Use>,
    /// What it gives back with this message.
    #[serde(default)]
    pub gives: Gives,
}

/// What a gateway gives back: all that it holds of something and has not told as used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gives {
    /// Nothing.
    #[default]
    Nothing,
    /// Requests and tokens, which have run out.
    Rates,
    /// Those, and money.
    All,
}

/// The keeper's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// More may be used.
    Lent(Loan),
    /// What is wanted is not free; `wait_ns` is when it may be, if waiting helps. What was told is noted.
    Refused {
        /// The bound that it met.
        bound: Bound,
        /// How much that is.
        most: u64,
        /// In nanoseconds.
        wait_ns: Option<u64>,
    },
    /// Noted; nothing was wanted, or the message came so late that what the gateway held has run out meanwhile: it may ask again.
    Noted,
    /// A later message has come already.
    Stale,
    /// The keeper knows nothing of this gateway: it has to begin anew, with another number.
    Unknown,
}

/// What is added to what the gateway holds. An absent amount bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Money in millionths of a dollar; it does not run out with time.
    pub micro_usd: Option<u64>,
    /// How long requests may be admitted with all that it holds, from when the message was first sent, in milliseconds.
    pub life_ms: u64,
}

/// What the keeper knows of all callers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ledger {
    books: BTreeMap<String, Book>,
    life_ms: u64,
}

/// One caller.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Book {
    requests: Window,
    tokens: Window,
    /// Spent or lent.
    micro_usd: u64,
    parties: BTreeMap<u64, Party>,
}

/// One run of one gateway, as far as one caller goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Party {
    seq: u64,
    answer: Answer,
    /// When it was heard last.
    heard: u64,
    /// Lent, and not yet told as used.
    requests: u64,
    tokens: u64,
    /// The last second in which it may admit with them.
    until: u64,
    /// What ran out before it was told: when, and how much of each.
    over: Option<(u64, u64, u64)>,
    /// By message: the second at which its tokens were counted, and how many of them still are.
    told: VecDeque<(u64, u64, u64)>,
    /// Money that it was lent in all.
    lent: u64,
}

impl Default for Party {
    fn default() -> Self {
        Self {
            seq: 0,
            answer: Answer::Noted,
            heard: 0,
            requests: 0,
            tokens: 0,
            until: 0,
            over: None,
            told: VecDeque::new(),
            lent: 0,
        }
    }
}

impl Ledger {
    /// A ledger whose loans last for `life`, at most a minute.
    pub fn new(life: Span) -> Self {
        Self { books: BTreeMap::new(), life_ms: (life.0 / 1_000_000).clamp(1, 60_000) }
    }

    /// How long loans last from now on.
    pub fn set_life(&mut self, life: Span) {
        self.life_ms = Self::new(life).life_ms;
    }

    /// Callers that have a book.
    pub fn callers(&self) -> usize {
        self.books.len()
    }

    /// Money of `caller` that is spent or lent, in millionths of a dollar.
    pub fn micro_usd(&self, caller: &str) -> u64 {
        self.books.get(caller).map_or(0, |book| book.micro_usd)
    }

    /// Takes one message.
    pub fn apply(&mut self, now: SimTime, bounds: Bounds, ask: &Ask) -> Answer {
        let life_ms = self.life_ms;
        if !self.books.contains_key(&ask.caller) {
            self.books.insert(ask.caller.clone(), Book::default());
        }
        let Some(book) = self.books.get_mut(&ask.caller) else { return Answer::Unknown };
        book.advance(now.0 / SECOND);
        let second = book.requests.now;
        match book.parties.get(&ask.gateway) {
            Some(party) if ask.seq == party.seq => return party.answer,
            Some(party) if ask.seq < party.seq => return Answer::Stale,
            Some(_) => {}
            None if ask.seq > 1 => return Answer::Unknown,
            None => book.make_room(),
        }
        book.note(second, ask);
        let answer = match ask.wants {
            None => Answer::Noted,
            // It may go on using what it holds until it knows that this has run out, and could not tell that from the new.
            Some(_) if book.parties.get(&ask.gateway).is_some_and(|party| party.over.is_some()) => Answer::Noted,
            Some(wanted) => book.lend(now, bounds, wanted, ask, life_ms),
        };
        let party = book.parties.entry(ask.gateway).or_default();
        (party.seq, party.answer, party.heard) = (ask.seq, answer, second);
        answer
    }
}

impl Book {
    /// Moves on to `second`: what was lent until before counts as used then.
    fn advance(&mut self, second: u64) {
        let second = second.max(self.requests.now);
        self.requests.advance(second);
        self.tokens.advance(second);
        for party in self.parties.values_mut() {
            if party.until < second && party.requests + party.tokens > 0 {
                let at = party.until;
                if second - at < SLOTS {
                    self.requests.add(at, party.requests);
                    self.tokens.add(at, party.tokens);
                }
                party.over = Some((at, party.requests, party.tokens));
                (party.requests, party.tokens) = (0, 0);
            }
            party.told.retain(|(_, at, _)| second - (*at).min(second) < SLOTS);
        }
        self.parties.retain(|_, party| second - party.heard.min(second) < SILENCE);
    }

    /// Forgets the party that was silent longest if there are too many.
    fn make_room(&mut self) {
        if self.parties.len() >= PARTIES_MAX {
            let idle = self.parties.iter().filter(|(_, party)| party.tokens + party.requests == 0);
            let longest = idle.min_by_key(|(_, party)| party.heard).map(|(gateway, _)| *gateway);
            if let Some(gateway) = longest {
                self.parties.remove(&gateway);
            }
        }
    }

    /// Counts what a gateway tells.
    fn note(&mut self, second: u64, ask: &Ask) {
        let party = self.parties.entry(ask.gateway).or_default();
        let (mut requests, mut tokens) = (ask.requests, ask.tokens);
        if let Some((then, over_requests, over_tokens)) = &mut party.over {
            // It was counted in full when it ran out, so what is told is in there.
            let in_there = tokens.min(*over_tokens);
            requests -= take(over_requests, requests);
            tokens -= take(over_tokens, tokens);
            party.told.push_back((ask.seq, *then, in_there));
        }
        take(&mut party.requests, requests);
        take(&mut party.tokens, tokens);
        self.requests.add(second, requests);
        self.tokens.add(second, tokens);
        party.told.push_back((ask.seq, second, tokens));
        party.told.retain(|(.., counted)| *counted > 0);
        for (seq, less) in &ask.less {
            let mut less = *less;
            for (_, at, counted) in party.told.iter_mut().filter(|(told, ..)| told == seq) {
                let taken = take(counted, less);
                less -= taken;
                self.tokens.take_back(*at, taken);
            }
        }
        if ask.micro_usd > party.lent {
            // An engine wrote more than it was asked for.
            self.micro_usd = self.micro_usd.saturating_add(ask.micro_usd - party.lent);
            party.lent = ask.micro_usd;
        }
        if ask.gives != Gives::Nothing {
            (party.requests, party.tokens) = (0, 0);
            if let Some((then, requests, tokens)) = party.over.take() {
                self.requests.take_back(then, requests);
                self.tokens.take_back(then, tokens);
            }
        }
        if ask.gives == Gives::All {
            self.micro_usd = self.micro_usd.saturating_sub(party.lent - ask.micro_usd);
            party.lent = ask.micro_usd;
        }
    }

    fn lend(&mut self, now: SimTime, bounds: Bounds, wanted: Use, ask: &Ask, life_ms: u64) -> Answer {
        // What it holds already helps.
        let has = self
            .parties
            .get(&ask.gateway)
            .map_or((0, 0, 0), |party| (party.requests, party.tokens, party.lent.saturating_sub(ask.micro_usd)));
        let least =
            Use { tokens: wanted.tokens.saturating_sub(has.1), micro_usd: wanted.micro_usd.saturating_sub(has.2) };
        let held = |of: fn(&Party) -> u64| self.parties.values().map(of).fold(0, u64::saturating_add);
        let (requests, tokens) = (held(|party| party.requests), held(|party| party.tokens));
        let of_rate = |window: &Window, held: u64, bound: Bound, limit: Option<u64>, least: u64| {
            let Some(limit) = limit else { return Ok(None) };
            let free = limit.saturating_sub(window.sum).saturating_sub(held);
            if least <= free {
                return Ok(Some((free / RATE_SHARE).max(least)));
            }
            let wait = if held == 0 {
                window.wait(now, least, limit)
            } else {
                window.wait(now, least.saturating_add(held), limit).or_else(|| self.next_end(now))
            };
            let hopeless = bound == Bound::Tokens && wanted.tokens > limit;
            let wait_ns = wait.filter(|_| !hopeless && limit > 0).map(|wait| wait.0);
            Err(Answer::Refused { bound, most: limit, wait_ns })
        };
        let rates = of_rate(&self.requests, requests, Bound::Requests, bounds.requests, 1_u64.saturating_sub(has.0))
            .and_then(|requests| {
                Ok((requests, of_rate(&self.tokens, tokens, Bound::Tokens, bounds.tokens, least.tokens)?))
            });
        let (requests, tokens) = match rates {
            Ok(rates) => rates,
            Err(refused) => return refused,
        };
        let micro_usd = match bounds.micro_usd {
            None => None,
            Some(budget) => {
                let free = budget.saturating_sub(self.micro_usd);
                if least.micro_usd > free {
                    // It may come back from gateways that hold some of it and end in order; nobody knows when.
                    return Answer::Refused { bound: Bound::Budget, most: budget, wait_ns: None };
                }
                Some((free / RATE_SHARE).min(budget / MONEY_SHARE).max(least.micro_usd))
            }
        };
        let party = self.parties.entry(ask.gateway).or_default();
        party.requests += requests.unwrap_or(0);
        party.tokens += tokens.unwrap_or(0);
        party.until = (now.0.saturating_add(life_ms.saturating_mul(1_000_000)) / SECOND).max(party.until);
        party.lent = party.lent.saturating_add(micro_usd.unwrap_or(0));
        self.micro_usd = self.micro_usd.saturating_add(micro_usd.unwrap_or(0));
        Answer::Lent(Loan { requests, tokens, micro_usd, life_ms })
    }

    /// Until the next loan runs out.
    fn next_end(&self, now: SimTime) -> Option<Span> {
        let ends = self.parties.values().filter(|party| party.requests + party.tokens > 0).map(|party| party.until);
        ends.min().map(|until| SimTime(until.saturating_add(1).saturating_mul(SECOND)).since(now))
    }
}

/// Takes up to `wanted` off `from`, and gives how much it was.
fn take(from: &mut u64, wanted: u64) -> u64 {
    let taken = wanted.min(*from);
    *from -= taken;
    taken
}
