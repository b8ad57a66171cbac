//! The tables of units: every symbol that may stand behind a number, and how much of the base unit it is.
//!
//! A new unit is one line here. A factor is a ratio of two whole numbers, so that `5 ms` is the number nearest to 0.005
//! and `10 Gb` is exactly 1,250,000,000 bytes.

/// One unit of a quantity.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// As people write it behind the number. A leading `$` is written before the number instead.
    pub(crate) symbol: &'static str,
    /// Numerator of the factor to the base unit.
    pub(crate) num: u64,
    /// Denominator of the factor to the base unit.
    pub(crate) den: u64,
    /// What tells it from a unit that looks alike.
    pub(crate) note: &'static str,
}

/// What a quantity is called and written in.
#[derive(Debug, PartialEq, Eq)]
pub struct Dimension {
    /// With its article: "an amount of bytes".
    pub(crate) name: &'static str,
    /// A value a person might write.
    pub(crate) example: &'static str,
    /// Every unit that is accepted; the first is the base unit.
    pub(crate) units: &'static [Unit],
}

impl Dimension {
    /// What it is called, with its article: "an amount of bytes".
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A value a person might write.
    pub const fn example(&self) -> &'static str {
        self.example
    }

    /// Every accepted symbol, the base unit first.
    pub fn symbols(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.units.iter().map(|unit| unit.symbol)
    }
}

const fn unit(symbol: &'static str, num: u64, den: u64, note: &'static str) -> Unit {
    Unit { symbol, num, den, note }
}

const K: u64 = 1_000;
const M: u64 = 1_000_000;
const G: u64 = 1_000_000_000;
const T: u64 = 1_000_000_000_000;
const P: u64 = 1_000_000_000_000_000;
const E: u64 = 1_000_000_000_000_000_000;

pub(crate) static BYTES: Dimension = Dimension {
    name: "an amount of bytes",
    example: "10 GB",
    units: &[
        unit("B", 1, 1, "bytes"),
        unit("kB", K, 1, "1,000 bytes"),
        unit("MB", M, 1, "bytes"),
        unit("GB", G, 1, "bytes"),
        unit("TB", T, 1, "bytes"),
        unit("PB", P, 1, "bytes"),
        unit("EB", E, 1, "bytes"),
        unit("KiB", 1 << 10, 1, "1,024 bytes"),
        unit("MiB", 1 << 20, 1, "bytes"),
        unit("GiB", 1 << 30, 1, "bytes"),
        unit("TiB", 1 << 40, 1, "bytes"),
        unit("PiB", 1 << 50, 1, "bytes"),
        unit("EiB", 1 << 60, 1, "bytes"),
        unit("b", 1, 8, "bits"),
        unit("kb", K, 8, "bits"),
        unit("Mb", M, 8, "bits"),
        unit("Gb", G, 8, "bits"),
        unit("Tb", T, 8, "bits"),
        unit("Pb", P, 8, "bits"),
    ],
};

pub(crate) static BYTES_PER_SEC: Dimension = Dimension {
    name: "a bandwidth",
    example: "400 Gb/s",
    units: &[
        unit("B/s", 1, 1, "bytes"),
        unit("kB/s", K, 1, "bytes"),
        unit("MB/s", M, 1, "bytes"),
        unit("GB/s", G, 1, "bytes"),
        unit("TB/s", T, 1, "bytes"),
        unit("PB/s", P, 1, "bytes"),
        unit("KiB/s", 1 << 10, 1, "bytes"),
        unit("MiB/s", 1 << 20, 1, "bytes"),
        unit("GiB/s", 1 << 30, 1, "bytes"),
        unit("TiB/s", 1 << 40, 1, "bytes"),
        unit("b/s", 1, 8, "bits"),
        unit("kb/s", K, 8, "bits"),
        unit("Mb/s", M, 8, "bits"),
        unit("Gb/s", G, 8, "bits"),
        unit("Tb/s", T, 8, "bits"),
        unit("Pb/s", P, 8, "bits"),
    ],
};

pub(crate) static TOKENS: Dimension = Dimension {
    name: "a number of tokens",
    example: "15 T tokens",
    units: &[
        unit("tokens", 1, 1, ""),
        unit("token", 1, 1, ""),
        unit("k tokens", K, 1, ""),
        unit("M tokens", M, 1, ""),
        unit("B tokens", G, 1, ""),
        unit("T tokens", T, 1, ""),
        unit("k", K, 1, ""),
        unit("M", M, 1, ""),
        unit("B", G, 1, "billions"),
        unit("T", T, 1, "trillions"),
    ],
};

pub(crate) static SECONDS: Dimension = Dimension {
    name: "a length of time",
    example: "90 min",
    units: &[
        unit("s", 1, 1, "seconds"),
        unit("ns", 1, G, ""),
        unit("us", 1, M, ""),
        unit("µs", 1, M, ""),
        unit("ms", 1, K, "milliseconds"),
        unit("min", 60, 1, "minutes"),
        unit("h", 3_600, 1, "hours"),
        unit("d", 86_400, 1, "days"),
        unit("w", 604_800, 1, "weeks"),
        unit("y", 31_536_000, 1, "years of 365 days"),
    ],
};

pub(crate) static FLOP: Dimension = Dimension {
    name: "an amount of floating point work",
    example: "3.2 TFLOP",
    units: &[
        unit("FLOP", 1, 1, ""),
        unit("kFLOP", K, 1, ""),
        unit("MFLOP", M, 1, ""),
        unit("GFLOP", G, 1, ""),
        unit("TFLOP", T, 1, ""),
        unit("PFLOP", P, 1, ""),
        unit("EFLOP", E, 1, ""),
    ],
};

