//! Backfill: reservations for jobs ahead in the line, and what may run beside them.
//!
//! A job that does not fit gets its reservation when somebody behind it is about to overtake, not before: a plan costs more
//! than a look. The reservations go to the first heads that lack room, by line (the one that has used least of its share
//! first) and key. Who is behind and surely ends before the first reserved moment may use everything, be it first of
//! its group or behind a longer one ([`super::short`]); whoever else only what is left beside all reservations (`View::Open`). Reservations never share a node.
//!
//! Invariant: if lengths are upper bounds, a promised moment never moves to a later one because of jobs behind it: a new plan
//! is made on a fleet on which the old one still holds. A plan is made again when its moment has come, when a node changes,
//! when a length is corrected; whoever runs longer than it should is expected to end after as much time again.
//!
//! A job that has waited longer than the patience, and for which no moment is known, gets the nodes where least has to end,
//! the oldest first: nothing starts there but what it leaves over.

use std::collections::BTreeSet;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::backfill::{self, Promise, Release};
use dh_policy::fleet::{Domain, View};
use dh_policy::order::Key;
use dh_policy::packing::WHOLE;
use dh_policy::placement::{Context, Misfit, Rails, Share, Wake};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::Gang;
use super::interleave::Interleaved;
use super::job::{Job, Jobs, Slot};
use super::line::{GroupId, Head, RoomKind};
use super::run::rank_of;
use super::settings::Backfill;
use super::speeds::{InTime, time};

/// The least time until a plan that did not come true is made again.
const AGAIN: Span = Span::from_secs(1);
/// How long a job for which there is no plan waits for the next try.
const LATER: Span = Span::from_secs(60);

/// A place that is kept for a job from a moment on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reservation {
    pub(super) job: JobId,
    pub(super) group: GroupId,
    /// From when on; `None` if nobody knows.
    pub(super) at: Option<SimTime>,
    /// When it is planned again, if its job is tried.
    pub(super) due: SimTime,
    /// Whether that is worth an event.
    wakes: bool,
    /// Where; nothing if no place is kept.
    pub(super) shares: Vec<Share>,
}

/// What is kept of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) node: NodeId,
    job: JobId,
    at: Option<SimTime>,
    /// Whole accelerators; `None` is all of the node.
    need: Option<u8>,
}

/// All reservations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reservations {
    pub(super) list: Vec<Reservation>,
    /// By node.
    pub(super) kept: Vec<Kept>,
    /// Whether one has moved or gone since those who wait for open room were looked at.
    moved: bool,
}

impl Reservations {
    fn of_node(&self, node: NodeId) -> Option<&Kept> {
        let at = self.kept.binary_search_by_key(&node, |kept| kept.node).ok()?;
        self.kept.get(at)
    }

    /// Nodes that are kept for other jobs than `job`, sorted.
    pub(super) fn nodes_of_others(&self, job: JobId) -> Vec<NodeId> {
        self.kept.iter().filter(|kept| kept.job != job).map(|kept| kept.node).collect()
    }

    /// Until when a job may run anywhere.
    pub(super) fn first(&self) -> Option<SimTime> {
        let drains = self.list.iter().any(|reservation| reservation.at.is_none() && !reservation.shares.is_empty());
        let first = self.list.iter().filter_map(|reservation| reservation.at).min();
        if drains { Some(SimTime(0)) } else { first }
    }
}

impl Scheduler {
    /// Jobs that may have a reservation at once.
    pub(super) fn most_reservations(&self) -> usize {
        match self.state.settings.backfill {
            Backfill::None => 0,
            Backfill::Any => usize::from(self.state.settings.patience.is_some()),
            Backfill::Easy => 1,
            Backfill::Conservative { reservations } => usize::try_from(reservations).unwrap_or(usize::MAX),
        }
    }

    /// A head that lacks room was tried: its reservation, if it has one and that did not come true, is planned again.
    pub(super) fn reserve(&mut self, group: GroupId) {
        let Some((key, id, _)) = self.state.lines.group(group).and_then(|group| group.head(0)) else { return };
        let found = self.state.reservations.list.iter().position(|reservation| reservation.group == group);
        if let Some(at) = found {
            let due = self.state.reservations.list.get(at).is_some_and(|reservation| reservation.due <= self.state.now);
            self.hand_over(at, id);
            if due {
                self.plan_for(at);
            }
            return;
        }
        // Somebody who comes before those who have one takes the last one's.
        let last = self.state.reservations.list.iter().enumerate().filter_map(|(at, reservation)| {
            let head = self.state.lines.group(reservation.group)?;
            let same = head.line() == self.state.lines.group(group)?.line();
            let binds = |head: &Head| same && self.before((key, id), (head.0, head.1));
            head.head(reservation.group).filter(binds).map(|head| (head, at))
        });
        if let Some((_, at)) = last.max()
            && self.state.reservations.list.len() >= self.most_reservations()
        {
            self.drop_reservation(at);
        }
    }

