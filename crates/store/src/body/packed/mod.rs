//! Small bodies, packed: records in shared segments that are only appended to.
//!
//! A segment is first written as `m + 1` copies on as many drives. A record is `"DHRC" u32 | blocks u32 | extent id u64 |
//! length u64 | an entry of 16 bytes per block | crc u64`, then the stored blocks; it starts at a multiple of 64. The crc is
//! bound to segment and offset and repeated in the metadata row. Several writers append at once: each reserves its place
//! under a lock and writes outside of it. Nothing is durable before [`Segments::sync`], one `fdatasync` per drive and batch.
//!
//! Invariant: a row names a record only after `sync` returned for it; a record is never changed, only mended or freed.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod ledger;
mod reading;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

pub(crate) use self::ledger::Ledger;
use self::record::{HEAD_BYTES, head};
use crate::Error;
use crate::block::{self, Address};
use crate::body::stripe::{FileKey, FileKind, make_directory, on_all};
use crate::body::striped::StripedFile;
use crate::config::Compression;
use crate::crypto::Cipher;
use crate::disk::DiskFile;
use crate::drive::DriveSet;
use crate::extent::{ENTRY_BYTES, ExtentRef, Place};

const ALIGN: u64 = 64;
/// Segments whose files are kept open.
const OPEN_SEGMENTS_MAX: usize = 128;
/// Bytes of a unit of a coded segment: most records lie within one.
pub(crate) const SEGMENT_UNIT: u64 = 1 << 20;
/// The ending of a copy's name.
pub(crate) const COPY_SUFFIX: &str = "dhp";

/// How a segment lies. The row of the segment table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    /// The drives of its copies; none once it is coded.
    pub(crate) copies: Vec<usize>,
    /// Bytes of records that rows name.
    pub(crate) live: u64,
    /// The end of the last record that a row named.
    pub(crate) end: u64,
    /// The coded file, if the segment is coded.
    pub(crate) coded: Option<CodedRow>,
}

/// A coded segment's file: the records one after another, then for each `offset u64 | stored u64`, and a crc u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodedRow {
    pub(crate) generation: u32,
    pub(crate) len: u64,
    pub(crate) records: u64,
}

/// The path of a segment's copy on the drive at `root`.
pub(crate) fn copy_path(root: &std::path::Path, id: u64) -> PathBuf {
    root.join("segments").join(format!("{id:016x}.{COPY_SUFFIX}"))
}

/// A copy that is open for reading: its drive, and its file once it was needed.
type CopyFile = (usize, OnceLock<Box<dyn DiskFile>>);

struct Copy {
    drive: usize,
    file: Box<dyn DiskFile>,
    failed: AtomicBool,
}

/// A segment that takes records.
pub(crate) struct Open {
    pub(crate) id: u64,
    copies: Vec<Copy>,
    tail: AtomicU64,
    /// Records that rows name.
    kept: Mutex<Vec<ExtentRef>>,
}

impl Open {
    fn drives(&self) -> Vec<usize> {
        self.copies.iter().map(|copy| copy.drive).collect()
    }

    fn good(&self) -> usize {
        self.copies.iter().filter(|copy| !copy.failed.load(Ordering::SeqCst)).count()
    }

    /// A row names the record.
    pub(crate) fn keep(&self, extent: ExtentRef) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(extent);
    }

    pub(crate) fn kept(&self) -> Vec<ExtentRef> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A segment that is open for reading.
enum Reading {
    Copies(Vec<CopyFile>),
    Coded(StripedFile, OnceLock<Vec<(u64, u64)>>),
}

/// All segments.
pub(crate) struct Segments {
    set: Arc<DriveSet>,
    limit: u64,
    current: Mutex<Option<Arc<Open>>>,
    closed: Mutex<Vec<Arc<Open>>>,
    rows: RwLock<BTreeMap<u64, SegmentRow>>,
    /// Rows that were removed, until the last reader of a record lets go of the files; and how many records wait for that.
    gone: Mutex<BTreeMap<u64, SegmentRow>>,
    freeing: Mutex<BTreeMap<u64, u64>>,
    reading: quick_cache::sync::Cache<u64, Arc<Reading>>,
}

