//! Writing a striped file: units go to the drives as they fill, parity when a stripe is whole.
//!
//! A slot's file is its units, one checksum of 8 bytes per chunk (bound to file, slot and place), and a trailer of 48 bytes
//! `"DHSTRIP1" | version u32 | unit u32 | id u64 | generation u32 | slot, k, m, 0 u8 | length u64 | crc of checksums and
//! trailer u64`. Invariant: a slot's file has its name only when it is whole and synced. A drive that fails is left
//! out; the file is written as long as [`DriveSet::required`] slots are. Memory: one stripe if there is parity.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use crate::Error;
use crate::block::bound_crc;
use crate::body::code;
use crate::body::shape::{CHUNK_BYTES, Shape, size};
use crate::disk::DiskFile;
use crate::drive::{Drive, DriveSet};

const MAGIC: &[u8; 8] = b"DHSTRIP1";
const VERSION: u32 = 1;
/// Bytes of a slot's trailer.
pub(crate) const TRAILER_BYTES: usize = 48;
/// Bytes of one chunk's checksum.
pub(crate) const SUM_BYTES: usize = 8;
/// Extents of one directory: neighbours share it, so that one directory sync serves a batch of puts.
const DIRECTORY_SHIFT: u32 = 12;
/// The ending of a finished extent's name, of a segment's, and of one that is being written.
pub(crate) const EXTENT_SUFFIX: &str = "dhx";
pub(crate) const TEMP_SUFFIX: &str = "tmp";

/// What a striped file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileKind {
    /// One large body.
    Extent,
    /// Many small ones; the number tells how often the segment was written anew.
    Segment(u32),
}

/// A file's name, on whichever drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey {
    pub(crate) kind: FileKind,
    pub(crate) id: u64,
}

impl FileKey {
    pub(crate) const fn extent(id: u64) -> Self {
        Self { kind: FileKind::Extent, id }
    }

    /// The directory of the file on the drive at `root`.
    pub(crate) fn directory(self, root: &Path) -> PathBuf {
        match self.kind {
            FileKind::Extent => root.join("extents").join(format!("{:013x}", self.id >> DIRECTORY_SHIFT)),
            FileKind::Segment(_) => root.join("segments"),
        }
    }

    /// The path of the finished file on the drive at `root`.
    pub(crate) fn path(self, root: &Path) -> PathBuf {
        let name = match self.kind {
            FileKind::Extent => format!("{:016x}.{EXTENT_SUFFIX}", self.id),
            FileKind::Segment(generation) => format!("{:016x}.{generation:x}.dhs", self.id),
        };
        self.directory(root).join(name)
    }

    const fn generation(self) -> u32 {
        match self.kind {
            FileKind::Extent => 0,
            FileKind::Segment(generation) => generation,
        }
    }

    /// What a chunk's checksum is bound to.
    pub(crate) fn chunk_crc(self, slot: usize, chunk: u64, bytes: &[u8]) -> u64 {
        let mut place = [0_u8; 24];
        let fields = self
            .id
            .to_le_bytes()
            .into_iter()
            .chain(self.generation().to_le_bytes())
            .chain(u32::try_from(slot).unwrap_or(u32::MAX).to_le_bytes())
            .chain(chunk.to_le_bytes());
        for (target, byte) in place.iter_mut().zip(fields) {
            *target = byte;
        }
        bound_crc(&place, bytes)
    }

    /// The checksums and the trailer that end a slot's file.
    pub(crate) fn tail(self, shape: Shape, slot: usize, sums: &[u64]) -> Vec<u8> {
        let mut tail = Vec::with_capacity(sums.len() * SUM_BYTES + TRAILER_BYTES);
        for sum in sums {
            tail.extend_from_slice(&sum.to_le_bytes());
        }
        tail.extend_from_slice(MAGIC);
        tail.extend_from_slice(&VERSION.to_le_bytes());
        tail.extend_from_slice(&u32::try_from(shape.unit).unwrap_or(u32::MAX).to_le_bytes());
        tail.extend_from_slice(&self.id.to_le_bytes());
        tail.extend_from_slice(&self.generation().to_le_bytes());
        tail.extend_from_slice(&[u8::try_from(slot).unwrap_or(u8::MAX), shape.code.data, shape.code.parity, 0]);
        tail.extend_from_slice(&shape.len.to_le_bytes());
        let crc = bound_crc(MAGIC, &tail);
        tail.extend_from_slice(&crc.to_le_bytes());
        tail
    }
}

