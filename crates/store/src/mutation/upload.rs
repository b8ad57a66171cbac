//! Changes of multipart uploads.

use std::collections::{BTreeMap, HashSet};

use super::{Condition, Effects, Moment, Path, bucket, object};
use crate::Error;
use crate::config::{OBJECT_BYTES_MAX, PART_BYTES_MIN};
use crate::digest::{join_parts, multipart_etag};
use crate::extent::ExtentRef;
use crate::index::codec::{decode, encode};
use crate::index::keys::{part_key, upload_key};
use crate::index::meta::{TableId, Tables};
use crate::index::rows::{ObjectInfo, ObjectPart, PartRow, UploadRow};
use crate::multipart::CompletePart;
use crate::version::VersionId;

fn row(tables: &Tables<'_>, path: &Path, upload: &str) -> Result<UploadRow, Error> {
    let row_key = upload_key(&path.bucket, &path.key, upload);
    let value = tables.get(TableId::Uploads, &row_key)?.ok_or_else(|| Error::NoSuchUpload(upload.to_owned()))?;
    Ok(decode(&row_key, &value)?.0)
}

/// Parts by number, and their rows if they can be read.
type PartRows = BTreeMap<u32, Result<PartRow, Error>>;

/// All parts of an upload.
fn part_rows(tables: &Tables<'_>, upload: &str) -> Result<PartRows, Error> {
    let rows = tables.rows(TableId::Parts, &part_key(upload, 0), &part_key(upload, u32::MAX), usize::MAX)?;
    let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let part = key.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        (part, decode(key, value).map(|(row, _inline)| row))
    };
    Ok(rows.iter().map(read).collect())
}

/// Removes an upload and its parts; returns the parts' extents.
fn remove(tables: &mut Tables<'_>, row_key: &[u8], upload: &str) -> Result<Vec<ExtentRef>, Error> {
    let parts = part_rows(tables, upload)?;
    for part in parts.keys() {
        tables.remove(TableId::Parts, &part_key(upload, *part))?;
    }
    tables.remove(TableId::Uploads, row_key)?;
    Ok(parts.into_values().filter_map(Result::ok).map(|row| row.extent).collect())
}

/// Removes the uploads of `low..high`, a bucket.
pub(super) fn remove_all(tables: &mut Tables<'_>, low: &[u8], high: &[u8]) -> Result<Vec<ExtentRef>, Error> {
    let mut freed = Vec::new();
    for (row_key, _value) in tables.rows(TableId::Uploads, low, high, usize::MAX)? {
        let upload = row_key.rsplit(|byte| *byte == 0).next().unwrap_or_default();
        let upload = String::from_utf8_lossy(upload).into_owned();
        freed.extend(remove(tables, &row_key, &upload)?);
    }
    Ok(freed)
}

pub(super) fn create(tables: &mut Tables<'_>, path: &Path, upload: &str, row: &UploadRow) -> Result<Effects, Error> {
    object::check_meta(&bucket::row(tables, &path.bucket)?, &row.meta)?;
    let row_key = upload_key(&path.bucket, &path.key, upload);
    tables.put(TableId::Uploads, &row_key, &encode(&row_key, row, &[]))?;
    Ok(Effects::default())
}

pub(super) fn put_part(
    tables: &mut Tables<'_>,
    path: &Path,
    upload: &str,
    part: u32,
    new: &PartRow,
) -> Result<Effects, Error> {
    row(tables, path, upload)?;
    let row_key = part_key(upload, part);
    let old = tables.get(TableId::Parts, &row_key)?;
    let old = old.and_then(|value| Some(decode::<PartRow>(&row_key, &value).ok()?.0));
    tables.put(TableId::Parts, &row_key, &encode(&row_key, new, &[]))?;
    let freed = old.map(|row| row.extent).into_iter().collect();
    Ok(Effects { added: vec![new.extent], freed, ..Effects::default() })
}

pub(super) fn abort(tables: &mut Tables<'_>, path: &Path, upload: &str) -> Result<Effects, Error> {
    bucket::row(tables, &path.bucket)?;
    row(tables, path, upload)?;
    let freed = remove(tables, &upload_key(&path.bucket, &path.key, upload), upload)?;
    Ok(Effects { freed, ..Effects::default() })
}

/// The parts that a completion names, in order.
fn choose(tables: &Tables<'_>, upload: &str, wanted: &[CompletePart]) -> Result<Vec<PartRow>, Error> {
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
    Ok(chosen)
}

pub(super) fn complete(
    tables: &mut Tables<'_>,
    path: Path,
    upload: &str,
    wanted: &[CompletePart],
    condition: &Condition,
    moment: Moment,
) -> Result<Effects, Error> {
    bucket::row(tables, &path.bucket)?;
    let row = row(tables, &path, upload)?;
    let chosen = choose(tables, upload, wanted)?;
    let size = chosen.iter().fold(0_u64, |size, part| size.saturating_add(part.extent.len));
    if size > OBJECT_BYTES_MAX {
        return Err(Error::TooLarge(OBJECT_BYTES_MAX));
    }
    let sums: Vec<_> = chosen.iter().map(|part| (&part.checksums, part.extent.len)).collect();
    let checksums = row.checksum.and_then(|kind| join_parts(kind, row.full_object, &sums)).unwrap_or_default();
    let parts = wanted.iter().zip(&chosen);
    let info = ObjectInfo {
        version: VersionId::Null,
        size,
        etag: multipart_etag(chosen.iter().map(|part| part.etag.as_str())),
        modified_ms: moment.now_ms,
        meta: row.meta,
        checksums,
        parts: parts
            .map(|(want, part)| ObjectPart {
                number: want.part,
                size: part.extent.len,
                checksums: part.checksums.clone(),
            })
            .collect(),
        extents: chosen.iter().map(|part| part.extent).collect(),
    };
    let row_key = upload_key(&path.bucket, &path.key, upload);
    // The object first: it is the step that may still be refused, by its condition.
    let mut effects = object::put(tables, path, info, &[], condition, moment)?;
    let kept: HashSet<u64> = chosen.iter().map(|part| part.extent.id).collect();
    let freed = remove(tables, &row_key, upload)?;
    effects.freed.extend(freed.into_iter().filter(|extent| !kept.contains(&extent.id)));
    Ok(effects)
}
