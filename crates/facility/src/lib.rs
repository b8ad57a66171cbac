//! What a hall is made of, what it draws, and what that costs.
//!
//! Invariant: pure; settings and catalogue in, numbers out, every one with its basis. Sizes of breakers come from rated
//! power, bills from expected power; the two are never mixed.
//!
//! `power` and `bill` read the blueprint. `chain`, `cost`, `failures` and `floor` take plain numbers and enter theirs into a
//! ledger; `golden` holds them against published ones.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod bill;
pub mod chain;
pub mod cost;
pub mod failures;
pub mod floor;
pub mod golden;
mod power;
mod range;

pub use bill::{Bill, job, year};
pub use power::{HallPower, PoolPower, SitePower, hall};
pub use range::OutOfRange;

/// Why the hall cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A pool names a node that the catalogue does not have.
    #[error("pool `{pool}` is made of `{node}`, which the catalogue does not have")]
    UnknownNode {
        /// The pool.
        pool: String,
        /// The node's name.
        node: String,
    },
    /// A pool names a site that the settings do not have.
    #[error("pool `{pool}` stands at site `{site}`, which is not described")]
    UnknownSite {
        /// The pool.
        pool: String,
        /// The site's name.
        site: String,
    },
    /// The job does not fit.
    #[error("the job needs {needed} slots, the hall has {available}")]
    TooLarge {
        /// What the job needs.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// The time is not one.
    #[error("a job cannot take {0} s")]
    BadDuration(String),
}

impl dh_core::HasKind for Error {
    fn kind(&self) -> dh_core::Kind {
        match self {
            Self::UnknownNode { .. } | Self::UnknownSite { .. } => dh_core::Kind::Blueprint,
            Self::TooLarge { .. } => dh_core::Kind::Infeasible,
            Self::BadDuration(_) => dh_core::Kind::Invalid,
        }
    }
}
