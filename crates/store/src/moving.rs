//! Moves bodies between tiers: copy, verify, flip the row, free.
//!
//! What belongs where says [`dh_policy::tiering`]; a thread walks the rows and makes it so, one body after another. New bodies
//! always come to the store's own drives, so no PUT waits for a slow tier. Blocks move as they lie, so no key is needed;
//! those of objects that are not encrypted are compressed anew where the tier says how.
//!
//! Invariant: a row names the new body only after all of it was durable there and checked, and in the same transaction no
//! longer the old one; an object that changed meanwhile keeps its row, and the copy is freed. A body in another store is
//! named in the table of the doomed before its first byte is sent and until a row names it, and from the moment on that no
//! row does: whatever happens in between, it is removed in the end. Cost: a walk over all rows each minute or less often, at
//! most a twentieth of one core; a move holds 16 MiB.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dh_policy::tiering::{self, Candidate, Marks, READ_MILLI, Rules, Subject};

use crate::block::{self, Address, Sealed};
use crate::body::stripe::FileKey;
use crate::config::Compression;
use crate::extent::{ExtentRef, ExtentWriter, Place};
use crate::heat::{Heats, NOTED_EVERY};
use crate::index::codec::decode;
use crate::index::keys::{object_key, past_object, split_version};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{ObjectInfo, VersionRow};
use crate::index::tables::placed_key;
use crate::mutation::{Mutation, Path};
use crate::pace::Pace;
use crate::reaper::ExtentGuard;
use crate::remote::CHUNK_BLOCKS;
use crate::store::{Inner, now_ms, off_runtime};
use crate::version::VersionId;
use crate::{Error, Store};

/// Rows that are looked at per transaction.
const PAGE_ROWS: usize = 256;
/// How soon the thread sees that the store was closed, or that something is to be moved at once.
const STEP: Duration = Duration::from_millis(250);
/// Objects that may make room in one pass.
const RELIEF_MAX: usize = 4_096;
/// Objects that wait to be looked at before the next pass; those beyond are seen by it.
const NOTICED_MAX: usize = 4_096;
/// How long another store is left alone after it did not answer.
const AWAY: Duration = Duration::from_secs(5);
/// How long after opening the first pass is at most.
const FIRST: Duration = Duration::from_secs(10);

/// What the mover did since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Bodies that moved.
    pub bodies: u64,
    /// Their bytes as clients see them.
    pub bytes: u64,
    /// Moves that broke off; each is tried again.
    pub failed: u64,
}

/// The mover's state.
pub(crate) struct Mover {
    pub(crate) heats: Heats,
    noticed: Mutex<VecDeque<Path>>,
    /// Bodies that are being written to another store.
    sending: Mutex<BTreeSet<u64>>,
    bodies: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    under_way: AtomicU64,
    pace: Pace,
}

impl Mover {
    pub(crate) fn new(half_life_ms: u64) -> Self {
        Self {
            heats: Heats::new(half_life_ms, now_ms()),
            noticed: Mutex::default(),
            sending: Mutex::default(),
            bodies: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            pace: Pace::default(),
        }
    }

    pub(crate) fn moved(&self) -> Moved {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Moved { bodies: of(&self.bodies), bytes: of(&self.bytes), failed: of(&self.failed) }
    }

    /// Moves under way.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }
}

/// A version and where its row is.
struct Seen {
    path: Path,
    info: ObjectInfo,
}

fn seen(key: &[u8], value: &[u8]) -> Option<Seen> {
    let (bucket, name, _sequence) = split_version(key)?;
    match decode::<VersionRow>(key, value) {
        Ok((VersionRow::Object(info), _inline)) if !info.extents.is_empty() => {
            Some(Seen { path: Path::new(bucket, name), info })
        }
        // Whoever reads a damaged row reports it.
        Ok((VersionRow::Object(_) | VersionRow::Marker(_) | VersionRow::NullAt(_), _)) | Err(_) => None,
    }
}

