//! What must hold for every text and every value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::allow_attributes, reason = "tests fail by panicking")]

use dh_units::{
    BitsPerSec, Bytes, BytesPerSec, Celsius, Flop, FlopPerSec, Grams, GramsPerKwh, Joules, Meters, Quantity, Seconds,
    Tokens, Usd, UsdPerHour, UsdPerKwh, Watts,
};
use proptest::prelude::*;

fn reads_back<Q: Quantity + std::fmt::Debug>(value: Q) -> Result<(), TestCaseError> {
    let text = value.print_exact();
    let read = text.parse::<Q>();
    prop_assert!(read.as_ref().is_ok_and(|read| *read == value), "{value:?} printed as {text} read as {read:?}");
    Ok(())
}

/// What is printed for people is read again as nearly the same value.
fn display_is_near<Q: Quantity + std::fmt::Debug>(value: Q, ratio: impl Fn(Q, Q) -> f64) -> Result<(), TestCaseError> {
    let text = value.to_string();
    let read = text.parse::<Q>();
    let near = read.as_ref().is_ok_and(|read| (ratio(*read, value) - 1.0).abs() < 0.01);
    prop_assert!(near, "{value:?} displayed as {text} read as {read:?}");
    Ok(())
}

fn positive() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_map(f64::abs).prop_filter("finite", |x| x.is_finite()), 0.0..1e6, Just(0.0)]
}

proptest! {
    #[test]
    fn exact_forms_read_back(bytes: u64, real in positive()) {
        reads_back(Bytes(bytes))?;
        reads_back(Tokens(bytes))?;
        reads_back(BytesPerSec(real))?;
        reads_back(Seconds(real))?;
        reads_back(Flop(real))?;
        reads_back(FlopPerSec(real))?;
        reads_back(Watts(real))?;
        reads_back(Joules(real))?;
        reads_back(Usd(real))?;
        reads_back(UsdPerKwh(real))?;
        reads_back(Grams(real))?;
        reads_back(GramsPerKwh(real))?;
        reads_back(BitsPerSec(real))?;
        reads_back(UsdPerHour(real))?;
        reads_back(Meters(real))?;
        reads_back(Celsius(real))?;
        reads_back(Celsius(-real))?;
    }

    #[test]
    fn short_forms_are_within_one_percent(bytes in 1_u64.., exponent in -6.0_f64..14.0) {
        let real = 10_f64.powf(exponent);
        display_is_near(Bytes(bytes), |a, b| a.as_f64() / b.as_f64())?;
        display_is_near(Tokens(bytes), |a, b| a.as_f64() / b.as_f64())?;
        display_is_near(Seconds(real), |a, b| a / b)?;
        display_is_near(Watts(real), |a, b| a / b)?;
        display_is_near(Joules(real), |a, b| a / b)?;
        display_is_near(Usd(real), |a, b| a / b)?;
        display_is_near(UsdPerKwh(real), |a, b| a / b)?;
        display_is_near(BytesPerSec(real), |a, b| a / b)?;
        display_is_near(FlopPerSec(real), |a, b| a / b)?;
        display_is_near(GramsPerKwh(real), |a, b| a / b)?;
        display_is_near(BitsPerSec(real), |a, b| a / b)?;
        display_is_near(UsdPerHour(real), |a, b| a / b)?;
        display_is_near(Meters(real), |a, b| a / b)?;
        display_is_near(Celsius(-real), |a, b| a / b)?;
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        refuse_or_read(&text);
    }

    #[test]
    fn no_text_that_looks_like_a_quantity_panics(text in "[$-]?[0-9.eE+-]{0,30} ?[a-zA-Zµ$/ ]{0,8}") {
        refuse_or_read(&text);
    }
}

fn refuse_or_read(text: &str) {
    let hints = [
        text.parse::<Bytes>().err(),
        text.parse::<Seconds>().err(),
        text.parse::<UsdPerKwh>().err(),
        text.parse::<Tokens>().err(),
        text.parse::<Usd>().err(),
    ];
    for error in hints.into_iter().flatten() {
        assert!(!error.to_string().is_empty() && !error.hint().is_empty());
    }
}
