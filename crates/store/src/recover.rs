//! Puts a directory in order when it is opened: counts what is there, removes what a crash left over, and reports what is
//! missing. It never drops an object silently.
//!
//! Cost: one pass over all rows (about 2 us each) and one directory listing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::body::packed::{COPY_SUFFIX, SegmentRow};
use crate::body::stripe::{EXTENT_SUFFIX, TEMP_SUFFIX};
use crate::disk::Disk;
use crate::drive::DriveSet;
use crate::extent::{ExtentRef, Place};
use crate::meta::{BUCKETS, Meta, Next, OBJECTS, PARTS, SEGMENTS, UPLOADS};
use crate::rows::{BucketRow, ObjectInfo, PartRow, UploadRow, decode, split_key};
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
    fn of(&self, set: &DriveSet, rows: &BTreeMap<u64, SegmentRow>, extent: &ExtentRef) -> There {
        if let Place::Packed { segment, .. } = extent.place {
            // Which of its bytes are good is seen when they are read; here only whether there is anything to read.
            let there = rows.get(&segment).is_some_and(|row| {
                let away = row.copies.iter().any(|drive| set.drive(*drive).is_none_or(|drive| !drive.readable()));
                let coded = row.coded.map(|coded| coded.generation);
                away || self.segments.iter().any(|(id, generation, ..)| *id == segment && *generation == coded)
            });
            return if there { There::All } else { There::Missing };
        }
        let there = self.finished.get(&extent.id).copied().unwrap_or(0);
        let slots = 0..set.code().total();
        let away = slots
            .filter(|slot| set.drive(set.drive_of(extent.id, *slot)).is_none_or(|drive| !drive.readable()))
            .count();
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

/// Reads every row; returns the extents that they name.
fn rows(set: &DriveSet, meta: &Meta, files: &Files, found: &mut Found) -> Result<HashSet<u64>, Error> {
    let transaction = meta.read()?;
    let mut named = HashSet::new();
    let all: &[u8] = &[0xff; 8];
    let Found { report, usage, used, segments } = found;
    let physical = |extent: &ExtentRef| extent.physical(set);
    let corrupt = |report: &mut Recovery, key: &[u8], error: Error| {
        if !matches!(error, Error::Corrupt { .. }) {
            return Err(error);
        }
        note(&mut report.corrupt_names, &mut report.corrupt_rows, || key.escape_ascii().to_string());
        Ok(Next::Row)
    };
    Meta::scan(&transaction, SEGMENTS, Vec::new(), all, |key, value| match (decode::<SegmentRow>(key, value), key) {
        (Ok((row, _inline)), key) => {
            if let Ok(id) = key.try_into() {
                segments.insert(u64::from_be_bytes(id), row);
            }
            Ok(Next::Row)
        }
        (Err(error), key) => {
            if let Ok(id) = key.try_into().map(u64::from_be_bytes) {
                // What the row said is seen from the files; its live bytes are not, so it is never taken for empty.
                let there = files.segments.iter().filter(|(segment, ..)| *segment == id);
                let copies = there.filter(|(_id, coded, ..)| coded.is_none()).map(|(_id, _coded, drive, _path)| *drive);
                segments
                    .insert(id, SegmentRow { copies: copies.collect(), live: u64::MAX, end: u64::MAX, coded: None });
            }
            corrupt(report, key, error)
        }
    })?;
    Meta::scan(&transaction, BUCKETS, Vec::new(), all, |key, value| match decode::<BucketRow>(key, value) {
        Ok(_row) => {
            usage.insert(String::from_utf8_lossy(key).into_owned(), BucketUsage::default());
            Ok(Next::Row)
        }
        Err(error) => corrupt(report, key, error),
    })?;
    Meta::scan(&transaction, OBJECTS, Vec::new(), all, |key, value| {
        let info = match decode::<ObjectInfo>(key, value) {
            Ok((info, _inline)) => info,
            Err(error) => return corrupt(report, key, error),
        };
        let bucket = split_key(key).map_or_else(String::new, |(bucket, _key)| bucket.to_owned());
        usage.entry(bucket).or_default().add(info.size, info.stored());
        *used += info.extents.iter().map(physical).sum::<u64>();
        let count = |want: fn(&There) -> bool| {
            info.extents.iter().filter(|extent| want(&files.of(set, segments, extent))).count()
        };
        report.degraded += count(|whole| matches!(whole, There::Degraded)) as u64;
        if count(|whole| matches!(whole, There::Missing)) == 0 {
            report.objects += 1;
        } else {
            note(&mut report.missing_names, &mut report.missing, || key.escape_ascii().to_string());
        }
        named.extend(info.extents.iter().filter(|extent| extent.place == Place::Large).map(|extent| extent.id));
        Ok(Next::Row)
    })?;
    Meta::scan(&transaction, UPLOADS, Vec::new(), all, |key, value| match decode::<UploadRow>(key, value) {
        Ok(_row) => Ok(Next::Row),
        Err(error) => corrupt(report, key, error),
    })?;
    Meta::scan(&transaction, PARTS, Vec::new(), all, |key, value| {
        let row = match decode::<PartRow>(key, value) {
            Ok((row, _inline)) => row,
            Err(error) => return corrupt(report, key, error),
        };
        *used += physical(&row.extent);
        match files.of(set, segments, &row.extent) {
            There::All => {}
            There::Degraded => report.degraded += 1,
            There::Missing => {
                note(&mut report.missing_names, &mut report.missing, || key.escape_ascii().to_string());
            }
        }
        named.insert(row.extent.id);
        Ok(Next::Row)
    })?;
    Ok(named)
}
