//! What a change does to the tables. Pure but for the tables; the committer calls it inside of a transaction.
//!
//! Invariant: a change that is refused has changed nothing, because every check comes before the first write; only a
//! failing database leaves a change half done, and then the whole transaction is thrown away.

mod bucket;
mod condition;
mod identity;
mod object;
mod upload;

pub use bucket::Documents;
pub use condition::Condition;
pub use object::{Annotation, Deleted};

use crate::Error;
use crate::body::packed::CodedRow;
use crate::extent::{ExtentRef, Place};
use crate::identities::{Expect, Identity};
use crate::index::codec::encode;
use crate::index::meta::{TableId, Tables};
use crate::index::rows::{BucketRow, Durability, Locking, ObjectInfo, PartRow, Quota, UploadRow};
use crate::index::tables::placed_key;
use crate::multipart::CompletePart;
use crate::retention::Governance;
use crate::version::{Version, VersionId, Versioning};

/// When a change happens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Its place in the store's order, never zero.
    pub(crate) sequence: u64,
    /// The time, in milliseconds of the Unix epoch.
    pub(crate) now_ms: u64,
}

/// An object by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl Path {
    pub(crate) fn new(bucket: &str, key: &str) -> Self {
        Self { bucket: bucket.to_owned(), key: key.to_owned() }
    }
}

/// A change of a bucket's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BucketChange {
    Versioning(Versioning),
    Locking(Locking),
    Owner(Option<String>),
    Quota(Quota),
    Durability(Durability),
}

/// A change.
#[derive(Debug)]
pub(crate) enum Mutation {
    CreateBucket {
        bucket: String,
        row: BucketRow,
    },
    ChangeBucket {
        bucket: String,
        change: BucketChange,
    },
    DeleteBucket {
        bucket: String,
    },
    PutDocument {
        bucket: String,
        name: String,
        bytes: Option<Vec<u8>>,
    },
    Put {
        path: Path,
        info: ObjectInfo,
        inline: Vec<u8>,
        condition: Condition,
    },
    Delete {
        path: Path,
        version: Version,
        condition: Condition,
        governance: Governance,
        owner: Option<String>,
    },
    Annotate {
        path: Path,
        version: Version,
        change: Annotation,
        condition: Condition,
    },
    CreateUpload {
        path: Path,
        upload: String,
        row: UploadRow,
    },
    PutPart {
        path: Path,
        upload: String,
        part: u32,
        row: PartRow,
    },
    Complete {
        path: Path,
        upload: String,
        parts: Vec<CompletePart>,
        condition: Condition,
    },
    Abort {
        path: Path,
        upload: String,
    },
    PutIdentity {
        name: String,
        bytes: Option<Vec<u8>>,
        expect: Expect,
    },
    /// A body of an object lies elsewhere from now on.
    Relocate {
        path: Path,
        version: VersionId,
        from: ExtentRef,
        to: ExtentRef,
    },
    /// A body in another store is about to be written, and is to be removed there unless a row comes to name it.
    Doom {
        tier: u8,
        id: u64,
        blocks: u64,
    },
    /// It is removed.
    Undoom {
        tier: u8,
        id: u64,
    },
    /// A segment was written anew; the committer's ledger of segments does it.
    Segment {
        id: u64,
        coded: CodedRow,
    },
}

impl Mutation {
    /// Whether it changes a bucket's row or one of its documents.
    pub(crate) const fn is_of_bucket(&self) -> bool {
        matches!(
            self,
            Self::CreateBucket { .. }
                | Self::ChangeBucket { .. }
                | Self::DeleteBucket { .. }
                | Self::PutDocument { .. }
        )
    }

    /// The bucket, if the change is one of its objects: then the bucket's durability holds for it.
    pub(crate) fn object_bucket(&self) -> Option<&str> {
        match self {
            Self::Put { path, .. }
            | Self::Delete { path, .. }
            | Self::Annotate { path, .. }
            | Self::Relocate { path, .. }
            | Self::CreateUpload { path, .. }
            | Self::PutPart { path, .. }
            | Self::Complete { path, .. }
            | Self::Abort { path, .. } => Some(&path.bucket),
            Self::CreateBucket { .. }
            | Self::ChangeBucket { .. }
            | Self::DeleteBucket { .. }
            | Self::PutDocument { .. }
            | Self::PutIdentity { .. }
            | Self::Doom { .. }
            | Self::Undoom { .. }
            | Self::Segment { .. } => None,
        }
    }

    /// Whether it makes the metadata larger for long; the others are let through on a full disk.
    pub(crate) const fn grows(&self) -> bool {
        match self {
            Self::Annotate { change, .. } => !matches!(change, Annotation::StorageClass(_)),
            Self::CreateBucket { .. }
            | Self::Put { .. }
            | Self::CreateUpload { .. }
            | Self::PutPart { .. }
            | Self::PutDocument { bytes: Some(_), .. }
            | Self::PutIdentity { bytes: Some(_), .. } => true,
            Self::ChangeBucket { .. }
            | Self::DeleteBucket { .. }
            | Self::Delete { .. }
            | Self::Complete { .. }
            | Self::Abort { .. }
            | Self::Relocate { .. }
            | Self::Doom { .. }
            | Self::Undoom { .. }
            | Self::PutDocument { bytes: None, .. }
            | Self::PutIdentity { bytes: None, .. }
            | Self::Segment { .. } => false,
        }
    }
}

/// How much of a bucket's objects came and went: logical and stored bytes of one object each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UsageChange {
    pub(crate) added: Option<(u64, u64)>,
    pub(crate) removed: Option<(u64, u64)>,
}

