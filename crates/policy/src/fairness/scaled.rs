//! Whole numbers over many powers of two, and the growth 2^(t/h) in them: so that usage decays without being touched.
//!
//! What was used at time `t` counts half after each half-life `h`. Instead of lowering what is stored, what comes later is
//! stored larger: an amount used at `t` is stored as amount x 2^(t/h). All stored values then fall together as time passes,
//! and their order and their ratios stand still. A value is a 64-bit mantissa with its highest bit set, and an exponent of
//! two: it neither overflows nor needs a new epoch for 2^31 half-lives.
//!
//! Invariant: integer arithmetic only, rounded down, so two machines agree to the last bit. One operation is wrong by at most
//! 2^-63 of its result. Cost: a few nanoseconds; [`growth`] is five multiplications.

use dh_core::SimTime;
use dh_core::time::Span;
use serde::{Deserialize, Serialize};

/// `mantissa` x 2^`exponent`. Zero has mantissa 0 and the least exponent; else the highest bit of the mantissa is set, so
/// comparing exponents, then mantissas, compares values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Scaled {
    exponent: i32,
    mantissa: u64,
}

impl Scaled {
    pub(super) const ZERO: Self = Self { exponent: i32::MIN, mantissa: 0 };

    /// The 64 highest bits of `value` x 2^`exponent`.
    fn of(value: u128, exponent: i32) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        let lift = value.leading_zeros();
        let mantissa = u64::try_from((value << lift) >> 64).unwrap_or(u64::MAX);
        let up = 64 - i32::try_from(lift).unwrap_or(0);
        Self { exponent: exponent.saturating_add(up), mantissa }
    }

    pub(super) fn whole(value: u64) -> Self {
        Self::of(u128::from(value), 0)
    }

    /// One over `value`; zero for zero.
    pub(super) fn one_over(value: u128) -> Self {
        Self::of(u128::MAX.checked_div(value).unwrap_or(0), -128)
    }

    pub(super) fn times(self, other: Self) -> Self {
        let product = u128::from(self.mantissa) * u128::from(other.mantissa);
        Self::of(product, self.exponent.saturating_add(other.exponent))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let (large, small) = if self > other { (self, other) } else { (other, self) };
        if small.mantissa == 0 {
            return large;
        }
        let apart = large.exponent.saturating_sub(small.exponent);
        let Some(aligned) =
            u32::try_from(apart).ok().and_then(|apart| (u128::from(small.mantissa) << 63).checked_shr(apart))
        else {
            return large;
        };
        Self::of((u128::from(large.mantissa) << 63) + aligned, large.exponent.saturating_sub(63))
    }

    /// What is left of it without `other`; zero if that is larger.
    pub(super) fn less(self, other: Self) -> Self {
        if self <= other {
            return Self::ZERO;
        }
        let apart = u32::try_from(self.exponent.saturating_sub(other.exponent)).unwrap_or(u32::MAX);
        let taken = (u128::from(other.mantissa) << 63).checked_shr(apart).unwrap_or(0);
        Self::of((u128::from(self.mantissa) << 63) - taken, self.exponent.saturating_sub(63))
    }

    /// It divided by `other`; zero if that is zero.
    pub(super) fn over(self, other: Self) -> Self {
        let quotient = (u128::from(self.mantissa) << 64).checked_div(u128::from(other.mantissa)).unwrap_or(0);
        Self::of(quotient, self.exponent.saturating_sub(other.exponent).saturating_sub(64))
    }

    /// It in thousandths, rounded down: for reports.
    pub(super) fn milli(self) -> u64 {
        let wide = u128::from(self.mantissa) * 1000;
        let value = match u32::try_from(self.exponent) {
            Ok(up) if up < wide.leading_zeros() => wide << up,
            Ok(_) => u128::MAX,
            Err(_) => wide.checked_shr(self.exponent.unsigned_abs()).unwrap_or(0),
        };
        u64::try_from(value).unwrap_or(u64::MAX)
    }
}

/// Bits of the fraction of a half-life: 1 microsecond in 12 days.
const BITS: u32 = 40;

/// Of those, how many one table covers.
const DIGIT: usize = 8;

/// 2^(d/256), 2^(d/256^2), .. for each digit d of the fraction, in units of 2^-62.
static POWERS: [[u64; 1 << DIGIT]; BITS as usize / DIGIT] = powers();

