//! Listing keys by prefix and delimiter.
//!
//! Cost: proportional to what is returned, not to what lies under a common prefix: after a common prefix the scan seeks
//! past all of its keys. Order is that of the keys' bytes.

use std::sync::Arc;

use crate::buckets;
use crate::index::codec::decode;
use crate::index::keys::{bucket_range, past, past_object, prefix_key, split_upload, split_version, upload_key};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{UploadRow, VersionRow};
use crate::store::off_runtime;
use crate::{Error, ObjectInfo, Store, UploadInfo};

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListQuery {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that hold this after the prefix are rolled up; empty for none.
    pub delimiter: String,
    /// Only what sorts after this key or common prefix.
    pub after: Option<String>,
    /// At most so many keys and common prefixes together.
    pub limit: usize,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Its key.
    pub key: String,
    /// What is known of it.
    pub info: ObjectInfo,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListPage {
    /// The objects in order.
    pub entries: Vec<ListEntry>,
    /// The common prefixes in order.
    pub prefixes: Vec<String>,
    /// Where the next page starts, if there is more: what to put into [`ListQuery::after`].
    pub next: Option<String>,
}

/// What uploads to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadQuery {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that hold this after the prefix are rolled up; empty for none.
    pub delimiter: String,
    /// Only what sorts after this key, and after this upload of it if there is one.
    pub after: Option<(String, Option<String>)>,
    /// At most so many.
    pub limit: usize,
}

/// A page of uploads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadPage {
    /// The uploads by key, then id.
    pub uploads: Vec<UploadInfo>,
    /// The common prefixes in order.
    pub prefixes: Vec<String>,
    /// Key and upload after which the next page starts, if there is more.
    pub next: Option<(String, String)>,
}

/// Older versions of one key that are stepped over before the scan seeks the next key.
const STEPS_MAX: usize = 8;

/// The common prefix that `key` is rolled up into.
pub(crate) fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: &str) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key.get(prefix.len()..)?.find(delimiter)?;
    key.get(..prefix.len() + at + delimiter.len())
}

/// The first row key that may be listed, and the end of the rows.
pub(crate) fn bounds(bucket: &str, prefix: &str, delimiter: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let first = prefix_key(bucket, prefix);
    let end = if prefix.is_empty() { bucket_range(bucket).1 } else { past(first.clone()) };
    let resume = after.map(|after| {
        if common_prefix(after, prefix, delimiter).is_some_and(|common| common == after && after.starts_with(prefix)) {
            past(prefix_key(bucket, after))
        } else {
            past_object(bucket, after)
        }
    });
    (resume.filter(|resume| *resume > first).unwrap_or(first), end)
}

fn list(meta: &Meta, bucket: &str, query: &ListQuery) -> Result<ListPage, Error> {
    let transaction = meta.read()?;
    buckets::find(&transaction, bucket)?;
    let mut page = ListPage::default();
    if query.limit == 0 {
        return Ok(page);
    }
    let (from, end) = bounds(bucket, &query.prefix, &query.delimiter, query.after.as_deref());
    let mut last = None;
    let mut newest: Option<(String, usize)> = None;
    Meta::scan(&transaction, TableId::Objects, from, &end, |row_key, value| {
        let (_bucket, key, _sequence) =
            split_version(row_key).ok_or_else(|| Error::corrupt("an object's key", "meta.redb"))?;
        // Older versions stand behind the newest. A few are stepped over, of many the end is sought.
        if let Some((_key, older)) = newest.as_mut().filter(|(seen, _older)| seen == key) {
            *older += 1;
            return Ok(if *older < STEPS_MAX { Next::Row } else { Next::Seek(past_object(bucket, key)) });
        }
        newest = Some((key.to_owned(), 0));
        let info = match decode::<VersionRow>(row_key, value) {
            Ok((VersionRow::Object(info), _inline)) => info,
            Ok((VersionRow::Marker(_) | VersionRow::NullAt(_), _inline)) => return Ok(Next::Row),
            // One damaged row must not make the others unlistable; reading the object itself reports it.
            Err(error @ Error::Corrupt { .. }) => {
                tracing::error!(%error, "a listing leaves out a corrupt row");
                return Ok(Next::Row);
            }
            Err(error) => return Err(error),
        };
        if page.entries.len() + page.prefixes.len() >= query.limit {
            page.next = last.take();
            return Ok(Next::Stop);
        }
        if let Some(common) = common_prefix(key, &query.prefix, &query.delimiter) {
            page.prefixes.push(common.to_owned());
            last = Some(common.to_owned());
            return Ok(Next::Seek(past(prefix_key(bucket, common))));
        }
        last = Some(key.to_owned());
        page.entries.push(ListEntry { key: key.to_owned(), info });
        Ok(Next::Row)
    })?;
    Ok(page)
}