/// What a change did.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The object that was written or changed.
    pub(crate) object: Option<ObjectInfo>,
    /// What a delete did.
    pub(crate) deleted: Option<Deleted>,
    /// What an identity became; `None` if it is gone.
    pub(crate) identity: Option<Identity>,
    /// Extents that a row names from now on.
    pub(crate) added: Vec<ExtentRef>,
    /// Extents that no row names any more.
    pub(crate) freed: Vec<ExtentRef>,
    /// What came to colder tiers and went from them.
    pub(crate) tiers: Vec<(u8, UsageChange)>,
    /// The bucket and its change.
    pub(crate) usage: Option<(String, UsageChange)>,
    /// The durability that changes of this bucket have from now on.
    pub(crate) class: Option<(String, Durability)>,
    /// A bucket that is gone.
    pub(crate) bucket_gone: Option<String>,
}

/// Does `mutation`.
/// # Errors
/// A refusal is told from a failing database by [`is_refusal`].
pub(crate) fn apply(tables: &mut Tables<'_>, mutation: Mutation, moment: Moment) -> Result<Effects, Error> {
    let effects = change(tables, mutation, moment)?;
    let large = |extent: &&ExtentRef| extent.place == Place::Large;
    for extent in effects.added.iter().filter(large) {
        let row_key = extent.id.to_be_bytes();
        tables.put(TableId::Extents, &row_key, &encode(&row_key, &extent.stored, &[]))?;
    }
    for extent in effects.freed.iter().filter(large) {
        tables.remove(TableId::Extents, &extent.id.to_be_bytes())?;
    }
    for extent in &effects.added {
        match extent.place {
            Place::Large | Place::Packed { .. } => {}
            Place::Cold { tier } => {
                let key = placed_key(tier, extent.id);
                tables.put(TableId::Cold, &key, &encode(&key, &extent.stored, &[]))?;
            }
            Place::Remote { tier } => tables.remove(TableId::Doomed, &placed_key(tier, extent.id))?,
        }
    }
    for extent in &effects.freed {
        match extent.place {
            Place::Large | Place::Packed { .. } => {}
            Place::Cold { tier } => tables.remove(TableId::Cold, &placed_key(tier, extent.id))?,
            Place::Remote { tier } => doom(tables, tier, extent.id, extent.blocks() as u64)?,
        }
    }
    for (tier, change) in &effects.tiers {
        tables.change_tier(*tier, *change)?;
    }
    Ok(effects)
}

fn doom(tables: &mut Tables<'_>, tier: u8, id: u64, blocks: u64) -> Result<(), Error> {
    let key = placed_key(tier, id);
    tables.put(TableId::Doomed, &key, &encode(&key, &blocks, &[]))
}

fn change(tables: &mut Tables<'_>, mutation: Mutation, moment: Moment) -> Result<Effects, Error> {
    match mutation {
        Mutation::CreateBucket { bucket, row } => bucket::create(tables, bucket, &row),
        Mutation::ChangeBucket { bucket, change } => bucket::change(tables, &bucket, change),
        Mutation::DeleteBucket { bucket } => bucket::delete(tables, bucket),
        Mutation::PutDocument { bucket, name, bytes } => bucket::put_document(tables, &bucket, &name, bytes.as_deref()),
        Mutation::Put { path, info, inline, condition } => object::put(tables, path, info, &inline, &condition, moment),
        Mutation::Delete { path, version, condition, governance, owner } => {
            object::delete(tables, path, version, &object::Rules { condition, governance, owner }, moment)
        }
        Mutation::Annotate { path, version, change, condition } => {
            object::annotate(tables, &path, version, change, &condition, moment)
        }
        Mutation::CreateUpload { path, upload, row } => upload::create(tables, &path, &upload, &row),
        Mutation::PutPart { path, upload, part, row } => upload::put_part(tables, &path, &upload, part, &row),
        Mutation::Complete { path, upload, parts, condition } => {
            upload::complete(tables, path, &upload, &parts, &condition, moment)
        }
        Mutation::Abort { path, upload } => upload::abort(tables, &path, &upload),
        Mutation::Segment { .. } => Ok(Effects::default()),
        Mutation::Relocate { path, version, from, to } => object::relocate(tables, path, version, from, to),
        Mutation::Doom { tier, id, blocks } => doom(tables, tier, id, blocks).map(|()| Effects::default()),
        Mutation::Undoom { tier, id } => {
            tables.remove(TableId::Doomed, &placed_key(tier, id))?;
            Ok(Effects::default())
        }
        Mutation::PutIdentity { name, bytes, expect } => identity::put(tables, &name, bytes, expect, moment),
    }
}

/// Whether the error is about this one change, not about the database.
pub(crate) const fn is_refusal(error: &Error) -> bool {
    match error {
        Error::NoSuchBucket(_)
        | Error::NoSuchKey { .. }
        | Error::NoSuchVersion { .. }
        | Error::DeleteMarker { .. }
        | Error::NoSuchUpload(_)
        | Error::BucketExists(_)
        | Error::BucketNotEmpty(_)
        | Error::Precondition(_)
        | Error::Retained { .. }
        | Error::Quota(_)
        | Error::InvalidPart(_)
        | Error::InvalidPartOrder
        | Error::PartTooSmall { .. }
        | Error::BadDigest(_)
        | Error::InvalidRange(_)
        | Error::Invalid(_)
        | Error::TooLarge(_)
        | Error::BodyBroken(_)
        // Found by `decode`, before anything is written; a corrupt database says `Meta`.
        | Error::Corrupt { .. } => true,
        Error::Full(_)
        | Error::Io { .. }
        | Error::Meta(_)
        | Error::Sealed(_)
        | Error::Locked(_)
        | Error::Drives(_)
        | Error::Busy
        | Error::Away(_)
        | Error::Closed => false,
    }
}
