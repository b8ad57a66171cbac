//! What a machine can do, as measured by a probe or taken from the catalogue.

use dh_units::{BytesPerSec, FlopPerSec, Seconds};
use serde::{Deserialize, Serialize};

/// The rate of one matrix product `[m, k] x [k, n]` f32.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GemmRate {
    /// Rows of the left matrix.
    pub m: u32,
    /// The contracted dimension.
    pub k: u32,
    /// Columns of the right matrix.
    pub n: u32,
    /// `2 m k n` over the time of one product, per rank, with all ranks busy.
    pub rate: FlopPerSec,
}

/// The figures that the training model needs, each measured with `ranks` workers busy at once, so that shared cores,
/// caches and memory channels are in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineProfile {
    /// How many workers ran at once while measuring.
    pub ranks: u32,
    /// Rates of the products that matter, small to large.
    pub gemm: Vec<GemmRate>,
    /// Streaming read + write bandwidth of one rank.
    pub memory: BytesPerSec,
    /// Cost of issuing one small tensor operation in the built-in framework, forward and backward alike.
    pub operation: Seconds,
    /// One-way time of a small message between two ranks over loopback.
    pub message_latency: Seconds,
    /// Bandwidth of a large message between two ranks over loopback, both directions busy.
    pub message_bandwidth: BytesPerSec,
    /// Bandwidth of a durable sequential write.
    pub disk_write: BytesPerSec,
    /// Bandwidth of a sequential read.
    pub disk_read: BytesPerSec,
}
