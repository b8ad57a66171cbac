//! Guarantees: what a queue may take back, and from whom.
//!
//! Two queues meet at the lowest queue above both, or at the hall; their parties are the queues just below. A claimant may take
//! back where its party, with what it wants, stays within its guarantee. Whoever goes holds what was lent: every queue from his
//! own up to his party holds more than it is guaranteed. Jobs of a queue that has queues below it stand beside those, and
//! nothing is guaranteed to them.
//!
//! Invariant: nobody is left with less than is guaranteed, with one exception: where nothing else makes room, a gang goes of
//! which only a part was lent, because it cannot go in part; it has run for a quantum then. Jobs that were told to stop count
//! as gone, so that nothing is taken twice. Guarantees are of accelerators.
//!
//! Cost: the levels of the tree for each victim that is offered.

use std::collections::BTreeMap;

use dh_policy::fleet::View;
use dh_policy::order::Key;
use dh_policy::placement::Need;

use super::displace::{Hope, Reclaims, Right};
use super::event::{Action, QueueId, QueueRules};
use super::job::Slot;
use super::line::GroupId;
use super::share::{depth, way_up};
use super::{Queue, Scheduler};

/// On what ground somebody goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// All that he holds was lent.
    Lent,
    /// He stands later, and what he holds is not guaranteed to anybody but whom he goes for.
    Later,
    /// Some of what he holds was lent.
    PartlyLent,
}

impl Ground {
    pub(super) const fn is_lent(self) -> bool {
        matches!(self, Self::Lent | Self::PartlyLent)
    }
}

/// What each queue is guaranteed, thousandths of accelerators: no more than its parent, or the hall, has left after those above
/// it and before it.
pub(super) fn granted(rules: &[QueueRules], all_milli: u64) -> Vec<u64> {
    let mut order: Vec<usize> = (0..rules.len()).collect();
    order.sort_by_key(|at| (depth(rules, *at), *at));
    let (mut granted, mut left, mut hall) = (vec![0; rules.len()], vec![0; rules.len()], all_milli);
    for at in order {
        let Some(of) = rules.get(at) else { continue };
        let spare = match of.parent {
            Some(parent) => left.get_mut(usize::from(parent)),
            None => Some(&mut hall),
        };
        let grant = spare.map_or(0, |spare| {
            let grant = of.guarantee_milli.min(*spare);
            *spare -= grant;
            grant
        });
        if let (Some(granted), Some(left)) = (granted.get_mut(at), left.get_mut(at)) {
            (*granted, *left) = (grant, grant);
        }
    }
    granted
}

/// What queues may lose to a claimant, and what they have lost to it so far.
#[derive(Debug, Clone)]
pub(super) struct Books<'a> {
    queues: &'a [Queue],
    reclaims: Reclaims,
    ground: Ground,
    /// What the claimant wants, and what it is charged for already.
    wants: u64,
    own: u64,
    /// Its queue and those above it, each with whether it would stay within its guarantee.
    way: Vec<(QueueId, bool)>,
    lost: BTreeMap<QueueId, u64>,
}

