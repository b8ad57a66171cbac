//! What a change does to the tables. Pure but for the tables; the committer calls it inside of a transaction.
//!
//! Invariant: a change that is refused has changed nothing, because every check comes before the first write; only a
//! failing database leaves a change half done, and then the whole transaction is thrown away.

use std::collections::{BTreeMap, HashSet};

use crate::Error;
use crate::body::packed::CodedRow;
use crate::config::{OBJECT_BYTES_MAX, PART_BYTES_MIN};
use crate::digest::{join_parts, multipart_etag};
use crate::extent::ExtentRef;
use crate::meta::{Tables, table_get, table_put, table_remove, table_rows};
use crate::multipart::CompletePart;
use crate::rows::{
    BucketRow, ObjectInfo, PartRow, UploadRow, bucket_range, decode, encode, object_key, part_key, upload_key,
};

/// What must hold for a write to happen, checked in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key has no object: `If-None-Match: *`.
    IfAbsent,
    /// The key has an object: `If-Match: *`.
    IfPresent,
    /// The key's object has this `ETag`: `If-Match: "..."`.
    IfMatch(String),
    /// The key's object does not have this `ETag`: `If-None-Match: "..."`.
    IfNoneMatch(String),
}

impl Condition {
    fn check(&self, bucket: &str, key: &str, present: Option<&ObjectInfo>) -> Result<(), Error> {
        match (self, present) {
            (Self::IfAbsent, Some(_)) => Err(Error::Precondition("If-None-Match")),
            (Self::IfNoneMatch(etag), Some(info)) if info.etag == *etag => Err(Error::Precondition("If-None-Match")),
            (Self::IfPresent | Self::IfMatch(_), None) => Err(Error::no_key(bucket, key)),
            (Self::IfMatch(etag), Some(info)) if info.etag != *etag => Err(Error::Precondition("If-Match")),
            (
                Self::Always | Self::IfAbsent | Self::IfPresent | Self::IfMatch(_) | Self::IfNoneMatch(_),
                Some(_) | None,
            ) => Ok(()),
        }
    }
}

/// A change.
#[derive(Debug)]
pub(crate) enum Mutation {
    CreateBucket {
        bucket: String,
        now_ms: u64,
    },
    DeleteBucket {
        bucket: String,
    },
    Put {
        bucket: String,
        key: String,
        info: ObjectInfo,
        inline: Vec<u8>,
        condition: Condition,
    },
    Delete {
        bucket: String,
        key: String,
        condition: Condition,
    },
    CreateUpload {
        bucket: String,
        key: String,
        upload: String,
        row: UploadRow,
    },
    PutPart {
        bucket: String,
        key: String,
        upload: String,
        part: u32,
        row: PartRow,
    },
    Complete {
        bucket: String,
        key: String,
        upload: String,
        parts: Vec<CompletePart>,
        condition: Condition,
        now_ms: u64,
    },
    Abort {
        bucket: String,
        key: String,
        upload: String,
    },
    /// A segment was written anew; the committer's ledger of segments does it.
    Segment {
        id: u64,
        coded: CodedRow,
    },
}

impl Mutation {
    /// Whether it makes the metadata larger for long; the others are let through on a full disk.
    pub(crate) const fn grows(&self) -> bool {
        match self {
            Self::CreateBucket { .. } | Self::Put { .. } | Self::CreateUpload { .. } | Self::PutPart { .. } => true,
            Self::DeleteBucket { .. }
            | Self::Delete { .. }
            | Self::Complete { .. }
            | Self::Abort { .. }
            | Self::Segment { .. } => false,
        }
    }
}

/// How much of a bucket's objects came and went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UsageChange {
    pub(crate) added: Option<(u64, u64)>,
    pub(crate) removed: Option<(u64, u64)>,
}

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The object that was written.
    pub(crate) object: Option<ObjectInfo>,
    /// Extents that no row names any more.
    pub(crate) freed: Vec<ExtentRef>,
    /// The bucket and its change.
    pub(crate) usage: Option<(String, UsageChange)>,
    /// A bucket that is gone.
    pub(crate) bucket_gone: Option<String>,
}

fn bucket_row(tables: &Tables<'_>, bucket: &str) -> Result<BucketRow, Error> {
    let key = bucket.as_bytes();
    let value = table_get(&tables.buckets, key)?.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?;
    Ok(decode(key, &value)?.0)
}

fn present(tables: &Tables<'_>, row_key: &[u8]) -> Result<Option<ObjectInfo>, Error> {
    table_get(&tables.objects, row_key)?.map(|value| Ok(decode::<ObjectInfo>(row_key, &value)?.0)).transpose()
}

/// The present object for a change that replaces or removes it. A corrupt row may be overwritten and deleted, else it
/// could never be got rid of; its extents stay until the next opening finds that nothing names them.
fn replaced(tables: &Tables<'_>, row_key: &[u8], condition: &Condition) -> Result<Option<ObjectInfo>, Error> {
    let found = present(tables, row_key);
    let unreadable = matches!(&found, Err(Error::Corrupt { .. }));
    if unreadable && *condition == Condition::Always { Ok(None) } else { found }
}

