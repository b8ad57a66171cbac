//! Versions of an object: their names, which of them is meant, and whether a bucket keeps them.
//!
//! A version's id is its sequence number in the store, so ids grow with time, a version is found by one look-up, and the
//! newest of a key sorts first under the inverted number. The null version, that of times without versioning, has a name
//! of its own.

use std::fmt;

/// The name of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum VersionId {
    /// `null`: written while the bucket kept no versions.
    #[default]
    Null,
    /// Written while it did; the number is the write's place in the store's order.
    Id(u64),
}

impl VersionId {
    /// The version that S3 clients name so: `null`, or 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let plain = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        (id > 0).then_some(Self::Id(id))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Id(id) => write!(f, "{id:016x}"),
        }
    }
}

/// Which version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// The newest.
    #[default]
    Latest,
    /// This one.
    Id(VersionId),
}

impl From<Option<VersionId>> for Version {
    fn from(id: Option<VersionId>) -> Self {
        id.map_or(Self::Latest, Self::Id)
    }
}

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// It never did: a write replaces, a delete removes.
    #[default]
    Unversioned,
    /// Each write is a version, and a delete is a marker on top.
    Enabled,
    /// It did: versions stay, and writes replace the null version.
    Suspended,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_nothing_else_does() {
        for id in [VersionId::Null, VersionId::Id(1), VersionId::Id(u64::MAX)] {
            assert_eq!(VersionId::parse(&id.to_string()), Some(id));
        }
        for text in ["", "Null", "0000000000000000", "000000000000000g", "00000000000000001", "000000000000000A"] {
            assert_eq!(VersionId::parse(text), None, "{text}");
        }
    }
}