impl Books<'_> {
    /// Whether nobody may go, whatever he holds.
    pub(super) fn closed(&self) -> bool {
        self.ground.is_lent() && self.way.iter().all(|(_, within)| !within)
    }

    /// Whether a job of `queue` may go that holds `milli`, beside those that were taken.
    pub(super) fn allows(&self, queue: QueueId, milli: u64) -> bool {
        if self.reclaims == Reclaims::Never {
            return true;
        }
        let place = |id: QueueId| self.way.iter().position(|(ours, _)| *ours == id);
        if self.ground.is_lent() {
            let meet = way_up(self.queues, queue).find_map(|(id, _)| place(id)).unwrap_or(self.way.len());
            let party = meet.checked_sub(1).and_then(|below| self.way.get(below));
            if milli == 0 || party.is_none_or(|(_, within)| !within) {
                return false;
            }
        }
        way_up(self.queues, queue).all(|(id, of)| {
            let ours = place(id).is_some();
            let (own, wants) = if ours { (self.own, self.wants) } else { (0, 0) };
            let gone = of.leaving_milli + own + self.lost.get(&id).copied().unwrap_or(0);
            let lent = of.used_milli.saturating_sub(gone).saturating_sub(of.granted_milli);
            match self.ground {
                Ground::Lent | Ground::Later => milli <= lent + wants,
                Ground::PartlyLent => ours || lent > 0,
            }
        })
    }

    /// Takes it, if that is allowed.
    pub(super) fn take(&mut self, queue: QueueId, milli: u64) -> bool {
        let allowed = self.allows(queue, milli);
        if allowed && self.reclaims != Reclaims::Never {
            for (id, _) in way_up(self.queues, queue) {
                *self.lost.entry(id).or_default() += milli;
            }
        }
        allowed
    }

    /// Whether all of these may go together.
    pub(super) fn allow_all(mut self, mut gone: Vec<(u64, QueueId)>) -> bool {
        // The largest last: it may be the one of which a part was lent.
        gone.sort_unstable();
        gone.into_iter().all(|(milli, queue)| self.take(queue, milli))
    }
}

