//! Datahall's object store: one node, one directory or several drives, S3 in front.
//!
//! Purpose: keep objects so that what was acknowledged survives a crash, and what is read is what was written.
//!
//! Invariant: an answer of success is given only after the object's bytes and its metadata row are durable, and every
//! byte that leaves the store was checked against a checksum that is bound to its address.
//!
//! Code map, from the disk upwards: [`disk`] is the seam to the operating system; `drive` is one drive and the set of them,
//! with superblocks; `body` spreads bodies over the set: `code` is the erasure code, `shape`, `stripe` and `striped` are
//! striped files, `packed` the segments of small bodies; `block` and `extent` are the format of bodies; `upkeep` scrubs,
//! rebuilds, codes closed segments and compacts; `index` holds the metadata, on `m + 1` of the drives; `mutation` says what
//! a change does and `commit` makes many of them durable at once; `recover` puts a directory in order when it is opened;
//! `store`, `buckets`, `put`, `read`, `multipart`, `listing`, `versions`, `identities` are what callers use; [`s3`] speaks
//! HTTP.
//!
//! Cost of a durable PUT: a share of one `fdatasync` per copy of the open segment and of redb's commit, which all waiting
//! writers split; of a body beyond 1 MiB, one `fdatasync` of its own per drive, all at the same time. A body of at most
//! 4 KiB lives in its metadata row.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

mod block;
mod body;
mod buckets;
mod cache;
mod commit;
mod config;
mod crypto;
mod digest;
pub mod disk;
mod drive;
mod error;
mod extent;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod heat;
mod identities;
mod identity;
mod index;
mod lifecycle;
mod listing;
mod moving;
mod multipart;
mod mutation;
mod notes;
pub mod operate;
mod pace;
mod patrol;
mod put;
mod read;
mod reaper;
mod recover;
pub mod remote;
mod retention;
pub mod s3;
mod stats;
mod store;
mod tier;
mod upkeep;
mod version;
mod versions;

pub use body::striped::Damage;
pub use buckets::{BucketInfo, BucketStart};
pub use config::{Code, Compression, DriveConfig, Patrol, StoreConfig, TierConfig, TierGround, Tiering};
pub use crypto::{Cipher, KeyService};
pub use digest::{ChecksumKind, Checksums};
pub use drive::{DriveState, DriveStatus};
pub use error::Error;
pub use identities::{Expect, Identities, Identity};
pub use identity::{Accounts, GroupRow, NewAccount, PolicyRow, SessionRow, UserKey, UserRank, UserRow};
pub use index::rows::{Durability, Locking, MarkerInfo, ObjectHeaders, ObjectInfo, ObjectMeta, ObjectPart, Quota, Sse};
pub use lifecycle::{Calendar, DAY_MS, Expiry, Markers, Noncurrent, Rule, Swept, Transition};
pub use listing::{ListEntry, ListPage, ListQuery, UploadPage, UploadQuery};
pub use moving::Moved;
pub use multipart::{CompletePart, PartInfo, UploadInfo, UploadStart};
pub use mutation::{Annotation, Condition, Deleted, Documents};
pub use put::{BodyWriter, SealedBody};
pub use read::{ObjectReader, RangeRequest};
pub use recover::Recovery;
pub use remote::{RemoteError, RemoteObjects};
pub use retention::{Governance, LegalHold, ObjectLock, Retention, RetentionMode};
pub use s3::{DefaultEncryption, S3Options, Strangers, serve, serve_with};
pub use stats::{BucketUsage, Stats, TierStats};
pub use store::{DeleteRequest, Store};
pub use upkeep::{Reclaimed, ScrubCursor, ScrubOptions, ScrubReport};
pub use version::{Version, VersionId, Versioning};
pub use versions::{VersionEntry, VersionPage, VersionQuery};
