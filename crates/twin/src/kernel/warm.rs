//! Data sets in the drives of nodes: a gang whose nodes do not have its data waits until they have read it.
//!
//! A node keeps what it read until it needs the room; what was used longest ago goes first. A gang that starts, or goes on
//! elsewhere, reads on all its cold nodes at once: each gets its part of what the store gives, and no more than it takes in.
//! Reads of several gangs at once are not put beside each other (stated assumption). A data set that is larger than a node's
//! drives is read while it is needed: nobody waits for it, and it is never warm.
//!
//! Invariant: whole numbers; what a node has never exceeds its drives. Cost: O(data sets of a node) for each node of a start.

use dh_core::NodeId;
use dh_core::time::Span;
use dh_hall::scheduler::{DatasetId, Presence};
use dh_policy::fleet::Holding;
use serde::Serialize;

/// Data sets, and what reads and keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caches {
    /// What the drives of each node keep, bytes; a node that is not there keeps nothing.
    pub keep: Vec<u64>,
    /// What each node takes in, bytes a second; a node that is not there, or takes 0, as much as it gets.
    pub take: Vec<u64>,
    /// What the store gives all of them together, bytes a second; 0 is no limit.
    pub store: u64,
    /// Sizes of data sets, bytes, by their number.
    pub sizes: Vec<u64>,
}

/// What reading data sets came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// Starts of gangs that have a data set.
    pub starts: u64,
    /// Starts that waited for it.
    pub cold_starts: u64,
    /// Ranks that were started.
    pub ranks: u64,
    /// Ranks that found it on their node.
    pub warm_ranks: u64,
    /// Bytes that were read into nodes.
    pub bytes: u64,
    /// What waiting for it took, milliseconds of all starts.
    pub waited_ms: u64,
    /// The same for each accelerator, accelerator-seconds.
    pub lost: u64,
}

impl Fetched {
    /// Ranks that found their data set over all that had one.
    pub fn warm_share(&self) -> Option<f64> {
        (self.ranks > 0).then(|| dh_units::real(self.warm_ranks) / dh_units::real(self.ranks))
    }
}

/// A data set came to a node or went.
pub(super) type Change = (DatasetId, NodeId, Presence);

/// What nodes have.
#[derive(Debug, Default)]
pub(super) struct Warm {
    caches: Caches,
    /// Data sets of each node, the one that was used longest ago first.
    held: Vec<Vec<DatasetId>>,
    pub(super) fetched: Fetched,
}

fn of<T: Copy>(list: &[T], number: u32) -> Option<T> {
    usize::try_from(number).ok().and_then(|at| list.get(at)).copied()
}

impl Warm {
    pub(super) fn new(caches: Caches) -> Self {
        let held = vec![Vec::new(); caches.keep.len()];
        Self { caches, held, fetched: Fetched::default() }
    }

