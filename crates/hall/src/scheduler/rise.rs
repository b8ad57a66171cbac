//! Running jobs in the order in which they may be displaced, and waiting heads that are tried again when that changes.
//!
//! A head that may displace others and could not is hopeful. It is tried again when capacity comes free that was nobody's to
//! take, when a running job's key rises, and when somebody has run for his quantum. Hopeful heads are looked at from the
//! first until one stands behind all that runs; searches are paid from a credit that each event adds to, so that an event
//! costs a bounded number of looks in the mean.

use std::ops::Bound;

use dh_core::SimTime;
use dh_core::time::Span;

use super::Scheduler;
use super::displace::{Hope, Reclaims, Right, Whom};
use super::event::{Action, Grace};
use super::job::{Job, Phase, Slot};
use super::line::GroupId;
use super::settings::Backfill;

/// Victims that may be looked at for each event, in the mean.
const CREDIT: u64 = 32;

/// Credit that is saved up, at most.
const CREDIT_MOST: u64 = 1024;

/// How long heads wait for credit if nothing happens.
const PAUSE: Span = Span::from_secs(1);

impl Scheduler {
    /// A job began to run: what follows from its key as it runs.
    pub(super) fn ran(&mut self, slot: Slot) {
        if !self.state.displacing.failed.is_empty()
            && let Some(id) = self.state.jobs.get(slot).map(|job| job.id)
        {
            self.state.displacing.forgive(id);
        }
        if self.state.displacing.whom == Whom::Nobody {
            return;
        }
        let key = self.standing(slot);
        let grace = self.gang(slot).map(|gang| gang.grace);
        let Some(job) = self.state.jobs.get_mut(slot) else { return };
        job.key = key;
        let id = job.id;
        if grace == Some(Grace::Preemptible) && !self.shares(slot) {
            self.state.displacing.running.insert((key, id, slot));
            self.arm(slot);
        }
    }

    /// A job does not run any more, or was told to stop.
    pub(super) fn left(&mut self, slot: Slot) {
        if self.state.displacing.whom == Whom::Nobody {
            return;
        }
        let Some(job) = self.state.jobs.get(slot) else { return };
        self.state.displacing.running.remove(&(job.key, job.id, slot));
        if let Some(at) = self.state.displacing.armed.remove(&slot) {
            self.state.displacing.rises.remove(&(at, slot));
        }
    }

    /// Notes when the key of a running job rises next.
    fn arm(&mut self, slot: Slot) {
        if self.state.displacing.whom != Whom::Later {
            return;
        }
        let after = self.candidate(slot).and_then(|candidate| self.order.rises_after(&candidate));
        if let Some(after) = after {
            let at = self.state.now.after(Span(after.0.max(1)));
            self.state.displacing.armed.insert(slot, at);
            self.state.displacing.rises.insert((at, slot));
        }
    }

    /// What is known about a running job has changed: it stands elsewhere.
    pub(super) fn stands_anew(&mut self, slot: Slot) {
        let stops = self.state.jobs.get(slot).and_then(|job| job.run()).is_none_or(|run| run.stopping);
        if self.state.displacing.whom == Whom::Nobody || stops {
            return;
        }
        self.left(slot);
        self.ran(slot);
        self.hope();
    }

    /// The work of a running job is safe: it would cost less.
    pub(super) fn safe(&mut self, slot: Slot) {
        let now = self.state.now;
        if let Some(run) = self.state.jobs.get_mut(slot).and_then(Job::run_mut) {
            run.safe = now;
        }
        if self.state.displacing.whom == Whom::Lower
            && self.state.jobs.get(slot).and_then(|job| job.run()).is_some_and(|run| !run.stopping)
        {
            self.left(slot);
            self.ran(slot);
        }
    }

    /// Keys of running jobs that have risen by now.
    pub(super) fn rise(&mut self) {
        while let Some((at, slot)) = self.state.displacing.rises.first().copied() {
            if at > self.state.now {
                return;
            }
            self.state.displacing.rises.pop_first();
            self.state.displacing.armed.remove(&slot);
            if self.guesses() {
                self.guess(slot);
            }
            self.stands_anew(slot);
        }
    }

    pub(super) fn order_wakeup(&self) -> Option<SimTime> {
        if self.state.lines.waiting() == 0 {
            return None;
        }
        let rise = self.state.displacing.rises.first().map(|(at, _)| *at);
        rise.into_iter().chain(self.state.displacing.wake).min()
    }

    /// A job came to wait in `group`.
    pub(super) fn came_to_wait(&mut self, group: GroupId, slot: Slot) {
        if self.state.displacing.whom != Whom::Nobody && self.state.lines.top(group) == Some(slot) {
            self.state.displacing.fresh.push(group);
        }
    }

    /// The head of `group` left the line.
    pub(super) fn new_head(&mut self, group: GroupId) {
        if self.state.displacing.whom != Whom::Nobody && self.state.lines.top(group).is_some() {
            self.state.displacing.fresh.push(group);
        }
    }

    /// Heads that could not displace anybody may be able to now.
    pub(super) fn hope(&mut self) {
        if self.state.displacing.whom != Whom::Nobody {
            self.state.displacing.hope = Hope::Some;
        }
    }

    /// An event pays for searches.
    pub(super) fn pay(&mut self) {
        if self.state.displacing.whom != Whom::Nobody {
            let credit = self.state.displacing.credit.saturating_add(CREDIT).min(CREDIT_MOST);
            self.state.displacing.credit = credit;
        }
    }

