//! Why a job waits: the smallest set of conditions that blocks it, who holds what it needs, and when it may start.
//!
//! A condition is found by taking it away: rules (order, quota, power) each block by themselves, and of what is in the way of
//! a place the fewest are named with which a place is there. Cost: a copy of the nodes and a plan; nothing is changed.

use std::fmt;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Domain, Service, View};
use dh_policy::placement::{Context, Misfit, Speeds, Wake, misfit};
use serde::Serialize;

use super::Scheduler;
use super::event::{Gang, QueueId};
use super::job::{Job, Phase, Slot};
use super::run::{milli, rank_of, room_kind, smallest};
use super::settings::Backfill;

/// Holders and nodes that are named, at most.
const NAMED: usize = 3;

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The job.
    pub job: JobId,
    /// What blocks it: without any one of these it would not start, without all of them it would.
    pub blockers: Vec<Blocker>,
    /// Who holds what it needs, in the domain that nearly fits: those that hold most first.
    pub holders: Vec<Holder>,
    /// Domains that nearly fit, the nearest first: ranks for which there is room.
    pub nearest: Vec<(Domain, u32)>,
    /// When it starts if what runs ends as expected and nothing goes ahead of it; `None` if that rests on jobs of unknown
    /// length.
    pub earliest: Option<SimTime>,
    /// Of a box, the one that is nearest to free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearly: Option<super::boxes::NearBox>,
}

/// A condition that blocks a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "blocker")]
pub enum Blocker {
    /// Its queue holds too much, thousandths of accelerators.
    Quota {
        /// The queue.
        queue: QueueId,
        /// What its jobs hold.
        used: u64,
        /// What the job needs.
        needed: u64,
        /// What they may hold.
        quota: u64,
    },
    /// The hall would draw too much, watts.
    Power {
        /// What is drawn.
        drawn: u64,
        /// What the job draws.
        needed: u64,
        /// What may be drawn.
        cap: u64,
    },
    /// A job goes first.
    Order {
        /// The first of those that are ahead.
        ahead: JobId,
    },
    /// Room is kept for jobs ahead of it.
    Reserved {
        /// The first of them.
        for_job: JobId,
        /// When that job starts, if it is known.
        at: Option<SimTime>,
    },
    /// Nodes take no new work.
    Nodes {
        /// How many are drained.
        drained: u32,
        /// How many are kept away on evidence.
        quarantined: u32,
        /// How many are kept for repairs.
        spare: u32,
        /// How many are down.
        down: u32,
    },
    /// What runs holds what it needs.
    Room {
        /// What exactly is missing.
        misfit: Misfit,
    },
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota { queue, used, needed, quota } => write!(
                f,
                "queue {queue} may hold {}, its jobs hold {}, and this one needs {}",
                Milli(*quota),
                Milli(*used),
                Milli(*needed)
            ),
            Self::Power { drawn, needed, cap } => {
                write!(f, "{cap} W may be drawn, {drawn} W are, and this job draws {needed} W")
            }
            Self::Order { ahead } => write!(f, "{ahead} goes first"),
            Self::Reserved { for_job, at: Some(at) } => {
                write!(f, "room is kept for {for_job}, which starts by {} s", at.0 / 1_000_000_000)
            }
            Self::Reserved { for_job, at: None } => write!(f, "room is kept for {for_job}, which has waited too long"),
            Self::Nodes { drained, quarantined, spare, down } => write!(
                f,
                "it would fit if nodes took work that do not: {drained} drained, {quarantined} quarantined, {spare} spare, {down} down"
            ),
            Self::Room { misfit } => misfit.fmt(f),
        }
    }
}

/// Thousandths of accelerators, in words.
struct Milli(u64);

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 1000, self.0 % 1000) {
            (whole, 0) => write!(f, "{whole} accelerators"),
            (whole, part) => write!(f, "{whole}.{part:03} accelerators"),
        }
    }
}

/// Somebody who holds what a job needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The job that holds it.
    pub job: JobId,
    /// Accelerators that it holds there.
    pub accelerators: u32,
    /// When it is expected to end.
    pub ends: Option<SimTime>,
}

/// Where and when a waiting job could start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    /// When; none if that rests on jobs of unknown length.
    pub at: Option<SimTime>,
    /// Ranks by node.
    pub ranks: Vec<(NodeId, u32)>,
}

