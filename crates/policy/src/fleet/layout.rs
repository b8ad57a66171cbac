//! The tree in which nodes stand: hall, blocks, racks, or whatever its levels are called.
//!
//! Invariant: domains of one level are numbered without gaps, a parent's children and a domain's nodes are ranges of those
//! numbers, and each node is in exactly one domain of every level.

use serde::{Deserialize, Serialize};

/// A level of the tree. 0 is the whole hall; the last one is the one next to the nodes.
pub type Level = u8;

/// Levels below the hall, at most.
pub const LEVELS_MAX: usize = 4;

/// A domain: its level, and its number among those of the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// Its level.
    pub level: Level,
    /// Its number.
    pub number: u32,
}

impl Domain {
    /// The whole hall.
    pub const HALL: Self = Self { level: 0, number: 0 };
}

/// One level's domains: where the children of each begin, ending with where the last one's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    name: String,
    /// First child of each domain, then one past the last child; children of the last level are nodes.
    first: Vec<u32>,
}

/// The tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    rows: Vec<Row>,
    /// The domain of the last level in which each node stands.
    leaf: Vec<u32>,
    /// The parent of each domain, by level; the hall's is itself.
    parents: Vec<Vec<u32>>,
}

impl Tree {
    /// The tree whose levels are `names`, outermost first, and in which node `n` stands at `paths[n]`: one number for each
    /// level, outermost first. Nodes of one domain must follow each other.
    /// # Errors
    /// The first node whose path has another length, or whose domain was already left.
    pub fn new(names: &[String], paths: &[Vec<u32>]) -> Result<Self, usize> {
        let levels = names.len().min(LEVELS_MAX);
        let mut rows: Vec<Row> = std::iter::once("hall".to_owned())
            .chain(names.iter().take(levels).cloned())
            .map(|name| Row { name, first: Vec::new() })
            .collect();
        let mut parents: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
        let mut leaf = Vec::with_capacity(paths.len());
        let mut seen = std::collections::BTreeSet::new();
        let mut before: Option<&[u32]> = None;
        for (node, path) in paths.iter().enumerate() {
            if path.len() != levels {
                return Err(node);
            }
            let same = before.map_or(0, |before| before.iter().zip(path).take_while(|(a, b)| a == b).count());
            // Levels 1 + same.. begin a new domain; the hall begins with the first node.
            let from = if before.is_none() { 0 } else { same + 1 };
            for level in from..rows.len() {
                if level > 0 && !seen.insert(path.get(..level).map(<[u32]>::to_vec)) {
                    return Err(node);
                }
                let begins = match rows.get(level + 1) {
                    Some(child) => child.first.len(),
                    None => node,
                };
                let parent = level.checked_sub(1).and_then(|up| rows.get(up)).map_or(0, |up| up.first.len().max(1) - 1);
                if let (Some(row), Some(parents)) = (rows.get_mut(level), parents.get_mut(level)) {
                    row.first.push(u32::try_from(begins).unwrap_or(u32::MAX));
                    parents.push(u32::try_from(parent).unwrap_or(u32::MAX));
                }
            }
            leaf.push(rows.last().map_or(0, |row| u32::try_from(row.first.len().max(1) - 1).unwrap_or(u32::MAX)));
            before = Some(path);
        }
        let lengths: Vec<usize> = rows.iter().skip(1).map(|row| row.first.len()).chain([paths.len()]).collect();
        for (row, end) in rows.iter_mut().zip(lengths) {
            if row.first.is_empty() {
                row.first.push(0);
            }
            row.first.push(u32::try_from(end).unwrap_or(u32::MAX));
        }
        Ok(Self { rows, leaf, parents })
    }

    /// A hall without levels.
    pub fn flat(nodes: usize) -> Self {
        let end = u32::try_from(nodes).unwrap_or(u32::MAX);
        Self {
            rows: vec![Row { name: "hall".to_owned(), first: vec![0, end] }],
            leaf: vec![0; nodes],
            parents: vec![vec![0]],
        }
    }

