//! Numbers of a cell as whole numbers: decimals become nanoseconds or other fixed fractions without passing a float.
//!
//! Invariant: the same text gives the same number on every machine; what does not fit is refused, never wrapped.
//! Cost: one pass over the digits.

/// `text` as `value * 10^places`, rounded to the nearest (halves up). `None` if it is no decimal, negative, or too large.
/// An exponent may follow, as floats are printed.
pub(crate) fn fixed(text: &str, places: u32) -> Option<u64> {
    if let Some(digits) = digits(text) {
        return digits.checked_mul(10_u64.checked_pow(places)?);
    }
    let Some(at) = text.bytes().position(|byte| matches!(byte, b'e' | b'E')) else { return plain(text, places) };
    let (mantissa, exponent) = (text.get(..at)?, text.get(at + 1..)?);
    let exponent: i32 = exponent.parse().ok().filter(|exponent| (-EXPONENT_MAX..=EXPONENT_MAX).contains(exponent))?;
    let moved = i32::try_from(places).ok()? + exponent;
    if let Ok(places) = u32::try_from(moved) {
        return plain(mantissa, places);
    }
    let down = 10_u64.checked_pow(moved.unsigned_abs()).unwrap_or(u64::MAX);
    plain(mantissa, 0).map(|whole| whole / down + u64::from(whole % down >= down.div_ceil(2)))
}

/// Up to 18 digits and nothing else, which is what most cells are; they fit 64 bits.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut value: u64 = 0;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(value)
}

/// The largest exponent: beyond it a number is 0 or does not fit.
const EXPONENT_MAX: i32 = 60;

/// A decimal without exponent.
fn plain(text: &str, places: u32) -> Option<u64> {
    let mut value: u64 = 0;
    let mut left = places;
    let mut bytes = text.bytes();
    let mut digits = 0_u32;
    let mut point = false;
    for byte in bytes.by_ref() {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            }
            b'.' => {
                point = true;
                break;
            }
            _ => return None,
        }
    }
    let mut round = 0;
    if point {
        for (at, byte) in bytes.enumerate() {
            if !byte.is_ascii_digit() {
                return None;
            }
            digits += 1;
            if left > 0 {
                left -= 1;
                value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            } else if u32::try_from(at).ok() == Some(places) {
                round = u64::from(byte >= b'5');
            }
        }
    }
    if digits == 0 {
        return None;
    }
    value.checked_mul(10_u64.checked_pow(left)?)?.checked_add(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_round_to_the_nearest() {
        assert_eq!(fixed("12", 9), Some(12_000_000_000));
        assert_eq!(fixed("487.661836", 9), Some(487_661_836_000));
        assert_eq!(fixed("0.0000000005", 9), Some(1));
        assert_eq!(fixed("0.00000000049", 9), Some(0));
        assert_eq!(fixed("7.5", 0), Some(8));
        assert_eq!(fixed("5.", 3), Some(5000));
        assert_eq!(fixed(".25", 3), Some(250));
        assert_eq!(fixed("1.04e+03", 3), Some(1_040_000));
        assert_eq!((fixed("25e-4", 3), fixed("2.5e-9", 9), fixed("1e-30", 9)), (Some(3), Some(3), Some(0)));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "e3",
            "1e",
            "1e99",
            "1e3e3",
            "1e20",
            "1.2.3",
            " 1",
            "nan",
            "inf",
            "18446744073709551616",
        ] {
            assert_eq!(fixed(text, 0), None, "{text}");
        }
        assert_eq!(fixed("18446744073709551615", 1), None);
    }
}
