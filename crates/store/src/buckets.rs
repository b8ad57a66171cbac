//! Buckets: making, changing, removing them, and their documents.

use std::sync::Arc;

use crate::index::codec::decode;
use crate::index::keys::{bucket_range, document_key};
use crate::index::meta::{Meta, Next, TableId};
use crate::index::rows::{BucketRow, Durability, Locking, Quota};
use crate::mutation::{BucketChange, Documents, Mutation};
use crate::store::{now_ms, off_runtime};
use crate::version::Versioning;
use crate::{Error, Store};

/// A bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds of the Unix epoch.
    pub created_ms: u64,
    /// The id of the user who owns it.
    pub owner: Option<String>,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// Whether its versions may be locked.
    pub object_lock: Locking,
    /// The most it may hold.
    pub quota: Quota,
    /// What an answer of success promises.
    pub durability: Durability,
}

/// How a bucket starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketStart {
    /// The id of the user who owns it.
    pub owner: Option<String>,
    /// Whether its versions may be locked; then it keeps versions from the start.
    pub object_lock: Locking,
    /// What an answer of success promises; as the store was told if nothing is said.
    pub durability: Option<Durability>,
}

/// Whether S3 allows a bucket of this name. Source: Amazon S3 User Guide, "General purpose bucket naming rules".
pub(crate) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| inner(*byte))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && !name.contains(".-")
        && !name.contains("-.")
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !["xn--", "sthree-"].iter().any(|prefix| name.starts_with(prefix))
}

fn info(key: &[u8], value: &[u8]) -> Result<BucketInfo, Error> {
    let (row, _inline) = decode::<BucketRow>(key, value)?;
    let BucketRow { created_ms, owner, versioning, object_lock, quota, durability } = row;
    let name = String::from_utf8_lossy(key).into_owned();
    Ok(BucketInfo { name, created_ms, owner, versioning, object_lock, quota, durability })
}

/// The bucket.
pub(crate) fn find(transaction: &redb::ReadTransaction, bucket: &str) -> Result<BucketInfo, Error> {
    let value = Meta::get(transaction, TableId::Buckets, bucket.as_bytes())?;
    info(bucket.as_bytes(), &value.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?)
}

/// A document's name is a word of the S3 interface: small letters, digits and hyphens.
fn check_document(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(Error::Invalid(format!("`{}` is no document's name", name.escape_debug())));
    }
    Ok(())
}

