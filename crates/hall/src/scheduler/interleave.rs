//! Jobs that share accelerators: the stages of their iterations interleave, so each gets on while others load or exchange.
//!
//! Rounds decide who shares ([`dh_policy::sharing`]), where the settings ask for it. Members of a group run on the same ranks;
//! each has its own cores and memory there, and the accelerators belong to all until the last is gone. A job of which nothing
//! is known shares with nobody, and neither do parts of accelerators, elastic gangs and protected ones.
//!
//! A member that ends, stops or fails leaves the others as they are, only faster. A group that loses a node is stopped as a
//! whole and placed anew: in-place repair is for gangs alone. No plan is made on the ends of members, and nobody displaces
//! them but a round.
//!
//! Invariant: an accelerator has one group at most; members are of one need, hold the same accelerators and have none lost;
//! there are two to [`LARGEST`]. Cost: a period for each change of a group.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Domain, Holding, Service, View};
use dh_policy::order::Key;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::Need;
use dh_policy::rounds::{Entrant, Round, beside, round_of_groups, spot};
use dh_policy::sharing::{ALONE, Contention, Foresight, Kind, LARGEST, Sharer, Terms, Together, Where, group, worth};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Action, Cause, Gang, Grace, RunId, Submission};
use super::job::{Job, Slot, Source};

/// Who shares, and what is known of sharing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Interleaved {
    pub(super) together: Together,
    /// The group of each job that shares: the run of its first member.
    of: BTreeMap<Slot, RunId>,
    /// The members, in the order in which they came.
    members: BTreeMap<RunId, Vec<Slot>>,
    /// How far those got that share, or did in their present run.
    paces: BTreeMap<Slot, Pace>,
}

/// How a run gets on whose speed changes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Pace {
    from: SimTime,
    /// Run time alone that was done by then.
    banked: Span,
    /// Since then.
    millionths: u64,
}

impl Interleaved {
    /// Whether nobody shares.
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether a job shares.
    pub(super) fn has(&self, slot: Slot) -> bool {
        self.of.contains_key(&slot)
    }
}

impl Scheduler {
    /// Whether a job shares its accelerators.
    pub(super) fn shares(&self, slot: Slot) -> bool {
        self.state.interleaved.has(slot)
    }

    /// Whether another member of its group stands for the accelerators.
    pub(super) fn shares_behind(&self, slot: Slot) -> bool {
        self.state.interleaved.of.get(&slot).is_some_and(|group| self.members(*group).first() != Some(&slot))
    }

    fn members(&self, group: RunId) -> &[Slot] {
        self.state.interleaved.members.get(&group).map_or(&[], Vec::as_slice)
    }

    /// Whom a running job shares its accelerators with.
    pub fn beside(&self, job: JobId) -> Vec<JobId> {
        let Some(slot) = self.state.jobs.slot(job) else { return Vec::new() };
        let Some(group) = self.state.interleaved.of.get(&slot) else { return Vec::new() };
        let others = self.members(*group).iter().filter(|other| **other != slot);
        others.filter_map(|other| self.state.jobs.get(*other)).map(|job| job.id).collect()
    }

