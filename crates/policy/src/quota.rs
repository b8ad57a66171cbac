//! How much a caller may still use: requests and tokens of any 60 seconds, and money.
//!
//! A request *reserves* the most that it can use before it goes out, and *settles* what it did use when it has ended; what it
//! did not use is free again at once. *Invariant*: what is settled and what is reserved never exceeds a bound together, so no
//! number of requests at once can use more than was granted, as long as none uses more than it reserved. One that does (an
//! engine that wrote more than it was asked for) is counted whole, and the next ones wait.
//!
//! The window slides by seconds and errs to the strict side: a use counts for 60 to 61 seconds. Pure; O(61); no allocation.

use dh_core::time::Span;
use dh_core::{Grant, SimTime};
use serde::{Deserialize, Serialize};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// The present second and the 60 before it.
pub(crate) const SLOTS: u64 = 61;

/// What a request uses, or may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Tokens, read and written.
    pub tokens: u64,
    /// Money, in millionths of a dollar.
    pub micro_usd: u64,
}

/// A reservation; to be handed back with what was used.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is not settled counts until its minute is over, and its money for good"]
pub struct Ticket {
    second: u64,
    reserved: Use,
}

/// The bound that a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// [`Grant::requests_per_minute`].
    Requests,
    /// [`Grant::tokens_per_minute`].
    Tokens,
    /// [`Grant::budget_micro_usd`].
    Budget,
}

/// A request that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What it met.
    pub bound: Bound,
    /// After which time it would fit if nothing else came; `None` if waiting does not help.
    pub wait: Option<Span>,
}

/// A counter over the last 60 seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Counted", into = "Counted")]
pub(crate) struct Window {
    counts: [u64; 61],
    pub(crate) sum: u64,
    /// The latest second that was counted.
    pub(crate) now: u64,
}

/// A window as it is kept: its latest second, and what was counted when.
#[derive(Serialize, Deserialize)]
struct Counted(u64, Vec<(u64, u64)>);

impl From<Counted> for Window {
    fn from(Counted(now, counts): Counted) -> Self {
        let mut window = Self { now, ..Self::default() };
        for (second, count) in counts {
            if second <= now && now - second < SLOTS {
                window.add(second, count);
            }
        }
        window
    }
}

impl From<Window> for Counted {
    fn from(window: Window) -> Self {
        let seconds = (0..SLOTS).rev().filter_map(|age| window.now.checked_sub(age));
        let count = |second: u64| {
            let place = usize::try_from(second % SLOTS).ok()?;
            Some((second, window.counts.get(place).copied()?)).filter(|(_, count)| *count > 0)
        };
        Self(window.now, seconds.filter_map(count).collect())
    }
}

impl Default for Window {
    fn default() -> Self {
        Self { counts: [0; 61], sum: 0, now: 0 }
    }
}

impl Window {
    /// Forgets what is too old.
    pub(crate) fn advance(&mut self, second: u64) {
        if second <= self.now {
            return;
        }
        for fresh in 0..(second - self.now).min(SLOTS) {
            if let Some(count) = self.slot(second - fresh) {
                let old = std::mem::take(count);
                self.sum -= old;
            }
        }
        self.now = second;
    }

    fn slot(&mut self, second: u64) -> Option<&mut u64> {
        usize::try_from(second % SLOTS).ok().and_then(|place| self.counts.get_mut(place))
    }

    pub(crate) fn add(&mut self, second: u64, amount: u64) {
        let sum = self.sum;
        if let Some(count) = self.slot(second) {
            // The sum holds every count, so neither can pass its end before the sum does.
            let amount = amount.min(u64::MAX - sum);
            *count += amount;
            self.sum += amount;
        }
    }

    /// Takes back what was counted at `second`, if that is still within the window.
    pub(crate) fn take_back(&mut self, second: u64, amount: u64) {
        if self.now - second.min(self.now) >= SLOTS {
            return;
        }
        if let Some(count) = self.slot(second) {
            let amount = amount.min(*count);
            *count -= amount;
            self.sum -= amount;
        }
    }

