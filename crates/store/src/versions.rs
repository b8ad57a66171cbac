//! Listing all versions of objects.
//!
//! Order: keys by their bytes, the versions of a key from the newest to the oldest. Cost as for listings of keys: after a
//! common prefix the scan seeks past all of its versions.

use std::sync::Arc;

use redb::ReadTransaction;

use crate::buckets;
use crate::index::codec::decode;
use crate::index::keys::{object_key, past, past_object, prefix_key, split_version, version_key};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{MarkerInfo, ObjectInfo, VersionRow};
use crate::listing::{bounds, common_prefix};
use crate::store::off_runtime;
use crate::version::VersionId;
use crate::{Error, Store};

/// What versions to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionQuery {
    /// Only keys that start so.
    pub prefix: String,
    /// Keys that hold this after the prefix are rolled up; empty for none.
    pub delimiter: String,
    /// Only what sorts after this key or common prefix; or after this version of the key, if there is one.
    pub after: Option<(String, Option<VersionId>)>,
    /// At most so many versions and common prefixes together.
    pub limit: usize,
}

/// A version in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every entry is an object, and a box would cost an allocation each"
)]
pub enum VersionEntry {
    /// An object.
    Object {
        /// Its key.
        key: String,
        /// Whether it is the newest of its key.
        latest: bool,
        /// What is known of it.
        info: ObjectInfo,
    },
    /// A delete marker.
    Marker {
        /// Its key.
        key: String,
        /// Whether it is the newest of its key.
        latest: bool,
        /// What is known of it.
        info: MarkerInfo,
    },
}

/// A page of versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionPage {
    /// The versions in order.
    pub entries: Vec<VersionEntry>,
    /// The common prefixes in order.
    pub prefixes: Vec<String>,
    /// Where the next page starts, if there is more: what to put into [`VersionQuery::after`].
    pub next: Option<(String, Option<VersionId>)>,
}

/// The place behind a version, if it can be told.
fn behind(transaction: &ReadTransaction, bucket: &str, key: &str, version: VersionId) -> Result<Vec<u8>, Error> {
    let sequence = match version {
        VersionId::Id(sequence) => sequence,
        VersionId::Null => {
            let row_key = version_key(bucket, key, 0);
            let row = Meta::get(transaction, TableId::Objects, &row_key)?;
            let row = row.map(|value| Ok::<_, Error>(decode::<VersionRow>(&row_key, &value)?.0)).transpose()?;
            if let Some(VersionRow::NullAt(sequence)) = row { sequence } else { 0 }
        }
    };
    Ok([version_key(bucket, key, sequence).as_slice(), &[0]].concat())
}

/// The row of a key's newest version.
fn newest(transaction: &ReadTransaction, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let (from, to) = (object_key(bucket, key), past_object(bucket, key));
    Ok(Meta::first(transaction, TableId::Objects, &from, &to)?.map(|(row_key, _value)| row_key))
}

fn list(meta: &Meta, bucket: &str, query: &VersionQuery) -> Result<VersionPage, Error> {
    let transaction = meta.read()?;
    buckets::find(&transaction, bucket)?;
    let mut page = VersionPage::default();
    if query.limit == 0 {
        return Ok(page);
    }
    let after = query.after.as_ref();
    let (mut from, end) = bounds(bucket, &query.prefix, &query.delimiter, after.map(|(key, _version)| key.as_str()));
    // The newest row of the key that the page starts inside of.
    let mut inside = None;
    if let Some((key, Some(version))) = after
        && common_prefix(key, &query.prefix, &query.delimiter).is_none()
    {
        from = behind(&transaction, bucket, key, *version)?.max(prefix_key(bucket, &query.prefix));
        inside = newest(&transaction, bucket, key)?.map(|row_key| (key.clone(), row_key));
    }
    let mut last = None;
    let mut current: Option<String> = None;
    Meta::scan(&transaction, TableId::Objects, from, &end, |row_key, value| {
        let (_bucket, key, _sequence) =
            split_version(row_key).ok_or_else(|| Error::corrupt("an object's key", "meta.redb"))?;
        let first = current.as_deref() != Some(key);
        let latest =
            first && inside.as_ref().is_none_or(|(started, newest)| started != key || newest.as_slice() == row_key);
        if first {
            current = Some(key.to_owned());
        }
        let row = match decode::<VersionRow>(row_key, value) {
            Ok((VersionRow::NullAt(_), _inline)) => return Ok(Next::Row),
            Ok((row, _inline)) => row,
            // One damaged row must not make the others unlistable; reading the version itself reports it.
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
            last = Some((common.to_owned(), None));
            return Ok(Next::Seek(past(prefix_key(bucket, common))));
        }
        let key = key.to_owned();
        match row {
            VersionRow::Object(info) => {
                last = Some((key.clone(), Some(info.version)));
                page.entries.push(VersionEntry::Object { key, latest, info });
            }
            VersionRow::Marker(info) => {
                last = Some((key.clone(), Some(info.version)));
                page.entries.push(VersionEntry::Marker { key, latest, info });
            }
            VersionRow::NullAt(_) => {}
        }
        Ok(Next::Row)
    })?;
    Ok(page)
}

impl Store {
    /// A page of all versions in a bucket.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn list_versions(&self, bucket: &str, query: VersionQuery) -> Result<VersionPage, Error> {
        let (meta, bucket) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || list(&meta, &bucket, &query)).await
    }
}
