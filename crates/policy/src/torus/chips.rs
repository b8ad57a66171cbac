//! The torus that the accelerators of a fleet's nodes make, and boxes of it as parts of nodes.
//!
//! Accelerator `a` of a node of `p x q x r` is at `(a / (q * r), a / r % q, a % r)` inside it, and nodes follow each other
//! along the last axis first. Invariants: a box takes an equal part of each of its nodes, at the same places; the sets of
//! free vertices are those of the nodes. Cost: a change of a node flips one bit for each accelerator that changed.

use serde::{Deserialize, Serialize};

use super::fold::{Fold, Room, folds};
use super::grid::Grid;
use super::lattice::{Lattice, Split};
use super::{Bad, Choice, Links, Placement, Request, Rings, Shaping, Twist, fixed, optical, twists};
use crate::fleet::View;

/// Which nodes make a torus, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// The first of its nodes; the others follow.
    pub first: u32,
    /// Sides, in accelerators.
    pub dims: [u16; 3],
    /// Sides of the part that one node holds.
    pub node: [u16; 3],
    /// What joins accelerators.
    pub links: Links,
}

impl Wiring {
    /// Accelerators of each node.
    pub fn per_node(&self) -> u32 {
        self.node.iter().map(|side| u32::from(*side)).product()
    }

    /// Its nodes.
    pub fn nodes(&self) -> std::ops::Range<u32> {
        let count: u32 = (0..3).map(|axis| u32::from(self.dims[axis] / self.node[axis].max(1))).product();
        self.first..self.first.saturating_add(count)
    }

    /// What `asked` takes of an empty torus: as few nodes as there can be. `None` if it never fits, or gives no node an equal
    /// part.
    pub fn split(&self, asked: &Asked) -> Option<Split> {
        let lattice = Lattice { node: self.node.map(usize::from), split: None };
        let room = Whole(*self);
        let splits = asked.shapes(self).into_iter().flat_map(|request| {
            let folds = folds(request.sides(), request.shaping, request.rings, &room);
            folds.into_iter().filter(|fold| room.holds(fold)).filter_map(|fold| lattice.split(fold.size))
        });
        splits.min()
    }
}

/// An empty torus.
struct Whole(Wiring);

impl Whole {
    /// Whether there are enough cubes.
    fn holds(&self, fold: &Fold) -> bool {
        let all: usize = self.0.dims.iter().map(|side| usize::from(*side)).product();
        fold.size.iter().product::<usize>() <= all
    }
}

impl Room for Whole {
    fn allows(&self, axis: usize, length: usize) -> bool {
        match self.0.links {
            Links::Fixed => length <= usize::from(self.0.dims[axis]),
            Links::Optical { cube } => length <= usize::from(cube) || length.is_multiple_of(cube.into()),
        }
    }

    fn closes(&self, axis: usize, length: usize) -> bool {
        match self.0.links {
            Links::Fixed => length == usize::from(self.0.dims[axis]),
            Links::Optical { cube } => length.is_multiple_of(cube.into()),
        }
    }
}

/// A box that a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// One of this shape.
    Sides(Request),
    /// One of so many accelerators, of the most compact shape that is free.
    Chips(u32),
}

impl Asked {
    /// Accelerators in all.
    pub fn chips(&self) -> u64 {
        match self {
            Self::Sides(request) => request.vertices(),
            Self::Chips(chips) => u64::from(*chips),
        }
    }

    /// The shapes that will do on a torus, the most compact first.
    fn shapes(&self, wiring: &Wiring) -> Vec<Request> {
        let chips = match self {
            Self::Sides(request) => {
                let twisted = request.twist == Twist::None || twists(wiring.links, request);
                return if twisted && request.vertices() > 0 { vec![*request] } else { Vec::new() };
            }
            Self::Chips(chips) => *chips,
        };
        let mut shapes = Vec::new();
        for short in (1_u32..).take_while(|side| side.pow(3) <= chips).filter(|side| chips.is_multiple_of(*side)) {
            let rest = chips / short;
            for middle in (short..).take_while(|side| side * side <= rest).filter(|side| rest.is_multiple_of(*side)) {
                let sides = [short, middle, rest / middle].map(|side| u16::try_from(side).unwrap_or(u16::MAX));
                let surface = short * middle + (short + middle) * (rest / middle);
                shapes.push((surface, sides));
            }
        }
        shapes.sort_unstable();
        let request = |(_, shape)| Request { shape, twist: Twist::None, rings: Rings::Open, shaping: Shaping::Rotated };
        shapes.into_iter().map(request).collect()
    }
}

