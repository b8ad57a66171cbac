//! Nodes fail and come back: gangs that lose ranks are repaired in place, or wait for a repair before all other work.
//!
//! A gang that lost ranks keeps its others, and what was found for some of them until all are found. A replacement is a spare if there is one, else free room, as near to the lost
//! node as there is. Until then the gang is tried before every waiting job, so that a node that comes back goes to the gang
//! that lost it and not to a younger job. A gang that can do with fewer ranks goes on with those it has. At the end of its
//! patience it is stopped and waits like any other.
//!
//! Invariant: what a gang holds on a node that is down is given back at once; a lost rank is counted against the queue and
//! the power cap until it is replaced or the gang goes on without it.

use dh_core::time::Span;
use dh_core::{NodeId, SimTime};
use dh_policy::fleet::{Domain, Fleet, Service, View};
use dh_policy::health;
use dh_policy::placement::{Context, Need, within};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Action, Cause, Gang};
use super::job::{Lost, Phase, Slot};

/// What is known of nodes beyond their present state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Faults {
    /// Evidence against nodes.
    records: std::collections::BTreeMap<NodeId, health::Record>,
    /// Nodes that are kept away, by when they may come back.
    pub(super) away: std::collections::BTreeSet<(SimTime, NodeId)>,
    /// Spares that were used and not made up for.
    owed: u32,
    /// Spares that are left.
    spares: std::collections::BTreeSet<NodeId>,
    /// Whether anything has changed since repairs were last tried.
    due: bool,
}

impl Scheduler {
    /// A node takes work, or does so no more.
    pub(super) fn node(&mut self, node: NodeId, service: Service, actions: &mut Vec<Action>) {
        if usize::try_from(node.0).map_or(true, |at| at >= self.state.fleet.len()) {
            return;
        }
        let (now, rules) = (self.state.now, self.state.settings.health);
        let before = self.state.fleet.service(node);
        let mut service = service;
        if service == Service::Down && before != Service::Down {
            self.state.faults.records.entry(node).or_default().add(now, health::FAILURE, &rules);
        }
        let comes_back = service == Service::Up && matches!(before, Service::Down | Service::Quarantined);
        if comes_back {
            if let Some(span) =
                self.state.faults.records.get_mut(&node).and_then(|record| record.keeps_away(now, &rules))
            {
                service = Service::Quarantined;
                self.quarantine(node, now.after(span), actions);
            } else if self.state.faults.owed > 0 {
                self.state.faults.owed -= 1;
                service = Service::Spare;
            }
        }
        if service != Service::Quarantined {
            self.state.faults.away.retain(|(_, other)| *other != node);
        }
        self.set_service(node, service);
        if service == Service::Down {
            self.scatter(node, actions);
            self.lose(node);
        }
        self.keep(node);
        self.claims_on(node, actions);
        self.state.faults.due = true;
        self.came_free(&[node]);
    }

    fn set_service(&mut self, node: NodeId, service: Service) {
        self.state.fleet.set_service(node, service);
        self.count_node(node);
        if service == Service::Spare {
            self.state.faults.spares.insert(node);
        } else {
            self.state.faults.spares.remove(&node);
        }
        self.settle(node);
    }

    /// Evidence against a node that still works: it is slow, or counts errors.
    pub(super) fn suspected(&mut self, node: NodeId, evidence: u32, actions: &mut Vec<Action>) {
        let (now, rules) = (self.state.now, self.state.settings.health);
        if usize::try_from(node.0).map_or(true, |at| at >= self.state.fleet.len()) {
            return;
        }
        let record = self.state.faults.records.entry(node).or_default();
        record.add(now, evidence, &rules);
        if self.state.fleet.service(node) == Service::Up
            && let Some(span) = record.keeps_away(now, &rules)
        {
            self.quarantine(node, now.after(span), actions);
            self.set_service(node, Service::Quarantined);
            self.keep(node);
            self.claims_on(node, actions);
        }
    }

