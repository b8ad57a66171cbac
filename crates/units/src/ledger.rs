//! A ledger of modelled numbers: each with its formula, the numbers it was computed from and, at the ends, a source.
//!
//! Invariant: a number is entered after those it was computed from, once, under an id that never changes; so the ledger has
//! no cycles, keeps its order, and every number can be followed down to what was given.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use crate::print::significant;
use crate::quantity::{
    BitsPerSec, Bytes, BytesPerSec, Celsius, Flop, FlopPerSec, Grams, GramsPerKwh, Joules, Meters, Seconds, Tokens,
    Usd, UsdPerHour, UsdPerKwh, Watts,
};

macro_rules! values {
    ($($name:ident, $unit:literal, $number:expr;)*) => {
        /// A value of some quantity, with its unit known at run time.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            /// A whole number of things.
            Count(u64),
            /// A number without a unit.
            Ratio(f64),
            /// Something that is not a number: a name, a word.
            Text(String),
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        $(impl From<$name> for Value {
            fn from(value: $name) -> Self {
                Self::$name(value)
            }
        })*

        impl Value {
            /// The unit that [`Self::number`] is in; empty for counts, ratios and texts.
            pub const fn unit(&self) -> &'static str {
                match self {
                    Self::Count(_) | Self::Ratio(_) | Self::Text(_) => "",
                    $(Self::$name(_) => $unit,)*
                }
            }

            /// The value in its base unit; `None` for a text.
            #[expect(clippy::cast_precision_loss, reason = "counts above 2^53 are estimates")]
            pub fn number(&self) -> Option<f64> {
                match self {
                    Self::Count(count) => Some(*count as f64),
                    Self::Ratio(ratio) => Some(*ratio),
                    Self::Text(_) => None,
                    $(Self::$name(value) => Some($number(*value)),)*
                }
            }
        }

        impl fmt::Display for Value {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Count(count) => f.write_str(&grouped(*count)),
                    Self::Ratio(ratio) => f.write_str(&significant(*ratio)),
                    Self::Text(text) => f.write_str(text),
                    $(Self::$name(value) => value.fmt(f),)*
                }
            }
        }
    };
}

values!(
    Bytes, "B", Bytes::as_f64;
    Tokens, "tokens", Tokens::as_f64;
    BytesPerSec, "B/s", |value: BytesPerSec| value.0;
    BitsPerSec, "b/s", |value: BitsPerSec| value.0;
    Seconds, "s", |value: Seconds| value.0;
    Flop, "FLOP", |value: Flop| value.0;
    FlopPerSec, "FLOP/s", |value: FlopPerSec| value.0;
    Watts, "W", |value: Watts| value.0;
    Joules, "J", |value: Joules| value.0;
    Usd, "USD", |value: Usd| value.0;
    UsdPerKwh, "USD/kWh", |value: UsdPerKwh| value.0;
    UsdPerHour, "USD/h", |value: UsdPerHour| value.0;
    Grams, "g", |value: Grams| value.0;
    GramsPerKwh, "g/kWh", |value: GramsPerKwh| value.0;
    Meters, "m", |value: Meters| value.0;
    Celsius, "°C", |value: Celsius| value.0;
);

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<f64> for Value {
    fn from(ratio: f64) -> Self {
        Self::Ratio(ratio)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Digits in groups of three: `16,384`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As a number in its base unit, or as a text.
impl Serialize for Value {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other quantities are real numbers")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Bytes(bytes) => serializer.serialize_u64(bytes.0),
            Self::Tokens(tokens) => serializer.serialize_u64(tokens.0),
            Self::Text(text) => serializer.serialize_str(text),
            other => other.number().serialize(serializer),
        }
    }
}

/// One number of a ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// Its stable name, dotted: `power.rated`, `network.compute.leaf`.
    pub id: String,
    /// What it is, in a few words.
    pub title: String,
    /// How much.
    pub value: Value,
    /// How it was computed, with the numbers filled in; empty for what was given.
    pub formula: String,
    /// Ids of the numbers it was computed from; all are in the ledger.
    pub inputs: Vec<String>,
    /// Where it comes from if it was given: a data sheet, a line of the blueprint, a default and why.
    pub source: Option<String>,
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Number", 8)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("title", &self.title)?;
        fields.serialize_field("value", &self.value)?;
        fields.serialize_field("unit", self.value.unit())?;
        fields.serialize_field("text", &self.value.to_string())?;
        fields.serialize_field("formula", &self.formula)?;
        fields.serialize_field("inputs", &self.inputs)?;
        fields.serialize_field("source", &self.source)?;
        fields.end()
    }
}

