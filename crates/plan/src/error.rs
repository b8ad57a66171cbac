//! Why there is no plan.

use dh_core::{HasKind, Kind};

/// Why a blueprint that is sound in itself cannot be planned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A network cannot be built as asked.
    #[error("fabric `{name}`: {error}")]
    Network {
        /// The fabric.
        name: String,
        /// Why.
        error: dh_fabric::Error,
    },
    /// A network lacks a number that neither blueprint nor catalogue has.
    #[error("fabric `{name}`: {what}")]
    Unknown {
        /// The fabric.
        name: String,
        /// What is missing.
        what: String,
    },
    /// A device does not fit a rack.
    #[error("site `{site}`: {error}")]
    Floor {
        /// The site.
        site: String,
        /// Why.
        error: dh_facility::floor::Error,
    },
    /// A cable is longer than any that the catalogue has.
    #[error("fabric `{name}`: {error}{hint}", hint = shorter(error))]
    Cables {
        /// The fabric.
        name: String,
        /// Which, and how long.
        error: dh_fabric::cables::Error,
    },
    /// A factor of power or cost is out of range.
    #[error("site `{site}`: {error}")]
    Range {
        /// The site.
        site: String,
        /// Which, and what it may be.
        error: dh_facility::OutOfRange,
    },
    /// Failures cannot be computed.
    #[error("{what}: {error}")]
    Failures {
        /// Of what.
        what: String,
        /// Why.
        error: dh_facility::failures::Error,
    },
    /// Settings and catalogue do not belong together.
    #[error("{0}")]
    Inconsistent(String),
}

/// What would make cables shorter.
const fn shorter(error: &dh_fabric::cables::Error) -> &'static str {
    match error {
        dh_fabric::cables::Error::TooFar { .. } => {
            "; rows about as long as the hall is deep (`racks_per_row`), or more in a rack (`rack_power`), bring racks nearer"
        }
        dh_fabric::cables::Error::Write => "",
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Network { error, .. } => error.kind(),
            Self::Unknown { .. } | Self::Inconsistent(_) => Kind::Blueprint,
            Self::Floor { error, .. } => error.kind(),
            Self::Cables { error, .. } => error.kind(),
            Self::Range { .. } => Kind::Invalid,
            Self::Failures { error, .. } => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Floor { site, .. } => {
                Some(format!("`rack_power` and `rack_height` of [site.{site}] are the limits of a rack"))
            }
            Self::Network { .. }
            | Self::Unknown { .. }
            | Self::Inconsistent(_)
            | Self::Cables { .. }
            | Self::Range { .. }
            | Self::Failures { .. } => None,
        }
    }
}
