//! Reading a striped file: as written if all is well, from what is left if not, and mending what is found broken.
//!
//! [`StripedFile::read`] reads only the bytes that are asked for and believes them; its callers check them against the
//! checksums of blocks. If they do not hold, [`StripedFile::careful`] reads whole chunks under their own checksums,
//! reconstructs those that are bad or away, and writes them back where the drive still takes writes.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::Error;
use crate::body::code;
use crate::body::shape::{CHUNK_BYTES, Shape, size};
use crate::body::stripe::{FileKey, SUM_BYTES, SlotWriter, TRAILER_BYTES};
use crate::disk::DiskFile;
use crate::drive::{Drive, DriveSet};

/// The largest file of a slot that a read makes anew; larger ones wait for a scrub.
const REBUILD_BYTES_MAX: u64 = 64 << 20;

/// Bytes on a drive that are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The drive.
    pub drive: String,
    /// The file on it.
    pub file: String,
    /// What was found.
    pub what: String,
    /// The object, `bucket/key`, if it is known.
    pub object: Option<String>,
    /// The body's extent or the segment.
    pub id: u64,
    /// Whether the drive holds the right bytes again.
    pub repaired: bool,
}

/// Why a slot does not give its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Its drive does not serve.
    Offline,
    /// There is no file.
    Missing,
    /// The operating system refuses.
    Unreadable(String),
    /// The file's checksums are not those that were written.
    Table,
    /// The bytes are not those that were written.
    Wrong,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offline => f.write_str("the drive does not serve"),
            Self::Missing => f.write_str("the file is missing"),
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::Table => f.write_str("the file's checksums are not those that were written"),
            Self::Wrong => f.write_str("the checksum differs"),
        }
    }
}

/// The data of a chunk of every data slot, and the slots that were found bad on the way.
type Recovered = (Vec<Vec<u8>>, Vec<(usize, Bad)>);

/// A striped file that is open for reading.
#[derive(Debug)]
pub(crate) struct StripedFile {
    set: Arc<DriveSet>,
    key: FileKey,
    shape: Shape,
    files: Vec<OnceLock<Box<dyn DiskFile>>>,
    tables: Vec<OnceLock<Vec<u64>>>,
}

impl StripedFile {
    /// The file `key`; nothing is opened yet.
    pub(crate) fn new(set: &Arc<DriveSet>, key: FileKey, shape: Shape) -> Self {
        let slots = shape.code.total();
        let files = std::iter::repeat_with(OnceLock::new).take(slots).collect();
        let tables = std::iter::repeat_with(OnceLock::new).take(slots).collect();
        Self { set: Arc::clone(set), key, shape, files, tables }
    }

    /// The name of the file in reports.
    pub(crate) fn name(&self) -> String {
        let drive = self.set.drive(self.set.drive_of(self.key.id, 0));
        drive.map_or_else(String::new, |drive| self.key.path(&drive.dir).display().to_string())
    }

    fn file(&self, slot: usize) -> Result<&dyn DiskFile, Bad> {
        let index = self.set.drive_of(self.key.id, slot);
        let (Some(drive), Some(place)) = (self.set.drive(index), self.files.get(slot)) else {
            return Err(Bad::Offline);
        };
        if !drive.readable() {
            return Err(Bad::Offline);
        }
        if let Some(file) = place.get() {
            return Ok(file.as_ref());
        }
        match drive.disk.open(&self.key.path(&drive.dir)) {
            Ok(file) => Ok(place.get_or_init(|| file).as_ref()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Bad::Missing),
            Err(error) => {
                self.set.failed(index, &error);
                Err(Bad::Unreadable(error.to_string()))
            }
        }
    }