/// Makes the directory of `key` on a drive, if it is not there, with its name durable.
pub(crate) fn make_directory(drive: &Drive, key: FileKey) -> io::Result<()> {
    let directory = key.directory(&drive.dir);
    let _making = drive.making.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(parent) = directory.parent()
        && drive.disk.list(parent).is_ok_and(|there| there.contains(&directory))
    {
        return Ok(());
    }
    drive.disk.create_dir(&directory)?;
    for parent in directory.ancestors().skip(1).take_while(|parent| parent.starts_with(&drive.dir)) {
        drive.disk.sync_dir(parent)?;
    }
    Ok(())
}

/// One slot that is being written.
#[derive(Debug)]
pub(crate) struct SlotWriter {
    pub(crate) slot: usize,
    pub(crate) drive: usize,
    file: Option<Box<dyn DiskFile>>,
    temporary: PathBuf,
    path: PathBuf,
    offset: u64,
    sums: Vec<u64>,
    key: FileKey,
    trouble: Option<Error>,
}

impl SlotWriter {
    /// Starts a slot's file on its drive; the slot is left out if the drive fails.
    pub(crate) fn create(set: &DriveSet, key: FileKey, slot: usize) -> Result<Self, Error> {
        let index = set.drive_of(key.id, slot);
        let drive = set.drive(index).ok_or_else(|| Error::Drives(format!("there is no drive {index}")))?;
        let path = key.path(&drive.dir);
        let temporary = path.with_extension(TEMP_SUFFIX);
        let mut this =
            Self { slot, drive: index, file: None, temporary, path, offset: 0, sums: Vec::new(), key, trouble: None };
        if drive.writable() {
            let made = match drive.disk.create(&this.temporary) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(drive, key).and_then(|()| drive.disk.create(&this.temporary))
                }
                other => other,
            };
            match made {
                Ok(file) => this.file = Some(file),
                Err(error) => this.fail(set, "create", error),
            }
        }
        Ok(this)
    }

    /// Leaves the slot out.
    fn fail(&mut self, set: &DriveSet, what: &str, error: io::Error) {
        self.file = None;
        set.failed(self.drive, &error);
        let error = Error::io(format!("{what} {}", self.temporary.display()), error);
        tracing::warn!(%error, "a shard is left out");
        self.trouble = Some(error);
    }

    /// Appends a unit, or the last part of one.
    pub(crate) fn write(&mut self, set: &DriveSet, bytes: &[u8]) {
        for chunk in bytes.chunks(size(CHUNK_BYTES)) {
            self.sums.push(self.key.chunk_crc(self.slot, self.sums.len() as u64, chunk));
        }
        let Some(file) = &self.file else { return };
        match file.write_at(self.offset, bytes) {
            Ok(()) => self.offset += bytes.len() as u64,
            Err(error) => self.fail(set, "write", error),
        }
    }

    /// Writes the checksums and makes all durable under the file's name.
    pub(crate) fn finish(&mut self, set: &DriveSet, shape: Shape) {
        let tail = self.key.tail(shape, self.slot, &self.sums);
        let (Some(file), Some(drive)) = (&self.file, set.drive(self.drive)) else { return };
        if let Err(error) = file.write_at(self.offset, &tail) {
            return self.fail(set, "write", error);
        }
        self.offset += tail.len() as u64;
        if let Err(error) = file.sync_data() {
            self.file = None;
            set.sync_failed(self.drive, &self.temporary, &error);
            self.trouble = Some(Error::io(format!("sync {}", self.temporary.display()), error));
            return;
        }
        if let Err(error) = drive.disk.rename(&self.temporary, &self.path) {
            self.fail(set, "rename", error);
        }
    }

    pub(crate) const fn alive(&self) -> bool {
        self.file.is_some()
    }

    /// Why it was left out.
    pub(crate) fn into_trouble(self) -> Error {
        self.trouble.unwrap_or_else(|| Error::Drives(format!("{} cannot be written", self.path.display())))
    }
}

