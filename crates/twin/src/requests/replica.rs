//! One replica: all requests that decode get a token in each step, and a step takes as long as the requests in flight make it.
//!
//! Progress is kept as one clock of tokens that all share, so a change of speed touches no request. Cost: O(log requests in
//! flight) for each that enters or leaves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dh_core::SimTime;
use dh_core::time::Span;

use super::{Speed, Stay};

/// Millionths of a token.
const TOKEN: u128 = 1_000_000;

/// A replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) stay: Stay,
    /// Requests whose first token is still to come.
    reading: u32,
    /// Requests that decode, by where the clock of tokens stands when they are done.
    decoding: BinaryHeap<Reverse<(u128, usize)>>,
    clock: u128,
    at: SimTime,
    /// Events of an earlier speed do not count.
    pub(super) generation: u64,
}

impl Replica {
    pub(super) fn new(stay: Stay) -> Self {
        Self { stay, reading: 0, decoding: BinaryHeap::new(), clock: 0, at: stay.from, generation: 0 }
    }

    /// Requests in flight.
    pub(super) fn in_flight(&self) -> u32 {
        u32::try_from(self.decoding.len()).unwrap_or(u32::MAX).saturating_add(self.reading)
    }

    /// Moves the clock of tokens to `now`.
    fn advance(&mut self, now: SimTime, speeds: &[Speed]) {
        let step = between(speeds, self.in_flight(), |speed| speed.tpot).0.max(1);
        self.clock += u128::from(now.since(self.at).0) * TOKEN / u128::from(step);
        self.at = self.at.max(now);
    }

    /// A request enters; returns how long its first token takes.
    pub(super) fn enter(&mut self, now: SimTime, speeds: &[Speed]) -> Span {
        self.advance(now, speeds);
        self.reading += 1;
        between(speeds, self.in_flight(), |speed| speed.ttft)
    }

    /// The first token of a request is there, and `more` are to come.
    pub(super) fn first(&mut self, now: SimTime, request: usize, more: u32, speeds: &[Speed]) {
        self.advance(now, speeds);
        self.reading = self.reading.saturating_sub(1);
        if more > 0 {
            self.decoding.push(Reverse((self.clock + u128::from(more) * TOKEN, request)));
        }
    }

    /// The next request that is done by `now`, if there is one.
    pub(super) fn done(&mut self, now: SimTime, speeds: &[Speed]) -> Option<usize> {
        self.advance(now, speeds);
        let Reverse((due, _)) = self.decoding.peek()?;
        if *due > self.clock {
            return None;
        }
        self.decoding.pop().map(|Reverse((_, request))| request)
    }

    /// When the next request is done at the present speed.
    pub(super) fn next(&self, speeds: &[Speed]) -> Option<SimTime> {
        let Reverse((due, _)) = self.decoding.peek()?;
        let step = u128::from(between(speeds, self.in_flight(), |speed| speed.tpot).0.max(1));
        let left = (due.saturating_sub(self.clock) * step).div_ceil(TOKEN);
        Some(self.at.after(Span(u64::try_from(left).unwrap_or(u64::MAX).max(1))))
    }
}

/// A time with `requests` in flight, between the points on either side.
pub(super) fn between(speeds: &[Speed], requests: u32, of: impl Fn(&Speed) -> Span) -> Span {
    let after = speeds.partition_point(|speed| speed.requests < requests);
    let (before, after) = (after.checked_sub(1).and_then(|at| speeds.get(at)), speeds.get(after));
    match (before, after) {
        (Some(low), Some(high)) => {
            let (least, most) = (of(low).0, of(high).0.max(of(low).0));
            let part = u128::from(most - least) * u128::from(requests - low.requests);
            let span = part / u128::from((high.requests - low.requests).max(1));
            Span(least.saturating_add(u64::try_from(span).unwrap_or(u64::MAX)))
        }
        (Some(one), None) | (None, Some(one)) => of(one),
        (None, None) => Span(1),
    }
}