    /// The last level.
    pub fn last(&self) -> Level {
        u8::try_from(self.rows.len() - 1).unwrap_or(u8::MAX)
    }

    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.leaf.len()
    }

    /// What a level is called.
    pub fn name(&self, level: Level) -> &str {
        self.rows.get(usize::from(level)).map_or("?", |row| &row.name)
    }

    /// The level called `name`.
    pub fn level(&self, name: &str) -> Option<Level> {
        self.rows.iter().position(|row| row.name == name).and_then(|at| u8::try_from(at).ok())
    }

    /// How many domains a level has.
    pub fn domains(&self, level: Level) -> u32 {
        self.rows
            .get(usize::from(level))
            .map_or(0, |row| u32::try_from(row.first.len().saturating_sub(1)).unwrap_or(u32::MAX))
    }

    /// The numbers of a domain's children: domains of the next level, or nodes.
    pub fn children(&self, domain: Domain) -> std::ops::Range<u32> {
        let Some(row) = self.rows.get(usize::from(domain.level)) else { return 0..0 };
        let at = usize::try_from(domain.number).unwrap_or(usize::MAX);
        match (row.first.get(at), row.first.get(at.saturating_add(1))) {
            (Some(first), Some(end)) => *first..*end,
            _ => 0..0,
        }
    }

    /// The numbers of a domain's nodes.
    pub fn nodes_of(&self, domain: Domain) -> std::ops::Range<u32> {
        let mut range = domain.number..domain.number.saturating_add(1);
        for level in domain.level..=self.last() {
            let Some(row) = self.rows.get(usize::from(level)) else { return 0..0 };
            let at = |number: u32| {
                usize::try_from(number).ok().and_then(|at| row.first.get(at)).copied().unwrap_or_default()
            };
            range = at(range.start)..at(range.end);
        }
        range
    }

    /// The domain of `level` in which a node stands.
    pub fn domain(&self, node: u32, level: Level) -> Domain {
        let mut at = self.last();
        let mut number = usize::try_from(node).ok().and_then(|node| self.leaf.get(node)).copied().unwrap_or_default();
        while at > level {
            number = self.parent(at, number);
            at -= 1;
        }
        Domain { level: at, number }
    }

    /// The number of the domain around domain `number` of `level`.
    pub(super) fn parent(&self, level: Level, number: u32) -> u32 {
        let row = self.parents.get(usize::from(level));
        row.and_then(|row| row.get(usize::try_from(number).ok()?)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let paths: Vec<Vec<u32>> =
            [[0, 0], [0, 0], [0, 1], [1, 0], [1, 0], [1, 0], [1, 4]].iter().map(|path| path.to_vec()).collect();
        Tree::new(&["block".to_owned(), "rack".to_owned()], &paths).unwrap()
    }

    #[test]
    fn children_and_nodes_are_ranges() {
        let tree = tree();
        assert_eq!((tree.domains(0), tree.domains(1), tree.domains(2)), (1, 2, 4));
        assert_eq!(tree.children(Domain::HALL), 0..2);
        assert_eq!(tree.children(Domain { level: 1, number: 1 }), 2..4);
        assert_eq!(tree.children(Domain { level: 2, number: 2 }), 3..6);
        assert_eq!(tree.nodes_of(Domain::HALL), 0..7);
        assert_eq!(tree.nodes_of(Domain { level: 1, number: 1 }), 3..7);
        assert_eq!(tree.domain(6, 2), Domain { level: 2, number: 3 });
        assert_eq!(tree.domain(6, 1), Domain { level: 1, number: 1 });
        assert_eq!(tree.domain(2, 0), Domain::HALL);
        assert_eq!(tree.level("rack"), Some(2));
    }

    #[test]
    fn a_domain_that_was_left_does_not_come_back() {
        let paths: Vec<Vec<u32>> = [[0], [1], [0]].iter().map(|path| path.to_vec()).collect();
        assert_eq!(Tree::new(&["rack".to_owned()], &paths), Err(2));
        assert_eq!(Tree::new(&["rack".to_owned()], &[vec![0], vec![]]), Err(1));
    }

    #[test]
    fn a_flat_hall_is_one_domain() {
        let flat = Tree::flat(3);
        assert_eq!((flat.last(), flat.nodes_of(Domain::HALL), flat.domain(2, 0)), (0, 0..3, Domain::HALL));
        assert_eq!(Tree::new(&[], &[vec![], vec![], vec![]]), Ok(flat));
    }
}
