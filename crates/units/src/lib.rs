//! Quantities: typed, so that `Bytes / BytesPerSec` is `Seconds` and `Watts + Joules` does not compile.
//!
//! Invariant: bits and bytes, powers of ten and of two convert only where text is parsed or printed (`parse`, `print`).
//! The field of each type is in the type's own base unit.
#![warn(missing_docs)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod based;
mod count;
mod ledger;
mod number;
mod parse;
mod print;
mod quantity;
mod unit;

pub use based::Based;
pub use count::{real, whole};
pub use ledger::{Ledger, Number, Value};
pub use parse::{Error, Fault, Quantity};
pub use print::significant;
pub use quantity::{
    BitsPerSec, Bytes, BytesPerSec, Celsius, Flop, FlopPerSec, Grams, GramsPerKwh, Joules, Meters, Seconds, Tokens,
    Usd, UsdPerHour, UsdPerKwh, Watts,
};
pub use unit::Dimension;
