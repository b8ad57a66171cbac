//! Latencies counted in buckets that grow with the value: percentiles to within one per cent, at any length of a run.
//!
//! Each power of two has 128 buckets. Cost: 57 KiB, a shift and an increment a value.

/// Buckets of each power of two, as a power of two.
const FINE_BITS: u32 = 7;
const FINE: u64 = 1 << FINE_BITS;

/// Counts of values; the unit is the caller's.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(u64::MAX) + 1], count: 0, sum: 0, max: 0 }
    }
}

fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(FINE_BITS + 1);
    let within = value >> shift;
    usize::try_from(u64::from(shift) * FINE + within).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn top(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * FINE {
        return bucket;
    }
    let shift = bucket / FINE - 1;
    let within = bucket - shift * FINE;
    (within << shift) + ((1_u64 << shift) - 1)
}

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    pub(crate) fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn max(&self) -> u64 {
        self.max
    }

    pub(crate) fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// The value that `per_mille` thousandths of all values do not exceed.
    pub(crate) fn at(&self, per_mille: u64) -> u64 {
        let rank = u128::from(self.count) * u128::from(per_mille);
        let mut seen = 0_u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count) * 1_000;
            if *count > 0 && seen >= rank {
                return top(bucket).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_without_gaps_and_narrow() {
        let mut last = 0;
        for power in 0..64 {
            for value in [1_u64 << power, (1 << power) + (1 << power) / 3, (1_u64 << power) + ((1 << power) - 1)] {
                let bucket = bucket(value);
                assert!(bucket >= last && top(bucket) >= value, "{value}");
                assert!(top(bucket) - value <= value / 128, "{value}");
                assert!(bucket == 0 || top(bucket - 1) < value, "{value}");
                last = bucket;
            }
        }
        assert_eq!(top(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        let mut half = Histogram::default();
        for value in 1..=10_000_u64 {
            if value % 2 == 0 { histogram.add(value * 1_000) } else { half.add(value * 1_000) }
        }
        histogram.join(&half);
        assert_eq!(histogram.count(), 10_000);
        for (per_mille, exact) in [(500, 5_000_000), (990, 9_900_000), (999, 9_990_000), (1_000, 10_000_000)] {
            let found = histogram.at(per_mille);
            assert!(found >= exact && found <= exact + exact / 100, "{per_mille}: {found}");
        }
        assert_eq!((histogram.mean(), histogram.max()), (5_000_500, 10_000_000));
        assert_eq!(Histogram::default().at(990), 0);
    }
}
