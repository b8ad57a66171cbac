//! What a value of the catalogue can be, how it is read and how it is written again.
//!
//! Invariant: `toml` of a value reads back as exactly this value, so that a plan can print the blueprint it rests on.

use dh_units::{BitsPerSec, Bytes, BytesPerSec, FlopPerSec, Meters, Quantity, Seconds, Usd, Watts};
use serde::{Deserialize, Serialize};

use crate::section::{Section, Spot};

/// A number and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The number.
    pub value: T,
    /// Data sheet, paper, measurement, or the words "stated assumption" and why.
    pub source: String,
}

/// One entry of an item, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its key in the file.
    pub key: &'static str,
    /// For people, with its unit: `3.35 TB/s`.
    pub value: String,
    /// As it stands behind `key =` in a file; reads back as exactly the same.
    pub toml: String,
    /// Where a number comes from; names and remarks have none.
    pub source: Option<String>,
}

/// A value with a source.
pub(crate) trait Fact: Clone {
    /// The value of `key`; what is wrong with it is reported.
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>>;

    /// For people.
    fn shown(&self) -> String;

    /// As in a file.
    fn toml(&self) -> String;

    /// Whether it is a number and that number is zero.
    fn is_zero(&self) -> bool {
        false
    }
}

/// Counts of one item: vocabularies and contexts are the largest.
const COUNT_MAX: u32 = 1 << 24;

macro_rules! quantities {
    ($($name:ident)*) => { $(
        impl Fact for $name {
            fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
                section.quantity(key)
            }

            fn shown(&self) -> String {
                self.to_string()
            }

            fn toml(&self) -> String {
                // The short form where it is exact, because people read it.
                let short = self.to_string();
                quoted(&if short.parse() == Ok(*self) { short } else { self.print_exact() })
            }

            fn is_zero(&self) -> bool {
                *self == Self::default()
            }
        }
    )* };
}

quantities!(Bytes BytesPerSec BitsPerSec FlopPerSec Meters Seconds Usd Watts);

macro_rules! counts {
    ($($name:ident: $most:expr;)*) => { $(
        impl Fact for $name {
            fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
                section.integer(key, 0..=$most)
            }

            fn shown(&self) -> String {
                self.to_string()
            }

            fn toml(&self) -> String {
                self.to_string()
            }

            fn is_zero(&self) -> bool {
                *self == 0
            }
        }
    )* };
}

counts!(
    u32: COUNT_MAX;
    u64: i64::MAX.unsigned_abs();
);

impl Fact for String {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        section.text(key)
    }

    fn shown(&self) -> String {
        self.clone()
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

impl Fact for bool {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        section.boolean(key)
    }

    fn shown(&self) -> String {
        if *self { "yes" } else { "no" }.to_owned()
    }

    fn toml(&self) -> String {
        self.to_string()
    }
}

/// A choice of a few words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $( $(#[$variant_doc])* #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// As in a file.
            pub const fn word(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }
        }

        impl $crate::catalog::fact::Fact for $name {
            fn read<'a>(
                section: &$crate::section::Section<'a>,
                key: &'a str,
            ) -> Option<$crate::section::Spot<Self>> {
                section.word(key, &[$(($word, Self::$variant)),*])
            }

            fn shown(&self) -> String {
                self.word().to_owned()
            }

            fn toml(&self) -> String {
                $crate::catalog::fact::quoted(self.word())
            }
        }
    };
}

pub(super) use words;

/// `text` as a TOML string in quotes.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
