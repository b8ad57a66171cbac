//! A torus and the state of its vertices.
//!
//! Invariant: a vertex is free when it is neither busy nor out of service; the three sets agree at all times, also after
//! loading. Cost: one bit operation for each vertex taken, released or set.

use serde::{Deserialize, Serialize};

use super::Links;
use super::grid::Grid;

/// Why there can be no such torus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bad {
    /// A side is 0 or above 64.
    Side(u16),
    /// A cube's side is not 1 to 4, or does not divide the sides of the torus.
    Cube(u16),
    /// Nodes of this side do not tile the torus or its cubes, or are too large.
    Node(u16),
    /// A node that is not there, has another number of accelerators or is in a torus already.
    Taken(u32),
    /// Saved sets do not belong to a torus of these sides.
    Saved,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Side(side) => write!(f, "a torus has sides of 1 to 64 vertices, not {side}"),
            Self::Cube(cube) => write!(f, "a cube of side {cube} does not tile this torus (1 to 4)"),
            Self::Node(side) => write!(f, "nodes of side {side} do not tile this torus or its cubes, or are too large"),
            Self::Taken(node) => {
                write!(f, "node {node} is not there, has another number of accelerators or is in a torus already")
            }
            Self::Saved => f.write_str("the saved sets do not belong to a torus of these sides"),
        }
    }
}

impl std::error::Error for Bad {}

/// Why a change was refused; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// No such vertex.
    Unknown(u32),
    /// To be taken, and not free (or named twice).
    NotFree(u32),
    /// To be released, and not busy (or named twice).
    NotBusy(u32),
}

/// Whether new jobs may use a vertex. A running job keeps a vertex that goes out of service until it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// They may.
    In,
    /// They may not.
    Out,
}

/// A 3-D torus of vertices, each free, busy or out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Torus {
    dims: [u16; 3],
    links: Links,
    busy: Grid,
    out: Grid,
    free: Grid,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    dims: [u16; 3],
    links: Links,
    busy: Grid,
    out: Grid,
}

impl From<Torus> for Saved {
    fn from(torus: Torus) -> Self {
        Self { dims: torus.dims, links: torus.links, busy: torus.busy, out: torus.out }
    }
}

impl TryFrom<Saved> for Torus {
    type Error = Bad;

    fn try_from(saved: Saved) -> Result<Self, Bad> {
        let mut torus = Self::new(saved.dims, saved.links)?;
        for set in [&saved.busy, &saved.out] {
            let fits = set.dims == torus.busy.dims && set.rows.len() == torus.busy.rows.len();
            if !fits || set.rows.iter().any(|row| row & !torus.busy.row() != 0) {
                return Err(Bad::Saved);
            }
        }
        torus.free = saved.busy.outside(&saved.out);
        torus.busy = saved.busy;
        torus.out = saved.out;
        Ok(torus)
    }
}

impl Torus {
    /// An empty torus, all in service.
    /// # Errors
    /// A side is 0 or above 64, or the cubes do not tile it.
    pub fn new(dims: [u16; 3], links: Links) -> Result<Self, Bad> {
        if let Some(side) = dims.into_iter().find(|side| *side == 0 || *side > 64) {
            return Err(Bad::Side(side));
        }
        if let Links::Optical { cube } = links
            && (!(1..=4).contains(&cube) || dims.iter().any(|side| side % cube != 0))
        {
            return Err(Bad::Cube(cube));
        }
        let none = Grid::empty(dims.map(usize::from));
        Ok(Self { dims, links, free: none.outside(&none), busy: none.clone(), out: none })
    }

    /// Sides, in vertices.
    pub const fn dims(&self) -> [u16; 3] {
        self.dims
    }

    /// What joins the vertices.
    pub const fn links(&self) -> Links {
        self.links
    }

    /// All vertices.
    pub fn vertices(&self) -> u32 {
        self.dims.iter().map(|side| u32::from(*side)).product()
    }

    /// Free vertices.
    pub fn free(&self) -> u32 {
        self.free.count()
    }

    /// Vertices out of service, busy or not.
    pub fn out_of_service(&self) -> u32 {
        self.out.count()
    }

    /// Whether a vertex is free. An unknown vertex is not.
    pub fn is_free(&self, vertex: u32) -> bool {
        vertex < self.vertices() && self.free.has(vertex as usize)
    }

    /// Makes free vertices busy: all of them, or none.
    /// # Errors
    /// The first vertex that is unknown or not free.
    pub fn take(&mut self, vertices: &[u32]) -> Result<(), Refused> {
        for (done, vertex) in vertices.iter().enumerate() {
            let refused = if *vertex >= self.vertices() {
                Refused::Unknown(*vertex)
            } else if !self.free.has(*vertex as usize) {
                Refused::NotFree(*vertex)
            } else {
                self.free.flip(*vertex as usize);
                self.busy.flip(*vertex as usize);
                continue;
            };
            for back in &vertices[..done] {
                self.free.flip(*back as usize);
                self.busy.flip(*back as usize);
            }
            return Err(refused);
        }
        Ok(())
    }

    /// Ends the use of busy vertices: of all of them, or none.
    /// # Errors
    /// The first vertex that is unknown or not busy.
    pub fn release(&mut self, vertices: &[u32]) -> Result<(), Refused> {
        for (done, vertex) in vertices.iter().enumerate() {
            let refused = if *vertex >= self.vertices() {
                Refused::Unknown(*vertex)
            } else if !self.busy.has(*vertex as usize) {
                Refused::NotBusy(*vertex)
            } else {
                self.busy.flip(*vertex as usize);
                continue;
            };
            for back in &vertices[..done] {
                self.busy.flip(*back as usize);
            }
            return Err(refused);
        }
        for vertex in vertices.iter().map(|vertex| *vertex as usize).filter(|vertex| !self.out.has(*vertex)) {
            self.free.flip(vertex);
        }
        Ok(())
    }

    /// Puts vertices in or out of service; one that is so already stays so.
    /// # Errors
    /// The first vertex that is unknown.
    pub fn set_in_service(&mut self, vertices: &[u32], service: Service) -> Result<(), Refused> {
        if let Some(vertex) = vertices.iter().find(|vertex| **vertex >= self.vertices()) {
            return Err(Refused::Unknown(*vertex));
        }
        for vertex in vertices.iter().map(|vertex| *vertex as usize) {
            if self.out.has(vertex) == (service == Service::In) {
                self.out.flip(vertex);
                if !self.busy.has(vertex) {
                    self.free.flip(vertex);
                }
            }
        }
        Ok(())
    }

    pub(super) const fn free_set(&self) -> &Grid {
        &self.free
    }

    pub(super) fn whole_set(&self) -> Grid {
        let none = Grid::empty(self.busy.dims);
        none.outside(&none)
    }

    pub(super) fn service_set(&self) -> Grid {
        self.out.outside(&self.out)
    }
}