    fn quarantine(&mut self, node: NodeId, until: SimTime, actions: &mut Vec<Action>) {
        self.state.faults.away.retain(|(_, other)| *other != node);
        self.state.faults.away.insert((until, node));
        actions.push(Action::Quarantined { node, until });
    }

    /// Nodes whose probation is over take work again.
    pub(super) fn probation(&mut self) {
        while let Some((until, node)) = self.state.faults.away.first().copied() {
            if until > self.state.now {
                return;
            }
            self.state.faults.away.pop_first();
            if self.state.fleet.service(node) == Service::Quarantined {
                self.set_service(node, Service::Up);
                self.state.faults.due = true;
                self.came_free(&[node]);
            }
        }
    }

    pub(super) fn probation_wakeup(&self) -> Option<SimTime> {
        self.state.faults.away.first().map(|(until, _)| *until)
    }

    /// Takes the ranks on a node that is down from their gangs.
    fn lose(&mut self, node: NodeId) {
        let owners = usize::try_from(node.0).ok().and_then(|at| self.state.owners.get_mut(at)).map(std::mem::take);
        let until = self.state.now.after(self.state.settings.repair);
        for slot in owners.into_iter().flatten() {
            if self.shares(slot) {
                // It was told to stop, and holds its accelerators with others until it is gone.
                self.own(node, slot);
                continue;
            }
            let Some(run) = self.state.jobs.get_mut(slot).and_then(|job| job.run_mut()) else { continue };
            let (mut lost, mut found) = run.lost.take().map_or_else(Default::default, |lost| {
                self.state.broken.remove(&(lost.until, slot));
                (lost.ranks, lost.found)
            });
            found.retain(|(_, held)| {
                let here = held.node == node;
                if here {
                    self.state.fleet.release(held);
                }
                !here
            });
            for (rank, held) in (0_u32..).zip(&run.ranks) {
                if held.node == node && !lost.contains(&rank) {
                    lost.push(rank);
                    self.state.fleet.release(held);
                }
            }
            lost.sort_unstable();
            run.lost = Some(Lost { ranks: lost, found, until });
            if !run.stopping {
                self.state.broken.insert((until, slot));
            }
        }
    }

    /// Repairs gangs that lost ranks, where that is possible, those that wait longest first.
    pub(super) fn repair(&mut self, actions: &mut Vec<Action>) {
        let due = std::mem::take(&mut self.state.faults.due);
        let over = self.state.broken.first().is_some_and(|(until, _)| *until <= self.state.now);
        if !due && !over {
            return;
        }
        for (until, slot) in self.state.broken.clone() {
            if self.replace(slot, actions) || self.shrink(slot, actions) {
                self.state.broken.remove(&(until, slot));
            } else if until <= self.state.now {
                self.state.broken.remove(&(until, slot));
                self.stop(slot, Cause::Broken, actions);
            }
        }
    }

    /// Whether something came free that a gang that lost ranks could use.
    pub(super) fn repair_is_due(&mut self) {
        self.state.faults.due |= !self.state.broken.is_empty();
    }