    /// Whether a job may break the promise made to `holder`, by its place in the line. Where several have a promise, only
    /// another priority may.
    fn before(&self, job: (Key, JobId), holder: (Key, JobId)) -> bool {
        match self.state.settings.backfill {
            Backfill::Conservative { .. } => job.0.class < holder.0.class,
            Backfill::None | Backfill::Any | Backfill::Easy => job < holder,
        }
    }

    /// The head of a group has changed: the new one asks for the same, so it takes over what is kept.
    fn hand_over(&mut self, at: usize, to: JobId) {
        let Some(reservation) = self.state.reservations.list.get_mut(at) else { return };
        if reservation.job != to {
            let from = std::mem::replace(&mut reservation.job, to);
            for kept in self.state.reservations.kept.iter_mut().filter(|kept| kept.job == from) {
                kept.job = to;
            }
        }
    }

    /// The job needs its reservation no more.
    pub(super) fn unreserve(&mut self, job: JobId) {
        if let Some(at) = self.state.reservations.list.iter().position(|reservation| reservation.job == job) {
            self.drop_reservation(at);
        }
    }

    fn drop_reservation(&mut self, at: usize) {
        let nodes = self.unkeep(at);
        self.state.reservations.list.remove(at);
        self.came_free(&nodes);
        self.state.reservations.moved = true;
    }

    /// A reservation has moved: who waits for open room may do without it, once the next in line has its own.
    /// `next` is the head that is tried next: it may come before all who lack room, and then there is no next in line yet.
    pub(super) fn relax(&mut self, next: Option<Head>) -> Relaxed {
        if !self.state.reservations.moved {
            return Relaxed::Nobody;
        }
        let last = (Key { class: i64::MAX, value: u64::MAX }, JobId(u64::MAX), GroupId::MAX);
        self.reserve_ahead(next.unwrap_or(last));
        if next.is_some() && self.state.reservations.list.len() < self.most_reservations() {
            return Relaxed::Perhaps;
        }
        self.state.reservations.moved = false;
        let super::State { fleet, jobs, shapes, speeds, now, lines, reservations, .. } = &mut self.state;
        let first = reservations.first();
        let room = |kind: &RoomKind| fleet.room(Domain::HALL, &rank_of(kind), View::All);
        let in_time = |slot: Slot| {
            first.is_none_or(|first| {
                let job = jobs.get(slot);
                let gang = job.and_then(|job| shapes.get(job.shape));
                let fastest = gang.map(|gang| speeds.paces(gang).fastest);
                let ends = job.and_then(Job::remaining).zip(fastest).map(|(work, pace)| now.after(time(work, pace)));
                ends.is_some_and(|ends| ends <= first)
            })
        };
        lines.go_home(room, in_time);
        self.look_behind_all();
        Relaxed::Perhaps
    }

    /// Frees the nodes that are kept for a reservation.
    fn unkeep(&mut self, at: usize) -> Vec<NodeId> {
        let Some(reservation) = self.state.reservations.list.get_mut(at) else { return Vec::new() };
        let mut nodes: Vec<NodeId> = reservation.shares.iter().map(|share| share.node).collect();
        reservation.shares.clear();
        reservation.at = None;
        let job = reservation.job;
        nodes.sort_unstable();
        nodes.dedup();
        self.state.reservations.kept.retain(|kept| kept.job != job);
        for node in &nodes {
            self.state.fleet.reserve(*node, 0);
        }
        nodes
    }

