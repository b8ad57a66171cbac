//! Bodies over the set of drives: the one place that knows how bytes are spread, checked, mended and freed.
//!
//! Invariant: what [`Bodies::sync`] returned `Ok` for is durable on at least [`DriveSet::required`] drives, and every byte
//! that is read was checked against a checksum that is bound to its address.

pub(crate) mod code;
pub(crate) mod packed;
pub(crate) mod shape;
pub(crate) mod stripe;
pub(crate) mod striped;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::packed::{Open, Segments};
use self::stripe::{FileKey, on_all};
pub(crate) use self::striped::Damage;
use crate::Error;
use crate::block::Sealed;
use crate::config::{Compression, OPEN_EXTENTS_MAX};
use crate::crypto::Cipher;
use crate::drive::DriveSet;
use crate::extent::{ExtentRef, OpenExtent, Place};
use crate::tier::Tiers;

/// Findings that are kept for whoever asks; the log has them all.
const DAMAGES_MAX: usize = 1_000;

/// The bodies of a store.
pub(crate) struct Bodies {
    set: Arc<DriveSet>,
    tiers: Arc<Tiers>,
    segments: Arc<Segments>,
    next: AtomicU64,
    open: quick_cache::sync::Cache<u64, Arc<OpenExtent>>,
    damages: Mutex<VecDeque<Damage>>,
    found: AtomicU64,
    repaired: AtomicU64,
}

impl Bodies {
    /// The bodies on `set`; new ones get ids from `next`.
    pub(crate) fn new(segments: Arc<Segments>, set: Arc<DriveSet>, tiers: Arc<Tiers>, next: u64) -> Self {
        Self {
            set,
            tiers,
            segments,
            next: AtomicU64::new(next),
            open: quick_cache::sync::Cache::new(OPEN_EXTENTS_MAX),
            damages: Mutex::default(),
            found: AtomicU64::new(0),
            repaired: AtomicU64::new(0),
        }
    }

    pub(crate) const fn set(&self) -> &Arc<DriveSet> {
        &self.set
    }

    pub(crate) const fn tiers(&self) -> &Arc<Tiers> {
        &self.tiers
    }

    /// The drives on which bodies at `place` lie; none for those that lie on no drive.
    pub(crate) fn set_of(&self, place: Place) -> Option<&Arc<DriveSet>> {
        match place {
            Place::Large | Place::Packed { .. } => Some(&self.set),
            Place::Cold { tier } => self.tiers.set(tier),
            Place::Remote { .. } => None,
        }
    }

    /// Bytes of a body on all drives.
    pub(crate) fn physical(&self, extent: &ExtentRef) -> u64 {
        self.set_of(extent.place).map_or(extent.stored, |set| extent.physical(set))
    }

