//! The hall in virtual time: published traces and protocols, played by the policies that run a real hall.
//!
//! What a run gives is told to [`measure`] and [`timeline`], put side by side by [`comparison`], and shown by [`page`].
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

pub mod comparison;
pub mod curve;
mod error;
pub mod generate;
pub mod kernel;
pub mod measure;
pub mod openb;
pub mod page;
pub mod play;
mod random;
pub mod record;
pub mod requests;
pub mod site;
mod spread;
pub mod timeline;
pub mod trace;

pub use error::Error;
