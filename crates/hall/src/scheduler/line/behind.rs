//! Short jobs behind the heads of their groups, as the lines keep them; what for is told in [`super::super::short`].
//!
//! Invariant: a group's short job stands in its home class, and counts there as a head; a class that waits for open room knows
//! its groups by the shortest length in them. Cost: a change of a sorted set; groups that have nothing short are not visited.

use std::collections::BTreeSet;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fleet::View;
use dh_policy::order::Key;

use super::{ClassId, Group, GroupId, Head, Lacks, Lines, RoomKind, Stand};
use crate::scheduler::job::{Jobs, Slot};

impl Lines {
    /// The job behind the head of a group that may go before it.
    pub(in crate::scheduler) fn short(&self, group: GroupId) -> Option<(Key, JobId)> {
        self.group(group)?.short
    }

    /// The first job of a group that has no more than `most` left to run, if its head has more.
    pub(in crate::scheduler) fn first_short(
        &mut self,
        jobs: &mut Jobs,
        group: GroupId,
        most: Span,
    ) -> Option<(Key, JobId)> {
        let slot = self.group_mut(group)?.members.short(jobs, most, Jobs::reuse);
        self.seek(group);
        jobs.get(slot?).map(|job| (job.key, job.id))
    }

    /// Shows a job behind the head of a group that may go before it, or none.
    pub(in crate::scheduler) fn set_short(&mut self, group: GroupId, short: Option<(Key, JobId)>) {
        let Some(of) = self.group(group).filter(|of| of.short != short) else { return };
        let (line, home, old) = (of.home.line, of.home_class, of.short);
        self.turn(line);
        let at = usize::try_from(home).unwrap_or(usize::MAX);
        let (Some(class), Some(standing)) = (self.classes.get_mut(at), self.standing.get_mut(usize::from(line))) else {
            return;
        };
        if let Some((key, job)) = old
            && class.heads.remove(&(line, (key, job, group)))
        {
            *standing -= 1;
        }
        if let Some((key, job)) = short
            && class.heads.insert((line, (key, job, group)))
        {
            *standing += 1;
        }
        match (class.open, class.heads.is_empty()) {
            (true, true) => {
                self.live.remove(&home);
            }
            (true, false) => {
                self.live.insert(home);
            }
            (false, _) => {}
        }
        if let Some(of) = self.group_mut(group) {
            of.short = short;
        }
        self.seek(group);
    }

    /// Takes a job out of its group that is not its head.
    pub(in crate::scheduler) fn take(&mut self, jobs: &mut Jobs, group: GroupId, slot: Slot) {
        self.set_short(group, None);
        let tracks = self.tracks;
        let Some(from) = self.group_mut(group) else { return };
        from.members.take(tracks, jobs, slot);
        self.waiting -= 1;
        self.tidy(jobs, group);
        self.show(jobs, group);
    }

    /// Whether the head of a group waits for room that is not kept for others.
    pub(in crate::scheduler) fn waits_beside(&self, group: GroupId) -> bool {
        match self.group(group).map(|group| group.stand) {
            Some(Stand::Class(class)) => self.class(class).is_some_and(|class| class.key.kind.view == View::Open),
            Some(Stand::Parked(lacks)) => matches!(lacks, Lacks::Nodes | Lacks::Box),
            None => false,
        }
    }

    /// There is no room for the short job of `group`, nor for any of its home class, until some is given back.
    pub(in crate::scheduler) fn close_home(&mut self, group: GroupId) {
        if let Some(class) = self.group(group).map(|group| group.home_class) {
            self.close_class(class);
        }
    }

    /// The short job of `group` lacks cores, memory or rails: it is looked for again when anything comes free.
    pub(in crate::scheduler) fn rest(&mut self, group: GroupId) {
        self.set_short(group, None);
        self.resting.insert(group);
    }

    pub(in crate::scheduler) fn rested(&mut self) -> BTreeSet<GroupId> {
        std::mem::take(&mut self.resting)
    }

