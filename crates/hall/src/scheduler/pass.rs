//! One pass over the heads of the lines that may fit: who starts now.
//!
//! Cost: a look at the live classes for each head that is tried; a head that does not fit closes its class.

use dh_core::NodeId;
use dh_policy::fleet::{Domain, View};
use dh_policy::placement::{Context, Misfit, Need, Share, Wake};

use super::Scheduler;
use super::event::{Action, Gang};
use super::job::Slot;
use super::line::{GroupId, Head, Lacks};
use super::reserve::Relaxed;
use super::run::{rank_of, room_kind};
use super::settings::Backfill;

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It started, or a place is being cleared for it.
    Gone,
    /// It waits.
    Blocked,
}

impl Scheduler {
    /// Starts whatever the policies allow.
    pub(super) fn pass(&mut self, actions: &mut Vec<Action>) {
        self.renew();
        // Lines in which nobody may overtake any more: one at most where lines do not share by a tree.
        let mut shut: Vec<usize> = Vec::new();
        loop {
            let mut first = self.choose(&shut);
            // With shares a look has effects: lines that were passed over are looked at once more before the pass is over.
            let again = self.state.shares.is_some();
            if self.relax(first.map(|(_, head)| head)) == Relaxed::Perhaps || again {
                first = self.choose(&shut);
            }
            let Some((line, head)) = first else { return };
            let tried = self.consider(head, actions);
            if tried == Tried::Blocked && self.state.settings.backfill == Backfill::None {
                shut.push(line);
            }
        }
    }

    /// The head to try next, with its line.
    fn choose(&mut self, shut: &[usize]) -> Option<(usize, Head)> {
        if self.state.shares.is_some() {
            return self.choose_fairly();
        }
        let open = (0..self.state.lines.lines()).filter(|line| !shut.contains(line));
        open.filter_map(|line| Some((line, self.may_go_first(line)?))).min_by_key(|(_, head)| *head)
    }

    /// The first head of a line that may fit, unless it would overtake one that does not and nobody may.
    pub(super) fn may_go_first(&self, line: usize) -> Option<Head> {
        let head = self.state.lines.next(line)?;
        let strict = self.state.settings.backfill == Backfill::None;
        let overtakes = || self.state.lines.first_blocked(line, None).is_some_and(|blocked| blocked < head);
        (!strict || !overtakes()).then_some(head)
    }

    fn consider(&mut self, head: Head, actions: &mut Vec<Action>) -> Tried {
        let (_, _, group) = head;
        let Some(slot) = self.state.lines.top(group) else { return Tried::Blocked };
        let Some(gang) = self.gang(slot).copied() else { return Tried::Blocked };
        if self.state.jobs.get(slot).is_none_or(|job| job.id != head.1) {
            return if self.consider_short(head, &gang, actions) { Tried::Gone } else { Tried::Blocked };
        }
        if let Err(lacks) = self.admits(slot, &gang) {
            self.unreserve(head.1);
            self.state.lines.park(group, lacks);
            return Tried::Blocked;
        }
        let (view, found) = self.find_beside(head, slot, &gang);
        if let Ok(shares) = found {
            self.state.lines.pop(&mut self.state.jobs, group);
            self.start(slot, &shares, actions);
            self.new_head(group);
            return Tried::Gone;
        }
        if self.displace(slot, &gang, actions) {
            self.unreserve(head.1);
            return Tried::Gone;
        }
        self.block(group, &gang, view);
        Tried::Blocked
    }

    /// Whether rules other than room let a job start, elastic ones with as few ranks as they can do with.
    pub(super) fn admits(&self, slot: Slot, gang: &Gang) -> Result<(), Lacks> {
        self.admits_ranks(slot, gang, gang.least_ranks.min(gang.need.ranks))
    }

