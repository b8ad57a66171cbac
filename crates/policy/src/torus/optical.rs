//! Boxes of cubes whose faces meet in optical switches.
//!
//! Invariant: a switch joins the same place of two opposite faces, so a job takes the same part of every cube that it
//! uses; a side longer than a cube is made of whole cubes. Cost: one word operation for each cube, each place of the
//! part inside a cube and each fold.

use super::fold::{Fold, Room, folds};
use super::grid::Grid;
use super::{Choice, Placement, Request, Shaping, Twist};

struct Cubes(usize);

struct Found {
    /// Vertices left free in the cubes used; axes on which the part lies in the middle of its cubes.
    cost: (u32, usize),
    fold: Fold,
    from: [usize; 3],
    cubes: Vec<usize>,
}

impl Room for Cubes {
    fn allows(&self, _axis: usize, length: usize) -> bool {
        length <= self.0 || length.is_multiple_of(self.0)
    }

    fn closes(&self, _axis: usize, length: usize) -> bool {
        length.is_multiple_of(self.0)
    }
}

/// The free vertices of each cube, as bits `(x * side + y) * side + z`.
fn words(free: &Grid, side: usize) -> Vec<u64> {
    let blocks = free.dims.map(|length| length / side);
    let mut words = vec![0; blocks.iter().product()];
    let low = (1_u64 << side) - 1;
    for (index, row) in free.rows.iter().enumerate() {
        let (i, j) = (index / free.dims[1], index % free.dims[1]);
        let shift = (i % side * side + j % side) * side;
        for k in 0..blocks[2] {
            words[(i / side * blocks[1] + j / side) * blocks[2] + k] |= (row >> (k * side) & low) << shift;
        }
    }
    words
}

fn mask(from: [usize; 3], part: [usize; 3], side: usize) -> u64 {
    let mut mask = 0;
    for i in from[0]..from[0] + part[0] {
        for j in from[1]..from[1] + part[1] {
            mask |= ((1_u64 << part[2]) - 1) << ((i * side + j) * side + from[2]);
        }
    }
    mask
}

pub(super) fn find(request: &Request, choice: Choice, free: &Grid, side: usize) -> Option<Placement> {
    let words = words(free, side);
    let mut order: Vec<usize> = (0..words.len()).collect();
    if choice == Choice::Snug {
        order.sort_by_key(|cube| words[*cube].count_ones());
    }
    let shaping = if request.twist == Twist::Twisted { Shaping::AsGiven } else { request.shaping };
    let mut best: Option<Found> = None;
    for fold in folds(request.sides(), shaping, request.rings, &Cubes(side)) {
        let part = fold.size.map(|length| length.min(side));
        let many: usize = (0..3).map(|axis| fold.size[axis] / part[axis]).product();
        if many > words.len() {
            continue;
        }
        for code in 0..side.pow(3) {
            let from = [code / side / side, code / side % side, code % side];
            if (0..3).any(|axis| from[axis] + part[axis] > side) {
                continue;
            }
            let mask = mask(from, part, side);
            let fits = order.iter().copied().filter(|cube| words[*cube] & mask == mask);
            let cubes: Vec<usize> = fits.take(many).collect();
            if cubes.len() < many {
                continue;
            }
            // Room broken into: what stays free in the cubes used.
            let left = cubes.iter().map(|cube| (words[*cube] & !mask).count_ones()).sum();
            let off = from.iter().zip(part).filter(|(from, part)| **from != 0 && **from + part != side).count();
            if best.as_ref().is_none_or(|best| (left, off) < best.cost) {
                best = Some(Found { cost: (left, off), fold, from, cubes });
            }
            if choice == Choice::First || left == 0 {
                return best.map(|found| placed(request, &found, free, side));
            }
        }
    }
    best.map(|found| placed(request, &found, free, side))
}

fn placed(request: &Request, found: &Found, free: &Grid, side: usize) -> Placement {
    let Found { fold, from, cubes, .. } = found;
    let shape = request.sides();
    let walks = [0, 1, 2].map(|axis| fold.walk(axis, shape[axis]));
    let blocks = fold.size.map(|length| length.div_ceil(side));
    let [_, y, z] = free.dims.map(|length| length / side);
    let mut vertices = Vec::with_capacity(shape[0] * shape[1] * shape[2]);
    for a in &walks[0] {
        for b in &walks[1] {
            for c in &walks[2] {
                let at = [0, 1, 2].map(|axis| a[axis] + b[axis] + c[axis]);
                let block = at.map(|length| length / side);
                let cube = cubes[(block[0] * blocks[1] + block[1]) * blocks[2] + block[2]];
                let corner = [cube / z / y, cube / z % y, cube % z];
                let place = [0, 1, 2].map(|axis| corner[axis] * side + from[axis] + at[axis] % side);
                vertices.push(u32::try_from(free.vertex(place)).unwrap_or(u32::MAX));
            }
        }
    }
    Placement { vertices, size: fold.size.map(|side| u16::try_from(side).unwrap_or(u16::MAX)), closed: fold.closed }
}
