//! Jobs come, start, stop and end: who owns what.

use std::sync::Arc;

use dh_core::time::Span;
use dh_core::{JobId, NodeId};
use dh_policy::fleet::View;
use dh_policy::fleet::{Holding, Service};
use dh_policy::order::{Candidate, Key};
use dh_policy::placement::{Context, Share};

use super::Scheduler;
use super::consolidate::Arrived;
use super::event::{Action, Cause, Gang, QueueId, QueueRules, Refusal, RunId, Submission};
use super::job::{Job, Phase, Run, Slot};
use super::line::{Lacks, RoomKind};
use super::shapes::Verdict;

impl Scheduler {
    pub(super) fn submitted(&mut self, submission: &Submission, actions: &mut Vec<Action>) {
        if self.knows(submission.job) {
            return;
        }
        let queue = usize::from(submission.queue);
        let unknown = self.state.queues.get(queue).is_none();
        let gang = super::boxes::rigid(&submission.gang);
        let shape = self.state.shapes.of(&gang);
        let never = match self.state.shapes.verdict(shape) {
            Verdict::Unknown => {
                let empty = self.empty.get_or_insert_with(|| Arc::new(self.state.fleet.emptied()));
                let never = self.placement.place(empty, &smallest(&gang), &Context::plain(View::All)).err();
                self.state.shapes.settle(shape, never.map_or(Verdict::Fits, Verdict::Never));
                never
            }
            Verdict::Fits => None,
            Verdict::Never(misfit) => Some(misfit),
        };
        if unknown {
            actions.push(Action::Refused { job: submission.job, because: Refusal::NoQueue });
            return;
        }
        if let Some(misfit) = never {
            actions.push(Action::Refused { job: submission.job, because: Refusal::Never(misfit) });
            return;
        }
        let slot = self.insert(submission, shape);
        self.wait(slot);
    }

    pub(super) fn insert(&mut self, submission: &Submission, shape: u32) -> Slot {
        if let Some(deadline) = submission.deadline {
            self.state.jobs.set_deadline(submission.job, deadline);
        }
        let slot = self.state.jobs.insert(Job {
            id: submission.job,
            submitted: submission.since,
            attained: submission.attained,
            length: submission.length.and_then(|length| std::num::NonZeroU64::new(length.0)),
            key: Key::default(),
            phase: Phase::Gone,
            shape,
            priority: submission.priority,
            queue: submission.queue,
            cancelled: false,
            source: super::job::Source::Told,
            kind: submission.kind,
        });
        self.enters(slot);
        slot
    }

    /// A gang runs already. What it holds must be free; else it is not taken over.
    pub(super) fn adopted(&mut self, submission: &Submission, ranks: &[Holding]) {
        if self.knows(submission.job) || self.state.queues.get(usize::from(submission.queue)).is_none() {
            return;
        }
        let gang = super::boxes::rigid(&submission.gang);
        if self.adopted_beside(submission, ranks) {
            return;
        }
        let mut taken = Vec::with_capacity(ranks.len());
        for rank in ranks {
            if !self.state.fleet.adopt(rank, &gang.need) {
                for held in &taken {
                    self.state.fleet.release(held);
                }
                return;
            }
            taken.push(*rank);
        }
        let shape = self.state.shapes.of(&gang);
        let slot = self.insert(submission, shape);
        self.guess(slot);
        self.charge(slot, taken.len());
        self.run(slot, taken, &mut Vec::new());
    }

    /// Puts a job into its group.
    pub(super) fn wait(&mut self, slot: Slot) {
        self.guess(slot);
        self.lines_up(slot);
        let key = self.key(slot);
        let Some(job) = self.state.jobs.get(slot) else { return };
        let (queue, shape) = (job.queue, job.shape);
        let Some(gang) = self.state.shapes.get(shape) else { return };
        let kind = room_kind(gang);
        let group = self.state.lines.group_of(queue, shape, kind, gang.least_ranks.min(gang.need.ranks));
        if let Some(job) = self.state.jobs.get_mut(slot) {
            job.key = key;
            job.phase = Phase::Waiting { group };
        }
        self.state.lines.push(&self.state.jobs, group, slot);
        self.came_to_wait(group, slot);
        self.came_behind(group, slot);
    }

    /// Where a job stands in the line at this moment.
    pub(super) fn key(&self, slot: Slot) -> Key {
        let ordered = || self.candidate(slot).map_or_else(Key::default, |candidate| self.order.key(&candidate));
        self.due_key(slot).unwrap_or_else(ordered)
    }

