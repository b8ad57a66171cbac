//! Puts a directory in order when it is opened: counts what is there, removes what a crash left over, and reports what is
//! missing. It never drops an object silently.
//!
//! Cost: the rows of buckets, large extents and segments, and one directory listing per drive. Rows of objects are read only
//! if a file is missing, to tell its name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use redb::ReadTransaction;

use crate::Error;
use crate::body::packed::{COPY_SUFFIX, SegmentRow};
use crate::body::shape::Shape;
use crate::body::stripe::{EXTENT_SUFFIX, TEMP_SUFFIX};
use crate::disk::Disk;
use crate::drive::DriveSet;
use crate::extent::{ExtentRef, Place, UNIT_BYTES};
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
    /// Large bodies of which a drive that serves lacks its shard: they can be read, and are to be mended.
    pub degraded: u64,
    /// Objects and parts of which too few shards are there.
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
    pub(crate) segments: BTreeMap<u64, SegmentRow>,
}

struct Files {
    /// How many shards of each extent there are.
    finished: HashMap<u64, usize>,
    paths: Vec<(u64, usize, PathBuf)>,
    temporary: Vec<(usize, PathBuf)>,
    /// Copies of segments, and coded files with their generation.
    segments: Vec<(u64, Option<u32>, usize, PathBuf)>,
}

/// Whether a body can be read, as far as its files tell.
enum There {
    All,
    Degraded,
    Missing,
}

impl Files {
    /// Which of a segment's bytes are good is seen when they are read; here only whether there is anything to read.
    fn of_segment(&self, set: &DriveSet, id: u64, row: &SegmentRow) -> There {
        let away = row.copies.iter().any(|drive| set.drive(*drive).is_none_or(|drive| !drive.readable()));
        let coded = row.coded.map(|coded| coded.generation);
        let there = self.segments.iter().any(|(have, generation, ..)| *have == id && *generation == coded);
        if away || there || row.live == 0 { There::All } else { There::Missing }
    }

    fn of_extent(&self, set: &DriveSet, id: u64) -> There {
        let there = self.finished.get(&id).copied().unwrap_or(0);
        let slots = 0..set.code().total();
        let away =
            slots.filter(|slot| set.drive(set.drive_of(id, *slot)).is_none_or(|drive| !drive.readable())).count();
        if there + away >= set.code().total() {
            There::All
        } else if there >= usize::from(set.code().data) {
            There::Degraded
        } else {
            There::Missing
        }
    }
}

