//! The handle: opening and closing, buckets, whole objects, statistics.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dh_core::limits::KEY_BYTES_MAX;

use crate::body::packed::Segments;
use crate::body::{Bodies, Damage};
use crate::cache::BlockCache;
use crate::commit::{CommitParts, Committer};
use crate::disk::{Disk, RealDisk};
use crate::drive::{DriveSet, DriveStatus};
use crate::meta::{BUCKETS, Meta, Next};
use crate::mutation::{Effects, Mutation};
use crate::reaper::{ExtentGuard, Meter, Reaper};
use crate::rows::{BucketRow, decode};
use crate::stats::Counters;
use crate::{Condition, Error, ObjectHeaders, ObjectInfo, RangeRequest, Recovery, Stats, StoreConfig, recover, upkeep};

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
}

/// An open store. Clones are handles of the same one.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.config.dir).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) committer: Committer,
    pub(crate) cache: BlockCache,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counters: Arc<Counters>,
    recovery: Recovery,
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
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
        self.reaper.close();
        self.bodies.close();
        self.meta.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
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
        let set = DriveSet::open(disk, &config)?;
        let (meta, first_extent) = Meta::open(disk, &dir)?;
        let meta = Arc::new(meta);
        let found = recover::recover(&set, &meta, first_extent)?;
        tracing::info!(dir = %dir.display(), recovery = ?found.report, "the store is open");
        let counters = Arc::new(Counters::new(found.usage));
        let meter = Meter::new(Arc::clone(&set), config.capacity_bytes, found.used);
        let segments = Arc::new(Segments::new(Arc::clone(&set), config.segment_bytes, found.segments));
        let reaper = Reaper::start(Arc::clone(&set), Arc::clone(&segments), meter)?;
        let bodies = Arc::new(Bodies::new(segments, set, first_extent));
        let committer = Committer::start(CommitParts {
            bodies: Arc::clone(&bodies),
            meta: Arc::clone(&meta),
            reaper: Arc::clone(&reaper),
            counters: Arc::clone(&counters),
        })?;
        let inner = Arc::new(Inner {
            cache: BlockCache::new(config.cache_bytes),
            config,
            bodies,
            meta,
            committer,
            reaper,
            counters,
            recovery: found.report,
            lock: Mutex::new(Some(lock)),
        });
        upkeep::start(&inner)?;
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

    /// Makes a bucket.
    /// # Errors
    /// [`Error::BucketExists`], or [`Error::Invalid`] if S3 does not allow the name.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        if !s3s::path::check_bucket_name(bucket) {
            return Err(Error::Invalid(format!(
                "`{bucket}` is no bucket name: 3 to 63 small letters, digits, dots and hyphens"
            )));
        }
        let mutation = Mutation::CreateBucket { bucket: bucket.to_owned(), now_ms: now_ms() };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    /// Removes an empty bucket, and the multipart uploads in it.
    /// # Errors
    /// [`Error::BucketNotEmpty`], [`Error::NoSuchBucket`].
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), Error> {
        let mutation = Mutation::DeleteBucket { bucket: bucket.to_owned() };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    /// The bucket.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket(&self, bucket: &str) -> Result<BucketInfo, Error> {
        let (meta, name) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || {
            let value = Meta::get(&meta.read()?, BUCKETS, name.as_bytes())?;
            let value = value.ok_or_else(|| Error::NoSuchBucket(name.clone()))?;
            let (row, _inline) = decode::<BucketRow>(name.as_bytes(), &value)?;
            Ok(BucketInfo { name, created_ms: row.created_ms })
        })
        .await
    }

    /// All buckets, by name.
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn buckets(&self) -> Result<Vec<BucketInfo>, Error> {
        let meta = Arc::clone(&self.0.meta);
        off_runtime(move || {
            let mut buckets = Vec::new();
            Meta::scan(&meta.read()?, BUCKETS, Vec::new(), &[0xff], |key, value| {
                let (row, _inline) = decode::<BucketRow>(key, value)?;
                let name = String::from_utf8_lossy(key).into_owned();
                buckets.push(BucketInfo { name, created_ms: row.created_ms });
                Ok(Next::Row)
            })?;
            Ok(buckets)
        })
        .await
    }

    /// Writes a whole object.
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Full`], or what the disk says; then nothing has changed.
    pub async fn put_bytes(&self, bucket: &str, key: &str, body: impl Into<Bytes> + Send) -> Result<ObjectInfo, Error> {
        let mut writer = self.body();
        writer.write(body.into()).await?;
        let sealed = writer.finish().await?;
        self.put_sealed(bucket, key, sealed, ObjectHeaders::default(), Condition::Always).await
    }

    /// The bytes of a whole object. For objects that fit into memory.
    /// # Errors
    /// [`Error::NoSuchKey`]; [`Error::Corrupt`] if the bytes are not those that were written.
    pub async fn get_bytes(&self, bucket: &str, key: &str) -> Result<Bytes, Error> {
        self.object(bucket, key).await?.bytes(RangeRequest::Whole).await
    }

    /// Removes an object. It is no error if there is none; the answer says whether there was one.
    /// # Errors
    /// [`Error::NoSuchBucket`], or a condition that does not hold.
    pub async fn delete(&self, bucket: &str, key: &str, condition: Condition) -> Result<bool, Error> {
        check_key(key)?;
        let mutation = Mutation::Delete { bucket: bucket.to_owned(), key: key.to_owned(), condition };
        let effects = self.0.commit(mutation, None).await?;
        Ok(effects.usage.is_some_and(|(_bucket, change)| change.removed.is_some()))
    }

    /// How each drive stands.
    pub fn drives(&self) -> Vec<DriveStatus> {
        self.0.bodies.set().status()
    }

    /// The last thousand damages that reads, scrubs and rebuilds found, oldest first.
    pub fn damages(&self) -> Vec<Damage> {
        self.0.bodies.damages()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let inner = &self.0;
        let (damages, repairs) = inner.bodies.counts();
        Stats {
            damages,
            repairs,
            disk_bytes: inner.reaper.meter().used(),
            capacity_bytes: inner.reaper.meter().capacity(),
            cache_bytes: inner.cache.bytes(),
            cache_hits: inner.cache.hits(),
            cache_misses: inner.cache.misses(),
            ..inner.counters.snapshot()
        }
    }

    /// The counters in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.stats().prometheus()
    }
}
