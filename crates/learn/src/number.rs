//! The few numeric conversions that this crate needs, each with the reason why nothing is lost.

/// A count as a real number; exact below 2^53, and no count here comes near that.
#[expect(clippy::cast_precision_loss, reason = "counts of samples and bytes stay below 2^53")]
pub(crate) const fn real(count: usize) -> f64 {
    count as f64
}

/// A count as a real number; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of samples and bytes stay below 2^53")]
pub(crate) const fn real64(count: u64) -> f64 {
    count as f64
}

/// The nearest single-precision number, which is what is wanted of a hyperparameter or an average.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is the purpose")]
pub(crate) const fn single(value: f64) -> f32 {
    value as f32
}

/// A length as 64 bits: `usize` is never wider on the machines that this crate builds for.
pub(crate) const fn wide(length: usize) -> u64 {
    length as u64
}

/// A count that is small by construction, saturating where it is not.
pub(crate) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// An index that came from this machine's memory and therefore fits it, saturating where it does not.
pub(crate) fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
