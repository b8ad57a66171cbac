//! The write-ahead log: what the database has not yet made durable by itself.
//!
//! One file at a time, `wal-NUMBER`, alike on every drive. It starts with `"DHWAL001" | number u64 | base sequence u64 |
//! crc u64`; then come records `"DHWR" | length u32 | sequence u64 | crc u64 | payload`, each padded to 8 bytes. A record's
//! crc covers file number, offset and payload, so that nothing left over from elsewhere passes for a record. The payload
//! is the rows of one batch: `table << 1 | removed, key, value` each with its length.
//!
//! Invariants: a record is appended only when the one before it is durable, so behind a torn record there is none; where
//! there is one, the torn one was acknowledged and is damage. A file is removed only when the database holds its records.
//! Cost: one write and one `fdatasync` per batch and drive, at the same time on all drives.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;

use std::io;
use std::path::{Path, PathBuf};

use super::codec::{Reader, bytes, number};
use super::place::{Place, is_full, on_each};
use super::tables::TableId;
use crate::Error;
use crate::block::bound_crc;
use crate::body::stripe::on_all as at_once;
use crate::disk::DiskFile;

const FILE_MAGIC: &[u8; 8] = b"DHWAL001";
const RECORD_MAGIC: &[u8; 4] = b"DHWR";
const FILE_HEAD: u64 = 32;
const RECORD_HEAD: usize = 24;
const RECORD_HEAD_BYTES: u64 = 24;

/// The rows of a batch, as they go into the log.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    payload: Vec<u8>,
}

impl Batch {
    pub(crate) fn put(&mut self, table: TableId, key: &[u8], value: &[u8]) {
        number(&mut self.payload, (table as u64) << 1);
        bytes(&mut self.payload, key);
        bytes(&mut self.payload, value);
    }

    pub(crate) fn remove(&mut self, table: TableId, key: &[u8]) {
        number(&mut self.payload, (table as u64) << 1 | 1);
        bytes(&mut self.payload, key);
    }

    /// Its bytes.
    pub(crate) const fn len(&self) -> usize {
        self.payload.len()
    }

    /// Forgets all rows behind the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.payload.truncate(len);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Takes the rows of `later` too.
    pub(crate) fn append(&mut self, later: &Self) {
        self.payload.extend_from_slice(&later.payload);
    }

    pub(crate) fn clear(&mut self) {
        self.payload = Vec::new();
    }
}

/// A row of a record: `None` for one that was removed.
pub(crate) type Change<'r> = (TableId, &'r [u8], Option<&'r [u8]>);

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) sequence: u64,
    payload: Vec<u8>,
}

impl Record {
    /// A batch that is in no log.
    pub(crate) fn new(sequence: u64, batch: &Batch) -> Self {
        Self { sequence, payload: batch.payload.clone() }
    }

    /// Its rows in order; `None` in place of one that cannot be read.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Option<Change<'_>>> {
        let mut reader = Reader::new(&self.payload);
        std::iter::from_fn(move || {
            if reader.rest().is_empty() {
                return None;
            }
            let change = change(&mut reader);
            if change.is_none() {
                reader = Reader::new(&[]);
            }
            Some(change)
        })
    }
}

fn change<'r>(reader: &mut Reader<'r>) -> Option<Change<'r>> {
    let word = reader.number()?;
    let table = *TableId::ALL.get(usize::try_from(word >> 1).ok()?)?;
    let key = reader.bytes()?;
    let value = if word & 1 == 0 { Some(reader.bytes()?) } else { None };
    Some((table, key, value))
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("wal-{number:016x}"))
}

fn number_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_prefix("wal-")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}

/// Whether a path is that of a log.
pub(super) fn is_log(path: &Path) -> bool {
    number_of(path).is_some()
}

fn record_crc(number: u64, offset: u64, head: &[u8], payload: &[u8]) -> u64 {
    let place = [number.to_le_bytes(), offset.to_le_bytes()].concat();
    bound_crc(&[place.as_slice(), head].concat(), payload)
}

fn seal(number: u64, offset: u64, sequence: u64, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let length = u32::try_from(payload.len()).map_err(|_large| Error::TooLarge(u64::from(u32::MAX)))?;
    let mut record = Vec::with_capacity(RECORD_HEAD + payload.len() + 8);
    record.extend_from_slice(RECORD_MAGIC);
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&sequence.to_le_bytes());
    let crc = record_crc(number, offset, &record, payload);
    record.extend_from_slice(&crc.to_le_bytes());
    record.extend_from_slice(payload);
    record.resize(record.len().next_multiple_of(8), 0);
    Ok(record)
}

/// One drive's file.
#[derive(Debug)]
struct Copy {
    file: Box<dyn DiskFile>,
    name: String,
    place: Place,
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Wal {
    places: Vec<Place>,
    copies: Vec<Copy>,
    number: u64,
    /// The highest number that was tried.
    tried: u64,
    offset: u64,
}

/// What the logs of a start held.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The highest file number.
    pub(crate) number: u64,
    /// The records in order, of all files.
    pub(crate) records: Vec<Record>,
    /// The sequence that the database must have reached at least.
    pub(crate) base: u64,
}

