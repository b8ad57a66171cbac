//! Datahall's object store: one node, one directory, S3 in front.
//!
//! Purpose: keep objects so that what was acknowledged survives a crash, and what is read is what was written.
//!
//! Invariant: an answer of success is given only after the object's bytes and its metadata row are durable, and every
//! byte that leaves the store was checked against a checksum that is bound to its address.
//!
//! Code map, from the disk upwards: [`disk`] is the seam to the operating system; `block` and `extent` are the format of
//! bodies; `index` holds the metadata; `mutation` says what a change does and `commit` makes many of them
//! durable at once; `recover` puts a directory in order when it is opened; `store`, `buckets`, `put`, `read`,
//! `multipart`, `listing`, `versions`, `identities` are what callers use; [`s3`] speaks HTTP.
//!
//! Cost of a durable PUT: one `fdatasync` of the body, and a share of one directory `fsync` and of redb's commit, which
//! all waiting writers split. A body of at most 4 KiB lives in its metadata row and has no file.
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
mod buckets;
mod cache;
mod commit;
mod config;
mod crypto;
mod digest;
pub mod disk;
mod error;
mod extent;
mod identities;
mod identity;
mod index;
mod listing;
mod multipart;
mod mutation;
pub mod operate;
mod put;
mod read;
mod reaper;
mod recover;
mod retention;
pub mod s3;
mod stats;
mod store;
mod version;
mod versions;

pub use buckets::{BucketInfo, BucketStart};
pub use config::{Compression, StoreConfig};
pub use crypto::{Cipher, KeyService};
pub use digest::{ChecksumKind, Checksums};
pub use error::Error;
pub use identities::{Expect, Identities, Identity};
pub use identity::{Accounts, GroupRow, NewAccount, PolicyRow, SessionRow, UserKey, UserRank, UserRow};
pub use index::rows::{Durability, Locking, MarkerInfo, ObjectHeaders, ObjectInfo, ObjectMeta, ObjectPart, Quota, Sse};
pub use listing::{ListEntry, ListPage, ListQuery, UploadPage, UploadQuery};
pub use multipart::{CompletePart, PartInfo, UploadInfo, UploadStart};
pub use mutation::{Annotation, Condition, Deleted, Documents};
pub use put::{BodyWriter, SealedBody};
pub use read::{ObjectReader, RangeRequest};
pub use recover::Recovery;
pub use retention::{Governance, LegalHold, ObjectLock, Retention, RetentionMode};
pub use s3::{S3Options, serve, serve_with};
pub use stats::{BucketUsage, Stats};
pub use store::{DeleteRequest, Store};
pub use version::{Version, VersionId, Versioning};
pub use versions::{VersionEntry, VersionPage, VersionQuery};
