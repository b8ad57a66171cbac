//! Why a blueprint cannot be simulated.

use dh_core::{HasKind, Kind};

/// Why a blueprint cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be planned.
    #[error(transparent)]
    Plan(#[from] dh_plan::Error),
    /// A price or an intensity that none is.
    #[error(transparent)]
    Curve(#[from] crate::curve::Error),
    /// Work or failures that cannot be drawn.
    #[error(transparent)]
    Generate(#[from] crate::generate::Error),
    /// The scheduler refuses it.
    #[error(transparent)]
    Scheduler(#[from] dh_hall::scheduler::Error),
    /// It has no nodes that a scheduler can have.
    #[error(transparent)]
    Layout(#[from] dh_hall::layout::LayoutError),
    /// More than a scheduler takes.
    #[error("the hall has {have} {what}; a simulation takes {most} at most")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        have: usize,
        /// How many there may be.
        most: usize,
    },
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Plan(error) => error.kind(),
            Self::Curve(error) => error.kind(),
            Self::Generate(error) => error.kind(),
            Self::Layout(error) => error.kind(),
            Self::Scheduler(_) => Kind::Infeasible,
            Self::TooMany { .. } => Kind::TooLarge,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::Layout(error) => error.hint(),
            Self::Curve(_) | Self::Generate(_) | Self::Scheduler(_) | Self::TooMany { .. } => None,
        }
    }
}