impl Wal {
    /// Starts the file `number`, whose records follow `base`.
    pub(crate) fn create(places: &[Place], number: u64, base: u64) -> Result<Self, Error> {
        let mut head = Vec::with_capacity(32);
        head.extend_from_slice(FILE_MAGIC);
        head.extend_from_slice(&number.to_le_bytes());
        head.extend_from_slice(&base.to_le_bytes());
        let crc = bound_crc(b"wal", &head);
        head.extend_from_slice(&crc.to_le_bytes());
        let copies = on_each(places, |place| {
            let path = path(&place.dir, number);
            let failed = |error| Error::io(format!("start {}", path.display()), error);
            let file = place.disk.create(&path).map_err(failed)?;
            file.write_at(0, &head).and_then(|()| file.sync_data()).map_err(failed)?;
            place.disk.sync_dir(&place.dir).map_err(failed)?;
            Ok(Copy { file, name: path.display().to_string(), place: place.clone() })
        })?;
        Ok(Self { places: places.to_vec(), copies, number, tried: number, offset: FILE_HEAD })
    }

    /// Bytes of records.
    pub(crate) const fn bytes(&self) -> u64 {
        self.offset - FILE_HEAD
    }

    /// Appends a record and makes it durable. A copy that fails is given up while another is left.
    /// # Errors
    /// The failure, and whether it leaves in the dark what the disk holds.
    pub(crate) fn append(&mut self, sequence: u64, batch: &Batch) -> Result<(), (Error, Doubt)> {
        let record = seal(self.number, self.offset, sequence, &batch.payload).map_err(|error| (error, Doubt::None))?;
        let written = self.on_all("write", |file, offset| file.write_at(offset, &record));
        written.map_err(|error| (error, Doubt::None))?;
        self.on_all("sync", |file, _offset| file.sync_data()).map_err(|error| (error, Doubt::Sync))?;
        self.offset += record.len() as u64;
        Ok(())
    }

    fn on_all(&mut self, what: &str, work: impl Fn(&dyn DiskFile, u64) -> io::Result<()> + Sync) -> Result<(), Error> {
        self.copies.retain(|copy| copy.place.usable());
        let offset = self.offset;
        let results = at_once(&mut self.copies, |copy| work(copy.file.as_ref(), offset));
        let good = results.iter().filter(|result| result.is_ok()).count();
        let failed = |copy: &Copy, error| Error::io(format!("{what} {}", copy.name), error);
        let mut lost = Vec::new();
        for (copy, result) in self.copies.iter().zip(results) {
            match result {
                Ok(()) => {}
                // What happens to all is no one's fault: they go on alike.
                Err(error) if good == 0 || is_full(&error) => return Err(failed(copy, error)),
                Err(error) => lost.push((copy, error)),
            }
        }
        for (copy, error) in lost {
            let error = failed(copy, error);
            tracing::error!(%error, "a copy of the log is given up");
            copy.place.give_up(&error.to_string());
        }
        self.copies.retain(|copy| copy.place.usable());
        if self.copies.is_empty() { Err(Error::Meta("no copy of the log is left".to_owned())) } else { Ok(()) }
    }

    /// Starts the next file and removes those before it; the database holds all up to `base`.
    pub(crate) fn rotate(&mut self, base: u64) -> Result<(), Error> {
        self.tried += 1;
        *self = Self::create(&self.places, self.tried, base)?;
        self.remove_older()
    }

    /// Removes the files before this one.
    pub(crate) fn remove_older(&self) -> Result<(), Error> {
        let removed = on_each(&self.places, |place| {
            let failed = |error| Error::io(format!("remove old logs in {}", place.dir.display()), error);
            for old in place.disk.list(&place.dir).map_err(failed)? {
                if number_of(&old).is_some_and(|number| number < self.number) {
                    place.disk.remove(&old).map_err(failed)?;
                }
            }
            Ok(())
        });
        removed.map(drop)
    }
}

/// What a failed append leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing: the next record goes to the same place.
    None,
    /// Whether the disk holds what was written.
    Sync,
}

/// One drive's file as it was found.
struct Old {
    bytes: Vec<u8>,
}

impl Old {
    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    fn base(&self, number: u64) -> Option<u64> {
        let head = self.get(0, 32)?;
        let (body, crc) = head.split_last_chunk::<8>()?;
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (have, base) = rest.split_first_chunk::<8>()?;
        let whole = magic == FILE_MAGIC && bound_crc(b"wal", body) == u64::from_le_bytes(*crc);
        let base = u64::from_le_bytes(base.try_into().ok()?);
        (whole && u64::from_le_bytes(*have) == number).then_some(base)
    }