/// What a box takes of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The node.
    pub node: u32,
    /// Its accelerators, a bit each.
    pub accelerators: u128,
}

/// A torus with what is free on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chips {
    wiring: Wiring,
    all: Grid,
    open: Grid,
}

impl Chips {
    /// A torus of which nothing is free.
    /// # Errors
    /// If the sides or cubes cannot be, or nodes do not tile it or hold more than 128 accelerators.
    pub fn new(wiring: Wiring) -> Result<Self, Bad> {
        super::Torus::new(wiring.dims, wiring.links)?;
        for axis in 0..3 {
            let (side, node) = (wiring.dims[axis], wiring.node[axis]);
            let cube = match wiring.links {
                Links::Fixed => side,
                Links::Optical { cube } => cube,
            };
            if node == 0 || !cube.is_multiple_of(node) {
                return Err(Bad::Node(node));
            }
        }
        if wiring.per_node() > 128 {
            return Err(Bad::Node(wiring.node[0]));
        }
        let none = Grid::empty(wiring.dims.map(usize::from));
        Ok(Self { wiring, all: none.clone(), open: none })
    }

    /// Which nodes make it, and how.
    pub const fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Sides of a node, and nodes along the last two axes.
    fn sides(&self) -> ([usize; 3], [usize; 2]) {
        let node = self.wiring.node.map(usize::from);
        let across = [1, 2].map(|axis| usize::from(self.wiring.dims[axis]) / node[axis]);
        (node, across)
    }

    fn vertex(&self, node: u32, accelerator: u32) -> usize {
        let (side, [rows, columns]) = self.sides();
        let (at, inside) = ((node - self.wiring.first) as usize, accelerator as usize);
        let corner = [at / columns / rows, at / columns % rows, at % columns];
        let within = [inside / side[2] / side[1], inside / side[2] % side[1], inside % side[2]];
        self.all.vertex([0, 1, 2].map(|axis| corner[axis] * side[axis] + within[axis]))
    }

    /// The node of a vertex, and the accelerator there.
    fn owner(&self, vertex: u32) -> (u32, u32) {
        let (side, [rows, columns]) = self.sides();
        let at = self.all.place(vertex as usize);
        let [corner, within] =
            [[0, 1, 2].map(|axis| at[axis] / side[axis]), [0, 1, 2].map(|axis| at[axis] % side[axis])];
        let node = (corner[0] * rows + corner[1]) * columns + corner[2];
        let inside = (within[0] * side[1] + within[1]) * side[2] + within[2];
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (self.wiring.first + small(node), small(inside))
    }

    /// What is free of a node: everything, and what is not reserved. A node of which anything is reserved is not open.
    pub fn set(&mut self, node: u32, free: u128, open: u128) {
        for accelerator in 0..self.wiring.per_node() {
            let vertex = self.vertex(node, accelerator);
            for (set, mask) in [(&mut self.all, free), (&mut self.open, open)] {
                if set.has(vertex) != (mask >> accelerator & 1 == 1) {
                    set.flip(vertex);
                }
            }
        }
    }

    /// Whether the accelerators of a node that are wholly free are these: for checks.
    pub fn agrees(&self, node: u32, free: u128) -> bool {
        (0..self.wiring.per_node()).all(|a| self.all.has(self.vertex(node, a)) == (free >> a & 1 == 1))
    }

    /// Accelerators that are free.
    pub fn free(&self, view: View) -> u32 {
        self.set_of(view).count()
    }

    const fn set_of(&self, view: View) -> &Grid {
        match view {
            View::All => &self.all,
            View::Open => &self.open,
        }
    }

    const fn lattice(&self, split: Split) -> Lattice {
        let [p, q, r] = self.wiring.node;
        Lattice { node: [p as usize, q as usize, r as usize], split: Some(split) }
    }

