//! How many replicas are wanted: by the requests of the last interval, up at once and down after a while.

use dh_core::SimTime;
use dh_core::time::Span;

use super::{Call, Stay};

/// How a service is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Replicas at least.
    pub least: u32,
    /// Replicas at most.
    pub most: u32,
    /// Requests that one replica can answer in 1,000,000 s.
    pub per_replica: u64,
    /// How often it is looked at.
    pub every: Span,
    /// A replica goes when it was not wanted for so long.
    pub patience: Span,
}

/// When replicas are wanted, each from its start to its end, in order of their starts. Those that go are those that came last.
pub fn replicas(calls: &[Call], scale: &Scale, until: SimTime) -> Vec<Stay> {
    let least = scale.least.max(1);
    let mut up: Vec<SimTime> = vec![SimTime(0); usize::try_from(least).unwrap_or(usize::MAX)];
    let mut done = Vec::new();
    let (mut next, mut from, mut needed_at) = (0, SimTime(0), SimTime(0));
    let every = scale.every.0.max(1);
    while from < until {
        let to = SimTime(from.0.saturating_add(every)).min(until);
        let first = next;
        while calls.get(next).is_some_and(|call| call.at < to) {
            next += 1;
        }
        let came = u128::try_from(next - first).unwrap_or(u128::MAX);
        let rate = came * 1_000_000_000_000_000 / u128::from(every);
        let wanted = rate.div_ceil(u128::from(scale.per_replica.max(1)));
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(least, scale.most.max(least));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if wanted >= up.len() {
            needed_at = to;
            while up.len() < wanted {
                up.push(to);
            }
        } else if to.since(needed_at) >= scale.patience {
            done.extend(up.drain(wanted..).map(|started| Stay { from: started, to }));
            needed_at = to;
        }
        from = to;
    }
    done.extend(up.into_iter().filter(|started| *started < until).map(|started| Stay { from: started, to: until }));
    done.sort_unstable();
    done
}