    /// Gives those a reservation who lack room and come before `candidate`, which is about to overtake them.
    pub(super) fn reserve_ahead(&mut self, candidate: Head) {
        while self.state.reservations.list.len() < self.most_reservations() {
            let list = &self.state.reservations.list;
            let has = |group: GroupId| list.iter().any(|reservation| reservation.group == group);
            let lines = &self.state.lines;
            let line = lines.group(candidate.2).map(super::line::Group::line);
            let blocked = (0..lines.lines()).filter_map(|other| {
                let head = lines.first_without_room(other, has)?;
                (line.is_some_and(|line| other != line) || head < candidate)
                    .then(|| (self.share_ppm(u16::try_from(other).unwrap_or(u16::MAX)), head))
            });
            let Some((_, (_, job, group))) = blocked.min() else { return };
            let now = self.state.now;
            let empty = Reservation { job, group, at: None, due: now, wakes: false, shares: Vec::new() };
            self.state.reservations.list.push(empty);
            self.plan_for(self.state.reservations.list.len() - 1);
            // What is kept for it is room for it.
            self.state.lines.send_home(group);
        }
    }

    /// Plans a reservation, again or for the first time.
    fn plan_for(&mut self, at: usize) {
        let freed = self.unkeep(at);
        let Some(job) = self.state.reservations.list.get(at).map(|found| found.job) else { return };
        let now = self.state.now;
        let Some(slot) = self.state.jobs.slot(job) else { return };
        let Some(gang) = self.gang(slot).copied() else { return };
        let submitted = self.state.jobs.get(slot).map_or(now, |job| job.submitted);
        let tired = self.state.settings.patience.map(|patience| submitted.after(patience));
        let patient = tired.is_none_or(|tired| tired > now);
        let promise = if patient && self.state.settings.backfill == Backfill::Any {
            None
        } else {
            let unknown = if patient { Unknown::Never } else { Unknown::SomeDay };
            self.promise(slot, &gang, unknown)
        };
        let Some(reservation) = self.state.reservations.list.get_mut(at) else { return };
        if let Some(Promise { at: moment, shares }) = promise {
            reservation.at = moment;
            reservation.due = moment.unwrap_or(SimTime(u64::MAX)).max(now.after(AGAIN));
            reservation.wakes = moment.is_some();
            reservation.shares = shares;
            let whole = gang.need.rank.milli >= WHOLE && gang.need.rails == Rails::Any && moment.is_some();
            let mut kept: Vec<Kept> = Vec::with_capacity(reservation.shares.len());
            for share in &reservation.shares {
                let need = share.ranks * u32::from(gang.need.rank.accelerators);
                let need = u8::try_from(need).ok().filter(|_| whole);
                kept.push(Kept { node: share.node, job, at: moment, need });
            }
            self.state.reservations.kept.extend(kept.iter().copied());
            self.state.reservations.kept.sort_unstable_by_key(|kept| kept.node);
            for kept in &kept {
                self.keep(kept.node);
            }
        } else {
            let rests = tired.filter(|tired| *tired > now);
            reservation.due = rests.unwrap_or(now.after(LATER));
            reservation.wakes = rests.is_some();
        }
        if !freed.is_empty() {
            self.came_free(&freed);
            self.state.reservations.moved = true;
        }
    }

    /// Where and when a gang fits at first if what runs ends as expected, away from what is kept for others.
    fn promise(&mut self, slot: Slot, gang: &Gang, unknown: Unknown) -> Option<Promise> {
        let job = self.state.jobs.get(slot)?.id;
        let never = self.state.reservations.nodes_of_others(job);
        let state = &mut self.state;
        let warm = gang.dataset.and_then(|dataset| state.warm.get(&dataset)).map_or(&[][..], Vec::as_slice);
        let speeds = state.speeds.of(gang);
        let context = Context { view: View::All, warm, never: &never, wake: Wake::Freely, speeds };
        let need = super::run::smallest(gang);
        let placement = self.placement;
        let releases = releases(&state.jobs, &state.interleaved, &state.ends, state.now, unknown);
        backfill::plan(&mut state.fleet, &need, releases, |fleet| placement.place(fleet, &need, &context).ok())
    }

    /// When a job could start by its own if what runs ends as expected: on a copy, for a reader.
    pub(super) fn earliest(&self, slot: Slot, gang: &Gang) -> Option<Promise> {
        let state = &self.state;
        let need = super::run::smallest(gang);
        let job = state.jobs.get(slot)?.id;
        let never = state.reservations.nodes_of_others(job);
        let speeds = state.speeds.of(gang);
        let context = Context { view: View::All, warm: &[], never: &never, wake: Wake::Freely, speeds };
        let mut fleet = state.fleet.clone();
        let placement = self.placement;
        let releases = releases(&state.jobs, &state.interleaved, &state.ends, state.now, Unknown::Never);
        backfill::plan(&mut fleet, &need, releases, |fleet| placement.place(fleet, &need, &context).ok())
    }