    /// A free box, off the nodes of `never`: the most compact shape that is free, where it is snuggest; a part for each
    /// node, in the order of the box.
    pub fn place(&self, asked: &Asked, split: Split, view: View, never: &[u32]) -> Option<Vec<Part>> {
        let mut copy;
        let free = if never.iter().any(|node| self.wiring.nodes().contains(node)) {
            copy = self.set_of(view).clone();
            for node in never.iter().filter(|node| self.wiring.nodes().contains(node)) {
                for vertex in (0..self.wiring.per_node()).map(|accelerator| self.vertex(*node, accelerator)) {
                    if copy.has(vertex) {
                        copy.flip(vertex);
                    }
                }
            }
            &copy
        } else {
            self.set_of(view)
        };
        if u64::from(free.count()) < asked.chips() {
            return None;
        }
        let lattice = self.lattice(split);
        let placement = asked.shapes(&self.wiring).into_iter().find_map(|request| match self.wiring.links {
            Links::Fixed => fixed::find(&request, Choice::Snug, free, &lattice),
            Links::Optical { cube } => optical::find(&request, Choice::Snug, free, cube.into(), &lattice),
        })?;
        Some(self.parts(&placement))
    }

    /// Whether there is a box of the accelerators of each node that `may` be had.
    pub fn holds(&self, asked: &Asked, split: Split, may: impl Fn(u32) -> u128) -> bool {
        let mut all = self.clone();
        for node in self.wiring.nodes() {
            all.set(node, may(node), 0);
        }
        let lattice = self.lattice(split);
        let free = &all.all;
        u64::from(free.count()) >= asked.chips()
            && asked.shapes(&self.wiring).into_iter().any(|request| match self.wiring.links {
                Links::Fixed => fixed::find(&request, Choice::First, free, &lattice).is_some(),
                Links::Optical { cube } => {
                    optical::find(&request, Choice::First, free, cube.into(), &lattice).is_some()
                }
            })
    }

    /// Of boxes of accelerators for which `may` says that they could be had, one that costs least by `price`, as far as a
    /// bounded number of looks tells: `price` is asked for parts of boxes too.
    pub fn cheapest(
        &self,
        asked: &Asked,
        split: Split,
        may: impl Fn(u32) -> u128,
        mut price: impl FnMut(&[Part]) -> u64,
    ) -> Option<(u64, Vec<Part>)> {
        let mut all = self.clone();
        for node in self.wiring.nodes() {
            all.set(node, may(node), 0);
        }
        let lattice = self.lattice(split);
        let mut boxes: Vec<Placement> = Vec::new();
        for request in asked.shapes(&self.wiring) {
            let found = &mut |placement| boxes.push(placement);
            match self.wiring.links {
                Links::Fixed => fixed::some(&request, &all.all, &lattice, found),
                Links::Optical { cube } => {
                    let price = &mut |vertices: &[u32]| price(&self.group(vertices));
                    optical::cheapest(&request, &all.all, cube.into(), &lattice, price, found);
                }
            }
            if matches!(asked, Asked::Chips(_)) && boxes.len() > 256 {
                break;
            }
        }
        let mut best: Option<(u64, Vec<Part>)> = None;
        for placement in boxes {
            let parts = self.parts(&placement);
            let cost = price(&parts);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, parts));
            }
        }
        best
    }

    fn parts(&self, placement: &Placement) -> Vec<Part> {
        self.group(&placement.vertices)
    }

    /// Vertices by node, in the order in which nodes come first.
    fn group(&self, vertices: &[u32]) -> Vec<Part> {
        let nodes = self.wiring.nodes();
        let mut places = vec![u32::MAX; nodes.len()];
        let mut parts: Vec<Part> = Vec::new();
        for vertex in vertices {
            let (node, accelerator) = self.owner(*vertex);
            let Some(place) = places.get_mut((node - nodes.start) as usize) else { continue };
            if *place == u32::MAX {
                *place = u32::try_from(parts.len()).unwrap_or(u32::MAX);
                parts.push(Part { node, accelerators: 0 });
            }
            if let Some(part) = parts.get_mut(*place as usize) {
                part.accelerators |= 1_u128 << accelerator.min(127);
            }
        }
        parts
    }
}
