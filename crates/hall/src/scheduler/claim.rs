//! Claims: what is free of a place belongs to its job at once, and the rest as those who were stopped for it give it back.
//!
//! Invariants: what anybody gives back goes to the claims on it before anybody else sees it; a claim knows the very
//! accelerators it will hold, so two claims on one node never want the same. A claim that owns all starts in the same step.
//! One that is not whole in time gives everything back, and its job waits twice as long after each failure before it has
//! others stopped again.

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Holding, Service};

use super::Scheduler;
use super::displace::Plan;
use super::event::{Action, Cause};
use super::job::{Claim, Phase, Slot};

/// Failures after which the time between tries grows no more.
const DOUBLINGS: u32 = 6;

impl Scheduler {
    /// The job at `slot`, which stands in no line, claims a place; those in its way are told to stop.
    pub(super) fn claim(&mut self, slot: Slot, plan: Plan, actions: &mut Vec<Action>) {
        let Some(id) = self.state.jobs.get(slot).map(|job| job.id) else { return };
        let until = self.state.now.after(self.state.settings.claim);
        self.charge(slot, plan.ranks.len());
        self.state.claiming.insert(slot);
        self.state.displacing.until.insert((until, slot));
        self.unreserve(id);
        self.lay_claim(slot, plan, Claim { until, ..Claim::default() }, actions);
    }

    /// Sets what a claim is on. `old` keeps its time and the victims that have not answered yet; it holds nothing.
    fn lay_claim(&mut self, slot: Slot, plan: Plan, old: Claim, actions: &mut Vec<Action>) {
        let Some(id) = self.state.jobs.get(slot).map(|job| job.id) else { return };
        for victim in &plan.victims {
            let Some(other) = self.state.jobs.slot(*victim) else { continue };
            match plan.keeps.iter().find(|(job, _)| job == victim) {
                Some((_, kept)) => self.shrink_for(other, id, kept, actions),
                None => self.stop(other, Cause::Preempted { by: id }, actions),
            }
            self.state.displacing.serving.insert(*victim, slot);
        }
        let missing = nodes_of(&plan.ranks);
        let mut victims: Vec<JobId> = old.victims.into_iter().chain(plan.victims).collect();
        victims.sort_unstable();
        for node in &missing {
            self.state.displacing.wanted.insert((*node, slot));
        }
        if let Some(job) = self.state.jobs.get_mut(slot) {
            let held = Vec::new();
            let claim = Claim { ranks: plan.ranks, held, missing: missing.clone(), victims, until: old.until };
            job.phase = Phase::Claiming(Box::new(claim));
        }
        for node in missing {
            self.collect_at(slot, node);
        }
        self.start_whole(actions);
    }

    /// `from` gave back what it held on `nodes`: claims take what is theirs.
    pub(super) fn collect(&mut self, from: Slot, nodes: &[NodeId]) {
        if !self.state.displacing.serving.is_empty()
            && let Some(id) = self.state.jobs.get(from).map(|job| job.id)
            && let Some(claimant) = self.state.displacing.serving.remove(&id)
            && let Some(job) = self.state.jobs.get_mut(claimant)
            && let Phase::Claiming(claim) = &mut job.phase
        {
            claim.victims.retain(|victim| *victim != id);
        }
        for node in nodes {
            let here = self.state.displacing.wanted.range((*node, Slot::MIN)..=(*node, Slot::MAX));
            let claims: Vec<Slot> = here.map(|(_, slot)| *slot).collect();
            for slot in claims {
                self.collect_at(slot, *node);
            }
        }
    }

    /// A claim takes what is free of its ranks on one node.
    fn collect_at(&mut self, slot: Slot, node: NodeId) {
        // On a node that takes no work nothing is taken: claims on it are planned again, or fail.
        if !matches!(self.state.fleet.service(node), Service::Up | Service::Asleep) {
            return;
        }
        let super::State { jobs, fleet, displacing, .. } = &mut self.state;
        // Claims on a node that takes no more work are about to look elsewhere, one after the other.
        if !matches!(fleet.service(node), Service::Up | Service::Asleep) {
            return;
        }
        let Some(job) = jobs.get_mut(slot) else { return };
        let Phase::Claiming(claim) = &mut job.phase else { return };
        claim.held.retain(|held| {
            let here = held.node == node;
            if here {
                fleet.release(held);
            }
            !here
        });
        let mut whole = true;
        for rank in claim.ranks.iter().filter(|rank| rank.node == node) {
            let pieces = fleet.free_of(rank);
            whole &= pieces == [*rank];
            for piece in pieces.into_iter().filter(|piece| !is_nothing(piece)) {
                fleet.occupy(&piece);
                claim.held.push(piece);
            }
        }
        if whole {
            claim.missing.retain(|missing| *missing != node);
            displacing.wanted.remove(&(node, slot));
            if claim.missing.is_empty() {
                displacing.whole.insert(slot);
            }
        }
    }