pub(crate) static FLOP_PER_SEC: Dimension = Dimension {
    name: "a floating point speed",
    example: "3.2 TFLOP/s",
    units: &[
        unit("FLOP/s", 1, 1, ""),
        unit("kFLOP/s", K, 1, ""),
        unit("MFLOP/s", M, 1, ""),
        unit("GFLOP/s", G, 1, ""),
        unit("TFLOP/s", T, 1, ""),
        unit("PFLOP/s", P, 1, ""),
        unit("EFLOP/s", E, 1, ""),
    ],
};

pub(crate) static WATTS: Dimension = Dimension {
    name: "a power",
    example: "700 W",
    units: &[
        unit("W", 1, 1, "watts"),
        unit("mW", 1, K, "milliwatts"),
        unit("kW", K, 1, "kilowatts"),
        unit("MW", M, 1, "megawatts"),
        unit("GW", G, 1, ""),
    ],
};

pub(crate) static JOULES: Dimension = Dimension {
    name: "an energy",
    example: "1.5 kWh",
    units: &[
        unit("J", 1, 1, ""),
        unit("kJ", K, 1, ""),
        unit("MJ", M, 1, ""),
        unit("GJ", G, 1, ""),
        unit("Wh", 3_600, 1, ""),
        unit("kWh", 3_600 * K, 1, ""),
        unit("MWh", 3_600 * M, 1, ""),
        unit("GWh", 3_600 * G, 1, ""),
        unit("TWh", 3_600 * T, 1, ""),
    ],
};

pub(crate) static USD: Dimension = Dimension {
    name: "an amount of US dollars",
    example: "$2.50",
    units: &[
        unit("$", 1, 1, ""),
        unit("$k", K, 1, "thousands"),
        unit("$M", M, 1, "millions"),
        unit("$B", G, 1, "billions"),
        unit("USD", 1, 1, ""),
    ],
};

pub(crate) static USD_PER_KWH: Dimension = Dimension {
    name: "a price of electricity",
    example: "$0.12/kWh",
    units: &[unit("$/kWh", 1, 1, ""), unit("$/MWh", 1, K, ""), unit("USD/kWh", 1, 1, ""), unit("USD/MWh", 1, K, "")],
};

pub(crate) static GRAMS: Dimension = Dimension {
    name: "a mass",
    example: "3.4 kg",
    units: &[
        unit("g", 1, 1, "grams"),
        unit("mg", 1, K, ""),
        unit("kg", K, 1, ""),
        unit("t", M, 1, "tonnes"),
        unit("kt", G, 1, "kilotonnes"),
    ],
};

pub(crate) static GRAMS_PER_KWH: Dimension = Dimension {
    name: "a carbon intensity",
    example: "400 g/kWh",
    units: &[unit("g/kWh", 1, 1, ""), unit("kg/kWh", K, 1, ""), unit("kg/MWh", 1, 1, "")],
};

/// Speeds of links, which are sold in bits. Bytes are accepted too, because what is written is never in doubt.
pub(crate) static BITS_PER_SEC: Dimension = Dimension {
    name: "a bit rate",
    example: "400 Gb/s",
    units: &[
        unit("b/s", 1, 1, "bits"),
        unit("kb/s", K, 1, "bits"),
        unit("Mb/s", M, 1, "bits"),
        unit("Gb/s", G, 1, "bits"),
        unit("Tb/s", T, 1, "bits"),
        unit("Pb/s", P, 1, "bits"),
        unit("kB/s", 8 * K, 1, "bytes"),
        unit("MB/s", 8 * M, 1, "bytes"),
        unit("GB/s", 8 * G, 1, "bytes"),
        unit("TB/s", 8 * T, 1, "bytes"),
    ],
};

pub(crate) static USD_PER_HOUR: Dimension = Dimension {
    name: "a price per hour",
    example: "$2.5/h",
    units: &[
        unit("$/h", 1, 1, ""),
        unit("$/d", 1, 24, ""),
        unit("$/y", 1, 8_760, "per year of 365 days"),
        unit("USD/h", 1, 1, ""),
    ],
};

pub(crate) static METERS: Dimension = Dimension {
    name: "a length",
    example: "30 m",
    units: &[unit("m", 1, 1, "metres"), unit("cm", 1, 100, ""), unit("mm", 1, K, ""), unit("km", K, 1, "")],
};

pub(crate) static CELSIUS: Dimension =
    Dimension { name: "a temperature", example: "35 °C", units: &[unit("°C", 1, 1, ""), unit("C", 1, 1, "")] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_names_one_unit_and_the_first_is_the_base() {
        for dimension in [
            &BYTES,
            &BYTES_PER_SEC,
            &TOKENS,
            &SECONDS,
            &FLOP,
            &FLOP_PER_SEC,
            &WATTS,
            &JOULES,
            &USD,
            &USD_PER_KWH,
            &GRAMS,
            &GRAMS_PER_KWH,
            &BITS_PER_SEC,
            &USD_PER_HOUR,
            &METERS,
            &CELSIUS,
        ] {
            let base = dimension.units.first().expect("a base unit");
            assert_eq!((base.num, base.den), (1, 1), "{}", dimension.name);
            let mut symbols: Vec<_> = dimension.units.iter().map(|unit| unit.symbol).collect();
            symbols.sort_unstable();
            symbols.dedup();
            assert_eq!(symbols.len(), dimension.units.len(), "{}", dimension.name);
        }
    }
}