    /// The record at `offset`, and where the next one starts.
    fn record(&self, number: u64, offset: u64) -> Option<(Record, u64)> {
        let head = self.get(offset, RECORD_HEAD)?;
        let (fields, crc) = head.split_last_chunk::<8>()?;
        let (magic, rest) = fields.split_first_chunk::<4>()?;
        if magic != RECORD_MAGIC {
            return None;
        }
        let (length, sequence) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let payload = self.get(offset + RECORD_HEAD_BYTES, length)?;
        if record_crc(number, offset, fields, payload) != u64::from_le_bytes(*crc) {
            return None;
        }
        let sequence = u64::from_le_bytes(sequence.try_into().ok()?);
        let next = (offset + RECORD_HEAD_BYTES + length as u64).next_multiple_of(8);
        Some((Record { sequence, payload: payload.to_vec() }, next))
    }

    /// Whether a whole record stands anywhere behind `offset`.
    fn goes_on(&self, number: u64, offset: u64) -> bool {
        (offset..self.bytes.len() as u64).step_by(8).any(|offset| self.record(number, offset).is_some())
    }
}

/// Reads the logs of all places.
/// # Errors
/// [`Error::Corrupt`] if a record that was acknowledged is damaged on every drive.
pub(crate) fn read(places: &[Place]) -> Result<Found, Error> {
    let logs = on_each(places, |place| {
        let failed = |error| Error::io(format!("read the logs in {}", place.dir.display()), error);
        let mut logs = Vec::new();
        for path in place.disk.list(&place.dir).map_err(failed)? {
            let Some(number) = number_of(&path) else { continue };
            let file = place.disk.open(&path).map_err(failed)?;
            let length = file.len().map_err(failed)?;
            let mut bytes = vec![0; usize::try_from(length).map_err(|_large| Error::TooLarge(length))?];
            file.read_at(0, &mut bytes).map_err(failed)?;
            logs.push((number, Old { bytes }));
        }
        Ok(logs)
    })?;
    let mut files: std::collections::BTreeMap<u64, Vec<Old>> = std::collections::BTreeMap::new();
    for (number, old) in logs.into_iter().flatten() {
        files.entry(number).or_default().push(old);
    }
    let mut found = Found::default();
    for (number, copies) in files {
        found.number = number;
        found.base = found.base.max(copies.iter().find_map(|copy| copy.base(number)).unwrap_or(0));
        let mut offset = FILE_HEAD;
        while let Some((record, next)) = copies.iter().find_map(|copy| copy.record(number, offset)) {
            found.records.push(record);
            offset = next;
        }
        if copies.iter().any(|copy| copy.goes_on(number, offset)) {
            return Err(Error::corrupt(format!("the record at byte {offset}"), format!("wal-{number:016x}")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, SimDisk};
    use std::sync::Arc;

    fn places(disks: &[SimDisk]) -> Vec<Place> {
        let place = |disk: &SimDisk| {
            disk.create_dir(Path::new("/log")).unwrap();
            Place { disk: Arc::new(disk.clone()), dir: PathBuf::from("/log"), member: None }
        };
        disks.iter().map(place).collect()
    }

    fn batch(text: &str) -> Batch {
        let mut batch = Batch::default();
        batch.put(TableId::Objects, text.as_bytes(), b"value");
        batch.remove(TableId::Usage, text.as_bytes());
        batch
    }

    fn three(disks: &[SimDisk]) -> u64 {
        let mut wal = Wal::create(&places(disks), 1, 0).unwrap();
        for sequence in 1..=3_u64 {
            wal.append(sequence, &batch(&format!("row {sequence}"))).unwrap();
        }
        wal.offset
    }

    #[test]
    fn records_read_back_in_order() {
        let disks = [SimDisk::new(1 << 20)];
        three(&disks);
        let found = read(&places(&disks)).unwrap();
        let sequences: Vec<_> = found.records.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
        let rows: Vec<_> = found.records[1].changes().collect();
        assert_eq!(rows[0], Some((TableId::Objects, b"row 2".as_slice(), Some(b"value".as_slice()))));
        assert_eq!(rows[1], Some((TableId::Usage, b"row 2".as_slice(), None)));
    }

    #[test]
    fn a_torn_tail_is_left_out_and_damage_before_it_is_told() {
        let disk = SimDisk::new(1 << 20);
        let end = three(std::slice::from_ref(&disk));
        let file = path(Path::new("/log"), 1);
        for byte in 32..usize::try_from(end).unwrap() {
            let image = disk.after_kill();
            assert!(image.flip(&file, byte, 2));
            match read(&places(&[image])) {
                Ok(found) => assert!(found.records.len() >= 2, "byte {byte}"),
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
        let first = disk.after_kill();
        first.flip(&file, 40, 0);
        assert!(read(&places(std::slice::from_ref(&first))).is_err());
        let found = read(&places(&[first, disk])).unwrap();
        assert_eq!(found.records.len(), 3, "the other drive has the record");
    }
}
