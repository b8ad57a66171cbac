//! Sets of vertices of a 3-D ring grid, a row along z in one word, and the boxes inside such a set.
//!
//! Invariant: bits at or above `dims[2]` are zero. Cost: the offsets of every box of one size take about
//! `dims[0] * dims[1] * (log p + log q + log r)` word operations, whatever the set holds.

use serde::{Deserialize, Serialize};

/// A set of vertices. Vertex `((x * Y) + y) * Z + z` is bit `z` of row `x * Y + y`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grid {
    pub(super) dims: [usize; 3],
    pub(super) rows: Vec<u64>,
}

impl Grid {
    pub(super) fn empty(dims: [usize; 3]) -> Self {
        Self { dims, rows: vec![0; dims[0] * dims[1]] }
    }

    /// The bits of a whole row.
    pub(super) const fn row(&self) -> u64 {
        u64::MAX >> (64 - self.dims[2])
    }

    pub(super) fn count(&self) -> u32 {
        self.rows.iter().map(|row| row.count_ones()).sum()
    }

    /// Vertices in neither set.
    pub(super) fn outside(&self, other: &Self) -> Self {
        let all = self.row();
        Self { dims: self.dims, rows: self.rows.iter().zip(&other.rows).map(|(a, b)| !(a | b) & all).collect() }
    }

    pub(super) fn vertex(&self, at: [usize; 3]) -> usize {
        (at[0] * self.dims[1] + at[1]) * self.dims[2] + at[2]
    }

    pub(super) fn place(&self, vertex: usize) -> [usize; 3] {
        let row = vertex / self.dims[2];
        [row / self.dims[1], row % self.dims[1], vertex % self.dims[2]]
    }

    pub(super) fn has(&self, vertex: usize) -> bool {
        self.rows[vertex / self.dims[2]] >> (vertex % self.dims[2]) & 1 == 1
    }

    pub(super) fn flip(&mut self, vertex: usize) {
        self.rows[vertex / self.dims[2]] ^= 1 << (vertex % self.dims[2]);
    }

    /// A word turned by `step` places down its ring.
    fn turn(&self, word: u64, step: usize) -> u64 {
        match step % self.dims[2] {
            0 => word,
            step => (word >> step | word << (self.dims[2] - step)) & self.row(),
        }
    }

    /// The set seen from `step` vertices further along `axis`: bit `v` of the answer is bit `v + step` of this set.
    fn seen_from(&self, axis: usize, step: usize, into: &mut Vec<u64>) {
        into.clear();
        let [x, y, _] = self.dims;
        match axis {
            0 => {
                let cut = step % x * y;
                into.extend_from_slice(&self.rows[cut..]);
                into.extend_from_slice(&self.rows[..cut]);
            }
            1 => {
                let cut = step % y;
                for slab in self.rows.chunks_exact(y) {
                    into.extend_from_slice(&slab[cut..]);
                    into.extend_from_slice(&slab[..cut]);
                }
            }
            _ => into.extend(self.rows.iter().map(|row| self.turn(*row, step))),
        }
    }

    /// Origins of boxes of `size` that lie wholly in this set. A box that goes all round an axis has its origin at 0 of it.
    pub(super) fn origins(&self, size: [usize; 3]) -> Self {
        let mut found = self.clone();
        let mut other = Vec::with_capacity(self.rows.len());
        for axis in [2, 1, 0] {
            let mut reach = 1;
            while reach < size[axis] {
                let step = reach.min(size[axis] - reach);
                found.seen_from(axis, step, &mut other);
                for (row, far) in found.rows.iter_mut().zip(&other) {
                    *row &= far;
                }
                reach += step;
            }
            if size[axis] == self.dims[axis] {
                found.keep_first(axis);
            }
            if found.is_empty() {
                break;
            }
        }
        found
    }

    fn keep_first(&mut self, axis: usize) {
        let y = self.dims[1];
        for (index, row) in self.rows.iter_mut().enumerate() {
            let first = match axis {
                0 => index < y,
                1 => index % y == 0,
                _ => {
                    *row &= 1;
                    true
                }
            };
            if !first {
                *row = 0;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.iter().all(|row| *row == 0)
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().enumerate().flat_map(move |(index, row)| {
            let mut left = *row;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(index * self.dims[2] + bit)
            })
        })
    }

    /// The origins from which a box cannot slide both ways along an axis by its step, for every axis on which there are any: a
    /// box with free room on both sides of an axis splits that room and is never the better choice.
    pub(super) fn corners(mut self, steps: [usize; 3]) -> Self {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for (axis, step) in steps.into_iter().enumerate() {
            let step = step % self.dims[axis];
            self.seen_from(axis, step, &mut up);
            self.seen_from(axis, self.dims[axis] - step, &mut down);
            let rows: Vec<u64> =
                self.rows.iter().zip(up.iter().zip(&down)).map(|(row, (up, down))| row & !(up & down)).collect();
            if rows.iter().any(|row| *row != 0) {
                self.rows = rows;
            }
        }
        self
    }

    /// Vertices of this set that touch the outside of the box: what the box would leave as open surface.
    pub(super) fn exposed(&self, origin: [usize; 3], size: [usize; 3]) -> u32 {
        let [x, y, z] = self.dims;
        let ends = match z - size[2] {
            0 => 0,
            1 => self.bit(origin[2] + size[2]),
            _ => self.bit(origin[2] + size[2]) | self.bit(origin[2] + z - 1),
        };
        let body = self.turn(u64::MAX >> (64 - size[2]), z - origin[2] % z);
        let beside = |from: usize, len: usize, all: usize| -> [Option<usize>; 2] {
            match all - len {
                0 => [None, None],
                1 => [Some((from + len) % all), None],
                _ => [Some((from + len) % all), Some((from + all - 1) % all)],
            }
        };
        let mut count = 0;
        for i in 0..size[0] {
            let slab = (origin[0] + i) % x * y;
            for j in 0..size[1] {
                count += (self.rows[slab + (origin[1] + j) % y] & ends).count_ones();
            }
            for side in beside(origin[1], size[1], y).into_iter().flatten() {
                count += (self.rows[slab + side] & body).count_ones();
            }
        }
        for side in beside(origin[0], size[0], x).into_iter().flatten() {
            for j in 0..size[1] {
                count += (self.rows[side * y + (origin[1] + j) % y] & body).count_ones();
            }
        }
        count
    }

    fn bit(&self, z: usize) -> u64 {
        1 << (z % self.dims[2])
    }
}
