//! What can go wrong in the store. Cheap to clone, because one failed commit is told to a whole batch.

use std::io;
use std::sync::Arc;

use dh_core::{HasKind, Kind};

use crate::version::{Version, VersionId};

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No bucket has this name.
    #[error("no bucket is named `{0}`")]
    NoSuchBucket(String),
    /// No object has this key.
    #[error("bucket `{bucket}` has no object `{key}`")]
    NoSuchKey {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// The object has no version of this name.
    #[error("object `{key}` has no version `{version}`")]
    NoSuchVersion {
        /// The key.
        key: String,
        /// The version.
        version: VersionId,
    },
    /// There is no object but a delete marker.
    #[error("object `{key}` was deleted; version `{version}` is a delete marker")]
    DeleteMarker {
        /// The key.
        key: String,
        /// The marker's version.
        version: VersionId,
        /// Which version was asked for: the newest, or the marker itself.
        asked: Version,
    },
    /// The version may not be removed, or its retention not be shortened.
    #[error("object `{key}` is kept by {why}")]
    Retained {
        /// The key.
        key: String,
        /// What keeps it.
        why: &'static str,
    },
    /// The bucket's quota is used up.
    #[error("over the quota: {0}")]
    Quota(String),
    /// No multipart upload has this id.
    #[error("no multipart upload has the id `{0}`")]
    NoSuchUpload(String),
    /// The bucket exists already.
    #[error("bucket `{0}` exists already")]
    BucketExists(String),
    /// The bucket still holds objects.
    #[error("bucket `{0}` is not empty")]
    BucketNotEmpty(String),
    /// A condition of the request does not hold.
    #[error("the condition `{0}` does not hold")]
    Precondition(&'static str),
    /// A part that the completion names does not exist or has another `ETag`.
    #[error("part {0} was not uploaded, or its ETag or checksum differs")]
    InvalidPart(u32),
    /// The parts of a completion are not in ascending order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// A part that is not the last is too small.
    #[error("part {part} has {size} bytes; every part but the last needs at least 5 MiB")]
    PartTooSmall {
        /// The part.
        part: u32,
        /// Its size.
        size: u64,
    },
    /// The bytes that arrived are not those that the caller's digest names.
    #[error("the body's {0} is not the one that was announced")]
    BadDigest(&'static str),
    /// The range lies outside of the object.
    #[error("the range lies outside of the object's {0} bytes")]
    InvalidRange(u64),
    /// The caller's input is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Larger than the limit.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// The body ended early, stalled, or broke off.
    #[error("the body broke off: {0}")]
    BodyBroken(String),
    /// Bytes on the disk are not those that were written.
    #[error("corrupt: {what} in {file}")]
    Corrupt {
        /// What was found to be wrong.
        what: String,
        /// The file.
        file: String,
    },
    /// No space left, on the disk or under the configured capacity.
    #[error("no space left: {0}")]
    Full(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The metadata database refused; the change was not made durable.
    #[error("metadata: {0}")]
    Meta(String),
    /// A sync of the metadata failed earlier, so nothing more is acknowledged until the store is opened again.
    #[error("the store takes no more changes: {0}")]
    Sealed(String),
    /// Another process has the directory open.
    #[error("the directory {0} is in use by another process")]
    Locked(String),
    /// Drives are foreign, swapped, stale or missing, and the rest cannot serve.
    #[error("drives: {0}")]
    Drives(String),
    /// The tier that holds the object cannot be reached.
    #[error("tier {0}")]
    Away(String),
    /// Too many changes wait already.
    #[error("too many changes are waiting")]
    Busy,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// An operating system's error, told apart into full and the rest.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
        if full.contains(&source.kind()) {
            Self::Full(format!("{what}: {source}"))
        } else {
            Self::Io { what, source: Arc::new(source) }
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>, file: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), file: file.into() }
    }

    pub(crate) fn no_key(bucket: &str, key: &str) -> Self {
        Self::NoSuchKey { bucket: bucket.to_owned(), key: key.to_owned() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoSuchBucket(_)
            | Self::NoSuchKey { .. }
            | Self::NoSuchVersion { .. }
            | Self::DeleteMarker { .. }
            | Self::NoSuchUpload(_) => Kind::NotFound,
            Self::Retained { .. } => Kind::Forbidden,
            Self::BucketExists(_) | Self::BucketNotEmpty(_) | Self::Precondition(_) | Self::Locked(_) => Kind::Conflict,
            Self::InvalidPart(_)
            | Self::InvalidPartOrder
            | Self::PartTooSmall { .. }
            | Self::BadDigest(_)
            | Self::InvalidRange(_)
            | Self::Invalid(_)
            | Self::BodyBroken(_) => Kind::Invalid,
            Self::TooLarge(_) => Kind::TooLarge,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::Full(_) | Self::Quota(_) => Kind::Full,
            Self::Io { .. } | Self::Meta(_) | Self::Sealed(_) => Kind::Internal,
            Self::Drives(_) | Self::Away(_) => Kind::Unreachable,
            Self::Busy => Kind::Busy,
            Self::Closed => Kind::Interrupted,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Locked(_) => Some("stop the other server, or give this one its own directory".to_owned()),
            Self::Full(_) => Some("delete objects, or raise the store's capacity".to_owned()),
            Self::Sealed(_) => Some("check the disk, then restart: what was acknowledged is recovered".to_owned()),
            Self::Drives(_) => Some("check mounts and cables; replace a drive that is gone".to_owned()),
            Self::Corrupt { .. } => {
                Some("restore the object from a copy; the rest of the store is unaffected".to_owned())
            }
            Self::NoSuchBucket(_)
            | Self::NoSuchKey { .. }
            | Self::NoSuchVersion { .. }
            | Self::DeleteMarker { .. }
            | Self::Retained { .. }
            | Self::Quota(_)
            | Self::NoSuchUpload(_)
            | Self::BucketExists(_)
            | Self::BucketNotEmpty(_)
            | Self::Precondition(_)
            | Self::InvalidPart(_)
            | Self::InvalidPartOrder
            | Self::PartTooSmall { .. }
            | Self::BadDigest(_)
            | Self::InvalidRange(_)
            | Self::Invalid(_)
            | Self::TooLarge(_)
            | Self::BodyBroken(_)
            | Self::Io { .. }
            | Self::Meta(_)
            | Self::Busy
            | Self::Away(_)
            | Self::Closed => None,
        }
    }
}