#[expect(clippy::cast_possible_truncation, reason = "a power of 2 below 2, in units of 2^-62, is below 2^63")]
const fn powers() -> [[u64; 1 << DIGIT]; BITS as usize / DIGIT] {
    let mut tables = [[1 << 62; 1 << DIGIT]; BITS as usize / DIGIT];
    let mut root: u128 = 2 << 62;
    let mut table = 0;
    while table < tables.len() {
        // Each bit of a digit is worth the root of what the bit above it is worth.
        let mut bit = 1 << DIGIT >> 1;
        while bit > 0 {
            root = (root << 62).isqrt();
            let mut digit = 0;
            while digit < 1 << DIGIT {
                if digit & bit != 0 {
                    tables[table][digit] = ((tables[table][digit] as u128 * root) >> 62) as u64;
                }
                digit += 1;
            }
            bit >>= 1;
        }
        table += 1;
    }
    tables
}

/// 2^(t/h) at `now`, counted in steps of 2^-40 half-lives.
pub(super) fn growth(now: SimTime, half_life: Span) -> Scaled {
    let half_life = half_life.0.max(1);
    let exponent = i32::try_from(now.0 / half_life).unwrap_or(i32::MAX);
    let fraction = (u128::from(now.0 % half_life) << BITS) / u128::from(half_life);
    let digits = u64::try_from(fraction).unwrap_or(0).to_be_bytes();
    let mut value: u128 = 1 << 62;
    for (table, digit) in POWERS.iter().zip(&digits[digits.len() - POWERS.len()..]) {
        value = (value * u128::from(table[usize::from(*digit)])) >> 62;
    }
    Scaled::of(value, exponent.saturating_sub(62))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_the_fraction_counts() {
        let whole = Span(1 << BITS);
        for bit in 0..BITS {
            let exact = (dh_units::real(1 << bit) / dh_units::real(1 << BITS)).exp2();
            close(growth(SimTime(1 << bit), whole), exact);
        }
        assert!((0..1 << 12).all(|t| growth(SimTime(t), whole) < growth(SimTime(t + 1), whole)));
    }

    /// The `SplitMix64` stream.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn value(scaled: Scaled) -> f64 {
        if scaled == Scaled::ZERO { 0.0 } else { dh_units::real(scaled.mantissa) * f64::from(scaled.exponent).exp2() }
    }

    fn close(scaled: Scaled, expected: f64) {
        assert!((value(scaled) - expected).abs() <= expected.abs() * 1e-12, "{} is not {expected}", value(scaled));
    }

    #[test]
    fn arithmetic_agrees_with_floats() {
        let mut seed = 1;
        for _ in 0..20_000 {
            let a = random(&mut seed) >> (random(&mut seed) % 64);
            let b = random(&mut seed) >> (random(&mut seed) % 64);
            let (x, y) = (Scaled::whole(a), Scaled::whole(b));
            let (fa, fb) = (dh_units::real(a), dh_units::real(b));
            close(x.plus(y), fa + fb);
            close(x.times(y), fa * fb);
            if b > 0 {
                close(x.over(y), fa / fb);
            }
            assert_eq!(x.cmp(&y), a.cmp(&b));
            if a.abs_diff(b) > a / 1000 {
                close(x.less(y), (fa - fb).max(0.0));
            }
            if a > 0 {
                close(Scaled::one_over(u128::from(a)), 1.0 / fa);
            }
            assert_eq!(Scaled::whole(a >> 12).milli(), (a >> 12) * 1000);
        }
    }

    #[test]
    fn growth_doubles_in_a_half_life_and_never_falls() {
        let day = Span::from_secs(86_400);
        let mut last = Scaled::ZERO;
        for hour in 0..2000 {
            let now = SimTime(hour * 3_600_000_000_000);
            let here = growth(now, day);
            close(here, (dh_units::real(hour) / 24.0).exp2());
            assert!(here > last);
            assert_eq!(growth(now.after(day), day), here.times(Scaled::whole(2)));
            last = here;
        }
        // Today, in nanoseconds since 1970, with the shortest half-life that anybody would want.
        assert!(growth(SimTime(1_800_000_000_000_000_001), Span::from_secs(1)) > last);
    }

    #[test]
    fn far_apart_values_do_not_disturb_each_other() {
        let large = growth(SimTime(1_000_000), Span(1));
        assert_eq!(large.plus(Scaled::whole(1)), large);
        assert_eq!(large.less(Scaled::whole(1)), large);
        assert_eq!(Scaled::whole(1).less(large), Scaled::ZERO);
        assert_eq!(Scaled::ZERO.plus(Scaled::ZERO), Scaled::ZERO);
    }
}
