//! Built-in training: data-parallel ranks, each a process of its own, that read from and checkpoint to an object store.
//!
//! A rank is blocking code with few threads: one that computes, one that fetches shards ahead and, on rank 0, one that
//! writes checkpoints. The same seed, data and number of ranks give the same weights to the last bit, whether or not
//! the run was interrupted. [`probe`] measures the machine under the conditions that a rank meets.
//!
//! Invariant: no fault is injected here and nothing is faked; faults come from outside and end a rank with an error.
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

#[cfg(target_endian = "big")]
compile_error!("gradients travel between ranks in the machine's own byte order, which must be little-endian");

pub mod adam;
pub mod checkpoint;
pub mod collective;
pub mod dataset;
pub mod model_file;
pub mod network;
mod number;
pub mod probe;
pub mod random;
pub mod s3;
pub mod store;
mod tensor_file;
pub mod threads;
pub mod train;

pub use s3::S3;
pub use store::{MemoryStore, ObjectStore};
pub use train::{DataSize, Event, Report, StepShape, TrainConfig, World, run, train_shape};
