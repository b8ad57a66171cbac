//! Boxes on a torus of fixed cables.
//!
//! Invariant: every origin of every allowed box is looked at; of those free, only corners are weighed, at most
//! [`WEIGHED`] in index order. Cost: some word operations per row for each box, and about a hundred for each corner.

use super::fold::{Fold, Room, folds};
use super::grid::Grid;
use super::{Choice, Placement, Request, Twist};

/// Corners that are weighed for one request, so that an empty torus costs no more than a full one.
const WEIGHED: usize = 128;

struct Cables<'a>(&'a Grid);

impl Room for Cables<'_> {
    fn allows(&self, axis: usize, length: usize) -> bool {
        length <= self.0.dims[axis]
    }

    fn closes(&self, axis: usize, length: usize) -> bool {
        length == self.0.dims[axis]
    }
}

pub(super) fn find(request: &Request, choice: Choice, free: &Grid) -> Option<Placement> {
    let mut best: Option<(u32, Fold, usize)> = None;
    let mut weighed = 0;
    for fold in folds(request.sides(), request.shaping, request.rings, &Cables(free)) {
        let origins = free.origins(fold.size);
        if choice == Choice::First {
            if let Some(origin) = origins.first() {
                return Some(placed(request, &fold, origin, free));
            }
            continue;
        }
        if origins.is_empty() {
            continue;
        }
        for origin in origins.corners().iter() {
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