    /// A group was looked through for jobs that are over by a moment.
    pub(in crate::scheduler) fn looked_until(&mut self, group: GroupId, until: SimTime) {
        let Some(Stand::Class(id)) = self.group(group).map(|group| group.stand) else { return };
        if let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at)) {
            class.looked = class.looked.min(until);
        }
    }

    /// Groups that wait for open room where `room` would do if it were open, and were not looked through for jobs that are
    /// over by `until`; they count as looked through from now on. Left out are groups in which nobody has as little as
    /// `most` left to run, if that is the same for all: nothing would be found there.
    pub(in crate::scheduler) fn not_looked_through(
        &mut self,
        until: SimTime,
        most: Option<Span>,
        room: impl Fn(&RoomKind) -> u32,
    ) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = Vec::new();
        for (kind, closed) in self.closed.iter().filter(|(kind, _)| kind.view == View::Open) {
            for (_, id) in closed.range(..=(room(kind), ClassId::MAX)) {
                let Some(class) = usize::try_from(*id).ok().and_then(|at| self.classes.get_mut(at)) else { continue };
                if class.looked < until {
                    class.looked = until;
                    let Some(most) = most else {
                        groups.extend(class.heads.iter().map(|(_, head)| head.2));
                        continue;
                    };
                    let short = class.sought.range(..=(most.0, GroupId::MAX)).filter_map(|(_, id)| {
                        let group = self.groups.get(usize::try_from(*id).ok()?)?;
                        Some((group.home.line, group.head(*id)?))
                    });
                    let mut short: Vec<(u16, Head)> = short.collect();
                    short.sort_unstable();
                    groups.extend(short.iter().map(|(_, head)| head.2));
                }
            }
        }
        groups
    }

    /// Groups that wait for open room go back to their classes, where `room` would do if it were open and the head `may`.
    pub(in crate::scheduler) fn go_home(&mut self, room: impl Fn(&RoomKind) -> u32, may: impl Fn(Slot) -> bool) {
        let mut gone: Vec<GroupId> = Vec::new();
        for (kind, classes) in self.closed.iter().filter(|(kind, _)| kind.view == View::Open) {
            let within = classes.range(..=(room(kind), ClassId::MAX));
            let heads = within.filter_map(|(_, class)| self.class(*class)).flat_map(|class| &class.heads);
            gone.extend(heads.map(|(_, head)| head.2).filter(|group| self.top(*group).is_some_and(&may)));
        }
        for group in gone {
            self.unpark(group);
        }
    }

    /// Keeps up to date for whom a group is looked through: for all while it shows a short job, which may be one no more.
    pub(super) fn seek(&mut self, group: GroupId) {
        let Some(of) = self.group(group) else { return };
        let sought = self.to_seek(of);
        if of.sought == sought {
            return;
        }
        self.seek_no_more(group);
        let Some(Stand::Class(id)) = self.group(group).map(|of| of.stand) else { return };
        if let Some(least) = sought
            && let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at))
        {
            class.sought.insert((least, group));
        }
        if let Some(of) = self.group_mut(group) {
            of.sought = sought;
        }
    }

    pub(super) fn seek_no_more(&mut self, group: GroupId) {
        let Some(of) = self.group_mut(group) else { return };
        let (stand, sought) = (of.stand, of.sought.take());
        if let (Stand::Class(id), Some(least)) = (stand, sought)
            && let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at))
        {
            class.sought.remove(&(least, group));
        }
    }

    /// Under what a group is found: nothing if it waits for something other than open room, or nobody's length is known.
    fn to_seek(&self, of: &Group) -> Option<u64> {
        let Stand::Class(id) = of.stand else { return None };
        let waits = of.head.is_some() && self.class(id)?.key.kind.view == View::Open;
        let least = if of.short.is_some() { 0 } else { of.members.least() };
        (waits && least < u64::MAX).then_some(least)
    }

    /// The state was read back: what follows from it is found again.
    pub(in crate::scheduler) fn seek_all(&mut self) {
        for group in 0..u32::try_from(self.groups.len()).unwrap_or(u32::MAX) {
            self.seek(group);
        }
    }

    /// For checks: every group is found under what it is to be, and nothing else is.
    pub(in crate::scheduler) fn check_sought(&self) {
        let mut known = 0;
        for (id, of) in (0..).zip(self.groups.iter()) {
            assert_eq!(of.sought, self.to_seek(of), "group {id} is sought under another length");
            if let (Some(least), Stand::Class(class)) = (of.sought, of.stand) {
                known += 1;
                assert!(
                    self.class(class).is_some_and(|class| class.sought.contains(&(least, id))),
                    "{id} is not found"
                );
            }
        }
        assert_eq!(known, self.classes.iter().map(|class| class.sought.len()).sum::<usize>(), "strangers are found");
    }
}

impl Group {
    /// Whether its short job is behind its head.
    pub(in crate::scheduler) fn is_in_order(&self) -> bool {
        self.short.is_none() || self.head < self.short
    }
}
