//! Counts as real numbers, and back: the casts that models need, in one place.

/// `count` as a real number; exact below 2^53, where counts of things in a hall lie.
#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 is an estimate anyway")]
pub const fn real(count: u64) -> f64 {
    count as f64
}

/// The whole part of `value`; 0 for what is negative or not a number, `u64::MAX` for what is too large.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates at both ends of u64 and gives 0 for what is not a number, as the doc says"
)]
pub const fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_saturate() {
        assert_eq!((whole(2.9), whole(-1.0), whole(f64::NAN), whole(1e30)), (2, 0, 0, u64::MAX));
        assert!((real(1 << 53) - 9_007_199_254_740_992.0).abs() < 0.5);
    }
}
