//! Requests on replicas: each goes to the replica with the fewest in flight, and waits in one line while all are full.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use dh_core::SimTime;
use dh_core::time::Span;
use dh_units::real;
use serde::Serialize;

use super::moments::{Became, Moment, moments};
use super::replica::Replica;
use super::{Call, Service, Stay};
use crate::measure::{Sketch, Times};

/// What those who asked have seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Served {
    /// Requests that came.
    pub requests: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that nobody took, because too many were there already.
    pub refused: u64,
    /// Until the first token.
    pub ttft: Option<Times>,
    /// Per further token, of answers with more than one.
    pub tpot: Option<Times>,
    /// Until the last token.
    pub whole: Option<Times>,
    /// Requests that were answered within the targets, over those that came.
    pub within_targets: Option<f64>,
    /// Answers within the targets, a second.
    pub goodput_per_second: f64,
    /// Generated tokens of all answers.
    pub tokens: u64,
    /// Generated tokens a second.
    pub tokens_per_second: f64,
    /// Hours of replicas, until the last answer.
    pub replica_hours: f64,
    /// Replicas at once, at most.
    pub replicas_most: u64,
    /// Requests that waited for a replica at once, at most.
    pub line_most: u64,
    /// The same over time, at most [`super::MOMENTS`] steps.
    pub over_time: Vec<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The first token of a request.
    First {
        replica: usize,
        request: usize,
    },
    /// A request of a replica is done.
    Done {
        replica: usize,
        generation: u64,
    },
    /// A replica begins.
    Begins {
        replica: usize,
    },
    Came {
        request: usize,
    },
}

struct Play<'a> {
    calls: &'a [Call],
    service: &'a Service,
    replicas: Vec<Replica>,
    queue: BinaryHeap<Reverse<(SimTime, Due)>>,
    line: VecDeque<usize>,
    became: Vec<Became>,
    /// Requests between their coming and the end of their answer.
    inside: u64,
    refused: u64,
    ttft: Sketch,
    tpot: Sketch,
    whole: Sketch,
    within: u64,
    tokens: u64,
    line_most: usize,
    last: SimTime,
}

/// Plays `calls`, in order of time, on replicas that stay as `stays` say.
pub fn serve(calls: &[Call], service: &Service, stays: &[Stay]) -> Served {
    let mut play = Play {
        calls,
        service,
        replicas: stays.iter().map(|stay| Replica::new(*stay)).collect(),
        queue: BinaryHeap::new(),
        line: VecDeque::new(),
        became: vec![Became::Open; calls.len()],
        inside: 0,
        refused: 0,
        ttft: Sketch::default(),
        tpot: Sketch::default(),
        whole: Sketch::default(),
        within: 0,
        tokens: 0,
        line_most: 0,
        last: SimTime(0),
    };
    for (replica, stay) in stays.iter().enumerate() {
        play.queue.push(Reverse((stay.from, Due::Begins { replica })));
    }
    if let Some(call) = calls.first() {
        play.queue.push(Reverse((call.at, Due::Came { request: 0 })));
    }
    while let Some(Reverse((now, due))) = play.queue.pop() {
        play.happens(now, due);
    }
    play.finish(stays)
}

