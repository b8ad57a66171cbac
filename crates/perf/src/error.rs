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
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Profile { .. } | Self::NoRates => Some("measure the machine again: `datahall probe`".to_owned()),
            Self::Work { .. } => None,
        }
    }
}

/// `value` if it can be divided by.
pub(crate) fn above_zero(figure: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::Profile { figure, value }) }
}
