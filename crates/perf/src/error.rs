//! Why a prediction cannot be made.

use dh_core::{HasKind, Kind};

/// Why a prediction cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A figure of the machine is zero, negative, or not a number.
    #[error("the machine's `{figure}` is {value}, where a number above zero is needed")]
    Profile {
        /// The field of the profile.
        figure: &'static str,
        /// What it is.
        value: f64,
    },
    /// There are matrix products and no measured rate for any.
    #[error("the machine has no measured rate of a matrix product")]
    NoRates,
    /// The job makes no sense.
    #[error("the job's `{figure}` is {value}, where {expected} is needed")]
    Work {
        /// The field of the job.
        figure: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A run lacks something that it cannot be sized without.
    #[error("{0}")]
    Impossible(&'static str),
    /// Weights, gradients and optimiser do not fit into the memory of all accelerators together.
    #[error("one copy of the model's state needs {needed} accelerators, and there are {available}")]
    DoesNotFit {
        /// Accelerators for one copy.
        needed: u64,
        /// Accelerators there are.
        available: u64,
    },
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::DoesNotFit { .. } => Kind::Infeasible,
            Self::Profile { .. } | Self::NoRates | Self::Work { .. } | Self::Impossible(_) => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Profile { .. } | Self::NoRates => Some("measure the machine again: `datahall probe`".to_owned()),
            Self::DoesNotFit { .. } => {
                Some("more accelerators, accelerators with more memory, or a smaller model".to_owned())
            }
            Self::Work { .. } | Self::Impossible(_) => None,
        }
    }
}

/// `value` if it can be divided by.
pub(crate) fn above_zero(figure: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::Profile { figure, value }) }
}