    /// What is kept of a node follows what runs there.
    pub(super) fn keep(&mut self, node: NodeId) {
        let Some(kept) = self.state.reservations.of_node(node).copied() else { return };
        let reserved = self.to_keep(&kept);
        if self.state.fleet.reserved(node) != reserved {
            self.state.fleet.reserve(node, reserved);
        }
    }

    /// Accelerators of a node that must not be used by those who may run beyond the reserved moment.
    pub(super) fn to_keep(&self, kept: &Kept) -> u8 {
        let (Some(need), Some(at)) = (kept.need, kept.at) else { return u8::MAX };
        let owners = usize::try_from(kept.node.0).ok().and_then(|node| self.state.owners.get(node));
        let mut staying = 0_u32;
        for owner in owners.into_iter().flatten().filter(|owner| !self.shares_behind(**owner)) {
            let Some(run) = self.state.jobs.get(*owner).and_then(Job::run) else { return u8::MAX };
            if run.ends.is_some_and(|ends| ends <= at) {
                continue;
            }
            // Ranks mostly follow the nodes.
            let first = run.ranks.partition_point(|held| held.node < kept.node);
            let here = run.ranks.get(first..).unwrap_or(&[]).iter().take_while(|held| held.node == kept.node);
            let mut here: Vec<_> = here.collect();
            if here.is_empty() {
                here = run.ranks.iter().filter(|held| held.node == kept.node).collect();
            }
            for held in here {
                if held.mask != 0 && held.milli < WHOLE {
                    return u8::MAX;
                }
                staying += held.mask.count_ones();
            }
        }
        for held in self.state.moving.values().flatten().filter(|held| held.node == kept.node) {
            if held.mask != 0 && held.milli < WHOLE {
                return u8::MAX;
            }
            staying += held.mask.count_ones();
        }
        let there = u32::from(self.state.fleet.accelerators(kept.node));
        let beside = there.saturating_sub(staying).saturating_sub(u32::from(need));
        let free = u32::from(self.state.fleet.free(kept.node, View::All));
        u8::try_from(free.saturating_sub(beside)).unwrap_or(u8::MAX)
    }

    /// All plans are made again: what they were made on has changed.
    pub(super) fn doubt(&mut self) {
        for reservation in &mut self.state.reservations.list {
            reservation.due = self.state.now;
        }
        for node in self.state.reservations.kept.iter().map(|kept| kept.node).collect::<Vec<_>>() {
            self.keep(node);
        }
    }

    /// Tries the jobs again whose reserved moment has come.
    pub(super) fn renew(&mut self) {
        let now = self.state.now;
        for at in 0..self.state.reservations.list.len() {
            let Some(reservation) = self.state.reservations.list.get(at).filter(|found| found.due <= now) else {
                continue;
            };
            let group = reservation.group;
            self.state.lines.retry(group);
        }
    }

    /// A place for a head now: with the rights of a reservation if it has one, else beside those that come before it.
    pub(super) fn find_beside(&mut self, head: Head, slot: Slot, gang: &Gang) -> (View, Result<Vec<Share>, Misfit>) {
        let (_, job, group) = head;
        let most = self.most_reservations();
        if most == 0 {
            return (View::All, self.find(gang, View::All));
        }
        if let Some(at) = self.state.reservations.list.iter().position(|reservation| reservation.group == group) {
            self.hand_over(at, job);
            let never = self.state.reservations.nodes_of_others(job);
            let mut found = self.find_off(gang, View::All, &never);
            if found.is_err() && !never.is_empty() && self.in_time(slot, gang) != InTime::Nowhere {
                found = self.find_in_time(slot, gang);
            }
            return (View::All, found);
        }
        if self.state.reservations.list.len() < most {
            let found = self.find(gang, View::All);
            if found.is_err() {
                return (View::All, found);
            }
            self.reserve_ahead(head);
        }
        let view = self.view(slot);
        if view == View::All {
            return (view, self.find(gang, view));
        }
        let found = if self.plain(gang) {
            self.find(gang, view)
        } else {
            let never = self.state.reservations.nodes_of_others(job);
            self.find_off(gang, view, &never)
        };
        // It may be fast enough on some accelerators.
        if found.is_err() && matches!(self.in_time(slot, gang), InTime::On(_)) {
            return (view, self.find_in_time(slot, gang).or(found));
        }
        (view, found)
    }

