//! What those who asked saw over time, in steps of equal length.
//!
//! Invariant: at most [`MOMENTS`] steps, however long the run. Cost: O(requests log requests), once.

use dh_core::SimTime;
use dh_units::real;
use serde::Serialize;

use super::{Call, Stay};

/// Steps of a run, at most.
pub const MOMENTS: u64 = 200;

/// A second; no step is shorter.
const SECOND: u64 = 1_000_000_000;

/// A step of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Moment {
    /// When it begins, seconds.
    pub at_s: f64,
    /// How long it is, seconds.
    pub length_s: f64,
    /// Requests that came, a second.
    pub requests_per_second: f64,
    /// Generated tokens of answers that ended, a second.
    pub tokens_per_second: f64,
    /// Until the first token of half of those that came, if any was answered.
    pub ttft_p50_s: Option<f64>,
    /// Until the first token of 99 in 100.
    pub ttft_p99_s: Option<f64>,
    /// Replicas that took requests, mean over the step.
    pub replicas: f64,
    /// Requests that were refused.
    pub refused: u64,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Became {
    /// It waits, or was never answered.
    #[default]
    Open,
    /// Nobody took it.
    Refused,
    /// Its first token was there.
    Reads(SimTime),
    /// It was answered: its first token, its last.
    Answered(SimTime, SimTime),
}

#[derive(Debug, Clone, Default)]
struct Bin {
    came: u64,
    tokens: u64,
    refused: u64,
    ttft: Vec<u64>,
    held: u128,
}

/// The steps from moment 0 to `end`.
pub(super) fn moments(calls: &[Call], became: &[Became], stays: &[Stay], end: SimTime) -> Vec<Moment> {
    let step = end.0.div_ceil(MOMENTS).max(SECOND);
    let count = usize::try_from(end.0.div_ceil(step)).unwrap_or(0);
    let mut bins = vec![Bin::default(); count];
    let place = |at: SimTime| usize::try_from(at.0 / step).unwrap_or(usize::MAX).min(count.saturating_sub(1));
    for (call, became) in calls.iter().zip(became) {
        let first = match became {
            Became::Open | Became::Refused => None,
            Became::Reads(first) | Became::Answered(first, _) => Some(*first),
        };
        if let Some(bin) = bins.get_mut(place(call.at)) {
            bin.came += 1;
            bin.refused += u64::from(*became == Became::Refused);
            bin.ttft.extend(first.map(|first| first.since(call.at).0));
        }
        if let Became::Answered(_, last) = became
            && let Some(bin) = bins.get_mut(place(*last))
        {
            bin.tokens += u64::from(call.output);
        }
    }
    for stay in stays {
        let to = stay.to.min(end);
        let mut from = stay.from;
        while from < to {
            let here = place(from);
            let edge = SimTime((from.0 / step).saturating_add(1).saturating_mul(step)).min(to);
            if let Some(bin) = bins.get_mut(here) {
                bin.held += u128::from(edge.since(from).0);
            }
            from = edge;
        }
    }
    let last = |place: u64| end.0.saturating_sub(place * step).min(step).max(1);
    (0..)
        .zip(bins)
        .map(|(place, mut bin)| {
            bin.ttft.sort_unstable();
            let length = last(place);
            let seconds = real(length) / 1e9;
            Moment {
                at_s: real(place * step) / 1e9,
                length_s: seconds,
                requests_per_second: real(bin.came) / seconds,
                tokens_per_second: real(bin.tokens) / seconds,
                ttft_p50_s: rank(&bin.ttft, 50),
                ttft_p99_s: rank(&bin.ttft, 99),
                replicas: real(u64::try_from(bin.held).unwrap_or(u64::MAX)) / real(length),
                refused: bin.refused,
            }
        })
        .collect()
}

/// The nearest rank, seconds.
fn rank(sorted: &[u64], percent: usize) -> Option<f64> {
    let at = (sorted.len() * percent).div_ceil(100).checked_sub(1)?;
    sorted.get(at).map(|nanos| real(*nanos) / 1e9)
}
