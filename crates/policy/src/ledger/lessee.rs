//! A gateway's side of the ledger: what it holds of one caller's bounds, and what it has to tell about it.

use std::collections::BTreeMap;

use dh_core::SimTime;
use dh_core::time::Span;

use super::{Answer, Ask, Bound, Gives, Loan, Use};

/// Refunds that wait to be told; older ones than a minute free nothing any more.
const LESS_MAX: usize = 64;

/// A reservation out of what is held.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is not settled counts in full"]
pub struct Ticket {
    gateway: u64,
    /// The message that tells of it.
    epoch: u64,
    reserved: Use,
}

/// What is held does not suffice: the keeper has to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short;

/// What one gateway holds of one caller's bounds.
#[derive(Debug, Clone)]
pub struct Lessee {
    pub(super) gateway: u64,
    caller: String,
    /// The number of the next message.
    epoch: u64,
    /// What may still be admitted; `None` for what has no bound.
    requests: Option<u64>,
    tokens: Option<u64>,
    /// Whether money has a bound.
    priced: bool,
    /// From when on nothing may be admitted without asking.
    until: SimTime,
    /// Admitted since the last message.
    admitted: (u64, u64),
    less: BTreeMap<u64, u64>,
    lent: u64,
    used: u64,
    /// A message without an answer so far, and when it was sent first.
    pending: Option<(Ask, SimTime)>,
}

impl Lessee {
    /// One that holds nothing. `gateway` is a number that no other run of any gateway has.
    pub fn new(gateway: u64, caller: &str) -> Self {
        Self {
            gateway,
            caller: caller.to_owned(),
            epoch: 1,
            requests: None,
            tokens: None,
            priced: false,
            until: SimTime(0),
            admitted: (0, 0),
            less: BTreeMap::new(),
            lent: 0,
            used: 0,
            pending: None,
        }
    }

    /// Reserves `most` for one request out of what is held.
    /// # Errors
    /// [`Short`] if that does not suffice or has run out; nothing is counted then.
    pub fn take(&mut self, now: SimTime, most: Use) -> Result<Ticket, Short> {
        let money = self.lent.saturating_sub(self.used);
        let enough = |held: Option<u64>, wanted: u64| held.is_none_or(|held| held >= wanted);
        let fits = enough(self.requests, 1) && enough(self.tokens, most.tokens);
        if now >= self.until || !fits || (self.priced && money < most.micro_usd) {
            return Err(Short);
        }
        self.requests = self.requests.map(|held| held - 1);
        self.tokens = self.tokens.map(|held| held - most.tokens);
        self.admitted.0 += 1;
        self.admitted.1 = self.admitted.1.saturating_add(most.tokens);
        self.used = self.used.saturating_add(most.micro_usd);
        Ok(Ticket { gateway: self.gateway, epoch: self.epoch, reserved: most })
    }

    /// Counts what was used instead of what was reserved.
    pub fn settle(&mut self, ticket: &Ticket, used: Use) {
        let Ticket { gateway, epoch, reserved } = ticket;
        if *gateway != self.gateway {
            return;
        }
        self.used = self.used.saturating_sub(reserved.micro_usd).saturating_add(used.micro_usd);
        if used.tokens > reserved.tokens {
            let more = used.tokens - reserved.tokens;
            self.tokens = self.tokens.map(|held| held.saturating_sub(more));
            self.admitted.1 = self.admitted.1.saturating_add(more);
            return;
        }
        let less = reserved.tokens - used.tokens;
        if *epoch == self.epoch {
            // Nobody was told yet.
            self.admitted.1 = self.admitted.1.saturating_sub(less);
            self.tokens = self.tokens.map(|held| held.saturating_add(less));
        } else if less > 0 {
            *self.less.entry(*epoch).or_default() += less;
            if self.less.len() > LESS_MAX {
                self.less.pop_first();
            }
        }
    }

    /// Whether a message has no answer so far.
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether something is to be told though nobody waits.
    pub fn has_news(&self, now: SimTime) -> bool {
        let over = now >= self.until && (self.admitted != (0, 0) || self.tokens.is_some_and(|held| held > 0));
        self.pending.is_some() || !self.less.is_empty() || over
    }

    /// Whether it holds something, and nobody used it for so long.
    pub fn is_idle(&self, now: SimTime, patience: Span) -> bool {
        self.lent > self.used && now.since(self.until) >= patience
    }

    /// Whether it holds money, or may.
    pub fn holds(&self) -> bool {
        self.lent != self.used || self.pending.is_some() || self.tokens.is_some_and(|held| held > 0)
    }

    /// The message for the keeper: the last one again if it has no answer, else a fresh one. `ends` gives all back, and
    /// nothing may be admitted from then on without asking.
    pub fn ask(&mut self, now: SimTime, wants: Option<Use>, ends: bool) -> Ask {
        if let Some((ask, _)) = &self.pending {
            return ask.clone();
        }
        let gives = match (ends, now >= self.until) {
            (true, _) => Gives::All,
            (false, true) => Gives::Rates,
            (false, false) => Gives::Nothing,
        };
        if gives != Gives::Nothing {
            self.until = SimTime(0);
            (self.requests, self.tokens) = (self.requests.map(|_| 0), self.tokens.map(|_| 0));
        }
        let (requests, tokens) = std::mem::take(&mut self.admitted);
        let ask = Ask {
            gateway: self.gateway,
            caller: self.caller.clone(),
            seq: self.epoch,
            requests,
            tokens,
            less: std::mem::take(&mut self.less).into_iter().collect(),
            micro_usd: self.used,
            wants,
            gives,
        };
        self.epoch += 1;
        self.pending = Some((ask.clone(), now));
        ask
    }

    /// Takes the answer to message `seq`. A keeper that knows nothing of this gateway makes it begin anew as `fresh`.
    /// # Errors
    /// The bound that the wanted request met, how much it is, and how long to wait.
    pub fn answered(&mut self, seq: u64, answer: Answer, fresh: u64) -> Result<(), (Bound, u64, Option<Span>)> {
        let Some((ask, sent)) = self.pending.take_if(|(ask, _)| ask.seq == seq) else { return Ok(()) };
        match answer {
            Answer::Lent(Loan { requests, tokens, micro_usd, life_ms }) => {
                let more =
                    |held: Option<u64>, more: Option<u64>| more.map(|more| held.unwrap_or(0).saturating_add(more));
                self.requests = more(self.requests, requests);
                self.tokens = more(self.tokens, tokens);
                self.priced = micro_usd.is_some();
                self.lent = self.lent.max(ask.micro_usd).saturating_add(micro_usd.unwrap_or(0));
                self.until = SimTime(sent.0.saturating_add(life_ms.saturating_mul(1_000_000))).max(self.until);
            }
            Answer::Refused { bound, most, wait_ns } => {
                self.lent = self.lent.max(ask.micro_usd);
                return Err((bound, most, wait_ns.map(Span)));
            }
            Answer::Noted => {
                self.lent = if ask.gives == Gives::All { ask.micro_usd } else { self.lent.max(ask.micro_usd) }
            }
            // A later message of ours cannot have come while this one had no answer: somebody else uses our number.
            Answer::Stale | Answer::Unknown => *self = Self::new(fresh, &self.caller),
        }
        Ok(())
    }
}
