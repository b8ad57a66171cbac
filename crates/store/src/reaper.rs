//! Who may remove an extent's file, and when: after its metadata is gone, and after the last reader let go of it.
//!
//! Invariant: a file is unlinked only if no durable row names it. Unlinking happens on its own thread, off every answer's
//! path. The bytes on the disk are counted here too, because they end here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::Error;
use crate::body::packed::{Open, Segments};
use crate::body::stripe::{FileKey, TEMP_SUFFIX};
use crate::config::RESERVE_BYTES;
use crate::drive::DriveSet;
use crate::extent::{ExtentRef, Place};
use crate::tier::Tiers;

/// Counts the bytes of extents on the disk and says whether there may be more.
#[derive(Debug)]
pub(crate) struct Meter {
    set: Arc<DriveSet>,
    capacity: Option<u64>,
    used: AtomicU64,
}

impl Meter {
    pub(crate) fn new(set: Arc<DriveSet>, capacity: Option<u64>, used: u64) -> Self {
        Self { set, capacity, used: AtomicU64::new(used) }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) const fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    /// Whether `bytes` more may be written.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Error> {
        let used = self.used();
        if let Some(capacity) = self.capacity
            && used.saturating_add(bytes) > capacity
        {
            return Err(Error::Full(format!("{used} of the capacity of {capacity} bytes are used")));
        }
        // Shards are spread evenly, so each drive takes its share of `bytes`.
        let share = bytes.div_ceil(u64::from(self.set.code().data));
        for drive in self.set.drives().iter().filter(|drive| drive.writable()) {
            let ask = |error| Error::io(format!("ask drive {} for free space", drive.name()), error);
            let space = drive.disk.space(&drive.dir).map_err(ask)?;
            let reserve = RESERVE_BYTES.min(space.total / 16);
            if space.free < reserve.saturating_add(share) {
                return Err(Error::Full(format!(
                    "drive {} has {} bytes left, of which {reserve} are kept for metadata",
                    drive.name(),
                    space.free
                )));
            }
        }
        Ok(())
    }

    /// Bytes that drives have left for bodies, before parity counts: what the drive with the least has, times their number.
    pub(crate) fn free(&self) -> Result<u64, Error> {
        let mut least = u64::MAX;
        let mut count = 0_u64;
        for drive in self.set.drives().iter().filter(|drive| drive.writable()) {
            let ask = |error| Error::io(format!("ask drive {} for free space", drive.name()), error);
            let space = drive.disk.space(&drive.dir).map_err(ask)?;
            least = least.min(space.free.saturating_sub(RESERVE_BYTES.min(space.total / 16)));
            count += 1;
        }
        Ok(if count == 0 { 0 } else { least.saturating_mul(count) })
    }

    fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: u64) {
        let result =
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(bytes)));
        debug_assert!(result.is_ok(), "the closure always returns a value");
    }
}

#[derive(Default)]
struct Pin {
    readers: u32,
    /// What is to be freed, once no row names it.
    doomed: Option<Freed>,
}

/// A body to be freed.
#[derive(Debug, Clone, Copy)]
enum Freed {
    /// A large one's files, whole or half-written.
    Large { tier: u8, id: u64, bytes: u64 },
    /// A record of a segment.
    Packed { extent: ExtentRef, at: (u64, u64), bytes: u64 },
}

enum Job {
    Free(Freed),
    Stop,
}

