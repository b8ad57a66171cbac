//! Reading records, from copies or the coded file; mending, checking and freeing them; writing a closed segment anew.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::record::{encode_map, parse_map, verified};
use super::{CodedRow, CopyFile, Reading, SEGMENT_UNIT, Segments, copy_path};
use crate::Error;
use crate::block::Sealed;
use crate::body::shape::{Shape, size};
use crate::body::stripe::{FileKey, FileKind, StripeWriter, TEMP_SUFFIX, make_directory};
use crate::body::striped::{Bad, Damage, StripedFile};
use crate::disk::DiskFile;
use crate::drive::Drive;
use crate::extent::{ExtentRef, Place};

impl Segments {
    fn reading(&self, id: u64) -> Arc<Reading> {
        if let Some(reading) = self.reading.get(&id) {
            return reading;
        }
        let row = self.row(id).unwrap_or_else(|| self.fresh_row(id));
        let reading = match row.coded {
            None => Reading::Copies(row.copies.iter().map(|drive| (*drive, OnceLock::new())).collect()),
            Some(coded) => {
                let shape = Shape { code: self.set.code(), unit: SEGMENT_UNIT, len: coded.len };
                let key = FileKey { kind: FileKind::Segment(coded.generation), id };
                let file = StripedFile::new(&self.set, key, shape);
                Reading::Coded(file, OnceLock::new())
            }
        };
        let reading = Arc::new(reading);
        self.reading.insert(id, Arc::clone(&reading));
        reading
    }

    /// Lets go of a segment's files, as they changed.
    pub(crate) fn forget(&self, id: u64) {
        self.reading.remove(&id);
    }

    pub(crate) fn forget_all(&self) {
        self.reading.clear();
    }

