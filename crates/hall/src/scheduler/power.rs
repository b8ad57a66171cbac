//! Power: a cap on what running gangs may draw together, and nodes that sleep.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{NodeId, SimTime};
use dh_policy::fleet::Service;
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Action, DatasetId, Gang, Presence};
use super::line::Lacks;

/// What is drawn and allowed, watts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Power {
    /// What running and claiming gangs draw.
    pub(super) drawn: u64,
    pub(super) cap: Option<u64>,
    /// Nodes that are idle and awake, by when they may go to sleep.
    idle: BTreeSet<(SimTime, NodeId)>,
    /// The same, by node.
    sleepy: BTreeMap<NodeId, SimTime>,
}

impl Scheduler {
    pub(super) fn power_allows(&self, gang: &Gang, ranks: u32) -> bool {
        let watts = u64::from(gang.rank_watts) * u64::from(ranks);
        self.state.power.cap.is_none_or(|cap| self.state.power.drawn + watts <= cap)
    }

    pub(super) fn power_cap(&mut self, watts: Option<u64>) {
        self.state.power.cap = watts;
        self.state.lines.wake_for(Lacks::Power);
    }

    pub(super) fn power_wakeup(&self) -> Option<SimTime> {
        self.state.power.idle.first().map(|(at, _)| *at)
    }

    /// A node has become idle or busy.
    pub(super) fn settle(&mut self, node: NodeId) {
        let Some(after) = self.state.settings.sleep_after else { return };
        let idle = self.state.fleet.service(node) == Service::Up && self.state.fleet.idle(node);
        let known = self.state.power.sleepy.get(&node).copied();
        match (idle, known) {
            (true, None) => {
                let at = self.state.now.after(after);
                self.state.power.idle.insert((at, node));
                self.state.power.sleepy.insert(node, at);
            }
            (false, Some(at)) => {
                self.state.power.idle.remove(&(at, node));
                self.state.power.sleepy.remove(&node);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Sends nodes to sleep that have been idle long enough.
    pub(super) fn sleep(&mut self, actions: &mut Vec<Action>) {
        while let Some((at, node)) = self.state.power.idle.first().copied() {
            if at > self.state.now {
                return;
            }
            self.state.power.idle.pop_first();
            self.state.power.sleepy.remove(&node);
            if self.state.fleet.service(node) == Service::Up && self.state.fleet.idle(node) {
                actions.push(Action::Sleep { node });
            }
        }
    }

    pub(super) fn dataset(&mut self, dataset: DatasetId, node: NodeId, held: Presence) {
        let nodes = self.state.warm.entry(dataset).or_default();
        match (nodes.binary_search(&node), held) {
            (Err(at), Presence::Present) => nodes.insert(at, node),
            (Ok(at), Presence::Absent) => {
                nodes.remove(at);
            }
            (Ok(_), Presence::Present) | (Err(_), Presence::Absent) => {}
        }
        if self.state.warm.get(&dataset).is_some_and(Vec::is_empty) {
            self.state.warm.remove(&dataset);
        }
    }
}
