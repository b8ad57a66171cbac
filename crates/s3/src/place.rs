//! Names of things in a store, `s3://bucket/key`, and how they are written into addresses.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A bucket, or a key or prefix in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The bucket.
    pub bucket: String,
    /// The key or prefix; empty for the bucket itself.
    pub key: String,
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Setting(format!("`{text}` is not of the form s3://BUCKET/KEY"));
        let rest = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || key.len() > dh_core::limits::KEY_BYTES_MAX {
            return Err(wrong());
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// Whether slashes stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    Kept,
    Encoded,
}

/// Percent-encodes all but unreserved characters, as signatures want it.
pub(crate) fn encode_into(out: &mut String, text: &str, slash: Slash) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slash == Slash::Kept => out.push('/'),
            _ => {
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
    }
}

/// The same as a text of its own.
pub(crate) fn encode(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len());
    encode_into(&mut out, text, slash);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        for text in ["s3://b/", "s3://b/k", "s3://b/a/b c"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        assert_eq!("s3://b".parse::<Place>().unwrap().key, "");
        for text in ["b/k", "s3:/b/k", "s3:///k", ""] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(encode("a/b c+é~", Slash::Kept), "a/b%20c%2B%C3%A9~");
        assert_eq!(encode("a/b", Slash::Encoded), "a%2Fb");
    }
}