impl Segments {
    /// The segments that `rows` tell of, on `set`.
    pub(crate) fn new(set: Arc<DriveSet>, limit: u64, rows: BTreeMap<u64, SegmentRow>) -> Self {
        Self {
            set,
            limit,
            current: Mutex::default(),
            closed: Mutex::default(),
            rows: RwLock::new(rows),
            gone: Mutex::default(),
            freeing: Mutex::default(),
            reading: quick_cache::sync::Cache::new(OPEN_SEGMENTS_MAX),
        }
    }

    /// Copies that must be durable before anybody is told of success; see [`DriveSet::required`].
    fn required(&self) -> usize {
        1 + usize::from(self.set.code().parity > 1)
    }

    /// Begins a segment on the next drives that take writes.
    fn begin(&self, id: u64) -> Result<Open, Error> {
        self.set.serves()?;
        let wanted = usize::from(self.set.code().parity) + 1;
        let mut copies = Vec::new();
        let mut trouble = None;
        for turn in 0..self.set.drives().len() {
            let index = self.set.drive_of(id, turn);
            let Some(drive) = self.set.drive(index).filter(|drive| drive.writable()) else { continue };
            if copies.len() == wanted {
                break;
            }
            let path = copy_path(&drive.dir, id);
            let directory = drive.dir.join("segments");
            let made = match drive.disk.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(drive, FileKey { kind: FileKind::Segment(0), id })
                        .and_then(|()| drive.disk.create(&path))
                }
                other => other,
            };
            match made {
                Ok(file) => match drive.disk.sync_dir(&directory) {
                    Ok(()) => copies.push(Copy { drive: index, file, failed: AtomicBool::new(false) }),
                    Err(error) => {
                        self.set.sync_failed(index, &directory, &error);
                        trouble = Some(Error::io(format!("sync {}", directory.display()), error));
                    }
                },
                Err(error) => {
                    self.set.failed(index, &error);
                    trouble = Some(Error::io(format!("create {}", path.display()), error));
                }
            }
        }
        if copies.len() < self.required() {
            let why = || Error::Drives(format!("{} of {wanted} copies can be written", copies.len()));
            return Err(trouble.unwrap_or_else(why));
        }
        Ok(Open { id, copies, tail: AtomicU64::new(0), kept: Mutex::default() })
    }

    /// A place for `bytes` in the segment that takes records.
    fn reserve(&self, bytes: u64, new_id: impl FnOnce() -> u64) -> Result<(Arc<Open>, u64), Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (usize::from(self.set.code().parity) + 1)
            .min(self.set.drives().iter().filter(|drive| drive.writable()).count());
        if let Some(open) =
            current.take_if(|open| open.tail.load(Ordering::SeqCst) + bytes > self.limit || open.good() < wanted)
        {
            self.closed.lock().unwrap_or_else(PoisonError::into_inner).push(open);
        }
        let open = match &*current {
            Some(open) => Arc::clone(open),
            None => Arc::clone(current.insert(Arc::new(self.begin(new_id())?))),
        };
        let offset = open.tail.fetch_add(bytes.next_multiple_of(ALIGN), Ordering::SeqCst);
        Ok((open, offset))
    }

    /// Writes a body's record to all copies of a segment. It is not durable yet.
    pub(crate) fn append(
        &self,
        id: u64,
        blocks: &[Vec<u8>],
        (compression, cipher): (Compression, Option<&Cipher>),
        new_id: impl FnOnce() -> u64,
    ) -> Result<(ExtentRef, Arc<Open>), Error> {
        let mut entries = Vec::with_capacity(blocks.len());
        let mut data = Vec::new();
        for (index, bytes) in (0_u32..).zip(blocks) {
            let (entry, packed) = block::seal(Address { extent: id, block: index }, bytes, compression, cipher)?;
            data.extend_from_slice(packed.as_deref().unwrap_or(bytes));
            entries.push(entry);
        }
        let len = blocks.iter().map(|bytes| bytes.len() as u64).sum();
        let stored = (HEAD_BYTES + entries.len() * ENTRY_BYTES + data.len()) as u64;
        let (open, offset) = self.reserve(stored, new_id)?;
        let (mut record, crc) = head(open.id, offset, id, len, &entries);
        record.extend_from_slice(&data);
        let mut trouble = None;
        for copy in open.copies.iter().filter(|copy| !copy.failed.load(Ordering::SeqCst)) {
            if let Err(error) = copy.file.write_at(offset, &record) {
                copy.failed.store(true, Ordering::SeqCst);
                self.set.failed(copy.drive, &error);
                trouble = Some(Error::io(format!("write segment {:016x} on drive {}", open.id, copy.drive), error));
            }
        }
        if open.good() < self.required() {
            return Err(trouble.unwrap_or_else(|| Error::Drives("too few copies can be written".to_owned())));
        }
        let place = Place::Packed { segment: open.id, offset };
        Ok((ExtentRef { id, len, stored, crc, place, sealed: id }, open))
    }

    /// Makes the records in `open` durable: one sync per copy, on all drives at the same time.
    pub(crate) fn sync(&self, open: &[Arc<Open>]) -> Result<(), Error> {
        let mut copies: Vec<(&Arc<Open>, &Copy)> =
            open.iter().flat_map(|open| open.copies.iter().map(move |copy| (open, copy))).collect();
        copies.retain(|(_open, copy)| !copy.failed.load(Ordering::SeqCst));
        let failed = on_all(&mut copies, |(open, copy)| {
            let error = copy.file.sync_data().err()?;
            copy.failed.store(true, Ordering::SeqCst);
            let path = self.set.drive(copy.drive).map(|drive| copy_path(&drive.dir, open.id)).unwrap_or_default();
            self.set.sync_failed(copy.drive, &path, &error);
            Some(Error::io(format!("sync {}", path.display()), error))
        });
        if open.iter().all(|open| open.good() >= self.required()) {
            return Ok(());
        }
        let error = failed.into_iter().flatten().next();
        Err(error.unwrap_or_else(|| Error::Drives("too few copies are durable".to_owned())))
    }

    /// The row of a segment, to be changed in a transaction; that of one without a row is made.
    pub(crate) fn fresh_row(&self, id: u64) -> SegmentRow {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let open = current.iter().chain(closed.iter()).find(|open| open.id == id);
        SegmentRow { copies: open.map(|open| open.drives()).unwrap_or_default(), live: 0, end: 0, coded: None }
    }

    /// What the committed rows say from now on.
    pub(crate) fn learn(&self, changed: Vec<(u64, Option<SegmentRow>)>) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for (id, row) in changed {
            match row {
                Some(row) => drop(rows.insert(id, row)),
                None => {
                    if let Some(row) = rows.remove(&id) {
                        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(id, row);
                    }
                }
            }
        }
    }

    pub(crate) fn row(&self, id: u64) -> Option<SegmentRow> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn rows(&self) -> Vec<(u64, SegmentRow)> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(id, row)| (*id, row.clone())).collect()
    }

    /// Whether the segment still takes records, or has some that nobody decided about.
    pub(crate) fn busy(&self, id: u64) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|open| open.id == id)
            || closed.iter().any(|open| open.id == id && Arc::strong_count(open) > 1)
    }

    /// Segments that were closed, and in which every record is decided about.
    pub(crate) fn take_closed(&self) -> Vec<Arc<Open>> {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.extract_if(.., |open| Arc::strong_count(open) == 1).collect()
    }
}

/// The key of a segment's row.
pub(crate) const fn segment_key(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}