    /// Tries heads that may displace others and were not tried: new ones, and hopeful ones if there is reason.
    pub(super) fn retry(&mut self, actions: &mut Vec<Action>) {
        if self.state.displacing.whom == Whom::Nobody {
            return;
        }
        let mut fresh = std::mem::take(&mut self.state.displacing.fresh);
        for group in fresh.drain(..) {
            self.attempt(group, actions);
        }
        // What was set aside is kept for its memory.
        if self.state.displacing.fresh.is_empty() {
            self.state.displacing.fresh = fresh;
        }
        if self.state.displacing.wake.is_some_and(|wake| wake <= self.state.now) {
            self.state.displacing.wake = None;
            self.state.displacing.hope = Hope::Some;
            self.state.displacing.credit = self.state.displacing.credit.max(1);
        }
        if self.state.displacing.hope == Hope::Some {
            self.state.displacing.hope = Hope::None;
            self.retry_hopeful(actions);
        }
    }

    fn retry_hopeful(&mut self, actions: &mut Vec<Action>) {
        let mut from = Bound::Unbounded;
        while let Some((key, group)) = self.state.displacing.hopeful.range((from, Bound::Unbounded)).next().copied() {
            from = Bound::Excluded((key, group));
            if self.state.displacing.reclaims == Reclaims::Never && !self.stands_before_some(key) {
                return;
            }
            let present = self.state.lines.top(group).map(|slot| self.standing(slot));
            if present.is_none_or(|present| present < key) {
                // Its head is another one, which was tried when it came.
                self.state.displacing.take_hope(group);
            }
            match present {
                Some(present) if present == key => {
                    if self.state.displacing.credit == 0 {
                        let at = self.state.now.after(PAUSE);
                        self.state.displacing.wake_at(at);
                        return;
                    }
                    self.attempt(group, actions);
                }
                Some(present) => self.state.displacing.give_hope(group, present),
                None => {}
            }
        }
    }

    /// Tries the head of a group, and the next ones as long as they have somebody stopped.
    pub(super) fn attempt(&mut self, group: GroupId, actions: &mut Vec<Action>) {
        while let Some(slot) = self.state.lines.top(group) {
            let Some(gang) = self.gang(slot).copied() else { return };
            let Some(right) = self.right(slot, &gang) else { return };
            self.state.displacing.give_hope(group, right.key);
            if self.overtakes(slot, group, &right) || self.admits(slot, &gang).is_err() {
                return;
            }
            if self.state.displacing.reclaims == Reclaims::Never && !self.stands_before_some(right.key) {
                return;
            }
            let view = self.view(slot);
            if let Ok(shares) = self.find(&gang, view) {
                self.state.lines.pop(&mut self.state.jobs, group);
                self.start(slot, &shares, actions);
            } else if !self.displace(slot, &gang, actions) {
                return;
            }
        }
    }

    /// Whether a head would go before one that is ahead of it, where nothing may. Who takes back what is his queue's own does not
    /// wait for other queues.
    fn overtakes(&self, slot: Slot, group: GroupId, right: &Right) -> bool {
        if self.state.settings.backfill != Backfill::None {
            return false;
        }
        let Some(job) = self.state.jobs.get(slot) else { return true };
        let of_queue = right.reclaim.then_some(job.queue);
        let blocked = self.state.lines.first_blocked(self.state.lines.line_of(job), of_queue);
        blocked.is_some_and(|blocked| blocked < (job.key, job.id, group))
    }

    /// What must hold of preemption's books.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check_displacing(&self) {
        let displacing = &self.state.displacing;
        for (key, id, slot) in &displacing.running {
            let job = self.state.jobs.get(*slot);
            assert!(
                job.is_some_and(|job| job.id == *id && job.key == *key && job.run().is_some()),
                "{id} does not run"
            );
        }
        assert!(displacing.whole.is_empty(), "a claim is whole and did not start");
        assert_eq!(displacing.until.len(), self.state.claiming.len(), "claims without an end");
        let mut wanted = 0;
        for (slot, job) in self.state.jobs.iter() {
            if displacing.whom != Whom::Nobody
                && let Some(run) = job.run()
                && !run.stopping
                && self.gang(slot).is_some_and(|gang| gang.grace == Grace::Preemptible)
                && !self.shares(slot)
            {
                assert!(displacing.running.contains(&(job.key, job.id, slot)), "{} may be displaced in secret", job.id);
            }
            let Phase::Claiming(claim) = &job.phase else { continue };
            assert!(displacing.until.contains(&(claim.until, slot)) && claim.until > self.state.now, "{}", job.id);
            for rank in &claim.ranks {
                let here = || claim.held.iter().filter(|held| held.node == rank.node);
                if claim.missing.binary_search(&rank.node).is_err() {
                    assert!(here().any(|held| held == rank) || rank.mask == 0, "{} owns less than it thinks", job.id);
                }
                let held = here().fold(0, |mask, held| mask | held.mask);
                let left = rank.mask & !held & self.state.fleet.free_mask(rank.node);
                assert_eq!(left, 0, "{} does not own what is free of its place on {}", job.id, rank.node);
            }
            for node in &claim.missing {
                assert!(displacing.wanted.contains(&(*node, slot)), "{} misses {node} in secret", job.id);
                wanted += 1;
            }
        }
        assert_eq!(displacing.wanted.len(), wanted, "claims that are gone want something");
    }
}