fn list_uploads(meta: &Meta, bucket: &str, query: &UploadQuery) -> Result<UploadPage, Error> {
    let transaction = meta.read()?;
    buckets::find(&transaction, bucket)?;
    let mut page = UploadPage::default();
    if query.limit == 0 {
        return Ok(page);
    }
    let after = query.after.as_ref();
    let (mut from, end) = bounds(bucket, &query.prefix, &query.delimiter, after.map(|(key, _upload)| key.as_str()));
    // Behind a key come the zero byte and the upload's id; ids are hexadecimal, so `g` sorts after all of them.
    let resume = after.map(|(key, upload)| upload_key(bucket, key, upload.as_deref().map_or("g", |upload| upload)));
    let resume = resume.map(|row_key| [row_key.as_slice(), &[0]].concat());
    let starts_inside = after.is_some_and(|(key, _upload)| {
        common_prefix(key, &query.prefix, &query.delimiter).is_none_or(|common| common != key.as_str())
    });
    if let Some(resume) = resume.filter(|resume| starts_inside && *resume >= prefix_key(bucket, &query.prefix)) {
        from = resume;
    }
    let mut last = None;
    Meta::scan(&transaction, TableId::Uploads, from, &end, |row_key, value| {
        let (key, upload) = split_upload(row_key).ok_or_else(|| Error::corrupt("an upload's key", "meta.redb"))?;
        if page.uploads.len() + page.prefixes.len() >= query.limit {
            page.next = last.take();
            return Ok(Next::Stop);
        }
        if let Some(common) = common_prefix(key, &query.prefix, &query.delimiter) {
            page.prefixes.push(common.to_owned());
            last = Some((common.to_owned(), String::new()));
            return Ok(Next::Seek(past(prefix_key(bucket, common))));
        }
        let (row, _inline) = decode::<UploadRow>(row_key, value)?;
        page.uploads.push(UploadInfo::new(key, upload, &row));
        last = Some((key.to_owned(), upload.to_owned()));
        Ok(Next::Row)
    })?;
    Ok(page)
}

impl Store {
    /// A page of a bucket's objects.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn list(&self, bucket: &str, query: ListQuery) -> Result<ListPage, Error> {
        let (meta, bucket) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || list(&meta, &bucket, &query)).await
    }

    /// A page of a bucket's multipart uploads.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn list_uploads(&self, bucket: &str, query: UploadQuery) -> Result<UploadPage, Error> {
        let (meta, bucket) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || list_uploads(&meta, &bucket, &query)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_prefixes_end_with_the_delimiter() {
        for (key, prefix, delimiter, want) in [
            ("a/b/c", "", "/", Some("a/")),
            ("a/b/c", "a/", "/", Some("a/b/")),
            ("a/b", "a/b", "/", None),
            ("a//b", "a/", "/", Some("a//")),
            ("axxb", "", "xx", Some("axx")),
            ("abc", "", "", None),
            ("é/x", "é", "/", Some("é/")),
        ] {
            assert_eq!(common_prefix(key, prefix, delimiter), want, "{key} {prefix} {delimiter}");
        }
    }
}
