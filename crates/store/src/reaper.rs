//! Who may remove an extent's file, and when: after its metadata is gone, and after the last reader let go of it.
//!
//! Invariant: a file is unlinked only if no durable row names it. Unlinking happens on its own thread, off every answer's
//! path. The bytes on the disk are counted here too, because they end here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::Error;
use crate::config::RESERVE_BYTES;
use crate::disk::Disk;
use crate::extent::{self, TEMP_SUFFIX};

/// Counts the bytes of extents on the disk and says whether there may be more.
#[derive(Debug)]
pub(crate) struct Meter {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    capacity: Option<u64>,
    used: AtomicU64,
}

impl Meter {
    pub(crate) fn new(disk: Arc<dyn Disk>, root: PathBuf, capacity: Option<u64>, used: u64) -> Self {
        Self { disk, root, capacity, used: AtomicU64::new(used) }
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
        let space = self.disk.space(&self.root).map_err(|error| Error::io("ask for free space", error))?;
        let reserve = RESERVE_BYTES.min(space.total / 16);
        if space.free < reserve.saturating_add(bytes) {
            return Err(Error::Full(format!(
                "the disk has {} bytes left, of which {reserve} are kept for metadata",
                space.free
            )));
        }
        Ok(())
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
    /// The file's bytes, once no row names it.
    doomed: Option<u64>,
}

enum Job {
    Unlink { id: u64, bytes: u64 },
    Stop,
}

/// Frees extents.
pub(crate) struct Reaper {
    meter: Arc<Meter>,
    pins: Mutex<HashMap<u64, Pin>>,
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Reaper {
    /// Starts the thread.
    pub(crate) fn start(disk: Arc<dyn Disk>, root: PathBuf, meter: Meter) -> Result<Arc<Self>, Error> {
        let (jobs, work) = channel();
        let meter = Arc::new(meter);
        let theirs = Arc::clone(&meter);
        let thread = std::thread::Builder::new()
            .name("store-reaper".to_owned())
            .spawn(move || run(disk.as_ref(), &root, &theirs, &work))
            .map_err(|error| Error::io("start the reaper", error))?;
        Ok(Arc::new(Self { meter, pins: Mutex::default(), jobs, thread: Mutex::new(Some(thread)) }))
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn queue(&self, id: u64, bytes: u64) {
        if self.jobs.send(Job::Unlink { id, bytes }).is_err() {
            tracing::debug!(id, "an extent is left for the next opening to remove");
        }
    }

    /// Removes the file now, or when the last reader lets go.
    pub(crate) fn free(&self, id: u64, bytes: u64) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = pins.get_mut(&id) {
            pin.doomed = Some(bytes);
        } else {
            drop(pins);
            self.queue(id, bytes);
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

fn run(disk: &dyn Disk, root: &Path, meter: &Meter, work: &Receiver<Job>) {
    while let Ok(Job::Unlink { id, bytes }) = work.recv() {
        let path = extent::path(root, id);
        // A writer that gave up has only the temporary name.
        let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        let result = match disk.remove(&path) {
            Err(error) if absent(&error) => disk.remove(&path.with_extension(TEMP_SUFFIX)),
            other => other,
        };
        match result {
            Ok(()) => meter.subtract(bytes),
            Err(error) if absent(&error) => meter.subtract(bytes),
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "cannot remove an extent; the next opening will");
            }
        }
    }
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
                doomed.extend(pins.remove(id).and_then(|pin| pin.doomed).map(|bytes| (*id, bytes)));
            }
        }
        drop(pins);
        for (id, bytes) in doomed {
            self.reaper.queue(id, bytes);
        }
    }
}

/// A new extent that no row names yet: unlinked when dropped, unless kept.
pub(crate) struct ExtentGuard {
    id: u64,
    bytes: u64,
    reaper: Arc<Reaper>,
    armed: bool,
}

impl ExtentGuard {
    pub(crate) fn new(reaper: &Arc<Reaper>, id: u64) -> Self {
        Self { id, bytes: 0, reaper: Arc::clone(reaper), armed: true }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Counts the file's bytes up to `bytes`.
    pub(crate) fn grow_to(&mut self, bytes: u64) {
        self.reaper.meter.add(bytes.saturating_sub(self.bytes));
        self.bytes = self.bytes.max(bytes);
    }

    /// A durable row names it.
    pub(crate) fn keep(mut self) {
        self.armed = false;
    }

    /// Nobody knows whether a durable row names it.
    pub(crate) fn abandon(mut self) {
        self.armed = false;
    }
}

impl Drop for ExtentGuard {
    fn drop(&mut self) {
        if self.armed {
            self.reaper.queue(self.id, self.bytes);
        }
    }
}
