//! The types and the arithmetic that makes sense between them.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use serde::{Deserialize, Serialize};

macro_rules! real_quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, divisor: f64) -> Self {
                Self(self.0 / divisor)
            }
        }
        /// The ratio of two quantities of one kind has no unit.
        impl Div for $name {
            type Output = f64;
            fn div(self, other: Self) -> f64 {
                self.0 / other.0
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                Self(items.map(|item| item.0).sum())
            }
        }
    };
}

macro_rules! count_quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Mul<u64> for $name {
            type Output = Self;
            fn mul(self, factor: u64) -> Self {
                Self(self.0 * factor)
            }
        }
        impl $name {
            /// As a real number; exact below 2^53.
            #[expect(clippy::cast_precision_loss, reason = "a quantity above 2^53 is an estimate anyway")]
            pub const fn as_f64(self) -> f64 {
                self.0 as f64
            }
        }
        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                Self(items.map(|item| item.0).sum())
            }
        }
    };
}

count_quantity!(
    /// Bytes.
    Bytes
);
count_quantity!(
    /// Tokens of a language model.
    Tokens
);
real_quantity!(
    /// Seconds.
    Seconds
);
real_quantity!(
    /// Bytes per second.
    BytesPerSec
);
real_quantity!(
    /// Floating point operations: an amount of work.
    Flop
);
real_quantity!(
    /// Floating point operations per second: a speed.
    FlopPerSec
);
real_quantity!(
    /// Watts.
    Watts
);
real_quantity!(
    /// Joules.
    Joules
);
real_quantity!(
    /// US dollars.
    Usd
);
real_quantity!(
    /// US dollars per kilowatt-hour: the price of electricity.
    UsdPerKwh
);
real_quantity!(
    /// Grams, of carbon dioxide where nothing else is said.
    Grams
);
real_quantity!(
    /// Grams of carbon dioxide per kilowatt-hour: the carbon intensity of electricity.
    GramsPerKwh
);

real_quantity!(
    /// Bits per second: the speed of a link, as it is sold.
    BitsPerSec
);
real_quantity!(
    /// US dollars per hour: the price of renting.
    UsdPerHour
);
real_quantity!(
    /// Metres.
    Meters
);
real_quantity!(
    /// Degrees Celsius; may lie below zero.
    Celsius
);

impl From<BitsPerSec> for BytesPerSec {
    fn from(bits: BitsPerSec) -> Self {
        Self(bits.0 / 8.0)
    }
}

impl From<BytesPerSec> for BitsPerSec {
    fn from(bytes: BytesPerSec) -> Self {
        Self(bytes.0 * 8.0)
    }
}

impl Mul<Seconds> for UsdPerHour {
    type Output = Usd;
    fn mul(self, time: Seconds) -> Usd {
        Usd(self.0 * time.0 / 3_600.0)
    }
}

impl Mul<Seconds> for FlopPerSec {
    type Output = Flop;
    fn mul(self, time: Seconds) -> Flop {
        Flop(self.0 * time.0)
    }
}

/// Joules in one kilowatt-hour: 1,000 W for 3,600 s.
const JOULES_PER_KWH: f64 = 3.6e6;

impl Div<BytesPerSec> for Bytes {
    type Output = Seconds;
    fn div(self, speed: BytesPerSec) -> Seconds {
        Seconds(self.as_f64() / speed.0)
    }
}

impl Div<Seconds> for Bytes {
    type Output = BytesPerSec;
    fn div(self, time: Seconds) -> BytesPerSec {
        BytesPerSec(self.as_f64() / time.0)
    }
}

impl Div<FlopPerSec> for Flop {
    type Output = Seconds;
    fn div(self, speed: FlopPerSec) -> Seconds {
        Seconds(self.0 / speed.0)
    }
}

impl Div<Seconds> for Flop {
    type Output = FlopPerSec;
    fn div(self, time: Seconds) -> FlopPerSec {
        FlopPerSec(self.0 / time.0)
    }
}

impl Mul<Seconds> for Watts {
    type Output = Joules;
    fn mul(self, time: Seconds) -> Joules {
        Joules(self.0 * time.0)
    }
}

impl Div<Seconds> for Joules {
    type Output = Watts;
    fn div(self, time: Seconds) -> Watts {
        Watts(self.0 / time.0)
    }
}

impl Joules {
    /// The energy in kilowatt-hours, as electricity is billed.
    pub const fn kwh(self) -> f64 {
        self.0 / JOULES_PER_KWH
    }

    /// `kwh` kilowatt-hours.
    pub const fn from_kwh(kwh: f64) -> Self {
        Self(kwh * JOULES_PER_KWH)
    }
}

impl Mul<UsdPerKwh> for Joules {
    type Output = Usd;
    fn mul(self, price: UsdPerKwh) -> Usd {
        Usd(self.kwh() * price.0)
    }
}

impl Mul<GramsPerKwh> for Joules {
    type Output = Grams;
    fn mul(self, intensity: GramsPerKwh) -> Grams {
        Grams(self.kwh() * intensity.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kilowatt_for_an_hour_costs_the_price_of_a_kilowatt_hour() {
        let energy = Watts(1_000.0) * Seconds(3_600.0);
        assert!((energy.kwh() - 1.0).abs() < 1e-12);
        assert!((energy * UsdPerKwh(0.15)).0 - 0.15 < 1e-12);
        assert!((energy * GramsPerKwh(400.0)).0 - 400.0 < 1e-9);
        assert_eq!(Joules::from_kwh(2.0), Joules(7.2e6));
    }

    #[test]
    fn a_gigabyte_at_half_a_gigabyte_per_second_takes_two_seconds() {
        assert_eq!(Bytes(1_000_000_000) / BytesPerSec(5e8), Seconds(2.0));
        assert_eq!(Flop(6e12) / FlopPerSec(3e12), Seconds(2.0));
        assert_eq!(BytesPerSec::from(BitsPerSec(4e11)), BytesPerSec(5e10));
        assert_eq!(UsdPerHour(2.5) * Seconds(7_200.0), Usd(5.0));
    }
}
