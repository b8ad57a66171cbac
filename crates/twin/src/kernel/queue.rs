//! What is to come: moments in order, and among equal moments the order in which they were set.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dh_core::{JobId, NodeId, SimTime};

/// What is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// The queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(SimTime, u64, Due)>>,
    set: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: SimTime, due: Due) {
        self.set += 1;
        self.heap.push(Reverse((at, self.set, due)));
    }

    pub(super) fn peek(&self) -> Option<SimTime> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<(SimTime, Due)> {
        self.heap.pop().map(|Reverse((at, _, due))| (at, due))
    }
}
