//! Printing quantities: a short form for people, an exact form that reads back as the same value.
//!
//! The short form has three significant digits and the largest unit that keeps the number at or above one. Bytes are
//! printed in the family of units (powers of ten or of two) in which they are a round number, in powers of ten otherwise.

use std::fmt;

use crate::parse::compose;
use crate::quantity::{
    BitsPerSec, Bytes, BytesPerSec, Celsius, Flop, FlopPerSec, Grams, GramsPerKwh, Joules, Meters, Seconds, Tokens,
    Usd, UsdPerHour, UsdPerKwh, Watts,
};
use crate::unit::Dimension;

/// `value` with three significant digits at least and no zeros at the end: `46.9`, `1.5`, `1234`.
pub fn significant(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    let places: usize = match size {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.099_95 => 3,
        size if size >= 0.009_995 => 4,
        size if size >= 0.000_999_5 => 5,
        _ => return format!("{value:.2e}"),
    };
    let text = format!("{value:.places$}");
    let text = if places == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// The value in digits that read back as exactly this value: the base unit, in powers of ten when it is long.
pub(crate) fn exact_real(value: f64, dimension: &Dimension) -> String {
    let size = value.abs();
    let digits = if size == 0.0 || (1e-4..1e15).contains(&size) { format!("{value}") } else { format!("{value:e}") };
    compose(&digits, dimension.units.first().map_or("", |unit| unit.symbol))
}

/// The count in the largest unit that it is a whole number of.
pub(crate) fn exact_whole(value: u64, dimension: &Dimension) -> String {
    let fitting = dimension.units.iter().filter(|unit| unit.den == 1 && value != 0 && value.is_multiple_of(unit.num));
    // The first of equal size wins, which is the longer spelling.
    let largest = fitting.reduce(|best, unit| if unit.num > best.num { unit } else { best });
    match largest.or(dimension.units.first()) {
        Some(unit) => compose(&(value / unit.num).to_string(), unit.symbol),
        None => value.to_string(),
    }
}

/// Prints `value` in the largest of `steps` (ascending) in which it is at least one; each step is a unit and its size.
fn scaled(f: &mut fmt::Formatter<'_>, value: f64, steps: &[(f64, &str)]) -> fmt::Result {
    let size = value.abs();
    // 999.6 kB would print as 1000 kB: what rounds up to the next unit is printed in it.
    let step = steps.iter().rev().find(|(scale, _)| size >= scale * 0.9995).or(steps.first());
    match step {
        Some((scale, symbol)) => f.write_str(&compose(&significant(value / scale), symbol)),
        None => f.write_str(&significant(value)),
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DECIMAL: [(u64, &str); 6] = [
            (1_000, "kB"),
            (1_000_000, "MB"),
            (1_000_000_000, "GB"),
            (1_000_000_000_000, "TB"),
            (1_000_000_000_000_000, "PB"),
            (1_000_000_000_000_000_000, "EB"),
        ];
        const BINARY: [(u64, &str); 6] = [
            (1 << 10, "KiB"),
            (1 << 20, "MiB"),
            (1 << 30, "GiB"),
            (1 << 40, "TiB"),
            (1 << 50, "PiB"),
            (1 << 60, "EiB"),
        ];
        let value = self.0;
        // Round means that two digits after the point are all there is.
        let round = |scale: u64| (u128::from(value) * 100).is_multiple_of(u128::from(scale));
        let largest = |steps: &'static [(u64, &'static str)]| steps.iter().rev().find(|(scale, _)| value >= *scale);
        if let Some((scale, symbol)) = largest(&BINARY)
            && round(*scale)
            && !largest(&DECIMAL).is_some_and(|(scale, _)| round(*scale))
        {
            return write!(f, "{} {symbol}", two_places(value, *scale));
        }
        scaled(
            f,
            self.as_f64(),
            &[(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"), (1e15, "PB"), (1e18, "EB")],
        )
    }
}

/// `value / scale` with at most two digits after the point, exact because the caller checked that it is.
fn two_places(value: u64, scale: u64) -> String {
    let hundredths = u128::from(value) * 100 / u128::from(scale);
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 100_000 {
            return write!(f, "{} tokens", self.0);
        }
        scaled(f, self.as_f64(), &[(1e3, "k tokens"), (1e6, "M tokens"), (1e9, "B tokens"), (1e12, "T tokens")])
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            size if size < 119.95 => {
                if size == 0.0 {
                    return f.write_str("0 s");
                }
                scaled(f, self.0, &[(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")])
            }
            size if size < 119.95 * 60.0 => scaled(f, self.0, &[(60.0, "min")]),
            size if size < 47.95 * 3_600.0 => scaled(f, self.0, &[(3_600.0, "h")]),
            size if size < 999.5 * 86_400.0 => scaled(f, self.0, &[(86_400.0, "d")]),
            _ => scaled(f, self.0, &[(31_536_000.0, "y")]),
        }
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minus = if self.0 < 0.0 { "-" } else { "" };
        let size = self.0.abs();
        match size {
            size if size >= 999_500_000.0 => write!(f, "{minus}${} B", significant(size / 1e9)),
            size if size >= 999_500.0 => write!(f, "{minus}${} M", significant(size / 1e6)),
            size if size >= 999.5 => write!(f, "{minus}${size:.0}"),
            size if size >= 0.995 || size == 0.0 => write!(f, "{minus}${size:.2}"),
            size => write!(f, "{minus}${}", significant(size)),
        }
    }
}

impl fmt::Display for Flop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the last prefix that people know, amounts of work are written as powers of ten: 3.8e25 FLOP.
        if self.0.abs() >= 9.995e20 {
            return write!(f, "{:.2e} FLOP", self.0);
        }
        let steps = [
            (1.0, "FLOP"),
            (1e3, "kFLOP"),
            (1e6, "MFLOP"),
            (1e9, "GFLOP"),
            (1e12, "TFLOP"),
            (1e15, "PFLOP"),
            (1e18, "EFLOP"),
        ];
        scaled(f, self.0, &steps)
    }
}

