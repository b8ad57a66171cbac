//! Rounds: all jobs at once are given what they hold next, where the settings ask for it and the order lets later jobs be
//! displaced ([`dh_policy::rounds`]). They take the place of one displacement after another.
//!
//! A round is due when something happened that may change the choice, and no sooner than the settings say after the last. It
//! stops those that were not chosen or move; until they are gone nobody else starts, and then the places are given out.
//! Jobs that ask for the same share a group, so a place belongs to a group and goes to its head: whoever comes meanwhile
//! and goes first gets it.
//!
//! Invariant: a job is stopped only if one that was chosen gets what it held. Fractions, elastic gangs and protected ones
//! that run are no part of a round, nor is anything where queues have lines, quotas or guarantees or power has a cap: there
//! jobs displace each other one by one, or not at all. Cost: O(jobs log jobs), bounded in time by the settings.

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fleet::{Holding, Service};
use dh_policy::order::{Displaces, Key, Value};
use dh_policy::packing::WHOLE;
use dh_policy::rounds::{Choice, Entrant, round};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Action, Cause, Event, Gang, Grace};
use super::job::{Phase, Slot};
use super::line::GroupId;

/// What rounds remember.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Rounds {
    /// Whether the choice may be another since the last.
    due: Due,
    last: Option<SimTime>,
    /// When to look again if nothing happens.
    again: Option<SimTime>,
    plan: Option<Plan>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Due {
    #[default]
    No,
    Yes,
}

/// A round that waits for jobs to be gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    places: Vec<(GroupId, Vec<Holding>)>,
    awaited: Vec<JobId>,
    /// When the places are given out whoever is still there.
    until: SimTime,
}

impl Scheduler {
    /// How often rounds are held, if rules let them be held at all.
    pub(super) fn rounds(&self) -> Option<Span> {
        let alone = |rules: &super::QueueRules| rules.quota_milli.is_none() && rules.guarantee_milli == 0;
        let all = self.state.queues.iter().all(|queue| alone(&queue.rules));
        let apply = self.order.displaces() == Displaces::Later && self.state.lines.lines() == 1 && all;
        self.state.settings.rounds.filter(|_| apply)
    }

    /// Something happened after which others may be chosen.
    pub(super) fn round_is_due(&mut self) {
        self.state.rounds.due = Due::Yes;
    }

    /// Whether a round is under way: nobody starts.
    pub(super) fn in_round(&self) -> bool {
        self.state.rounds.plan.is_some()
    }

    pub(super) fn round_wakeup(&self) -> Option<SimTime> {
        let until = self.state.rounds.plan.as_ref().map(|plan| plan.until);
        until.or_else(|| self.state.rounds.again.filter(|_| !self.nobody_gains()))
    }

    /// Whether a round would change nothing: nobody waits, and nobody shares who might have accelerators of his own.
    fn nobody_gains(&self) -> bool {
        self.state.lines.waiting() == 0 && self.state.interleaved.is_empty()
    }

    /// Gives the places of a round out once those that had to go are gone.
    pub(super) fn carry_out_round(&mut self, actions: &mut Vec<Action>) {
        let Some(plan) = self.state.rounds.plan.take() else { return };
        let there =
            |job: &JobId| self.state.jobs.slot(*job).and_then(|slot| self.state.jobs.get(slot)?.run()).is_some();
        if plan.until > self.state.now && plan.awaited.iter().any(there) {
            self.state.rounds.plan = Some(plan);
            return;
        }
        for (group, ranks) in plan.places {
            let decided = actions.len();
            self.take_place(group, &ranks, actions);
            if actions.len() == decided && self.state.settings.interleave.is_some() {
                self.round_is_due();
            }
        }
    }

    /// Whether an event is the answer of a job that a round stopped. Where jobs share, the next round would part and join them
    /// anew for a little more worth, and every round would be followed by another.
    pub(super) fn answers_round(&self, event: &Event) -> bool {
        let (Event::Stopped { job, .. }, Some(_)) = (event, self.state.settings.interleave) else { return false };
        self.state.rounds.plan.as_ref().is_some_and(|plan| plan.awaited.contains(job))
    }

    /// The head of a group starts on these ranks, if they are free as they were thought to be.
    fn take_place(&mut self, group: GroupId, ranks: &[Holding], actions: &mut Vec<Action>) {
        let Some(slot) = self.state.lines.top(group) else { return };
        let Some(gang) = self.gang(slot).copied() else { return };
        if self.admits(slot, &gang).is_err() {
            return;
        }
        if let Some(members) = self.enter(slot, ranks) {
            self.state.lines.pop(&mut self.state.jobs, group);
            self.charge(slot, ranks.len());
            self.run(slot, ranks.to_vec(), actions);
            self.join(slot, &members);
            self.new_head(group);
            return;
        }
        let mut taken = Vec::with_capacity(ranks.len());
        for rank in ranks {
            let works = matches!(self.state.fleet.service(rank.node), Service::Up | Service::Asleep);
            let held = if works { self.state.fleet.take(rank.node, &gang.need.rank, rank.mask) } else { None };
            match held {
                Some(held) if held.mask == rank.mask => taken.push(held),
                other => {
                    for held in other.into_iter().chain(taken) {
                        self.state.fleet.release(&held);
                    }
                    return;
                }
            }
        }
        self.state.lines.pop(&mut self.state.jobs, group);
        self.charge(slot, taken.len());
        self.run(slot, taken, actions);
        self.new_head(group);
    }