    pub(super) fn candidate(&self, slot: Slot) -> Option<Candidate> {
        let job = self.state.jobs.get(slot)?;
        let gang = self.state.shapes.get(job.shape)?;
        let queue = self.state.queues.get(usize::from(job.queue)).map_or(0, |queue| queue.rules.priority);
        let running = match job.run() {
            Some(run) if !run.stopping => self.ran_for(slot),
            Some(_) | None => Span(0),
        };
        Some(Candidate {
            job: job.id,
            priority: i64::from(job.priority) + i64::from(queue),
            submitted: job.submitted,
            milli: milli(gang),
            attained: Span(job.attained.0.saturating_add(running.0)),
            length: job.length(),
            deadline: self.state.jobs.deadline(job.id),
        })
    }

    pub(super) fn gang(&self, slot: Slot) -> Option<&Gang> {
        self.state.shapes.get(self.state.jobs.get(slot)?.shape)
    }

    pub(super) fn cancelled(&mut self, id: JobId, actions: &mut Vec<Action>) {
        let Some(slot) = self.state.jobs.slot(id) else { return };
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        job.cancelled = true;
        match &mut job.phase {
            Phase::Waiting { group } => {
                let group = *group;
                self.unreserve(id);
                self.state.displacing.forgive(id);
                self.is_gone(slot);
                self.state.jobs.bury(slot);
                self.state.lines.forget(&mut self.state.jobs, group);
                self.new_head(group);
                self.look_behind(group);
            }
            Phase::Claiming(_) => {
                self.state.displacing.forgive(id);
                self.give_up(slot);
                self.is_gone(slot);
                self.state.jobs.reuse(slot);
            }
            Phase::Running(_) => self.stop(slot, Cause::Cancelled, actions),
            Phase::Gone => {}
        }
    }

    /// Tells a running gang to stop, once. It keeps what it holds until it answers.
    pub(super) fn stop(&mut self, slot: Slot, cause: Cause, actions: &mut Vec<Action>) {
        if self.state.jobs.get(slot).and_then(Job::run).is_none_or(|run| run.stopping) {
            return;
        }
        self.left(slot);
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        let id = job.id;
        let Some(run) = job.run_mut() else { return };
        run.stopping = true;
        if let Some(lost) = &run.lost {
            self.state.broken.remove(&(lost.until, slot));
        }
        self.move_leaving(slot, |leaving, milli| leaving + milli);
        self.pauses(slot);
        actions.push(Action::Stop { job: id, cause });
    }

    /// Starts a job on `shares`: takes what it needs of each node.
    pub(super) fn start(&mut self, slot: Slot, shares: &[Share], actions: &mut Vec<Action>) {
        let Some(gang) = self.gang(slot).copied() else { return };
        let mut ranks: Vec<Holding> = Vec::with_capacity(shares.iter().map(|share| share.ranks as usize).sum());
        for share in shares {
            for rank in 0..share.ranks {
                let wanted = share.of_rank(rank, gang.need.rank.accelerators);
                let held = self.state.fleet.take_rank(share.node, &gang.need, wanted);
                assert!(held.is_some(), "{:?} was chosen and has no room", share.node);
                ranks.extend(held);
            }
        }
        self.charge(slot, ranks.len());
        self.run(slot, ranks, actions);
    }

    /// Makes a job run that owns all its ranks and is charged for them.
    pub(super) fn run(&mut self, slot: Slot, ranks: Vec<Holding>, actions: &mut Vec<Action>) {
        let now = self.state.now;
        for (at, held) in ranks.iter().enumerate() {
            if at.checked_sub(1).and_then(|before| ranks.get(before)).is_none_or(|before| before.node != held.node) {
                self.own(held.node, slot);
                self.settle(held.node);
                if self.state.fleet.service(held.node) == Service::Asleep {
                    actions.push(Action::Wake { node: held.node });
                }
            }
        }
        let ends = self.ends_on(slot, now, &ranks);
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        self.state.starts += 1;
        let run = self.state.starts;
        actions.push(Action::Start { job: job.id, run, ranks: ranks.clone() });
        let id = job.id;
        let few = ranks.len();
        job.phase = Phase::Running(Box::new(Run {
            id: run,
            started: now,
            ranks,
            safe: now,
            ends,
            resized: now,
            stopping: false,
            lost: None,
        }));
        if let Some(ends) = ends {
            self.state.ends.insert((ends, slot));
        }
        self.state.running += 1;
        if self.gang(slot).is_some_and(|gang| usize::try_from(gang.need.ranks).is_ok_and(|wanted| few < wanted)) {
            self.state.small.insert(slot);
        }
        self.unreserve(id);
        if !self.state.reservations.kept.is_empty() {
            let mut nodes: Vec<NodeId> = self.ranks(id).unwrap_or(&[]).iter().map(|held| held.node).collect();
            nodes.dedup();
            for node in nodes {
                self.keep(node);
            }
        }
        self.counts_on(slot);
        self.runs(slot);
        self.ran(slot);
    }

