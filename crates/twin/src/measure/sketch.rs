//! Quantiles of whole numbers without keeping them: buckets that are as wide as their numbers are large.
//!
//! Each power of two is cut in 64 equal buckets, and a quantile is the middle of its bucket: it is off by at most 1/128 of
//! the number it stands for ([`RELATIVE_ERROR`]); numbers below 128 are exact. Count, sum, smallest and largest are exact.
//! Invariant: the order of numbers, and how sketches of parts are merged, change nothing. Cost: O(1) a number; at most 3,776
//! buckets of 8 bytes, and only from the smallest to the largest that is used (about 10 kB for a second to ten days).
//! Source: the log-linear histogram of Tene's `HdrHistogram`.

/// A quantile differs from the exact one (nearest rank) by at most this share of it.
pub const RELATIVE_ERROR: f64 = 1.0 / 128.0;

/// Buckets of one power of two, as a power of two.
const CUT: u32 = 6;

/// Counts of numbers by size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// The bucket that `counts` begins with.
    first: usize,
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
}

/// Place of the bucket of `value`: the value itself below 128, then 64 buckets for each power of two.
fn bucket(value: u64) -> usize {
    let power = (value | 1).ilog2();
    let place = if power <= CUT {
        value
    } else {
        let shift = power - CUT;
        (u64::from(shift) << CUT) + (value >> shift)
    };
    // At most 57 * 64 + 127.
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// The smallest number of bucket `place`, and the first that is above it.
fn edges(place: usize) -> (u64, u64) {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let cut = 1_u64 << CUT;
    if place < 2 * cut {
        return (place, place + 1);
    }
    let shift = place / cut - 1;
    let low = (place % cut + cut) << shift;
    (low, low.saturating_add(1 << shift))
}

impl Sketch {
    /// Counts `value` once.
    pub fn add(&mut self, value: u64) {
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        if let Some(count) = self.slot(bucket(value)) {
            *count += 1;
        }
    }

    /// Counts everything that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.least = if self.count == 0 { other.least } else { self.least.min(other.least) };
        self.most = self.most.max(other.most);
        self.count += other.count;
        self.sum += other.sum;
        for (place, more) in other.counts.iter().enumerate().filter(|(_, more)| **more > 0) {
            if let Some(count) = self.slot(other.first + place) {
                *count += more;
            }
        }
    }

    /// The counter of a bucket, which is there afterwards.
    fn slot(&mut self, place: usize) -> Option<&mut u64> {
        if self.counts.is_empty() {
            self.first = place;
        }
        if place < self.first {
            let missing = self.first - place;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = place;
        }
        let at = place - self.first;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts.get_mut(at)
    }

    /// How many numbers there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The largest; 0 where there is none.
    pub const fn most(&self) -> u64 {
        self.most
    }

    /// Their sum.
    pub const fn sum(&self) -> u128 {
        self.sum
    }

    /// The number that `per_mille` thousandths of all are not above (nearest rank), within [`RELATIVE_ERROR`]; none where
    /// there are no numbers.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = (u128::from(self.count) * u128::from(per_mille.min(1_000))).div_ceil(1_000).max(1);
        if rank >= u128::from(self.count) {
            return Some(self.most);
        }
        let mut below: u128 = 0;
        for (place, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                let (low, high) = edges(self.first + place);
                return Some((low + (high - low) / 2).clamp(self.least, self.most));
            }
        }
        Some(self.most)
    }

    /// Counts in steps of half a power of two from `floor` on, which is a power of two: lower edge, upper edge, count. The
    /// first holds all that is below `floor`; steps that are empty at both ends are left out.
    pub fn bars(&self, floor: u64) -> Vec<(u64, u64, u64)> {
        let floor = floor.max(1 << (CUT + 1)).next_power_of_two();
        let mut bars: Vec<(u64, u64, u64)> = vec![(0, floor, 0)];
        for (place, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (low, _) = edges(self.first + place);
            while bars.last().is_some_and(|(_, high, _)| low >= *high && *high < u64::MAX) {
                let from = bars.last().map_or(0, |(_, high, _)| *high);
                // From a power of two to one and a half of it, and from there to the next.
                let to =
                    if from.is_power_of_two() { from.saturating_add(from / 2) } else { from.saturating_add(from / 3) };
                bars.push((from, to, 0));
            }
            if let Some((_, _, held)) = bars.last_mut() {
                *held += count;
            }
        }
        let empty = bars.iter().take_while(|(_, _, count)| *count == 0).count();
        bars.drain(..empty);
        bars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    /// Numbers of all sizes: a random number of random bits.
    fn numbers(seed: u64, count: usize) -> Vec<u64> {
        let mut stream = Stream::new(seed);
        (0..count).map(|_| stream.next() >> (stream.next() % 64)).collect()
    }

    fn sketch(numbers: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for number in numbers {
            sketch.add(*number);
        }
        sketch
    }

    #[test]
    fn every_number_lies_in_its_bucket_and_buckets_touch() {
        let mut end = 0;
        for place in 0..=bucket(u64::MAX) {
            let (low, high) = edges(place);
            assert_eq!((low, bucket(low)), (end, place));
            if high < u64::MAX {
                assert_eq!(bucket(high - 1), place);
            }
            end = high;
        }
        assert_eq!((end, bucket(u64::MAX)), (u64::MAX, 57 * 64 + 127));
    }

    #[test]
    fn quantiles_keep_the_stated_error() {
        for seed in 0..60 {
            let mut numbers = numbers(seed, 1 + usize::try_from(seed * 37).unwrap());
            let sketch = sketch(&numbers);
            numbers.sort_unstable();
            for per_mille in [0, 1, 10, 250, 500, 900, 990, 999, 1_000] {
                let rank = (numbers.len() * per_mille).div_ceil(1_000).max(1);
                let exact = numbers[rank - 1];
                let seen = sketch.quantile(per_mille.try_into().unwrap()).unwrap();
                let error = dh_units::real(seen.abs_diff(exact));
                assert!(error <= dh_units::real(exact) * RELATIVE_ERROR, "{seed} {per_mille}: {seen}, {exact}");
            }
            assert_eq!(sketch.sum(), numbers.iter().map(|number| u128::from(*number)).sum::<u128>());
            assert_eq!((sketch.count(), sketch.most()), (numbers.len().try_into().unwrap(), *numbers.last().unwrap()));
        }
    }

    #[test]
    fn a_merge_of_parts_is_the_sketch_of_the_whole() {
        let numbers = numbers(7, 1_000);
        for cut in [0, 1, 400, 1_000] {
            let (left, right) = numbers.split_at(cut);
            let mut merged = sketch(right);
            merged.merge(&sketch(left));
            let whole = sketch(&numbers);
            assert_eq!(merged, whole);
            assert_eq!(merged.bars(1 << 30), whole.bars(1 << 30));
        }
    }

    #[test]
    fn bars_hold_every_number_once_and_touch() {
        let sketch = sketch(&numbers(3, 5_000));
        let bars = sketch.bars(1 << 30);
        assert_eq!(bars.iter().map(|(_, _, count)| count).sum::<u64>(), sketch.count());
        assert!(bars.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1), "{bars:?}");
        assert_eq!(Sketch::default().bars(1 << 30), []);
        assert_eq!(Sketch::default().quantile(500), None);
    }
}
