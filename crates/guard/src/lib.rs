//! Identity at the edge of a hall: keys are issued, kept in a file only the owner can read, and verified.
//!
//! *Invariant*: a secret leaves this crate only inside [`dh_core::AccessKey`] or [`dh_core::Secret`]; it is in no message,
//! no `Debug` text and no error. Lookups go by digest, so their timing says nothing about how much of a guess was right.
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

mod bearer;
mod error;
mod key_file;
mod mint;
mod ring;
mod seal;

pub use bearer::bearer_of;
pub use error::Error;
pub use ring::{KeyInfo, KeyRing};
pub use seal::Sealer;
