//! Short jobs behind a head: the first job of a group that is over before what is kept for others is needed.
//!
//! All jobs of a group ask for the same, so that where the head does not fit none of them does, unless what is kept for others
//! is in its way and not in theirs. Then the first that is short enough is shown beside the head, in the group's own class: it
//! is tried when its turn comes, and again when room comes free.
//!
//! Invariant: where a head waits for open room, and accelerators came free that are kept, its group was looked through for the
//! moment until which they are free. Cost: a look at the tracks of a group when its head is blocked, when a short job comes, and
//! once for each later moment.

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fleet::{Domain, View};
use dh_policy::order::Key;

use super::Scheduler;
use super::event::{Action, Gang};
use super::job::{Job, Phase, Slot};
use super::line::{GroupId, Head, RoomKind};
use super::run::rank_of;
use super::speeds::InTime;

impl Scheduler {
    /// Looks for the job of a group that may go before its head.
    pub(super) fn look_behind(&mut self, group: GroupId) {
        if self.most_reservations() == 0 {
            return;
        }
        let holds = self.state.reservations.list.iter().any(|reservation| reservation.group == group);
        let first = self.state.reservations.first().filter(|_| holds || self.state.lines.waits_beside(group));
        let gang = self.state.lines.group(group).and_then(|group| self.state.shapes.get(group.shape)).copied();
        let paces = gang.map(|gang| self.state.speeds.paces_of(&gang)).unwrap_or_default();
        let short = first.zip(gang).and_then(|(first, gang)| match paces.as_slice() {
            [_] => {
                let most = self.work_by(group, first)?;
                self.state.lines.first_short(&mut self.state.jobs, group, most)
            }
            paces => self.short_that_fits(group, &gang, first, paces),
        });
        self.state.lines.set_short(group, short);
        if let Some(first) = first {
            self.state.lines.looked_until(group, first);
        }
    }

    /// On accelerators of several speeds, the first job may be in time on the fast ones, where there is no room, and another on
    /// all: those are looked at that are in time at each pace, and the group is looked through again when anything comes free.
    fn short_that_fits(&mut self, group: GroupId, gang: &Gang, first: SimTime, paces: &[u32]) -> Option<(Key, JobId)> {
        let left = Span(first.0.checked_sub(self.state.now.0)?);
        // The head too may be in time on the fast ones.
        if let Some(head) = self.state.lines.top(group)
            && self.find_in_time(head, gang).is_ok()
        {
            self.state.lines.retry(group);
            return None;
        }
        for pace in paces {
            let most = super::speeds::work(left, *pace);
            let short = self.state.lines.first_short(&mut self.state.jobs, group, most);
            if let Some((_, id)) = short
                && let Some(slot) = self.state.jobs.slot(id)
                && self.find_in_time(slot, gang).is_ok()
            {
                return short;
            }
        }
        self.state.lines.rest(group);
        None
    }

    /// What a gang of this group can have done by a moment, on the fastest accelerators it may have.
    fn work_by(&self, group: GroupId, by: SimTime) -> Option<Span> {
        let gang = self.state.shapes.get(self.state.lines.group(group)?.shape)?;
        let fastest = self.state.speeds.paces(gang).fastest;
        Some(super::speeds::work(Span(by.0.checked_sub(self.state.now.0)?), fastest))
    }

    /// A job came to wait behind the head of its group.
    pub(super) fn came_behind(&mut self, group: GroupId, slot: Slot) {
        if self.state.reservations.kept.is_empty() || self.state.lines.top(group) == Some(slot) {
            return;
        }
        let Some(first) = self.state.reservations.first() else { return };
        let remaining = self.state.jobs.get(slot).and_then(Job::remaining);
        let most = self.work_by(group, first);
        if remaining.is_some_and(|remaining| most.is_some_and(|most| remaining <= most)) {
            self.look_behind(group);
        }
    }

    /// Accelerators came free around some nodes, or what is kept is needed later: groups are looked through that were not for
    /// that moment.
    pub(super) fn look_behind_all(&mut self) {
        if self.state.reservations.kept.is_empty() {
            return;
        }
        let Some(first) = self.state.reservations.first().filter(|first| *first > self.state.now) else { return };
        let fleet = &self.state.fleet;
        let room = |kind: &RoomKind| fleet.room(Domain::HALL, &rank_of(kind), View::All);
        let most = self.state.speeds.all_alike().then(|| first.since(self.state.now));
        let mut groups = self.state.lines.not_looked_through(first, most, room);
        groups.extend(self.state.lines.rested());
        // Who has a reservation keeps off what is kept for others; who is behind it need not.
        groups.extend(self.state.reservations.list.iter().map(|reservation| reservation.group));
        for group in groups {
            self.look_behind(group);
        }
    }

    /// Tries a job that may go before the head of its group; whether it is gone.
    pub(super) fn consider_short(&mut self, head: Head, gang: &Gang, actions: &mut Vec<Action>) -> bool {
        let (_, id, group) = head;
        let Some(slot) = self.state.jobs.slot(id) else {
            self.look_behind(group);
            return false;
        };
        if self.admits(slot, gang).is_err() {
            self.state.lines.set_short(group, None);
            return false;
        }
        let mut found = self.find_in_time(slot, gang);
        if found.is_ok() && self.state.reservations.list.len() < self.most_reservations() {
            self.reserve_ahead(head);
            found = self.find_in_time(slot, gang);
        }
        let Ok(shares) = found else {
            if self.in_time(slot, gang) == InTime::Nowhere {
                // Time has passed, or what is kept is needed earlier: another may be short enough.
                self.look_behind(group);
                if self.state.lines.short(group).is_some_and(|(_, short)| short == id) {
                    self.state.lines.set_short(group, None);
                }
            } else if self.state.speeds.paces_of(gang).len() > 1 {
                self.look_behind(group);
            } else if self.room_by_count(gang, View::All) {
                self.state.lines.rest(group);
            } else {
                self.state.lines.close_home(group);
            }
            return false;
        };
        self.state.lines.take(&mut self.state.jobs, group, slot);
        self.start(slot, &shares, actions);
        self.look_behind(group);
        true
    }

    /// For checks: short jobs wait behind their heads.
    pub(super) fn check_short(&self) {
        self.state.lines.check_sought();
        for (group, of) in self.state.lines.all() {
            let Some((key, id)) = self.state.lines.short(group) else { continue };
            let job = self.state.jobs.slot(id).and_then(|slot| self.state.jobs.get(slot));
            assert!(
                job.is_some_and(|job| job.key == key && job.phase == Phase::Waiting { group }),
                "{id} is short and does not wait"
            );
            assert!(of.is_in_order(), "{id} is before its head");
        }
    }
}

#[cfg(test)]
mod tests;
