//! Speed of matrix products: measured for some shapes, interpolated for the others.
//!
//! A product that was measured has its measured rate. Any other has a rate between those of the next smaller and the next
//! larger one, interpolated in the logarithm of `m k n`, because rates climb steeply among small products and flatten
//! among large ones. Outside of what was measured the rate of the nearest product is taken: no rate is made up.

use dh_units::FlopPerSec;
use serde::{Deserialize, Serialize};

use crate::error::{Error, above_zero};
use crate::profile::GemmRate;

/// A matrix product `[m, k] x [k, n]` f32, done `count` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gemm {
    /// Rows of the left matrix.
    pub m: u32,
    /// The contracted dimension.
    pub k: u32,
    /// Columns of the right matrix.
    pub n: u32,
    /// How many times in one step.
    pub count: u32,
}

impl Gemm {
    /// Floating point operations of one product: a multiplication and an addition for each of `m k n`.
    pub fn flop(&self) -> f64 {
        2.0 * f64::from(self.m) * f64::from(self.k) * f64::from(self.n)
    }
}

/// A rate and how it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// This very shape was measured.
    Measured(FlopPerSec),
    /// Taken from the shapes next to it.
    Interpolated(FlopPerSec),
}

impl Rate {
    /// The rate itself.
    pub const fn speed(self) -> FlopPerSec {
        match self {
            Self::Measured(speed) | Self::Interpolated(speed) => speed,
        }
    }
}

/// The rate of `gemm` on a machine with these measured rates.
/// # Errors
/// [`Error::NoRates`] if nothing was measured, [`Error::Profile`] if a measured rate is not above zero.
pub fn rate_of(gemm: &Gemm, measured: &[GemmRate]) -> Result<Rate, Error> {
    for rate in measured {
        above_zero("gemm", rate.rate.0)?;
    }
    let same = measured.iter().find(|rate| (rate.m, rate.k, rate.n) == (gemm.m, gemm.k, gemm.n));
    if let Some(same) = same {
        return Ok(Rate::Measured(same.rate));
    }
    let size = log_size(gemm.m, gemm.k, gemm.n);
    let sized = || measured.iter().map(|rate| (log_size(rate.m, rate.k, rate.n), rate.rate.0));
    // Of equal sizes the slower one counts, so that the order of the list does not matter.
    let below = sized().filter(|(at, _)| *at <= size).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let above = sized().filter(|(at, _)| *at >= size).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let rate = match (below, above) {
        (None, None) => return Err(Error::NoRates),
        (Some((_, rate)), None) | (None, Some((_, rate))) => rate,
        (Some((low, slow)), Some((high, fast))) => {
            let part = if high > low { (size - low) / (high - low) } else { 0.0 };
            slow + (fast - slow) * part
        }
    };
    Ok(Rate::Interpolated(FlopPerSec(rate)))
}

/// Sizes of zero count as one: a product of nothing takes no time at any rate.
fn log_size(m: u32, k: u32, n: u32) -> f64 {
    [m, k, n].iter().map(|size| f64::from((*size).max(1)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Vec<GemmRate> {
        [(10, 10, 10, 1e9), (100, 100, 100, 9e9), (32, 784, 256, 20e9)]
            .map(|(m, k, n, rate)| GemmRate { m, k, n, rate: FlopPerSec(rate) })
            .to_vec()
    }

    fn rate(m: u32, k: u32, n: u32) -> Rate {
        rate_of(&Gemm { m, k, n, count: 1 }, &measured()).unwrap()
    }

    #[test]
    fn a_measured_shape_has_its_measured_rate() {
        assert_eq!(rate(32, 784, 256), Rate::Measured(FlopPerSec(20e9)));
    }

    #[test]
    fn halfway_in_the_logarithm_is_halfway_in_the_rate() {
        // 1e3 and 1e6 are measured; 31.62^3 is halfway.
        let between = rate(1, 1, 31_623).speed().0;
        assert!((between - 5e9).abs() < 1e6, "{between}");
    }

    #[test]
    fn beyond_what_was_measured_the_nearest_counts() {
        assert_eq!(rate(1, 1, 1), Rate::Interpolated(FlopPerSec(1e9)));
        assert_eq!(rate(4_000, 4_000, 4_000), Rate::Interpolated(FlopPerSec(20e9)));
    }

    #[test]
    fn no_rate_and_no_speed_are_errors() {
        let gemm = Gemm { m: 1, k: 1, n: 1, count: 1 };
        assert_eq!(rate_of(&gemm, &[]), Err(Error::NoRates));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let list = [GemmRate { m: 1, k: 1, n: 1, rate: FlopPerSec(bad) }];
            assert!(matches!(rate_of(&gemm, &list), Err(Error::Profile { figure: "gemm", .. })));
        }
    }
}
