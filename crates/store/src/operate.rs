//! What operators see and do: the state of the store and of its drives, scrubbing, healing. Also the types on the wire.
//!
//! This file is the seam between the front's `/-/` and whatever lies below: only here is the engine asked. The store that
//! is open lies in one directory, so it is one drive, and there is nothing to heal it from.
//! Invariant: a step of a scrub is bounded by bytes, so a caller that goes away leaves nothing running for long.

use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use crate::versions::{VersionEntry, VersionQuery};
use crate::{Error, Store, Version, VersionId};

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The version of the program that serves it.
    pub version: String,
    /// Since when the front serves.
    pub uptime_seconds: u64,
    /// Buckets.
    pub buckets: u64,
    /// Objects, with all versions.
    pub objects: u64,
    /// Bytes of objects as clients see them.
    pub logical_bytes: u64,
    /// Bytes of objects on the drives.
    pub stored_bytes: u64,
    /// Bytes of all files of bodies.
    pub disk_bytes: u64,
    /// The most that may be stored, if there is a bound.
    pub capacity_bytes: Option<u64>,
    /// Blocks that were found in memory since the start.
    pub cache_hits: u64,
    /// Blocks that were not.
    pub cache_misses: u64,
    /// Body bytes taken in since the start.
    pub bytes_in: u64,
    /// Body bytes given out since the start.
    pub bytes_out: u64,
    /// Reads that found bytes other than those written, since the start.
    pub corrupt_reads: u64,
    /// S3 requests since the start.
    pub requests: u64,
    /// The drives.
    pub drives: Vec<DriveReport>,
}

/// How a drive is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveReport {
    /// Its directory: its name in every report.
    pub name: String,
    /// Its place in the set.
    pub index: usize,
    /// `serving`, `rebuilding`, `fenced`, `missing` or `stale`.
    pub state: String,
    /// Why, if it does not serve.
    pub why: Option<String>,
    /// Reads and writes that the operating system refused since the store was opened.
    pub errors: u64,
}

/// Bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamageReport {
    /// The object, `bucket/key`, if it is known.
    pub object: Option<String>,
    /// The drive.
    pub drive: String,
    /// What was found.
    pub what: String,
    /// Whether the drive holds the right bytes again.
    pub repaired: bool,
}

/// A step of a scrub, to be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubStep {
    /// Bytes after which to stop.
    pub bytes_max: u64,
    /// The most bytes read per second; none for as fast as the drives are.
    pub bytes_per_second: Option<u64>,
    /// Where the step before stopped; none for the beginning.
    pub cursor: Option<String>,
}

/// What a step of a scrub, or a healing, did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubOutcome {
    /// Bodies that were checked.
    pub bodies: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bodies whose bytes nobody can check without their key.
    pub passed_over: u64,
    /// What was found.
    pub damages: Vec<DamageReport>,
    /// Where to go on; none if all was seen.
    pub cursor: Option<String>,
}

/// The place behind the last version that a step looked at.
#[derive(Serialize, Deserialize)]
struct Cursor {
    bucket: String,
    key: String,
    version: Option<String>,
}

impl Cursor {
    fn read(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Invalid("the cursor is none that a scrub gave".to_owned());
        let bytes = hex::decode(text).map_err(|_error| wrong())?;
        serde_json::from_slice(&bytes).map_err(|_error| wrong())
    }

    fn write(bucket: &str, key: &str, version: Option<VersionId>) -> Option<String> {
        let cursor = Self { bucket: bucket.to_owned(), key: key.to_owned(), version: version.map(|id| id.to_string()) };
        serde_json::to_vec(&cursor).ok().map(hex::encode)
    }
}

/// Versions of one page of a scrub.
const PAGE: usize = 256;

impl Store {
    /// The drives that the store lies on.
    pub fn drive_reports(&self) -> Vec<DriveReport> {
        vec![DriveReport {
            name: self.0.config.dir.display().to_string(),
            index: 0,
            state: "serving".to_owned(),
            why: None,
            errors: 0,
        }]
    }

