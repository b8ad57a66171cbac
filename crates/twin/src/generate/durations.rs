//! How long a job runs at full speed.

use dh_core::time::Span;

use super::draw::{Draw, span};
use super::elementary::{exp, ln};
use super::mix::{Published, Weights};

/// Nanoseconds of a second.
const NANOS: f64 = 1e9;

/// Steps to each side of a numeric mean, and draws of one.
const GRID: i32 = 4_500;
const DRAWS: u32 = 100_000;

/// A law of lengths; every drawn length lies between its bounds.
#[derive(Debug, Clone, PartialEq)]
pub enum Durations {
    /// Always the same.
    Fixed(Span),
    /// Log-normal, cut at the longest.
    LogNormal {
        /// Half are shorter, before the cut.
        median: Span,
        /// The deviation of the logarithm.
        sigma: f64,
        /// None is longer.
        longest: Span,
    },
    /// Pareto between two bounds.
    Pareto {
        /// None is shorter.
        shortest: Span,
        /// None is longer.
        longest: Span,
        /// Smaller is a heavier tail.
        shape: f64,
    },
    /// Lengths that were measured, by weight.
    Empirical(Weights<Span>),
}

impl Durations {
    /// Log-normal with the published median and mean, cut at the published longest (so the mean is a little below).
    pub fn like(published: Published) -> Self {
        // The mean of a log-normal is its median times e to half the square of sigma.
        let sigma = (2.0 * ln(published.seconds_mean / published.seconds_median)).max(0.0).sqrt();
        Self::LogNormal {
            median: span(published.seconds_median * NANOS),
            sigma,
            longest: span(published.seconds_max * NANOS),
        }
    }

    /// The mean, seconds. That of a Pareto law is a mean of draws from a fixed seed.
    pub fn mean_seconds(&self) -> f64 {
        let seconds = |length: Span| dh_units::real(length.0) / NANOS;
        match self {
            Self::Fixed(length) => seconds(*length),
            Self::LogNormal { median, sigma, longest } => {
                // The sum over a fine grid of the normal variable: what lies beyond 9 deviations is below one in 10^18.
                let (mut sum, mut weights) = (0.0, 0.0);
                for step in -GRID..=GRID {
                    let z = f64::from(step) * 9.0 / f64::from(GRID);
                    let weight = exp(-z * z / 2.0);
                    sum += weight * (seconds(*median) * exp(sigma * z)).min(seconds(*longest));
                    weights += weight;
                }
                sum / weights
            }
            Self::Pareto { .. } => {
                let mut draw = Draw::of(0, &[]);
                let sum: f64 = (0..DRAWS).map(|_| seconds(self.draw(&mut draw))).sum();
                sum / f64::from(DRAWS)
            }
            Self::Empirical(lengths) => {
                let (mut sum, mut weights) = (0.0, 0.0);
                for (length, weight) in lengths.shares() {
                    sum += seconds(length) * dh_units::real(weight);
                    weights += dh_units::real(weight);
                }
                sum / f64::max(weights, 1.0)
            }
        }
    }

    /// A length.
    pub fn draw(&self, draw: &mut Draw) -> Span {
        match self {
            Self::Fixed(length) => *length,
            Self::LogNormal { median, sigma, longest } => {
                span(draw.log_normal(dh_units::real(median.0), *sigma)).min(*longest)
            }
            Self::Pareto { shortest, longest, shape } => {
                let bounds = (dh_units::real(shortest.0.max(1)), dh_units::real(longest.0.max(1)));
                span(draw.pareto(bounds, *shape)).clamp(*shortest, (*longest).max(*shortest))
            }
            Self::Empirical(lengths) => lengths.draw(draw).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::published;

    #[test]
    fn published_lengths_have_their_median_and_stay_below_the_longest() {
        for name in ["philly", "helios", "seren"] {
            let like = published(name).unwrap();
            let law = Durations::like(like);
            let mut draw = Draw::of(4, &[]);
            let mut lengths: Vec<u64> = (0..50_001).map(|_| law.draw(&mut draw).0).collect();
            lengths.sort_unstable();
            let median = dh_units::real(lengths[25_000]) / NANOS;
            assert!((median / like.seconds_median - 1.0).abs() < 0.05, "{name}: {median}");
            assert!(dh_units::real(lengths[50_000]) <= like.seconds_max * NANOS + 1.0);
        }
    }

    #[test]
    fn means_are_those_of_many_draws() {
        let cut = Span::from_secs(3_000);
        let measured = Weights::new([(Span::from_secs(1), 3), (Span::from_secs(5), 1)]).unwrap();
        for law in [
            Durations::LogNormal { median: Span::from_secs(600), sigma: 0.8, longest: Span(u64::MAX) },
            Durations::LogNormal { median: Span::from_secs(600), sigma: 1.2, longest: cut },
            Durations::Pareto { shortest: Span::from_secs(60), longest: cut, shape: 1.2 },
            Durations::Empirical(measured),
        ] {
            let mut draw = Draw::of(9, &[]);
            let drawn: f64 = (0..100_000).map(|_| dh_units::real(law.draw(&mut draw).0) / NANOS).sum::<f64>() / 1e5;
            assert!((law.mean_seconds() / drawn - 1.0).abs() < 0.02, "{law:?}: {} for {drawn}", law.mean_seconds());
        }
    }

    #[test]
    fn bounds_hold_whatever_the_law() {
        let (shortest, longest) = (Span::from_secs(60), Span::from_secs(6000));
        let law = Durations::Pareto { shortest, longest, shape: 0.8 };
        let mut draw = Draw::of(4, &[]);
        assert!((0..10_000).map(|_| law.draw(&mut draw)).all(|length| shortest <= length && length <= longest));
        let measured = Durations::Empirical(Weights::new([(shortest, 1), (longest, 1)]).unwrap());
        assert!((0..100).map(|_| measured.draw(&mut draw)).all(|length| length == shortest || length == longest));
    }
}
