//! What makes two requests the same: a digest of the body whatever its order and its blanks.
//!
//! Numbers count as they are written and strings as they are read, so no two different requests have one key. Collisions of
//! SHA-256 are not expected by anybody.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A digest.
pub(super) type Key = [u8; 32];

/// The fields of an object as they are written.
pub(super) type Raw<'a> = BTreeMap<String, &'a RawValue>;

/// The digest of a request's fields and of what else decides about its answer.
pub(super) fn of(fields: &Raw<'_>, beside: &[&[u8]]) -> Option<Key> {
    let mut sha = Sha256::new();
    for part in beside {
        text(&mut sha, b'b', part);
    }
    object(&mut sha, fields)?;
    Some(sha.finalize().into())
}

fn text(sha: &mut Sha256, kind: u8, bytes: &[u8]) {
    sha.update([kind]);
    sha.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    sha.update(bytes);
}

fn object(sha: &mut Sha256, fields: &Raw<'_>) -> Option<()> {
    sha.update([b'o']);
    sha.update(u64::try_from(fields.len()).unwrap_or(u64::MAX).to_le_bytes());
    for (name, value) in fields {
        text(sha, b'k', name.as_bytes());
        walk(sha, value)?;
    }
    Some(())
}

/// The caller has bounded the depth.
fn walk(sha: &mut Sha256, value: &RawValue) -> Option<()> {
    let written = value.get();
    match written.as_bytes().first()? {
        b'{' => object(sha, &serde_json::from_str(written).ok()?),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(written).ok()?;
            sha.update([b'a']);
            sha.update(u64::try_from(items.len()).unwrap_or(u64::MAX).to_le_bytes());
            items.into_iter().try_for_each(|item| walk(sha, item))
        }
        b'"' => {
            let read: String = serde_json::from_str(written).ok()?;
            text(sha, b's', read.as_bytes());
            Some(())
        }
        _ => {
            text(sha, b'n', written.as_bytes());
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(body: &str) -> Key {
        of(&serde_json::from_str(body).unwrap(), &[b"route", b"ann"]).unwrap()
    }

    #[test]
    fn order_and_blanks_do_not_count_and_everything_else_does() {
        let body = r#"{"a":[1,{"b":"caf\u00e9","c":null}],"d":1.0}"#;
        assert_eq!(key(body), key(" { \"d\" : 1.0 , \"a\":[ 1 , {\"c\":null,\"b\":\"caf\u{e9}\"} ] } "));
        for other in [
            r#"{"a":[1,{"b":"caf\u00e9","c":null}],"d":1}"#,
            r#"{"a":[1,{"b":"caf\u00e9","c":"null"}],"d":1.0}"#,
            r#"{"a":[1,{"b":"caf\u00e9"}],"c":null,"d":1.0}"#,
            r#"{"a":[[1],{"b":"caf\u00e9","c":null}],"d":1.0}"#,
            r#"{"a":[1,{"b":"caf\u00e9","c":null}],"d":1.0,"e":12345678901234567890123}"#,
        ] {
            assert_ne!(key(body), key(other), "{other}");
        }
        let big = |last: u8| key(&format!("{{\"n\":1234567890123456789012{last}}}"));
        assert_ne!(big(3), big(4));
        let fields: Raw<'_> = serde_json::from_str(body).unwrap();
        assert_ne!(of(&fields, &[b"route", b"ann"]), of(&fields, &[b"route", b"bob"]));
        assert_ne!(of(&fields, &[b"routea", b"nn"]), of(&fields, &[b"route", b"ann"]));
    }
}