impl Scheduler {
    pub(super) fn books(&self, need: &Need, right: &Right, ground: Ground) -> Books<'_> {
        let wants = u64::from(need.ranks) * need.rank.demand();
        let way = way_up(&self.state.queues, right.queue);
        Books {
            queues: &self.state.queues,
            reclaims: self.state.displacing.reclaims,
            ground,
            wants,
            own: right.own,
            way: way.map(|(id, of)| (id, within(of, right.own, wants))).collect(),
            lost: BTreeMap::new(),
        }
    }

    /// Whether a queue, or one above it, would stay within its guarantee with so much more; `own` of what it is charged for
    /// would be given up for it.
    pub(super) fn entitled(&self, queue: QueueId, own: u64, wants: u64) -> bool {
        self.state.displacing.reclaims == Reclaims::Perhaps
            && way_up(&self.state.queues, queue).any(|(_, of)| within(of, own, wants))
    }

    /// A queue holds less: it, or one below it or below those above it, may be within its guarantee again.
    pub(super) fn within_again(&mut self, queue: QueueId) {
        if self.state.displacing.reclaims == Reclaims::Never || self.state.lines.waiting() == 0 {
            return;
        }
        let queues = &self.state.queues;
        let eased: Vec<QueueId> =
            way_up(queues, queue).filter(|(_, of)| of.used_milli < of.granted_milli).map(|(id, _)| id).collect();
        if eased.is_empty() {
            return;
        }
        let all = (0..queues.len()).filter_map(|number| QueueId::try_from(number).ok());
        let below = all.filter(|id| way_up(queues, *id).any(|(above, _)| eased.contains(&above)));
        let groups = below.flat_map(|id| self.state.lines.of_queue(id));
        self.state.displacing.fresh.extend(groups);
    }

    /// Whoever may take back what is his queue's own goes before all others: else they would start only to be stopped for him.
    pub(super) fn claim_guarantees(&mut self, actions: &mut Vec<Action>) {
        if self.state.displacing.reclaims == Reclaims::Never {
            return;
        }
        let mut fresh = std::mem::take(&mut self.state.displacing.fresh);
        fresh.sort_unstable();
        fresh.dedup();
        let mut hopeful: Vec<(Key, GroupId)> = Vec::new();
        if self.state.displacing.hope == Hope::Some {
            hopeful.extend(&self.state.displacing.hopeful);
        }
        let new = fresh.iter().filter_map(|group| {
            let top = self.state.lines.top(*group)?;
            Some((self.standing(top), *group))
        });
        hopeful.extend(new);
        hopeful.sort_unstable();
        hopeful.dedup();
        hopeful.retain(|(_, group)| self.has_right(*group));
        // Where a parent's own jobs meet those of a queue that is guaranteed a part, the latter would take it back.
        hopeful.sort_by_key(|(_, group)| !self.is_firm(*group));
        self.state.displacing.fresh = fresh;
        for (_, group) in hopeful {
            if self.has_right(group) && self.state.displacing.credit > 0 {
                self.state.displacing.fresh.retain(|fresh| *fresh != group);
                self.attempt(group, actions);
            }
        }
    }

    /// Whether what the head of a group wants is guaranteed to its queue and all above it, so that nobody can take it back.
    fn is_firm(&self, group: GroupId) -> bool {
        let job = self.state.lines.top(group).and_then(|slot| self.state.jobs.get(slot));
        let gang = job.and_then(|job| self.state.shapes.get(job.shape));
        job.zip(gang).is_some_and(|(job, gang)| {
            let parts = self.state.queues.iter().any(|queue| queue.rules.parent == Some(job.queue));
            !parts && way_up(&self.state.queues, job.queue).all(|(_, of)| within(of, 0, super::run::milli(gang)))
        })
    }

    /// Whether the head of a group may take back what it wants.
    fn has_right(&self, group: GroupId) -> bool {
        let right = self.state.lines.top(group).and_then(|slot| self.right(slot, self.gang(slot)?));
        right.is_some_and(|right| right.reclaim)
    }

    /// What a job sees that takes back what is its queue's own: what is kept for jobs without that right is no obstacle.
    pub(super) fn view_of_claimant(&self, view: View, ground: Ground) -> View {
        let entitled = |job| {
            let slot = self.state.jobs.slot(job)?;
            let (job, gang) = (self.state.jobs.get(slot)?, self.gang(slot)?);
            self.entitled(job.queue, 0, super::run::milli(gang)).then_some(())
        };
        let kept = || self.state.reservations.list.iter().any(|kept| entitled(kept.job).is_some());
        if view == View::Open && ground.is_lent() && !kept() { View::All } else { view }
    }

    /// Guarantees have changed, or where queues stand.
    pub(super) fn grant_anew(&mut self) {
        let rules: Vec<QueueRules> = self.state.queues.iter().map(|queue| queue.rules).collect();
        let all: u64 = self.state.settings.nodes.iter().map(|node| u64::from(node.accelerators) * 1000).sum();
        for (queue, granted) in self.state.queues.iter_mut().zip(granted(&rules, all)) {
            queue.granted_milli = granted;
        }
    }

    /// A job is told to stop, or is gone that was.
    pub(super) fn move_leaving(&mut self, slot: Slot, with: impl Fn(u64, u64) -> u64) {
        let Some(job) = self.state.jobs.get(slot) else { return };
        let (mut next, ranks) = (Some(job.queue), self.going(slot));
        let demand = self.gang(slot).map_or(0, |gang| gang.need.rank.demand());
        let milli = u64::try_from(ranks).unwrap_or(0) * demand;
        while let Some(queue) = next.and_then(|id| self.state.queues.get_mut(usize::from(id))) {
            queue.leaving_milli = with(queue.leaving_milli, milli);
            next = queue.rules.parent;
        }
    }

    /// For checks: what jobs hold that were told to stop.
    pub(super) fn check_guarantees(&self) {
        let mut leaving = vec![0_u64; self.state.queues.len()];
        for (slot, job) in self.state.jobs.iter() {
            let Some(_) = job.run().filter(|run| run.stopping) else { continue };
            let demand = self.gang(slot).map_or(0, |gang| gang.need.rank.demand());
            for (id, _) in way_up(&self.state.queues, job.queue) {
                if let Some(leaving) = leaving.get_mut(usize::from(id)) {
                    *leaving += u64::try_from(self.going(slot)).unwrap_or(0) * demand;
                }
            }
        }
        for (number, (queue, leaving)) in self.state.queues.iter().zip(leaving).enumerate() {
            assert_eq!(queue.leaving_milli, leaving, "queue {number} is not left by those who were told to");
        }
    }
}

fn within(queue: &Queue, own: u64, wants: u64) -> bool {
    wants > 0 && queue.used_milli.saturating_sub(own) + wants <= queue.granted_milli
}