    /// Reads objects from the drives and checks every block, for a bounded number of bytes.
    /// # Errors
    /// [`Error::Invalid`] for a cursor of another make; if rows cannot be read. Damage is no error.
    pub async fn scrub_step(&self, step: ScrubStep) -> Result<ScrubOutcome, Error> {
        let start = tokio::time::Instant::now();
        let from = step.cursor.as_deref().map(Cursor::read).transpose()?;
        let mut outcome = ScrubOutcome::default();
        let first = from.as_ref().map(|cursor| cursor.bucket.clone()).unwrap_or_default();
        for bucket in self.buckets().await?.into_iter().filter(|bucket| bucket.name >= first) {
            let mut after = from
                .as_ref()
                .filter(|cursor| cursor.bucket == bucket.name)
                .map(|cursor| (cursor.key.clone(), cursor.version.as_deref().and_then(VersionId::parse)));
            loop {
                let query = VersionQuery { after, limit: PAGE, ..VersionQuery::default() };
                let page = match self.list_versions(&bucket.name, query).await {
                    // It was removed meanwhile.
                    Err(Error::NoSuchBucket(_)) => break,
                    other => other?,
                };
                for entry in &page.entries {
                    let VersionEntry::Object { key, info, .. } = entry else { continue };
                    self.check(&bucket.name, key, info.version, &mut outcome).await?;
                    if outcome.bytes >= step.bytes_max {
                        outcome.cursor = Cursor::write(&bucket.name, key, Some(info.version));
                        return Ok(outcome);
                    }
                    if let Some(rate) = step.bytes_per_second.filter(|rate| *rate > 0) {
                        let due = std::time::Duration::from_millis(outcome.bytes.saturating_mul(1_000) / rate);
                        tokio::time::sleep_until(start + due).await;
                    }
                }
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(outcome)
    }

    async fn check(
        &self,
        bucket: &str,
        key: &str,
        version: VersionId,
        outcome: &mut ScrubOutcome,
    ) -> Result<(), Error> {
        let reader = match self.object_version(bucket, key, Version::Id(version)).await {
            Ok(reader) => reader,
            Err(Error::NoSuchKey { .. } | Error::NoSuchVersion { .. } | Error::NoSuchBucket(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        if reader.info().meta.sse.is_some() {
            outcome.passed_over += 1;
            return Ok(());
        }
        outcome.bodies += 1;
        let size = reader.info().size;
        let mut pieces = std::pin::pin!(reader.stream(0..size));
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(bytes) => outcome.bytes += bytes.len() as u64,
                Err(error) => outcome.damages.push(DamageReport {
                    object: Some(format!("{bucket}/{key}")),
                    drive: self.0.config.dir.display().to_string(),
                    what: error.to_string(),
                    repaired: false,
                }),
            }
        }
        Ok(())
    }

    /// Fills the drive at place `index` from the others, while all is served.
    /// # Errors
    /// [`Error::Invalid`] if there is nothing to fill it from.
    #[expect(clippy::unused_async, reason = "with several drives it takes hours")]
    pub async fn heal(&self, index: usize) -> Result<ScrubOutcome, Error> {
        Err(Error::Invalid(format!("the store lies in one directory: there is nothing to heal drive {index} from")))
    }

    /// How the store is; `uptime_seconds` is the front's.
    pub fn status(&self, uptime_seconds: u64) -> StoreStatus {
        let stats = self.stats();
        StoreStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds,
            buckets: stats.buckets,
            objects: stats.objects,
            logical_bytes: stats.logical_bytes,
            stored_bytes: stats.stored_bytes,
            disk_bytes: stats.disk_bytes,
            capacity_bytes: stats.capacity_bytes,
            cache_hits: stats.cache_hits,
            cache_misses: stats.cache_misses,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            corrupt_reads: stats.corrupt_reads,
            requests: stats.requests.values().sum(),
            drives: self.drive_reports(),
        }
    }
}