    /// Whether a view says all that a gang must leave on the nodes that are kept. Cores, memory and parts of accelerators are
    /// not counted by view: who needs any keeps off these nodes.
    pub(super) fn plain(&self, gang: &Gang) -> bool {
        let plain = |gang: &Gang| {
            let rank = &gang.need.rank;
            rank.cpu_milli == 0 && rank.memory_mib == 0 && rank.milli >= WHOLE && rank.accelerators > 0
        };
        let mut holders =
            self.state.reservations.list.iter().filter_map(|kept| self.gang(self.state.jobs.slot(kept.job)?));
        plain(gang) && holders.all(plain)
    }

    /// What a waiting job may use, beside the reservations there are.
    pub(super) fn view(&self, slot: Slot) -> View {
        if self.state.reservations.kept.is_empty() {
            return View::All;
        }
        let Some(job) = self.state.jobs.get(slot) else { return View::Open };
        let line = self.state.lines.line_of(job);
        let behind = |reservation: &Reservation| {
            let Some(group) = self.state.lines.group(reservation.group) else { return false };
            group.line() != line || group.head(0).is_some_and(|(key, id, _)| !self.before((job.key, job.id), (key, id)))
        };
        if !self.state.reservations.list.iter().any(behind) {
            return View::All;
        }
        let Some(gang) = self.gang(slot) else { return View::Open };
        match self.in_time(slot, gang) {
            InTime::Everywhere => View::All,
            InTime::On(_) | InTime::Nowhere => View::Open,
        }
    }

    pub(super) fn reservation_wakeup(&self) -> Option<SimTime> {
        let waking = self.state.reservations.list.iter().filter(|reservation| reservation.wakes);
        waking.map(|reservation| reservation.due).filter(|due| *due > self.state.now).min()
    }

    /// The promised start of a job that has a reservation.
    pub fn promised(&self, job: JobId) -> Option<SimTime> {
        self.state.reservations.list.iter().find(|reservation| reservation.job == job)?.at
    }
}

/// Whether another head may go first once reservations have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relaxed {
    Nobody,
    Perhaps,
}

/// What is thought of running jobs whose end is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// They never end.
    Never,
    /// They end after all that is known, the oldest first.
    SomeDay,
}

/// Who gives back what, in the order of the expected ends.
fn releases<'a>(
    jobs: &'a Jobs,
    interleaved: &'a Interleaved,
    ends: &'a BTreeSet<(SimTime, Slot)>,
    now: SimTime,
    unknown: Unknown,
) -> impl Iterator<Item = Release<'a>> {
    let ranks = |slot: Slot| jobs.get(slot).and_then(Job::run).filter(|run| run.lost.is_none());
    // Who should have ended is expected to take as much time again.
    let mut late: Vec<(SimTime, Slot)> =
        ends.range(..(now, Slot::MIN)).map(|(end, slot)| (now.after(now.since(*end).max(AGAIN)), *slot)).collect();
    late.sort_unstable();
    let mut late = late.into_iter().peekable();
    let mut on_time = ends.range((now, Slot::MIN)..).copied().peekable();
    let known = std::iter::from_fn(move || match (late.peek(), on_time.peek()) {
        (Some(a), Some(b)) if a < b => late.next(),
        (Some(_), None) => late.next(),
        (Some(_) | None, Some(_)) => on_time.next(),
        (None, None) => None,
    });
    let known = known.filter_map(move |(at, slot)| Some(Release { at: Some(at), ranks: &ranks(slot)?.ranks }));
    let some_day = (unknown == Unknown::SomeDay).then(|| {
        let mut unknown: Vec<(SimTime, JobId, Slot)> = jobs
            .iter()
            .filter_map(|(slot, job)| {
                let run = job.run().filter(|run| run.ends.is_none() && !interleaved.has(slot))?;
                Some((run.started, job.id, slot))
            })
            .collect();
        unknown.sort_unstable();
        unknown.into_iter().filter_map(move |(.., slot)| Some(Release { at: None, ranks: &ranks(slot)?.ranks }))
    });
    known.chain(some_day.into_iter().flatten())
}

#[cfg(test)]
pub(super) mod tests;