/// Frees extents.
pub(crate) struct Reaper {
    meter: Arc<Meter>,
    tiers: Arc<Tiers>,
    segments: Arc<Segments>,
    pins: Mutex<HashMap<u64, Pin>>,
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reaper {
    /// Starts the thread.
    pub(crate) fn start(
        set: Arc<DriveSet>,
        tiers: Arc<Tiers>,
        segments: Arc<Segments>,
        meter: Meter,
    ) -> Result<Arc<Self>, Error> {
        let (jobs, work) = channel();
        let meter = Arc::new(meter);
        let theirs = Arc::clone(&meter);
        let (packed, placed) = (Arc::clone(&segments), Arc::clone(&tiers));
        let thread = std::thread::Builder::new()
            .name("store-reaper".to_owned())
            .spawn(move || run((&set, &theirs), &placed, &packed, &work))
            .map_err(|error| Error::io("start the reaper", error))?;
        Ok(Arc::new(Self { meter, tiers, segments, pins: Mutex::default(), jobs, thread: Mutex::new(Some(thread)) }))
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn queue(&self, freed: Freed) {
        if let Freed::Packed { at: (segment, _offset), .. } = freed {
            self.segments.will_free(segment);
        }
        self.send(freed);
    }

    fn send(&self, freed: Freed) {
        if self.jobs.send(Job::Free(freed)).is_err() {
            tracing::debug!(?freed, "a body is left for the next opening to remove");
        }
    }

    /// Frees the body now, or when the last reader lets go.
    pub(crate) fn free(&self, extent: &ExtentRef, bytes: u64) {
        let freed = match extent.place {
            Place::Large | Place::Cold { .. } => Freed::Large { tier: extent.place.tier(), id: extent.id, bytes },
            // The table of the doomed has it; who removes them asks for pins.
            Place::Remote { .. } => return,
            Place::Packed { segment, offset } => Freed::Packed { extent: *extent, at: (segment, offset), bytes },
        };
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = pins.get_mut(&extent.id) {
            if let Freed::Packed { at: (segment, _offset), .. } = freed {
                self.segments.will_free(segment);
            }
            pin.doomed = Some(freed);
        } else {
            drop(pins);
            self.queue(freed);
        }
    }

    /// Keeps the files of `ids` until the pins are dropped.
    pub(crate) fn pin(self: &Arc<Self>, ids: Vec<u64>) -> Pins {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        for id in &ids {
            pins.entry(*id).or_default().readers += 1;
        }
        drop(pins);
        Pins { reaper: Arc::clone(self), ids }
    }

    /// Whether somebody reads the body.
    pub(crate) fn pinned(&self, id: u64) -> bool {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    /// The meter of a tier's drives; the store's own for tier 0.
    fn meter_of(&self, tier: u8) -> &Meter {
        self.tiers.meter(tier).unwrap_or(&self.meter)
    }

    /// Does what is queued, then ends the thread. Blocks.
    pub(crate) fn close(&self) {
        let stopped = self.jobs.send(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Ok(()), Some(thread)) = (stopped, thread)
            && thread.join().is_err()
        {
            tracing::error!("the reaper ended by a panic");
        }
    }
}

fn run((set, own): (&DriveSet, &Meter), tiers: &Tiers, segments: &Segments, work: &Receiver<Job>) {
    while let Ok(Job::Free(freed)) = work.recv() {
        match freed {
            Freed::Large { tier, id, bytes } => {
                let set = tiers.set(tier).map_or(set, |set| set.as_ref());
                let meter = tiers.meter(tier).unwrap_or(own);
                if unlink(set, id) {
                    meter.subtract(bytes);
                }
            }
            Freed::Packed { extent, at, bytes } => {
                segments.free(&extent, at);
                own.subtract(bytes);
            }
        }
    }
}

/// Removes a large body's files; false if one is left.
fn unlink(set: &DriveSet, id: u64) -> bool {
    let mut all = true;
    for slot in 0..set.code().total() {
        let Some(drive) = set.drive(set.drive_of(id, slot)).filter(|drive| drive.writable()) else { continue };
        let path = FileKey::extent(id).path(&drive.dir);
        // A writer that gave up has only the temporary name.
        let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        let result = match drive.disk.remove(&path) {
            Err(error) if absent(&error) => drive.disk.remove(&path.with_extension(TEMP_SUFFIX)),
            other => other,
        };
        if let Err(error) = result
            && !absent(&error)
        {
            all = false;
            tracing::warn!(%error, file = %path.display(), "cannot remove an extent; the next opening will");
        }
    }
    all
}

/// Keeps extents readable while it lives.
pub(crate) struct Pins {
    reaper: Arc<Reaper>,
    ids: Vec<u64>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pins = self.reaper.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut doomed = Vec::new();
        for id in &self.ids {
            let Some(pin) = pins.get_mut(id) else { continue };
            pin.readers -= 1;
            if pin.readers == 0 {
                doomed.extend(pins.remove(id).and_then(|pin| pin.doomed));
            }
        }
        drop(pins);
        for freed in doomed {
            self.reaper.send(freed);
        }
    }
}

/// A new body that no row names yet: freed when dropped, unless kept.
pub(crate) struct ExtentGuard {
    id: u64,
    bytes: u64,
    reaper: Arc<Reaper>,
    armed: bool,
    tier: u8,
    packed: Option<(ExtentRef, Arc<Open>)>,
}

impl ExtentGuard {
    /// A large body that is being written.
    pub(crate) fn new(reaper: &Arc<Reaper>, id: u64) -> Self {
        Self::armed(reaper, id)
    }

    fn armed(reaper: &Arc<Reaper>, id: u64) -> Self {
        Self { id, bytes: 0, reaper: Arc::clone(reaper), armed: true, tier: 0, packed: None }
    }

    /// A large body that is being written on a tier, whose directories the writer makes durable itself.
    pub(crate) fn on_tier(reaper: &Arc<Reaper>, tier: u8, id: u64) -> Self {
        let mut this = Self::armed(reaper, id);
        this.tier = tier;
        this
    }

    /// A record of a segment, of `bytes` over all drives.
    pub(crate) fn packed(reaper: &Arc<Reaper>, extent: ExtentRef, open: Arc<Open>, bytes: u64) -> Self {
        let mut this = Self::new(reaper, extent.id);
        this.packed = Some((extent, open));
        this.grow_to(bytes);
        this
    }

    /// The large body's id.
    pub(crate) const fn large(&self) -> Option<u64> {
        if self.packed.is_none() && self.tier == 0 { Some(self.id) } else { None }
    }

    /// The segment that the record is in.
    pub(crate) fn open(&self) -> Option<&Arc<Open>> {
        self.packed.as_ref().map(|(_extent, open)| open)
    }

    /// The record.
    pub(crate) fn record(&self) -> Option<ExtentRef> {
        self.packed.as_ref().map(|(extent, _open)| *extent)
    }

    /// Counts the body's bytes up to `bytes`.
    pub(crate) fn grow_to(&mut self, bytes: u64) {
        self.reaper.meter_of(self.tier).add(bytes.saturating_sub(self.bytes));
        self.bytes = self.bytes.max(bytes);
    }

    /// A durable row names it.
    pub(crate) fn keep(mut self) {
        self.armed = false;
        if let Some((extent, open)) = &self.packed {
            open.keep(*extent);
        }
    }

    /// Nobody knows whether a durable row names it.
    pub(crate) fn abandon(self) {
        self.keep();
    }
}

impl Drop for ExtentGuard {
    fn drop(&mut self) {
        if self.armed {
            self.reaper.queue(match &self.packed {
                None => Freed::Large { tier: self.tier, id: self.id, bytes: self.bytes },
                Some((extent, _open)) => {
                    let at = match extent.place {
                        Place::Packed { segment, offset } => (segment, offset),
                        Place::Large | Place::Cold { .. } | Place::Remote { .. } => return,
                    };
                    Freed::Packed { extent: *extent, at, bytes: self.bytes }
                }
            });
        }
    }
}
