//! The tree: who holds what, who may take more, and who goes next.
//!
//! Quotas. A queue holds what its jobs hold. What it withholds from others (its guarantee beyond what it lends) is its own;
//! the rest it takes out of its parent's pool, which is what the parent has beyond what its children withhold; and so on to
//! the root, whose guarantee is the capacity. So an idle guarantee can be borrowed, by anybody, unless it is withheld.
//!
//! Order. On each level the queue goes first whose weighted dominant share is least: of the resources, the largest of
//! (what it holds now + what it held lately) / capacity, over its weight. What it held lately is the mean over the past, in
//! which a moment counts half after each half-life; a queue that always held as much as it does now has twice the share of
//! one that has just started to. With a half-life of zero only the present counts: plain hierarchical dominant-resource
//! fairness. What runs still is the present; [`Tree::charge`] makes it part of the past too.
//!
//! Invariant: whole numbers, see `scaled`; ties go to the queue that was added first. No queue stands later in its line than
//! its share puts it: one whose share falls moves at once, one whose share has risen moves when it comes up. As time passes,
//! what is held gains on what was held, and shares only rise: so time moves nobody. Time counts in steps of 1/256 half-life.
//! Cost: a start or a charge is one pass to the root; an end moves a queue in one sorted set a level; the next queue is a look
//! a level, and a move for each start, charge or step of time since that touched one that comes up.
//! Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011, and its hierarchy (Bhattacharya et al. 2013).

use std::collections::BTreeSet;

use dh_core::SimTime;
use dh_core::time::Span;
use serde::{Deserialize, Serialize};

use super::queue::{Amounts, Blocked, Error, KINDS, Queue, QueueId, Quota};
use super::scaled::{Scaled, growth};

/// Steps of a half-life in which the present counts: a share is late by at most 0.3 %.
const STEPS: u64 = 256;

/// Something that ran in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// How much.
    pub amounts: Amounts,
    /// Since when.
    pub from: SimTime,
    /// Until when.
    pub to: SimTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) queue: Queue,
    pub(super) parent: Option<QueueId>,
    pub(super) depth: u32,
    /// What its jobs and those of its descendants hold.
    pub(super) holds: Amounts,
    /// What is gone of its guarantee: what a leaf holds; what the children of an inner queue withhold or took.
    gone: Amounts,
    /// The sum of its children's guarantees, and of what they withhold.
    promised: Amounts,
    withheld: Amounts,
    /// What it held, each moment x 2^(t/h).
    past: [Scaled; KINDS],
    /// One over weight x capacity.
    scale: [Scaled; KINDS],
    /// Its key among its siblings, if a job waits in or below it.
    key: Option<Scaled>,
    /// Its children in which jobs wait.
    line: BTreeSet<(Scaled, QueueId)>,
}

impl Place {
    fn withholds(&self) -> Amounts {
        self.queue.guaranteed.less(self.queue.lends)
    }

    /// What it takes from its parent's pool.
    fn takes(&self) -> Amounts {
        self.gone.less(self.withholds())
    }

    /// The weighted dominant share, x 2^(t/h).
    fn share(&self, present: Scaled) -> Scaled {
        let each = self.holds.each().into_iter().zip(self.past).zip(self.scale);
        each.map(|((holds, past), scale)| Scaled::whole(holds).times(present).plus(past).times(scale))
            .max()
            .unwrap_or(Scaled::ZERO)
    }
}

/// A tree of queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub(super) places: Vec<Place>,
    half_life: Span,
    /// The last time it was told.
    now: SimTime,
    /// 2^(t/h) at the last step of 1/256 half-life.
    present: Scaled,
}

impl Tree {
    /// A root that has `capacity`. What was used counts half after `half_life`; nothing of it with a half-life of zero.
    pub fn new(capacity: Amounts, half_life: Span) -> Self {
        let queue = Queue { guaranteed: capacity, ..Queue::new("root") };
        let mut tree = Self { places: Vec::new(), half_life, now: SimTime(0), present: Scaled::whole(1) };
        tree.push(queue, None);
        tree
    }