    pub(crate) fn close(&self) {
        self.reading.clear();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn copy_file<'f>(
        &self,
        id: u64,
        drive: usize,
        place: &'f OnceLock<Box<dyn DiskFile>>,
    ) -> Result<&'f dyn DiskFile, Bad> {
        let found = self.set.drive(drive).filter(|drive| drive.readable()).ok_or(Bad::Offline)?;
        if let Some(file) = place.get() {
            return Ok(file.as_ref());
        }
        match found.disk.open(&copy_path(&found.dir, id)) {
            Ok(file) => Ok(place.get_or_init(|| file).as_ref()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Bad::Missing),
            Err(error) => {
                self.set.failed(drive, &error);
                Err(Bad::Unreadable(error.to_string()))
            }
        }
    }

    fn copy_blocks(
        &self,
        extent: &ExtentRef,
        (segment, offset): (u64, u64),
        wanted: Option<u32>,
        (drive, place): &CopyFile,
    ) -> Result<Vec<Sealed>, Bad> {
        let file = self.copy_file(segment, *drive, place)?;
        let trouble = Mutex::new(Bad::Wrong);
        let blocks = verified(extent, segment, offset, wanted, |range| {
            let mut out = vec![0; size(range.end - range.start)];
            match file.read_at(offset + range.start, &mut out) {
                Ok(()) => Some(out),
                Err(error) => {
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        self.set.failed(*drive, &error);
                        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Bad::Unreadable(error.to_string());
                    }
                    None
                }
            }
        });
        blocks.ok_or_else(|| trouble.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The blocks `wanted` (all, if none) of a record, verified. What is bad on the way is mended and added to `found`.
    pub(crate) fn read(
        &self,
        extent: &ExtentRef,
        place: (u64, u64),
        wanted: Option<u32>,
        found: &mut Vec<Damage>,
    ) -> Result<Vec<Sealed>, Error> {
        let first = self.read_once(extent, place, wanted, found);
        if !found.is_empty() {
            // The handle may hold a file that was made anew.
            self.forget(place.0);
        }
        if first.is_ok() {
            return first;
        }
        // The segment may have been written anew meanwhile.
        self.forget(place.0);
        self.read_once(extent, place, wanted, found)
    }

    fn read_once(
        &self,
        extent: &ExtentRef,
        (segment, offset): (u64, u64),
        wanted: Option<u32>,
        found: &mut Vec<Damage>,
    ) -> Result<Vec<Sealed>, Error> {
        match &*self.reading(segment) {
            Reading::Copies(copies) => {
                let turn = usize::try_from(extent.id % copies.len().max(1) as u64).unwrap_or(0);
                let mut bad = Vec::new();
                for copy in copies.iter().cycle().skip(turn).take(copies.len()) {
                    match self.copy_blocks(extent, (segment, offset), wanted, copy) {
                        Ok(blocks) => {
                            self.mend(extent, (segment, offset), copy, bad, found);
                            return Ok(blocks);
                        }
                        Err(why) => bad.push((copy, why)),
                    }
                }
                let named: Vec<String> =
                    bad.iter().map(|(copy, why)| format!("{}: {why}", self.path(copy.0, segment))).collect();
                let away = bad.iter().any(|(_copy, why)| *why == Bad::Offline);
                let what = format!("no copy at {offset} is good: {}", named.join("; "));
                Err(if away { Error::Drives(what) } else { Error::corrupt(what, format!("segment {segment:016x}")) })
            }
            Reading::Coded(file, map) => {
                let at = self.coded_at((segment, offset), file, map, found)?;
                let read = |range: Range<u64>| file.read(at + range.start..at + range.end);
                if let Some(blocks) = verified(extent, segment, offset, wanted, read) {
                    return Ok(blocks);
                }
                let seen = Mutex::new(Vec::new());
                let blocks = verified(extent, segment, offset, wanted, |range| {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    file.careful(at + range.start..at + range.end, &mut seen).ok()
                });
                found.extend(seen.into_inner().unwrap_or_else(PoisonError::into_inner));
                blocks.ok_or_else(|| Error::corrupt(format!("the record at {offset} cannot be read"), file.name()))
            }
        }
    }

    /// Where a record lies in the coded file.
    fn coded_at(
        &self,
        (segment, offset): (u64, u64),
        file: &StripedFile,
        map: &OnceLock<Vec<(u64, u64)>>,
        found: &mut Vec<Damage>,
    ) -> Result<u64, Error> {
        let map = if let Some(map) = map.get() {
            map
        } else {
            let loaded = self.load_map(segment, file, found)?;
            map.get_or_init(|| loaded)
        };
        let at = map.binary_search_by_key(&offset, |(offset, _at)| *offset).ok().and_then(|at| map.get(at));
        Ok(at.ok_or_else(|| Error::corrupt(format!("no record at {offset}"), file.name()))?.1)
    }

    /// The bytes of a whole record, as they lie, verified.
    fn record(
        &self,
        extent: &ExtentRef,
        (segment, offset): (u64, u64),
        found: &mut Vec<Damage>,
    ) -> Result<Vec<u8>, Error> {
        let whole = |bytes: Option<Vec<u8>>| {
            let bytes = bytes?;
            let part = |range: Range<u64>| Some(bytes.get(size(range.start)..size(range.end))?.to_vec());
            verified(extent, segment, offset, None, part).is_some().then_some(bytes)
        };
        match &*self.reading(segment) {
            Reading::Copies(copies) => {
                for (drive, place) in copies {
                    let read = |file: &dyn DiskFile| {
                        let mut bytes = vec![0; size(extent.stored)];
                        file.read_at(offset, &mut bytes).ok().map(|()| bytes)
                    };
                    let bytes = self.copy_file(segment, *drive, place).ok().and_then(read);
                    if let Some(bytes) = whole(bytes) {
                        return Ok(bytes);
                    }
                }
            }
            Reading::Coded(file, map) => {
                let at = self.coded_at((segment, offset), file, map, found)?;
                if let Some(bytes) = whole(file.read(at..at + extent.stored)) {
                    return Ok(bytes);
                }
                if let Some(bytes) = whole(Some(file.careful(at..at + extent.stored, found)?)) {
                    return Ok(bytes);
                }
            }
        }
        Err(Error::corrupt(format!("the record at {offset} cannot be read"), format!("segment {segment:016x}")))
    }

    /// Writes the records `live` of a closed segment into a coded file, reads them back, and says what the row is to say.
    pub(crate) fn code(&self, id: u64, live: &[ExtentRef], found: &mut Vec<Damage>) -> Result<CodedRow, Error> {
        let before = self.row(id).ok_or_else(|| Error::Meta("a segment without a row".to_owned()))?;
        let generation = before.coded.map_or(1, |coded| coded.generation + 1);
        self.remove_files(id, &[], std::iter::once(generation));
        let key = FileKey { kind: FileKind::Segment(generation), id };
        let mut writer = StripeWriter::create(&self.set, key, SEGMENT_UNIT)?;
        let mut live: Vec<(u64, &ExtentRef)> = live
            .iter()
            .filter_map(|extent| match extent.place {
                Place::Packed { segment, offset } if segment == id => Some((offset, extent)),
                Place::Packed { .. } | Place::Large | Place::Cold { .. } | Place::Remote { .. } => None,
            })
            .collect();
        live.sort_unstable_by_key(|(offset, _extent)| *offset);
        let mut map = Vec::with_capacity(live.len());
        for (offset, extent) in &live {
            map.push((*offset, writer.len()));
            writer.append(&self.record(extent, (id, *offset), found)?)?;
        }
        writer.append(&encode_map(id, generation, &map))?;
        let shape = writer.finish()?;
        for (index, drive) in self.set.drives().iter().enumerate().filter(|(_index, drive)| drive.writable()) {
            let directory = key.directory(&drive.dir);
            if let Err(error) = drive.disk.sync_dir(&directory) {
                self.set.sync_failed(index, &directory, &error);
            }
        }
        self.set.serves()?;
        let file = StripedFile::new(&self.set, key, shape);
        for ((offset, extent), (_offset, at)) in live.iter().zip(&map) {
            let read = |range: Range<u64>| file.read(at + range.start..at + range.end);
            if verified(extent, id, *offset, None, read).is_none()
                && file.careful(*at..at + extent.stored, found).is_err()
            {
                return Err(Error::corrupt(format!("the record at {offset} did not arrive"), file.name()));
            }
        }
        Ok(CodedRow { generation, len: shape.len, records: map.len() as u64 })
    }

    /// Whether readers of freed records of the segment are still about.
    pub(crate) fn freeing(&self, id: u64) -> bool {
        self.freeing.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn load_map(&self, id: u64, file: &StripedFile, found: &mut Vec<Damage>) -> Result<Vec<(u64, u64)>, Error> {
        let coded = self.row(id).and_then(|row| row.coded);
        let coded = coded.ok_or_else(|| Error::corrupt("the segment has no coded file", file.name()))?;
        let start = coded.len.saturating_sub(coded.records * 16 + 8);
        let range = start..coded.len;
        let parsed = file.read(range.clone()).and_then(|bytes| parse_map(id, coded.generation, &bytes));
        if let Some(map) = parsed {
            return Ok(map);
        }
        let bytes = file.careful(range, found)?;
        parse_map(id, coded.generation, &bytes).ok_or_else(|| Error::corrupt("the map of the segment", file.name()))
    }

    fn path(&self, drive: usize, segment: u64) -> String {
        self.set.drive(drive).map_or_else(String::new, |drive| copy_path(&drive.dir, segment).display().to_string())
    }

    /// Writes a good copy's record over those that are not.
    fn mend(
        &self,
        extent: &ExtentRef,
        (segment, offset): (u64, u64),
        good: &CopyFile,
        bad: Vec<(&CopyFile, Bad)>,
        found: &mut Vec<Damage>,
    ) {
        for (target, why) in bad.into_iter().filter(|(_copy, why)| *why != Bad::Offline) {
            let drive = target.0;
            let whole = self.copy_blocks(extent, (segment, offset), None, good).is_ok();
            let writable = self.set.drive(drive).is_some_and(Drive::writable);
            let mended = whole && writable && self.copy_record(extent, (segment, offset), good, target).is_ok();
            let repaired = mended && self.copy_blocks(extent, (segment, offset), None, target).is_ok();
            let name = self.set.drive(drive).map_or_else(String::new, Drive::name);
            let what = format!("record at {offset}: {why}");
            found.push(Damage {
                drive: name,
                file: self.path(drive, segment),
                what,
                object: None,
                id: extent.id,
                repaired,
            });
        }
    }

    fn copy_record(
        &self,
        extent: &ExtentRef,
        (segment, offset): (u64, u64),
        (good, source): &CopyFile,
        (drive, target): &CopyFile,
    ) -> Result<(), Bad> {
        let unreadable = |error: io::Error| Bad::Unreadable(error.to_string());
        let mut record = vec![0; size(extent.stored)];
        self.copy_file(segment, *good, source)?.read_at(offset, &mut record).map_err(unreadable)?;
        let file = match self.copy_file(segment, *drive, target) {
            Err(Bad::Missing) => {
                let found = self.set.drive(*drive).ok_or(Bad::Offline)?;
                make_directory(found, FileKey { kind: FileKind::Segment(0), id: segment }).map_err(unreadable)?;
                let file = found.disk.create(&copy_path(&found.dir, segment)).map_err(unreadable)?;
                found.disk.sync_dir(&found.dir.join("segments")).map_err(unreadable)?;
                target.get_or_init(|| file).as_ref()
            }
            other => other?,
        };
        file.write_at(offset, &record).map_err(unreadable)?;
        file.sync_data().map_err(|error| {
            self.set.sync_failed(*drive, std::path::Path::new(&self.path(*drive, segment)), &error);
            unreadable(error)
        })
    }

    /// Checks a record on every copy (on that of drive `only`, if one is named), and mends those that are bad. Coded segments are checked by file.
    pub(crate) fn check(
        &self,
        extent: &ExtentRef,
        place: (u64, u64),
        only: Option<usize>,
        found: &mut Vec<Damage>,
    ) -> u64 {
        let reading = self.reading(place.0);
        let Reading::Copies(copies) = &*reading else { return 0 };
        if only.is_some_and(|only| copies.iter().all(|(drive, _file)| *drive != only)) {
            return 0;
        }
        let mut good = None;
        let mut bad = Vec::new();
        for copy in copies {
            match self.copy_blocks(extent, place, None, copy) {
                Ok(_blocks) => good = Some(copy),
                Err(why) => bad.push((copy, why)),
            }
        }
        match good {
            Some(good) => self.mend(extent, place, good, bad, found),
            None => {
                for ((drive, _file), why) in bad {
                    let drive = *drive;
                    let name = self.set.drive(drive).map_or_else(String::new, Drive::name);
                    let (file, what) = (self.path(drive, place.0), format!("record at {}: {why}", place.1));
                    found.push(Damage { drive: name, file, what, object: None, id: extent.id, repaired: false });
                }
            }
        }
        extent.stored * copies.len() as u64
    }

    /// The striped file of a coded segment.
    pub(crate) fn coded_file(&self, id: u64) -> Option<StripedFile> {
        let coded = self.row(id)?.coded?;
        let shape = Shape { code: self.set.code(), unit: SEGMENT_UNIT, len: coded.len };
        Some(StripedFile::new(&self.set, FileKey { kind: FileKind::Segment(coded.generation), id }, shape))
    }

    /// A record of `segment` is about to be freed, once its readers let go.
    pub(crate) fn will_free(&self, segment: u64) {
        *self.freeing.lock().unwrap_or_else(PoisonError::into_inner).entry(segment).or_default() += 1;
    }

    /// Gives the space of a record back where the segment lies in copies; removes the files of a segment without a row.
    pub(crate) fn free(&self, extent: &ExtentRef, (segment, offset): (u64, u64)) {
        let last = {
            let mut freeing = self.freeing.lock().unwrap_or_else(PoisonError::into_inner);
            let left = freeing.get(&segment).copied().unwrap_or(0).saturating_sub(1);
            if left == 0 {
                freeing.remove(&segment);
            } else {
                freeing.insert(segment, left);
            }
            left == 0
        };
        {
            let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = current.iter().chain(closed.iter()).find(|open| open.id == segment) {
                open.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|kept| kept.id != extent.id);
            }
        }
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner).get(&segment).cloned();
        if let Some(row) = gone {
            if last {
                self.remove_files(segment, &row.copies, row.coded.iter().map(|coded| coded.generation));
                self.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
            }
            return;
        }
        let copies = self.row(segment).unwrap_or_else(|| self.fresh_row(segment)).copies;
        for drive in copies.iter().filter_map(|drive| self.set.drive(*drive)).filter(|drive| drive.writable()) {
            let opened = drive.disk.open(&copy_path(&drive.dir, segment));
            if let Err(error) = opened.and_then(|file| file.punch(offset, extent.stored)) {
                tracing::debug!(%error, drive = drive.name(), "a record's space is not given back");
            }
        }
    }

    /// Removes files of a segment: its copies on these drives, and its coded files of these generations.
    pub(crate) fn remove_files(&self, id: u64, copies: &[usize], generations: impl Iterator<Item = u32>) {
        self.forget(id);
        let mut paths = Vec::new();
        for drive in copies.iter().filter_map(|drive| self.set.drive(*drive)) {
            paths.push((drive, copy_path(&drive.dir, id)));
        }
        for generation in generations {
            let key = FileKey { kind: FileKind::Segment(generation), id };
            for slot in 0..self.set.code().total() {
                if let Some(drive) = self.set.drive(self.set.drive_of(id, slot)) {
                    let path = key.path(&drive.dir);
                    paths.push((drive, path.with_extension(TEMP_SUFFIX)));
                    paths.push((drive, path));
                }
            }
        }
        for (drive, path) in paths.into_iter().filter(|(drive, _path)| drive.writable()) {
            match drive.disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %path.display(), "cannot remove a segment's file; the next opening will");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}
