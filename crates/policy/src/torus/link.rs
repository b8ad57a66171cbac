//! The links of a job, and which vertices can be one hop apart: what a placement is checked against.
//!
//! Invariant: independent of folds and of the search. Twists follow TPU v4: in k x k x 2k a short axis closes half way
//! along the long one; in k x 2k x 2k the short axis closes half way along both.

use super::{Links, Request, Torus, Twist};

/// Pairs of places of a job that are linked, along the axes that are `closed` also from the last to the first.
/// Places count as in [`super::Placement::vertices`].
pub fn logical_links(request: &Request, closed: [bool; 3]) -> Vec<(u64, u64)> {
    let shape = request.shape.map(u64::from);
    let short = shape.iter().copied().min().unwrap_or(0);
    let index = |at: [u64; 3]| (at[0] * shape[1] + at[1]) * shape[2] + at[2];
    let mut pairs = Vec::new();
    for place in 0..request.vertices() {
        let at = [place / shape[2] / shape[1], place / shape[2] % shape[1], place % shape[2]];
        for axis in 0..3 {
            let mut next = at;
            next[axis] += 1;
            if next[axis] == shape[axis] {
                if !closed[axis] {
                    continue;
                }
                next[axis] = 0;
                if request.twist == Twist::Twisted && shape[axis] == short {
                    for other in (0..3).filter(|other| shape[*other] > short) {
                        next[other] = (next[other] + short) % shape[other];
                    }
                }
            }
            if index(next) != place {
                pairs.push((place, index(next)));
            }
        }
    }
    pairs
}

impl Torus {
    /// Whether two vertices are one hop apart, or, with optical switches, can be joined by one.
    pub fn adjacent(&self, pair: (u32, u32)) -> bool {
        let dims = self.dims().map(u32::from);
        let place = |vertex: u32| [vertex / dims[2] / dims[1], vertex / dims[2] % dims[1], vertex % dims[2]];
        let (a, b) = (place(pair.0), place(pair.1));
        match self.links() {
            Links::Fixed => {
                let apart = [0, 1, 2].map(|axis| {
                    let gap = a[axis].abs_diff(b[axis]);
                    gap.min(dims[axis] - gap)
                });
                apart.iter().sum::<u32>() == 1
            }
            Links::Optical { cube } => {
                let side = u32::from(cube);
                let (inner, other) = (a.map(|at| at % side), b.map(|at| at % side));
                let gap: u32 = (0..3).map(|axis| inner[axis].abs_diff(other[axis])).sum();
                let same = a.map(|at| at / side) == b.map(|at| at / side);
                let faces = (0..3).any(|axis| {
                    let ends = [inner[axis].min(other[axis]), inner[axis].max(other[axis])];
                    ends == [0, side - 1] && (0..3).all(|at| at == axis || inner[at] == other[at])
                });
                (same && gap == 1) || faces
            }
        }
    }
}