/// A striped file that is being written.
#[derive(Debug)]
pub(crate) struct StripeWriter {
    set: Arc<DriveSet>,
    shape: Shape,
    slots: Vec<SlotWriter>,
    /// The unit that fills.
    unit: Vec<u8>,
    /// The full units of this stripe, kept for its parity.
    stripe: Vec<Vec<u8>>,
    /// The slot of the unit that fills.
    turn: usize,
}

impl StripeWriter {
    /// Starts the file `key`.
    pub(crate) fn create(set: &Arc<DriveSet>, key: FileKey, unit: u64) -> Result<Self, Error> {
        set.serves()?;
        let shape = Shape { code: set.code(), unit, len: 0 };
        let slots = (0..set.code().total()).map(|slot| SlotWriter::create(set, key, slot));
        let slots = slots.collect::<Result<Vec<_>, Error>>()?;
        let this = Self { set: Arc::clone(set), shape, slots, unit: Vec::new(), stripe: Vec::new(), turn: 0 };
        this.enough()?;
        Ok(this)
    }

    fn enough(&self) -> Result<(), Error> {
        let alive = self.slots.iter().filter(|slot| slot.alive()).count();
        if alive >= self.set.required() {
            return Ok(());
        }
        self.set.serves()?;
        let why = || Error::Drives(format!("{alive} of {} shards can be written", self.slots.len()));
        Err(self.slots.iter().find_map(|slot| slot.trouble.clone()).unwrap_or_else(why))
    }

    /// Bytes appended so far.
    pub(crate) const fn len(&self) -> u64 {
        self.shape.len
    }

    /// Bytes on all drives so far.
    pub(crate) fn physical(&self) -> u64 {
        self.slots.iter().map(|slot| slot.offset).sum()
    }

    fn put(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Error> {
        let Some(writer) = self.slots.get_mut(slot) else { return Ok(()) };
        writer.write(&self.set, bytes);
        if writer.alive() { Ok(()) } else { self.enough() }
    }

    fn full_unit(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.put(self.turn, bytes)?;
        if self.shape.code.parity > 0 {
            self.stripe.push(bytes.to_vec());
        }
        self.turn += 1;
        if self.turn == usize::from(self.shape.code.data) {
            self.parity()?;
        }
        Ok(())
    }

    fn parity(&mut self) -> Result<(), Error> {
        self.turn = 0;
        let stripe = std::mem::take(&mut self.stripe);
        if stripe.is_empty() {
            return Ok(());
        }
        let views: Vec<&[u8]> = stripe.iter().map(Vec::as_slice).collect();
        for (index, shard) in code::encode(self.shape.code, &views)?.iter().enumerate() {
            self.put(usize::from(self.shape.code.data) + index, shard)?;
        }
        Ok(())
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let unit = size(self.shape.unit);
        self.shape.len += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.unit.is_empty()
                && let Some((whole, rest)) = bytes.split_at_checked(unit)
            {
                self.full_unit(whole)?;
                bytes = rest;
                continue;
            }
            let (now, rest) = bytes.split_at_checked(unit - self.unit.len()).unwrap_or((bytes, &[]));
            self.unit.extend_from_slice(now);
            bytes = rest;
            if self.unit.len() == unit {
                let whole = std::mem::take(&mut self.unit);
                self.full_unit(&whole)?;
            }
        }
        Ok(())
    }

    /// Makes the file durable and gives it its name on each drive; the names are durable once the directories are synced.
    pub(crate) fn finish(mut self) -> Result<Shape, Error> {
        let rest = std::mem::take(&mut self.unit);
        if !rest.is_empty() {
            self.put(self.turn, &rest)?;
            if self.shape.code.parity > 0 {
                self.stripe.push(rest);
            }
        }
        self.parity()?;
        let (shape, set) = (self.shape, Arc::clone(&self.set));
        on_all(&mut self.slots, |slot| slot.finish(&set, shape));
        self.enough()?;
        Ok(shape)
    }
}

/// Runs `work` on each of `items` at the same time, as they wait for different drives.
pub(crate) fn on_all<T: Send, R: Send>(items: &mut [T], work: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
    let (mine, theirs) = match items.split_first_mut() {
        None => return Vec::new(),
        Some((first, [])) => return vec![work(first)],
        Some(split) => split,
    };
    std::thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = theirs.iter_mut().map(|item| scope.spawn(move || work(item))).collect();
        let mut results = vec![work(mine)];
        for thread in started {
            match thread.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}
