//! The handle: opening and closing, whole objects, deletes, statistics.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dh_core::limits::KEY_BYTES_MAX;

use crate::body::packed::Segments;
use crate::body::{Bodies, Damage};
use crate::cache::BlockCache;
use crate::commit::{CommitParts, Committer};
use crate::disk::{Disk, RealDisk};
use crate::drive::{Drive, DriveSet, DriveStatus};
use crate::index::files;
use crate::index::meta::Meta;
use crate::index::place::Place;
use crate::moving::Mover;
use crate::mutation::{Effects, Mutation, Path};
use crate::patrol::Patrolled;
use crate::reaper::{ExtentGuard, Meter, Reaper};
use crate::retention::Governance;
use crate::stats::{BucketUsage, Counters, TierStats};
use crate::version::Version;
use crate::{
    Annotation, Condition, Deleted, Error, ObjectInfo, ObjectMeta, RangeRequest, Recovery, Stats, StoreConfig, moving,
    patrol, recover, tier, upkeep,
};

/// How an object is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteRequest {
    /// The version to remove.
    pub version: Version,
    /// What must hold of it.
    pub condition: Condition,
    /// Whether a governance retention is passed over.
    pub governance: Governance,
    /// The id of the user who deletes: the owner of the marker.
    pub owner: Option<String>,
}

/// An open store. Clones are handles of the same one.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.config.dir).finish_non_exhaustive()
    }
}

/// What keeps other processes away from each directory.
type Locks = BTreeMap<PathBuf, Box<dyn Any + Send + Sync>>;

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) committer: Committer,
    pub(crate) cache: BlockCache,
    pub(crate) mover: Mover,
    pub(crate) patrolled: Patrolled,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counters: Arc<Counters>,
    /// Held shared for each body that a scrub looks at, and alone while segments are written anew.
    pub(crate) working: RwLock<()>,
    recovery: Recovery,
    locks: Mutex<Locks>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Milliseconds of the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs `work`, which may block, off the async runtime's threads.
pub(crate) async fn off_runtime<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(Error::Meta("a storage task panicked; see the log".to_owned())),
        Err(_cancelled) => Err(Error::Closed),
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::Invalid("an object's key has at least one byte".to_owned()));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Error::Invalid(format!("a key has at most {KEY_BYTES_MAX} bytes, this one has {}", key.len())));
    }
    if key.contains('\0') {
        return Err(Error::Invalid("a key holds no zero byte".to_owned()));
    }
    Ok(())
}

impl Inner {
    pub(crate) async fn commit(&self, mutation: Mutation, guard: Option<ExtentGuard>) -> Result<Effects, Error> {
        self.committer.submit(mutation, guard).await
    }

    fn shut(&self) {
        self.committer.close();
        // Who works on files sees that no changes are taken and ends.
        drop(self.working.write().unwrap_or_else(PoisonError::into_inner));
        // A store that was closed is another's by now.
        if !self.locks.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.note_heat(true);
        }
        self.reaper.close();
        self.bodies.close();
        self.meta.close();
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn lock_drive(disk: &Arc<dyn Disk>, dir: &std::path::Path, locks: &mut Locks) -> Result<(), Error> {
    if !locks.contains_key(dir) {
        let lock = disk.lock(&dir.join("LOCK"));
        let lock = lock.map_err(|error| Error::io(format!("lock drive {}", dir.display()), error))?;
        locks.insert(dir.to_owned(), lock.ok_or_else(|| Error::Locked(dir.display().to_string()))?);
    }
    Ok(())
}

/// Whether a drive has bodies.
pub(crate) fn bodies_of(set: &DriveSet) -> files::Bodies {
    let there = |drive: &Drive, name: &str| drive.disk.list(&drive.dir.join(name)).is_ok_and(|there| !there.is_empty());
    let mut serving = set.drives().iter().filter(|drive| drive.writable());
    if serving.any(|drive| there(drive, "extents") || there(drive, "segments")) {
        files::Bodies::There
    } else {
        files::Bodies::None
    }
}

impl Store {
    /// Opens or makes the store in the configured directory.
    /// # Errors
    /// [`Error::Locked`] if another process has it open; [`Error::Corrupt`] if the metadata is damaged beyond single
    /// rows; what the operating system says.
    pub async fn open(config: StoreConfig) -> Result<Self, Error> {
        Self::open_on(Arc::new(RealDisk), config).await
    }

    /// Opens the store on another disk than the machine's.
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_on(disk: Arc<dyn Disk>, config: StoreConfig) -> Result<Self, Error> {
        off_runtime(move || Self::open_blocking(&disk, config)).await
    }