macro_rules! printed_in_steps {
    ($($name:ident: $($scale:literal $symbol:literal),+;)*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                scaled(f, self.0, &[$(($scale, $symbol)),+])
            }
        }
    )* };
}

printed_in_steps!(
    BytesPerSec: 1.0 "B/s", 1e3 "kB/s", 1e6 "MB/s", 1e9 "GB/s", 1e12 "TB/s", 1e15 "PB/s";
    FlopPerSec: 1.0 "FLOP/s", 1e3 "kFLOP/s", 1e6 "MFLOP/s", 1e9 "GFLOP/s", 1e12 "TFLOP/s", 1e15 "PFLOP/s", 1e18 "EFLOP/s";
    Watts: 1.0 "W", 1e3 "kW", 1e6 "MW", 1e9 "GW";
    Joules: 1.0 "J", 3.6e3 "Wh", 3.6e6 "kWh", 3.6e9 "MWh", 3.6e12 "GWh", 3.6e15 "TWh";
    Grams: 1.0 "g", 1e3 "kg", 1e6 "t", 1e9 "kt";
    UsdPerKwh: 1.0 "$/kWh";
    GramsPerKwh: 1.0 "g/kWh";
    BitsPerSec: 1.0 "b/s", 1e3 "kb/s", 1e6 "Mb/s", 1e9 "Gb/s", 1e12 "Tb/s", 1e15 "Pb/s";
    UsdPerHour: 1.0 "$/h";
    Meters: 1e-3 "mm", 1.0 "m", 1e3 "km";
    Celsius: 1.0 "°C";
);