    /// When `amount` more would fit below `bound`.
    pub(crate) fn wait(&self, now: SimTime, amount: u64, bound: u64) -> Option<Span> {
        let mut over = u128::from(self.sum) + u128::from(amount);
        for age in (0..SLOTS).rev() {
            let second = self.now.checked_sub(age);
            let count =
                second.and_then(|second| usize::try_from(second % SLOTS).ok()).and_then(|place| self.counts.get(place));
            let (Some(second), Some(count)) = (second, count) else { continue };
            over -= u128::from(*count);
            if over <= u128::from(bound) && *count > 0 {
                return Some(SimTime((second + SLOTS).saturating_mul(SECOND)).since(now));
            }
        }
        None
    }
}

/// What one caller has used.
#[derive(Debug, Clone, Default)]
pub struct Account {
    requests: Window,
    tokens: Window,
    micro_usd: u64,
}

impl Account {
    /// An account that has spent money already.
    pub fn with_spent(micro_usd: u64) -> Self {
        Self { micro_usd, ..Self::default() }
    }

    /// Reserves `most` for one request.
    /// # Errors
    /// [`Refusal`] with the bound that it would pass; nothing is counted then.
    pub fn reserve(&mut self, now: SimTime, grant: &Grant, most: Use) -> Result<Ticket, Refusal> {
        let second = (now.0 / SECOND).max(self.requests.now);
        self.requests.advance(second);
        self.tokens.advance(second);
        let bounds = [
            (Bound::Requests, &self.requests, 1, grant.requests_per_minute),
            (Bound::Tokens, &self.tokens, most.tokens, grant.tokens_per_minute),
        ];
        for (bound, window, amount, limit) in bounds {
            if let Some(limit) = limit
                && window.sum.saturating_add(amount) > limit
            {
                return Err(Refusal { bound, wait: window.wait(now, amount, limit) });
            }
        }
        if grant.budget_micro_usd.is_some_and(|budget| self.micro_usd.saturating_add(most.micro_usd) > budget) {
            return Err(Refusal { bound: Bound::Budget, wait: None });
        }
        self.requests.add(second, 1);
        self.tokens.add(second, most.tokens);
        self.micro_usd = self.micro_usd.saturating_add(most.micro_usd);
        Ok(Ticket { second, reserved: most })
    }

    /// Counts what was used instead of what was reserved.
    pub fn settle(&mut self, ticket: &Ticket, used: Use) {
        let Ticket { second, reserved } = ticket;
        self.tokens.take_back(*second, reserved.tokens.saturating_sub(used.tokens));
        let more = used.tokens.saturating_sub(reserved.tokens);
        self.tokens.add(self.tokens.now, more);
        self.micro_usd = self.micro_usd.saturating_sub(reserved.micro_usd).saturating_add(used.micro_usd);
    }

    /// Money that was used or is reserved, in millionths of a dollar.
    pub fn micro_usd(&self) -> u64 {
        self.micro_usd
    }

