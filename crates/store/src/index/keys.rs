//! Keys of rows. All sort as bytes, so that a listing is a scan and the newest version of an object is its first row.
//!
//! `objects`: `bucket 0 key 0 !sequence` with the sequence number inverted and big-endian. Bucket names and keys hold no
//! zero byte, so keys sort by their bytes and all versions of one stand together. The null version of a key without
//! other versions has sequence 0, the last place; elsewhere that place holds a pointer to it.

/// Where the versions of a key begin.
pub(crate) fn object_key(bucket: &str, key: &str) -> Vec<u8> {
    [bucket.as_bytes(), &[0], key.as_bytes(), &[0]].concat()
}

/// The first key behind all versions of a key.
pub(crate) fn past_object(bucket: &str, key: &str) -> Vec<u8> {
    [bucket.as_bytes(), &[0], key.as_bytes(), &[1]].concat()
}

/// The key of one version.
pub(crate) fn version_key(bucket: &str, key: &str, sequence: u64) -> Vec<u8> {
    [bucket.as_bytes(), &[0], key.as_bytes(), &[0], &(!sequence).to_be_bytes()].concat()
}

/// The first place of keys that start with `prefix`.
pub(crate) fn prefix_key(bucket: &str, prefix: &str) -> Vec<u8> {
    [bucket.as_bytes(), &[0], prefix.as_bytes()].concat()
}

/// The first bytes that sort after everything that starts with `prefix`. UTF-8 has no byte 0xff, so this always exists.
pub(crate) fn past(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

/// The rows of a bucket, as a half-open range.
pub(crate) fn bucket_range(bucket: &str) -> (Vec<u8>, Vec<u8>) {
    ([bucket.as_bytes(), &[0]].concat(), [bucket.as_bytes(), &[1]].concat())
}

/// Bucket, key and sequence number of a version's row.
pub(crate) fn split_version(row_key: &[u8]) -> Option<(&str, &str, u64)> {
    let (path, inverted) = row_key.split_last_chunk::<8>()?;
    let (zero, path) = path.split_last()?;
    let at = path.iter().position(|byte| *byte == 0)?;
    let bucket = std::str::from_utf8(path.get(..at)?).ok()?;
    let key = std::str::from_utf8(path.get(at + 1..)?).ok()?;
    (*zero == 0).then_some((bucket, key, !u64::from_be_bytes(*inverted)))
}

/// The key of an upload: under its object's key, the id of fixed length last.
pub(crate) fn upload_key(bucket: &str, key: &str, upload: &str) -> Vec<u8> {
    [object_key(bucket, key).as_slice(), upload.as_bytes()].concat()
}

/// Key and upload of an upload's row.
pub(crate) fn split_upload(row_key: &[u8]) -> Option<(&str, &str)> {
    let at = row_key.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(row_key.get(at + 1..)?).ok()?.rsplit_once('\0')
}

/// The key of a part.
pub(crate) fn part_key(upload: &str, part: u32) -> Vec<u8> {
    [upload.as_bytes(), &part.to_be_bytes()].concat()
}

/// The key of a bucket's document.
pub(crate) fn document_key(bucket: &str, name: &str) -> Vec<u8> {
    [bucket.as_bytes(), &[0], name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_bucket_then_key_then_newest_first() {
        assert!(object_key("a", "z") < object_key("b", "a"));
        assert!(object_key("a", "x") < object_key("a-b", "a"));
        let key = version_key("bucket", "a/b", 7);
        assert_eq!(split_version(&key), Some(("bucket", "a/b", 7)));
        assert!(version_key("a", "k", 8) < version_key("a", "k", 7));
        assert!(version_key("a", "k", u64::MAX) >= object_key("a", "k"));
        assert!(version_key("a", "k", 0) < past_object("a", "k"));
        assert!(past_object("a", "k") < version_key("a", "k\u{1}", 5));
        assert!(version_key("a", "k", 0) < version_key("a", "k/l", 5));
        let (low, high) = bucket_range("a");
        assert!(low <= object_key("a", "") && version_key("a", "\u{10ffff}", 0) < high);
    }

    #[test]
    fn uploads_split_into_key_and_id() {
        assert_eq!(split_upload(&upload_key("bucket", "a/b", "0f")), Some(("a/b", "0f")));
    }
}
