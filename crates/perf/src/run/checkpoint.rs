//! What a checkpoint of a training run weighs, and how long it stops the work.
//!
//! Invariant: pure; a faster store, more writers or a faster copy never stop the work longer, and a save in the background
//! never stops it longer than one that blocks unless the copy into host memory is slower than the store.

use dh_units::{Bytes, BytesPerSec, Seconds, real, whole};

use crate::error::{Error, above_zero};

/// Bytes of a parameter in a checkpoint that a run goes on from, with Adam in mixed precision: 2 bf16 weight, 4 main weight,
/// 8 moments. Published: BLOOM-176B in 2.3 TB is 13.1 (14.3 if its page means TiB); Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1.
pub const BYTES_PER_PARAMETER: f64 = 14.0;

/// The same without the bf16 copy, which the main weights give again.
pub const BYTES_PER_PARAMETER_WITHOUT_COPY: f64 = 12.0;

/// The same with gradients of 2 bytes beside them.
pub const BYTES_PER_PARAMETER_WITH_GRADIENTS: f64 = 16.0;

/// Bytes of `parameters` parameters.
pub fn size(parameters: u64, bytes_per_parameter: f64) -> Bytes {
    Bytes(whole(real(parameters) * bytes_per_parameter))
}

/// Where a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Store {
    /// What the store takes, all writers together.
    pub bandwidth: BytesPerSec,
    /// What one node can send or receive; `None` where its ports bind nothing.
    pub node: Option<BytesPerSec>,
    /// Nodes that write at once.
    pub writers: u64,
}

impl Store {
    /// What all writers reach together.
    pub fn reached(&self) -> BytesPerSec {
        let nodes = self.node.map_or(f64::INFINITY, |node| node.0 * real(self.writers));
        BytesPerSec(self.bandwidth.0.min(nodes))
    }
}

/// How a checkpoint is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Save {
    /// The work stands until the store has all.
    Blocking,
    /// The work stands until all is in host memory, and goes on while the store takes it.
    Background {
        /// From one accelerator to host memory.
        copy: BytesPerSec,
        /// Accelerators that copy at once.
        accelerators: u64,
    },
}

/// Copy of one accelerator's state into host memory: a stated assumption, a third of the 16 GB/s that generation 4 of PCI
/// Express gives two accelerators of a switch, because state lies in many tensors and buffers must be found.
pub const COPY_TO_HOST: BytesPerSec = BytesPerSec(5e9);

/// The times of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// How long the work stands.
    pub stall: Seconds,
    /// From the start until it can be gone on from.
    pub durable: Seconds,
}

/// How long a checkpoint of `size` takes.
/// # Errors
/// [`Error::Profile`] for a bandwidth that is not above zero or nobody to write.
pub fn times(size: Bytes, store: &Store, save: Save) -> Result<Times, Error> {
    let reached = BytesPerSec(above_zero("checkpoint bandwidth", store.reached().0)?);
    let write = size / reached;
    match save {
        Save::Blocking => Ok(Times { stall: write, durable: write }),
        Save::Background { copy, accelerators } => {
            let all = above_zero("copy to host", copy.0 * real(accelerators))?;
            let stall = size / BytesPerSec(all);
            Ok(Times { stall, durable: stall + write })
        }
    }
}