    fn open_blocking(disk: &Arc<dyn Disk>, config: StoreConfig) -> Result<Self, Error> {
        let dir = config.dir.clone();
        let failed = |error| Error::io(format!("open the store in {}", dir.display()), error);
        disk.create_dir(&dir).map_err(failed)?;
        let lock = disk.lock(&dir.join("LOCK")).map_err(failed)?;
        let lock = lock.ok_or_else(|| Error::Locked(dir.display().to_string()))?;
        let mut locks = BTreeMap::from([(dir.clone(), lock)]);
        // Before anything is written on them. What is wrong with a drive that cannot be locked, the set tells.
        for drive in config.drives.iter().filter(|drive| disk.list(&drive.dir).is_ok()) {
            if let Err(locked @ Error::Locked(_)) = lock_drive(disk, &drive.dir, &mut locks) {
                return Err(locked);
            }
        }
        let set = DriveSet::open(disk, &config)?;
        for drive in set.drives().iter().filter(|drive| drive.writable()) {
            lock_drive(disk, &drive.dir, &mut locks)?;
        }
        let (meta, opened) = Meta::open(Place::of(&set), bodies_of(&set))?;
        let meta = Arc::new(meta);
        let mut found = recover::recover(&set, &meta, opened.first_extent)?;
        let opening = tier::Opening { disk, config: &config, meta: &meta, first: opened.first_extent };
        let (tiers, held) = tier::open(&opening, &mut found.report, |dir| lock_drive(disk, dir.as_path(), &mut locks))?;
        let tiers = Arc::new(tiers);
        tracing::info!(dir = %dir.display(), recovery = ?found.report, replayed = opened.replayed, "the store is open");
        let counters = Arc::new(Counters::new(found.usage, held));
        let meter = Meter::new(Arc::clone(&set), config.capacity_bytes, found.used);
        let segments = Arc::new(Segments::new(Arc::clone(&set), config.segment_bytes, found.segments));
        let reaper = Reaper::start(Arc::clone(&set), Arc::clone(&tiers), Arc::clone(&segments), meter)?;
        let bodies = Arc::new(Bodies::new(segments, set, tiers, opened.first_extent));
        let committer = Committer::start(
            CommitParts {
                bodies: Arc::clone(&bodies),
                meta: Arc::clone(&meta),
                reaper: Arc::clone(&reaper),
                counters: Arc::clone(&counters),
                checkpoint_bytes: config.checkpoint_bytes,
            },
            found.classes,
        )?;
        let inner = Arc::new(Inner {
            cache: BlockCache::new(config.cache_bytes),
            mover: Mover::new(config.tiering.half_life_ms),
            patrolled: Patrolled::default(),
            config,
            bodies,
            meta,
            committer,
            reaper,
            counters,
            working: RwLock::default(),
            recovery: found.report,
            locks: Mutex::new(locks),
        });
        upkeep::start(&inner)?;
        patrol::start(&inner)?;
        moving::start(&inner)?;
        Ok(Self(inner))
    }

    /// Makes durable what waits, stops the threads, and lets go of the directory. Later calls say [`Error::Closed`].
    pub async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let closed = off_runtime(move || {
            inner.shut();
            Ok(())
        })
        .await;
        if let Err(error) = closed {
            tracing::error!(%error, "closing the store");
        }
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.0.recovery
    }

