//! A step ends when its slowest accelerator has.
//!
//! Invariant: pure; more accelerators or a wider spread never make a step shorter; the factor is at least 1.

use dh_units::real;

/// Standard deviation of accelerators' speed over its mean: a stated assumption, one in a hundred. Power-capped accelerators of one
/// kind were seen to differ by 8 % from end to end, some by more (Sinha et al. 2022, SC22, "Not all GPUs are created equal",
/// quoted from memory); four standard deviations to each side of the mean are 8 %.
pub const SPREAD: f64 = 0.01;

/// Accelerators that are not equally fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stragglers {
    /// Standard deviation of their speed over its mean; see [`SPREAD`].
    pub spread: f64,
    /// Accelerators of which the step's time already has the slowest: those that it was measured on, or 1.
    pub measured_on: u64,
}

impl Stragglers {
    /// How much longer a step takes on `accelerators`; at least 1.
    pub fn factor(self, accelerators: u64) -> f64 {
        let more = slowest(accelerators) - slowest(self.measured_on.max(1));
        1.0 + self.spread.max(0.0) * more.max(0.0)
    }
}

/// Euler's constant, the mean of the Gumbel distribution.
const GAMMA: f64 = 0.577_215_664_901_532_9;

/// By how many standard deviations the slowest of `n` normally distributed speeds is expected below the mean: the mean of the
/// limiting Gumbel distribution (Cramér 1946, section 28.6). 0 for one; a tenth too much at 8, a hundredth at 10,000.
pub fn slowest(n: u64) -> f64 {
    if n < 2 {
        return 0.0;
    }
    let log = real(n).ln();
    let root = (2.0 * log).sqrt();
    root - (log.ln() + (4.0 * std::f64::consts::PI).ln()) / (2.0 * root) + GAMMA / root
}
