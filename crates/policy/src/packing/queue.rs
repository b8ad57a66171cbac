//! States in the order in which a request would take them: a heap whose ties the states themselves decide.
//!
//! Invariant: what comes out depends on what is in, and not on the order in which it came, nor on how states are numbered.
//! Cost: as many comparisons as a heap has levels.

use std::cmp::Ordering;

use super::Node;

/// A state and what it keeps of its worth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) gain: i64,
    pub(super) state: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Ranked>);

impl Queue {
    pub(super) fn first(&self) -> Option<Ranked> {
        self.0.first().copied()
    }

    pub(super) fn push<'a>(&mut self, item: Ranked, node: impl Fn(u32) -> Option<&'a Node>) {
        let mut at = self.0.len();
        self.0.push(item);
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.ahead(at, parent, &node) {
                break;
            }
            self.0.swap(at, parent);
            at = parent;
        }
    }

    pub(super) fn pop<'a>(&mut self, node: impl Fn(u32) -> Option<&'a Node>) -> Option<Ranked> {
        let last = self.0.len().checked_sub(1)?;
        self.0.swap(0, last);
        let first = self.0.pop();
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            if left >= last {
                break first;
            }
            let child = if right < last && self.ahead(right, left, &node) { right } else { left };
            if !self.ahead(child, at, &node) {
                break first;
            }
            self.0.swap(at, child);
            at = child;
        }
    }

    /// Whether the item at `at` comes before that at `other`: it keeps more, or as much and is the lesser state.
    fn ahead<'a>(&self, at: usize, other: usize, node: &impl Fn(u32) -> Option<&'a Node>) -> bool {
        let (Some(this), Some(that)) = (self.0.get(at), self.0.get(other)) else { return false };
        match this.gain.cmp(&that.gain) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => node(this.state) < node(that.state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_gain_and_then_of_the_state_itself() {
        let nodes: Vec<Node> = (0..50).map(|n| Node::empty(50 - n, 1, 0, 1)).collect();
        let node = |at: u32| usize::try_from(at).ok().and_then(|at| nodes.get(at));
        let mut queue = Queue::default();
        for state in 0..50 {
            queue.push(Ranked { gain: i64::from(state * 7 % 5), state }, node);
        }
        let order: Vec<(i64, u32)> =
            std::iter::from_fn(|| queue.pop(node)).map(|item| (-item.gain, 50 - item.state)).collect();
        assert_eq!(order.len(), 50);
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
    }
}