    /// Writes a whole object.
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Full`], or what the disk says; then nothing has changed.
    pub async fn put_bytes(&self, bucket: &str, key: &str, body: impl Into<Bytes> + Send) -> Result<ObjectInfo, Error> {
        let mut writer = self.body();
        writer.write(body.into()).await?;
        let sealed = writer.finish().await?;
        self.put_sealed(bucket, key, sealed, ObjectMeta::default(), Condition::Always).await
    }

    /// The bytes of a whole object. For objects that fit into memory.
    /// # Errors
    /// [`Error::NoSuchKey`]; [`Error::Corrupt`] if the bytes are not those that were written.
    pub async fn get_bytes(&self, bucket: &str, key: &str) -> Result<Bytes, Error> {
        self.object(bucket, key).await?.bytes(RangeRequest::Whole).await
    }

    /// Removes an object, or sets a delete marker where versions are kept. It is no error if there is none; the answer says
    /// whether an object was removed.
    /// # Errors
    /// [`Error::NoSuchBucket`], or a condition that does not hold.
    pub async fn delete(&self, bucket: &str, key: &str, condition: Condition) -> Result<bool, Error> {
        let request = DeleteRequest { condition, ..DeleteRequest::default() };
        Ok(self.delete_object(bucket, key, request).await?.existed)
    }

    /// Removes a version, or, if none is named, the object: a delete marker is set where versions are kept.
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Retained`], or a condition that does not hold. It is no error if there is nothing.
    pub async fn delete_object(&self, bucket: &str, key: &str, request: DeleteRequest) -> Result<Deleted, Error> {
        check_key(key)?;
        let DeleteRequest { version, condition, governance, owner } = request;
        let mutation = Mutation::Delete { path: Path::new(bucket, key), version, condition, governance, owner };
        let effects = self.0.commit(mutation, None).await?;
        Ok(effects.deleted.unwrap_or_default())
    }

    /// Changes what is said about a version: tags, access list, lock.
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::NoSuchVersion`], [`Error::DeleteMarker`], [`Error::Retained`].
    pub async fn annotate(
        &self,
        bucket: &str,
        key: &str,
        version: Version,
        change: Annotation,
        condition: Condition,
    ) -> Result<ObjectInfo, Error> {
        check_key(key)?;
        let mutation = Mutation::Annotate { path: Path::new(bucket, key), version, change, condition };
        let effects = self.0.commit(mutation, None).await?;
        let info = effects.object.ok_or_else(|| Error::Meta("a change without an object".to_owned()))?;
        self.0.classed((bucket, key), &info);
        Ok(info)
    }

    /// How each drive stands.
    pub fn drives(&self) -> Vec<DriveStatus> {
        let own = self.0.bodies.set().status();
        let tiers = self.0.bodies.tiers().drives(own.len());
        own.into_iter().chain(tiers).collect()
    }

    /// The last thousand damages that reads, scrubs and rebuilds found, oldest first.
    pub fn damages(&self) -> Vec<Damage> {
        self.0.bodies.damages()
    }

    /// What the tiers hold: the store's own drives first.
    pub fn tiers(&self) -> Vec<TierStats> {
        let inner = &self.0;
        let tiers = inner.bodies.tiers();
        if tiers.is_empty() {
            return Vec::new();
        }
        let all = inner.counters.snapshot();
        let mut own =
            BucketUsage { objects: all.objects, logical_bytes: all.logical_bytes, stored_bytes: all.stored_bytes };
        let mut list = Vec::new();
        for tier in tiers.all() {
            let held = inner.counters.tier(tier.number);
            own.objects = own.objects.saturating_sub(held.objects);
            own.logical_bytes = own.logical_bytes.saturating_sub(held.logical_bytes);
            own.stored_bytes = own.stored_bytes.saturating_sub(held.stored_bytes);
            let disk_bytes = tiers.meter(tier.number).map(Meter::used);
            list.push(TierStats { name: tier.name.clone(), class: tier.class.clone(), held, disk_bytes });
        }
        let used = Some(inner.reaper.meter().used());
        list.insert(0, TierStats { name: "own".to_owned(), class: "STANDARD".to_owned(), held: own, disk_bytes: used });
        list
    }

    /// Moves under way, objects whose heat is known, and bodies in other stores that are to be removed.
    pub fn moving(&self) -> (u64, u64, u64) {
        let doomed = if self.0.bodies.tiers().is_empty() { 0 } else { self.0.doomed() };
        (self.0.mover.under_way(), self.0.mover.heats.len(), doomed)
    }

    /// The storage class of an object as clients are told: what was asked for, else that of the tier where it lies.
    pub fn class_of(&self, info: &ObjectInfo) -> Option<String> {
        let tier = info.tier();
        let lies = || self.0.bodies.tiers().all().iter().find(|one| one.number == tier).map(|one| one.class.clone());
        info.meta.storage_class.clone().or_else(lies)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let (damages, repairs) = inner.bodies.counts();
        Stats {
            damages,
            patrolled_bytes: inner.patrolled.bytes.load(Ordering::Relaxed),
            patrolled_ms: inner.patrolled.finished_ms.load(Ordering::Relaxed),
            repairs,
            disk_bytes: inner.reaper.meter().used(),
            capacity_bytes: inner.reaper.meter().capacity(),
            cache_bytes: inner.cache.bytes(),
            cache_hits: inner.cache.hits(),
            cache_misses: inner.cache.misses(),
            index_damaged: inner.meta.damage().0,
            index_repaired: inner.meta.damage().1,
            tiers: self.tiers(),
            moved: inner.mover.moved(),
            ..inner.counters.snapshot()
        }
    }

    /// The counters in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.stats().prometheus()
    }
}
