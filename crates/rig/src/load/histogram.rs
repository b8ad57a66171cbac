//! Times, in buckets of at most 1.6 % width from a nanosecond to an hour: 64 to each power of two.

const SUB: u64 = 64;
const BUCKETS: usize = 64 * 64;

/// A histogram of nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn add(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(place(nanos)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (to, from) in self.counts.iter_mut().zip(&other.counts) {
            *to += from;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; 0 of none.
    pub fn mean(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// The largest.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The time that so many in ten thousand do not exceed: 5,000 for the median, 9,900 for p99.
    pub fn quantile(&self, of_ten_thousand: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(of_ten_thousand)).div_ceil(10_000).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted {
                return upper(place).min(self.max);
            }
        }
        self.max
    }
}

fn place(nanos: u64) -> usize {
    let exponent = u64::from((nanos | SUB).ilog2() - SUB.ilog2());
    let within = (nanos >> exponent) & (SUB - 1);
    // Below 64 the bucket is the number itself; then the top bit says the group, the six below it the place there.
    let group = if nanos < SUB { 0 } else { exponent + 1 };
    usize::try_from(group * SUB + within).unwrap_or(BUCKETS - 1).min(BUCKETS - 1)
}

/// The largest number of a bucket.
fn upper(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(0);
    let (group, within) = (place / SUB, place % SUB);
    match group {
        0 => within,
        group => ((SUB + within + 1) << (group - 1)).saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::default();
        let mut all: Vec<u64> = (0..10_000).map(|number| crate::mix(number, 1) % (1 << (number % 40))).collect();
        for nanos in &all {
            histogram.add(*nanos);
        }
        all.sort_unstable();
        for of in [1, 100, 5_000, 9_000, 9_900, 9_999, 10_000] {
            let truth = all[(usize::try_from(of).unwrap() * all.len()).div_ceil(10_000) - 1];
            let got = histogram.quantile(of);
            assert!(got >= truth && got <= truth + truth / 60 + 1, "{of}: {got} for {truth}");
        }
        assert_eq!(
            (histogram.count(), histogram.max(), Histogram::default().quantile(5_000)),
            (10_000, *all.last().unwrap(), 0)
        );
    }
}