impl Store {
    /// Makes a bucket.
    /// # Errors
    /// [`Error::BucketExists`], or [`Error::Invalid`] if S3 does not allow the name.
    pub async fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        self.create_bucket_with(bucket, BucketStart::default()).await
    }

    /// Makes a bucket that starts so.
    /// # Errors
    /// As [`Store::create_bucket`].
    pub async fn create_bucket_with(&self, bucket: &str, start: BucketStart) -> Result<(), Error> {
        if !is_name(bucket) {
            return Err(Error::Invalid(format!(
                "`{bucket}` is no bucket name: 3 to 63 small letters, digits, dots and hyphens"
            )));
        }
        let versioning = match start.object_lock {
            Locking::On => Versioning::Enabled,
            Locking::Off => Versioning::Unversioned,
        };
        let row = BucketRow {
            created_ms: now_ms(),
            owner: start.owner,
            versioning,
            object_lock: start.object_lock,
            quota: Quota::default(),
            durability: start.durability.unwrap_or(self.0.config.durability),
        };
        self.0.commit(Mutation::CreateBucket { bucket: bucket.to_owned(), row }, None).await.map(|_effects| ())
    }

    /// Removes an empty bucket, its documents, and the multipart uploads in it.
    /// # Errors
    /// [`Error::BucketNotEmpty`], [`Error::NoSuchBucket`].
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), Error> {
        let mutation = Mutation::DeleteBucket { bucket: bucket.to_owned() };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    async fn change_bucket(&self, bucket: &str, change: BucketChange) -> Result<(), Error> {
        let mutation = Mutation::ChangeBucket { bucket: bucket.to_owned(), change };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    /// Says whether the bucket keeps versions.
    /// # Errors
    /// [`Error::Invalid`] if that would take versioning back, or suspend it under an object lock.
    pub async fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<(), Error> {
        self.change_bucket(bucket, BucketChange::Versioning(versioning)).await
    }

    /// Says whether versions of the bucket may be locked.
    /// # Errors
    /// [`Error::Invalid`] if the bucket keeps no versions, or if it would take the lock back.
    pub async fn set_object_lock(&self, bucket: &str, locking: Locking) -> Result<(), Error> {
        self.change_bucket(bucket, BucketChange::Locking(locking)).await
    }

    /// Gives the bucket to another owner.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn set_owner(&self, bucket: &str, owner: Option<String>) -> Result<(), Error> {
        self.change_bucket(bucket, BucketChange::Owner(owner)).await
    }

    /// Says how much the bucket may hold. What it holds already stays.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn set_quota(&self, bucket: &str, quota: Quota) -> Result<(), Error> {
        self.change_bucket(bucket, BucketChange::Quota(quota)).await
    }

    /// Says what an answer of success promises from now on.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn set_durability(&self, bucket: &str, durability: Durability) -> Result<(), Error> {
        self.change_bucket(bucket, BucketChange::Durability(durability)).await
    }

    /// The bucket.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket(&self, bucket: &str) -> Result<BucketInfo, Error> {
        let (meta, name) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || find(&meta.read()?, &name)).await
    }

    /// All buckets, by name.
    /// # Errors
    /// If the metadata cannot be read.
    pub async fn buckets(&self) -> Result<Vec<BucketInfo>, Error> {
        let meta = Arc::clone(&self.0.meta);
        off_runtime(move || {
            let mut buckets = Vec::new();
            Meta::scan(&meta.read()?, TableId::Buckets, Vec::new(), &[0xff], |key, value| {
                buckets.push(info(key, value)?);
                Ok(Next::Row)
            })?;
            Ok(buckets)
        })
        .await
    }

    /// Sets or, without bytes, removes a document of the bucket, such as `policy`, `cors` or `lifecycle`. What it says was
    /// checked by the caller.
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::TooLarge`] beyond 1 MiB.
    pub async fn put_document(&self, bucket: &str, name: &str, bytes: Option<Vec<u8>>) -> Result<(), Error> {
        check_document(name)?;
        let mutation = Mutation::PutDocument { bucket: bucket.to_owned(), name: name.to_owned(), bytes };
        self.0.commit(mutation, None).await.map(|_effects| ())
    }

    /// A document of the bucket.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn document(&self, bucket: &str, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (meta, bucket, name) = (Arc::clone(&self.0.meta), bucket.to_owned(), name.to_owned());
        off_runtime(move || {
            let transaction = meta.read()?;
            find(&transaction, &bucket)?;
            let row_key = document_key(&bucket, &name);
            let value = Meta::get(&transaction, TableId::Documents, &row_key)?;
            value.map(|value| Ok(decode::<()>(&row_key, &value)?.1.to_vec())).transpose()
        })
        .await
    }

    /// The bucket and all of its documents, as they were at one moment.
    /// # Errors
    /// [`Error::NoSuchBucket`].
    pub async fn bucket_with_documents(&self, bucket: &str) -> Result<(BucketInfo, Documents), Error> {
        let (meta, bucket) = (Arc::clone(&self.0.meta), bucket.to_owned());
        off_runtime(move || {
            let transaction = meta.read()?;
            let info = find(&transaction, &bucket)?;
            let (low, high) = bucket_range(&bucket);
            let mut documents = Documents::new();
            let skip = low.len();
            Meta::scan(&transaction, TableId::Documents, low, &high, |row_key, value| {
                let name = String::from_utf8_lossy(row_key.get(skip..).unwrap_or_default()).into_owned();
                documents.insert(name, decode::<()>(row_key, value)?.1.to_vec());
                Ok(Next::Row)
            })?;
            Ok((info, documents))
        })
        .await
    }
}