    /// Holds a round if one is due.
    pub(super) fn arrange(&mut self, actions: &mut Vec<Action>) {
        let now = self.state.now;
        let Some(every) = self.rounds().filter(|_| self.state.power.cap.is_none()) else { return };
        if self.state.rounds.again.is_some_and(|again| again <= now) {
            self.state.rounds.again = None;
            self.state.rounds.due = Due::Yes;
        }
        if self.in_round() || self.state.rounds.due == Due::No || self.nobody_gains() {
            return;
        }
        if let Some(next) = self.state.rounds.last.map(|last| last.after(every)).filter(|next| *next > now) {
            self.state.rounds.again = Some(self.state.rounds.again.map_or(next, |again| again.min(next)));
            return;
        }
        self.state.rounds.due = Due::No;
        self.state.rounds.last = Some(now);
        self.foresee();
        let (slots, keys) = self.entrants();
        let entrants: Vec<Entrant<'_>> =
            slots.iter().zip(&keys).filter_map(|(slot, key)| self.entrant(*slot, *key)).collect();
        let choice = match self.order.value() {
            Value::Place => Choice::InOrder,
            Value::Service => Choice::Worth,
        };
        let made = match self.state.settings.interleave {
            None => round(&self.state.fleet, self.placement.0, &entrants, choice),
            Some(contention) => self.round_of_sharers(&slots, &entrants, contention),
        };
        let rises = slots.iter().filter(|slot| self.state.jobs.get(**slot).is_some_and(|job| job.run().is_some()));
        let rises = rises.filter_map(|slot| self.order.rises_after(&self.candidate(*slot)?)).min();
        self.state.rounds.again = rises.map(|span| now.after(Span(span.0.max(1))));
        let slot = |at: &usize| slots.get(*at).copied();
        let stops: Vec<Slot> = made.stops.iter().filter_map(slot).collect();
        let starts: Vec<(Slot, Vec<Holding>)> =
            made.starts.into_iter().filter_map(|(at, ranks)| Some((slot(&at)?, ranks))).collect();
        let Some(first) = starts.first().and_then(|(slot, _)| self.state.jobs.get(*slot)).map(|job| job.id) else {
            return;
        };
        let places = starts.into_iter().filter_map(|(slot, ranks)| Some((self.group(slot)?, ranks))).collect();
        let awaited = stops.iter().filter_map(|slot| self.state.jobs.get(*slot)).map(|job| job.id).collect();
        for stopped in stops {
            self.stop(stopped, Cause::Preempted { by: first }, actions);
        }
        self.state.rounds.plan = Some(Plan { places, awaited, until: now.after(self.state.settings.claim) });
        self.carry_out_round(actions);
    }

    /// The group in which a job waits, or will.
    fn group(&mut self, slot: Slot) -> Option<GroupId> {
        let job = self.state.jobs.get(slot)?;
        if let Phase::Waiting { group } = &job.phase {
            return Some(*group);
        }
        let (queue, shape) = (job.queue, job.shape);
        let gang = self.state.shapes.get(shape)?;
        let (kind, ranks) = (super::run::room_kind(gang), gang.least_ranks.min(gang.need.ranks));
        Some(self.state.lines.group_of(queue, shape, kind, ranks))
    }

    /// Those that take part, and where they stand in the order.
    fn entrants(&self) -> (Vec<Slot>, Vec<Key>) {
        let part = self.state.jobs.iter().filter(|(slot, job)| {
            let Some(gang) = self.gang(*slot).filter(|gang| regular(gang)) else { return false };
            match &job.phase {
                Phase::Waiting { .. } => true,
                Phase::Running(run) => !run.stopping && run.lost.is_none() && gang.grace == Grace::Preemptible,
                Phase::Claiming(_) | Phase::Gone => false,
            }
        });
        part.map(|(slot, _)| (slot, self.key(slot))).unzip()
    }

    fn entrant(&self, slot: Slot, key: Key) -> Option<Entrant<'_>> {
        let job = self.state.jobs.get(slot)?;
        let held = job.run().map_or(&[][..], |run| run.ranks.as_slice());
        Some(Entrant { job: job.id, need: self.gang(slot)?.need, key, held })
    }

    /// What is predicted of all jobs is asked again, and those that wait are sorted by it.
    fn foresee(&mut self) {
        if !self.guesses() {
            return;
        }
        let slots: Vec<Slot> = self.state.jobs.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.guess(slot);
            let key = self.key(slot);
            if let Some(job) = self.state.jobs.get_mut(slot)
                && matches!(job.phase, Phase::Waiting { .. })
            {
                job.key = key;
            }
        }
        let groups: Vec<GroupId> = self.state.lines.all().map(|(group, _)| group).collect();
        for group in groups {
            self.state.lines.sort(&mut self.state.jobs, group);
        }
    }
}

/// Whether a gang asks for whole accelerators and neither more nor less of them.
fn regular(gang: &Gang) -> bool {
    gang.need.rank.accelerators > 0 && gang.need.rank.milli >= WHOLE && gang.least_ranks >= gang.need.ranks
}
