//! What keeps bodies whole and the drives free: scrubbing, filling a replaced drive, coding closed segments, compaction.
//!
//! All four walk the rows of objects and parts, page by page, so every finding has its object's name, and only bytes that
//! rows name are read. Invariant: a segment is flipped to a new file only after every record was read back from it, and
//! its old files go after the flip is durable. Cost: a scrub reads every byte of every drive once, no faster than it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

use crate::body::packed::{CodedRow, SegmentRow};
use crate::body::stripe::FileKey;
use crate::body::striped::StripedFile;
use crate::crypto::KeyRing;
use crate::drive::DriveSet;
use crate::extent::{ExtentRef, Place};
use crate::index::codec::decode;
use crate::index::keys::split_version;
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{PartRow, VersionRow};
use crate::mutation::Mutation;
use crate::store::{Inner, off_runtime};
use crate::{Damage, Error, Store};

/// Rows that are looked at per transaction.
const PAGE_ROWS: usize = 256;
/// How often closed and half-dead segments are looked for, and how soon the thread sees that the store was closed.
const RECLAIM_EVERY: Duration = Duration::from_secs(10);
pub(crate) const STEP: Duration = Duration::from_millis(250);

/// Where a scrub goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScrubCursor {
    /// With the first object after this row.
    Object(Vec<u8>),
    /// With the first part after this row.
    Part(Vec<u8>),
    /// With the first coded segment after this one.
    Segment(u64),
}

/// How to scrub.
#[derive(Debug, Clone, Default)]
pub struct ScrubOptions {
    /// The most bytes read per second; none for as fast as the drives are.
    pub bytes_per_second: Option<u64>,
    /// Bytes after which to stop and give a cursor.
    pub bytes_max: Option<u64>,
    /// Where an earlier scrub stopped; none for the beginning.
    pub from: Option<ScrubCursor>,
    /// Whether bodies in other stores are read too, which may cost money there.
    pub remote: bool,
}

/// What a scrub, or the filling of a drive, did.
#[derive(Debug, Clone, Default)]
pub struct ScrubReport {
    /// Bodies that were checked.
    pub bodies: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was found.
    pub damages: Vec<Damage>,
    /// Bodies in other stores that did not answer.
    pub away: u64,
    /// Where to go on; none if all was seen.
    pub cursor: Option<ScrubCursor>,
}

/// What a reclaim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Segments that were coded for the first time.
    pub coded: u64,
    /// Segments that were written anew without their dead records.
    pub compacted: u64,
    /// Bytes of records that were dropped.
    pub bytes: u64,
}

/// A row's bodies.
struct Named {
    key: Vec<u8>,
    name: String,
    extents: Vec<ExtentRef>,
}

struct Scrub<'i> {
    inner: &'i Inner,
    options: ScrubOptions,
    /// Only what lies on this drive of this tier.
    only: Option<(u8, usize)>,
    report: ScrubReport,
    started: Instant,
}

/// The bodies that a row names; none if it cannot be read, which whoever reads it reports.
fn bodies(table: Table, key: &[u8], value: &[u8]) -> Vec<ExtentRef> {
    match table {
        Table::Objects => match decode::<VersionRow>(key, value) {
            Ok((VersionRow::Object(info), _inline)) => info.extents,
            Ok((VersionRow::Marker(_) | VersionRow::NullAt(_), _)) | Err(_) => Vec::new(),
        },
        Table::Parts => decode::<PartRow>(key, value).map(|(row, _inline)| vec![row.extent]).unwrap_or_default(),
    }
}

/// The bodies of the next rows of a table after `after`.
fn page(meta: &Meta, table: Table, after: &[u8]) -> Result<Vec<Named>, Error> {
    let mut named = Vec::new();
    let mut from = after.to_vec();
    from.push(0);
    let from = if after.is_empty() { Vec::new() } else { from };
    Meta::scan(&meta.read()?, table.id(), from, &[0xff; 9], |key, value| {
        let name = match (table, split_version(key)) {
            (Table::Objects, Some((bucket, object, 0))) => format!("{bucket}/{object}"),
            (Table::Objects, Some((bucket, object, sequence))) => format!("{bucket}/{object} version {sequence:016x}"),
            (Table::Objects | Table::Parts, Some(_) | None) => format!("part {}", key.escape_ascii()),
        };
        named.push(Named { key: key.to_vec(), name, extents: bodies(table, key, value) });
        Ok(if named.len() < PAGE_ROWS { Next::Row } else { Next::Stop })
    })?;
    Ok(named)
}

#[derive(Clone, Copy)]
enum Table {
    Objects,
    Parts,
}

impl Table {
    const fn id(self) -> TableId {
        match self {
            Self::Objects => TableId::Objects,
            Self::Parts => TableId::Parts,
        }
    }
}

