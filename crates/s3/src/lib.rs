//! An S3 client for any endpoint, and what is built on it: copies ([`transfer`]) and a load generator ([`load`]).
//!
//! [`Client`] speaks path style over HTTP/1.1, signs with AWS version 4 in headers or in the address, and tries again what
//! may pass, with growing pauses and a bound. A body is kept until its request is answered, so that it can be sent again.
//!
//! Invariant: no secret and no signed address is part of any message; a body that a call returns is whole: as long as was
//! announced, and with the checksum that the store told.
//! Cost: one hash of the signing key a day, one HMAC a request; a put copies no byte of its body.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod body;
mod checksum;
mod client;
mod config;
mod document;
mod download;
mod error;
mod listing;
pub mod load;
mod multipart;
mod object;
mod place;
mod sign;
pub mod transfer;

pub use body::Pieces;
pub use checksum::Crc64;
pub use client::{Client, Plain};
pub use config::{Credentials, Settings, Signing};
pub use download::{Download, Span};
pub use error::Error;
pub use listing::{Bucket, Listing, Page, Query, Summary};
pub use multipart::{Part, Upload};
pub use object::{Head, Payload, Put, Undeleted};
pub use place::Place;
