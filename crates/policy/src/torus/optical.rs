//! Boxes of cubes whose faces meet in optical switches.
//!
//! Invariant: a switch joins the same place of two opposite faces, so a job takes the same part of every cube that it
//! uses; a side longer than a cube is made of whole cubes. Cost: one word operation for each cube, each place of the
//! part inside a cube and each fold.

use super::fold::{Fold, Room, folds};
use super::grid::Grid;
use super::lattice::Lattice;
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

/// Every box in which `request` may lie, if there are enough cubes.
fn boxes(request: &Request, side: usize, lattice: &Lattice) -> Vec<Fold> {
    let shaping = if request.twist == Twist::Twisted { Shaping::AsGiven } else { request.shaping };
    let mut boxes = folds(request.sides(), shaping, request.rings, &Cubes(side));
    boxes.retain(|fold| lattice.allows(fold.size));
    boxes
}

/// The part of every cube that a box of `fold` takes, and of how many.
fn part(fold: &Fold, side: usize) -> ([usize; 3], usize) {
    let part = fold.size.map(|length| length.min(side));
    (part, (0..3).map(|axis| fold.size[axis] / part[axis]).product())
}

/// Where in a cube a part may begin.
fn beginnings(part: [usize; 3], side: usize, lattice: &Lattice) -> impl Iterator<Item = [usize; 3]> {
    let froms = (0..side.pow(3)).map(move |code| [code / side / side, code / side % side, code % side]);
    froms.filter(move |from| {
        (0..3).all(|axis| from[axis] + part[axis] <= side && lattice.begins(axis, part[axis], from[axis]))
    })
}

pub(super) fn find(
    request: &Request,
    choice: Choice,
    free: &Grid,
    side: usize,
    lattice: &Lattice,
) -> Option<Placement> {
    let words = words(free, side);
    let mut order: Vec<usize> = (0..words.len()).collect();
    if choice == Choice::Snug {
        order.sort_by_key(|cube| words[*cube].count_ones());
    }
    let mut best: Option<Found> = None;
    for fold in boxes(request, side, lattice) {
        let (part, many) = part(&fold, side);
        if many > words.len() {
            continue;
        }
        for from in beginnings(part, side, lattice) {
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

/// The boxes in `free` made of the cubes whose parts cost least by `price`, one for each fold and place in a cube.
pub(super) fn cheapest(
    request: &Request,
    free: &Grid,
    side: usize,
    lattice: &Lattice,
    price: &mut impl FnMut(&[u32]) -> u64,
    found: &mut impl FnMut(Placement),
) {
    let words = words(free, side);
    for fold in boxes(request, side, lattice) {
        let (part, many) = part(&fold, side);
        for from in beginnings(part, side, lattice) {
            let mask = mask(from, part, side);
            let fits = (0..words.len()).filter(|cube| words[*cube] & mask == mask);
            let mut fits: Vec<(u64, usize)> =
                fits.map(|cube| (price(&vertices(free, cube, mask, side)), cube)).collect();
            if fits.len() < many {
                continue;
            }
            fits.sort_unstable();
            let cubes = fits.into_iter().take(many).map(|(_, cube)| cube).collect();
            found(placed(request, &Found { cost: (0, 0), fold, from, cubes }, free, side));
        }
    }
}

/// The vertices of a part of a cube.
fn vertices(free: &Grid, cube: usize, mask: u64, side: usize) -> Vec<u32> {
    let [_, y, z] = free.dims.map(|length| length / side);
    let corner = [cube / z / y, cube / z % y, cube % z];
    let bits = (0..side.pow(3)).filter(|bit| mask >> bit & 1 == 1);
    let vertex = |bit: usize| {
        let at = [bit / side / side, bit / side % side, bit % side];
        let place = [0, 1, 2].map(|axis| corner[axis] * side + at[axis]);
        u32::try_from(free.vertex(place)).unwrap_or(u32::MAX)
    };
    bits.map(vertex).collect()
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
