//! What leaves a cache when it is full: SIEVE. Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024.
//!
//! New entries come in at the head; a hand walks from the tail to the head, spares once whatever was used since it last came
//! by, and takes the first that was not. What is asked for once leaves soon, what is asked for often stays; a hit moves
//! nothing. *Invariant*: the sizes of all entries never exceed the bound together. Pure; O(1), amortised.

/// No entry.
const NONE: usize = usize::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    newer: usize,
    older: usize,
    size: usize,
    used: bool,
    taken: bool,
}

/// The order of a cache's entries; what they hold is kept elsewhere under their numbers.
#[derive(Debug, Clone)]
pub struct Sieve {
    nodes: Vec<Node>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    hand: usize,
    size: usize,
    size_max: usize,
}

impl Sieve {
    /// A cache with room for `size_max` of whatever sizes are counted in.
    pub fn new(size_max: usize) -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE, hand: NONE, size: 0, size_max }
    }

    /// What all entries take together.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes room for an entry and gives its number; `gone` gets those that left. Nothing if it never fits.
    pub fn insert(&mut self, size: usize, gone: &mut Vec<usize>) -> Option<usize> {
        if size > self.size_max {
            return None;
        }
        while self.size > self.size_max - size {
            let victim = self.victim()?;
            self.remove(victim);
            gone.push(victim);
        }
        let node = Node { newer: NONE, older: self.newest, size, used: false, taken: true };
        let number = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        });
        if let Some(place) = self.nodes.get_mut(number) {
            *place = node;
        }
        if let Some(before) = self.nodes.get_mut(self.newest) {
            before.newer = number;
        } else {
            self.oldest = number;
        }
        self.newest = number;
        self.size += size;
        Some(number)
    }

    /// An entry was used.
    pub fn used(&mut self, number: usize) {
        if let Some(node) = self.nodes.get_mut(number) {
            node.used = true;
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, number: usize) {
        let Some(node) = self.nodes.get_mut(number).filter(|node| node.taken) else { return };
        node.taken = false;
        let Node { newer, older, size, .. } = *node;
        match self.nodes.get_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        if self.hand == number {
            self.hand = newer;
        }
        self.size -= size;
        self.free.push(number);
    }

    /// The entry that leaves next.
    fn victim(&mut self) -> Option<usize> {
        loop {
            if self.hand == NONE {
                self.hand = self.oldest;
            }
            let hand = self.hand;
            let node = self.nodes.get_mut(hand)?;
            if !node.used {
                return Some(hand);
            }
            node.used = false;
            self.hand = node.newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;
    use std::collections::BTreeMap;

    #[test]
    fn the_bound_holds_and_every_entry_is_accounted_for() {
        for seed in 0..100 {
            let mut sieve = Sieve::new(1_000);
            let mut held: BTreeMap<usize, usize> = BTreeMap::new();
            for round in 0..2_000 {
                let pick = mix(seed, round);
                let some = held.keys().copied().nth(usize::try_from(pick >> 8).unwrap() % held.len().max(1));
                match (pick % 10, some) {
                    (0, Some(number)) => {
                        sieve.remove(number);
                        held.remove(&number);
                    }
                    (1..=4, Some(number)) => sieve.used(number),
                    _ => {
                        let size = usize::try_from(pick % 300).unwrap();
                        let mut gone = Vec::new();
                        let number = sieve.insert(size, &mut gone).unwrap();
                        for gone in gone {
                            assert!(held.remove(&gone).is_some(), "seed {seed}");
                        }
                        assert_eq!(held.insert(number, size), None, "seed {seed}");
                    }
                }
                assert_eq!(held.values().sum::<usize>(), sieve.size(), "seed {seed}");
                assert!(sieve.size() <= 1_000, "seed {seed}");
            }
        }
        assert_eq!(Sieve::new(10).insert(11, &mut Vec::new()), None);
    }

    #[test]
    fn what_is_used_survives_a_flood_of_what_is_not() {
        let mut sieve = Sieve::new(100);
        let hot: Vec<usize> = (0..50).map(|_| sieve.insert(1, &mut Vec::new()).unwrap()).collect();
        let mut gone = Vec::new();
        for round in 0..10_000_usize {
            sieve.used(hot[round % 50]);
            sieve.insert(1, &mut gone);
        }
        assert_eq!(gone.len(), 9_950);
        assert!(gone.iter().all(|number| !hot.contains(number)));
    }
}
