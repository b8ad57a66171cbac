//! Reading a quantity as people write it: a number and a unit, `"400 Gb/s"`, `"1.5 TiB"`, `"$0.12/kWh"`.
//!
//! Invariant: text that is read has a unit that was written; there is no default unit. Whatever is refused says what was
//! expected and the nearest thing that would be accepted.

use std::str::FromStr;

use crate::number::{BadNumber, Decimal, scan};
use crate::quantity::{
    BitsPerSec, Bytes, BytesPerSec, Celsius, Flop, FlopPerSec, Grams, GramsPerKwh, Joules, Meters, Seconds, Tokens,
    Usd, UsdPerHour, UsdPerKwh, Watts,
};
use crate::unit::{self, Dimension, Unit};

/// Characters of a quantity; the longest sensible one has about 30.
const TEXT_MAX: usize = 64;

/// What is wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing.
    Empty,
    /// It is longer than any quantity.
    TooLong,
    /// It does not start with a number.
    NoNumber,
    /// The number is below zero.
    Negative,
    /// The number has no unit.
    NoUnit,
    /// The unit is not one of this quantity.
    UnknownUnit(String),
    /// The value does not fit.
    TooLarge,
    /// The value is not zero, and less than the smallest amount.
    TooSmall,
}

/// Why a text is not the quantity that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct Error {
    /// What is wrong.
    pub fault: Fault,
    /// The text, shortened if it was long.
    pub text: String,
    /// Texts that would have been accepted, each with a note that tells it from the others; may be empty.
    pub suggestions: Vec<(String, &'static str)>,
    dimension: &'static Dimension,
}

impl Error {
    /// What was expected, with its article: "an amount of bytes".
    pub const fn expected(&self) -> &'static str {
        self.dimension.name
    }

    fn sentence(&self) -> String {
        let (text, expected) = (&self.text, self.expected());
        match &self.fault {
            Fault::Empty => format!("expected {expected}, found an empty text"),
            Fault::TooLong => format!("`{text}` is too long for {expected}"),
            Fault::NoNumber => format!("`{text}` is not {expected}: it does not start with a number"),
            Fault::Negative => format!("`{text}` is not {expected}: it is below zero"),
            Fault::NoUnit => format!("`{text}` is not {expected}: it has no unit"),
            Fault::UnknownUnit(unit) => format!("`{text}` is not {expected}: unknown unit `{unit}`"),
            Fault::TooLarge => format!("`{text}` is too large for {expected}"),
            Fault::TooSmall => format!("`{text}` is too small for {expected}"),
        }
    }

    /// What to write instead: the nearest accepted texts, or an example and the list of units.
    pub fn hint(&self) -> String {
        if self.suggestions.is_empty() {
            let units = self.dimension.symbols().collect::<Vec<_>>().join(", ");
            return format!("write for example \"{}\"; units: {units}", self.dimension.example);
        }
        let likely: Vec<String> = self
            .suggestions
            .iter()
            .map(|(text, note)| if note.is_empty() { format!("\"{text}\"") } else { format!("\"{text}\" ({note})") })
            .collect();
        format!("did you mean {}?", likely.join(" or "))
    }
}

/// A type with a unit, as it is read and printed.
pub trait Quantity: FromStr<Err = Error> + std::fmt::Display + Copy + PartialOrd {
    /// What it is called and written in.
    fn dimension() -> &'static Dimension;

    /// The value in digits that read back as exactly this value, for every value that can be read.
    fn print_exact(self) -> String;

    /// A value a person might write.
    fn example() -> &'static str {
        Self::dimension().example
    }

    /// What it is called, with its article: "an amount of bytes".
    fn called() -> &'static str {
        Self::dimension().name
    }
}

macro_rules! readable {
    ($($name:ident, $dimension:ident, $convert:ident, $exact:path;)*) => { $(
        impl Quantity for $name {
            fn dimension() -> &'static Dimension {
                &unit::$dimension
            }

            fn print_exact(self) -> String {
                $exact(self.0, &unit::$dimension)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                read(text, &unit::$dimension, |number, unit| number.$convert(unit.num, unit.den)).map(Self)
            }
        }
    )* };
}