impl Scheduler {
    /// Why a job waits; `None` if it does not: it runs, a place is being cleared for it, or nobody knows it.
    pub fn why(&self, job: JobId) -> Option<Why> {
        let slot = self.state.jobs.slot(job)?;
        let record = self.state.jobs.get(slot)?;
        let Phase::Waiting { group } = &record.phase else { return None };
        let gang = *self.gang(slot)?;
        let mut blockers = Vec::new();
        blockers.extend(self.goes_first(*group, slot, record).map(|ahead| Blocker::Order { ahead }));
        let queue = self.state.queues.get(usize::from(record.queue))?;
        if let Some(quota) = queue.rules.quota_milli.filter(|quota| queue.used_milli + milli(&gang) > *quota) {
            blockers.push(Blocker::Quota { queue: record.queue, used: queue.used_milli, needed: milli(&gang), quota });
        }
        if let Some(cap) =
            self.state.power.cap.filter(|_| !self.power_allows(&gang, gang.least_ranks.min(gang.need.ranks)))
        {
            let needed = u64::from(gang.rank_watts) * u64::from(gang.need.ranks);
            blockers.push(Blocker::Power { drawn: self.state.power.drawn, needed, cap });
        }
        let blocked = blockers.len();
        self.in_the_way(slot, &gang, &mut blockers);
        let lacks_room = blockers.len() > blocked;
        let nearest = if lacks_room { self.nearest(&gang) } else { Vec::new() };
        let (nearly, standing) = match self.near_box(&gang).filter(|_| lacks_room) {
            Some((nearly, mut standing)) => {
                standing.truncate(NAMED);
                (Some(nearly), standing)
            }
            None => (None, Vec::new()),
        };
        let holders = if nearly.is_some() {
            standing
        } else {
            nearest.first().map(|(domain, _)| self.holders(*domain)).unwrap_or_default()
        };
        let earliest = if lacks_room { self.earliest(slot, &gang).and_then(|promise| promise.at) } else { None };
        Some(Why { job, blockers, holders, nearest, earliest, nearly })
    }

    /// The place at which a waiting job could start by its own as what runs ends. `None` if it does not wait, or there is a place at
    /// once and a rule keeps it waiting.
    pub fn place_of(&self, job: JobId) -> Option<Foreseen> {
        let slot = self.state.jobs.slot(job)?;
        let Phase::Waiting { .. } = &self.state.jobs.get(slot)?.phase else { return None };
        let promise = self.earliest(slot, self.gang(slot)?)?;
        let ranks = promise.shares.iter().map(|share| (share.node, share.ranks)).collect();
        Some(Foreseen { at: promise.at, ranks })
    }

    /// The job ahead of which it may not start, whatever room there is.
    fn goes_first(&self, group: u32, slot: Slot, record: &Job) -> Option<JobId> {
        let top = self.state.lines.top(group)?;
        if top != slot {
            return self.state.jobs.get(top).map(|job| job.id);
        }
        if self.state.settings.backfill != Backfill::None {
            return None;
        }
        let (key, id, _) = self.state.lines.first_blocked(self.state.lines.line_of(record), None)?;
        ((key, id) < (record.key, record.id)).then_some(id)
    }

    /// The fewest of what is kept, nodes that take no work, and what runs, without which there is a place.
    fn in_the_way(&self, slot: Slot, gang: &Gang, blockers: &mut Vec<Blocker>) {
        let first = self.state.reservations.list.iter().find(|reservation| !reservation.shares.is_empty());
        let own = self.state.jobs.get(slot).map(|job| job.id);
        let holds = self.state.reservations.list.iter().any(|reservation| Some(reservation.job) == own);
        let view = if holds { View::All } else { self.view(slot) };
        let never = match own {
            Some(own) if !self.state.reservations.kept.is_empty() && !self.plain(gang) && view == View::Open => {
                self.state.reservations.nodes_of_others(own)
            }
            Some(own) if holds => self.state.reservations.nodes_of_others(own),
            Some(_) | None => Vec::new(),
        };
        if self.find_off(gang, view, &never).is_ok() {
            return;
        }
        let reserved = first.map(|first| Blocker::Reserved { for_job: first.job, at: first.at });
        let nodes = self.out_of_service();
        if let Some(reserved) = &reserved
            && self.find(gang, View::All).is_ok()
        {
            blockers.push(reserved.clone());
            return;
        }
        let need = smallest(gang);
        if let Some(nodes) = &nodes {
            let mut fleet = self.state.fleet.clone();
            for node in (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId) {
                if !matches!(fleet.service(node), Service::Up | Service::Asleep) {
                    fleet.set_service(node, Service::Up);
                }
            }
            let fits = |view, never: &[NodeId]| {
                let context = Context { view, warm: &[], never, wake: Wake::Freely, speeds: Speeds::UNKNOWN };
                self.placement.place(&fleet, &need, &context).is_ok()
            };
            if fits(view, &never) {
                blockers.push(nodes.clone());
                return;
            }
            if self.fits_empty(gang, &never) {
                blockers.push(Blocker::Room { misfit: self.missing(gang) });
                return;
            }
            if let Some(reserved) = reserved.as_ref().filter(|_| fits(View::All, &[])) {
                blockers.extend([reserved.clone(), nodes.clone()]);
                return;
            }
        }
        blockers.push(Blocker::Room { misfit: self.missing(gang) });
        if !self.fits_empty(gang, &[]) {
            blockers.extend(nodes);
        } else if !self.fits_empty(gang, &never) {
            blockers.extend(reserved);
        }
    }