    /// Whether rules other than room let a job have so many ranks more.
    pub(super) fn admits_ranks(&self, slot: Slot, gang: &Gang, ranks: u32) -> Result<(), Lacks> {
        let Some(job) = self.state.jobs.get(slot) else { return Ok(()) };
        self.quota_allows(job.queue, u64::from(ranks) * gang.need.rank.demand())?;
        if !self.power_allows(gang, ranks) {
            return Err(Lacks::Power);
        }
        Ok(())
    }

    /// A place for a gang: all its ranks, or as many as there is room for if it is elastic.
    pub(super) fn find(&self, gang: &Gang, view: View) -> Result<Vec<Share>, Misfit> {
        self.find_off(gang, view, &[])
    }

    /// The same, off the nodes of `never`, which are sorted.
    pub(super) fn find_off(&self, gang: &Gang, view: View, never: &[NodeId]) -> Result<Vec<Share>, Misfit> {
        let found = self.find_ranks(gang, gang.need.ranks, view, never);
        let (Err(misfit), true) = (&found, gang.least_ranks < gang.need.ranks) else { return found };
        let misfit = *misfit;
        // The most ranks that fit: what fits grows with fewer ranks, so halving finds it.
        let (mut least, mut most) = (gang.least_ranks.max(1), gang.need.ranks - 1);
        let mut best = Err(misfit);
        while least <= most {
            let ranks = least + (most - least) / 2;
            match self.find_ranks(gang, ranks, view, never) {
                Ok(shares) => {
                    best = Ok(shares);
                    least = ranks + 1;
                }
                Err(misfit) => {
                    if best.is_err() {
                        best = Err(misfit);
                    }
                    most = ranks - 1;
                }
            }
        }
        best
    }

    fn find_ranks(&self, gang: &Gang, ranks: u32, view: View, never: &[NodeId]) -> Result<Vec<Share>, Misfit> {
        let need = Need { ranks, ..gang.need };
        // Most that do not fit are known by the hall's counts alone.
        let room = self.state.fleet.room(Domain::HALL, &rank_of(&room_kind(gang)), view);
        if room < ranks {
            return Err(match view {
                View::All => Misfit::Occupied { places: u64::from(room), ranks, level: 0 },
                View::Open => Misfit::Reserved { places: u64::from(room), ranks },
            });
        }
        let level = need.within;
        if level > 0 {
            let domains = (0..self.state.fleet.tree().domains(level)).map(|number| Domain { level, number });
            let rooms = domains.map(|domain| self.state.fleet.room(domain, &rank_of(&room_kind(gang)), view));
            let most = rooms.max().unwrap_or(0);
            if most < ranks {
                return Err(Misfit::Fragmented { places: u64::from(most), ranks, level });
            }
        }
        let context = Context { view, warm: self.warm_nodes(gang), never, wake: Wake::Last, speeds: self.speeds(gang) };
        self.placement.place(&self.state.fleet, &need, &context)
    }

    pub(super) fn warm_nodes(&self, gang: &Gang) -> &[NodeId] {
        gang.dataset.and_then(|dataset| self.state.warm.get(&dataset)).map_or(&[], Vec::as_slice)
    }

    /// A head that does not fit waits for what it lacks.
    fn block(&mut self, group: GroupId, gang: &Gang, view: View) {
        self.reserve(group);
        if self.room_by_count(gang, view) {
            let lacks = if gang.need.asked().is_some() { Lacks::Box } else { Lacks::Nodes };
            self.state.lines.park(group, lacks);
        } else if view == View::Open {
            self.state.lines.wait_for_open(group);
        } else {
            self.state.lines.wait_for_all(group);
        }
        self.look_behind(group);
    }

    /// Whether some domain in which the gang may stand has accelerators for it, by counting.
    pub(super) fn room_by_count(&self, gang: &Gang, view: View) -> bool {
        let level = gang.need.within;
        let rank = rank_of(&room_kind(gang));
        let least = gang.least_ranks.min(gang.need.ranks);
        (0..self.state.fleet.tree().domains(level))
            .any(|number| self.state.fleet.room(Domain { level, number }, &rank, view) >= least)
    }
}