    /// An id that no body had before.
    pub(crate) fn new_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) const fn segments(&self) -> &Arc<Segments> {
        &self.segments
    }

    /// Packs a small body. It is durable after [`Bodies::sync`].
    pub(crate) fn pack(
        &self,
        blocks: &[Vec<u8>],
        compression: Compression,
        cipher: Option<&Cipher>,
    ) -> Result<(ExtentRef, Arc<Open>), Error> {
        self.segments.append(self.new_id(), blocks, (compression, cipher), || self.new_id())
    }

    /// Makes a batch of new bodies durable: the records in `open` segments, and the names of the large bodies `extents`;
    /// one sync per drive and file or directory, at the same time on all drives.
    pub(crate) fn sync(&self, open: &[Arc<Open>], extents: &[u64]) -> Result<(), Error> {
        self.segments.sync(open)?;
        let keys: BTreeSet<u64> = extents.iter().copied().collect();
        let mut work: Vec<(usize, BTreeSet<PathBuf>)> = Vec::new();
        for (index, drive) in self.set.drives().iter().enumerate().filter(|(_index, drive)| drive.writable()) {
            let directories: BTreeSet<PathBuf> = keys
                .iter()
                .filter(|id| self.uses(**id, index))
                .map(|id| FileKey::extent(*id).directory(&drive.dir))
                .collect();
            if !directories.is_empty() {
                work.push((index, directories));
            }
        }
        let failed = on_all(&mut work, |(index, directories)| {
            let drive = self.set.drive(*index)?;
            directories.iter().find_map(|directory| {
                let error = drive.disk.sync_dir(directory).err()?;
                self.set.sync_failed(*index, directory, &error);
                Some(Error::io(format!("sync {}", directory.display()), error))
            })
        });
        match failed.into_iter().flatten().next() {
            Some(error) if self.set.serves().is_err() => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a file of `id` lies on drive `index`.
    fn uses(&self, id: u64, index: usize) -> bool {
        (0..self.set.code().total()).any(|slot| self.set.drive_of(id, slot) == index)
    }

    /// The bytes of a block, verified; what was found bad on the way is mended and reported under `object`.
    pub(crate) fn block(
        &self,
        (extent, block): (&ExtentRef, u32),
        cipher: Option<&Cipher>,
        object: &str,
    ) -> Result<Vec<u8>, Error> {
        let (sealed, name) = self.sealed(extent, block, object)?;
        sealed.open(cipher).map_err(|error| Error::corrupt(format!("block {block}: {error}"), name))
    }

    /// A block as it lies, verified, and the name of what it lies in.
    pub(crate) fn sealed(&self, extent: &ExtentRef, block: u32, object: &str) -> Result<(Sealed, String), Error> {
        match extent.place {
            Place::Packed { segment, offset } => {
                let mut found = Vec::new();
                let blocks = self.segments.read(extent, (segment, offset), Some(block), &mut found);
                self.report(found, Some(object));
                let name = format!("segment {segment:016x}");
                let sealed = blocks?.into_iter().next();
                Ok((sealed.ok_or_else(|| Error::corrupt(format!("there is no block {block}"), &name))?, name))
            }
            Place::Remote { tier } => {
                let remote = self.tiers.remote(tier)?;
                Ok((remote.block(extent, block)?, format!("tier {}", remote.name())))
            }
            Place::Large | Place::Cold { .. } => self.of_file(extent, block, object),
        }
    }

    fn of_file(&self, extent: &ExtentRef, block: u32, object: &str) -> Result<(Sealed, String), Error> {
        let set = self.set_of(extent.place).ok_or_else(|| Error::Away("it is not named any more".to_owned()))?;
        let mut found = Vec::new();
        let opened = match self.open.get(&extent.id) {
            Some(opened) => Ok(opened),
            None => OpenExtent::open(set, extent, &mut found).map(Arc::new).inspect(|opened| {
                self.open.insert(extent.id, Arc::clone(opened));
            }),
        };
        let sealed = opened.and_then(|opened| Ok((opened.sealed(block, &mut found)?, opened.name())));
        if !found.is_empty() {
            // The handle may hold a file that was made anew.
            self.forget(extent.id);
        }
        self.report(found, Some(object));
        sealed
    }

    /// Keeps and logs what was found.
    pub(crate) fn report(&self, found: Vec<Damage>, object: Option<&str>) {
        for mut damage in found {
            if damage.object.is_none() {
                damage.object = object.map(str::to_owned);
            }
            self.found.fetch_add(1, Ordering::Relaxed);
            let Damage { drive, file, what, repaired, .. } = &damage;
            let object = damage.object.as_deref().unwrap_or("unknown");
            if *repaired {
                self.repaired.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(drive, file, what, object, "damage was repaired");
            } else {
                tracing::error!(drive, file, what, object, "damage is not repaired yet");
            }
            let mut damages = self.damages.lock().unwrap_or_else(PoisonError::into_inner);
            if damages.len() == DAMAGES_MAX {
                damages.pop_front();
            }
            damages.push_back(damage);
        }
    }

    pub(crate) fn damages(&self) -> Vec<Damage> {
        self.damages.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Damages found and repaired since the store was opened.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.found.load(Ordering::Relaxed), self.repaired.load(Ordering::Relaxed))
    }

    /// Lets go of an open body.
    pub(crate) fn forget(&self, id: u64) {
        self.open.remove(&id);
    }

    /// Lets go of all open files.
    pub(crate) fn close_files(&self) {
        self.open.clear();
        self.segments.forget_all();
    }

    pub(crate) fn close(&self) {
        self.open.clear();
        self.segments.close();
    }
}