readable!(
    Bytes, BYTES, whole, crate::print::exact_whole;
    Tokens, TOKENS, whole, crate::print::exact_whole;
    BytesPerSec, BYTES_PER_SEC, real, crate::print::exact_real;
    Seconds, SECONDS, real, crate::print::exact_real;
    Flop, FLOP, real, crate::print::exact_real;
    FlopPerSec, FLOP_PER_SEC, real, crate::print::exact_real;
    Watts, WATTS, real, crate::print::exact_real;
    Joules, JOULES, real, crate::print::exact_real;
    Usd, USD, real, crate::print::exact_real;
    UsdPerKwh, USD_PER_KWH, real, crate::print::exact_real;
    Grams, GRAMS, real, crate::print::exact_real;
    GramsPerKwh, GRAMS_PER_KWH, real, crate::print::exact_real;
    BitsPerSec, BITS_PER_SEC, real, crate::print::exact_real;
    UsdPerHour, USD_PER_HOUR, real, crate::print::exact_real;
    Meters, METERS, real, crate::print::exact_real;
);

impl Quantity for Celsius {
    fn dimension() -> &'static Dimension {
        &unit::CELSIUS
    }

    fn print_exact(self) -> String {
        crate::print::exact_real(self.0, &unit::CELSIUS)
    }
}

/// The one quantity that may lie below zero.
impl FromStr for Celsius {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let trimmed = text.trim();
        let (sign, size) = trimmed.strip_prefix('-').map_or((1.0, trimmed), |size| (-1.0, size));
        read(size, &unit::CELSIUS, |number, unit| number.real(unit.num, unit.den)).map(|value| Self(sign * value))
    }
}