impl Inner {
    fn rules(&self) -> Rules {
        let tiering = self.config.tiering;
        Rules {
            after_ms: self.bodies.tiers().all().iter().map(|tier| tier.after_ms).collect(),
            promote_milli: u64::from(tiering.promote_at) * READ_MILLI,
            bytes_min: tiering.bytes_min,
        }
    }

    /// The place of a tier in the order from the store's own drives to the coldest.
    fn rank(&self, number: u8) -> usize {
        let place = self.bodies.tiers().all().iter().position(|tier| tier.number == number);
        place.map_or(0, |place| place + 1)
    }

    fn number(&self, rank: usize) -> u8 {
        let tier = rank.checked_sub(1).and_then(|index| self.bodies.tiers().all().get(index));
        tier.map_or(0, |tier| tier.number)
    }

    fn class(&self, info: &ObjectInfo) -> Option<usize> {
        let class = info.meta.storage_class.as_deref()?;
        let place = self.bodies.tiers().all().iter().position(|tier| tier.class == class);
        place.map(|place| place + 1)
    }

    fn subject(&self, seen: &Seen, now_ms: u64) -> (Subject, u64) {
        let (heat_milli, read_ms) = self.mover.heats.of(&seen.path.bucket, &seen.path.key, now_ms);
        let touched_ms = read_ms.max(seen.info.modified_ms);
        let subject = Subject {
            tier: self.rank(seen.info.tier()),
            class: self.class(&seen.info),
            bytes: seen.info.size,
            idle_ms: now_ms.saturating_sub(touched_ms),
            heat_milli,
        };
        (subject, touched_ms)
    }

    /// The object may belong elsewhere; it is looked at soon.
    pub(crate) fn notice(&self, bucket: &str, key: &str) {
        let mut noticed = self.mover.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.len() < NOTICED_MAX {
            noticed.push_back(Path::new(bucket, key));
        }
    }

    /// An object was written or its class changed.
    pub(crate) fn classed(&self, path: (&str, &str), info: &ObjectInfo) {
        if !self.bodies.tiers().is_empty()
            && !info.extents.is_empty()
            && self.class(info).is_some_and(|class| class != self.rank(info.tier()))
        {
            self.notice(path.0, path.1);
        }
    }

    /// An object was opened for reading.
    pub(crate) fn was_read(&self, path: &Path, info: &ObjectInfo) {
        if self.bodies.tiers().is_empty() || info.extents.is_empty() {
            return;
        }
        let heat = self.mover.heats.read(&path.bucket, &path.key, now_ms());
        let hot = heat.milli >= u64::from(self.config.tiering.promote_at) * READ_MILLI;
        if info.tier() > 0 && hot && self.class(info).is_none() {
            self.notice(&path.bucket, &path.key);
        }
    }

