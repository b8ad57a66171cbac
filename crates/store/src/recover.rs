//! Puts a directory in order when it is opened: counts what is there, removes what a crash left over, and reports what is
//! missing. It never drops an object silently.
//!
//! Cost: the rows of buckets and extents and one directory listing. Rows of objects are read only if a file is missing, to
//! tell its name.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use redb::ReadTransaction;

use crate::Error;
use crate::disk::Disk;
use crate::extent::{SUFFIX, TEMP_SUFFIX};
use crate::index::codec::decode;
use crate::index::keys::split_version;
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{BucketRow, Durability, PartRow, VersionRow};
use crate::stats::BucketUsage;

/// Names in the report; the counts are complete.
const NAMED_MAX: usize = 100;

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Objects that are whole as far as metadata and file names tell.
    pub objects: u64,
    /// Half-written files that were removed.
    pub temporary_removed: u64,
    /// Files that no row names and that were removed: bodies that were never acknowledged, or of deleted objects.
    pub orphans_removed: u64,
    /// Objects and parts whose file is missing.
    pub missing: u64,
    /// The first hundred of them.
    pub missing_names: Vec<String>,
    /// Rows that are not what was written.
    pub corrupt_rows: u64,
    /// The first hundred of them.
    pub corrupt_names: Vec<String>,
}

/// What the rows say.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) report: Recovery,
    pub(crate) usage: BTreeMap<String, BucketUsage>,
    pub(crate) classes: BTreeMap<String, Durability>,
    pub(crate) used: u64,
}

struct Files {
    finished: HashSet<u64>,
    paths: Vec<(u64, PathBuf)>,
    temporary: Vec<PathBuf>,
}