    /// Finds a place for every lost rank. What is found before all are is kept: it would be gone to younger jobs else.
    fn replace(&mut self, slot: Slot, actions: &mut Vec<Action>) -> bool {
        let Some(gang) = self.gang(slot).copied() else { return false };
        if gang.need.asked().is_some() {
            return self.mend(slot, &gang, actions);
        }
        let Some((Lost { ranks: lost, mut found, .. }, ranks)) = self
            .state
            .jobs
            .get(slot)
            .and_then(|job| job.run())
            .and_then(|run| Some((run.lost.clone()?, run.ranks.clone())))
        else {
            return false;
        };
        let pace = self.pace_of(slot);
        let mut spares = Vec::new();
        let survivor = (0_u32..).zip(&ranks).find(|(rank, _)| lost.binary_search(rank).is_err());
        let survivor = survivor.map(|(_, held)| held.node);
        for rank in &lost {
            if found.iter().any(|(other, _)| other == rank) {
                continue;
            }
            let Some(old) = usize::try_from(*rank).ok().and_then(|rank| ranks.get(rank)).copied() else { return false };
            let around = survivor.or(found.first().map(|(_, held)| held.node)).unwrap_or(old.node);
            let spare = self.spare_near(&gang, old.node, around);
            if let Some(spare) = spare {
                spares.push(spare);
                self.set_service(spare, Service::Up);
                self.count_node(spare);
            }
            let place = spare.or_else(|| self.room_near(&gang, old.node, around));
            let Some(held) = place.and_then(|node| self.state.fleet.take_rank(node, &gang.need, old.mask)) else {
                continue;
            };
            found.push((*rank, held));
            self.own(held.node, slot);
            self.settle(held.node);
        }
        found.sort_unstable_by_key(|(rank, _)| *rank);
        self.state.faults.owed += u32::try_from(spares.len()).unwrap_or(0);
        let whole = found.len() == lost.len();
        if let Some(job) = self.state.jobs.get_mut(slot) {
            let id = job.id;
            if let Some(run) = job.run_mut() {
                if whole {
                    for (rank, held) in &found {
                        if let Some(place) = usize::try_from(*rank).ok().and_then(|rank| run.ranks.get_mut(rank)) {
                            *place = *held;
                        }
                    }
                    run.lost = None;
                    actions.push(Action::Repair { job: id, ranks: found.clone() });
                } else if let Some(lost) = &mut run.lost {
                    lost.found.clone_from(&found);
                }
            }
        }
        for (_, held) in &found {
            self.settle(held.node);
            self.keep(held.node);
        }
        if whole {
            self.pace_changed(slot, pace);
            self.stands_anew(slot);
        }
        // A spare that is used takes other work with what is left of it.
        self.came_free(&spares);
        whole
    }

    /// Free room for one rank, as near to `lost` as there is and in the domain of `around` in which the gang must stay.
    fn room_near(&self, gang: &Gang, lost: NodeId, around: NodeId) -> Option<NodeId> {
        let tree = self.state.fleet.tree();
        let need = Need { ranks: 1, ..gang.need };
        let must = tree.domain(around.0, gang.need.within);
        (gang.need.within..=tree.last()).rev().find_map(|level| {
            let domain = tree.domain(lost.0, level);
            let inside = tree.domain(tree.nodes_of(domain).start, must.level) == must;
            let domain = if inside { domain } else { must };
            within(&self.state.fleet, &need, &Context::plain(View::All), domain)?.first().map(|share| share.node)
        })
    }

    /// The spare nearest to `lost` that takes one rank.
    fn spare_near(&self, gang: &Gang, lost: NodeId, around: NodeId) -> Option<NodeId> {
        let tree = self.state.fleet.tree();
        let must = tree.domain(around.0, gang.need.within);
        let fit = self.state.faults.spares.iter().copied().filter(|spare| {
            tree.domain(spare.0, must.level) == must && self.state.fleet.ranks_empty(*spare, &gang.need.rank) > 0
        });
        fit.min_by_key(|spare| (std::cmp::Reverse(nearness(&self.state.fleet, *spare, lost)), *spare))
    }

    /// An elastic gang goes on without its lost ranks, if it has enough others.
    fn shrink(&mut self, slot: Slot, actions: &mut Vec<Action>) -> bool {
        let Some(gang) = self.gang(slot).copied() else { return false };
        let (now, pace) = (self.state.now, self.pace_of(slot));
        let Some(job) = self.state.jobs.get_mut(slot) else { return false };
        let id = job.id;
        let Some(run) = job.run_mut() else { return false };
        let Some((lost, found)) = run.lost.as_ref().map(|lost| (lost.ranks.clone(), lost.found.clone())) else {
            return false;
        };
        let left = run.ranks.len() - lost.len() + found.len();
        if left == 0 || u32::try_from(left).unwrap_or(0) < gang.least_ranks {
            return false;
        }
        let alive = (0_u32..).zip(&run.ranks).filter(|(rank, _)| lost.binary_search(rank).is_err());
        run.ranks = alive.map(|(_, held)| *held).chain(found.iter().map(|(_, held)| *held)).collect();
        run.lost = None;
        run.resized = now;
        actions.push(Action::Resize { job: id, ranks: run.ranks.clone() });
        self.refund(slot, lost.len() - found.len());
        self.state.small.insert(slot);
        self.pace_changed(slot, pace);
        self.doubt();
        true
    }

