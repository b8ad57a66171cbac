//! What a store is told when it is opened, and the sizes that are part of its format.

use std::path::PathBuf;
use std::sync::Arc;

use crate::RemoteObjects;
use crate::index::rows::Durability;

/// Logical bytes of a block: the unit of compression, of checksums and of the cache. Part of the format.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

/// A body of at most this many bytes lives in its metadata row: a file and its sync would cost more than the bytes.
pub(crate) const INLINE_BYTES_MAX: usize = 4 << 10;

/// A body of at most this many bytes is packed with others into a segment; a larger one gets files of its own.
pub(crate) const PACKED_BYTES_MAX: usize = 1 << 20;

/// Bytes of a segment: large enough that its files are few, small enough to be coded and moved in a second.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 20;

/// The smallest part of a multipart upload except the last; S3's own limit.
pub(crate) const PART_BYTES_MIN: u64 = 5 << 20;

/// The largest object; S3's own limit (10,000 parts of at most 5 GiB, 5 TiB in all).
pub(crate) const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Free space of the file system that bodies may not use, so that metadata commits and deletes still work when the
/// disk is full. On small file systems a sixteenth of the whole, if that is less.
pub(crate) const RESERVE_BYTES: u64 = 32 << 20;

/// Memory for redb's page cache. Interior pages of ten million small rows fit.
pub(crate) const META_CACHE_BYTES: usize = 32 << 20;

/// Bytes of the log after which the database takes it over; bounds what a start repeats to about a second.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// The age of a log that is not empty after which the database takes it over, in milliseconds.
pub(crate) const CHECKPOINT_MS: u64 = 30_000;

/// Open extent files kept with their block index. Well below the usual limit of 1,024 descriptors.
pub(crate) const OPEN_EXTENTS_MAX: usize = 128;

/// Changes that may wait for the committer. Beyond it callers are told to come back.
pub(crate) const COMMIT_QUEUE_MAX: usize = 8_192;

/// Changes of one commit: bounds the time that the first of a batch waits for the last.
pub(crate) const COMMIT_BATCH_MAX: usize = 1_024;

/// Headers, tags, access list and key of one object together. Metadata of clients ends at 2 KiB, tags at 10 of 384
/// characters, an access list of 100 grants at some 20 KiB.
pub(crate) const OBJECT_META_BYTES_MAX: usize = 64 << 10;

/// A document of a bucket: 1,000 rules of a lifecycle as XML fit.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// Documents of one bucket: S3 knows about twenty kinds.
pub(crate) const DOCUMENTS_MAX: usize = 64;

/// An entry of the identities' table.
pub(crate) const IDENTITY_BYTES_MAX: usize = 256 << 10;

/// How long a change of a bucket of the class `group` may wait for others to share its sync, in milliseconds. A sync of a
/// good drive takes about one.
pub(crate) const GROUP_WINDOW_MS: u64 = 2;

/// How long what a bucket of the class `cache` took in may be in memory only, in milliseconds.
pub(crate) const CACHE_FLUSH_MS: u64 = 1_000;

/// How bodies are compressed. Each block for itself, and only if it gets at least a sixteenth smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// lz4 where objects are written and read often, zstd where they move to a colder tier.
    #[default]
    Auto,
    /// lz4: a fifth of zstd's time to read, a third more bytes.
    Lz4,
    /// zstd.
    Zstd,
    /// Never.
    Off,
}

/// How bodies are spread over drives: any `data` of `data + parity` shards give them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// Shards that hold the bytes.
    pub data: u8,
    /// Shards that may be lost.
    pub parity: u8,
}

impl Code {
    /// One copy, no parity.
    pub const SINGLE: Self = Self { data: 1, parity: 0 };

