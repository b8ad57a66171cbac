//! Numbers that must lie in a range, and the words for one that does not.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dh_units::significant;

/// A factor or a quantity cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be {value}; {range}")]
pub struct OutOfRange {
    /// What it is.
    pub what: String,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

impl dh_core::HasKind for OutOfRange {
    fn kind(&self) -> dh_core::Kind {
        dh_core::Kind::Invalid
    }
}

/// Refuses a `value` outside of `range`; `words` say the range.
pub(crate) fn within(
    what: &str,
    value: f64,
    range: RangeInclusive<f64>,
    words: &'static str,
) -> Result<(), OutOfRange> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(OutOfRange { what: what.to_owned(), value: significant(value), range: words })
}

/// Refuses a name that occurs twice or is one of `taken`: each is part of an id.
pub(crate) fn distinct<'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a str>,
    taken: &[&'static str],
) -> Result<(), OutOfRange> {
    let mut seen: BTreeSet<&str> = taken.iter().copied().collect();
    match names.into_iter().find(|name| !seen.insert(name)) {
        None => Ok(()),
        Some(name) => Err(OutOfRange {
            what: what.to_owned(),
            value: format!("`{name}`"),
            range: "each needs a name of its own, and this one is taken",
        }),
    }
}