impl Scrub<'_> {
    /// Whether to stop here; waits as long as the rate says.
    fn pace(&self) -> bool {
        if let Some(rate) = self.options.bytes_per_second.filter(|rate| *rate > 0) {
            let due = Duration::from_millis(self.report.bytes.saturating_mul(1_000) / rate);
            while !self.inner.committer.closed() && due > self.started.elapsed() {
                std::thread::sleep(due.saturating_sub(self.started.elapsed()).min(STEP));
            }
        }
        self.options.bytes_max.is_some_and(|max| self.report.bytes >= max)
    }

    fn take(&mut self, found: Vec<Damage>, object: Option<&str>) {
        let bodies = &self.inner.bodies;
        for mut damage in found {
            damage.object = object.map(str::to_owned);
            self.report.damages.push(damage.clone());
            // Filling a drive finds that all is missing; that is not news.
            if self.only.is_none() || !damage.repaired {
                bodies.report(vec![damage], None);
            }
        }
    }

    fn file(
        &mut self,
        (set, tier): (&DriveSet, u8),
        file: &StripedFile,
        id: u64,
        found: &mut Vec<Damage>,
    ) -> Result<(), Error> {
        for slot in 0..set.code().total() {
            if self.only.is_none_or(|only| (tier, set.drive_of(id, slot)) == only) {
                self.report.bytes += file.check_slot(slot, found)?;
            }
        }
        Ok(())
    }

    fn body(&mut self, extent: &ExtentRef, found: &mut Vec<Damage>) -> Result<(), Error> {
        let bodies = &self.inner.bodies;
        let tier = extent.place.tier();
        if self.only.is_some_and(|(only, _drive)| only != tier) {
            return Ok(());
        }
        let only = self.only.map(|(_tier, drive)| drive);
        match extent.place {
            Place::Packed { segment, offset } => {
                self.report.bodies += 1;
                self.report.bytes += bodies.segments().check(extent, (segment, offset), only, found);
            }
            Place::Remote { tier } if self.options.remote => self.far(extent, tier, found)?,
            // The other store checks and mends what it holds; each read from it is checked here.
            Place::Remote { .. } => {}
            Place::Large | Place::Cold { .. } => {
                let Some(set) = bodies.set_of(extent.place).map(Arc::clone) else { return Ok(()) };
                self.report.bodies += 1;
                let file = StripedFile::new(&set, FileKey::extent(extent.id), extent.shape(&set));
                self.file((&set, tier), &file, extent.id, found)?;
                if !found.is_empty() {
                    bodies.forget(extent.id);
                }
            }
        }
        Ok(())
    }

    /// Reads a body of another store.
    fn far(&mut self, extent: &ExtentRef, tier: u8, found: &mut Vec<Damage>) -> Result<(), Error> {
        self.report.bodies += 1;
        let remote = self.inner.bodies.tiers().remote(tier)?;
        for block in 0..u32::try_from(extent.blocks()).unwrap_or(u32::MAX) {
            match remote.block(extent, block) {
                Ok(sealed) => self.report.bytes += sealed.stored.len() as u64,
                Err(Error::Away(_)) => {
                    self.report.away += 1;
                    return Ok(());
                }
                Err(error) => {
                    found.push(Damage {
                        drive: format!("tier {}", remote.name()),
                        file: format!("body {:016x}, block {block}", extent.id),
                        what: error.to_string(),
                        object: None,
                        id: extent.id,
                        repaired: false,
                    });
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn table(&mut self, table: Table, after: Vec<u8>, cursor: fn(Vec<u8>) -> ScrubCursor) -> Result<bool, Error> {
        let mut after = after;
        loop {
            let rows = page(&self.inner.meta, table, &after)?;
            let Some(last) = rows.last() else { return Ok(true) };
            after.clone_from(&last.key);
            for named in rows {
                let working = self.inner.work()?;
                let pins = self.inner.reaper.pin(named.extents.iter().map(|extent| extent.id).collect());
                // What was deleted between reading the row and pinning is no damage.
                let still = page_row(&self.inner.meta, table, &named.key)?;
                for extent in named.extents.iter().filter(|extent| still.contains(extent)) {
                    let mut found = Vec::new();
                    self.body(extent, &mut found)?;
                    self.take(found, Some(&named.name));
                }
                drop(pins);
                drop(working);
                if self.pace() {
                    self.report.cursor = Some(cursor(named.key));
                    return Ok(false);
                }
            }
        }
    }

    fn segments(&mut self, after: Option<u64>) -> Result<(), Error> {
        if self.only.is_some_and(|(tier, _drive)| tier > 0) {
            return Ok(());
        }
        let set = Arc::clone(self.inner.bodies.set());
        let segments = self.inner.bodies.segments();
        for (id, _row) in
            segments.rows().into_iter().filter(|(id, row)| row.coded.is_some() && after.is_none_or(|after| *id > after))
        {
            let working = self.inner.work()?;
            let Some(file) = segments.coded_file(id) else { continue };
            let mut found = Vec::new();
            self.file((&set, 0), &file, id, &mut found)?;
            if !found.is_empty() {
                segments.forget(id);
                let objects = self.objects_in(id)?;
                self.take(found, Some(&objects));
            }
            drop(working);
            if self.pace() {
                self.report.cursor = Some(ScrubCursor::Segment(id));
                return Ok(());
            }
        }
        Ok(())
    }

    /// The names of the objects in a segment, the first few.
    fn objects_in(&self, id: u64) -> Result<String, Error> {
        let mut names = Vec::new();
        each_row(&self.inner.meta, |name, extents| {
            let inside =
                extents.iter().any(|extent| matches!(extent.place, Place::Packed { segment, .. } if segment == id));
            if inside {
                names.push(name.to_owned());
            }
        })?;
        let more = names.len().saturating_sub(8);
        names.truncate(8);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        Ok(format!("{}{rest}", names.join(", ")))
    }

    fn run(mut self) -> Result<ScrubReport, Error> {
        let (objects, parts, segment) = match self.options.from.take() {
            None => (Some(Vec::new()), Some(Vec::new()), None),
            Some(ScrubCursor::Object(key)) => (Some(key), Some(Vec::new()), None),
            Some(ScrubCursor::Part(key)) => (None, Some(key), None),
            Some(ScrubCursor::Segment(id)) => (None, None, Some(id)),
        };
        if let Some(after) = objects
            && !self.table(Table::Objects, after, ScrubCursor::Object)?
        {
            return Ok(self.report);
        }
        if let Some(after) = parts
            && !self.table(Table::Parts, after, ScrubCursor::Part)?
        {
            return Ok(self.report);
        }
        self.segments(segment)?;
        Ok(self.report)
    }
}

fn page_row(meta: &Meta, table: Table, key: &[u8]) -> Result<Vec<ExtentRef>, Error> {
    let row = Meta::get(&meta.read()?, table.id(), key)?;
    Ok(row.map(|value| bodies(table, key, &value)).unwrap_or_default())
}

/// Tells `take` of every row's bodies, objects and parts in one snapshot each.
fn each_row(meta: &Meta, mut take: impl FnMut(&str, &[ExtentRef])) -> Result<(), Error> {
    for table in [Table::Parts, Table::Objects] {
        let mut after = Vec::new();
        loop {
            let rows = page(meta, table, &after)?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.key);
            for named in &rows {
                take(&named.name, &named.extents);
            }
        }
    }
    Ok(())
}

impl Inner {
    pub(crate) fn scrub(&self, options: ScrubOptions, only: Option<(u8, usize)>) -> Result<ScrubReport, Error> {
        Scrub { inner: self, options, only, report: ScrubReport::default(), started: Instant::now() }.run()
    }

    /// The closed segments that are to be written anew, and whether for the first time.
    fn candidates(&self) -> BTreeMap<u64, SegmentRow> {
        let segments = self.bodies.segments();
        let wide = self.bodies.set().code().data > 1;
        segments
            .rows()
            .into_iter()
            .filter(|(id, row)| match row.coded {
                None => (wide || row.live == 0) && !segments.busy(*id) && !segments.freeing(*id),
                Some(coded) => row.live < coded.len / 2 && !segments.freeing(*id),
            })
            .collect()
    }

    /// Keeps segments where they are, and the store from being closed.
    pub(crate) fn work(&self) -> Result<RwLockReadGuard<'_, ()>, Error> {
        let working = self.working.read().unwrap_or_else(PoisonError::into_inner);
        if self.committer.closed() { Err(Error::Closed) } else { Ok(working) }
    }

    fn reclaim(&self) -> Result<Reclaimed, Error> {
        let _alone = self.working.write().unwrap_or_else(PoisonError::into_inner);
        if self.committer.closed() {
            return Err(Error::Closed);
        }
        let segments = self.bodies.segments();
        let mut lists: BTreeMap<u64, Vec<ExtentRef>> =
            segments.take_closed().into_iter().map(|open| (open.id, open.kept())).collect();
        let candidates = self.candidates();
        lists.retain(|id, _list| candidates.contains_key(id));
        if candidates.iter().any(|(id, row)| row.live > 0 && !lists.contains_key(id)) {
            let mut seen: BTreeMap<u64, Vec<ExtentRef>> = BTreeMap::new();
            // Parts before objects: a part that becomes an object meanwhile is seen twice, never missed.
            each_row(&self.meta, |_name, extents| {
                for extent in extents {
                    if let Place::Packed { segment, .. } = extent.place
                        && candidates.contains_key(&segment)
                        && !lists.contains_key(&segment)
                    {
                        seen.entry(segment).or_default().push(*extent);
                    }
                }
            })?;
            lists.extend(seen);
        }
        let mut done = Reclaimed::default();
        let mut trouble = None;
        for (id, before) in candidates {
            let mut live = lists.remove(&id).unwrap_or_default();
            live.sort_unstable_by_key(|extent| extent.id);
            live.dedup_by_key(|extent| extent.id);
            match self.rewrite(id, &before, &live) {
                Ok(coded) => match before.coded {
                    None => done.coded += 1,
                    Some(old) => {
                        done.compacted += 1;
                        done.bytes += old.len.saturating_sub(coded.len);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, segment = id, "a segment stays as it is");
                    trouble = Some(error);
                }
            }
        }
        trouble.map_or(Ok(done), Err)
    }

    /// Writes a segment anew, flips its row, and removes its old files.
    fn rewrite(&self, id: u64, before: &SegmentRow, live: &[ExtentRef]) -> Result<CodedRow, Error> {
        let segments = self.bodies.segments();
        let old = before.coded.iter().map(|coded| coded.generation);
        if before.live == 0 {
            // The committer removes the row of a segment in which nothing lives.
            let coded = CodedRow { generation: 0, len: 0, records: 0 };
            self.committer.submit_blocking(Mutation::Segment { id, coded }, None)?;
            segments.remove_files(id, &before.copies, old);
            return Ok(coded);
        }
        let mut found = Vec::new();
        let coded = segments.code(id, live, &mut found);
        self.bodies.report(found, None);
        let coded = coded?;
        self.committer.submit_blocking(Mutation::Segment { id, coded }, None)?;
        segments.remove_files(id, &before.copies, old);
        Ok(coded)
    }
}

/// Starts the thread that codes and compacts segments for as long as the store is open.
pub(crate) fn start(inner: &Arc<Inner>) -> Result<(), Error> {
    if inner.bodies.set().code().data == 1 {
        return Ok(());
    }
    let store = Arc::downgrade(inner);
    let work = move || {
        let mut waited = Duration::ZERO;
        loop {
            std::thread::sleep(STEP);
            waited += STEP;
            let Some(inner) = store.upgrade() else { return };
            if inner.committer.closed() {
                return;
            }
            if waited >= RECLAIM_EVERY {
                waited = Duration::ZERO;
                match inner.reclaim() {
                    Ok(done) if done != Reclaimed::default() => tracing::info!(?done, "segments were written anew"),
                    Ok(_nothing) => {}
                    Err(error) => tracing::warn!(%error, "segments are left as they are"),
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("store-upkeep".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| Error::io("start the upkeep", error))
}

impl Store {
    /// Reads what the drives hold, checks it, and mends what can be mended. Meant for the background: it may be told how
    /// fast to read and when to stop, and goes on from where it stopped.
    /// # Errors
    /// If rows cannot be read, or the store is closed; damage is no error.
    pub async fn scrub(&self, options: ScrubOptions) -> Result<ScrubReport, Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || inner.scrub(options, None)).await
    }

    /// Takes the empty (or stale) drive at place `index` into service and fills it from the others, while all is served.
    /// # Errors
    /// [`Error::Drives`] if the drive cannot be taken in, or something could not be rebuilt on it; it may be called again.
    pub async fn replace_drive(&self, index: usize) -> Result<ScrubReport, Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || {
            let (tier, set, index) = inner.bodies.tiers().drive(inner.bodies.set(), index)?;
            let drive = set.drive(index).ok_or_else(|| Error::Drives(format!("there is no drive {index}")))?;
            if drive.state() != crate::DriveState::Rebuilding {
                if tier == 0 {
                    inner.meta.renew(&drive.dir, || set.admit(index))?;
                    KeyRing::open(inner.meta.places())?;
                } else {
                    set.admit(index)?;
                }
            }
            // Handles may hold the files of the drive that is gone.
            inner.bodies.close_files();
            let report = inner.scrub(ScrubOptions::default(), Some((tier, index)))?;
            let name = set.drive(index).map_or_else(String::new, crate::drive::Drive::name);
            let left = report.damages.iter().filter(|damage| !damage.repaired && damage.drive == name).count();
            if left > 0 {
                return Err(Error::Drives(format!("{left} bodies could not be rebuilt on drive {name}")));
            }
            set.filled(index);
            Ok(report)
        })
        .await
    }

    /// Codes closed segments `k + m` and writes those anew that are more than half dead.
    /// # Errors
    /// If a segment cannot be written; what it was stays.
    pub async fn reclaim(&self) -> Result<Reclaimed, Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || inner.reclaim()).await
    }
}

#[cfg(test)]
mod tests;