    pub(super) fn own(&mut self, node: NodeId, slot: Slot) {
        if let Some(owners) = usize::try_from(node.0).ok().and_then(|at| self.state.owners.get_mut(at))
            && !owners.contains(&slot)
        {
            owners.push(slot);
        }
        self.keep(node);
    }

    pub(super) fn disown(&mut self, node: NodeId, slot: Slot) {
        if let Some(owners) = usize::try_from(node.0).ok().and_then(|at| self.state.owners.get_mut(at)) {
            owners.retain(|owner| *owner != slot);
        }
        self.keep(node);
    }

    /// Counts `ranks` of a job against its queue and the power cap.
    pub(super) fn charge(&mut self, slot: Slot, ranks: usize) {
        let Some((queue, gang)) = self.state.jobs.get(slot).map(|job| job.queue).zip(self.gang(slot).copied()) else {
            return;
        };
        let ranks = u64::try_from(ranks).unwrap_or(u64::MAX);
        self.hold(queue, &gang, ranks);
        self.state.power.drawn += ranks * u64::from(gang.rank_watts);
    }

    pub(super) fn refund(&mut self, slot: Slot, ranks: usize) {
        let Some((id, gang)) = self.state.jobs.get(slot).map(|job| job.queue).zip(self.gang(slot).copied()) else {
            return;
        };
        let ranks = u64::try_from(ranks).unwrap_or(u64::MAX);
        self.let_go(id, &gang, ranks);
        self.state.power.drawn -= ranks * u64::from(gang.rank_watts);
        self.state.lines.wake_for(Lacks::Power);
    }

    pub(super) fn ended(&mut self, id: JobId, run: RunId) {
        let Some(slot) = self.in_run(id, run) else { return };
        self.learn(slot);
        let to = self.state.moving.remove(&slot);
        if let Some(kept) = self.leave(slot) {
            let to: Vec<Holding> = to.into_iter().flatten().chain(kept).collect();
            if !to.is_empty() {
                self.give_back(slot, &to);
            }
            self.is_gone(slot);
            self.state.jobs.reuse(slot);
        }
    }

    pub(super) fn stopped(&mut self, id: JobId, run: RunId, attained: Span, actions: &mut Vec<Action>) {
        let Some(slot) = self.in_run(id, run) else { return };
        let to = self.state.moving.remove(&slot);
        let shrinks = self.state.shrinking.contains_key(&slot);
        let Some(kept) = self.leave(slot) else { return };
        if self.state.jobs.get(slot).is_some_and(|job| job.cancelled) {
            let to: Vec<Holding> = to.into_iter().flatten().chain(kept).collect();
            if !to.is_empty() {
                self.give_back(slot, &to);
            }
            self.is_gone(slot);
            self.state.jobs.reuse(slot);
            return;
        }
        if let Some(job) = self.state.jobs.get_mut(slot) {
            job.attained = attained;
        }
        if shrinks {
            self.go_on_with(slot, kept, actions);
        } else if to.is_none_or(|to| self.arrive(slot, to, actions) == Arrived::Nowhere) {
            self.wait(slot);
        }
    }

    /// Takes a running gang off its nodes, but for ranks that it keeps and that were not lost: they stay taken.
    fn leave(&mut self, slot: Slot) -> Option<Vec<Holding>> {
        if self.state.jobs.get(slot).and_then(Job::run)?.stopping {
            self.move_leaving(slot, |leaving, milli| leaving - milli);
        }
        let keeps = self.state.shrinking.remove(&slot).unwrap_or_default();
        let job = self.state.jobs.get_mut(slot)?;
        let Phase::Running(run) = &mut job.phase else { return None };
        let ranks = std::mem::take(&mut run.ranks);
        let (ends, lost, all) = (run.ends, run.lost.take(), ranks.len());
        if let Some(ends) = ends {
            self.state.ends.remove(&(ends, slot));
            self.counts_off(slot, ends);
        }
        if let Some(lost) = &lost {
            self.state.broken.remove(&(lost.until, slot));
        }
        self.left(slot);
        let (mut held, mut kept): (Vec<Holding>, Vec<Holding>) = (Vec::with_capacity(all), Vec::new());
        let gone = lost.as_ref().map_or(&[][..], |lost| lost.ranks.as_slice());
        for (rank, holding) in (0_u32..).zip(ranks).filter(|(rank, _)| gone.binary_search(rank).is_err()) {
            let keeps = keeps.binary_search(&rank).is_ok();
            if keeps { &mut kept } else { &mut held }.push(holding);
        }
        held.extend(lost.into_iter().flat_map(|lost| lost.found).map(|(_, found)| found));
        self.state.running -= 1;
        self.state.small.remove(&slot);
        self.refund(slot, all);
        let held = self.part(slot, held);
        self.give_back(slot, &held);
        Some(kept)
    }