fn upload_row(tables: &Tables<'_>, bucket: &str, key: &str, upload: &str) -> Result<UploadRow, Error> {
    let row_key = upload_key(bucket, key, upload);
    let value = table_get(&tables.uploads, &row_key)?.ok_or_else(|| Error::NoSuchUpload(upload.to_owned()))?;
    Ok(decode(&row_key, &value)?.0)
}

/// Parts by number, and their rows if they can be read.
type PartRows = BTreeMap<u32, Result<PartRow, Error>>;

/// All parts of an upload.
fn part_rows(tables: &Tables<'_>, upload: &str) -> Result<PartRows, Error> {
    let rows = table_rows(&tables.parts, &part_key(upload, 0), &part_key(upload, u32::MAX), usize::MAX)?;
    let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let part = key.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        (part, decode(key, value).map(|(row, _inline)| row))
    };
    Ok(rows.iter().map(read).collect())
}

fn remove_upload(tables: &mut Tables<'_>, row_key: &[u8], upload: &str) -> Result<Vec<ExtentRef>, Error> {
    let parts = part_rows(tables, upload)?;
    for part in parts.keys() {
        table_remove(&mut tables.parts, &part_key(upload, *part))?;
    }
    table_remove(&mut tables.uploads, row_key)?;
    Ok(parts.into_values().filter_map(Result::ok).map(|row| row.extent).collect())
}

/// Does `mutation`.
/// # Errors
/// A refusal is told from a failing database by [`is_refusal`].
pub(crate) fn apply(tables: &mut Tables<'_>, mutation: Mutation) -> Result<Effects, Error> {
    match mutation {
        Mutation::CreateBucket { bucket, now_ms } => {
            let key = bucket.as_bytes();
            if table_get(&tables.buckets, key)?.is_some() {
                return Err(Error::BucketExists(bucket));
            }
            let value = encode(key, &BucketRow { created_ms: now_ms }, &[])?;
            table_put(&mut tables.buckets, key, &value)?;
            Ok(Effects { usage: Some((bucket, UsageChange::default())), ..Effects::default() })
        }
        Mutation::DeleteBucket { bucket } => delete_bucket(tables, bucket),
        Mutation::Put { bucket, key, info, inline, condition } => {
            bucket_row(tables, &bucket)?;
            put(tables, bucket, &key, info, &inline, &condition)
        }
        Mutation::Delete { bucket, key, condition } => {
            bucket_row(tables, &bucket)?;
            let row_key = object_key(&bucket, &key);
            let old = replaced(tables, &row_key, &condition)?;
            condition.check(&bucket, &key, old.as_ref())?;
            table_remove(&mut tables.objects, &row_key)?;
            let removed = old.as_ref().map(|info| (info.size, info.stored()));
            let usage = UsageChange { added: None, removed };
            let freed = old.map(|info| info.extents).unwrap_or_default();
            Ok(Effects { freed, usage: Some((bucket, usage)), ..Effects::default() })
        }
        Mutation::CreateUpload { bucket, key, upload, row } => {
            bucket_row(tables, &bucket)?;
            let row_key = upload_key(&bucket, &key, &upload);
            table_put(&mut tables.uploads, &row_key, &encode(&row_key, &row, &[])?)?;
            Ok(Effects::default())
        }
        Mutation::PutPart { bucket, key, upload, part, row } => {
            upload_row(tables, &bucket, &key, &upload)?;
            let row_key = part_key(&upload, part);
            let old = table_get(&tables.parts, &row_key)?;
            let old = old.and_then(|value| Some(decode::<PartRow>(&row_key, &value).ok()?.0));
            table_put(&mut tables.parts, &row_key, &encode(&row_key, &row, &[])?)?;
            let freed = old.map(|row| row.extent).into_iter().collect();
            Ok(Effects { freed, ..Effects::default() })
        }
        Mutation::Complete { bucket, key, upload, parts, condition, now_ms } => {
            complete(tables, &bucket, &key, &upload, &parts, &condition, now_ms)
        }
        Mutation::Segment { .. } => Ok(Effects::default()),
        Mutation::Abort { bucket, key, upload } => {
            bucket_row(tables, &bucket)?;
            upload_row(tables, &bucket, &key, &upload)?;
            let freed = remove_upload(tables, &upload_key(&bucket, &key, &upload), &upload)?;
            Ok(Effects { freed, ..Effects::default() })
        }
    }
}

