//! How near to each other the ranks of gangs are.

use dh_units::real;
use serde::{Deserialize, Serialize};

/// Gangs that started, at one level of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locality {
    /// What domains of the level are called.
    pub level: String,
    /// All gangs of more than one rank, each time they start.
    pub gangs: Inside,
    /// Those of 64 accelerators or less.
    pub up_to_64: Inside,
}

/// How many started inside one domain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// Starts.
    pub starts: u64,
    /// Of these, inside one domain.
    pub inside: u64,
    /// Not inside one, though one had room for all ranks at that moment.
    pub missed: u64,
}

impl Inside {
    /// Starts inside one domain over those that could have been; none where none could.
    pub fn share(&self) -> Option<f64> {
        let possible = self.inside + self.missed;
        (possible > 0).then(|| real(self.inside) / real(possible))
    }
}
