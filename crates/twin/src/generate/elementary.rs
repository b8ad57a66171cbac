//! Logarithm and exponential from exactly rounded operations only, so that every machine gets the same bits.
//!
//! Rust neither reorders nor fuses floating-point operations, and IEEE 754 fixes the result of `+`, `-`, `*`, `/`, so a fixed
//! sequence of them is the same function everywhere. Accuracy: a few units in the last place, checked against the machine's
//! library. Cost: some twenty multiplications each. Source: the reductions of Cody and Waite 1980.

/// ln 2 in two parts: the first has 32 trailing zero bits, so that its multiples by exponents are exact.
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Half the root of 2: the mantissa is brought between this and the root of 2.
const HALF_ROOT: f64 = core::f64::consts::FRAC_1_SQRT_2;

/// The natural logarithm of a positive normal number; anything else gives the logarithm of the smallest normal number.
pub(crate) fn ln(value: f64) -> f64 {
    let value = if value.is_normal() && value > 0.0 { value } else { f64::MIN_POSITIVE };
    let bits = value.to_bits();
    let mut exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > 2.0 * HALF_ROOT {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh s, s below 0.172: the series in s^2 ends at s^23 below 2^-60.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in (1..=11_u32).rev() {
        sum = (sum + 1.0 / f64::from(2 * odd + 1)) * square;
    }
    let fraction = 2.0 * s + 2.0 * s * sum;
    let exponent = f64::from(exponent);
    exponent * LN2_HIGH + (exponent * LN2_LOW + fraction)
}

/// e to the power of `value`; 0 below -708, the largest power above 708.
pub(crate) fn exp(value: f64) -> f64 {
    if value.is_nan() || value < -708.0 {
        return 0.0;
    }
    let value = value.min(708.0);
    let turns = (value / core::f64::consts::LN_2).round();
    let rest = (value - turns * LN2_HIGH) - turns * LN2_LOW;
    // |rest| is at most 0.347: its 14th power over 14! is below 2^-57.
    let mut sum = 1.0;
    for term in (1..=14_u32).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    // `turns` is a whole number between -1022 and 1022.
    let biased = dh_units::whole(turns + 1023.0).clamp(1, 2046);
    sum * f64::from_bits(biased << 52)
}

/// `base` to the power of `exponent`, for a positive base.
pub(crate) fn power(base: f64, exponent: f64) -> f64 {
    if base <= 0.0 { 0.0 } else { exp(exponent * ln(base)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Draw;

    #[test]
    fn both_agree_with_the_library_to_a_few_units() {
        let mut draw = Draw::of(7, &[1]);
        for _ in 0..200_000 {
            let x = exp((draw.unit() - 0.5) * 1400.0);
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}");
            let y = (draw.unit() - 0.5) * 80.0;
            assert!((exp(y) / y.exp() - 1.0).abs() < 2e-15, "{y}");
        }
        assert!(ln(1.0).abs() < f64::EPSILON && (exp(0.0) - 1.0).abs() < f64::EPSILON);
        assert!((power(2.0, 10.0) - 1024.0).abs() < 1e-9);
        assert!((0.0..1e-300).contains(&exp(-1e9)) && ln(0.0) < -700.0 && exp(f64::NAN).abs() < f64::EPSILON);
    }

    #[test]
    fn the_bits_are_these_on_every_machine() {
        let bits = [ln(3.0), ln(1e-9), exp(1.0), exp(-12.5), power(7.0, 0.3)].map(f64::to_bits);
        assert_eq!(bits, BITS);
    }

    /// The same sequence of operations in another language gave these, too.
    const BITS: [u64; 5] = [
        4_607_626_529_066_517_259,
        13_849_898_335_305_727_928,
        4_613_303_445_314_885_482,
        4_525_909_737_269_159_568,
        4_610_752_827_379_810_040,
    ];
}
