//! What is to come: moments in order, and among equal moments the order in which they were set.

use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{DatasetId, Presence};

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A job's work is done, if it is still in this generation.
    End {
        job: JobId,
        generation: u32,
    },
    /// A job that was told to stop is gone.
    Gone {
        job: JobId,
        generation: u32,
    },
    /// A node is awake, or asleep.
    Awake {
        node: NodeId,
    },
    Asleep {
        node: NodeId,
    },
    /// A data set came to a node, or went.
    Warm {
        dataset: DatasetId,
        node: NodeId,
        held: Presence,
    },
}

/// Children of a place in the heap: with four, half as many levels are gone through as with two.
const ARITY: usize = 4;

/// The queue: a heap by moment and then by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    heap: Vec<Entry>,
    set: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: SimTime,
    set: u64,
    due: Due,
}

impl Entry {
    const fn key(&self) -> (SimTime, u64) {
        (self.at, self.set)
    }
}

impl Queue {
    pub(super) fn push(&mut self, at: SimTime, due: Due) {
        self.set += 1;
        self.heap.push(Entry { at, set: self.set, due });
        let mut here = self.heap.len() - 1;
        while here > 0 {
            let parent = (here - 1) / ARITY;
            if !matches!((self.heap.get(here), self.heap.get(parent)), (Some(a), Some(b)) if a.key() < b.key()) {
                return;
            }
            self.heap.swap(here, parent);
            here = parent;
        }
    }

    pub(super) fn peek(&self) -> Option<SimTime> {
        self.heap.first().map(|entry| entry.at)
    }

    /// What is next is of no job.
    pub(super) fn pass_over_jobs(&mut self) {
        while matches!(self.heap.first().map(|entry| entry.due), Some(Due::End { .. } | Due::Gone { .. })) {
            self.pop();
        }
    }

    pub(super) fn pop(&mut self) -> Option<(SimTime, Due)> {
        let last = self.heap.pop()?;
        let Some(first) = self.heap.first_mut() else { return Some((last.at, last.due)) };
        let top = std::mem::replace(first, last);
        let mut here = 0;
        loop {
            let from = ARITY * here + 1;
            let children = self.heap.get(from..(from + ARITY).min(self.heap.len())).unwrap_or(&[]);
            let least = children.iter().zip(from..).min_by_key(|(entry, _)| entry.key());
            let Some((entry, child)) = least.filter(|(entry, _)| entry.key() < last.key()) else { break };
            let entry = *entry;
            if let Some(place) = self.heap.get_mut(here) {
                *place = entry;
            }
            here = child;
        }
        if let Some(place) = self.heap.get_mut(here) {
            *place = last;
        }
        Some((top.at, top.due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_in_order_and_equal_ones_as_they_were_set() {
        let mut queue = Queue::default();
        let mut wanted = Vec::new();
        let mut dice = 1_u64;
        for number in 0..500_u32 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = SimTime((dice >> 33) % 50);
            queue.push(at, Due::Awake { node: NodeId(number) });
            wanted.push((at, number));
            if number % 3 == 2 {
                wanted.sort_unstable();
                let (at, number) = wanted.remove(0);
                assert_eq!(queue.peek(), Some(at));
                assert_eq!(queue.pop(), Some((at, Due::Awake { node: NodeId(number) })));
            }
        }
        wanted.sort_unstable();
        for (at, number) in wanted {
            assert_eq!(queue.pop(), Some((at, Due::Awake { node: NodeId(number) })));
        }
        assert_eq!((queue.pop(), queue.peek()), (None, None));
    }
}