    /// A gang starts on `ranks`: how long it waits for its data, and what that changes.
    pub(super) fn fetch(&mut self, dataset: DatasetId, ranks: &[Holding]) -> (Span, Vec<Change>) {
        let Some(size) = of(&self.caches.sizes, dataset) else { return (Span(0), Vec::new()) };
        let mut changes = Vec::new();
        let mut nodes: Vec<NodeId> = ranks.iter().map(|held| held.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mut cold = Vec::new();
        let mut streamed = Vec::new();
        for node in nodes {
            if of(&self.caches.keep, node.0).unwrap_or(0) < size {
                streamed.push(node);
            } else if !self.touch(dataset, size, node, &mut changes) {
                cold.push(node);
            }
        }
        let readers = u64::try_from(cold.len()).unwrap_or(u64::MAX).max(1);
        let part = if self.caches.store == 0 { u64::MAX } else { (self.caches.store / readers).max(1) };
        let slowest = cold.iter().map(|node| match of(&self.caches.take, node.0) {
            Some(takes) if takes > 0 => takes.min(part),
            Some(_) | None => part,
        });
        let wait = slowest.min().filter(|rate| *rate < u64::MAX).map_or(Span(0), |rate| {
            let nanos = u128::from(size) * 1_000_000_000 / u128::from(rate);
            Span(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        let milli: u64 = super::moves::milli(ranks);
        let warm = ranks.iter().filter(|held| !cold.contains(&held.node) && !streamed.contains(&held.node)).count();
        let fetched = &mut self.fetched;
        fetched.starts += 1;
        fetched.cold_starts += u64::from(wait.0 > 0);
        fetched.ranks += u64::try_from(ranks.len()).unwrap_or(u64::MAX);
        fetched.warm_ranks += u64::try_from(warm).unwrap_or(u64::MAX);
        let reads = u64::try_from(cold.len()).unwrap_or(u64::MAX);
        fetched.bytes = fetched.bytes.saturating_add(size.saturating_mul(reads));
        fetched.waited_ms = fetched.waited_ms.saturating_add(wait.0 / 1_000_000);
        let lost = u128::from(milli) * u128::from(wait.0 / 1_000_000) / 1_000_000;
        fetched.lost = fetched.lost.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
        (wait, changes)
    }

    /// A data set is used on a node that can keep it: whether it was there. It is afterwards.
    fn touch(&mut self, dataset: DatasetId, size: u64, node: NodeId, changes: &mut Vec<Change>) -> bool {
        let room = of(&self.caches.keep, node.0).unwrap_or(0);
        let Some(held) = usize::try_from(node.0).ok().and_then(|at| self.held.get_mut(at)) else { return false };
        if let Some(at) = held.iter().position(|known| *known == dataset) {
            held.remove(at);
            held.push(dataset);
            return true;
        }
        let sizes = &self.caches.sizes;
        let mut used: u64 = held.iter().map(|known| of(sizes, *known).unwrap_or(0)).sum();
        while used.saturating_add(size) > room && !held.is_empty() {
            let oldest = held.remove(0);
            used = used.saturating_sub(of(sizes, oldest).unwrap_or(0));
            changes.push((oldest, node, Presence::Absent));
        }
        held.push(dataset);
        changes.push((dataset, node, Presence::Present));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(nodes: &[u32]) -> Vec<Holding> {
        let held = |node: &u32| Holding {
            node: NodeId(*node),
            mask: 0xff,
            milli: 1000,
            cpu_milli: 0,
            memory_mib: 0,
            slots: 0,
        };
        nodes.iter().map(held).collect()
    }

    fn warm() -> Warm {
        let caches = Caches { keep: vec![100; 4], take: vec![10; 4], store: 30, sizes: vec![60, 40, 50, 101] };
        Warm::new(caches)
    }

    #[test]
    fn the_first_start_on_a_node_waits_and_the_second_does_not() {
        let mut warm = warm();
        // One node takes 10 bytes a second of the store's 30; four get 7 each.
        assert_eq!(warm.fetch(0, &on(&[0])).0, Span::from_secs(6));
        assert_eq!(warm.fetch(0, &on(&[0])), (Span(0), Vec::new()));
        assert_eq!(warm.fetch(1, &on(&[0, 1, 2, 3])).0, Span(40_000_000_000 / 7));
        let fetched = warm.fetched;
        assert_eq!((fetched.starts, fetched.cold_starts, fetched.ranks, fetched.warm_ranks), (3, 2, 6, 1));
        assert_eq!((fetched.bytes, fetched.lost), (60 + 4 * 40, 8 * 6 + 4 * 8 * 5_714 / 1_000));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_drives_are_never_too_full() {
        let mut warm = warm();
        warm.fetch(0, &on(&[0]));
        warm.fetch(1, &on(&[0]));
        warm.fetch(0, &on(&[0]));
        let (_, changes) = warm.fetch(2, &on(&[0]));
        let node = NodeId(0);
        assert_eq!(changes, [(1, node, Presence::Absent), (0, node, Presence::Absent), (2, node, Presence::Present)]);
        assert_eq!(warm.held[0], [2]);
    }

    #[test]
    fn what_no_node_can_keep_is_read_while_it_is_needed() {
        let mut warm = warm();
        assert_eq!(warm.fetch(3, &on(&[0, 1])), (Span(0), Vec::new()));
        assert_eq!((warm.fetched.cold_starts, warm.fetched.warm_ranks, warm.fetched.bytes), (0, 0, 0));
        assert_eq!(warm.fetch(9, &on(&[0])), (Span(0), Vec::new()));
    }
}
