//! The hall in virtual time: published traces and protocols, played by the policies that run a real hall.
//!
//! Invariant: pure; the caller reads files and hands their text in, and a seed is the only source of chance.
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

mod error;
pub mod openb;
mod random;

pub use error::Error;