    fn push(&mut self, queue: Queue, parent: Option<QueueId>) -> QueueId {
        let id = QueueId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(Place {
            queue,
            parent,
            depth: parent.map_or(0, |parent| self.at(parent).depth + 1),
            holds: Amounts::NONE,
            gone: Amounts::NONE,
            promised: Amounts::NONE,
            withheld: Amounts::NONE,
            past: [Scaled::ZERO; KINDS],
            scale: [Scaled::ZERO; KINDS],
            key: None,
            line: BTreeSet::new(),
        });
        self.rescale(id);
        id
    }

    pub(super) fn at(&self, queue: QueueId) -> &Place {
        &self.places[queue.0 as usize]
    }

    fn at_mut(&mut self, queue: QueueId) -> &mut Place {
        &mut self.places[queue.0 as usize]
    }

    /// The queue and those above it, the root last.
    pub(super) fn way_up(&self, queue: QueueId) -> impl Iterator<Item = QueueId> + '_ {
        std::iter::successors(Some(queue), |queue| self.at(*queue).parent)
    }

    fn rescale(&mut self, id: QueueId) {
        let capacity = self.capacity().each();
        let place = self.at_mut(id);
        let weight = u128::from(place.queue.weight);
        place.scale = capacity.map(|capacity| Scaled::one_over(weight * u128::from(capacity)));
    }

    /// What the root has.
    pub fn capacity(&self) -> Amounts {
        self.at(QueueId(0)).queue.guaranteed
    }

    /// Nodes came or went. Guarantees stay what they are, even if they are more than what is left. Cost: every queue.
    pub fn set_capacity(&mut self, capacity: Amounts) {
        self.at_mut(QueueId(0)).queue.guaranteed = capacity;
        for index in 0..self.places.len() {
            let id = QueueId(u32::try_from(index).unwrap_or(u32::MAX));
            self.rescale(id);
            let key = self.at(id).key.map(|_| self.at(id).share(self.present));
            self.line_up(id, key);
        }
    }

    /// Adds a queue below `parent`, in which no job may run from then on.
    /// # Errors
    /// If there is no such parent, the weight is zero, or the parent's children would be guaranteed more than it has.
    pub fn add(&mut self, parent: QueueId, queue: Queue) -> Result<QueueId, Error> {
        if queue.weight == 0 {
            return Err(Error::NoWeight(queue.name));
        }
        let above = self.places.get_mut(parent.0 as usize).ok_or(Error::NoParent(parent))?;
        let promised = above.promised.plus(queue.guaranteed);
        if let Some(resource) = promised.beyond(above.queue.guaranteed) {
            return Err(Error::Overbooked(parent, resource));
        }
        above.promised = promised;
        self.withhold(parent, queue.guaranteed.less(queue.lends));
        Ok(self.push(queue, Some(parent)))
    }

    /// A child of `queue` withholds `more`: what a queue cannot lend, those above it cannot lend either.
    fn withhold(&mut self, queue: QueueId, more: Amounts) {
        let (mut next, mut withheld, mut gone) = (Some(queue), more, more);
        let mut back = Amounts::NONE;
        while let Some(id) = next {
            let place = self.at_mut(id);
            let (kept, took) = (place.withholds(), place.takes());
            place.withheld = place.withheld.plus(withheld);
            place.gone = place.gone.plus(gone).less(back);
            place.queue.lends = place.queue.lends.least(place.queue.guaranteed.less(place.withheld));
            withheld = place.withholds().less(kept);
            (gone, back) = (place.withholds().plus(place.takes()), kept.plus(took));
            next = place.parent;
        }
    }

    /// Takes over what `leaf` of another tree with the same half-life holds and has held: for a tree with other rules.
    /// Whether it may is not asked.
    pub fn inherit(&mut self, leaf: QueueId, other: &Self, of: QueueId) {
        self.tell(other.now);
        let (holds, more) = (other.at(of).holds, other.at(of).past);
        self.start(leaf, holds);
        self.add_past(leaf, more);
    }

    /// What the queue and those below it hold.
    pub fn holds(&self, queue: QueueId) -> Amounts {
        self.at(queue).holds
    }

    /// What the queue was added as.
    pub fn queue(&self, queue: QueueId) -> &Queue {
        &self.at(queue).queue
    }

    /// Whether `amounts` more may start in `queue` without taking anything from anybody. Cost: one step a level.
    /// # Errors
    /// The first quota that refuses.
    pub fn admits(&self, queue: QueueId, amounts: Amounts) -> Result<(), Blocked> {
        for id in self.way_up(queue) {
            let place = self.at(id);
            if let Some(resource) = place.holds.plus(amounts).beyond(place.queue.limit) {
                return Err(Blocked { queue: id, quota: Quota::Limit, resource });
            }
        }
        let mut need = amounts;
        for id in self.way_up(queue) {
            let place = self.at(id);
            if place.parent.is_some() {
                need = need.less(place.withholds().less(place.gone));
                continue;
            }
            if let Some(resource) = place.gone.plus(need).beyond(place.queue.guaranteed) {
                return Err(match self.entitled(queue, amounts) {
                    Some(queue) => Blocked { queue, quota: Quota::Guarantee, resource },
                    None => Blocked { queue: id, quota: Quota::Lent, resource },
                });
            }
        }
        Ok(())
    }

    /// The lowest queue on the way up, the root aside, that would be within its guarantee with `amounts` more.
    pub(super) fn entitled(&self, queue: QueueId, amounts: Amounts) -> Option<QueueId> {
        self.way_up(queue).find(|id| {
            let place = self.at(*id);
            place.parent.is_some() && within(place, amounts)
        })
    }

    /// Something starts in `queue`. Whether it may was asked before.
    pub fn start(&mut self, queue: QueueId, amounts: Amounts) {
        self.change(queue, |held| held.plus(amounts));
    }

    /// Something ends in `queue`, and is charged for the time that it ran (since it was charged last).
    pub fn stop(&mut self, queue: QueueId, usage: &Usage) {
        self.change(queue, |held| held.less(usage.amounts));
        self.charge(queue, usage);
        let mut next = Some(queue);
        while let Some(id) = next {
            self.renew(id);
            next = self.at(id).parent;
        }
    }

    /// Moves what `queue` and those above hold, and what is gone of their guarantees.
    fn change(&mut self, queue: QueueId, with: impl Fn(Amounts) -> Amounts) {
        let mut next = Some(queue);
        let (mut before, mut after) = (Amounts::NONE, Amounts::NONE);
        while let Some(id) = next {
            let place = self.at_mut(id);
            let took = place.takes();
            place.holds = with(place.holds);
            place.gone = if id == queue { place.holds } else { place.gone.plus(after).less(before) };
            (before, after) = (took, place.takes());
            next = place.parent;
        }
    }

    /// Charges `queue` and those above it for what was used. With a half-life of zero nothing is kept of it.
    pub fn charge(&mut self, queue: QueueId, usage: &Usage) {
        self.tell(usage.to);
        if self.half_life.0 > 0 {
            let weight = growth(usage.to, self.half_life).less(growth(usage.from, self.half_life));
            let more = usage.amounts.each().map(|amount| Scaled::whole(amount).times(weight));
            self.add_past(queue, more);
        }
    }

    /// Adds to what `queue` and those above it have held.
    fn add_past(&mut self, queue: QueueId, more: [Scaled; KINDS]) {
        let mut next = Some(queue);
        while let Some(id) = next {
            let place = self.at_mut(id);
            for (past, more) in place.past.iter_mut().zip(more) {
                *past = past.plus(more);
            }
            next = place.parent;
        }
    }

    /// It is `now`.
    fn tell(&mut self, now: SimTime) {
        let step = (self.half_life.0 / STEPS).max(1);
        if self.half_life.0 > 0 && now.0 / step > self.now.0 / step {
            self.present = growth(SimTime(now.0 / step * step), self.half_life);
        }
        self.now = self.now.max(now);
    }

    /// The weighted dominant share of `queue` at `now`, in millionths of the capacity, rounded: for reports.
    pub fn share_ppm(&self, queue: QueueId, now: SimTime) -> u64 {
        let present = if self.half_life.0 == 0 { Scaled::whole(1) } else { growth(now, self.half_life) };
        (self.at(queue).share(present).over(present).times(Scaled::whole(1_000_000)).milli() + 500) / 1000
    }

    /// Moves `id` forward among its siblings if its share has fallen.
    fn renew(&mut self, id: QueueId) {
        let place = self.at(id);
        let Some(key) = place.key.filter(|_| place.parent.is_some()) else { return };
        let share = place.share(self.present);
        if share < key {
            self.line_up(id, Some(share));
        }
    }

    /// Puts `id` into the line of its parent, by `key`, or takes it out.
    fn line_up(&mut self, id: QueueId, key: Option<Scaled>) {
        let place = self.at_mut(id);
        let before = std::mem::replace(&mut place.key, key);
        let Some(parent) = place.parent.filter(|_| before != key) else { return };
        let line = &mut self.at_mut(parent).line;
        if let Some(before) = before {
            line.remove(&(before, id));
        }
        if let Some(key) = key {
            line.insert((key, id));
        }
    }

    /// Jobs wait in `leaf` that may be considered: it takes part in [`Self::next`].
    pub fn wake(&mut self, leaf: QueueId) {
        let mut next = Some(leaf);
        while let Some(id) = next.filter(|id| self.at(*id).key.is_none()) {
            let key = self.at(id).share(self.present);
            self.line_up(id, Some(key));
            next = self.at(id).parent;
        }
    }

    /// No job waits in `leaf`, or none that may start.
    pub fn rest(&mut self, leaf: QueueId) {
        let mut next = Some(leaf);
        while let Some(id) = next.filter(|id| self.at(*id).line.is_empty()) {
            self.line_up(id, None);
            next = self.at(id).parent;
        }
    }

    /// Which of two leaves goes first at `now`, awake or not: as [`Self::next`] has it.
    pub fn first_of_two(&mut self, now: SimTime, one: QueueId, other: QueueId) -> QueueId {
        self.tell(now);
        let Some((mine, theirs)) = self.parties(one, other) else { return one.min(other) };
        let at = |id: QueueId| (self.at(id).share(self.present), id);
        if at(mine) <= at(theirs) { one } else { other }
    }

    /// The leaf that goes first at `now`, of those that are awake.
    pub fn next(&mut self, now: SimTime) -> Option<QueueId> {
        self.tell(now);
        let mut id = QueueId(0);
        self.at(id).key?;
        while let Some(&(key, first)) = self.at(id).line.first() {
            let share = self.at(first).share(self.present);
            if share == key {
                id = first;
            } else {
                // It is later than it stands, for its share has risen since. Nobody stands too late: whose share fell moved.
                self.line_up(first, Some(share));
            }
        }
        Some(id)
    }
}

/// Whether a queue would be within its guarantee with `amounts` more, in all of which it wants more.
pub(super) fn within(place: &Place, amounts: Amounts) -> bool {
    let each = place.holds.each().into_iter().zip(amounts.each()).zip(place.queue.guaranteed.each());
    each.into_iter().all(|((holds, more), guaranteed)| more == 0 || holds.saturating_add(more) <= guaranteed)
}
