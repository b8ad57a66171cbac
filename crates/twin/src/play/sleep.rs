//! How long nodes slept in a run, and which gangs had to wait for one to wake.
//!
//! Invariant: only what lies in the window counts; whole nanoseconds until the end.

use std::collections::BTreeMap;

use dh_core::{NodeId, SimTime};
use dh_policy::fleet::{Fleet, Holding, Service};
use dh_units::real;

use crate::kernel::WAKE;
use crate::measure::{Sleep, Window, node_hours, seconds};

/// What is counted while a run goes on.
#[derive(Debug, Default)]
pub(super) struct Sleeping {
    window: Window,
    /// Since when each node sleeps.
    since: BTreeMap<NodeId, SimTime>,
    /// Nanoseconds of all nodes.
    slept: u128,
    /// Whether any node ever did.
    ever: bool,
    woken: u64,
    starts: u64,
}

impl Sleeping {
    pub(super) fn new(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// A node is `service` from `now` on.
    pub(super) fn node(&mut self, now: SimTime, node: NodeId, service: Service) {
        if service == Service::Asleep {
            self.since.entry(node).or_insert(now);
            self.ever = true;
        } else if let Some(since) = self.since.remove(&node) {
            self.count(since, now);
            if service == Service::Up && self.window.holds(now) {
                self.woken += 1;
            }
        }
    }

    /// A gang starts.
    pub(super) fn started(&mut self, now: SimTime, ranks: &[Holding], fleet: &Fleet) {
        let waits = self.ever && ranks.iter().any(|held| fleet.service(held.node) == Service::Asleep);
        if waits && self.window.holds(now) {
            self.starts += 1;
        }
    }

    fn count(&mut self, from: SimTime, to: SimTime) {
        let (from, to) = self.window.clip(from, to);
        self.slept += u128::from(to.since(from).0);
    }

    /// What it came to among so many nodes; nothing if none ever slept.
    pub(super) fn finish(mut self, now: SimTime, nodes: usize) -> Option<Sleep> {
        for since in std::mem::take(&mut self.since).into_values() {
            self.count(since, now);
        }
        let (from, to) = self.window.clip(SimTime(0), now);
        let hours = node_hours(self.slept);
        let all = seconds(to.since(from)).0 / 3_600.0 * real(u64::try_from(nodes).unwrap_or(u64::MAX));
        self.ever.then(|| Sleep {
            node_hours: hours,
            share: if all > 0.0 { hours / all } else { 0.0 },
            woken: self.woken,
            starts: self.starts,
            waited_s: real(self.starts) * real(WAKE.as_secs()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_the_window_counts() {
        let hour = |hours: u64| SimTime(hours * 3_600_000_000_000);
        let mut sleeping = Sleeping::new(Window { from: hour(2), to: hour(10) });
        sleeping.node(hour(0), NodeId(0), Service::Asleep);
        sleeping.node(hour(1), NodeId(1), Service::Asleep);
        sleeping.node(hour(4), NodeId(0), Service::Up);
        sleeping.node(hour(5), NodeId(1), Service::Down);
        sleeping.node(hour(9), NodeId(0), Service::Asleep);
        let sleep = sleeping.finish(hour(20), 2).unwrap();
        assert!((sleep.node_hours - (2.0 + 3.0 + 1.0)).abs() < 1e-9, "{sleep:?}");
        assert!((sleep.share - 6.0 / 16.0).abs() < 1e-9, "{sleep:?}");
        assert_eq!((sleep.woken, sleep.starts), (1, 0));
        assert_eq!(Sleeping::new(Window::default()).finish(hour(1), 2), None);
    }
}