fn delete_bucket(tables: &mut Tables<'_>, bucket: String) -> Result<Effects, Error> {
    bucket_row(tables, &bucket)?;
    let (low, high) = bucket_range(&bucket);
    if !table_rows(&tables.objects, &low, &high, 1)?.is_empty() {
        return Err(Error::BucketNotEmpty(bucket));
    }
    let mut freed = Vec::new();
    for (row_key, _value) in table_rows(&tables.uploads, &low, &high, usize::MAX)? {
        let upload = row_key.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        let upload = String::from_utf8_lossy(upload).into_owned();
        freed.extend(remove_upload(tables, &row_key, &upload)?);
    }
    table_remove(&mut tables.buckets, bucket.as_bytes())?;
    Ok(Effects { freed, bucket_gone: Some(bucket), ..Effects::default() })
}

fn put(
    tables: &mut Tables<'_>,
    bucket: String,
    key: &str,
    info: ObjectInfo,
    inline: &[u8],
    condition: &Condition,
) -> Result<Effects, Error> {
    let row_key = object_key(&bucket, key);
    let old = replaced(tables, &row_key, condition)?;
    condition.check(&bucket, key, old.as_ref())?;
    table_put(&mut tables.objects, &row_key, &encode(&row_key, &info, inline)?)?;
    let usage = UsageChange {
        added: Some((info.size, info.stored())),
        removed: old.as_ref().map(|info| (info.size, info.stored())),
    };
    let freed = old.map(|info| info.extents).unwrap_or_default();
    Ok(Effects { object: Some(info), freed, usage: Some((bucket, usage)), bucket_gone: None })
}

fn complete(
    tables: &mut Tables<'_>,
    bucket: &str,
    key: &str,
    upload: &str,
    wanted: &[CompletePart],
    condition: &Condition,
    now_ms: u64,
) -> Result<Effects, Error> {
    bucket_row(tables, bucket)?;
    let row = upload_row(tables, bucket, key, upload)?;
    if wanted.is_empty() {
        return Err(Error::Invalid("a completion names at least one part".to_owned()));
    }
    if !wanted.is_sorted_by(|one, next| one.part < next.part) {
        return Err(Error::InvalidPartOrder);
    }
    let mut have = part_rows(tables, upload)?;
    let mut chosen = Vec::with_capacity(wanted.len());
    for (index, want) in wanted.iter().enumerate() {
        let found = have.remove(&want.part).ok_or(Error::InvalidPart(want.part))??;
        let sums_agree = want
            .checksum
            .as_ref()
            .is_none_or(|(kind, value)| found.checksums.of(*kind).is_none_or(|have| have == value.as_str()));
        if found.etag != want.etag || !sums_agree {
            return Err(Error::InvalidPart(want.part));
        }
        if index + 1 < wanted.len() && found.extent.len < PART_BYTES_MIN {
            return Err(Error::PartTooSmall { part: want.part, size: found.extent.len });
        }
        chosen.push(found);
    }
    let size = chosen.iter().fold(0_u64, |size, part| size.saturating_add(part.extent.len));
    if size > OBJECT_BYTES_MAX {
        return Err(Error::TooLarge(OBJECT_BYTES_MAX));
    }
    let sums: Vec<_> = chosen.iter().map(|part| (&part.checksums, part.extent.len)).collect();
    let checksums = row.checksum.and_then(|kind| join_parts(kind, row.full_object, &sums)).unwrap_or_default();
    let info = ObjectInfo {
        size,
        etag: multipart_etag(chosen.iter().map(|part| part.etag.as_str())),
        modified_ms: now_ms,
        headers: row.headers,
        checksums,
        extents: chosen.iter().map(|part| part.extent).collect(),
    };
    // The object first: it is the step that may still be refused, by its condition.
    let mut effects = put(tables, bucket.to_owned(), key, info, &[], condition)?;
    let kept: HashSet<u64> = chosen.iter().map(|part| part.extent.id).collect();
    let freed = remove_upload(tables, &upload_key(bucket, key, upload), upload)?;
    effects.freed.extend(freed.into_iter().filter(|extent| !kept.contains(&extent.id)));
    Ok(effects)
}

/// Whether the error is about this one change, not about the database.
pub(crate) const fn is_refusal(error: &Error) -> bool {
    match error {
        Error::NoSuchBucket(_)
        | Error::NoSuchKey { .. }
        | Error::NoSuchUpload(_)
        | Error::BucketExists(_)
        | Error::BucketNotEmpty(_)
        | Error::Precondition(_)
        | Error::InvalidPart(_)
        | Error::InvalidPartOrder
        | Error::PartTooSmall { .. }
        | Error::BadDigest(_)
        | Error::InvalidRange(_)
        | Error::Invalid(_)
        | Error::TooLarge(_)
        | Error::BodyBroken(_)
        // Found by `decode`, before anything is written; a corrupt database says `Meta`.
        | Error::Corrupt { .. } => true,
        Error::Full(_)
        | Error::Io { .. }
        | Error::Meta(_)
        | Error::Sealed(_)
        | Error::Locked(_)
        | Error::Drives(_)
        | Error::Busy
        | Error::Closed => false,
    }
}
