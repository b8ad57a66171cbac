//! Requests that wait for an engine: who is next, and who had better not wait at all.
//!
//! A [`Line`] has classes. The first class that is not empty goes first, except that a class which others have passed often
//! enough goes before them: so none starves. Within a class tenants share by weight in tokens (start-time fair queueing:
//! Goyal, Vin, Cheng 1996): a tenant that asks much cannot delay one that asks little. Who would wait longer than its class
//! waits, by the rate at which the line moved lately, is refused when it comes, not when its time is over.
//!
//! *Invariant*: of two tenants of a class that both keep waiting, the tokens served, over their weights, differ by no more
//! than one request of each. A class that waits is passed at most `passes_max` times, and once more for each other class.
//! Cost: O(log n) to join, leave and pop; O(n) to predict.

mod rate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use dh_core::SimTime;
use dh_core::time::Span;

use rate::Rate;

/// One token of weight one in the units of tags; weights divide it.
const UNIT: u128 = 1 << 20;

/// Tenants that are remembered though they do not wait, before the old ones are forgotten.
const TENANTS_KEPT: usize = 64;

/// How a class waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The longest wait.
    pub wait_max: Span,
    /// How many requests of other classes may go before one of this class that waits.
    pub passes_max: u32,
}

/// A request that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comer {
    /// Its class, counted from the first.
    pub class: usize,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The tenant's weight; at least 1.
    pub weight: u32,
    /// The work that it is.
    pub tokens: u64,
}

/// A place in the line. Places are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    class: usize,
    start: u128,
    number: u64,
}

impl Place {
    /// The class, counted from the first.
    pub const fn class(self) -> usize {
        self.class
    }
}

/// Why a request does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The line is full.
    Full {
        /// After which time there likely is a place; nothing if nobody can tell.
        wait: Option<Span>,
    },
    /// It would wait longer than its class waits.
    TooLong {
        /// After which time it likely would not.
        wait: Span,
    },
}

#[derive(Debug)]
struct Waiting {
    tenant: Arc<str>,
    tokens: u64,
    finish: u128,
}

/// One class.
#[derive(Debug)]
struct Lane {
    rule: Rule,
    /// Virtual time: the start tag of the request that went last.
    now: u128,
    /// Where each tenant's last request ends, for those that wait or went since the lane was empty.
    finishes: BTreeMap<Arc<str>, u128>,
    waiting: BTreeMap<(u128, u64), Waiting>,
    /// Requests of other classes that went before those here.
    passed: u32,
    tokens: u64,
}

/// Requests that wait for one thing.
#[derive(Debug)]
pub struct Line {
    lanes: Vec<Lane>,
    length: usize,
    length_max: usize,
    next: u64,
    rate: Rate,
}

impl Line {
    /// An empty line of these classes, the most urgent first, with room for `length_max` requests.
    pub fn new(rules: &[Rule], length_max: usize) -> Self {
        let lane = |rule: &Rule| Lane {
            rule: *rule,
            now: 0,
            finishes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            passed: 0,
            tokens: 0,
        };
        Self { lanes: rules.iter().map(lane).collect(), length: 0, length_max, next: 0, rate: Rate::default() }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Requests of a class that wait.
    pub fn waiting(&self, class: usize) -> usize {
        self.lanes.get(class).map_or(0, |lane| lane.waiting.len())
    }

    /// How long a request likely would wait; nothing before the line has moved.
    pub fn predicted(&self, comer: &Comer) -> Option<Span> {
        let lane = self.lanes.get(comer.class)?;
        let before: u64 = self.lanes.iter().take(comer.class).map(|lane| lane.tokens).sum();
        let start = lane.start_of(&comer.tenant);
        let beside: u64 = lane.waiting.range(..=(start, u64::MAX)).map(|(_, waiting)| waiting.tokens).sum();
        self.rate.time_of(before.saturating_add(beside))
    }

    /// Takes a place at `now`.
    /// # Errors
    /// [`Refused`], and nothing has changed then.
    pub fn join(&mut self, now: SimTime, comer: Comer) -> Result<Place, Refused> {
        let wait = self.predicted(&comer);
        let Some(lane) = self.lanes.get_mut(comer.class) else { return Err(Refused::Full { wait: None }) };
        if self.length >= self.length_max {
            return Err(Refused::Full { wait });
        }
        if let Some(wait) = wait.filter(|wait| *wait > lane.rule.wait_max) {
            return Err(Refused::TooLong { wait: Span(wait.0 - lane.rule.wait_max.0) });
        }
        if self.length == 0 {
            self.rate.busy_from(now);
        }
        let place = Place { class: comer.class, start: lane.start_of(&comer.tenant), number: self.next };
        let cost = u128::from(comer.tokens.max(1)) * UNIT / u128::from(comer.weight.max(1));
        let finish = place.start.saturating_add(cost.max(1));
        lane.finishes.insert(Arc::clone(&comer.tenant), finish);
        lane.tokens = lane.tokens.saturating_add(comer.tokens);
        lane.waiting
            .insert((place.start, place.number), Waiting { tenant: comer.tenant, tokens: comer.tokens, finish });
        self.next += 1;
        self.length += 1;
        Ok(place)
    }

    /// Gives a place up; tells whether it was still taken.
    pub fn leave(&mut self, place: Place) -> bool {
        let Some(lane) = self.lanes.get_mut(place.class) else { return false };
        let Some(gone) = lane.take(place.start, place.number) else { return false };
        // What was not served is not held against the tenant, unless more of it stands behind.
        if lane.finishes.get(&gone.tenant) == Some(&gone.finish) {
            lane.finishes.insert(gone.tenant, place.start);
        }
        lane.rest();
        self.length -= 1;
        if self.length == 0 {
            self.rate.idle();
        }
        true
    }

    /// The request that is served next, at `now`.
    pub fn pop(&mut self, now: SimTime) -> Option<Place> {
        let due = |lane: &Lane| !lane.waiting.is_empty() && lane.passed >= lane.rule.passes_max;
        let class =
            self.lanes.iter().position(due).or_else(|| self.lanes.iter().position(|lane| !lane.waiting.is_empty()))?;
        for (other, lane) in self.lanes.iter_mut().enumerate() {
            lane.passed = if other == class || lane.waiting.is_empty() { 0 } else { lane.passed.saturating_add(1) };
        }
        let lane = self.lanes.get_mut(class)?;
        let (start, number) = *lane.waiting.first_key_value()?.0;
        let served = lane.take(start, number)?;
        lane.now = lane.now.max(start);
        lane.forget();
        lane.rest();
        self.length -= 1;
        self.rate.moved(now, served.tokens);
        if self.length == 0 {
            self.rate.idle();
        }
        Some(Place { class, start, number })
    }
}

impl Lane {
    fn start_of(&self, tenant: &Arc<str>) -> u128 {
        self.finishes.get(tenant).copied().unwrap_or(0).max(self.now)
    }

    fn take(&mut self, start: u128, number: u64) -> Option<Waiting> {
        let taken = self.waiting.remove(&(start, number))?;
        self.tokens = self.tokens.saturating_sub(taken.tokens);
        Some(taken)
    }

    /// Tenants whose last request went long ago begin where all do.
    fn forget(&mut self) {
        if self.finishes.len() > 2 * self.waiting.len() + TENANTS_KEPT {
            let now = self.now;
            self.finishes.retain(|_, finish| *finish > now);
        }
    }

    /// When nobody waits, all tenants begin anew: nobody is owed what it did not ask for.
    fn rest(&mut self) {
        if self.waiting.is_empty() {
            self.now = 0;
            self.finishes.clear();
        }
    }
}
