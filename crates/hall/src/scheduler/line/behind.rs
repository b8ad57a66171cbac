//! Short jobs behind the heads of their groups, as the lines keep them; what for is told in [`super::super::short`].
//!
//! Invariant: a group's short job stands in its home class, and counts there as a head. Cost: a change of a sorted set.

use std::collections::BTreeSet;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_policy::fleet::View;
use dh_policy::order::Key;

use super::{ClassId, Group, GroupId, Lacks, Lines, RoomKind, Stand};
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
        let slot = self.group_mut(group)?.members.short(jobs, most, Jobs::reuse)?;
        jobs.get(slot).map(|job| (job.key, job.id))
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
    /// over by `until`; they count as looked through from now on.
    pub(in crate::scheduler) fn not_looked_through(
        &mut self,
        until: SimTime,
        room: impl Fn(&RoomKind) -> u32,
    ) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = Vec::new();
        for (kind, closed) in self.closed.iter().filter(|(kind, _)| kind.view == View::Open) {
            for (_, id) in closed.range(..=(room(kind), ClassId::MAX)) {
                let Some(class) = usize::try_from(*id).ok().and_then(|at| self.classes.get_mut(at)) else { continue };
                if class.looked < until {
                    class.looked = until;
                    groups.extend(class.heads.iter().map(|(_, head)| head.2));
                }
            }
        }
        groups
    }
}

impl Group {
    /// Whether its short job is behind its head.
    pub(in crate::scheduler) fn is_in_order(&self) -> bool {
        self.short.is_none() || self.head < self.short
    }
}