    /// Elastic gangs that run with fewer ranks than they asked for take what nobody who waits can use.
    pub(super) fn grow(&mut self, actions: &mut Vec<Action>) {
        let Some(after) = self.state.settings.grow_after else { return };
        if self.state.small.is_empty() || self.state.lines.any_live() {
            return;
        }
        for slot in self.state.small.clone() {
            let Some((gang, have)) = self.growing(slot, after) else { continue };
            let missing = gang.need.ranks - have;
            // Not for less than a quarter more: each change costs a restart.
            let least = (have / 4).max(1).min(missing);
            let more = Gang { need: Need { ranks: missing, ..gang.need }, least_ranks: least, ..gang };
            if self.admits_ranks(slot, &more, missing).is_err() {
                continue;
            }
            let Ok(shares) = self.find(&more, View::Open) else { continue };
            if !self.stays_inside(slot, &gang, &shares) {
                continue;
            }
            let mut added = Vec::new();
            for share in &shares {
                for rank in 0..share.ranks {
                    let wanted = share.of_rank(rank, gang.need.rank.accelerators);
                    added.extend(self.state.fleet.take_rank(share.node, &gang.need, wanted));
                }
            }
            self.charge(slot, added.len());
            for held in &added {
                self.own(held.node, slot);
                self.settle(held.node);
            }
            let (now, pace) = (self.state.now, self.pace_of(slot));
            let Some(job) = self.state.jobs.get_mut(slot) else { continue };
            let id = job.id;
            let Some(run) = job.run_mut() else { continue };
            run.ranks.extend(added);
            run.resized = now;
            actions.push(Action::Resize { job: id, ranks: run.ranks.clone() });
            let grown = u32::try_from(run.ranks.len()).unwrap_or(u32::MAX) >= gang.need.ranks;
            if grown {
                self.state.small.remove(&slot);
            }
            self.pace_changed(slot, pace);
            for share in &shares {
                self.keep(share.node);
            }
        }
    }

    fn growing(&self, slot: Slot, after: Span) -> Option<(Gang, u32)> {
        let run = self.state.jobs.get(slot)?.run()?;
        let quiet = self.since(run.resized) >= after && !run.stopping && run.lost.is_none();
        let have = u32::try_from(run.ranks.len()).ok()?;
        let gang = *self.gang(slot)?;
        (quiet && have < gang.need.ranks).then_some((gang, have))
    }

    fn stays_inside(&self, slot: Slot, gang: &Gang, shares: &[dh_policy::placement::Share]) -> bool {
        let tree = self.state.fleet.tree();
        let domain = |node: NodeId| tree.domain(node.0, gang.need.within);
        let first = self.state.jobs.get(slot).and_then(|job| job.run()).and_then(|run| run.ranks.first());
        first.is_none_or(|held| shares.iter().all(|share| domain(share.node) == domain(held.node)))
    }

    /// When elastic gangs may next grow.
    pub(super) fn grow_wakeup(&self) -> Option<SimTime> {
        let after = self.state.settings.grow_after?;
        let resized = |slot: &Slot| match &self.state.jobs.get(*slot)?.phase {
            Phase::Running(run) => Some(run.resized.after(after)),
            Phase::Waiting { .. } | Phase::Claiming(_) | Phase::Gone => None,
        };
        self.state.small.iter().filter_map(resized).filter(|at| *at > self.state.now).min()
    }
}

/// The deepest level at which two nodes share a domain.
fn nearness(fleet: &Fleet, one: NodeId, other: NodeId) -> u8 {
    let tree = fleet.tree();
    let shared = |level: u8| -> Domain { tree.domain(one.0, level) };
    (0..=tree.last()).rev().find(|level| shared(*level) == tree.domain(other.0, *level)).unwrap_or(0)
}
