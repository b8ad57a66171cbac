//! Boxes on a torus of fixed cables.
//!
//! Invariant: every origin of every allowed box is looked at; of those free, only corners are weighed, at most
//! [`WEIGHED`] in index order. Cost: some word operations per row for each box, and about a hundred for each corner.

use super::fold::{Fold, Room, folds};
use super::grid::Grid;
use super::lattice::Lattice;
use super::{Choice, Placement, Request, Twist};

/// Corners that are weighed for one request, so that an empty torus costs no more than a full one.
const WEIGHED: usize = 48;

struct Cables<'a>(&'a Grid);

impl Room for Cables<'_> {
    fn allows(&self, axis: usize, length: usize) -> bool {
        length <= self.0.dims[axis]
    }

    fn closes(&self, axis: usize, length: usize) -> bool {
        length == self.0.dims[axis]
    }
}

/// Boxes that are compared by price, at most; of more, every so many.
const PRICED: usize = 256;

/// Every box in which `request` may lie, if the torus were as large as `free` says and empty.
fn boxes(request: &Request, free: &Grid, lattice: &Lattice) -> Vec<Fold> {
    let mut boxes = folds(request.sides(), request.shaping, request.rings, &Cables(free));
    boxes.retain(|fold| lattice.allows(fold.size));
    boxes
}

/// Boxes that lie in `free`, spread over it if there are too many to look at all.
pub(super) fn some(request: &Request, free: &Grid, lattice: &Lattice, found: &mut impl FnMut(Placement)) {
    let boxes = boxes(request, free, lattice);
    let most = (PRICED / boxes.len().max(1)).max(1);
    for fold in boxes {
        let origins: Vec<usize> = origins(&fold, free, lattice).iter().collect();
        for origin in origins.iter().step_by(origins.len().div_ceil(most).max(1)) {
            found(placed(request, &fold, *origin, free));
        }
    }
}

/// The origins of boxes of `fold` that lie wholly in `free`.
fn origins(fold: &Fold, free: &Grid, lattice: &Lattice) -> Grid {
    let mut origins = free.origins(fold.size);
    lattice.keep(&mut origins, fold.size);
    origins
}

pub(super) fn find(request: &Request, choice: Choice, free: &Grid, lattice: &Lattice) -> Option<Placement> {
    let mut best: Option<(u32, Fold, usize)> = None;
    let mut weighed = 0;
    // A torus that is wholly free looks the same from everywhere.
    let whole = free.rows.iter().all(|row| *row == free.row());
    for fold in boxes(request, free, lattice) {
        let origins = origins(&fold, free, lattice);
        if choice == Choice::First {
            if let Some(origin) = origins.first() {
                return Some(placed(request, &fold, origin, free));
            }
            continue;
        }
        if origins.is_empty() {
            continue;
        }
        let origins = if whole { origins } else { origins.corners(lattice.steps(fold.size)) };
        for origin in origins.iter().take(if whole { 1 } else { usize::MAX }) {
            if weighed == WEIGHED && best.is_some() {
                break;
            }
            weighed += 1;
            let open = free.exposed(free.place(origin), fold.size);
            if best.as_ref().is_none_or(|(least, _, _)| open < *least) {
                best = Some((open, fold, origin));
            }
        }
    }
    best.map(|(_, fold, origin)| placed(request, &fold, origin, free))
}

fn placed(request: &Request, fold: &Fold, origin: usize, free: &Grid) -> Placement {
    let shape = request.sides();
    let walks = [0, 1, 2].map(|axis| fold.walk(axis, shape[axis]));
    let from = free.place(origin);
    let mut vertices = Vec::with_capacity(shape[0] * shape[1] * shape[2]);
    for a in &walks[0] {
        for b in &walks[1] {
            for c in &walks[2] {
                let at = [0, 1, 2].map(|axis| {
                    let sum = from[axis] + a[axis] + b[axis] + c[axis];
                    if sum < free.dims[axis] { sum } else { sum - free.dims[axis] }
                });
                vertices.push(u32::try_from(free.vertex(at)).unwrap_or(u32::MAX));
            }
        }
    }
    let closed = if request.twist == Twist::Twisted { [false; 3] } else { fold.closed };
    Placement { vertices, size: fold.size.map(|side| u16::try_from(side).unwrap_or(u16::MAX)), closed }
}
