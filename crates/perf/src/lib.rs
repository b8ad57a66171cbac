//! Models of performance: how long will this job take on this hall?
//!
//! Invariant: pure. What a machine can do comes in as a [`MachineProfile`]; nothing is measured here. Every number that
//! comes out carries its basis, the formula with its numbers filled in.
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

pub mod architecture;
mod collective;
pub mod collectives;
pub mod deploy;
mod error;
mod gemm;
pub mod hardware;
pub mod inference;
pub mod layout;
pub mod loading;
pub mod measured;
pub mod memory;
pub mod power;
pub mod pretraining;
mod profile;
pub mod run;
pub mod search;
pub mod serving;
pub mod sizing;
pub mod training;
pub mod validation;

pub use collective::{Collective, all_reduce};
pub use error::Error;
pub use gemm::{Gemm, Rate, rate_of};
pub use profile::{GemmRate, MachineProfile};
