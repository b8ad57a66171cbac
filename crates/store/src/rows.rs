//! Metadata rows and their encoding.
//!
//! A value is `version u8 | length of the JSON u32 | JSON | inline body | crc u64`; the crc covers the row's key too, so
//! that a row under another key is as visible as a flipped bit. Cost: about 2 us to read a row.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::block::bound_crc;
use crate::digest::{ChecksumKind, Checksums};
use crate::extent::ExtentRef;

const VERSION: u8 = 1;
const FRAME_BYTES: usize = 1 + 4 + 8;

/// What a client may say about an object and gets back with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectHeaders {
    /// `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Expires`, in milliseconds of the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// `x-amz-meta-*`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketRow {
    pub(crate) created_ms: u64,
}

/// Everything about an object but its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// Logical bytes.
    pub size: u64,
    /// The `ETag` without quotes: MD5 of the body, or MD5 of the parts' MD5s, `-`, and their number.
    pub etag: String,
    /// When it was written, in milliseconds of the Unix epoch.
    pub modified_ms: u64,
    /// What the client said about it.
    #[serde(default)]
    pub headers: ObjectHeaders,
    /// Checksums that are returned on demand.
    #[serde(default)]
    pub checksums: Checksums,
    /// The extents in order; each is a part. Empty if the body is inline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) extents: Vec<ExtentRef>,
}

impl ObjectInfo {
    /// Bytes on the disk: of the extent files, or of the inline body.
    pub fn stored(&self) -> u64 {
        if self.extents.is_empty() { self.size } else { self.extents.iter().map(|extent| extent.stored).sum() }
    }

    /// The length of each part; of an object that was uploaded whole, its own.
    pub(crate) fn part_lengths(&self) -> Vec<u64> {
        if self.extents.is_empty() { vec![self.size] } else { self.extents.iter().map(|extent| extent.len).collect() }
    }

    /// The number of parts, if it was uploaded in parts.
    pub fn parts(&self) -> Option<usize> {
        self.etag.contains('-').then_some(self.extents.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRow {
    pub(crate) created_ms: u64,
    pub(crate) headers: ObjectHeaders,
    /// The checksum that the client wants for parts and whole.
    pub(crate) checksum: Option<ChecksumKind>,
    /// Whether the whole's checksum is one over all bytes rather than over the parts' checksums.
    pub(crate) full_object: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRow {
    pub(crate) etag: String,
    pub(crate) modified_ms: u64,
    pub(crate) checksums: Checksums,
    pub(crate) extent: ExtentRef,
}

/// The key of an object: bucket names hold no zero byte, so this sorts by bucket, then by the key's bytes.
pub(crate) fn object_key(bucket: &str, key: &str) -> Vec<u8> {
    [bucket.as_bytes(), &[0], key.as_bytes()].concat()
}

/// The keys of a bucket, as a half-open range.
pub(crate) fn bucket_range(bucket: &str) -> (Vec<u8>, Vec<u8>) {
    ([bucket.as_bytes(), &[0]].concat(), [bucket.as_bytes(), &[1]].concat())
}

/// Bucket and object key of a row's key.
pub(crate) fn split_key(row_key: &[u8]) -> Option<(&str, &str)> {
    let zero = row_key.iter().position(|byte| *byte == 0)?;
    let bucket = std::str::from_utf8(row_key.get(..zero)?).ok()?;
    Some((bucket, std::str::from_utf8(row_key.get(zero + 1..)?).ok()?))
}

/// The key of an upload: under its object's key, the id of fixed length last.
pub(crate) fn upload_key(bucket: &str, key: &str, upload: &str) -> Vec<u8> {
    [object_key(bucket, key).as_slice(), &[0], upload.as_bytes()].concat()
}

/// The key of a part.
pub(crate) fn part_key(upload: &str, part: u32) -> Vec<u8> {
    [upload.as_bytes(), &part.to_be_bytes()].concat()
}

/// The value of a row.
pub(crate) fn encode<T: Serialize>(row_key: &[u8], row: &T, inline: &[u8]) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(row).map_err(|error| Error::Meta(format!("encode a row: {error}")))?;
    let length = u32::try_from(json.len()).map_err(|_large| Error::TooLarge(u64::from(u32::MAX)))?;
    let mut value = Vec::with_capacity(json.len() + inline.len() + FRAME_BYTES);
    value.push(VERSION);
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(&json);
    value.extend_from_slice(inline);
    let crc = bound_crc(row_key, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    Ok(value)
}

/// A row and its inline body.
/// # Errors
/// [`Error::Corrupt`] if the value is not what [`encode`] made for this key.
pub(crate) fn decode<'a, T: DeserializeOwned>(row_key: &[u8], value: &'a [u8]) -> Result<(T, &'a [u8]), Error> {
    let bad = |what: &str| Error::corrupt(format!("{what} of row `{}`", row_key.escape_ascii()), "meta.redb");
    let (framed, crc) = value.split_last_chunk::<8>().ok_or_else(|| bad("the length"))?;
    if bound_crc(row_key, framed) != u64::from_le_bytes(*crc) {
        return Err(bad("the checksum"));
    }
    let (version, rest) = framed.split_first().ok_or_else(|| bad("the length"))?;
    if *version != VERSION {
        return Err(Error::Meta(format!("row version {version} is newer than this program; use the newer one")));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("the length"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_large| bad("the length"))?;
    let (json, inline) = rest.split_at_checked(length).ok_or_else(|| bad("the length"))?;
    let row = serde_json::from_slice(json).map_err(|_malformed| bad("the content"))?;
    Ok((row, inline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_row_reads_back_and_every_flipped_bit_is_seen() {
        let row = ObjectInfo {
            size: 5,
            etag: "5d41402abc4b2a76b9719d911017c592".to_owned(),
            modified_ms: 1,
            headers: ObjectHeaders::default(),
            checksums: Checksums::default(),
            extents: Vec::new(),
        };
        let value = encode(b"bucket\0key", &row, b"hello").unwrap();
        assert_eq!(decode::<ObjectInfo>(b"bucket\0key", &value).unwrap(), (row, b"hello".as_slice()));
        assert!(decode::<ObjectInfo>(b"bucket\0other", &value).is_err());
        for byte in 0..value.len() {
            for bit in 0..8 {
                let mut flipped = value.clone();
                flipped[byte] ^= 1 << bit;
                assert!(decode::<ObjectInfo>(b"bucket\0key", &flipped).is_err(), "byte {byte} bit {bit}");
            }
        }
        for length in 0..value.len() {
            assert!(decode::<ObjectInfo>(b"bucket\0key", &value[..length]).is_err());
        }
        expect![[
            r#"{"size":5,"etag":"5d41402abc4b2a76b9719d911017c592","modified_ms":1,"headers":{},"checksums":{}}"#
        ]]
        .assert_eq(std::str::from_utf8(&value[5..value.len() - 13]).unwrap());
    }

    #[test]
    fn keys_sort_by_bucket_then_key() {
        assert!(object_key("a", "z") < object_key("b", "a"));
        assert!(object_key("a", "x") < object_key("a-b", "a"));
        assert_eq!(split_key(&object_key("bucket", "a/b")), Some(("bucket", "a/b")));
        let (low, high) = bucket_range("a");
        assert!(low <= object_key("a", "") && object_key("a", "\u{10ffff}") < high);
    }
}
