//! What the rows of the index say.

use std::collections::BTreeMap;

use crate::Error;
use crate::config::OBJECT_META_BYTES_MAX;
use crate::digest::{ChecksumKind, Checksums};
use crate::extent::ExtentRef;
use crate::retention::ObjectLock;
use crate::version::{VersionId, Versioning};

/// What a client may say about an object and gets back with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectHeaders {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Expires`, in milliseconds of the Unix epoch.
    pub expires_ms: Option<u64>,
    /// `x-amz-meta-*`.
    pub user: BTreeMap<String, String>,
}

/// What is said about an object when it is written, and may be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta {
    /// The client's headers.
    pub headers: ObjectHeaders,
    /// The id of the user who owns it.
    pub owner: Option<String>,
    /// Tags in the order they were given.
    pub tags: Vec<(String, String)>,
    /// The access control list, in the front's own form; `None` for the private one.
    pub acl: Option<Vec<u8>>,
    /// What keeps it from being removed.
    pub lock: ObjectLock,
    /// How it is encrypted, if it is.
    pub sse: Option<Sse>,
    /// The storage class, if another than the standard one.
    pub storage_class: Option<String>,
}

impl From<ObjectHeaders> for ObjectMeta {
    fn from(headers: ObjectHeaders) -> Self {
        Self { headers, ..Self::default() }
    }
}

impl ObjectMeta {
    /// Bytes of what clients chose freely and the store only keeps.
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let ObjectHeaders {
            content_type,
            cache_control,
            content_disposition,
            content_encoding,
            content_language,
            expires_ms: _,
            user,
        } = &self.headers;
        [content_type, cache_control, content_disposition, content_encoding, content_language, &self.owner]
            .into_iter()
            .chain([&self.storage_class])
            .map(text)
            .sum::<usize>()
            + user.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.tags.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.acl.as_ref().map_or(0, Vec::len)
            + self.sse.as_ref().map_or(0, Sse::bytes)
    }

    /// Refuses what is too large for a row.
    /// # Errors
    /// [`Error::TooLarge`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.bytes() > OBJECT_META_BYTES_MAX {
            return Err(Error::TooLarge(OBJECT_META_BYTES_MAX as u64));
        }
        Ok(())
    }
}

/// How an object is encrypted. The store keeps it and never looks inside; no field is a key in the clear.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sse {
    /// `AES256`, `aws:kms`, `aws:kms:dsse`, or `SSE-C`.
    pub scheme: String,
    /// The name of the key that wraps the object's key.
    pub key_id: Option<String>,
    /// For a client's own key, the base64 MD5 of it.
    pub key_md5: Option<String>,
    /// The encryption context as the client sent it.
    pub context: Option<String>,
    /// The object's key, wrapped.
    pub wrapped: Vec<u8>,
}

impl Sse {
    fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.scheme.len() + text(&self.key_id) + text(&self.key_md5) + text(&self.context) + self.wrapped.len()
    }
}

/// Whether the versions of a bucket may be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locking {
    /// They may not.
    #[default]
    Off,
    /// They may; the bucket keeps versions for good.
    On,
}

/// What an answer of success promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Body and metadata are durable; a change waits for nobody.
    #[default]
    Sync,
    /// The same, but a change may wait a little so that more of them share one sync.
    Group,
    /// Nothing for a while: what the last second wrote may be gone after a power cut. Never torn, never wrong.
    Cache,
}

/// The most that a bucket may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Bytes of all its objects as clients see them, with all versions.
    pub bytes: Option<u64>,
    /// Objects, with all versions.
    pub objects: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketRow {
    pub(crate) created_ms: u64,
    pub(crate) owner: Option<String>,
    pub(crate) versioning: Versioning,
    pub(crate) object_lock: Locking,
    pub(crate) quota: Quota,
    pub(crate) durability: Durability,
}

/// A part of an object that was uploaded in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPart {
    /// Its number in the upload.
    pub number: u32,
    /// Its bytes.
    pub size: u64,
    /// Its checksum.
    pub checksums: Checksums,
}

/// Everything about a version of an object but its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub version: VersionId,
    /// Logical bytes.
    pub size: u64,
    /// The `ETag` without quotes: MD5 of the body, or MD5 of the parts' MD5s, `-`, and their number.
    pub etag: String,
    /// When it was written, in milliseconds of the Unix epoch.
    pub modified_ms: u64,
    /// What was said about it.
    pub meta: ObjectMeta,
    /// Checksums that are returned on demand.
    pub checksums: Checksums,
    /// Its parts, if it was uploaded in parts.
    pub parts: Vec<ObjectPart>,
    /// The extents in order; each is a part. Empty if the body is inline.
    pub(crate) extents: Vec<ExtentRef>,
}

impl ObjectInfo {
    /// Bytes on the disk: of the extent files, or of the inline body.
    pub fn stored(&self) -> u64 {
        if self.extents.is_empty() { self.size } else { self.extents.iter().map(|extent| extent.stored).sum() }
    }

    /// The tier it lies on: that of its first body.
    pub(crate) fn tier(&self) -> u8 {
        self.extents.first().map_or(0, |extent| extent.place.tier())
    }

    /// The number of parts, if it was uploaded in parts.
    pub fn part_count(&self) -> Option<usize> {
        self.etag.contains('-').then_some(self.extents.len())
    }
}

/// A mark that says that the object was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerInfo {
    /// Its name.
    pub version: VersionId,
    /// When it was set, in milliseconds of the Unix epoch.
    pub modified_ms: u64,
    /// The id of the user who deleted.
    pub owner: Option<String>,
}

/// A row of the versions' table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every row is an object, and a box would cost an allocation each")]
pub(crate) enum VersionRow {
    /// An object.
    Object(ObjectInfo),
    /// A delete marker.
    Marker(MarkerInfo),
    /// The null version's sequence number, in the place of sequence 0.
    NullAt(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRow {
    pub(crate) created_ms: u64,
    pub(crate) meta: ObjectMeta,
    /// The checksum that the client wants for parts and whole.
    pub(crate) checksum: Option<ChecksumKind>,
    /// Whether the whole's checksum is one over all bytes rather than over the parts' checksums.
    pub(crate) full_object: bool,
    /// The user who started it.
    pub(crate) initiator: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartRow {
    pub(crate) etag: String,
    pub(crate) modified_ms: u64,
    pub(crate) checksums: Checksums,
    pub(crate) extent: ExtentRef,
}
