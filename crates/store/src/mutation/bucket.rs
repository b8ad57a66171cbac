//! Changes of buckets and of their documents.

use std::collections::BTreeMap;

use super::{BucketChange, Effects, UsageChange, upload};
use crate::Error;
use crate::config::{DOCUMENT_BYTES_MAX, DOCUMENTS_MAX};
use crate::index::codec::{decode, encode};
use crate::index::keys::{bucket_range, document_key};
use crate::index::meta::{TableId, Tables};
use crate::index::rows::{BucketRow, Locking};
use crate::version::Versioning;

/// Documents of a bucket by name.
pub type Documents = BTreeMap<String, Vec<u8>>;

/// The bucket's row.
pub(super) fn row(tables: &Tables<'_>, bucket: &str) -> Result<BucketRow, Error> {
    let key = bucket.as_bytes();
    let value = tables.get(TableId::Buckets, key)?.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?;
    Ok(decode(key, &value)?.0)
}

fn put_row(tables: &mut Tables<'_>, bucket: &str, row: &BucketRow) -> Result<(), Error> {
    let key = bucket.as_bytes();
    tables.put(TableId::Buckets, key, &encode(key, row, &[]))
}

pub(super) fn create(tables: &mut Tables<'_>, bucket: String, row: &BucketRow) -> Result<Effects, Error> {
    if tables.get(TableId::Buckets, bucket.as_bytes())?.is_some() {
        return Err(Error::BucketExists(bucket));
    }
    put_row(tables, &bucket, row)?;
    tables.change_usage(&bucket, UsageChange::default())?;
    let class = Some((bucket.clone(), row.durability));
    Ok(Effects { usage: Some((bucket, UsageChange::default())), class, ..Effects::default() })
}

pub(super) fn change(tables: &mut Tables<'_>, bucket: &str, change: BucketChange) -> Result<Effects, Error> {
    let mut row = row(tables, bucket)?;
    match change {
        BucketChange::Versioning(Versioning::Unversioned) if row.versioning != Versioning::Unversioned => {
            return Err(Error::Invalid("versioning can be suspended but not taken back".to_owned()));
        }
        BucketChange::Versioning(Versioning::Suspended) if row.object_lock == Locking::On => {
            return Err(Error::Invalid("a bucket with object lock keeps its versions".to_owned()));
        }
        BucketChange::Versioning(versioning) => row.versioning = versioning,
        BucketChange::Locking(Locking::Off) if row.object_lock == Locking::On => {
            return Err(Error::Invalid("object lock cannot be taken back".to_owned()));
        }
        BucketChange::Locking(Locking::On) if row.versioning != Versioning::Enabled => {
            return Err(Error::Invalid("object lock needs a bucket that keeps versions".to_owned()));
        }
        BucketChange::Locking(locking) => row.object_lock = locking,
        BucketChange::Owner(owner) => row.owner = owner,
        BucketChange::Quota(quota) => row.quota = quota,
        BucketChange::Durability(durability) => row.durability = durability,
    }
    put_row(tables, bucket, &row)?;
    Ok(Effects { class: Some((bucket.to_owned(), row.durability)), ..Effects::default() })
}

pub(super) fn delete(tables: &mut Tables<'_>, bucket: String) -> Result<Effects, Error> {
    row(tables, &bucket)?;
    let (low, high) = bucket_range(&bucket);
    if !tables.rows(TableId::Objects, &low, &high, 1)?.is_empty() {
        return Err(Error::BucketNotEmpty(bucket));
    }
    let freed = upload::remove_all(tables, &low, &high)?;
    for (row_key, _value) in tables.rows(TableId::Documents, &low, &high, usize::MAX)? {
        tables.remove(TableId::Documents, &row_key)?;
    }
    tables.remove(TableId::Buckets, bucket.as_bytes())?;
    tables.forget_usage(&bucket);
    Ok(Effects { freed, bucket_gone: Some(bucket), ..Effects::default() })
}

pub(super) fn put_document(
    tables: &mut Tables<'_>,
    bucket: &str,
    name: &str,
    bytes: Option<&[u8]>,
) -> Result<Effects, Error> {
    row(tables, bucket)?;
    let row_key = document_key(bucket, name);
    let Some(bytes) = bytes else {
        tables.remove(TableId::Documents, &row_key)?;
        return Ok(Effects::default());
    };
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::TooLarge(DOCUMENT_BYTES_MAX as u64));
    }
    let (low, high) = bucket_range(bucket);
    let known = tables.get(TableId::Documents, &row_key)?.is_some();
    if !known && tables.rows(TableId::Documents, &low, &high, DOCUMENTS_MAX)?.len() >= DOCUMENTS_MAX {
        return Err(Error::Invalid(format!("a bucket has at most {DOCUMENTS_MAX} documents")));
    }
    tables.put(TableId::Documents, &row_key, &encode(&row_key, &(), bytes))?;
    Ok(Effects::default())
}
