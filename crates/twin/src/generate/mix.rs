//! Choices by weight: sizes, queues, users, priorities; and the published clusters that a synthetic one can be like.
//!
//! Invariant: weights are whole numbers, and a choice is a binary search over their sums: exact, in the order given.

use super::draw::Draw;
use super::elementary::power;

/// Values with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights<T> {
    /// Each value with the sum of weights up to it.
    sums: Vec<(u64, T)>,
}

impl<T: Copy> Weights<T> {
    /// The choice among `values`; those of weight 0 are left out. `None` if nothing is left, or the sum exceeds 64 bits.
    pub fn new(values: impl IntoIterator<Item = (T, u64)>) -> Option<Self> {
        let mut sums = Vec::new();
        let mut sum: u64 = 0;
        for (value, weight) in values {
            if weight > 0 {
                sum = sum.checked_add(weight)?;
                sums.push((sum, value));
            }
        }
        (!sums.is_empty()).then_some(Self { sums })
    }

    /// Always the same value.
    pub fn always(value: T) -> Self {
        Self { sums: vec![(1, value)] }
    }

    /// A value.
    pub fn draw(&self, draw: &mut Draw) -> Option<T> {
        let total = self.sums.last().map_or(0, |(sum, _)| *sum);
        let at = draw.below(total);
        let place = self.sums.partition_point(|(sum, _)| *sum <= at);
        self.sums.get(place).map(|(_, value)| *value)
    }

    /// Values with the share of each, in parts of 2^32.
    pub fn shares(&self) -> impl Iterator<Item = (T, u64)> {
        let total = self.sums.last().map_or(1, |(sum, _)| *sum);
        let mut before = 0;
        self.sums.iter().map(move |(sum, value)| {
            let weight = u128::from(sum - before) << 32;
            before = *sum;
            (*value, u64::try_from(weight / u128::from(total)).unwrap_or(u64::MAX))
        })
    }
}

impl Weights<u16> {
    /// Zipf over `count` of them: the n-th has a weight of n to the power of minus `exponent`.
    pub fn zipf(count: u16, exponent: f64) -> Option<Self> {
        Self::new((0..count).map(|n| {
            let weight = power(f64::from(n) + 1.0, -exponent) * 1e12;
            (n, dh_units::whole(weight))
        }))
    }
}

/// What is published of a cluster's jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The cluster.
    pub name: &'static str,
    /// Accelerators of a job, the mean.
    pub accelerators_mean: f64,
    /// Accelerators of a job, the most.
    pub accelerators_max: u32,
    /// Run time, seconds, the mean.
    pub seconds_mean: f64,
    /// Run time, seconds, the median.
    pub seconds_median: f64,
    /// Run time, seconds, the longest.
    pub seconds_max: f64,
}

/// Clusters whose median job has one accelerator. Source: InternLM/AcmeTrace, cluster summary (Hu et al. 2024, "Characterization
/// of Large Language Model Development in the Datacenter").
const PUBLISHED: [Published; 3] = [
    Published {
        name: "philly",
        accelerators_mean: 1.928,
        accelerators_max: 128,
        seconds_mean: 18_006.055,
        seconds_median: 874.0,
        seconds_max: 4_240_676.0,
    },
    Published {
        name: "helios",
        accelerators_mean: 3.716,
        accelerators_max: 2_048,
        seconds_mean: 6_651.681,
        seconds_median: 206.0,
        seconds_max: 4_320_009.0,
    },
    Published {
        name: "seren",
        accelerators_mean: 5.68,
        accelerators_max: 1_024,
        seconds_mean: 1_414.335,
        seconds_median: 122.0,
        seconds_max: 1_209_604.0,
    },
];

/// The published cluster called `name`.
pub fn published(name: &str) -> Option<Published> {
    PUBLISHED.iter().find(|cluster| cluster.name == name).copied()
}

/// Sizes in powers of two up to the published largest, weights falling by one factor from size to size, so chosen that the
/// mean is the published one. That weights fall so is an assumption; mean and largest are published, and so is the median.
pub fn powers_of_two(like: Published) -> Weights<u32> {
    let largest = like.accelerators_max.max(1).ilog2();
    let mean = |factor: f64| {
        let (mut weights, mut sizes, mut weight) = (0.0, 0.0, 1.0);
        for exponent in 0..=largest {
            weights += weight;
            sizes += weight * f64::from(1_u32 << exponent);
            weight *= factor;
        }
        sizes / weights
    };
    let (mut low, mut high) = (0.0, 2.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if mean(middle) < like.accelerators_mean { low = middle } else { high = middle }
    }
    let mut weight = 1e15;
    let sizes = (0..=largest).map(|exponent| {
        let this = (1_u32 << exponent, dh_units::whole(weight).max(1));
        weight *= low;
        this
    });
    Weights::new(sizes).unwrap_or_else(|| Weights::always(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_follow_their_weights() {
        let weights = Weights::new([('a', 1), ('b', 0), ('c', 3)]).unwrap();
        let mut draw = Draw::of(1, &[]);
        let found = (0..40_000).filter(|_| weights.draw(&mut draw) == Some('c')).count();
        assert!((29_600..30_400).contains(&found), "{found}");
        assert_eq!(weights.shares().collect::<Vec<_>>(), [('a', 1 << 30), ('c', 3 << 30)]);
        assert!(Weights::new([('a', 0)]).is_none() && Weights::new([('a', u64::MAX), ('b', 1)]).is_none());
    }

    #[test]
    fn zipf_falls_with_the_rank() {
        let weights = Weights::zipf(4, 1.0).unwrap();
        let shares: Vec<u64> = weights.shares().map(|(_, share)| share).collect();
        assert!(shares[0].abs_diff(2 * shares[1]) <= 2 && shares[0].abs_diff(4 * shares[3]) <= 4, "{shares:?}");
    }

    #[test]
    fn published_mixes_have_their_mean_and_median() {
        for like in PUBLISHED {
            let sizes = powers_of_two(like);
            let shares: Vec<(u32, u64)> = sizes.shares().collect();
            let share = |share: u64| dh_units::real(share) / 4_294_967_296.0;
            let mean: f64 = shares.iter().map(|(size, part)| f64::from(*size) * share(*part)).sum();
            assert!((mean / like.accelerators_mean - 1.0).abs() < 1e-3, "{}: {mean}", like.name);
            assert_eq!(shares.last().map(|(size, _)| *size), Some(like.accelerators_max));
            assert!(share(shares[0].1) > 0.49, "{}: the median is 1", like.name);
            let (mut draw, count) = (Draw::of(2, &[]), 400_000);
            let drawn: u64 = (0..count).map(|_| u64::from(sizes.draw(&mut draw).unwrap())).sum();
            assert!(
                (dh_units::real(drawn) / f64::from(count) / like.accelerators_mean - 1.0).abs() < 0.1,
                "{}",
                like.name
            );
        }
    }
}