    /// Tokens of the last minute, those that are reserved included.
    pub fn tokens(&self) -> u64 {
        self.tokens.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;

    fn at(millis: u64) -> SimTime {
        SimTime(millis * 1_000_000)
    }

    fn grant(requests: u64, tokens: u64, budget: u64) -> Grant {
        Grant {
            requests_per_minute: Some(requests),
            tokens_per_minute: Some(tokens),
            budget_micro_usd: Some(budget),
            ..Grant::default()
        }
    }

    #[test]
    fn what_is_not_used_is_free_at_once_and_what_is_used_after_a_minute() {
        let (mut account, grant) = (Account::default(), grant(10, 100, 1_000));
        let most = Use { tokens: 80, micro_usd: 10 };
        let ticket = account.reserve(at(500), &grant, most).unwrap();
        let refused = account.reserve(at(1_500), &grant, most).unwrap_err();
        assert_eq!((refused.bound, refused.wait), (Bound::Tokens, Some(Span(59_500_000_000))));
        account.settle(&ticket, Use { tokens: 20, micro_usd: 3 });
        let ticket = account.reserve(at(2_000), &grant, most).unwrap();
        account.settle(&ticket, most);
        assert_eq!((account.tokens(), account.micro_usd()), (100, 13));
        assert!(account.reserve(at(60_999), &grant, most).is_err());
        // What came at 2.0 s is gone at 63 s.
        assert!(account.reserve(at(62_999), &grant, most).is_err());
        let ticket = account.reserve(at(63_000), &grant, most).unwrap();
        account.settle(&ticket, most);
    }

    #[test]
    fn waiting_as_long_as_told_helps_and_shorter_does_not() {
        for seed in 0..300 {
            let (mut account, grant) = (Account::default(), grant(8, 1_000, u64::MAX));
            let mut now = 0;
            for round in 0..60 {
                now += mix(seed, round) % 9_000;
                let most = Use { tokens: mix(seed, round + 100) % 700, micro_usd: 0 };
                match account.reserve(at(now), &grant, most) {
                    Ok(ticket) => account.settle(&ticket, most),
                    Err(refusal) => {
                        let wait = refusal.wait.unwrap().0.div_ceil(1_000_000);
                        assert!(account.clone().reserve(at(now + wait - 1), &grant, most).is_err());
                        assert!(
                            account.clone().reserve(at(now + wait), &grant, most).is_ok() || {
                                // Another bound may hold it longer.
                                account.clone().reserve(at(now + wait), &grant, most).unwrap_err().bound
                                    != refusal.bound
                            }
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_minute_ever_uses_more_than_was_granted() {
        for seed in 0..40 {
            let (mut account, grant) = (Account::default(), grant(30, 1_000, 20_000));
            let mut open: Vec<(Ticket, Use)> = Vec::new();
            let mut settled: Vec<(u64, u64)> = Vec::new();
            let mut begun: Vec<u64> = Vec::new();
            let mut spent = 0;
            let mut now = 0;
            for round in 0..2_000 {
                now += mix(seed, round) % 700;
                let most = Use { tokens: mix(seed, round + 5_000) % 120, micro_usd: mix(seed, round + 9_000) % 50 };
                if let Ok(ticket) = account.reserve(at(now), &grant, most) {
                    begun.push(now);
                    open.push((ticket, most));
                }
                if !open.is_empty() && !mix(seed, round + 1).is_multiple_of(3) {
                    let place = usize::try_from(mix(seed, round + 2)).unwrap_or(0) % open.len();
                    let (ticket, most) = open.swap_remove(place);
                    let used =
                        Use { tokens: most.tokens * (mix(seed, round + 3) % 4) / 3, micro_usd: most.micro_usd / 2 };
                    let used = Use { tokens: used.tokens.min(most.tokens), ..used };
                    settled.push((ticket.second * 1_000, used.tokens));
                    spent += used.micro_usd;
                    account.settle(&ticket, used);
                }
                let recent = |then: &u64| now - then.min(&now) < 60_000;
                assert!(begun.iter().filter(|then| recent(then)).count() <= 30);
                let tokens: u64 = settled.iter().filter(|(then, _)| recent(then)).map(|(_, tokens)| tokens).sum();
                assert!(tokens <= 1_000, "{tokens} at {now}");
                assert!(spent <= 20_000 && account.micro_usd() <= 20_000);
            }
            assert!(settled.len() > 100);
        }
    }

    #[test]
    fn who_uses_more_than_reserved_is_counted_and_waits() {
        let (mut account, grant) = (Account::default(), grant(100, 100, u64::MAX));
        let ticket = account.reserve(at(0), &grant, Use { tokens: 10, micro_usd: 0 }).unwrap();
        account.settle(&ticket, Use { tokens: 500, micro_usd: 7 });
        assert_eq!(
            account.reserve(at(30_000), &grant, Use { tokens: 1, micro_usd: 0 }).unwrap_err().bound,
            Bound::Tokens
        );
        assert!(account.reserve(at(61_000), &grant, Use { tokens: 1, micro_usd: 0 }).is_ok());
        let never = account.reserve(at(61_000), &grant, Use { tokens: 101, micro_usd: 0 }).unwrap_err();
        assert_eq!(never, Refusal { bound: Bound::Tokens, wait: None });
    }
}
