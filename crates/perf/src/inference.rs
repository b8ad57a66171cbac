//! The least time of one token of a language model: every weight is read from memory once.
//!
//! Decoding one sequence multiplies a vector with every weight matrix, so that each weight is used for one multiplication
//! and one addition; memory, not arithmetic, is the bound. Cache traffic, attention over a long context and the cost of
//! small operations come on top: a measured speed is below this one.

use dh_units::{Based, Bytes, BytesPerSec, significant};

use crate::error::{Error, above_zero};

/// The most tokens per second that one sequence can be decoded with, when `weights` are read at `memory`.
/// # Errors
/// [`Error::Profile`] or [`Error::Work`] if a figure is zero or not a number.
pub fn predict_decode(weights: Bytes, memory: BytesPerSec) -> Result<Based<f64>, Error> {
    let bandwidth = above_zero("memory", memory.0)?;
    if weights.0 == 0 {
        return Err(Error::Work { figure: "weights", value: 0.0, expected: "at least one byte" });
    }
    let rate = bandwidth / weights.as_f64();
    let basis =
        format!("at most {memory} / {weights} = {} tokens/s: every weight is read once for a token", significant(rate));
    Ok(Based::new(rate, basis))
}

/// The size of `parameters` weights of `bits` each, scales of a quantised format included in `bits`.
/// # Errors
/// [`Error::Work`] if `bits` is not from above 0 to 64.
pub fn weights(parameters: u64, bits: f64) -> Result<Based<Bytes>, Error> {
    if !(bits > 0.0 && bits <= 64.0) {
        return Err(Error::Work { figure: "bits", value: bits, expected: "a number above 0, at most 64" });
    }
    // In thousandths of a bit, so that the product stays in whole numbers.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 < bits <= 64 was checked")]
    let milli_bits = (bits * 1_000.0).round() as u64;
    let size = u128::from(parameters) * u128::from(milli_bits) / 8_000;
    let size = Bytes(u64::try_from(size).unwrap_or(u64::MAX));
    Ok(Based::new(size, format!("{parameters} parameters x {bits} bits / 8 = {size}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_megabytes_at_ten_gigabytes_per_second_are_a_hundred_tokens() {
        let rate = predict_decode(Bytes(100_000_000), BytesPerSec(10e9)).unwrap();
        assert!((rate.value - 100.0).abs() < 1e-9);
        assert_eq!(rate.basis, "at most 10 GB/s / 100 MB = 100 tokens/s: every weight is read once for a token");
        assert!(predict_decode(Bytes(0), BytesPerSec(1.0)).is_err());
        assert!(predict_decode(Bytes(1), BytesPerSec(f64::NAN)).is_err());
    }

    #[test]
    fn weights_are_parameters_times_bits() {
        assert_eq!(weights(134_515_008, 16.0).unwrap().value, Bytes(269_030_016));
        // Q4_1: 20 bytes for a block of 32 weights.
        assert_eq!(weights(32, 5.0).unwrap().value, Bytes(20));
        assert!(weights(1, 0.0).is_err() && weights(1, f64::NAN).is_err() && weights(1, 65.0).is_err());
    }
}