/// Recovers the store whose extents lie under `root`.
pub(crate) fn recover(disk: &dyn Disk, root: &Path, meta: &Meta) -> Result<Found, Error> {
    let files = list(disk, root)?;
    let mut found = Found::default();
    let named = rows(meta, &files, &mut found)?;
    for path in &files.temporary {
        remove(disk, path)?;
        found.report.temporary_removed += 1;
    }
    let orphans = files.paths.iter().filter(|(id, _path)| !named.contains(id));
    if found.report.corrupt_rows > 0 {
        let kept = orphans.count();
        tracing::error!(kept, "rows are corrupt: files that no readable row names are kept, one may belong to them");
    } else {
        for (_id, path) in orphans {
            remove(disk, path)?;
            found.report.orphans_removed += 1;
        }
    }
    for name in &found.report.missing_names {
        tracing::error!(name, "an acknowledged body is missing from the disk");
    }
    for name in &found.report.corrupt_names {
        tracing::error!(name, "a metadata row is corrupt");
    }
    Ok(found)
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<(), Error> {
    disk.remove(path).map_err(|error| Error::io(format!("remove {}", path.display()), error))
}

fn list(disk: &dyn Disk, root: &Path) -> Result<Files, Error> {
    let mut files = Files { finished: HashSet::new(), paths: Vec::new(), temporary: Vec::new() };
    let read = |path: &Path| disk.list(path).map_err(|error| Error::io(format!("list {}", path.display()), error));
    for directory in read(root)? {
        for path in read(&directory)? {
            let ending = path.extension().and_then(std::ffi::OsStr::to_str);
            let id =
                path.file_stem().and_then(std::ffi::OsStr::to_str).and_then(|stem| u64::from_str_radix(stem, 16).ok());
            match (id, ending) {
                (Some(id), Some(SUFFIX)) => {
                    files.finished.insert(id);
                    files.paths.push((id, path));
                }
                (Some(_id), Some(TEMP_SUFFIX)) => files.temporary.push(path),
                (Some(_) | None, Some(_) | None) => {
                    tracing::warn!(file = %path.display(), "a file that is not ours is left alone");
                }
            }
        }
    }
    Ok(files)
}

/// A version as people name it.
fn name(row_key: &[u8]) -> String {
    match split_version(row_key) {
        Some((bucket, key, 0)) => format!("{bucket}/{key}"),
        Some((bucket, key, sequence)) => format!("{bucket}/{key} version {sequence:016x}"),
        None => row_key.escape_ascii().to_string(),
    }
}

fn note(names: &mut Vec<String>, count: &mut u64, name: impl FnOnce() -> String) {
    *count += 1;
    if names.len() < NAMED_MAX {
        names.push(name());
    }
}

/// Reads the rows of buckets, their counts, and extents; returns the extents.
fn rows(meta: &Meta, files: &Files, found: &mut Found) -> Result<HashSet<u64>, Error> {
    let transaction = meta.read()?;
    let mut named = HashSet::new();
    let mut missing = HashSet::new();
    let all: &[u8] = &[0xff; 9];
    let Found { report, usage, classes, used } = found;
    Meta::scan(&transaction, TableId::Buckets, Vec::new(), all, |key, value| match decode::<BucketRow>(key, value) {
        Ok((row, _inline)) => {
            let bucket = String::from_utf8_lossy(key).into_owned();
            classes.insert(bucket.clone(), row.durability);
            usage.insert(bucket, BucketUsage::default());
            Ok(Next::Row)
        }
        Err(error) => corrupt(report, key, error),
    })?;
    Meta::scan(&transaction, TableId::Usage, Vec::new(), all, |key, value| match decode::<BucketUsage>(key, value) {
        Ok((row, _inline)) => {
            report.objects += row.objects;
            usage.insert(String::from_utf8_lossy(key).into_owned(), row);
            Ok(Next::Row)
        }
        Err(error) => corrupt(report, key, error),
    })?;
    Meta::scan(&transaction, TableId::Extents, Vec::new(), all, |key, value| {
        let id = key.try_into().map_or(0, u64::from_be_bytes);
        match decode::<u64>(key, value) {
            Ok((stored, _inline)) => *used += stored,
            Err(error) => return corrupt(report, key, error),
        }
        if !files.finished.contains(&id) {
            missing.insert(id);
        }
        named.insert(id);
        Ok(Next::Row)
    })?;
    if !missing.is_empty() {
        names(&transaction, &missing, report)?;
    }
    Ok(named)
}

fn corrupt(report: &mut Recovery, key: &[u8], error: Error) -> Result<Next, Error> {
    if !matches!(error, Error::Corrupt { .. }) {
        return Err(error);
    }
    note(&mut report.corrupt_names, &mut report.corrupt_rows, || key.escape_ascii().to_string());
    Ok(Next::Row)
}

/// Finds the names of those whose files are missing. Only then is every row read.
fn names(transaction: &ReadTransaction, missing: &HashSet<u64>, report: &mut Recovery) -> Result<(), Error> {
    let all: &[u8] = &[0xff; 9];
    Meta::scan(transaction, TableId::Objects, Vec::new(), all, |key, value| {
        let info = match decode::<VersionRow>(key, value) {
            Ok((VersionRow::Object(info), _inline)) => info,
            Ok((VersionRow::Marker(_) | VersionRow::NullAt(_), _inline)) => return Ok(Next::Row),
            Err(error) => return corrupt(report, key, error),
        };
        if info.extents.iter().any(|extent| missing.contains(&extent.id)) {
            report.objects = report.objects.saturating_sub(1);
            note(&mut report.missing_names, &mut report.missing, || name(key));
        }
        Ok(Next::Row)
    })?;
    Meta::scan(transaction, TableId::Parts, Vec::new(), all, |key, value| {
        let row = match decode::<PartRow>(key, value) {
            Ok((row, _inline)) => row,
            Err(error) => return corrupt(report, key, error),
        };
        if missing.contains(&row.extent.id) {
            note(&mut report.missing_names, &mut report.missing, || key.escape_ascii().to_string());
        }
        Ok(Next::Row)
    })
}
