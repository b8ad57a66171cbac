//! The S3 front: translates between S3's requests and the store, and decides nothing else.
//!
//! Invariant: no request reaches the store unless its signature was verified and its principal may use the store.
//! The wire format, routing and signature arithmetic are the crate s3s's; what it allows and we do not (unsigned requests,
//! signature version 2 in headers, form uploads) is refused in [`serve`] before it reads a body.

mod auth;
mod body;
mod buckets;
mod convert;
mod list;
mod multipart;
mod objects;
mod server;
mod service;

pub use server::serve;
pub(crate) use service::Front;
