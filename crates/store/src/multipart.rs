//! Multipart uploads. Each part is an extent; completing an upload only writes a row that names them in order.

use std::sync::Arc;

use dh_core::limits::PARTS_MAX;

use crate::index::codec::decode;
use crate::index::keys::{part_key, upload_key};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{PartRow, UploadRow};
use crate::mutation::{Mutation, Path};
use crate::put::Content;
use crate::store::{check_key, now_ms, off_runtime};
use crate::{ChecksumKind, Checksums, Condition, Error, ObjectInfo, ObjectMeta, SealedBody, Store};

/// What an upload is started with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UploadStart {
    /// What is said about the object to be.
    pub meta: ObjectMeta,
    /// The checksum that parts and whole get.
    pub checksum: Option<ChecksumKind>,
    /// Whether the whole's is one over all bytes.
    pub full_object: bool,
    /// The user who starts it.
    pub initiator: Option<String>,
}

/// An upload that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key of the object to be.
    pub key: String,
    /// The upload's id.
    pub upload: String,
    /// When it was started, in milliseconds of the Unix epoch.
    pub created_ms: u64,
    /// The checksum that its parts get.
    pub checksum: Option<ChecksumKind>,
    /// Whether the whole's is one over all bytes.
    pub full_object: bool,
    /// What is said about the object to be.
    pub meta: ObjectMeta,
    /// The user who started it.
    pub initiator: Option<String>,
}

impl UploadInfo {
    pub(crate) fn new(key: &str, upload: &str, row: &UploadRow) -> Self {
        Self {
            key: key.to_owned(),
            upload: upload.to_owned(),
            created_ms: row.created_ms,
            checksum: row.checksum,
            full_object: row.full_object,
            meta: row.meta.clone(),
            initiator: row.initiator.clone(),
        }
    }
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// Its number, from 1.
    pub part: u32,
    /// Its MD5 in hex.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written, in milliseconds of the Unix epoch.
    pub modified_ms: u64,
    /// Its checksum.
    pub checksums: Checksums,
}

/// A part that a completion names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletePart {
    /// Its number.
    pub part: u32,
    /// Its `ETag` without quotes.
    pub etag: String,
    /// Its checksum, if the client repeats it.
    pub checksum: Option<(ChecksumKind, String)>,
}

/// Which object's upload.
fn upload_row(meta: &Meta, bucket: &str, key: &str, upload: &str) -> Result<UploadRow, Error> {
    let row_key = upload_key(bucket, key, upload);
    let value = Meta::get(&meta.read()?, TableId::Uploads, &row_key)?;
    let value = value.ok_or_else(|| Error::NoSuchUpload(upload.to_owned()))?;
    Ok(decode(&row_key, &value)?.0)
}

fn check_upload_id(upload: &str) -> Result<(), Error> {
    if upload.len() == 32 && upload.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(())
    } else {
        Err(Error::NoSuchUpload(upload.to_owned()))
    }
}

impl Store {
    /// Starts an upload; returns its id.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn create_upload(&self, bucket: &str, key: &str, start: UploadStart) -> Result<String, Error> {
        check_key(key)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Error::Meta(format!("no randomness for an upload's id: {error}")))?;
        let upload = hex::encode(id);
        let row = UploadRow {
            created_ms: now_ms(),
            meta: start.meta,
            checksum: start.checksum,
            full_object: start.full_object,
            initiator: start.initiator,
        };
        let mutation = Mutation::CreateUpload { path: Path::new(bucket, key), upload: upload.clone(), row };
        self.0.commit(mutation, None).await?;
        Ok(upload)
    }

    /// The upload.
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn upload(&self, bucket: &str, key: &str, upload: &str) -> Result<UploadInfo, Error> {
        check_upload_id(upload)?;
        let meta = Arc::clone(&self.0.meta);
        let (bucket, key, upload) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        off_runtime(move || Ok(UploadInfo::new(&key, &upload, &upload_row(&meta, &bucket, &key, &upload)?))).await
    }

    /// Makes `body`, from [`Store::part_body`], the part `part`.
    /// # Errors
    /// [`Error::NoSuchUpload`], or a failed commit; then nothing has changed.
    pub async fn put_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        part: u32,
        body: SealedBody,
    ) -> Result<PartInfo, Error> {
        check_upload_id(upload)?;
        if !(1..=PARTS_MAX).contains(&part) {
            return Err(Error::Invalid(format!("a part's number is from 1 to {PARTS_MAX}, not {part}")));
        }
        let Content::Extent(extent, guard) = body.content else {
            return Err(Error::Invalid("a part's body comes from `part_body`".to_owned()));
        };
        let row = PartRow { etag: body.md5, modified_ms: now_ms(), checksums: body.checksums, extent };
        let info = part_info(part, row.clone());
        let (path, upload) = (Path::new(bucket, key), upload.to_owned());
        self.0.commit(Mutation::PutPart { path, upload, part, row }, Some(guard)).await?;
        Ok(info)
    }

    /// Makes the named parts the object, and drops the others.
    /// # Errors
    /// [`Error::InvalidPart`], [`Error::InvalidPartOrder`], [`Error::PartTooSmall`], [`Error::NoSuchUpload`], or a
    /// condition that does not hold; then the upload is as it was.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        parts: Vec<CompletePart>,
        condition: Condition,
    ) -> Result<ObjectInfo, Error> {
        check_upload_id(upload)?;
        let (path, upload) = (Path::new(bucket, key), upload.to_owned());
        let mutation = Mutation::Complete { path, upload, parts, condition };
        let effects = self.0.commit(mutation, None).await?;
        let info = effects.object.ok_or_else(|| Error::Meta("a completion without an object".to_owned()))?;
        self.0.classed((bucket, key), &info);
        Ok(info)
    }

    /// Drops an upload and its parts.
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn abort_upload(&self, bucket: &str, key: &str, upload: &str) -> Result<(), Error> {
        check_upload_id(upload)?;
        let (path, upload) = (Path::new(bucket, key), upload.to_owned());
        self.0.commit(Mutation::Abort { path, upload }, None).await.map(|_effects| ())
    }

    /// The parts after number `after`, at most `limit`, and whether there are more.
    /// # Errors
    /// [`Error::NoSuchUpload`].
    pub async fn parts(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        after: u32,
        limit: usize,
    ) -> Result<(Vec<PartInfo>, bool), Error> {
        check_upload_id(upload)?;
        let meta = Arc::clone(&self.0.meta);
        let (bucket, key, upload) = (bucket.to_owned(), key.to_owned(), upload.to_owned());
        off_runtime(move || {
            upload_row(&meta, &bucket, &key, &upload)?;
            let mut parts = Vec::new();
            let mut more = false;
            let from = part_key(&upload, after.saturating_add(1));
            Meta::scan(&meta.read()?, TableId::Parts, from, &part_key(&upload, u32::MAX), |row_key, value| {
                if parts.len() >= limit {
                    more = true;
                    return Ok(Next::Stop);
                }
                let part = row_key.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                parts.push(part_info(part, decode::<PartRow>(row_key, value)?.0));
                Ok(Next::Row)
            })?;
            Ok((parts, more))
        })
        .await
    }
}

fn part_info(part: u32, row: PartRow) -> PartInfo {
    PartInfo { part, etag: row.etag, size: row.extent.len, modified_ms: row.modified_ms, checksums: row.checksums }
}