    /// Starts the jobs whose claims own all.
    pub(super) fn start_whole(&mut self, actions: &mut Vec<Action>) {
        while let Some(slot) = self.state.displacing.whole.pop_first() {
            let Some(claim) = self.drop_claim(slot) else { continue };
            self.run(slot, claim.ranks, actions);
        }
    }

    /// Takes a claim out of the books; what it holds stays taken.
    fn drop_claim(&mut self, slot: Slot) -> Option<Claim> {
        let Phase::Claiming(claim) = &mut self.state.jobs.get_mut(slot)?.phase else { return None };
        let claim = std::mem::take(claim.as_mut());
        let displacing = &mut self.state.displacing;
        displacing.until.remove(&(claim.until, slot));
        displacing.whole.remove(&slot);
        for node in &claim.missing {
            displacing.wanted.remove(&(*node, slot));
        }
        for victim in &claim.victims {
            displacing.serving.remove(victim);
        }
        self.state.claiming.remove(&slot);
        Some(claim)
    }

    /// Makes what a job claims free again; the job itself is left without a phase.
    pub(super) fn give_up(&mut self, slot: Slot) {
        let Some(claim) = self.drop_claim(slot) else { return };
        self.refund(slot, claim.ranks.len());
        self.give_back(slot, &claim.held);
    }

    /// A claim failed: its job waits, and has nobody stopped for a while.
    fn fail(&mut self, slot: Slot) {
        let Some(id) = self.state.jobs.get(slot).map(|job| job.id) else { return };
        self.give_up(slot);
        let times = self.state.displacing.failed.get(&id).map_or(0, |(times, _)| *times);
        let pause = Span(self.state.settings.claim.0.max(1).saturating_mul(1 << times.min(DOUBLINGS)));
        let until = self.state.now.after(pause);
        self.state.displacing.failed.insert(id, (times.saturating_add(1), until));
        self.wait(slot);
    }

    /// Starts claims that are whole and ends those whose time is over.
    pub(super) fn expire(&mut self, actions: &mut Vec<Action>) {
        self.sleep(actions);
        self.rise();
        self.start_whole(actions);
        while let Some((until, slot)) = self.state.displacing.until.first().copied() {
            if until > self.state.now {
                return;
            }
            self.fail(slot);
            // What it gave back may have been all that another claim lacked.
            self.start_whole(actions);
        }
    }

    pub(super) fn claim_wakeup(&self) -> Option<SimTime> {
        self.state.displacing.until.first().map(|(until, _)| *until)
    }

    /// A node takes no more work: claims on it look for another place, with what they own and what is coming to them.
    pub(super) fn claims_on(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        if matches!(self.state.fleet.service(node), Service::Up | Service::Asleep) {
            return;
        }
        let on_it = |slot: &&Slot| match self.state.jobs.get(**slot).map(|job| &job.phase) {
            Some(Phase::Claiming(claim)) => claim.ranks.iter().any(|rank| rank.node == node),
            Some(Phase::Waiting { .. } | Phase::Running(_) | Phase::Gone) | None => false,
        };
        let claims: Vec<Slot> = self.state.claiming.iter().filter(on_it).copied().collect();
        for slot in claims {
            self.claim_again(slot, actions);
        }
    }

    fn claim_again(&mut self, slot: Slot, actions: &mut Vec<Action>) {
        let Some(job) = self.state.jobs.get(slot) else { return };
        let Phase::Claiming(claim) = &job.phase else { return };
        let victims = claim.victims.iter().filter_map(|victim| self.state.jobs.slot(*victim));
        // What is lost with a node is not coming.
        let coming = victims.filter(|slot| {
            self.state.jobs.get(*slot).and_then(super::job::Job::run).is_some_and(|run| run.lost.is_none())
        });
        let there = coming.flat_map(|slot| self.gives_back(slot));
        let freed: Vec<Holding> = claim.held.iter().copied().chain(there).collect();
        let Some(gang) = self.gang(slot).copied() else { return };
        let view = self.view(slot);
        let plan = self.right(slot, &gang).and_then(|right| self.plan(&gang, &right, view, &freed));
        let Some(plan) = plan else { return self.fail(slot) };
        let Some(old) = self.drop_claim(slot) else { return };
        for held in &old.held {
            self.state.fleet.release(held);
        }
        self.refund(slot, old.ranks.len());
        self.charge(slot, plan.ranks.len());
        self.state.claiming.insert(slot);
        self.state.displacing.until.insert((old.until, slot));
        for victim in &old.victims {
            self.state.displacing.serving.insert(*victim, slot);
        }
        self.lay_claim(slot, plan, Claim { until: old.until, victims: old.victims, ..Claim::default() }, actions);
        let nodes = nodes_of(&old.held);
        self.collect(slot, &nodes);
        self.came_free(&nodes);
    }
}

fn is_nothing(held: &Holding) -> bool {
    held.mask == 0 && held.cpu_milli == 0 && held.memory_mib == 0
}

/// The nodes of holdings, sorted.
fn nodes_of(held: &[Holding]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = held.iter().map(|held| held.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}
