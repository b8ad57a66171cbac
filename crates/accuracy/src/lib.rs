//! How far the models of performance are from what was published: row by row, held out, and fitted again.
//!
//! A [`Subject`] reads one format of published measurements, has the model predict each row, and fits the efficiency profiles
//! that the model rests on. Invariant: pure, and the quantity that is predicted never enters its own prediction; `energy` says
//! which other measurements of a row it uses.
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

pub mod collectives;
pub mod energy;
mod error;
pub mod fit;
pub mod inference;
pub mod memory;
pub mod report;
mod rows;
pub mod storage;
mod subject;
pub mod training;

pub use error::Error;
pub use subject::{Calibration, Moved, Profile, Subject, Validation};

/// Every subject, in the order of the help text.
pub const SUBJECTS: &[&dyn Subject] = &[
    &training::Training,
    &inference::Inference,
    &collectives::Collectives,
    &memory::Memory,
    &energy::Energy,
    &storage::Storage,
];

/// How the note of an outcome starts whose prediction no published row supports.
pub const OUTSIDE: &str = "outside the calibrated range";

/// The subject that `word` names.
pub fn subject(word: &str) -> Option<&'static dyn Subject> {
    SUBJECTS.iter().copied().find(|subject| subject.word() == word)
}
