//! What operators see and do: the state of the store and of its drives, scrubbing, healing. Also the types on the wire.
//!
//! This file is the seam between the front's `/-/` and the engine: the engine's own types are not on the wire.
//! Invariant: a step of a scrub is bounded by bytes, so a caller that goes away leaves nothing running for long.

use serde::{Deserialize, Serialize};

use crate::{Damage, DriveState, DriveStatus, Error, ScrubCursor, ScrubOptions, ScrubReport, Store};

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
    /// The tiers, the store's own drives first; none if there are no colder ones.
    #[serde(default)]
    pub tiers: Vec<TierReport>,
    /// Bodies that are being moved between tiers now.
    #[serde(default)]
    pub moving: u64,
    /// Bodies that moved since the start.
    #[serde(default)]
    pub moved: u64,
    /// Bytes of them.
    #[serde(default)]
    pub moved_bytes: u64,
    /// Moves that broke off, and are tried again.
    #[serde(default)]
    pub moves_failed: u64,
    /// Bodies in other stores that are to be removed there.
    #[serde(default)]
    pub to_remove: u64,
    /// Objects of which it is known how often they were read.
    #[serde(default)]
    pub heat_known: u64,
    /// Bytes that were read and checked without being asked for, since it was opened.
    #[serde(default)]
    pub patrolled_bytes: u64,
    /// When all bodies were checked last, in milliseconds of the Unix epoch; when the store was first opened if they never
    /// were, 0 if nobody does.
    #[serde(default)]
    pub patrolled_ms: u64,
}

/// What a tier holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierReport {
    /// Its name; `own` for the store's own drives.
    pub name: String,
    /// The storage class that means it.
    pub class: String,
    /// Objects, with all versions.
    pub objects: u64,
    /// Bytes of them as clients see them.
    pub logical_bytes: u64,
    /// Bytes of them before parity.
    pub stored_bytes: u64,
    /// Bytes on the tier's drives with parity, if it has drives.
    pub disk_bytes: Option<u64>,
}

impl From<crate::TierStats> for TierReport {
    fn from(tier: crate::TierStats) -> Self {
        let crate::BucketUsage { objects, logical_bytes, stored_bytes } = tier.held;
        let crate::TierStats { name, class, disk_bytes, .. } = tier;
        Self { name, class, objects, logical_bytes, stored_bytes, disk_bytes }
    }
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
    /// The file on it.
    pub file: String,
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
    /// Whether bodies in other stores are read too.
    pub remote: bool,
}

/// What a step of a scrub, or a healing, did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubOutcome {
    /// Bodies that were checked.
    pub bodies: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was found.
    pub damages: Vec<DamageReport>,
    /// Bodies in other stores that did not answer.
    #[serde(default)]
    pub away: u64,
    /// Where to go on; none if all was seen.
    pub cursor: Option<String>,
}

/// The prefixes of a cursor on the wire; what follows is the row's key or the segment's number, in hexadecimal.
const OBJECT: &str = "o";
const PART: &str = "p";
const SEGMENT: &str = "s";

pub(crate) fn read_cursor(text: &str) -> Result<ScrubCursor, Error> {
    let wrong = || Error::Invalid(format!("`{text}` is no cursor that a scrub gave"));
    let (table, place) = text.split_at_checked(1).ok_or_else(wrong)?;
    let key = || hex::decode(place).map_err(|_error| wrong());
    match table {
        OBJECT => Ok(ScrubCursor::Object(key()?)),
        PART => Ok(ScrubCursor::Part(key()?)),
        SEGMENT => u64::from_str_radix(place, 16).map(ScrubCursor::Segment).map_err(|_error| wrong()),
        _ => Err(wrong()),
    }
}

pub(crate) fn write_cursor(cursor: &ScrubCursor) -> String {
    match cursor {
        ScrubCursor::Object(key) => format!("{OBJECT}{}", hex::encode(key)),
        ScrubCursor::Part(key) => format!("{PART}{}", hex::encode(key)),
        ScrubCursor::Segment(id) => format!("{SEGMENT}{id:x}"),
    }
}

impl From<DriveStatus> for DriveReport {
    fn from(drive: DriveStatus) -> Self {
        let (state, why) = match drive.state {
            DriveState::Serving => ("serving", None),
            DriveState::Rebuilding => ("rebuilding", None),
            DriveState::Fenced(why) => ("fenced", Some(why)),
            DriveState::Missing(why) => ("missing", Some(why)),
            DriveState::Stale => ("stale", None),
        };
        Self { name: drive.name, index: drive.index, state: state.to_owned(), why, errors: drive.errors }
    }
}

impl From<Damage> for DamageReport {
    fn from(damage: Damage) -> Self {
        let Damage { drive, file, what, object, repaired, .. } = damage;
        Self { object, drive, file, what, repaired }
    }
}

impl From<ScrubReport> for ScrubOutcome {
    fn from(report: ScrubReport) -> Self {
        Self {
            bodies: report.bodies,
            bytes: report.bytes,
            damages: report.damages.into_iter().map(Into::into).collect(),
            away: report.away,
            cursor: report.cursor.as_ref().map(write_cursor),
        }
    }
}

impl Store {
    /// The drives that the store lies on.
    pub fn drive_reports(&self) -> Vec<DriveReport> {
        self.drives().into_iter().map(Into::into).collect()
    }

    /// Reads what the drives hold, checks every block and mends what can be mended, for a bounded number of bytes.
    /// # Errors
    /// [`Error::Invalid`] for a cursor of another make; if rows cannot be read. Damage is no error.
    pub async fn scrub_step(&self, step: ScrubStep) -> Result<ScrubOutcome, Error> {
        let from = step.cursor.as_deref().map(read_cursor).transpose()?;
        let ScrubStep { bytes_max, bytes_per_second, remote, .. } = step;
        let options = ScrubOptions { bytes_per_second, bytes_max: Some(bytes_max), from, remote };
        Ok(self.scrub(options).await?.into())
    }

    /// Fills the drive at place `index` from the others, while all is served. What was missing on it is no damage.
    /// # Errors
    /// [`Error::Invalid`] if there is nothing to fill it from; [`Error::Drives`] if that did not come to its end.
    pub async fn heal(&self, index: usize) -> Result<ScrubOutcome, Error> {
        let drives = self.drives();
        if drives.len() < 2 {
            let why = format!("the store lies in one directory: there is nothing to heal drive {index} from");
            return Err(Error::Invalid(why));
        }
        match drives.get(index) {
            None => return Err(Error::Invalid(format!("there is no drive {index}, only 0 to {}", drives.len() - 1))),
            Some(drive) if drive.state == DriveState::Serving => {
                return Err(Error::Invalid(format!("drive {index} ({}) serves: nothing is missing on it", drive.name)));
            }
            Some(_) => {}
        }
        let mut done: ScrubOutcome = self.replace_drive(index).await?.into();
        done.damages.retain(|damage| !damage.repaired);
        Ok(done)
    }

    /// How the store is; `uptime_seconds` is the front's.
    pub fn status(&self, uptime_seconds: u64) -> StoreStatus {
        let stats = self.stats();
        let (moving, heat_known, to_remove) = self.moving();
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
            tiers: stats.tiers.into_iter().map(Into::into).collect(),
            moving,
            moved: stats.moved.bodies,
            moved_bytes: stats.moved.bytes,
            moves_failed: stats.moved.failed,
            to_remove,
            heat_known,
            patrolled_bytes: stats.patrolled_bytes,
            patrolled_ms: stats.patrolled_ms,
        }
    }
}
