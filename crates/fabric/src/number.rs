//! Whole numbers of switches and ports: divisors, rounding up, and indices as 32 bits.
//!
//! Invariant: [`crate::request::check`] bounds every input, so that no product of counts leaves `u64` and every index `u32`.

/// The divisors of `value` (at least 1) in ascending order.
pub(crate) fn divisors(value: u64) -> Vec<u64> {
    let mut low = Vec::new();
    let mut high = Vec::new();
    let mut candidate = 1;
    while candidate * candidate <= value {
        if value.is_multiple_of(candidate) {
            low.push(candidate);
            if candidate * candidate != value {
                high.push(value / candidate);
            }
        }
        candidate += 1;
    }
    low.extend(high.into_iter().rev());
    low
}

/// An index or a port that the limits of a request keep below 2^32.
pub(crate) fn small(index: u64) -> u32 {
    debug_assert!(u32::try_from(index).is_ok(), "{index} is above the limit that the request was checked against");
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_are_complete_and_ascending() {
        for value in 1..=200 {
            let brute: Vec<u64> = (1..=value).filter(|divisor| value % divisor == 0).collect();
            assert_eq!(divisors(value), brute);
        }
    }
}
