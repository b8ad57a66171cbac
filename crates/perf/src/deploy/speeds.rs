//! How fast one replica of a choice answers with so many requests in flight: what a player of request traces needs.
//!
//! Invariant: requests in flight rise from point to point, in doublings, up to what memory has room for; times never fall.
//! Cost: an estimate for each doubling.

use dh_units::{Seconds, real, whole};

use super::capacity::{layout, serve};
use super::{Case, Choice};
use crate::serving::Load;

/// Doublings at most: 16,384 requests in flight.
const DOUBLINGS: u32 = 14;

/// One replica with so many requests in flight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Requests in flight.
    pub requests: u64,
    /// From the admission of a request to its first token, in the mean.
    pub ttft: Seconds,
    /// Per further token, in the mean.
    pub tpot: Seconds,
}

/// How fast a replica of `choice` is, by requests in flight; nothing where prompts have replicas of their own.
pub fn speeds(case: &Case<'_>, choice: &Choice) -> Vec<Speed> {
    let mut found: Vec<Speed> = Vec::new();
    if choice.prefill.is_some() {
        return found;
    }
    for doubling in 0..=DOUBLINGS {
        let requests = 1_u64 << doubling;
        let layout = layout(case, choice.degrees, choice.formats, requests);
        let load = Load {
            input: case.demand.input,
            output: case.demand.output,
            concurrency: real(requests),
            prefix_hit: case.demand.prefix_hit,
            accepted: case.demand.accepted,
        };
        let Some(steady) = serve(case, choice.degrees, choice.formats, &layout, &load) else { break };
        let (mut ttft, mut tpot) = (steady.ttft.value, steady.tpot.value);
        if let Some(before) = found.last() {
            (ttft, tpot) = (Seconds(ttft.0.max(before.ttft.0)), Seconds(tpot.0.max(before.tpot.0)));
        }
        // Beyond what memory has room for, the model of serving counts the wait; the last point is the room itself.
        if steady.batch < real(requests) {
            let room = whole(steady.batch.floor());
            if let Some(before) = found.last().copied().filter(|before| before.requests < room) {
                found.push(Speed { requests: room, ttft: before.ttft, tpot });
            }
            break;
        }
        found.push(Speed { requests, ttft, tpot });
    }
    found
}
