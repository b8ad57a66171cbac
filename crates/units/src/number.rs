//! The number in front of a unit: digits, at most one point, at most one exponent.
//!
//! Counts (bytes, tokens) are computed in whole numbers, so that no byte of "16777217.000000001 TB" is lost to rounding
//! unseen; what does not fit 64 bits is refused.

/// A number as written, not rounded to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal<'a> {
    /// All its characters, as `f64` reads them.
    text: &'a str,
    /// The digits without the point.
    digits: u128,
    /// The power of ten that the digits are multiplied with.
    exponent: i32,
}

/// Why a number cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadNumber {
    /// There are no digits where a number must start.
    Missing,
    /// More digits or a larger exponent than any quantity has.
    TooLong,
    /// Too large for the quantity.
    TooLarge,
    /// Not zero, and smaller than the smallest amount.
    TooSmall,
}

/// Digits of a number beyond which we do not read; `u128` holds 38.
const DIGITS_MAX: u32 = 34;

/// The number at the start of `text`, and what follows it.
pub(crate) fn scan(text: &str) -> Result<(Decimal<'_>, &str), BadNumber> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut digits: u128 = 0;
    let mut count: u32 = 0;
    let mut seen = false;
    let mut exponent: i32 = 0;
    let mut point = false;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                // Leading zeros are not digits of the value.
                if count > 0 || *byte != b'0' {
                    count += 1;
                }
                if count > DIGITS_MAX || (point && exponent < -400) {
                    return Err(BadNumber::TooLong);
                }
                digits = digits * 10 + u128::from(byte - b'0');
                exponent -= i32::from(point);
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if !seen {
        return Err(BadNumber::Missing);
    }
    let (power, end) = scan_exponent(bytes, at)?;
    let (number, rest) = text.split_at(end);
    Ok((Decimal { text: number, digits, exponent: exponent + power }, rest))
}

/// An exponent at `at`, and where it ends. `1 EB` has none: an exponent needs digits.
fn scan_exponent(bytes: &[u8], at: usize) -> Result<(i32, usize), BadNumber> {
    if !matches!(bytes.get(at), Some(b'e' | b'E')) {
        return Ok((0, at));
    }
    let (negative, start) = match bytes.get(at + 1) {
        Some(b'-') => (true, at + 2),
        Some(b'+') => (false, at + 2),
        _ => (false, at + 1),
    };
    let mut end = start;
    let mut value: i32 = 0;
    while let Some(byte @ b'0'..=b'9') = bytes.get(end) {
        value = value * 10 + i32::from(byte - b'0');
        if value > 400 {
            return Err(BadNumber::TooLong);
        }
        end += 1;
    }
    if end == start {
        return Ok((0, at));
    }
    Ok((if negative { -value } else { value }, end))
}

impl Decimal<'_> {
    /// `self * num / den` as a whole number, rounded to the nearest.
    pub(crate) fn whole(self, num: u64, den: u64) -> Result<u64, BadNumber> {
        if self.digits == 0 {
            return Ok(0);
        }
        let mut top = self.digits;
        let mut bottom = u128::from(den);
        // A trailing zero of the digits and a negative exponent cancel; this keeps long but harmless numbers in range.
        let mut exponent = self.exponent;
        while exponent < 0 && top.is_multiple_of(10) {
            top /= 10;
            exponent += 1;
        }
        let power = 10_u128.checked_pow(exponent.unsigned_abs());
        match (exponent < 0, power) {
            (false, None) => return Err(BadNumber::TooLarge),
            (false, Some(power)) => top = top.checked_mul(power).ok_or(BadNumber::TooLarge)?,
            // 34 digits over more than 38 places are less than one of any base unit times 10^-4; only the exa units could
            // lift them above, and nobody means that.
            (true, None) => return Err(BadNumber::TooSmall),
            (true, Some(power)) => bottom = bottom.checked_mul(power).ok_or(BadNumber::TooSmall)?,
        }
        let common = greatest_common_divisor(u128::from(num), bottom);
        let num = u128::from(num) / common;
        let bottom = bottom / common;
        // The whole part and the remainder are scaled apart, so that many digits after the point do not overflow.
        let whole = (top / bottom).checked_mul(num).ok_or(BadNumber::TooLarge)?;
        let part = (top % bottom).checked_mul(num).ok_or(BadNumber::TooLong)?;
        let rounded = part.checked_add(bottom / 2).ok_or(BadNumber::TooLong)? / bottom;
        let value = whole.checked_add(rounded).ok_or(BadNumber::TooLarge)?;
        match u64::try_from(value) {
            Err(_) => Err(BadNumber::TooLarge),
            Ok(0) => Err(BadNumber::TooSmall),
            Ok(value) => Ok(value),
        }
    }

    /// `self * num / den` as a real number.
    #[expect(clippy::cast_precision_loss, reason = "unit factors are powers of ten and two below 2^63, exact as f64")]
    pub(crate) fn real(self, num: u64, den: u64) -> Result<f64, BadNumber> {
        let number: f64 = self.text.parse().map_err(|_| BadNumber::Missing)?;
        let value = number * num as f64 / den as f64;
        if !value.is_finite() {
            return Err(BadNumber::TooLarge);
        }
        if value == 0.0 && self.digits != 0 {
            return Err(BadNumber::TooSmall);
        }
        Ok(value)
    }
}

fn greatest_common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponent_needs_digits_so_an_exabyte_stays_a_unit() {
        let (number, rest) = scan("1EB").unwrap();
        assert_eq!((number.digits, number.exponent, rest), (1, 0, "EB"));
        let (number, rest) = scan("1.50e3B").unwrap();
        assert_eq!((number.digits, number.exponent, rest), (150, 1, "B"));
        assert_eq!(scan("W"), Err(BadNumber::Missing));
        assert_eq!(scan("."), Err(BadNumber::Missing));
        assert_eq!(scan("1e999999999999"), Err(BadNumber::TooLong));
    }

    #[test]
    fn whole_numbers_are_exact_to_the_last_byte() {
        let whole = |text, num, den| scan(text).unwrap().0.whole(num, den);
        assert_eq!(whole("18446744073709551615", 1, 1), Ok(u64::MAX));
        assert_eq!(whole("18446744073709551616", 1, 1), Err(BadNumber::TooLarge));
        assert_eq!(whole("16777217.000000001", 1_000_000_000, 1), Ok(16_777_217_000_000_001));
        assert_eq!(whole("1.5", 1 << 40, 1), Ok(3 << 39));
        assert_eq!(whole("12", 1, 8), Ok(2));
        assert_eq!(whole("0.1", 1, 1), Err(BadNumber::TooSmall));
        assert_eq!(whole("0.0000", 1, 1), Ok(0));
        assert_eq!(whole("1e400", 1, 1), Err(BadNumber::TooLarge));
    }
}