/// Recovers the store whose bodies lie on `set`. Ids from `first` on are not in use yet.
pub(crate) fn recover(set: &DriveSet, meta: &Meta, first: u64) -> Result<Found, Error> {
    let files = list(set)?;
    let bodies = files.paths.iter().map(|(id, _drive, path)| (id, path));
    let segments = files.segments.iter().map(|(id, _generation, _drive, path)| (id, path));
    if let Some((_id, path)) = bodies.chain(segments).find(|(id, _path)| **id >= first) {
        return Err(Error::Drives(format!("the metadata is older than the body {}; it would be lost", path.display())));
    }
    let mut found = Found::default();
    let named = rows(set, meta, &files, &mut found)?;
    for (drive, path) in &files.temporary {
        remove(set, *drive, path)?;
        found.report.temporary_removed += 1;
    }
    if found.report.corrupt_rows == 0 {
        segment_orphans(set, &files, &mut found)?;
    }
    let orphans = files.paths.iter().filter(|(id, _drive, _path)| !named.contains(id));
    if found.report.corrupt_rows > 0 {
        let kept = orphans.count();
        tracing::error!(kept, "rows are corrupt: files that no readable row names are kept, one may belong to them");
    } else {
        for (_id, drive, path) in orphans {
            remove(set, *drive, path)?;
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

/// Recovers what lies on the drives of a tier, as [`recover`] does; says how many bytes that is.
pub(crate) fn recover_tier(
    (tier, set): (u8, &DriveSet),
    meta: &Meta,
    first: u64,
    report: &mut Recovery,
) -> Result<u64, Error> {
    let files = list(set)?;
    if let Some((_id, _drive, path)) = files.paths.iter().find(|(id, _drive, _path)| *id >= first) {
        return Err(Error::Drives(format!("the metadata is older than the body {}; it would be lost", path.display())));
    }
    let transaction = meta.read()?;
    let (mut used, mut named, mut absent) = (0, HashSet::new(), Absent::default());
    Meta::scan(&transaction, TableId::Cold, vec![tier], &[tier, 0xff, 0xff], |key, value| {
        let id = key.get(1..).and_then(|id| id.try_into().ok()).map_or(0, u64::from_be_bytes);
        match decode::<u64>(key, value) {
            Ok((stored, _inline)) => used += Shape { code: set.code(), unit: UNIT_BYTES, len: stored }.physical(),
            Err(error) => return corrupt(report, key, error),
        }
        match files.of_extent(set, id) {
            There::All => {}
            There::Degraded => report.degraded += 1,
            There::Missing => drop(absent.extents.insert(id)),
        }
        named.insert(id);
        Ok(Next::Row)
    })?;
    if !absent.extents.is_empty() {
        let known = report.missing_names.len();
        names(&transaction, &absent, report)?;
        for name in report.missing_names.iter().skip(known) {
            tracing::error!(name, tier, "an acknowledged body is missing from a tier");
        }
    }
    for (drive, path) in &files.temporary {
        remove(set, *drive, path)?;
        report.temporary_removed += 1;
    }
    if report.corrupt_rows == 0 {
        for (_id, drive, path) in files.paths.iter().filter(|(id, _drive, _path)| !named.contains(id)) {
            remove(set, *drive, path)?;
            report.orphans_removed += 1;
        }
    }
    Ok(used)
}

/// Removes the files of segments that no row tells of, or tells otherwise of.
fn segment_orphans(set: &DriveSet, files: &Files, found: &mut Found) -> Result<(), Error> {
    found.segments.retain(|_id, row| row.live > 0);
    for (id, generation, drive, path) in &files.segments {
        let wanted = found.segments.get(id).is_some_and(|row| match (generation, row.coded) {
            (None, None) => row.copies.contains(drive),
            (Some(generation), Some(coded)) => coded.generation == *generation,
            (Some(_), None) | (None, Some(_)) => false,
        });
        if !wanted {
            remove(set, *drive, path)?;
            found.report.orphans_removed += 1;
        }
    }
    Ok(())
}

fn remove(set: &DriveSet, drive: usize, path: &Path) -> Result<(), Error> {
    let Some(drive) = set.drive(drive) else { return Ok(()) };
    drive.disk.remove(path).map_err(|error| Error::io(format!("remove {}", path.display()), error))
}

fn list(set: &DriveSet) -> Result<Files, Error> {
    let mut files = Files { finished: HashMap::new(), paths: Vec::new(), temporary: Vec::new(), segments: Vec::new() };
    for (index, drive) in set.drives().iter().enumerate().filter(|(_index, drive)| drive.writable()) {
        let root = drive.dir.join("extents");
        drive.disk.create_dir(&root).map_err(|error| Error::io(format!("make {}", root.display()), error))?;
        list_drive(drive.disk.as_ref(), &root, index, &mut files)?;
        let root = drive.dir.join("segments");
        drive.disk.create_dir(&root).map_err(|error| Error::io(format!("make {}", root.display()), error))?;
        let there = drive.disk.list(&root).map_err(|error| Error::io(format!("list {}", root.display()), error))?;
        drive.disk.sync_dir(&drive.dir).map_err(|error| Error::io(format!("sync {}", drive.name()), error))?;
        for path in there {
            let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            let mut parts = name.split('.');
            let id = parts.next().and_then(|id| u64::from_str_radix(id, 16).ok());
            match (id, parts.next(), parts.next()) {
                (Some(id), Some(COPY_SUFFIX), None) => files.segments.push((id, None, index, path)),
                (Some(id), Some(generation), Some("dhs")) => {
                    let generation = u32::from_str_radix(generation, 16).unwrap_or(u32::MAX);
                    files.segments.push((id, Some(generation), index, path));
                }
                (Some(_id), Some(_generation), Some(TEMP_SUFFIX)) => files.temporary.push((index, path)),
                (Some(_) | None, Some(_) | None, Some(_) | None) => {
                    tracing::warn!(file = %path.display(), "a file that is not ours is left alone");
                }
            }
        }
    }
    Ok(files)
}

fn list_drive(disk: &dyn Disk, root: &Path, drive: usize, files: &mut Files) -> Result<(), Error> {
    let read = |path: &Path| disk.list(path).map_err(|error| Error::io(format!("list {}", path.display()), error));
    for directory in read(root)? {
        for path in read(&directory)? {
            let ending = path.extension().and_then(std::ffi::OsStr::to_str);
            let id =
                path.file_stem().and_then(std::ffi::OsStr::to_str).and_then(|stem| u64::from_str_radix(stem, 16).ok());
            match (id, ending) {
                (Some(id), Some(EXTENT_SUFFIX)) => {
                    *files.finished.entry(id).or_default() += 1;
                    files.paths.push((id, drive, path));
                }
                (Some(_id), Some(TEMP_SUFFIX)) => files.temporary.push((drive, path)),
                (Some(_) | None, Some(_) | None) => {
                    tracing::warn!(file = %path.display(), "a file that is not ours is left alone");
                }
            }
        }
    }
    Ok(())
}

fn note(names: &mut Vec<String>, count: &mut u64, name: impl FnOnce() -> String) {
    *count += 1;
    if names.len() < NAMED_MAX {
        names.push(name());
    }
}

/// A version as people name it.
fn name(row_key: &[u8]) -> String {
    match split_version(row_key) {
        Some((bucket, key, 0)) => format!("{bucket}/{key}"),
        Some((bucket, key, sequence)) => format!("{bucket}/{key} version {sequence:016x}"),
        None => row_key.escape_ascii().to_string(),
    }
}

fn corrupt(report: &mut Recovery, key: &[u8], error: Error) -> Result<Next, Error> {
    if !matches!(error, Error::Corrupt { .. }) {
        return Err(error);
    }
    note(&mut report.corrupt_names, &mut report.corrupt_rows, || key.escape_ascii().to_string());
    Ok(Next::Row)
}

/// What is not there to be read.
#[derive(Debug, Default)]
struct Absent {
    extents: HashSet<u64>,
    segments: HashSet<u64>,
}

/// Reads the rows of buckets, their counts, large extents and segments; returns the large extents.
fn rows(set: &DriveSet, meta: &Meta, files: &Files, found: &mut Found) -> Result<HashSet<u64>, Error> {
    let transaction = meta.read()?;
    let mut named = HashSet::new();
    let mut absent = Absent::default();
    let all: &[u8] = &[0xff; 9];
    let Found { report, usage, classes, used, segments } = found;
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
            Ok((stored, _inline)) => *used += Shape { code: set.code(), unit: UNIT_BYTES, len: stored }.physical(),
            Err(error) => return corrupt(report, key, error),
        }
        match files.of_extent(set, id) {
            There::All => {}
            There::Degraded => report.degraded += 1,
            There::Missing => drop(absent.extents.insert(id)),
        }
        named.insert(id);
        Ok(Next::Row)
    })?;
    let copies = u64::from(set.code().parity) + 1;
    Meta::scan(&transaction, TableId::Segments, Vec::new(), all, |key, value| {
        let id = key.try_into().map_or(0, u64::from_be_bytes);
        match decode::<SegmentRow>(key, value) {
            Ok((row, _inline)) => {
                *used += row.live.saturating_mul(copies);
                if matches!(files.of_segment(set, id, &row), There::Missing) {
                    absent.segments.insert(id);
                }
                segments.insert(id, row);
                Ok(Next::Row)
            }
            Err(error) => {
                // What the row said is seen from the files; its live bytes are not, so it is never taken for empty.
                let there = files.segments.iter().filter(|(segment, ..)| *segment == id);
                let copies = there.filter(|(_id, coded, ..)| coded.is_none()).map(|(_id, _coded, drive, _path)| *drive);
                segments
                    .insert(id, SegmentRow { copies: copies.collect(), live: u64::MAX, end: u64::MAX, coded: None });
                corrupt(report, key, error)
            }
        }
    })?;
    if !absent.extents.is_empty() || !absent.segments.is_empty() {
        names(&transaction, &absent, report)?;
    }
    Ok(named)
}

/// Finds the names of those that cannot be read. Only then is every row read.
fn names(transaction: &ReadTransaction, absent: &Absent, report: &mut Recovery) -> Result<(), Error> {
    let all: &[u8] = &[0xff; 9];
    let gone = |extent: &ExtentRef| match extent.place {
        Place::Large | Place::Cold { .. } => absent.extents.contains(&extent.id),
        Place::Remote { .. } => false,
        Place::Packed { segment, .. } => absent.segments.contains(&segment),
    };
    Meta::scan(transaction, TableId::Objects, Vec::new(), all, |key, value| {
        let info = match decode::<VersionRow>(key, value) {
            Ok((VersionRow::Object(info), _inline)) => info,
            Ok((VersionRow::Marker(_) | VersionRow::NullAt(_), _inline)) => return Ok(Next::Row),
            Err(error) => return corrupt(report, key, error),
        };
        if info.extents.iter().any(gone) {
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
        if gone(&row.extent) {
            note(&mut report.missing_names, &mut report.missing, || key.escape_ascii().to_string());
        }
        Ok(Next::Row)
    })
}
