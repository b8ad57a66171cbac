//! Nodes of eight accelerators: what is free, and who runs where.
//!
//! A gang of up to eight runs on one node; a larger one takes whole nodes, and one node for the rest. Of the nodes that fit,
//! that with the least free is taken, then the first. Cost of a placement: one word for 64 nodes, for each level of free.

pub(crate) const SLOTS: u32 = 8;

/// A set of nodes.
#[derive(Debug, Clone, Default)]
struct Nodes(Vec<u64>);

impl Nodes {
    fn flip(&mut self, node: u32) {
        self.0[node as usize / 64] ^= 1 << (node % 64);
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().zip(0_u32..).flat_map(|(&word, index)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| index * 64 + word.trailing_zeros())
        })
    }
}

/// A part of a gang: so many accelerators of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) node: u32,
    pub(crate) count: u32,
}

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    free: Vec<u32>,
    by_free: [Nodes; SLOTS as usize + 1],
    /// Who runs on each node, with how many accelerators of it.
    pub(crate) on: Vec<Vec<(u32, u32)>>,
}

impl Cluster {
    pub(crate) fn new(nodes: u32) -> Self {
        let none = Nodes(vec![0; nodes as usize / 64 + 1]);
        let mut by_free = std::array::from_fn(|_| none.clone());
        for node in 0..nodes {
            by_free[SLOTS as usize].flip(node);
        }
        Self { free: vec![SLOTS; nodes as usize], by_free, on: vec![Vec::new(); nodes as usize] }
    }

    pub(crate) fn nodes(&self) -> u32 {
        u32::try_from(self.free.len()).unwrap_or(0)
    }

    pub(crate) fn free(&self, node: u32) -> u32 {
        self.free[node as usize]
    }

    /// The most that is free on a node of those that have less than `count`.
    pub(crate) fn most_free_below(&self, count: u32) -> u32 {
        (0..count).rev().find(|level| self.by_free[*level as usize].iter().next().is_some()).unwrap_or(0)
    }

    /// Nodes that are free altogether.
    pub(crate) fn empty(&self) -> impl Iterator<Item = u32> + '_ {
        self.by_free[SLOTS as usize].iter()
    }

    /// Nodes with at least so many free, those with the least first.
    pub(crate) fn with_room(&self, count: u32) -> impl Iterator<Item = u32> + '_ {
        (count..=SLOTS).flat_map(|level| self.by_free[level as usize].iter())
    }

    /// Where a gang of `size` fits beside what runs.
    pub(crate) fn find(&self, size: u32) -> Option<Vec<Part>> {
        let (whole, rest) = split(size);
        let mut parts: Vec<Part> = self.empty().take(whole as usize).map(|node| Part { node, count: SLOTS }).collect();
        if parts.len() < whole as usize {
            return None;
        }
        if rest > 0 {
            let node = self.with_room(rest).find(|node| parts.iter().all(|part| part.node != *node))?;
            parts.push(Part { node, count: rest });
        }
        Some(parts)
    }

    pub(crate) fn take(&mut self, job: u32, parts: &[Part]) {
        for part in parts {
            let free = self.free(part.node);
            self.set(part.node, free - part.count);
            self.on[part.node as usize].push((job, part.count));
        }
    }

    pub(crate) fn give(&mut self, job: u32, parts: &[Part]) {
        for part in parts {
            let free = self.free(part.node);
            self.set(part.node, free + part.count);
            self.on[part.node as usize].retain(|(other, _)| *other != job);
        }
    }

    fn set(&mut self, node: u32, free: u32) {
        let before = std::mem::replace(&mut self.free[node as usize], free);
        self.by_free[before as usize].flip(node);
        self.by_free[free as usize].flip(node);
    }
}

/// Whole nodes of a gang, and the rest.
pub(crate) const fn split(size: u32) -> (u32, u32) {
    if size <= SLOTS { (0, size) } else { (size / SLOTS, size % SLOTS) }
}