    fn read_slot(&self, slot: usize, offset: u64, out: &mut [u8]) -> Result<(), Bad> {
        self.file(slot)?.read_at(offset, out).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return Bad::Table;
            }
            self.set.failed(self.set.drive_of(self.key.id, slot), &error);
            Bad::Unreadable(error.to_string())
        })
    }

    /// The bytes of `range`, unchecked; `None` if a slot does not give them.
    pub(crate) fn read(&self, range: Range<u64>) -> Option<Vec<u8>> {
        let mut out = vec![0; size(range.end - range.start)];
        let mut rest = out.as_mut_slice();
        for piece in self.shape.pieces(range) {
            let (now, later) = rest.split_at_mut_checked(size(piece.len))?;
            self.read_slot(piece.slot, piece.offset, now).ok()?;
            rest = later;
        }
        Some(out)
    }

    /// The checksums of a slot's chunks.
    fn table(&self, slot: usize) -> Result<&[u64], Bad> {
        let place = self.tables.get(slot).ok_or(Bad::Offline)?;
        if let Some(table) = place.get() {
            return Ok(table);
        }
        let count = size(self.shape.chunks(slot));
        let mut tail = vec![0; count * SUM_BYTES + TRAILER_BYTES];
        self.read_slot(slot, self.shape.slot_len(slot), &mut tail)?;
        let sums: Vec<u64> = tail
            .chunks_exact(SUM_BYTES)
            .take(count)
            .map(|sum| u64::from_le_bytes(sum.try_into().unwrap_or_default()))
            .collect();
        if tail != self.key.tail(self.shape, slot, &sums) {
            return Err(Bad::Table);
        }
        Ok(place.get_or_init(|| sums))
    }

    /// A chunk of a slot, checked.
    fn chunk(&self, slot: usize, chunk: u64) -> Result<Vec<u8>, Bad> {
        let range = self.shape.chunk(slot, chunk);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let sum = size(chunk);
        let want = self.table(slot)?.get(sum).copied().ok_or(Bad::Table)?;
        let mut bytes = vec![0; size(range.end - range.start)];
        self.read_slot(slot, range.start, &mut bytes)?;
        if self.key.chunk_crc(slot, chunk, &bytes) == want { Ok(bytes) } else { Err(Bad::Wrong) }
    }

    /// The data of chunk `chunk` of every slot but `without`, checked or reconstructed, and what was found bad on the way.
    fn recover(&self, chunk: u64, without: Option<usize>) -> Result<Recovered, Error> {
        let k = usize::from(self.shape.code.data);
        let mut shards = vec![None; self.shape.code.total()];
        let mut bad = Vec::new();
        let mut good = 0;
        for (slot, shard) in shards.iter_mut().enumerate().filter(|(slot, _shard)| Some(*slot) != without) {
            if good == k {
                break;
            }
            match self.chunk(slot, chunk) {
                Ok(bytes) => {
                    *shard = Some(bytes);
                    good += 1;
                }
                Err(why) => bad.push((slot, why)),
            }
        }
        if good < k {
            let named: Vec<String> = bad.iter().map(|(slot, why)| format!("{}: {why}", self.place(*slot))).collect();
            let away = bad.iter().any(|(_slot, why)| *why == Bad::Offline);
            let what = format!("too few shards are good: {}", named.join("; "));
            return Err(if away { Error::Drives(what) } else { Error::corrupt(what, self.name()) });
        }
        let longest = self.shape.chunk(0, chunk);
        Ok((code::reconstruct(self.shape.code, &shards, size(longest.end - longest.start))?, bad))
    }

    fn place(&self, slot: usize) -> String {
        let drive = self.set.drive(self.set.drive_of(self.key.id, slot));
        drive.map_or_else(String::new, |drive| self.key.path(&drive.dir).display().to_string())
    }

    fn damage(&self, slot: usize, what: String, repaired: bool) -> Damage {
        let drive = self.set.drive(self.set.drive_of(self.key.id, slot));
        let drive = drive.map_or_else(String::new, Drive::name);
        Damage { drive, file: self.place(slot), what, object: None, id: self.key.id, repaired }
    }

    /// The bytes that slot `slot` has in chunk `chunk`, given those of all data slots.
    fn shard(&self, slot: usize, chunk: u64, data: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let k = usize::from(self.shape.code.data);
        let range = self.shape.chunk(slot, chunk);
        let length = size(range.end - range.start);
        let mut bytes = if slot < k {
            data.get(slot).cloned().unwrap_or_default()
        } else {
            let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            code::encode(self.shape.code, &views)?.into_iter().nth(slot - k).unwrap_or_default()
        };
        bytes.resize(length, 0);
        Ok(bytes)
    }

    /// Writes a chunk that was found bad, and reads it back.
    fn mend(&self, slot: usize, chunk: u64, data: &[Vec<u8>]) -> Result<bool, Error> {
        let index = self.set.drive_of(self.key.id, slot);
        if !self.set.drive(index).is_some_and(Drive::writable) {
            return Ok(false);
        }
        let bytes = self.shard(slot, chunk, data)?;
        let Ok(file) = self.file(slot) else { return Ok(false) };
        if let Err(error) = file.write_at(self.shape.chunk(slot, chunk).start, &bytes) {
            self.set.failed(index, &error);
            return Ok(false);
        }
        if let Err(error) = file.sync_data() {
            self.set.sync_failed(index, &self.key.path(std::path::Path::new("")), &error);
            return Ok(false);
        }
        Ok(self.chunk(slot, chunk).is_ok_and(|found| found == bytes))
    }

    fn mend_all(
        &self,
        chunk: u64,
        data: &[Vec<u8>],
        bad: Vec<(usize, Bad)>,
        found: &mut Vec<Damage>,
    ) -> Result<(), Error> {
        for (slot, why) in bad {
            let damage = match why {
                Bad::Offline => continue,
                Bad::Wrong | Bad::Unreadable(_) => {
                    let repaired = self.mend(slot, chunk, data)?;
                    self.damage(slot, format!("chunk {chunk} of shard {slot}: {why}"), repaired)
                }
                Bad::Missing | Bad::Table => {
                    let file = self.place(slot);
                    if found.iter().any(|damage| damage.file == file) {
                        continue;
                    }
                    let small = self.shape.slot_len(slot) <= REBUILD_BYTES_MAX;
                    let repaired = small && self.rebuild_slot(slot).is_ok();
                    self.damage(slot, format!("shard {slot}: {why}"), repaired)
                }
            };
            found.push(damage);
        }
        Ok(())
    }

    /// The bytes of `range`, each chunk under its checksum; what is bad on the way is mended and added to `found`.
    /// # Errors
    /// If too few shards are good.
    pub(crate) fn careful(&self, range: Range<u64>, found: &mut Vec<Damage>) -> Result<Vec<u8>, Error> {
        let mut out = Vec::with_capacity(size(range.end - range.start));
        for piece in self.shape.pieces(range) {
            let end = piece.offset + piece.len;
            for chunk in piece.offset / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES) {
                let bytes = match self.chunk(piece.slot, chunk) {
                    Ok(bytes) => bytes,
                    Err(_bad) => {
                        let (data, bad) = self.recover(chunk, None)?;
                        self.mend_all(chunk, &data, bad, found)?;
                        data.into_iter().nth(piece.slot).unwrap_or_default()
                    }
                };
                let start = chunk * CHUNK_BYTES;
                let (from, to) = (piece.offset.max(start) - start, end.min(start + CHUNK_BYTES) - start);
                let wanted = bytes.get(size(from)..size(to));
                out.extend_from_slice(wanted.ok_or_else(|| Error::corrupt("a chunk is short", self.name()))?);
            }
        }
        Ok(out)
    }

    /// Reads every chunk of slot `slot`; mends what is bad, or makes the whole file anew.
    /// Returns the bytes that were read.
    pub(crate) fn check_slot(&self, slot: usize, found: &mut Vec<Damage>) -> Result<u64, Error> {
        let index = self.set.drive_of(self.key.id, slot);
        if !self.set.drive(index).is_some_and(Drive::readable) {
            return Ok(0);
        }
        for chunk in 0..self.shape.chunks(slot) {
            let why = match self.chunk(slot, chunk) {
                Ok(_bytes) => continue,
                Err(why) => why,
            };
            let what = format!("chunk {chunk} of shard {slot}: {why}");
            let repaired = match why {
                Bad::Offline => break,
                Bad::Wrong | Bad::Unreadable(_) => match self.recover(chunk, Some(slot)) {
                    Ok((data, bad)) => {
                        let repaired = self.mend(slot, chunk, &data)?;
                        self.mend_all(chunk, &data, bad, found)?;
                        repaired
                    }
                    Err(_too_few) => false,
                },
                Bad::Missing | Bad::Table => {
                    let repaired = self.rebuild_slot(slot).is_ok();
                    found.push(self.damage(slot, format!("shard {slot}: {why}"), repaired));
                    break;
                }
            };
            found.push(self.damage(slot, what, repaired));
        }
        if self.shape.chunks(slot) == 0 && self.table(slot).is_err() {
            let repaired = self.rebuild_slot(slot).is_ok();
            found.push(self.damage(slot, format!("shard {slot}: the file is missing or cut"), repaired));
        }
        Ok(self.shape.slot_len(slot))
    }

    /// Makes the file of slot `slot` from the others, under its name, durable.
    pub(crate) fn rebuild_slot(&self, slot: usize) -> Result<(), Error> {
        let index = self.set.drive_of(self.key.id, slot);
        let drive = self.set.drive(index).filter(|drive| drive.writable());
        let drive = drive.ok_or_else(|| Error::Drives(format!("{} does not take writes", self.place(slot))))?;
        let temporary = self.key.path(&drive.dir).with_extension(super::stripe::TEMP_SUFFIX);
        match drive.disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", temporary.display()), error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut writer = SlotWriter::create(&self.set, self.key, slot)?;
        for chunk in 0..self.shape.chunks(slot) {
            let (data, _bad) = self.recover(chunk, Some(slot))?;
            writer.write(&self.set, &self.shard(slot, chunk, &data)?);
        }
        writer.finish(&self.set, self.shape);
        if !writer.alive() {
            return Err(writer.into_trouble());
        }
        let directory = self.key.directory(&drive.dir);
        drive.disk.sync_dir(&directory).map_err(|error| {
            self.set.sync_failed(index, &directory, &error);
            Error::io(format!("sync {}", directory.display()), error)
        })
    }
}
