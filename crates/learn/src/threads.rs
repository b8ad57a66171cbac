//! One computing thread per rank.
//!
//! Several ranks share the cores of a node. If each let the matrix products spread over all cores, they would wait for
//! each other's threads at every product. Products therefore stay on the calling thread unless the rank was given more
//! (`OMP_NUM_THREADS`, the name that every framework honours). Whoever starts a rank should also set [`RANK_ENVIRONMENT`]:
//! candle's own pool spins while it waits, and without `RAYON_NUM_THREADS` candle counts the cores at every product by
//! reading `/proc/cpuinfo` (measured: a tenth of a step).

use std::env;

/// What the environment of a rank should hold, unless the user set it otherwise.
pub const RANK_ENVIRONMENT: [(&str, &str); 3] =
    [("OMP_NUM_THREADS", "1"), ("RAYON_NUM_THREADS", "1"), ("CANDLE_NUM_THREADS", "1")];

/// How many threads this rank may compute with: `OMP_NUM_THREADS` if it is a positive number, else one.
pub fn allowed() -> usize {
    env::var("OMP_NUM_THREADS")
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|threads| *threads > 0)
        .unwrap_or(1)
}

/// Keeps matrix products on the calling thread for as long as it lives, then restores what was set before.
///
/// The setting belongs to the process. A rank is a process of its own, so it holds one guard for all its life.
#[derive(Debug)]
pub struct SingleThread {
    before: usize,
}

impl SingleThread {
    /// Applies the setting.
    pub fn enforce() -> Self {
        let before = gemm::get_threading_threshold();
        gemm::set_threading_threshold(usize::MAX);
        Self { before }
    }
}

impl Drop for SingleThread {
    fn drop(&mut self) {
        gemm::set_threading_threshold(self.before);
    }
}