/// Numbers in the order in which they were computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    numbers: Vec<Number>,
    by_id: BTreeMap<String, usize>,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a number that was given: measured, published, written in the blueprint, or assumed. Returns its value.
    ///
    /// A number that is there already with the same value stays as it is: several sums may start from one fact, and who asks a
    /// model may know better than the model where its input comes from.
    /// # Panics
    /// If `id` was entered with another value: a mistake of the program.
    pub fn given<T: Copy + Into<Value>>(&mut self, id: &str, title: &str, value: T, source: &str) -> T {
        if let Some(known) = self.get(id) {
            assert!(known.value == value.into(), "`{id}` is in the ledger with another value");
            return value;
        }
        self.enter(Number {
            id: id.to_owned(),
            title: title.to_owned(),
            value: value.into(),
            formula: String::new(),
            inputs: Vec::new(),
            source: Some(source.to_owned()),
        });
        value
    }

    /// Enters a number computed as `formula` says from `inputs`. Returns its value.
    /// # Panics
    /// If `id` is taken or one of `inputs` is not in the ledger: a mistake of the program.
    pub fn derived<T: Copy + Into<Value>>(
        &mut self,
        id: &str,
        title: &str,
        value: T,
        formula: impl Into<String>,
        inputs: &[&str],
    ) -> T {
        for input in inputs {
            assert!(self.by_id.contains_key(*input), "`{id}` is computed from `{input}`, which is not in the ledger");
        }
        assert!(!self.by_id.contains_key(id), "`{id}` is in the ledger twice");
        self.enter(Number {
            id: id.to_owned(),
            title: title.to_owned(),
            value: value.into(),
            formula: formula.into(),
            inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
            source: None,
        });
        value
    }

    fn enter(&mut self, number: Number) {
        self.by_id.insert(number.id.clone(), self.numbers.len());
        self.numbers.push(number);
    }

    /// The number called `id`.
    pub fn get(&self, id: &str) -> Option<&Number> {
        self.by_id.get(id).and_then(|place| self.numbers.get(*place))
    }

    /// All numbers in the order in which they were computed.
    pub fn numbers(&self) -> &[Number] {
        &self.numbers
    }

    /// The id nearest to `written`, if one is near, for a hint.
    pub fn nearest(&self, written: &str) -> Option<&str> {
        let ids = self.by_id.keys().map(String::as_str);
        ids.map(|id| (strsim::damerau_levenshtein(written, id), id))
            .filter(|(distance, id)| *distance <= 1.max(id.len() / 3))
            .min()
            .map(|(_, id)| id)
    }
}

impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new();
        let nodes = ledger.given("pool.train.nodes", "nodes", 127_u64, "hall.toml:9");
        let each = ledger.given("node.dgx-h100.rated", "rated power", Watts(10_200.0), "data sheet");
        let all = each * 127.0;
        ledger.derived(
            "power.rated",
            "rated power of all",
            all,
            format!("{nodes} x {each}"),
            &["pool.train.nodes", "node.dgx-h100.rated"],
        );
        ledger
    }

    #[test]
    fn a_number_knows_what_it_was_computed_from() {
        let ledger = ledger();
        let power = ledger.get("power.rated").unwrap();
        assert_eq!((power.value.to_string().as_str(), power.formula.as_str()), ("1.3 MW", "127 x 10.2 kW"));
        assert!(power.inputs.iter().all(|id| ledger.get(id).unwrap().source.is_some()));
        assert_eq!(ledger.nearest("power.ratd"), Some("power.rated"));
        assert_eq!(ledger.nearest("colour"), None);
    }

    #[test]
    fn one_fact_may_be_given_twice_but_not_changed() {
        let mut ledger = ledger();
        // What was computed by whoever asks a model is what the model starts from.
        ledger.given("power.rated", "rated power", Watts(10_200.0) * 127.0, "what is asked");
        assert_eq!(ledger.get("power.rated").unwrap().source, None);
        ledger.given("pool.train.nodes", "nodes", 127_u64, "hall.toml:9");
        assert_eq!(ledger.numbers().len(), 3);
        let changed = std::panic::catch_unwind(move || ledger.given("pool.train.nodes", "nodes", 5_u64, "hall.toml:9"));
        assert!(changed.is_err());
    }

    #[test]
    fn counts_are_grouped_and_values_carry_their_unit() {
        assert_eq!(Value::from(16_384_u64).to_string(), "16,384");
        assert_eq!(Value::from(512_u64).to_string(), "512");
        assert_eq!(Value::from(1_048_576_u64).to_string(), "1,048,576");
        assert_eq!(Value::from(BitsPerSec(4e11)).unit(), "b/s");
        assert_eq!(Value::from("fat tree").number(), None);
    }
}