    /// Moves all bodies of a version to the tier `to`, those that are there already stay. Says whether any moved.
    fn move_object(&self, seen: &Seen, to: u8) -> Result<bool, Error> {
        let mut any = false;
        for extent in seen.info.extents.iter().filter(|extent| extent.place.tier() != to) {
            if self.committer.closed() {
                return Err(Error::Closed);
            }
            self.mover.under_way.fetch_add(1, Ordering::Relaxed);
            let result = self.move_body(seen, extent, to);
            self.mover.under_way.fetch_sub(1, Ordering::Relaxed);
            match result {
                Ok(()) => {
                    any = true;
                    self.mover.bodies.fetch_add(1, Ordering::Relaxed);
                    self.mover.bytes.fetch_add(extent.len, Ordering::Relaxed);
                }
                // It was replaced, deleted, or moved by another.
                Err(Error::Precondition(_)) => return Ok(any),
                Err(error) => {
                    self.mover.failed.fetch_add(1, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(any)
    }

    fn move_body(&self, seen: &Seen, from: &ExtentRef, to: u8) -> Result<(), Error> {
        let working = self.work()?;
        let pins = self.reaper.pin(vec![from.id]);
        // What was freed between reading the row and pinning cannot be read.
        if !self.still_names(seen, from)? {
            return Err(Error::Precondition("the object was not changed while it moved"));
        }
        let tier = self.bodies.tiers().all().iter().find(|tier| tier.number == to);
        let compression = match tier {
            Some(tier) => tier.compression,
            None => Some(self.config.compression),
        };
        // Without the object's key its blocks cannot be changed.
        let compression = compression.filter(|_compression| seen.info.meta.sse.is_none());
        let id = self.bodies.new_id();
        let name = format!("{}/{}", seen.path.bucket, seen.path.key);
        let copy = Copy { from, id, sealed: if compression.is_some() { id } else { from.sealed }, compression, name };
        let (extent, guard) = if self.bodies.tiers().is_remote(to) {
            (self.send(&copy, to)?, None)
        } else {
            let (extent, guard) = self.write(&copy, to)?;
            (extent, Some(guard))
        };
        drop(pins);
        drop(working);
        let Path { bucket, key } = seen.path.clone();
        let path = Path { bucket, key };
        let relocate = Mutation::Relocate { path, version: seen.info.version, from: *from, to: extent };
        let done = self.committer.submit_blocking(relocate, guard);
        self.mover.sending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        done.map(drop)
    }

    fn still_names(&self, seen: &Seen, extent: &ExtentRef) -> Result<bool, Error> {
        let versions = self.versions(&seen.path)?;
        let same = |now: &&Seen| now.info.version == seen.info.version;
        Ok(versions.iter().find(same).is_some_and(|now| now.info.extents.contains(extent)))
    }

    /// The versions of a key that have bodies.
    fn versions(&self, path: &Path) -> Result<Vec<Seen>, Error> {
        let (from, to) = (object_key(&path.bucket, &path.key), past_object(&path.bucket, &path.key));
        let mut versions = Vec::new();
        Meta::scan(&self.meta.read()?, TableId::Objects, from, &to, |key, value| {
            versions.extend(seen(key, value));
            Ok(Next::Row)
        })?;
        Ok(versions)
    }

    /// The block as it is to lie on the other tier.
    fn block_of(&self, copy: &Copy<'_>, block: u32) -> Result<Sealed, Error> {
        if self.committer.closed() {
            return Err(Error::Closed);
        }
        let (sealed, place) = self.bodies.sealed(copy.from, block, &copy.name)?;
        if let Some(rate) = self.config.tiering.bytes_per_second {
            self.mover.pace.spend(sealed.stored.len(), rate, || self.committer.closed());
        }
        let Some(compression) = copy.compression else { return Ok(sealed) };
        let bytes = sealed.open(None).map_err(|error| Error::corrupt(format!("block {block}: {error}"), place))?;
        let address = Address { extent: copy.sealed, block };
        let (entry, packed) = block::seal(address, &bytes, compression, None)?;
        Ok(Sealed { address, entry, stored: packed.unwrap_or(bytes) })
    }

    /// Writes the copy to drives, and reads it back.
    fn write(&self, copy: &Copy<'_>, to: u8) -> Result<(ExtentRef, ExtentGuard), Error> {
        let place = if to == 0 { Place::Large } else { Place::Cold { tier: to } };
        let wanted = ExtentRef { id: copy.id, sealed: copy.sealed, place, ..*copy.from };
        let gone = || Error::Away(format!("{to} is not named any more"));
        let set = self.bodies.set_of(place).ok_or_else(gone)?;
        self.bodies.tiers().meter(to).unwrap_or_else(|| self.reaper.meter()).admit(copy.from.stored)?;
        let mut guard = ExtentGuard::on_tier(&self.reaper, to, copy.id);
        let mut writer = ExtentWriter::copying(set, &wanted, Compression::Off)?;
        for block in copy.blocks() {
            writer.push_sealed(&self.block_of(copy, block)?)?;
            guard.grow_to(writer.physical());
        }
        let extent = writer.seal()?;
        guard.grow_to(self.bodies.physical(&extent));
        if to > 0 {
            for (index, drive) in set.drives().iter().enumerate().filter(|(_index, drive)| drive.writable()) {
                let directory = FileKey::extent(copy.id).directory(&drive.dir);
                let uses = (0..set.code().total()).any(|slot| set.drive_of(copy.id, slot) == index);
                if let Some(error) = uses.then(|| drive.disk.sync_dir(&directory).err()).flatten() {
                    set.sync_failed(index, &directory, &error);
                }
            }
            set.serves()?;
        }
        for block in copy.blocks() {
            self.bodies.sealed(&extent, block, &copy.name)?;
        }
        Ok((extent, guard))
    }

    /// Sends the copy to another store, which vouches for each chunk by its checksum.
    fn send(&self, copy: &Copy<'_>, to: u8) -> Result<ExtentRef, Error> {
        let remote = self.bodies.tiers().remote(to)?;
        self.mover.sending.lock().unwrap_or_else(PoisonError::into_inner).insert(copy.id);
        let sent = self.send_chunks(copy, to, remote);
        if sent.is_err() {
            // The table of the doomed has it.
            self.mover.sending.lock().unwrap_or_else(PoisonError::into_inner).remove(&copy.id);
        }
        sent
    }

    fn send_chunks(&self, copy: &Copy<'_>, to: u8, remote: &crate::remote::RemoteTier) -> Result<ExtentRef, Error> {
        let doom = Mutation::Doom { tier: to, id: copy.id, blocks: copy.from.blocks() as u64 };
        self.committer.submit_blocking(doom, None)?;
        let blocks: Vec<u32> = copy.blocks().collect();
        let (mut entries, mut stored) = (Vec::with_capacity(blocks.len()), 0);
        for (chunk, numbers) in (0_u32..).zip(blocks.chunks(CHUNK_BLOCKS)) {
            let sealed = numbers.iter().map(|block| self.block_of(copy, *block)).collect::<Result<Vec<_>, _>>()?;
            entries.extend(sealed.iter().map(|block| block.entry));
            stored += remote.put(copy.id, chunk, &sealed)?;
        }
        let extent = remote.body(copy.id, &entries, (stored, copy.sealed));
        // The first block of each chunk proves that index and name are those that reads will ask for.
        for block in (0..u32::try_from(entries.len()).unwrap_or(u32::MAX)).step_by(CHUNK_BLOCKS) {
            remote.block(&extent, block)?;
        }
        Ok(extent)
    }

    /// Looks at objects that may belong elsewhere, at once.
    fn move_noticed(&self) {
        loop {
            let next = self.mover.noticed.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(path) = next else { return };
            let rules = self.rules();
            let moved = self.versions(&path).and_then(|versions| {
                versions.iter().try_for_each(|seen| {
                    let (subject, _touched) = self.subject(seen, now_ms());
                    let to = tiering::target(subject, &rules);
                    if to == subject.tier { Ok(()) } else { self.move_object(seen, self.number(to)).map(drop) }
                })
            });
            match moved {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, bucket = path.bucket, key = path.key, "an object stays where it is for now");
                }
            }
        }
    }

    /// Looks at all objects at the time `now_ms`, and moves those that belong elsewhere.
    fn pass(&self, now_ms: u64) -> Result<(), Error> {
        let rules = self.rules();
        let mut candidates: Vec<Candidate<(String, String, VersionId)>> = Vec::new();
        let mut excess = self.marks()?.excess();
        let mut after = Vec::new();
        let mut trouble = None;
        let mut away: BTreeSet<u8> = BTreeSet::new();
        loop {
            let (page, last) = self.rows_after(&after)?;
            for seen in page {
                let (subject, touched_ms) = self.subject(&seen, now_ms);
                let to = tiering::target(subject, &rules);
                // What broke off in the middle goes on.
                let number = self.number(to);
                let torn = seen.info.extents.iter().any(|extent| extent.place.tier() != number);
                if torn && !away.contains(&number) {
                    match self.move_object(&seen, number) {
                        Ok(_any) => {}
                        Err(Error::Closed) => return Err(Error::Closed),
                        Err(error) => {
                            tracing::warn!(%error, bucket = seen.path.bucket, key = seen.path.key, "a move broke off");
                            // A tier that does not answer, or is full, is not asked for each of a million objects.
                            if matches!(error, Error::Away(_) | Error::Full(_) | Error::Sealed(_) | Error::Drives(_)) {
                                away.insert(number);
                            }
                            trouble = Some(error);
                        }
                    }
                } else if excess > 0 && to == 0 && subject.class.is_none() && seen.info.size >= rules.bytes_min {
                    candidates.push(Candidate {
                        heat_milli: subject.heat_milli,
                        touched_ms,
                        name: (seen.path.bucket, seen.path.key, seen.info.version),
                        bytes: seen.info.extents.iter().map(|extent| self.bodies.physical(extent)).sum(),
                    });
                    if candidates.len() >= 2 * RELIEF_MAX {
                        candidates.sort_unstable();
                        candidates.truncate(RELIEF_MAX);
                    }
                }
            }
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        excess = excess.min(self.marks()?.excess());
        for going in tiering::relieve(candidates, excess) {
            let (bucket, key, version) = going.name;
            let path = Path { bucket, key };
            let found = self.versions(&path)?.into_iter().find(|seen| seen.info.version == version);
            if let Some(seen) = found
                && let Err(error) = self.relieve(&seen)
            {
                trouble = Some(error);
                break;
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Moves an object to the first tier that takes it.
    fn relieve(&self, seen: &Seen) -> Result<(), Error> {
        let mut result = Ok(());
        for tier in self.bodies.tiers().all() {
            result = self.move_object(seen, tier.number).map(drop);
            if result.is_ok() || matches!(result, Err(Error::Closed)) {
                return result;
            }
        }
        result
    }

    fn marks(&self) -> Result<Marks, Error> {
        let meter = self.reaper.meter();
        let room = match meter.capacity() {
            Some(capacity) => capacity,
            None => meter.used().saturating_add(meter.free()?),
        };
        let part = |milli: u16| u64::try_from(u128::from(room) * u128::from(milli) / 1_000).unwrap_or(u64::MAX);
        let tiering = self.config.tiering;
        Ok(Marks { used: meter.used(), high: part(tiering.high_milli), low: part(tiering.low_milli) })
    }

    /// A page of objects with bodies, and the last row that was looked at if there may be more.
    fn rows_after(&self, after: &[u8]) -> Result<(Vec<Seen>, Option<Vec<u8>>), Error> {
        let from = if after.is_empty() { Vec::new() } else { [after, &[0]].concat() };
        let (mut page, mut last, mut rows) = (Vec::new(), None, 0);
        Meta::scan(&self.meta.read()?, TableId::Objects, from, &[0xff; 9], |key, value| {
            page.extend(seen(key, value));
            rows += 1;
            if rows < PAGE_ROWS {
                return Ok(Next::Row);
            }
            last = Some(key.to_vec());
            Ok(Next::Stop)
        })?;
        Ok((page, last))
    }

    /// Removes bodies in other stores that no row names. Says whether all are gone.
    fn bury(&self) -> Result<bool, Error> {
        let mut doomed = Vec::new();
        Meta::scan(&self.meta.read()?, TableId::Doomed, Vec::new(), &[0xff; 9], |key, value| {
            if let Some((tier, id)) = key.split_first()
                && let Ok(id) = id.try_into()
            {
                doomed.push((*tier, u64::from_be_bytes(id), decode::<u64>(key, value)?.0));
            }
            Ok(if doomed.len() < PAGE_ROWS { Next::Row } else { Next::Stop })
        })?;
        let mut all = true;
        for (tier, id, blocks) in doomed {
            let sending = self.mover.sending.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
            if sending || self.reaper.pinned(id) {
                all = false;
                continue;
            }
            // A body that was being sent a moment ago may have its row by now, and with it is doomed no longer: the row comes
            // before the end of sending, so that this look, after it, sees it.
            if Meta::get(&self.meta.read()?, TableId::Doomed, &placed_key(tier, id))?.is_none() {
                continue;
            }
            self.bodies.tiers().remote(tier)?.delete(id, blocks)?;
            self.committer.submit_blocking(Mutation::Undoom { tier, id }, None)?;
        }
        Ok(all)
    }

    /// Bodies in other stores that are to be removed.
    pub(crate) fn doomed(&self) -> u64 {
        let mut count = 0;
        let counted = self.meta.read().and_then(|transaction| {
            Meta::scan(&transaction, TableId::Doomed, Vec::new(), &[0xff; 9], |_key, _value| {
                count += 1;
                Ok(Next::Row)
            })
        });
        if let Err(error) = counted {
            tracing::warn!(%error, "the doomed cannot be counted");
        }
        count
    }
}

/// A body that is being copied.
struct Copy<'b> {
    from: &'b ExtentRef,
    id: u64,
    sealed: u64,
    compression: Option<Compression>,
    name: String,
}

impl Copy<'_> {
    fn blocks(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.from.blocks()).unwrap_or(u32::MAX)
    }
}

/// Starts the thread that moves, for as long as the store is open.
pub(crate) fn start(inner: &Arc<Inner>) -> Result<(), Error> {
    if inner.bodies.tiers().is_empty() {
        return Ok(());
    }
    inner.recall_heat();
    let store = Arc::downgrade(inner);
    let every_ms = inner.config.tiering.every_ms;
    let work = move || {
        // Whoever opens a store for a moment moves nothing.
        let mut due = Instant::now() + FIRST.min(Duration::from_millis(every_ms));
        let (mut quiet_until, mut noted) = (Instant::now(), Instant::now());
        loop {
            std::thread::sleep(STEP);
            let Some(inner) = store.upgrade() else { return };
            if inner.committer.closed() {
                return;
            }
            inner.move_noticed();
            if noted.elapsed() >= NOTED_EVERY {
                noted = Instant::now();
                inner.note_heat(false);
            }
            if Instant::now() >= quiet_until
                && let Err(error) = inner.bury()
            {
                tracing::warn!(%error, "a body in another store is removed later");
                quiet_until = Instant::now() + AWAY;
            }
            if Instant::now() < due {
                continue;
            }
            let started = Instant::now();
            match inner.pass(now_ms()) {
                Ok(()) => {}
                Err(Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "not all objects lie where they belong"),
            }
            let rest = Duration::from_millis(inner.config.tiering.every_ms).max(started.elapsed() * 20);
            due = Instant::now() + rest;
        }
    };
    let thread = std::thread::Builder::new().name("store-mover".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| Error::io("start the mover", error))
}

impl Store {
    /// Looks at all objects as if it were `now_ms`, in milliseconds of the Unix epoch, moves those that belong on another
    /// tier, and removes from other stores what is not needed any more.
    /// # Errors
    /// The last reason why something did not move; all else did.
    pub async fn retier(&self, now_ms: u64) -> Result<Moved, Error> {
        let inner = Arc::clone(&self.0);
        off_runtime(move || {
            let passed = inner.pass(now_ms);
            let buried = inner.bury();
            passed.and(buried.map(drop)).map(|()| inner.mover.moved())
        })
        .await
    }
}
