//! A three-dimensional torus of nodes, wired directly or as cubes joined by optical circuit switches.
//!
//! With cubes of side c each face has c x c links; opposite faces of all cubes at one position meet in one optical circuit
//! switch, so there are 3 c^2 of them, each with two ports for each cube. TPU v4 (Jouppi et al., ISCA 2023): c = 4, 64 cubes,
//! 4,096 chips, 48 switches with 128 ports in use.
//!
//! A node's ports: 0 and 1 down and up the first axis, 2 and 3 the second, 4 and 5 the third.
//! Invariant: wire `i` costs O(1); every node of an axis of length above one has two links along it.

use crate::error::Error;
use crate::number::small;
use crate::request::{Request, Topology};
use crate::wire::{Device, Port, SegmentKind, Wire};
use dh_units::real;

/// Links of a node.
pub(crate) const DIRECTIONS: u32 = 6;

/// A torus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torus {
    pub(crate) dims: [u64; 3],
    /// Side of a cube; `None` where wired directly.
    pub(crate) cube: Option<u64>,
}

impl Torus {
    pub(crate) fn new(request: &Request) -> Result<Self, Error> {
        let Topology::Torus { dims, cube } = request.topology else {
            return Err(Error::Shape("this shape is no torus".to_owned()));
        };
        let dims = dims.map(u64::from);
        let nodes = dims.iter().try_fold(1_u64, |product, dim| product.checked_mul(*dim)).unwrap_or(u64::MAX);
        let told = format!("{} x {} x {}", dims[0], dims[1], dims[2]);
        if nodes != u64::from(request.nodes) {
            return Err(Error::Shape(format!("a torus of {told} has {nodes} nodes, {} are asked for", request.nodes)));
        }
        if request.ports_per_node != DIRECTIONS || request.planes != 1 || request.extra_ports != 0 {
            return Err(Error::Shape(
                "a node of a torus has 6 ports in one plane, and nothing else is joined to it".to_owned(),
            ));
        }
        if let Some(side) = cube {
            let side = u64::from(side);
            if side == 0 || dims.iter().any(|dim| !dim.is_multiple_of(side)) {
                return Err(Error::Shape(format!("a torus of {told} is not made of whole cubes of side {side}")));
            }
            let ports = 2 * nodes / (side * side * side);
            if ports > u64::from(request.leaf.ports) {
                return Err(Error::Shape(format!(
                    "an optical circuit switch needs {ports} ports, `{}` has {}; larger cubes need fewer",
                    request.leaf.name, request.leaf.ports
                )));
            }
        }
        Ok(Self { dims, cube: cube.map(u64::from) })
    }

    pub(crate) fn nodes(&self) -> u64 {
        self.dims.iter().product()
    }

    pub(crate) fn cubes(&self) -> u64 {
        self.cube.map_or(0, |side| self.nodes() / (side * side * side))
    }

    /// Optical circuit switches.
    pub(crate) fn switches(&self) -> u64 {
        self.cube.map_or(0, |side| 3 * side * side)
    }

    /// Electrical links along one axis.
    fn electrical_along(&self, axis: usize) -> u64 {
        match self.cube {
            Some(side) => self.nodes() / side * (side - 1),
            None if self.dims[axis] > 1 => self.nodes(),
            None => 0,
        }
    }

    /// Links between nodes.
    pub(crate) fn electrical(&self) -> u64 {
        (0..3).map(|axis| self.electrical_along(axis)).sum()
    }

    /// Links between nodes and optical circuit switches.
    pub(crate) fn optical(&self) -> u64 {
        self.cube.map_or(0, |side| 3 * 2 * self.nodes() / side)
    }

    /// Node-to-node links that a cut across the longest axis crosses: twice the cross section, because rings close.
    pub(crate) fn cut_links(&self) -> u64 {
        let longest = self.dims.into_iter().max().unwrap_or(1);
        if longest > 1 { 2 * self.nodes() / longest } else { 0 }
    }

    /// Links on the longest shortest path, and the mean over pairs of different nodes.
    pub(crate) fn distances(&self) -> (u64, f64) {
        let longest = self.dims.iter().map(|dim| dim / 2).sum();
        let ring = |dim: u64| (0..dim).map(|step| step.min(dim - step)).sum::<u64>();
        let mean: f64 = self.dims.iter().map(|dim| real(ring(*dim)) / real(*dim)).sum();
        let nodes = real(self.nodes());
        (longest, if nodes > 1.0 { mean * nodes / (nodes - 1.0) } else { 0.0 })
    }

    fn node(&self, at: [u64; 3]) -> Device {
        Device::Node(small(at[0] + self.dims[0] * (at[1] + self.dims[1] * at[2])))
    }

    /// Splits an index into the place across `axis` and the step along it.
    fn line(&self, axis: usize, index: u64, steps: u64) -> ([u64; 3], u64) {
        let (first, second) = ((axis + 1) % 3, (axis + 2) % 3);
        let (line, step) = (index / steps, index % steps);
        let mut at = [0; 3];
        at[first] = line % self.dims[first];
        at[second] = line / self.dims[first];
        (at, step)
    }

    pub(crate) fn electrical_wire(&self, index: u64) -> Wire {
        let mut rest = index;
        let mut axis = 0;
        while axis < 2 && rest >= self.electrical_along(axis) {
            rest -= self.electrical_along(axis);
            axis += 1;
        }
        let dim = self.dims[axis];
        let steps = self.cube.map_or(dim, |side| dim / side * (side - 1));
        let (mut at, step) = self.line(axis, rest, steps);
        at[axis] = self.cube.map_or(step, |side| step / (side - 1) * side + step % (side - 1));
        let from = Port { device: self.node(at), port: small(2 * axis as u64 + 1) };
        at[axis] = (at[axis] + 1) % dim;
        let to = Port { device: self.node(at), port: small(2 * axis as u64) };
        Wire { segment: SegmentKind::NodeNode, plane: 0, from, to, links: 1, cable: index, leg: 0 }
    }

    pub(crate) fn optical_wire(&self, index: u64) -> Wire {
        let side = self.cube.unwrap_or(1);
        let along = 2 * self.nodes() / side;
        let mut axis = 0;
        let mut rest = index;
        while axis < 2 && rest >= along {
            rest -= along;
            axis += 1;
        }
        let (mut at, step) = self.line(axis, rest, 2 * self.dims[axis] / side);
        let (block, face) = (step / 2, step % 2);
        at[axis] = block * side + face * (side - 1);
        let place = |axis: usize| at[axis % 3] % side;
        let cube_at = at.map(|coordinate| coordinate / side);
        let blocks = self.dims.map(|dim| dim / side);
        let cube = cube_at[0] + blocks[0] * (cube_at[1] + blocks[1] * cube_at[2]);
        let switch = axis as u64 * side * side + place(axis + 1) * side + place(axis + 2);
        Wire {
            segment: SegmentKind::NodeOcs,
            plane: 0,
            from: Port { device: self.node(at), port: small(2 * axis as u64 + face) },
            to: Port { device: Device::Ocs(small(switch)), port: small(2 * cube + face) },
            links: 1,
            cable: index,
            leg: 0,
        }
    }
}