    /// Whether there is a place on the nodes in service once nothing runs, by counting.
    fn fits_empty(&self, gang: &Gang, never: &[NodeId]) -> bool {
        if super::boxes::is_shaped(gang) {
            return self.shape_fits_empty(gang, never);
        }
        let need = smallest(gang);
        let fleet = &self.state.fleet;
        let level = need.within;
        (0..fleet.tree().domains(level)).any(|number| {
            let nodes = fleet.tree().nodes_of(Domain { level, number }).map(NodeId);
            let mut takes = nodes.filter(|node| {
                matches!(fleet.service(*node), Service::Up | Service::Asleep) && never.binary_search(node).is_err()
            });
            let mut missing = u64::from(need.ranks);
            takes.any(|node| {
                missing = missing.saturating_sub(u64::from(fleet.ranks_empty(node, &need.rank)));
                missing == 0
            })
        })
    }

    fn missing(&self, gang: &Gang) -> Misfit {
        let need = smallest(gang);
        let context = Context::plain(View::All);
        let counted = misfit(&self.state.fleet, &need, &context).filter(|_| !super::boxes::is_shaped(gang));
        counted.or_else(|| self.placement.place(&self.state.fleet, &need, &context).err()).unwrap_or(Misfit::Occupied {
            places: 0,
            ranks: need.ranks,
            level: need.within,
        })
    }

    /// Nodes that take no new work, if there are any.
    fn out_of_service(&self) -> Option<Blocker> {
        if self.state.fleet.all_serve() {
            return None;
        }
        let (mut drained, mut quarantined, mut spare, mut down) = (0, 0, 0, 0);
        for node in (0..u32::try_from(self.state.fleet.len()).unwrap_or(u32::MAX)).map(NodeId) {
            match self.state.fleet.service(node) {
                Service::Up | Service::Asleep => {}
                Service::Spare => spare += 1,
                Service::Drained => drained += 1,
                Service::Quarantined => quarantined += 1,
                Service::Down => down += 1,
            }
        }
        (drained + quarantined + spare + down > 0).then_some(Blocker::Nodes { drained, quarantined, spare, down })
    }

    /// The domains with most room for a gang.
    fn nearest(&self, gang: &Gang) -> Vec<(Domain, u32)> {
        let fleet = &self.state.fleet;
        let level = gang.need.within;
        let rank = rank_of(&room_kind(gang));
        let mut near: Vec<(Domain, u32)> = (0..fleet.tree().domains(level))
            .map(|number| Domain { level, number })
            .map(|domain| (domain, fleet.room(domain, &rank, View::All)))
            .collect();
        near.sort_by_key(|(domain, room)| (std::cmp::Reverse(*room), *domain));
        near.truncate(NAMED);
        near
    }

    /// Who holds most in a domain. Records are looked at of those only who are on enough of its nodes.
    fn holders(&self, domain: Domain) -> Vec<Holder> {
        let fleet = &self.state.fleet;
        let nodes = fleet.tree().nodes_of(domain);
        let span = |node: u32| usize::try_from(node).unwrap_or(usize::MAX);
        let owners = self.state.owners.iter().take(span(nodes.end)).skip(span(nodes.start)).flatten();
        // On how many nodes each is. Neighbours mostly have the same owner.
        let mut on: Vec<(Slot, u32)> = Vec::new();
        for slot in owners {
            match on.last_mut() {
                Some((last, count)) if last == slot => *count += 1,
                Some(_) | None => on.push((*slot, 1)),
            }
        }
        on.sort_unstable();
        on.dedup_by(|(slot, more), (kept, count)| {
            let same = slot == kept;
            *count += if same { *more } else { 0 };
            same
        });
        on.sort_unstable_by_key(|(slot, count)| (std::cmp::Reverse(*count), *slot));
        // Of whole accelerators nobody has more than there are; of parts each rank counts.
        let whole = (0..=fleet.classes())
            .all(|class| fleet.parts(class, 0).next().is_none() && fleet.cuts(class).next().is_none());
        let mut most: Vec<(std::cmp::Reverse<u32>, Slot)> = Vec::with_capacity(NAMED + 1);
        for (slot, count) in on {
            let bound = count.saturating_mul(fleet.widest().into());
            if whole && most.get(NAMED - 1).is_some_and(|(std::cmp::Reverse(least), _)| bound < *least) {
                break;
            }
            let ranks = self.state.jobs.get(slot).and_then(Job::run).map_or(&[][..], |run| run.ranks.as_slice());
            let mut here = ranks.iter().filter(|held| nodes.contains(&held.node.0)).peekable();
            if here.peek().is_none() {
                continue;
            }
            let held: u32 = here.map(|held| held.mask.count_ones()).sum();
            let place = (std::cmp::Reverse(held), slot);
            let at = most.partition_point(|other| *other < place);
            if at < NAMED {
                most.insert(at, place);
                most.truncate(NAMED);
            }
        }
        let named = most.into_iter().filter_map(|(std::cmp::Reverse(accelerators), slot)| {
            let job = self.state.jobs.get(slot)?;
            Some(Holder { job: job.id, accelerators, ends: job.run().and_then(|run| run.ends) })
        });
        named.collect()
    }

    /// How long a job has waited.
    pub fn waited(&self, job: JobId) -> Option<Span> {
        let job = self.state.jobs.get(self.state.jobs.slot(job)?)?;
        Some(self.since(job.submitted))
    }
}

#[cfg(test)]
mod tests;