    /// How far a run got, as long as the job would have taken alone.
    pub(super) fn ran_for(&self, slot: Slot) -> Span {
        match self.state.interleaved.paces.get(&slot) {
            None => self.state.jobs.get(slot).and_then(Job::run).map_or(Span(0), |run| self.since(run.started)),
            Some(pace) => {
                let more = u128::from(self.since(pace.from).0) * u128::from(pace.millionths) / u128::from(ALONE);
                Span(pace.banked.0.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)))
            }
        }
    }

    /// When a running job is expected to end; nothing is expected of those that share.
    pub(super) fn expected_end(&self, slot: Slot) -> Option<SimTime> {
        let run = self.state.jobs.get(slot)?.run()?;
        let alone = self.ends_on(slot, run.started, &run.ranks)?;
        if self.shares(slot) {
            return None;
        }
        let now = self.state.now;
        if self.state.interleaved.paces.contains_key(&slot) {
            let takes = alone.since(run.started);
            return Some(now.after(Span(takes.0.saturating_sub(self.ran_for(slot).0))));
        }
        Some(alone.max(now))
    }

    /// What is known of a job that may share; 0 if it may not.
    fn kind(&self, slot: Slot) -> Kind {
        let may = |gang: &&Gang| {
            let rank = &gang.need.rank;
            let whole = rank.accelerators > 0 && rank.milli >= WHOLE && gang.least_ranks >= gang.need.ranks;
            whole && gang.grace == Grace::Preemptible
        };
        self.gang(slot).filter(may).map_or(0, |gang| gang.speeds)
    }

    /// The round in which groups are chosen for the greatest worth, class by class of the order.
    pub(super) fn round_of_sharers(&self, slots: &[Slot], entrants: &[Entrant<'_>], contention: Contention) -> Round {
        let mut shapes: Vec<Need> = Vec::new();
        let known = |slot: &Slot| {
            let job = self.state.jobs.get(*slot);
            job.is_some_and(|job| job.length.is_some() && job.source == Source::Told)
        };
        let foresight = if slots.iter().all(known) { Foresight::Known } else { Foresight::Predicted };
        let mut classes: BTreeMap<i64, Vec<(Key, usize, Sharer)>> = BTreeMap::new();
        for (at, (slot, entrant)) in slots.iter().zip(entrants).enumerate() {
            let shape = shapes.iter().position(|need| *need == entrant.need).unwrap_or_else(|| {
                shapes.push(entrant.need);
                shapes.len() - 1
            });
            let sharer = Sharer {
                width: entrant.width(),
                shape: u32::try_from(shape).unwrap_or(u32::MAX),
                kind: self.kind(*slot),
                worth: worth(self.to_run(*slot), foresight),
            };
            classes.entry(entrant.key.class).or_default().push((entrant.key, at, sharer));
        }
        let mut hall = self.state.fleet.free_in(Domain::HALL, View::All);
        hall +=
            entrants.iter().zip(slots).filter(|(_, slot)| !self.shares_behind(**slot)).fold(0, |sum, (entrant, _)| {
                sum + entrant.held.iter().map(|held| u64::from(held.mask.count_ones())).sum::<u64>()
            });
        let mut free = u32::try_from(hall).unwrap_or(u32::MAX);
        let terms = Terms { together: &self.state.interleaved.together, contention: &contention };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for line in classes.values_mut() {
            line.sort_by_key(|(key, at, _)| (*key, entrants.get(*at).map(|entrant| entrant.job)));
            let sharers: Vec<Sharer> = line.iter().map(|(.., sharer)| *sharer).collect();
            for formed in group(&sharers, free, terms) {
                let members: Vec<&(Key, usize, Sharer)> =
                    formed.members.iter().filter_map(|member| line.get(*member)).collect();
                free = free.saturating_sub(members.first().map_or(0, |(.., sharer)| sharer.width));
                groups.push(members.into_iter().map(|(_, at, _)| *at).collect());
            }
        }
        let mut made = round_of_groups(&self.state.fleet, self.placement.0, entrants, &groups);
        // Places go to heads of lines: the first of a line is to get the place that was meant for it, and not another's.
        made.starts.sort_by_key(|(at, _)| entrants.get(*at).map(|entrant| (entrant.key, entrant.job)));
        made
    }

    /// How much longer a job would run alone: what is known or predicted, else as long again as it has.
    fn to_run(&self, slot: Slot) -> Span {
        let Some(candidate) = self.candidate(slot) else { return Span(0) };
        match candidate.length {
            Some(length) => Span(length.0.saturating_sub(candidate.attained.0)),
            None => candidate.attained,
        }
    }

    /// Whether a gang may join those who hold `ranks`; its cores and memory are taken if it may.
    pub(super) fn enter(&mut self, slot: Slot, ranks: &[Holding]) -> Option<Vec<Slot>> {
        let contention = self.state.settings.interleave?;
        let gang = *self.gang(slot)?;
        let at = spot(ranks);
        let node = ranks.first()?.node;
        let owners = self.state.owners.get(usize::try_from(node.0).ok()?)?;
        let there =
            |owner: &&Slot| self.state.jobs.get(**owner).and_then(Job::run).is_some_and(|run| spot(&run.ranks) == at);
        let other = *owners.iter().find(there)?;
        let members = match self.state.interleaved.of.get(&other) {
            Some(group) => self.members(*group).to_vec(),
            None => vec![other],
        };
        let stays = |member: &Slot| {
            let run = self.state.jobs.get(*member).and_then(Job::run);
            run.is_some_and(|run| !run.stopping && run.lost.is_none())
                && self.gang(*member).is_some_and(|other| other.need == gang.need)
        };
        if members.len() >= LARGEST || !members.iter().all(stays) {
            return None;
        }
        let mut kinds: Vec<Kind> = members.iter().map(|member| self.kind(*member)).collect();
        kinds.push(self.kind(slot));
        // Whether it is worth it was the round's to say, of the whole group: of four it may be where of three it is not.
        self.state.interleaved.together.speeds(&kinds, Where::Anywhere, &contention)?;
        let rank = Request { accelerators: 0, ..gang.need.rank };
        let mut taken: Vec<Holding> = Vec::new();
        for held in ranks {
            let works = matches!(self.state.fleet.service(held.node), Service::Up | Service::Asleep);
            let own = if works { self.state.fleet.take(held.node, &rank, 0) } else { None };
            if own.is_none() {
                for held in &taken {
                    self.state.fleet.release(held);
                }
                return None;
            }
            taken.extend(own);
        }
        Some(members)
    }

    /// A gang runs already beside others: whether it was taken over.
    pub(super) fn adopted_beside(&mut self, submission: &Submission, ranks: &[Holding]) -> bool {
        let gang = super::boxes::rigid(&submission.gang);
        let taken = |held: &Holding| held.mask & self.state.fleet.free_mask(held.node) == 0;
        if self.state.settings.interleave.is_none() || ranks.is_empty() || !ranks.iter().all(taken) {
            return false;
        }
        let shape = self.state.shapes.of(&gang);
        let slot = self.insert(submission, shape);
        let Some(members) = self.enter(slot, ranks) else {
            self.is_gone(slot);
            self.state.jobs.reuse(slot);
            return false;
        };
        self.guess(slot);
        self.charge(slot, ranks.len());
        self.run(slot, ranks.to_vec(), &mut Vec::new());
        self.join(slot, &members);
        true
    }

    /// A job that runs now is one of `members`' group.
    pub(super) fn join(&mut self, slot: Slot, members: &[Slot]) {
        let Some(first) = members.first().copied() else { return };
        let run = |slot: Slot| self.state.jobs.get(slot).and_then(Job::run).map(|run| run.id);
        let group = self.state.interleaved.of.get(&first).copied().or_else(|| run(first));
        let Some(group) = group else { return };
        let all: Vec<Slot> = members.iter().copied().chain([slot]).collect();
        for member in &all {
            self.state.interleaved.of.insert(*member, group);
            self.left(*member);
        }
        self.state.interleaved.members.insert(group, all);
        self.pace(group);
    }

    /// A member is gone: what of its holdings comes free with it.
    pub(super) fn part(&mut self, slot: Slot, held: Vec<Holding>) -> Vec<Holding> {
        self.state.interleaved.paces.remove(&slot);
        let Some(group) = self.state.interleaved.of.remove(&slot) else { return held };
        let mut others = self.state.interleaved.members.remove(&group).unwrap_or_default();
        others.retain(|other| *other != slot);
        if let [last] = others[..] {
            // It is alone: what it was before it shared.
            self.state.interleaved.of.remove(&last);
            self.goes_on(last, ALONE);
            if self.state.jobs.get(last).and_then(Job::run).is_some_and(|run| !run.stopping) {
                self.ran(last);
            }
        } else {
            self.state.interleaved.members.insert(group, others);
            self.pace(group);
        }
        held.iter().map(beside).collect()
    }

    /// A member was told to stop: the others get on without it.
    pub(super) fn pauses(&mut self, slot: Slot) {
        if let Some(group) = self.state.interleaved.of.get(&slot).copied() {
            self.pace(group);
        }
    }

    /// Everybody in a group gets on as fast as those who get on at all let him.
    fn pace(&mut self, group: RunId) {
        let Some(contention) = self.state.settings.interleave else { return };
        let active: Vec<Slot> = self.members(group).to_vec();
        let stays = |slot: &Slot| self.state.jobs.get(*slot).and_then(Job::run).is_some_and(|run| !run.stopping);
        let active: Vec<Slot> = active.into_iter().filter(stays).collect();
        let kinds: Vec<Kind> = active.iter().map(|slot| self.kind(*slot)).collect();
        let held = active.first().and_then(|slot| self.state.jobs.get(*slot)?.run()?.ranks.first());
        let place = held.map_or(Where::Anywhere, |held| Where::Class(self.state.fleet.class(held.node)));
        let speeds = self.state.interleaved.together.speeds(&kinds, place, &contention);
        let turns = ALONE / u64::try_from(active.len()).unwrap_or(1).max(1);
        let speeds = speeds.unwrap_or_else(|| vec![turns; active.len()]);
        for (slot, speed) in active.into_iter().zip(speeds) {
            self.goes_on(slot, speed);
        }
    }

    /// A run goes on at another speed.
    fn goes_on(&mut self, slot: Slot, millionths: u64) {
        let (banked, from) = (self.ran_for(slot), self.state.now);
        self.state.interleaved.paces.insert(slot, Pace { from, banked, millionths });
        let new = self.expected_end(slot);
        let Some(run) = self.state.jobs.get_mut(slot).and_then(Job::run_mut) else { return };
        let old = std::mem::replace(&mut run.ends, new);
        if let Some(old) = old {
            self.state.ends.remove(&(old, slot));
            self.counts_off(slot, old);
        }
        if let Some(new) = new {
            self.state.ends.insert((new, slot));
        }
        self.counts_on(slot);
    }

    /// Groups with ranks on a node that is down are stopped, all members.
    pub(super) fn scatter(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let owners = usize::try_from(node.0).ok().and_then(|at| self.state.owners.get(at));
        let sharing: BTreeSet<Slot> = owners.into_iter().flatten().copied().filter(|slot| self.shares(*slot)).collect();
        for slot in sharing {
            self.stop(slot, Cause::Broken, actions);
        }
    }

    /// What must hold of groups.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check_interleaved(&self) {
        let shared = &self.state.interleaved;
        let mut known = 0;
        for (group, members) in &shared.members {
            assert!((2..=LARGEST).contains(&members.len()), "a group has {} members", members.len());
            let first = members.first().and_then(|slot| self.state.jobs.get(*slot)).and_then(Job::run);
            for slot in members {
                known += 1;
                assert_eq!(shared.of.get(slot), Some(group), "slot {slot} is in two groups");
                let Some(job) = self.state.jobs.get(*slot) else { continue };
                let run = job.run();
                assert!(run.is_some_and(|run| run.lost.is_none() && run.ends.is_none()), "{} shares in part", job.id);
                assert_eq!(
                    run.map(|run| spot(&run.ranks)),
                    first.map(|run| spot(&run.ranks)),
                    "{} is elsewhere",
                    job.id
                );
                assert_eq!(
                    self.gang(*slot).map(|gang| gang.need),
                    members.first().and_then(|slot| self.gang(*slot)).map(|gang| gang.need),
                    "{} is of another need",
                    job.id
                );
                assert!(self.kind(*slot) != 0, "{} may not share", job.id);
                assert!(
                    !self.state.displacing.running.iter().any(|(.., other)| other == slot),
                    "{} may be displaced and others hold the same",
                    job.id
                );
            }
        }
        assert_eq!(shared.of.len(), known, "somebody shares with nobody");
        for slot in shared.of.keys().chain(shared.paces.keys()) {
            assert!(
                self.state.jobs.get(*slot).is_some_and(|job| job.run().is_some()),
                "slot {slot} shares and is gone"
            );
        }
    }
}
