//! Where a box of accelerators goes on a 3-D torus: rotations, folds, wrap-around, twisted shapes, optical cubes.
//!
//! Invariant: a placement holds every link of the job on one hop, and says which of its rings close ([`Placement`]).
//! The choice is the box that leaves the least open surface, in whole numbers, so it is the same on every machine.
//! Cost: microseconds for each rotation or fold; nothing is kept between requests but which vertices are
//! busy. Sources: `RFold` (arXiv 2510.03891) for folding, TPU v4 (arXiv 2304.01433) for cubes and twisted tori.

mod chips;
mod fixed;
mod fold;
mod grid;
mod lattice;
mod link;
mod optical;
mod state;

pub use chips::{Asked, Chips, Part, Wiring};
pub use lattice::Split;
pub use link::logical_links;
pub use state::{Bad, Refused, Service, Torus};

use lattice::Lattice;
use serde::{Deserialize, Serialize};

/// What joins the vertices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Links {
    /// Cables: neighbours in the torus, with wrap-around.
    Fixed,
    /// Cables inside cubes; opposite faces of all cubes meet in optical switches, so any cubes join to a box.
    Optical {
        /// Side of a cube, 1 to 4 vertices.
        cube: u16,
    },
}

/// Which rings a job needs closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rings {
    /// Neighbours along each axis are enough; the placement says which rings close all the same.
    Open,
    /// The last vertex of each axis is one hop from the first.
    Closed,
}

/// How far a shape may be bent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shaping {
    /// Only as asked.
    AsGiven,
    /// In every rotation.
    Rotated,
    /// In every rotation and every fold that keeps links at one hop.
    Folded,
}

/// Whether the closing links of the short axes are shifted by half of the long ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Twist {
    /// A plain torus.
    None,
    /// A twisted torus, of shape k x k x 2k or k x 2k x 2k in any rotation.
    Twisted,
}

/// Which of the boxes that are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The first.
    First,
    /// The one that leaves fewest free vertices on its surface; with cubes, the one that breaks into the least free room.
    Snug,
}

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Vertices along each axis of the job.
    pub shape: [u16; 3],
    /// Plain or twisted.
    pub twist: Twist,
    /// Rings that must close.
    pub rings: Rings,
    /// How far the shape may be bent.
    pub shaping: Shaping,
}

impl Request {
    /// A plain box with all rotations and folds, rings open.
    pub const fn new(shape: [u16; 3]) -> Self {
        Self { shape, twist: Twist::None, rings: Rings::Open, shaping: Shaping::Folded }
    }

    /// Vertices in all.
    pub fn vertices(&self) -> u64 {
        self.shape.iter().map(|side| u64::from(*side)).product()
    }

    fn sides(&self) -> [usize; 3] {
        self.shape.map(usize::from)
    }
}

/// Where a job goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The vertex of each place of the job; place `(i, j, k)` of shape `a x b x c` is at `(i * b + j) * c + k`.
    pub vertices: Vec<u32>,
    /// The box into which the shape is rotated or folded.
    pub size: [u16; 3],
    /// For each axis of the job, whether its last vertex is one hop from its first (with the twist, where asked).
    pub closed: [bool; 3],
}

/// Why a job does not fit: the first condition that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "misfit")]
pub enum Misfit {
    /// A side of the shape is 0.
    Nothing,
    /// The shape is not k x k x 2k or k x 2k x 2k, or the links cannot twist it: closed rings of a twisted torus need
    /// optical switches and whole cubes.
    NotTwistable,
    /// No allowed rotation or fold fits the empty torus.
    LargerThanTorus {
        /// Vertices of the torus.
        vertices: u32,
        /// Vertices asked for.
        needed: u64,
    },
    /// It would fit the empty torus, were all vertices in service.
    OutOfService {
        /// Vertices out of service.
        out: u32,
    },
    /// Too few vertices are free.
    TooFewFree {
        /// Free vertices.
        free: u32,
        /// Vertices asked for.
        needed: u64,
    },
    /// Enough vertices are free, and no box of them.
    NoBox {
        /// Free vertices; [`Torus::smaller`] says which part of the shape would fit.
        free: u32,
    },
}

impl Torus {
    /// The place of a request, which stays free until it is taken.
    /// # Errors
    /// The first condition that fails.
    pub fn place(&self, request: &Request, choice: Choice) -> Result<Placement, Misfit> {
        let needed = request.vertices();
        if needed == 0 {
            return Err(Misfit::Nothing);
        }
        if request.twist == Twist::Twisted && !self.twists(request) {
            return Err(Misfit::NotTwistable);
        }
        if needed > u64::from(self.vertices()) {
            return Err(Misfit::LargerThanTorus { vertices: self.vertices(), needed });
        }
        let free = self.free();
        if u64::from(free) >= needed
            && let Some(placement) = self.find(request, choice, self.free_set())
        {
            return Ok(placement);
        }
        if self.find(request, Choice::First, &self.whole_set()).is_none() {
            return Err(Misfit::LargerThanTorus { vertices: self.vertices(), needed });
        }
        let out = self.out_of_service();
        if out > 0 && self.find(request, Choice::First, &self.service_set()).is_none() {
            return Err(Misfit::OutOfService { out });
        }
        if u64::from(free) < needed {
            return Err(Misfit::TooFewFree { free, needed });
        }
        Err(Misfit::NoBox { free })
    }

    fn find(&self, request: &Request, choice: Choice, free: &grid::Grid) -> Option<Placement> {
        match self.links() {
            Links::Fixed => fixed::find(request, choice, free, &Lattice::VERTICES),
            Links::Optical { cube } => optical::find(request, choice, free, usize::from(cube), &Lattice::VERTICES),
        }
    }

    fn twists(&self, request: &Request) -> bool {
        twists(self.links(), request)
    }

    /// The shape with its longest side halved until it fits; zeros when no vertex is free. Costs several placements, so
    /// it is asked for when a wait is explained, not when it is decided.
    pub fn smaller(&self, request: &Request) -> [u16; 3] {
        let mut smaller = Request { twist: Twist::None, ..*request };
        while let Some(axis) = (0..3).rev().max_by_key(|axis| smaller.shape[*axis]) {
            if smaller.shape[axis] == 1 {
                break;
            }
            smaller.shape[axis] /= 2;
            let enough = u64::from(self.free()) >= smaller.vertices();
            if enough && self.find(&smaller, Choice::First, self.free_set()).is_some() {
                return smaller.shape;
            }
        }
        [u16::from(self.free() > 0); 3]
    }
}

/// Whether `links` can hold the shape of a twisted torus.
fn twists(links: Links, request: &Request) -> bool {
    let mut sides = request.shape;
    sides.sort_unstable();
    let [k, middle, long] = sides.map(u32::from);
    let shape = long == 2 * k && (middle == k || middle == long);
    shape
        && match links {
            Links::Fixed => request.rings == Rings::Open,
            Links::Optical { cube } => request.shape.iter().all(|side| side % cube == 0),
        }
}
