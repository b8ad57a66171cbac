//! Random variates from a named stream.
//!
//! Invariant: the same seed and name give the same numbers on every machine. Sources: Steele, Lea and Flood 2014
//! (`SplitMix64`); Marsaglia and Bray 1964 (normal, polar); Marsaglia and Tsang 2000 (gamma).

use dh_core::time::Span;

use super::elementary::{exp, ln, power};
use crate::random::Stream;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Draw {
    stream: Stream,
    /// The second of a pair of normal variates.
    spare: Option<f64>,
}

/// The longest time that is drawn: a hundred years, so that sums stay below 64 bits of nanoseconds.
const NANOS_MAX: u64 = 3_200_000_000_000_000_000;

impl Draw {
    /// The stream of `seed` that is called `name`: different names are different streams.
    pub fn of(seed: u64, name: &[u64]) -> Self {
        let mut state = seed;
        for part in name {
            state = Stream::new(state ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)).next();
        }
        Self { stream: Stream::new(state), spare: None }
    }

    /// A number between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        // 52 bits and a half: exact in a float, and so is the product with 2^-52.
        (dh_units::real(self.stream.next() >> 12) + 0.5) * f64::EPSILON
    }

    /// A whole number below `bound`, each as likely as any other to one in 2^64 times the bound; 0 if the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.stream.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -ln(self.unit())
    }

    /// Normal with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square > 0.0 {
                let scale = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Log-normal: `median` times e to a normal of deviation `sigma`.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * exp(sigma * self.normal())
    }

    /// Weibull with scale 1: shape 1 is exponential, below it failures come early in life.
    pub fn weibull(&mut self, shape: f64) -> f64 {
        power(self.exponential(), 1.0 / shape)
    }

    /// Gamma with mean 1 and this coefficient of variation; 0 gives 1 always.
    pub fn gamma(&mut self, cv: f64) -> f64 {
        if cv <= 0.001 {
            return 1.0;
        }
        let shape = 1.0 / (cv * cv);
        if shape < 1.0 {
            // A gamma of one more, times a power of a uniform.
            return self.gamma_above_one(shape + 1.0) * power(self.unit(), 1.0 / shape) / shape;
        }
        self.gamma_above_one(shape) / shape
    }

    /// Gamma of a shape of 1 or more, scale 1.
    fn gamma_above_one(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if ln(self.unit()) < 0.5 * x * x + d - d * v + d * ln(v) {
                return d * v;
            }
        }
    }

    /// Pareto between two bounds.
    pub fn pareto(&mut self, bounds: (f64, f64), shape: f64) -> f64 {
        let (low, high) = bounds;
        let ratio = power(low / high, shape);
        low / power(1.0 - self.unit() * (1.0 - ratio), 1.0 / shape)
    }
}

/// Nanoseconds as a length of time, rounded to the nearest; what is no number or negative is 0, the longest a hundred years.
pub(crate) fn span(nanos: f64) -> Span {
    Span(dh_units::whole(nanos + 0.5).min(NANOS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and deviation of `count` numbers.
    fn moments(count: u32, mut each: impl FnMut() -> f64) -> (f64, f64) {
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let x = each();
            sum += x;
            squares += x * x;
        }
        let mean = sum / f64::from(count);
        (mean, (squares / f64::from(count) - mean * mean).sqrt())
    }

    /// The mean lies within four standard errors of what it should be, and the deviation within 5 %.
    fn check(name: &str, (mean, deviation): (f64, f64), each: impl FnMut() -> f64) {
        let count = 200_000;
        let found = moments(count, each);
        let error = deviation / f64::from(count).sqrt();
        assert!((found.0 - mean).abs() < 4.0 * error, "{name}: mean {} for {mean}", found.0);
        assert!((found.1 / deviation - 1.0).abs() < 0.05, "{name}: deviation {} for {deviation}", found.1);
    }

    #[test]
    fn variates_have_their_means_and_deviations() {
        let mut draw = Draw::of(11, &[]);
        check("uniform", (0.5, (1.0_f64 / 12.0).sqrt()), || draw.unit());
        check("exponential", (1.0, 1.0), || draw.exponential());
        check("normal", (0.0, 1.0), || draw.normal());
        let (mean, spread) = (0.125_f64.exp(), 0.25_f64.exp() - 1.0);
        check("log-normal", (mean, mean * spread.sqrt()), || draw.log_normal(1.0, 0.5));
        // The gamma function of 1.5 is half the root of pi, of 2 it is 1.
        let mean = std::f64::consts::PI.sqrt() / 2.0;
        check("weibull", (mean, (1.0 - mean * mean).sqrt()), || draw.weibull(2.0));
        for cv in [0.3, 1.0, 2.0, 4.0] {
            check("gamma", (1.0, cv), || draw.gamma(cv));
        }
        // Shape 1 between 1 and 100: ln 100 / 0.99, second moment 100.
        let mean = 100_f64.ln() / 0.99;
        check("pareto", (mean, (100.0 - mean * mean).sqrt()), || draw.pareto((1.0, 100.0), 1.0));
    }

    #[test]
    fn streams_of_different_names_are_not_alike() {
        let first = |name: &[u64]| Draw::of(5, name).below(u64::MAX);
        let mut seen = std::collections::BTreeSet::new();
        for a in 0..100 {
            for b in 0..100 {
                assert!(seen.insert(first(&[a, b])));
            }
        }
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
        // The first number of neighbours is uniform, too: their mean and deviation show it.
        let mut units = (0..200_000).map(|name| Draw::of(5, &[9, 0, name]).unit());
        check("first of a name", (0.5, (1.0_f64 / 12.0).sqrt()), || units.next().unwrap());
    }

    #[test]
    fn a_bounded_number_is_every_number_below_equally_often() {
        let mut draw = Draw::of(3, &[]);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[usize::try_from(draw.below(7)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(draw.below(0), 0);
    }

    #[test]
    fn lengths_round_and_saturate() {
        assert_eq!((span(1.5), span(-3.0), span(f64::NAN)), (Span(2), Span(0), Span(0)));
        assert_eq!(span(1e30), Span(3_200_000_000_000_000_000));
    }
}