impl Play<'_> {
    fn happens(&mut self, now: SimTime, due: Due) {
        match due {
            Due::Came { request } => {
                if self.service.in_flight.is_some_and(|most| self.inside >= most) {
                    self.refused += 1;
                    self.becomes(request, Became::Refused);
                } else {
                    self.inside += 1;
                    self.line.push_back(request);
                }
                if let Some(next) = self.calls.get(request + 1) {
                    self.queue.push(Reverse((next.at, Due::Came { request: request + 1 })));
                }
                self.admit(now);
                self.line_most = self.line_most.max(self.line.len());
            }
            Due::Begins { .. } => self.admit(now),
            Due::First { replica, request } => self.answers(now, replica, request),
            Due::Done { replica, generation } => self.ends(now, replica, generation),
        }
    }

    /// Whoever is first in line goes to a replica that is not full.
    fn admit(&mut self, now: SimTime) {
        let room = self.service.speeds.last().map_or(0, |speed| speed.requests);
        while let Some(request) = self.line.front().copied() {
            let open =
                self.replicas.iter().enumerate().filter(|(_, replica)| {
                    replica.stay.from <= now && now < replica.stay.to && replica.in_flight() < room
                });
            let Some((at, _)) = open.min_by_key(|(at, replica)| (replica.in_flight(), *at)) else { return };
            self.line.pop_front();
            let Some(replica) = self.replicas.get_mut(at) else { return };
            let mean = u128::from(self.service.input.max(1));
            let input = u128::from(self.calls.get(request).map_or(1, |call| call.input.max(1)));
            let ttft = u128::from(replica.enter(now, &self.service.speeds).0) * input / mean;
            let ready = now.after(Span(u64::try_from(ttft).unwrap_or(u64::MAX).max(1)));
            self.queue.push(Reverse((ready, Due::First { replica: at, request })));
            self.plan(at);
        }
    }

    /// When the next request of a replica is done.
    fn plan(&mut self, at: usize) {
        let Some(replica) = self.replicas.get_mut(at) else { return };
        replica.generation += 1;
        let generation = replica.generation;
        if let Some(next) = replica.next(&self.service.speeds) {
            self.queue.push(Reverse((next, Due::Done { replica: at, generation })));
        }
    }

    fn answers(&mut self, now: SimTime, at: usize, request: usize) {
        let Some(call) = self.calls.get(request).copied() else { return };
        self.becomes(request, Became::Reads(now));
        self.ttft.add(now.since(call.at).0);
        let more = call.output.saturating_sub(1);
        if let Some(replica) = self.replicas.get_mut(at) {
            replica.first(now, request, more, &self.service.speeds);
        }
        if more == 0 {
            self.answered(now, request);
        }
        self.plan(at);
        self.admit(now);
    }

    fn ends(&mut self, now: SimTime, at: usize, generation: u64) {
        let mut over = Vec::new();
        let Some(replica) = self.replicas.get_mut(at).filter(|replica| replica.generation == generation) else {
            return;
        };
        while let Some(request) = replica.done(now, &self.service.speeds) {
            over.push(request);
        }
        for request in over {
            self.answered(now, request);
        }
        self.plan(at);
        self.admit(now);
    }

    fn answered(&mut self, now: SimTime, request: usize) {
        let (Some(call), Some(Became::Reads(first))) = (self.calls.get(request), self.became.get(request).copied())
        else {
            return;
        };
        self.inside = self.inside.saturating_sub(1);
        let more = u64::from(call.output.saturating_sub(1));
        let tpot = now.since(first).0.checked_div(more);
        if let Some(tpot) = tpot {
            self.tpot.add(tpot);
        }
        self.whole.add(now.since(call.at).0);
        let keeps = |time: u64, most: Option<Span>| most.is_none_or(|most| time <= most.0);
        let targets = self.service.targets;
        let kept = keeps(first.since(call.at).0, targets.ttft) && tpot.is_none_or(|tpot| keeps(tpot, targets.tpot));
        self.within += u64::from(kept);
        self.tokens += u64::from(call.output);
        self.last = self.last.max(now);
        self.becomes(request, Became::Answered(first, now));
    }

    fn becomes(&mut self, request: usize, what: Became) {
        if let Some(became) = self.became.get_mut(request) {
            *became = what;
        }
    }

    fn finish(self, stays: &[Stay]) -> Served {
        let requests = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        let from = self.calls.first().map_or(SimTime(0), |call| call.at);
        let seconds = (real(self.last.since(from).0) / 1e9).max(f64::MIN_POSITIVE);
        // What replicas do after the last answer belongs to nobody who asked.
        let end = self.last.max(self.calls.last().map_or(SimTime(0), |call| call.at));
        let held: u128 = stays.iter().map(|stay| u128::from(stay.to.min(end).since(stay.from).0)).sum();
        let mut changes: Vec<(SimTime, i8)> = stays.iter().flat_map(|stay| [(stay.from, 1), (stay.to, -1)]).collect();
        changes.sort_unstable();
        let (mut now, mut most) = (0_i64, 0_i64);
        for (_, change) in changes {
            now += i64::from(change);
            most = most.max(now);
        }
        Served {
            requests,
            answered: self.whole.count(),
            refused: self.refused,
            ttft: Times::of(&self.ttft),
            tpot: Times::of(&self.tpot),
            whole: Times::of(&self.whole),
            within_targets: (requests > 0).then(|| real(self.within) / real(requests)),
            goodput_per_second: real(self.within) / seconds,
            tokens: self.tokens,
            tokens_per_second: real(self.tokens) / seconds,
            replica_hours: real(u64::try_from(held / 1_000_000).unwrap_or(u64::MAX)) / 3.6e6,
            replicas_most: u64::try_from(most).unwrap_or(0),
            line_most: u64::try_from(self.line_most).unwrap_or(u64::MAX),
            over_time: moments(self.calls, &self.became, stays, end),
        }
    }
}
