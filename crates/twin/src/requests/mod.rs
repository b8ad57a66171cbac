//! Requests to a service in virtual time: how many replicas run, and what those who ask see of it.
//!
//! Three steps, none of which looks back at an earlier one. [`replicas`] scales by the requests that came lately; the hall
//! places and starts replicas like any other gang; [`serve`] plays each request on the replicas that ran, for as long as the
//! hall let them. So waiting for a place in the hall is waiting for requests, and scaling does not know of it.
//!
//! Invariant: whole numbers; the same requests and replicas give the same times. Source of a replica's speed: the model of
//! serving of crate `perf`, by requests in flight.

mod moments;
mod replica;
mod scale;
mod serve;

pub use moments::{MOMENTS, Moment};
pub use scale::{Scale, replicas};
pub use serve::{Served, serve};

use dh_core::SimTime;
use dh_core::time::Span;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When it comes.
    pub at: SimTime,
    /// Tokens of the prompt.
    pub input: u32,
    /// Tokens of the answer.
    pub output: u32,
}

/// One replica with so many requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Requests in flight.
    pub requests: u32,
    /// From the admission of a request of the mean length to its first token.
    pub ttft: Span,
    /// Per further token.
    pub tpot: Span,
}

/// What is promised to those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Targets {
    /// Until the first token.
    pub ttft: Option<Span>,
    /// Per further token.
    pub tpot: Option<Span>,
}

/// A service, as far as requests see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// How fast a replica is, in order of requests in flight; with the last it is full.
    pub speeds: Vec<Speed>,
    /// Tokens of the prompt for which the speeds hold; longer ones take longer in proportion to their first token.
    pub input: u32,
    /// What is promised.
    pub targets: Targets,
    /// Requests between their coming and the end of their answer, at most; one more is refused. None is no limit.
    pub in_flight: Option<u64>,
}

/// When a replica took requests. What it has begun when it ends it still answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stay {
    /// From when on.
    pub from: SimTime,
    /// Until when.
    pub to: SimTime,
}

#[cfg(test)]
mod tests;
