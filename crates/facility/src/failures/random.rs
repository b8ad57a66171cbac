//! A stream of random numbers from a seed: `SplitMix64` (Steele, Lea, Flood 2014), one addition and a mix for each.
//!
//! Its period of 2^64 and its speed are ample for some thousand failures; the same seed gives the same run everywhere.

use dh_units::real;

/// The stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    /// The stream of `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in (0, 1]: 53 bits, and never 0, so that its logarithm is finite.
    pub(crate) fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
        (real(self.next() >> 11) + 1.0) * STEP
    }

    /// A Weibull number of mean 1 and `shape`; shape 1 is exponential. By inversion of `1 - e^(-(x/scale)^shape)`.
    pub(crate) fn weibull(&mut self, shape: f64) -> f64 {
        let exponential = -self.unit().ln();
        exponential.powf(1.0 / shape) / gamma(1.0 + 1.0 / shape)
    }
}

/// The gamma function above 0.5, by Lanczos' approximation (g = 7, 9 terms; relative error below 1e-14).
fn gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let mut sum = 0.999_999_999_999_809_9;
    let mut at = x;
    for term in TERMS {
        at += 1.0;
        sum += term / at;
    }
    let t = x + 7.5;
    (2.0 * std::f64::consts::PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_splitmix64() {
        let first = |seed| {
            let mut stream = Stream::new(seed);
            [stream.next(), stream.next(), stream.next()]
        };
        assert_eq!(first(0), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_eq!(first(1_234_567), [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn gamma_is_a_factorial_between_whole_numbers_too() {
        for (x, expected) in [(1.0, 1.0), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((gamma(x) / expected - 1.0).abs() < 1e-13, "{x}: {}", gamma(x));
        }
        assert!((gamma(1.5) / (std::f64::consts::PI.sqrt() / 2.0) - 1.0).abs() < 1e-13);
    }

    #[test]
    fn weibull_numbers_have_mean_one_and_the_variance_of_their_shape() {
        const DRAWS: u32 = 100_000;
        for shape in [0.7, 1.0, 1.5] {
            let mut stream = Stream::new(7);
            let draws: Vec<f64> = (0..DRAWS).map(|_| stream.weibull(shape)).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(DRAWS);
            let variance = draws.iter().map(|x| (x - 1.0).powi(2)).sum::<f64>() / f64::from(DRAWS);
            let expected = gamma(1.0 + 2.0 / shape) / gamma(1.0 + 1.0 / shape).powi(2) - 1.0;
            // Five standard errors of the mean.
            assert!((mean - 1.0).abs() < 5.0 * (expected / f64::from(DRAWS)).sqrt(), "{shape}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.1, "{shape}: {variance} is not {expected}");
        }
    }
}
