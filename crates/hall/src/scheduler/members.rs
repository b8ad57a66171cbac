//! The jobs of a group, least key first: a sorted run, and a heap for those that come out of turn.
//!
//! Most jobs come in the order in which they will go: they are added to the run's end and taken from its front, without a look
//! at any other job's record, which among a million would have to be fetched from memory.
//!
//! Invariant: the run ascends by key and id, and no key in it is above `last`; `top` is the least of both parts. Forgotten jobs
//! are members until they are on top. Cost: nothing but the end of a list for a job in order; the levels of a heap for another.

use dh_core::JobId;
use dh_policy::order::Key;
use dh_policy::pages::Pages;
use serde::{Deserialize, Serialize};

use super::job::{Jobs, Slot};

/// Where a job stands in its group.
type Place = (Key, JobId);

type List = Pages<Slot, 256>;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Members {
    run: List,
    /// Where the run begins; what is before is gone.
    from: usize,
    last: Option<Place>,
    /// A binary heap.
    heap: List,
    top: Option<Slot>,
}

impl Members {
    /// The job of least key.
    pub(super) const fn top(&self) -> Option<Slot> {
        self.top
    }

    /// All slots, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.run.iter().skip(self.from).chain(self.heap.iter()).copied()
    }

    fn front(&self) -> Option<Slot> {
        self.run.get(self.from).copied()
    }

    pub(super) fn push(&mut self, jobs: &Jobs, slot: Slot) {
        let place = place(jobs, slot);
        let first = self.front().is_none();
        if first || Some(place) >= self.last {
            self.run.push(slot);
            self.last = Some(place);
            if first {
                self.look(jobs);
            }
            return;
        }
        self.add(jobs, slot);
        if self.heap.get(0) == Some(&slot) {
            self.look(jobs);
        }
    }

    /// Takes the job of least key out.
    pub(super) fn pop(&mut self, jobs: &Jobs) -> Option<Slot> {
        let top = self.top?;
        if self.front() == Some(top) {
            self.skip();
        } else {
            take_top(&mut self.heap, jobs);
        }
        self.look(jobs);
        Some(top)
    }

    /// A member's key has fallen to what its record says.
    pub(super) fn fell(&mut self, jobs: &Jobs, slot: Slot) {
        let at = self.heap.iter().position(|other| *other == slot);
        if let Some(at) = at {
            up(&mut self.heap, jobs, at);
        } else if self.front() != Some(slot) {
            let rest: List = self.run.iter().skip(self.from).copied().filter(|other| *other != slot).collect();
            if rest.len() + self.from == self.run.len() {
                return;
            }
            (self.run, self.from) = (rest, 0);
            self.add(jobs, slot);
        }
        self.look(jobs);
    }

    fn add(&mut self, jobs: &Jobs, slot: Slot) {
        let end = self.heap.len();
        self.heap.push(slot);
        up(&mut self.heap, jobs, end);
    }

    /// Keys have changed: all are sorted again, without those that are not to `stay`.
    pub(super) fn sort(&mut self, jobs: &mut Jobs, mut stay: impl FnMut(&mut Jobs, Slot) -> bool) {
        let mut all: Vec<Slot> = self.iter().collect();
        all.retain(|slot| stay(jobs, *slot));
        all.sort_by_cached_key(|slot| place(jobs, *slot));
        let last = all.last().map(|slot| place(jobs, *slot));
        *self = Self { top: all.first().copied(), run: all.into_iter().collect(), last, ..Self::default() };
    }

    fn skip(&mut self) {
        self.from = self.run.skip_page(self.from + 1);
        if self.from >= self.run.len() {
            (self.run, self.from) = (List::default(), 0);
        }
    }

    fn look(&mut self, jobs: &Jobs) {
        let top = match (self.front(), self.heap.get(0).copied()) {
            (Some(front), Some(first)) if place(jobs, first) < place(jobs, front) => Some(first),
            (Some(front), _) => Some(front),
            (None, first) => first,
        };
        self.top = top;
    }
}

fn place(jobs: &Jobs, slot: Slot) -> Place {
    jobs.get(slot).map_or((Key { class: i64::MIN, value: 0 }, JobId(0)), |job| (job.key, job.id))
}

fn up(heap: &mut List, jobs: &Jobs, from: usize) {
    let mut at = from;
    while at > 0 {
        let parent = (at - 1) / 2;
        let (Some(child), Some(above)) = (heap.get(at).copied(), heap.get(parent).copied()) else { return };
        if place(jobs, child) >= place(jobs, above) {
            return;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

fn take_top(heap: &mut List, jobs: &Jobs) {
    let Some(end) = heap.len().checked_sub(1) else { return };
    heap.swap(0, end);
    heap.pop();
    let mut at = 0;
    loop {
        let least = (2 * at + 1..=2 * at + 2)
            .filter_map(|child| Some((child, *heap.get(child)?)))
            .min_by_key(|(_, slot)| place(jobs, *slot));
        let Some((child, below)) = least else { return };
        let Some(here) = heap.get(at).copied() else { return };
        if place(jobs, here) <= place(jobs, below) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}
