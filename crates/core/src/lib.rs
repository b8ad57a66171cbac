//! The words every layer shares: ids, error kinds, limits, secrets, access, virtual time.
//!
//! Invariant: pure. No file, socket, clock, thread or source of randomness is touched here.
#![warn(missing_docs)]

pub mod access;
pub mod data_class;
pub mod error;
pub mod grant;
pub mod id;
pub mod limits;
pub mod secret;
pub mod time;

pub use access::{AccessKey, Authenticate, Principal, Role};
pub use data_class::DataClass;
pub use error::{HasKind, Kind};
pub use grant::Grant;
pub use id::{AttemptId, JobId, NodeId, Rank, TaskId};
pub use secret::Secret;
pub use time::SimTime;