    /// Gives what a job held back: to those who claim it first, and then to whoever waits.
    pub(super) fn give_back(&mut self, slot: Slot, held: &[Holding]) {
        let mut nodes: Vec<NodeId> = held.iter().map(|held| held.node).collect();
        nodes.dedup();
        for held in held {
            self.state.fleet.release(held);
        }
        for node in &nodes {
            self.disown(*node, slot);
            self.settle(*node);
        }
        self.collect(slot, &nodes);
        if !self.state.reservations.kept.is_empty() {
            for node in &nodes {
                self.keep(*node);
            }
        }
        self.came_free(&nodes);
    }

    /// Capacity of `nodes` came free.
    pub(super) fn came_free(&mut self, nodes: &[NodeId]) {
        let fleet = &self.state.fleet;
        self.state.lines.open_for(|kind| {
            let (mut most, mut last) = (0, None);
            for node in nodes.iter().filter(|node| fleet.service(**node) != Service::Down) {
                let domain = fleet.tree().domain(node.0, kind.level);
                if last != Some(domain) {
                    most = most.max(fleet.room(domain, &rank_of(kind), kind.view));
                    last = Some(domain);
                }
            }
            most
        });
        if !nodes.is_empty() {
            self.repair_is_due();
            self.state.lines.wake_for(Lacks::Nodes);
            if self.chips_came_free(nodes) {
                self.state.lines.wake_for(Lacks::Box);
            }
            self.hope();
        }
        self.look_behind_all();
    }

    pub(super) fn predicted(&mut self, id: JobId, length: Option<Span>) {
        let Some(slot) = self.state.jobs.slot(id) else { return };
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        job.length = length.and_then(|length| std::num::NonZeroU64::new(length.0));
        job.source = super::job::Source::Told;
        self.guess(slot);
        self.length_changed(slot);
    }

    /// What follows from a job's length is put right.
    pub(super) fn length_changed(&mut self, slot: Slot) {
        let expected = self.expected_end(slot);
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        match &mut job.phase {
            Phase::Running(run) => {
                let old = run.ends;
                run.ends = expected;
                let new = run.ends;
                if let Some(old) = old {
                    self.state.ends.remove(&(old, slot));
                    self.counts_off(slot, old);
                }
                if let Some(new) = new {
                    self.state.ends.insert((new, slot));
                }
                self.stands_anew(slot);
                self.counts_on(slot);
            }
            Phase::Waiting { group } => {
                let group = *group;
                let key = self.key(slot);
                if let Some(job) = self.state.jobs.get_mut(slot) {
                    job.key = key;
                }
                self.state.lines.sort(&mut self.state.jobs, group);
                self.look_behind(group);
            }
            Phase::Claiming(_) | Phase::Gone => {}
        }
    }

    pub(super) fn queue_rules(&mut self, id: QueueId, rules: QueueRules) {
        let Some(rules) = self.take_rules(id, rules) else { return };
        let Some(queue) = self.state.queues.get_mut(usize::from(id)) else { return };
        queue.rules = rules;
        self.grant_anew();
        self.share_anew();
        // Priorities may have changed: the keys of the queue's jobs follow.
        let groups: Vec<u32> =
            self.state.lines.all().filter(|(_, group)| group.queue == id).map(|(group, _)| group).collect();
        for group in groups {
            for slot in self.state.lines.members(group).collect::<Vec<_>>() {
                let key = self.key(slot);
                if let Some(job) = self.state.jobs.get_mut(slot) {
                    job.key = key;
                }
            }
            self.state.lines.sort(&mut self.state.jobs, group);
            self.look_behind(group);
        }
        self.quotas_changed(id);
        self.track();
    }
}

/// Accelerators of a whole gang, thousandths.
pub(super) fn milli(gang: &Gang) -> u64 {
    u64::from(gang.need.ranks) * gang.need.rank.demand()
}

/// The room that a gang needs.
pub(super) fn room_kind(gang: &Gang) -> RoomKind {
    let rank = &gang.need.rank;
    RoomKind {
        level: gang.need.within,
        models: rank.models,
        accelerators: rank.accelerators,
        milli: rank.milli,
        view: View::All,
    }
}

/// A rank that needs the accelerators of `kind` and nothing else.
pub(super) fn rank_of(kind: &RoomKind) -> dh_policy::packing::Request {
    dh_policy::packing::Request {
        cpu_milli: 0,
        memory_mib: 0,
        accelerators: kind.accelerators,
        milli: kind.milli,
        models: kind.models,
    }
}

/// The gang with as few ranks as it can do with.
pub(super) fn smallest(gang: &Gang) -> dh_policy::placement::Need {
    dh_policy::placement::Need { ranks: gang.least_ranks.min(gang.need.ranks).max(1), ..gang.need }
}