impl BytesPerSec {
    /// In bits per second, as network links are sold: `400 Gb/s`.
    pub fn as_bits(self) -> String {
        let bits = self.0 * 8.0;
        let steps = [(1.0, "b/s"), (1e3, "kb/s"), (1e6, "Mb/s"), (1e9, "Gb/s"), (1e12, "Tb/s")];
        let step = steps.iter().rev().find(|(scale, _)| bits.abs() >= scale * 0.9995).unwrap_or(&(1.0, "b/s"));
        compose(&significant(bits / step.0), step.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quantity;

    #[test]
    fn bytes_print_in_the_family_in_which_they_are_round() {
        for (bytes, text) in [
            (0, "0 B"),
            (500, "500 B"),
            (1_000, "1 kB"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (46_912_345, "46.9 MB"),
            (46_900_000, "46.9 MB"),
            (3 << 39, "1.5 TiB"),
            (96 << 20, "96 MiB"),
            (999_600_001, "1 GB"),
            (2_000_000_000, "2 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn real_quantities_print_short() {
        assert_eq!(Seconds(0.0).to_string(), "0 s");
        assert_eq!(Seconds(0.005).to_string(), "5 ms");
        assert_eq!(Seconds(3.4e-7).to_string(), "340 ns");
        assert_eq!(Seconds(93.42).to_string(), "93.4 s");
        assert_eq!(Seconds(5_400.0).to_string(), "90 min");
        assert_eq!(Seconds(36_000.0).to_string(), "10 h");
        assert_eq!(Seconds(2_592_000.0).to_string(), "30 d");
        assert_eq!(Watts(10_200.0).to_string(), "10.2 kW");
        assert_eq!(Joules(3_900.0).to_string(), "1.08 Wh");
        assert_eq!(Usd(2.5).to_string(), "$2.50");
        assert_eq!(Usd(0.000_31).to_string(), "$3.10e-4");
        assert_eq!(Usd(0.003).to_string(), "$0.003");
        assert_eq!(Usd(8_288_000.0).to_string(), "$8.29 M");
        assert_eq!(UsdPerKwh(0.12).to_string(), "$0.12/kWh");
        assert_eq!(GramsPerKwh(400.0).to_string(), "400 g/kWh");
        assert_eq!(BytesPerSec(50e9).to_string(), "50 GB/s");
        assert_eq!(BytesPerSec(50e9).as_bits(), "400 Gb/s");
        assert_eq!(FlopPerSec(3.2e12).to_string(), "3.2 TFLOP/s");
        assert_eq!(Tokens(15_000_000_000_000).to_string(), "15 T tokens");
        assert_eq!(BitsPerSec(4e11).to_string(), "400 Gb/s");
        assert_eq!(UsdPerHour(2.5).to_string(), "$2.5/h");
        assert_eq!(Meters(12.5).to_string(), "12.5 m");
        assert_eq!(Flop(3.79e25).to_string(), "3.79e25 FLOP");
        assert_eq!(Flop(3.2e18).to_string(), "3.2 EFLOP");
        assert_eq!(Usd(5_000.0).to_string(), "$5000");
        assert_eq!(Celsius(-5.0).to_string(), "-5 °C");
        assert_eq!(Usd(5.12e10).to_string(), "$51.2 B");
        assert_eq!(Seconds(4.0 * 365.0 * 86_400.0).to_string(), "4 y");
        assert_eq!(Watts(f64::NAN).to_string(), "NaN W");
    }

    #[test]
    fn exact_forms_use_the_largest_whole_unit() {
        assert_eq!(Bytes(96 << 20).print_exact(), "96 MiB");
        assert_eq!(Bytes(10_000_000_000).print_exact(), "10 GB");
        assert_eq!(Bytes(3 << 39).print_exact(), "1536 GiB");
        assert_eq!(Bytes(0).print_exact(), "0 B");
        assert_eq!(Tokens(15_000_000_000_000).print_exact(), "15 T tokens");
        assert_eq!(UsdPerKwh(0.12).print_exact(), "$0.12/kWh");
        assert_eq!(Seconds(1e-9).print_exact(), "1e-9 s");
    }
}