fn read<T>(
    text: &str,
    dimension: &'static Dimension,
    convert: impl Fn(Decimal<'_>, &Unit) -> Result<T, BadNumber>,
) -> Result<T, Error> {
    let fail = |fault, suggestions| Err(Error { fault, text: shortened(text), suggestions, dimension });
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return fail(Fault::Empty, vec![]);
    }
    if trimmed.len() > TEXT_MAX {
        return fail(Fault::TooLong, vec![]);
    }
    let (sign, body) = match trimmed.strip_prefix('$') {
        Some(body) => ("$", body.trim_start()),
        None => ("", trimmed),
    };
    if let Some(below) = body.strip_prefix('-').or_else(|| trimmed.strip_prefix('-')) {
        let fault = if below.trim_start().starts_with(['$', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
            Fault::Negative
        } else {
            Fault::NoNumber
        };
        return fail(fault, vec![]);
    }
    let (number, rest) = match scan(body) {
        Ok(found) => found,
        Err(BadNumber::TooLong) => return fail(Fault::TooLong, vec![]),
        Err(BadNumber::TooLarge) => return fail(Fault::TooLarge, vec![]),
        Err(BadNumber::TooSmall) => return fail(Fault::TooSmall, vec![]),
        Err(BadNumber::Missing) => return fail(Fault::NoNumber, vec![]),
    };
    let digits = body.get(..body.len() - rest.len()).unwrap_or_default();
    let symbol = sign.to_owned() + &rest.split_whitespace().collect::<Vec<_>>().join(" ");
    if symbol.is_empty() {
        return fail(Fault::NoUnit, vec![]);
    }
    let Some(unit) = dimension.units.iter().find(|unit| unit.symbol == symbol) else {
        let suggestions = nearest(&symbol, dimension).into_iter().map(|unit| (compose(digits, unit.symbol), unit.note));
        return fail(Fault::UnknownUnit(symbol.clone()), suggestions.collect());
    };
    match convert(number, unit) {
        Ok(value) => Ok(value),
        Err(BadNumber::TooLarge) => fail(Fault::TooLarge, vec![]),
        Err(BadNumber::TooSmall) => fail(Fault::TooSmall, vec![]),
        Err(BadNumber::TooLong) => fail(Fault::TooLong, vec![]),
        Err(BadNumber::Missing) => fail(Fault::NoNumber, vec![]),
    }
}

/// A number and a unit, put together as the unit is written.
pub(crate) fn compose(digits: &str, symbol: &str) -> String {
    match symbol.strip_prefix('$') {
        Some("") => format!("${digits}"),
        Some(rest) if rest.starts_with('/') => format!("${digits}{rest}"),
        Some(rest) => format!("${digits} {rest}"),
        None => format!("{digits} {symbol}"),
    }
}

/// Units that a person who wrote `symbol` may have meant: those that differ only in case, else the closest spellings.
fn nearest(symbol: &str, dimension: &'static Dimension) -> Vec<&'static Unit> {
    let lower = symbol.to_lowercase();
    let same: Vec<&Unit> = dimension.units.iter().filter(|unit| unit.symbol.to_lowercase() == lower).collect();
    if !same.is_empty() {
        return same;
    }
    let distance = |unit: &Unit| strsim::damerau_levenshtein(symbol, unit.symbol);
    let best = dimension.units.iter().map(distance).min().unwrap_or(usize::MAX);
    // A short symbol shares a letter with everything; half of it must be right.
    if best * 2 > symbol.chars().count() {
        return vec![];
    }
    dimension.units.iter().filter(|unit| distance(unit) == best).take(3).collect()
}

/// `text` as far as it can be shown in a message: one line, no control characters, at most 40 characters.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn refused<Q: Quantity>(text: &str, expected: &Expect) {
        let Err(error) = text.parse::<Q>() else { panic!("{text:?} was accepted") };
        expected.assert_eq(&format!("{error}\n{}", error.hint()));
    }

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!("400 Gb/s".parse(), Ok(BytesPerSec(50e9)));
        assert_eq!("50 GB/s".parse(), Ok(BytesPerSec(50e9)));
        assert_eq!("1.5 TiB".parse(), Ok(Bytes(3 << 39)));
        assert_eq!("10GB".parse(), Ok(Bytes(10_000_000_000)));
        assert_eq!("10 Gb".parse(), Ok(Bytes(1_250_000_000)));
        assert_eq!("1 EB".parse(), Ok(Bytes(1_000_000_000_000_000_000)));
        assert_eq!("0 B".parse(), Ok(Bytes(0)));
        assert_eq!("700 W".parse(), Ok(Watts(700.0)));
        assert_eq!("10.2 kW".parse(), Ok(Watts(10_200.0)));
        assert_eq!("30 d".parse(), Ok(Seconds(2_592_000.0)));
        assert_eq!("90 min".parse(), Ok(Seconds(5_400.0)));
        assert_eq!("1.2 s".parse(), Ok(Seconds(1.2)));
        assert_eq!("5 ms".parse(), Ok(Seconds(0.005)));
        assert_eq!("$2.5".parse(), Ok(Usd(2.5)));
        assert_eq!("$ 3 M".parse(), Ok(Usd(3e6)));
        assert_eq!("2.5 USD".parse(), Ok(Usd(2.5)));
        assert_eq!("$0.12/kWh".parse(), Ok(UsdPerKwh(0.12)));
        assert_eq!("$120/MWh".parse(), Ok(UsdPerKwh(0.12)));
        assert_eq!("0.12 USD/kWh".parse(), Ok(UsdPerKwh(0.12)));
        assert_eq!("400 g/kWh".parse(), Ok(GramsPerKwh(400.0)));
        assert_eq!("3.2 TFLOP/s".parse(), Ok(FlopPerSec(3.2e12)));
        assert_eq!("15 T tokens".parse(), Ok(Tokens(15_000_000_000_000)));
        assert_eq!("15 T".parse(), Ok(Tokens(15_000_000_000_000)));
        assert_eq!("4096 tokens".parse(), Ok(Tokens(4096)));
        assert_eq!("1.5 kWh".parse(), Ok(Joules(5.4e6)));
        assert_eq!("400 Gb/s".parse(), Ok(BitsPerSec(4e11)));
        assert_eq!("50 GB/s".parse(), Ok(BitsPerSec(4e11)));
        assert_eq!("$2.5/h".parse(), Ok(UsdPerHour(2.5)));
        assert_eq!("$60/d".parse(), Ok(UsdPerHour(2.5)));
        assert_eq!("4 y".parse(), Ok(Seconds(4.0 * 365.0 * 86_400.0)));
        assert_eq!("30 cm".parse(), Ok(Meters(0.3)));
        assert_eq!("-12.5 °C".parse(), Ok(Celsius(-12.5)));
        assert_eq!("--5 C".parse::<Celsius>().unwrap_err().fault, Fault::Negative);
    }

    #[test]
    fn a_refusal_names_the_nearest_unit() {
        refused::<Bytes>(
            "10 gb",
            &expect![[r#"
                `10 gb` is not an amount of bytes: unknown unit `gb`
                did you mean "10 GB" (bytes) or "10 Gb" (bits)?"#]],
        );
        refused::<Bytes>(
            "10 KB",
            &expect![[r#"
                `10 KB` is not an amount of bytes: unknown unit `KB`
                did you mean "10 kB" (1,000 bytes) or "10 kb" (bits)?"#]],
        );
        refused::<BytesPerSec>(
            "400 Gbps",
            &expect![[r#"
                `400 Gbps` is not a bandwidth: unknown unit `Gbps`
                did you mean "400 Gb/s" (bits)?"#]],
        );
        refused::<FlopPerSec>(
            "3 TFLOPS",
            &expect![[r#"
                `3 TFLOPS` is not a floating point speed: unknown unit `TFLOPS`
                did you mean "3 TFLOP/s"?"#]],
        );
        refused::<UsdPerKwh>(
            "$0.12",
            &expect![[r#"
                `$0.12` is not a price of electricity: unknown unit `$`
                write for example "$0.12/kWh"; units: $/kWh, $/MWh, USD/kWh, USD/MWh"#]],
        );
        refused::<Watts>(
            "10 KW",
            &expect![[r#"
                `10 KW` is not a power: unknown unit `KW`
                did you mean "10 kW" (kilowatts)?"#]],
        );
    }

    #[test]
    fn a_refusal_says_what_is_wrong_with_the_number() {
        refused::<Watts>(
            "700",
            &expect![[r#"
                `700` is not a power: it has no unit
                write for example "700 W"; units: W, mW, kW, MW, GW"#]],
        );
        refused::<Watts>(
            "-5 W",
            &expect![[r#"
                `-5 W` is not a power: it is below zero
                write for example "700 W"; units: W, mW, kW, MW, GW"#]],
        );
        refused::<Watts>(
            "NaN W",
            &expect![[r#"
                `NaN W` is not a power: it does not start with a number
                write for example "700 W"; units: W, mW, kW, MW, GW"#]],
        );
        refused::<Watts>(
            "-inf W",
            &expect![[r#"
                `-inf W` is not a power: it does not start with a number
                write for example "700 W"; units: W, mW, kW, MW, GW"#]],
        );
        refused::<Watts>(
            "1e309 W",
            &expect![[r#"
                `1e309 W` is too large for a power
                write for example "700 W"; units: W, mW, kW, MW, GW"#]],
        );
        refused::<Usd>(
            "$-5",
            &expect![[r#"
                `$-5` is not an amount of US dollars: it is below zero
                write for example "$2.50"; units: $, $k, $M, $B, USD"#]],
        );
        refused::<Seconds>(
            "",
            &expect![[r#"
                expected a length of time, found an empty text
                write for example "90 min"; units: s, ns, us, µs, ms, min, h, d, w, y"#]],
        );
        assert_eq!("17 EiB".parse::<Bytes>().unwrap_err().fault, Fault::TooLarge);
        assert_eq!("0.3 B".parse::<Bytes>().unwrap_err().fault, Fault::TooSmall);
        assert_eq!("9".repeat(65).parse::<Bytes>().unwrap_err().fault, Fault::TooLong);
    }
}