    /// Shards in all.
    pub const fn total(self) -> usize {
        self.data as usize + self.parity as usize
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

/// A drive of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveConfig {
    /// Its directory: the mount point of a file system of its own.
    pub dir: PathBuf,
}

/// What a tier lies on.
#[derive(Debug, Clone)]
pub enum TierGround {
    /// Drives of this machine.
    Drives {
        /// Which.
        drives: Vec<DriveConfig>,
        /// How bodies are spread over them.
        code: Code,
        /// The most bytes that they may take.
        capacity_bytes: Option<u64>,
    },
    /// Another store.
    Remote(Arc<dyn RemoteObjects>),
}

/// A colder tier.
#[derive(Debug, Clone)]
pub struct TierConfig {
    /// Its name, by which it is known for ever.
    pub name: String,
    /// The storage class that means it.
    pub class: String,
    /// What it lies on.
    pub ground: TierGround,
    /// Objects not read for so many milliseconds move here; `None` if only their class brings them.
    pub after_ms: Option<u64>,
    /// How objects that move here are compressed anew; `None` to keep them as they are. Encrypted ones are never.
    pub compression: Option<Compression>,
}

/// When objects move between tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiering {
    /// The time in which heat halves, in milliseconds.
    pub half_life_ms: u64,
    /// Reads within a half-life that bring an object back.
    pub promote_at: u32,
    /// Objects of fewer bytes do not move by themselves.
    pub bytes_min: u64,
    /// Thousandths of the capacity above which the coldest objects move.
    pub high_milli: u16,
    /// Thousandths of the capacity below which that ends.
    pub low_milli: u16,
    /// Milliseconds between two looks at all objects; at least twenty times what a look takes.
    pub every_ms: u64,
    /// The most bytes of bodies that move in a second, in all directions together; `None` for as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// When all bodies are read and checked without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patrol {
    /// Milliseconds from the end of one to the beginning of the next.
    pub every_ms: u64,
    /// The most bytes read in a second.
    pub bytes_per_second: u64,
}

impl Default for Patrol {
    fn default() -> Self {
        Self { every_ms: 7 * 86_400_000, bytes_per_second: 32 << 20 }
    }
}

impl Default for Tiering {
    fn default() -> Self {
        Self {
            half_life_ms: 86_400_000,
            promote_at: 3,
            bytes_min: 128 << 10,
            high_milli: 900,
            low_milli: 800,
            every_ms: 60_000,
            bytes_per_second: None,
        }
    }
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory; made if it does not exist. One process may have it open.
    pub dir: PathBuf,
    /// The drives that bodies lie on; none for `dir` itself as the only one.
    pub drives: Vec<DriveConfig>,
    /// How bodies are spread over the drives.
    pub code: Code,
    /// The size at which a segment of small bodies is closed and a new one begun.
    pub segment_bytes: u64,
    /// Memory for decompressed blocks, in bytes; zero for none.
    pub cache_bytes: u64,
    /// The most bytes that bodies may take on the disk; `None` for as much as the file system has.
    pub capacity_bytes: Option<u64>,
    /// How bodies are compressed.
    pub compression: Compression,
    /// What an answer of success promises in buckets whose maker says nothing.
    pub durability: Durability,
    /// Colder tiers, the coldest last.
    pub tiers: Vec<TierConfig>,
    /// When objects move between them.
    pub tiering: Tiering,
    /// When all bodies are read and checked; `None` for only when asked for.
    pub patrol: Option<Patrol>,
    /// Bytes of the log after which the database takes it over; bounds what a start repeats.
    pub checkpoint_bytes: u64,
}

impl StoreConfig {
    /// A store at `dir` with a 256 MiB cache, no limit but the disk, compression on.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            drives: Vec::new(),
            code: Code::SINGLE,
            segment_bytes: SEGMENT_BYTES,
            cache_bytes: 256 << 20,
            capacity_bytes: None,
            compression: Compression::Auto,
            durability: Durability::Sync,
            tiers: Vec::new(),
            tiering: Tiering::default(),
            patrol: None,
            checkpoint_bytes: CHECKPOINT_BYTES,
        }
    }
}
