//! Nodes in reserve: how many so that a lost node is replaced at once instead of waited for.
//!
//! Nodes are lost as a Poisson process (each rarely, all independently) and come back after a repair of whatever
//! distribution; then the number in repair is Poisson with mean `losses per second x repair time` (Palm's theorem, the
//! M/G/infinity queue). The reserve is the quantile of that number. Cost: O(square root of the mean).

use dh_units::{Seconds, real, whole};

use super::Error;

/// Means above this are refused: a hall does not have that many nodes in repair, and the sum stays short.
const MEAN_MAX: f64 = 1e9;

/// Terms below this share of the largest are left out.
const NEGLIGIBLE: f64 = 1e-30;

/// The smallest `k` with `P(X <= k) >= probability` for a Poisson number `X` of mean `mean`.
///
/// The terms are summed relative to the largest, `p(k+1)/p(k) = mean/(k+1)`, and divided by their own sum at the end; so
/// `e^-mean`, which is 0 in 64 bits from a mean of 746 on, is never formed. Terms below 1e-30 of the largest are left out:
/// a reserve for a probability within 1e-15 of one is beyond what 64 bits can ask for anyway.
/// # Errors
/// [`Error::BadProbability`] unless `0 <= probability < 1`; [`Error::BadMean`] unless `0 <= mean <= 1e9`.
pub fn poisson_quantile(mean: f64, probability: f64) -> Result<u64, Error> {
    if !(0.0..1.0).contains(&probability) {
        return Err(Error::BadProbability(probability.to_string()));
    }
    if !(0.0..=MEAN_MAX).contains(&mean) {
        return Err(Error::BadMean(mean.to_string()));
    }
    let mode = whole(mean);
    // Terms below the mode, from the mode down.
    let mut below = Vec::new();
    let (mut term, mut k) = (1.0, mode);
    while k > 0 && term > NEGLIGIBLE {
        term *= real(k) / mean;
        k -= 1;
        below.push(term);
    }
    let mut total: f64 = below.iter().rev().sum();
    let lower = total;
    let (mut term, mut k) = (1.0, mode);
    while term > NEGLIGIBLE {
        total += term;
        k += 1;
        term *= mean / real(k);
    }
    let wanted = probability * total;
    // Down from the mode if the quantile lies below it, else up.
    if lower >= wanted {
        let (mut sum, mut k) = (lower, mode);
        for term in below {
            // `sum` is P(X <= k - 1).
            if sum < wanted {
                return Ok(k);
            }
            sum -= term;
            k -= 1;
        }
        return Ok(k);
    }
    let (mut sum, mut term, mut k) = (lower + 1.0, 1.0, mode);
    while sum < wanted && term > NEGLIGIBLE {
        k += 1;
        term *= mean / real(k);
        sum += term;
    }
    Ok(k)
}

/// Mean nodes in repair: `losses_per_second` over all nodes, each away for `repair`.
/// # Errors
/// [`Error::BadTime`] if `repair` is negative or not a number.
pub fn in_repair(losses_per_second: f64, repair: Seconds) -> Result<f64, Error> {
    if !(repair.0.is_finite() && repair.0 >= 0.0) {
        return Err(Error::BadTime { name: "the time of a repair", seconds: repair.0.to_string() });
    }
    Ok(losses_per_second * repair.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the definition; fit for small means only.
    fn plain(mean: f64, probability: f64) -> u64 {
        let (mut k, mut term) = (0_u64, (-mean).exp());
        let mut sum = term;
        while sum < probability {
            k += 1;
            term *= mean / real(k);
            sum += term;
        }
        k
    }

    #[test]
    fn quantiles_are_those_of_printed_tables() {
        // P(X <= 10 | 5) = 0.9863, P(X <= 11 | 5) = 0.9945; P(X <= 0 | 0.01) = 0.9900498.
        let rows =
            [(5.0, 0.986, 10), (5.0, 0.99, 11), (0.01, 0.99, 0), (0.01, 0.9901, 1), (0.0, 0.999, 0), (1.0, 0.0, 0)];
        for (mean, probability, expected) in rows {
            assert_eq!(poisson_quantile(mean, probability), Ok(expected), "{mean} {probability}");
        }
    }

    #[test]
    fn large_means_neither_overflow_nor_vanish() {
        for mean in [745.0, 800.0, 1e4, 1e6, 1e8] {
            let sigma = f64::sqrt(mean);
            let k = real(poisson_quantile(mean, 0.99).unwrap());
            // The normal quantile is 2.326 sigma; the skew adds (z^2 - 1)/6 = 0.735.
            assert!((k - (mean + 2.326_35 * sigma + 0.735)).abs() < 1.5, "{mean}: {k}");
            let median = real(poisson_quantile(mean, 0.5).unwrap());
            assert!((median - mean).abs() <= 1.0, "{mean}: {median}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(poisson_quantile(-1.0, 0.5).is_err());
        assert!(poisson_quantile(f64::NAN, 0.5).is_err());
        assert!(poisson_quantile(1.0, 1.0).is_err());
        assert!(in_repair(1.0, Seconds(-1.0)).is_err());
    }

    proptest! {
        #[test]
        fn the_sum_agrees_with_the_definition(mean in 0.0_f64..400.0, probability in 0.000_1_f64..0.999_9) {
            prop_assert_eq!(poisson_quantile(mean, probability).unwrap(), plain(mean, probability));
        }

        #[test]
        fn more_certainty_never_needs_fewer(mean in 0.0_f64..5_000.0, p in 0.0_f64..0.99, more in 0.0_f64..0.009) {
            prop_assert!(poisson_quantile(mean, p).unwrap() <= poisson_quantile(mean, p + more).unwrap());
        }
    }
}
