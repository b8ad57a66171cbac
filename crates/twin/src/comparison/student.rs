//! Student's t: how far a mean of few numbers may be off.

use dh_units::real;

/// The 97.5 % point for 1 to 30 degrees of freedom: two such tails leave 95 %. Source: Student's t table (Abramowitz and
/// Stegun 1964, table 26.10).
const FEW: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The 97.5 % point of the normal distribution, which t approaches.
const NORMAL: f64 = 1.959_964;

/// The 97.5 % point of Student's t, within 0.001; infinite for 0 degrees of freedom.
///
/// Above 30 it is the normal point with two terms of its expansion in 1/n (Fisher and Cornish 1960).
pub fn t_975(degrees: u64) -> f64 {
    let Some(place) = degrees.checked_sub(1) else { return f64::INFINITY };
    let few = usize::try_from(place).ok().and_then(|place| FEW.get(place));
    few.copied().unwrap_or_else(|| {
        let (z, n) = (NORMAL, real(degrees));
        let (cube, fifth) = (z.powi(3), z.powi(5));
        z + (cube + z) / (4.0 * n) + (5.0 * fifth + 16.0 * cube + 3.0 * z) / (96.0 * n * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The density of t, up to its constant, which cancels.
    fn tail(degrees: u64, point: f64) -> f64 {
        let n = real(degrees);
        // With t = sqrt(n) tan(a), the density is cos(a)^(n-1), from a = 0 to a right angle.
        let mass = |from: f64, to: f64| {
            let steps = 4_000_u32;
            let width = (to - from) / f64::from(steps);
            let at = |step: u32| (from + (f64::from(step) + 0.5) * width).cos().powf(n - 1.0);
            (0..steps).map(at).sum::<f64>() * width
        };
        let right = std::f64::consts::FRAC_PI_2;
        mass((point / n.sqrt()).atan(), right) / (2.0 * mass(0.0, right))
    }

    #[test]
    fn the_points_leave_a_fortieth_above_them() {
        for degrees in (1..=60).chain([99, 120, 200, 1_000]) {
            let tail = tail(degrees, t_975(degrees));
            assert!((tail - 0.025).abs() < 5e-5, "{degrees}: {tail}");
        }
        assert!(t_975(0).is_infinite());
    }

    #[test]
    fn more_seeds_never_widen() {
        assert!((1..500).all(|degrees| t_975(degrees) > t_975(degrees + 1)));
    }
}
