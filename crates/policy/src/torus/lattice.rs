//! Nodes that hold several vertices: where the boxes may lie so that every node gives an equal part.
//!
//! Invariant: along each axis a box either covers whole nodes from edge to edge, or lies inside one; so all nodes of a
//! box give equally many vertices, at the same places.

use serde::{Deserialize, Serialize};

use super::grid::Grid;

/// What a box takes of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Split {
    /// Nodes.
    pub nodes: u32,
    /// Vertices of each.
    pub each: u32,
}

/// Where boxes may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lattice {
    /// Vertices of a node along each axis.
    pub(super) node: [usize; 3],
    /// Only boxes that take this; `None` is any.
    pub(super) split: Option<Split>,
}

impl Lattice {
    /// Every vertex is a node of its own.
    pub(super) const VERTICES: Self = Self { node: [1; 3], split: None };

    /// What a box of `size` takes, if it can lie so that all nodes give an equal part.
    pub(super) fn split(&self, size: [usize; 3]) -> Option<Split> {
        let (mut nodes, mut each) = (1_u32, 1_u32);
        for (size, node) in size.into_iter().zip(self.node) {
            if size > node && !size.is_multiple_of(node) {
                return None;
            }
            nodes *= u32::try_from(size.div_ceil(node)).ok()?;
            each *= u32::try_from(size.min(node)).ok()?;
        }
        Some(Split { nodes, each })
    }

    /// Whether a box of `size` can lie so, and takes what it should.
    pub(super) fn allows(&self, size: [usize; 3]) -> bool {
        self.split(size).is_some_and(|split| self.split.is_none_or(|wanted| wanted == split))
    }

    /// Whether a box of `length` along an axis may begin at `from`.
    pub(super) fn begins(&self, axis: usize, length: usize, from: usize) -> bool {
        let node = self.node[axis];
        if length >= node { from.is_multiple_of(node) } else { from % node + length <= node }
    }

    /// How far a box slides along each axis to the next place.
    pub(super) fn steps(&self, size: [usize; 3]) -> [usize; 3] {
        [0, 1, 2].map(|axis| if size[axis] >= self.node[axis] { self.node[axis] } else { 1 })
    }

    /// Leaves the origins from which a box of `size` may begin.
    pub(super) fn keep(&self, origins: &mut Grid, size: [usize; 3]) {
        if self.node == [1; 3] {
            return;
        }
        let [_, y, z] = origins.dims;
        let row = (0..z).filter(|from| self.begins(2, size[2], *from)).fold(0_u64, |row, from| row | 1 << from);
        for (index, word) in origins.rows.iter_mut().enumerate() {
            let begins = self.begins(0, size[0], index / y) && self.begins(1, size[1], index % y);
            *word &= if begins { row } else { 0 };
        }
    }
}
