//! Folds: the boxes into which a job's shape may be bent so that all its links stay one hop long.
//!
//! A fold gives each axis of the box to at most one axis of the job. A job's axis of length L then walks the
//! sub-grid of its own box axes, whose lengths multiply to L, along a path (or a cycle) that visits each place once.
//! Invariant: a step along one axis of the job moves only in that axis's sub-grid, and there by one hop; so the fold
//! keeps every link. A path exists in every grid (the reflected mixed-radix order). A cycle exists if the grid has two
//! axes and an even number of places, or is a ring itself, or has at most two places. Odd grids that close only across
//! the torus's own wrap-around are not looked for. The idea of folding shapes: `RFold`, arXiv 2510.03891.

use super::{Rings, Shaping};

/// A box, and the axis of the job that owns each of its axes (3: nobody, the axis has length 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) size: [usize; 3],
    pub(super) owner: [usize; 3],
    pub(super) closed: [bool; 3],
}

impl Fold {
    fn axes_of(&self, axis: usize) -> impl Iterator<Item = usize> + '_ {
        (0..3).filter(move |at| self.owner[*at] == axis)
    }

    /// For each place along an axis of the job, where it is in the box.
    pub(super) fn walk(&self, axis: usize, length: usize) -> Vec<[usize; 3]> {
        let axes: Vec<usize> = self.axes_of(axis).collect();
        let rest = axes.get(1..).unwrap_or_default();
        let cycle = self.closed[axis] && axes.len() > 1;
        let mut walk = Vec::with_capacity(length);
        for place in 0..length {
            let mut at = [0; 3];
            if cycle {
                let (a, b) = (self.size[axes[0]], length / self.size[axes[0]]);
                let (i, j) = if a.is_multiple_of(2) {
                    around(place, a, b)
                } else {
                    let (j, i) = around(place, b, a);
                    (i, j)
                };
                at[axes[0]] = i;
                self.snake(rest, j, &mut at);
            } else {
                self.snake(&axes, place, &mut at);
            }
            walk.push(at);
        }
        walk
    }

    /// The place `index` of the path that goes to and fro through the grid of `axes`, the last axis fastest.
    fn snake(&self, axes: &[usize], mut index: usize, at: &mut [usize; 3]) {
        for axis in axes.iter().rev() {
            let size = self.size[*axis];
            let (digit, carry) = (index % size, index / size);
            at[*axis] = if carry % 2 == 0 { digit } else { size - 1 - digit };
            index = carry;
        }
    }
}

/// The place `index` of a cycle through an `a` x `b` grid, `a` even: to and fro through columns 1.., back by column 0.
const fn around(index: usize, a: usize, b: usize) -> (usize, usize) {
    let inner = b - 1;
    if index >= a * inner {
        return (a - 1 - (index - a * inner), 0);
    }
    let (row, column) = (index / inner, index % inner);
    (row, if row % 2 == 0 { column + 1 } else { inner - column })
}

/// What a box axis may be.
pub(super) trait Room {
    /// Whether an axis of the box may have this length.
    fn allows(&self, axis: usize, length: usize) -> bool;
    /// Whether the links close a box axis of this length to a ring.
    fn closes(&self, axis: usize, length: usize) -> bool;
}

/// All boxes for `shape`, one fold for each box: the one that closes most rings. As given first, then by size.
pub(super) fn folds(shape: [usize; 3], shaping: Shaping, rings: Rings, room: &impl Room) -> Vec<Fold> {
    let mut found = Vec::new();
    for code in 0..64 {
        let owner = [code / 16, code / 4 % 4, code % 4];
        let mut axes = [0_usize; 3];
        for axis in owner.into_iter().filter(|axis| *axis < 3) {
            axes[axis] += 1;
        }
        let given = (0..3).all(|axis| owner[axis] == if shape[axis] == 1 { 3 } else { axis });
        let allowed = match shaping {
            Shaping::AsGiven => given,
            Shaping::Rotated => axes.iter().all(|count| *count <= 1),
            Shaping::Folded => true,
        };
        // A side of 1 owns no axis of the box, a longer one at least one.
        if allowed && (0..3).all(|axis| (shape[axis] == 1) == (axes[axis] == 0)) {
            split(shape, owner, axes, 0, [1; 3], &mut |size| {
                if (0..3).all(|axis| room.allows(axis, size[axis])) {
                    found.push(Fold { size, owner, closed: closed(shape, size, owner, axes, room) });
                }
            });
        }
    }
    found.retain(|fold| rings == Rings::Open || fold.closed == [true; 3]);
    found.sort_by_key(|fold| (fold.size != shape, fold.size, fold.closed.iter().filter(|closed| !**closed).count()));
    found.dedup_by_key(|fold| fold.size);
    found
}

/// Gives lengths above 1 to the axes of the box from `at` on, so that the axes of one owner multiply to its side.
fn split(
    left: [usize; 3],
    owner: [usize; 3],
    axes: [usize; 3],
    at: usize,
    size: [usize; 3],
    found: &mut impl FnMut([usize; 3]),
) {
    if at == 3 {
        return found(size);
    }
    let own = owner[at];
    if own == 3 {
        return split(left, owner, axes, at + 1, size, found);
    }
    let last = axes[own] == 1;
    let lengths = if last { left[own]..=left[own] } else { 2..=left[own] / 2 };
    for length in lengths.filter(|length| left[own].is_multiple_of(*length)) {
        let (mut left, mut axes, mut size) = (left, axes, size);
        left[own] /= length;
        axes[own] -= 1;
        size[at] = length;
        split(left, owner, axes, at + 1, size, found);
    }
}

fn closed(shape: [usize; 3], size: [usize; 3], owner: [usize; 3], axes: [usize; 3], room: &impl Room) -> [bool; 3] {
    [0, 1, 2].map(|axis| match axes[axis] {
        _ if shape[axis] <= 2 => true,
        1 => (0..3).all(|at| owner[at] != axis || room.closes(at, size[at])),
        _ => shape[axis].is_multiple_of(2),
    })
}
