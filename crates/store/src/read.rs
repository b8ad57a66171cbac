//! Reading objects: the row, then the blocks of the range that is asked for, each verified or from the cache.
//!
//! Memory: two blocks per reader, whatever the object's size. A reader keeps its object's extents until it is dropped, so
//! an object that is deleted or replaced meanwhile is still read whole.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use crate::block::Address;
use crate::config::BLOCK_BYTES;
use crate::crypto::{Cipher, INLINE};
use crate::extent::{ExtentRef, Place};
use crate::index::codec::decode;
use crate::index::keys::{object_key, past_object, version_key};
use crate::index::meta::{Meta, TableId};
use crate::index::rows::VersionRow;
use crate::mutation::Path;
use crate::reaper::Pins;
use crate::store::{Inner, check_key, off_runtime};
use crate::version::{Version, VersionId};
use crate::{Error, ObjectInfo, Store, buckets};

/// Blocks of one reader that are fetched at once.
const BLOCKS_AHEAD: usize = 2;
/// The same where each comes from another store, whose answers take long.
const REMOTE_BLOCKS_AHEAD: usize = 8;

/// Which bytes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// All.
    Whole,
    /// From the first to the last of these, both included; to the end if there is no last.
    Between(u64, Option<u64>),
    /// The last so many.
    Suffix(u64),
}

impl RangeRequest {
    /// The range in an object of `size` bytes.
    /// # Errors
    /// [`Error::InvalidRange`] if it holds no byte of the object.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, Error> {
        let range = match self {
            Self::Whole => return Ok(0..size),
            Self::Between(first, last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            Self::Suffix(count) => size.saturating_sub(count)..size,
        };
        if range.start >= range.end { Err(Error::InvalidRange(size)) } else { Ok(range) }
    }
}

/// An object that is open for reading.
pub struct ObjectReader {
    info: ObjectInfo,
    inline: Bytes,
    name: Arc<str>,
    inner: Arc<Inner>,
    pins: Pins,
    cipher: Option<Arc<Cipher>>,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

struct Wanted {
    extent: ExtentRef,
    block: u32,
    from: usize,
    to: usize,
}

impl ObjectReader {
    /// What is known of the object.
    pub const fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// Whether a part of it lies in another store, which may be away.
    pub fn is_remote(&self) -> bool {
        self.info.extents.iter().any(|extent| matches!(extent.place, Place::Remote { .. }))
    }

    /// The same reader, for an object that was written encrypted.
    #[must_use]
    pub fn decrypted(mut self, cipher: Option<Arc<Cipher>>) -> Self {
        self.cipher = cipher;
        self
    }

    /// The blocks that hold `range`, in order; made as they are needed, for there may be millions.
    fn wanted(&self, range: &Range<u64>) -> impl Iterator<Item = Wanted> + Send + Sync + use<> {
        let block_bytes = BLOCK_BYTES as u64;
        let mut base = 0;
        let mut pieces = Vec::new();
        for extent in &self.info.extents {
            let from = range.start.max(base) - base;
            let to = range.end.min(base + extent.len).saturating_sub(base);
            base += extent.len;
            if from < to {
                pieces.push((*extent, from, to));
            }
        }
        pieces.into_iter().flat_map(move |(extent, from, to)| {
            (from / block_bytes..to.div_ceil(block_bytes)).map(move |block| {
                let start = block * block_bytes;
                let inside =
                    |offset: u64| usize::try_from(offset.clamp(start, start + block_bytes) - start).unwrap_or(0);
                let block = u32::try_from(block).unwrap_or(u32::MAX);
                Wanted { extent, block, from: inside(from), to: inside(to) }
            })
        })
    }

    /// The bytes of `range` as they come. After an error nothing more comes.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = Result<Bytes, Error>> + Send + Sync + 'static {
        let wanted = self.wanted(&range);
        let from = usize::try_from(range.start).unwrap_or(usize::MAX);
        let to = usize::try_from(range.end).unwrap_or(usize::MAX);
        let inline = (self.info.extents.is_empty() && from < to).then(|| {
            let damaged = || Error::corrupt("the inline body is not the one that was written", "its row");
            let whole = match &self.cipher {
                None => self.inline.clone(),
                Some(cipher) => cipher.open(INLINE, self.inline.to_vec()).ok_or_else(damaged)?.into(),
            };
            if to <= whole.len() { Ok(whole.slice(from..to)) } else { Err(damaged()) }
        });
        let counters = Arc::clone(&self.inner.counters);
        let ahead = if self.is_remote() { REMOTE_BLOCKS_AHEAD } else { BLOCKS_AHEAD };
        let Self { name, inner, pins, cipher, .. } = self;
        let blocks = futures::stream::iter(wanted)
            .map(move |wanted| fetch(Arc::clone(&inner), Arc::clone(&name), wanted, cipher.clone()))
            .buffered(ahead);
        futures::stream::iter(inline).chain(blocks).map(move |result| {
            // The closure owns the pins, so that they live as long as the stream.
            let _pinned = &pins;
            result.inspect(|bytes| counters.bytes_out(bytes.len() as u64))
        })
    }

    /// The bytes of `range` in one piece.
    /// # Errors
    /// [`Error::InvalidRange`], [`Error::Corrupt`], or what the disk says.
    pub async fn bytes(self, range: RangeRequest) -> Result<Bytes, Error> {
        let range = range.resolve(self.info.size)?;
        let mut whole = Vec::new();
        let mut stream = std::pin::pin!(self.stream(range));
        while let Some(bytes) = stream.try_next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.into())
    }
}

async fn fetch(inner: Arc<Inner>, name: Arc<str>, wanted: Wanted, cipher: Option<Arc<Cipher>>) -> Result<Bytes, Error> {
    let address = Address { extent: wanted.extent.sealed, block: wanted.block };
    let bytes = match inner.cache.get(address) {
        Some(bytes) => bytes,
        None => off_runtime(move || read_block(&inner, &name, (&wanted.extent, address), cipher.as_deref())).await?,
    };
    if wanted.to > bytes.len() {
        return Err(Error::corrupt(format!("block {} is shorter than its row says", wanted.block), "an extent"));
    }
    Ok(bytes.slice(wanted.from..wanted.to))
}

fn read_block(
    inner: &Inner,
    name: &str,
    (extent, address): (&ExtentRef, Address),
    cipher: Option<&Cipher>,
) -> Result<Bytes, Error> {
    match inner.bodies.block((extent, address.block), cipher, name) {
        Ok(bytes) => {
            let bytes = Bytes::from(bytes);
            inner.cache.insert(address, bytes.clone());
            Ok(bytes)
        }
        Err(error) => {
            if matches!(error, Error::Corrupt { .. }) {
                inner.counters.corrupt();
            }
            tracing::error!(object = name, %error, "a block cannot be read");
            Err(error)
        }
    }
}

fn row(meta: &Meta, path: &Path, version: Version) -> Result<(ObjectInfo, Bytes), Error> {
    let transaction = meta.read()?;
    let (bucket, key) = (path.bucket.as_str(), path.key.as_str());
    let at = |sequence: u64| {
        let row_key = version_key(bucket, key, sequence);
        let value = Meta::get(&transaction, TableId::Objects, &row_key)?;
        Ok::<_, Error>(value.map(|value| (row_key, value)))
    };
    let mut found = match version {
        Version::Latest => {
            Meta::first(&transaction, TableId::Objects, &object_key(bucket, key), &past_object(bucket, key))?
        }
        Version::Id(VersionId::Null) => at(0)?,
        Version::Id(VersionId::Id(sequence)) => at(sequence)?,
    };
    while let Some((row_key, value)) = found.take() {
        let (row, inline) = decode::<VersionRow>(&row_key, &value)?;
        let named = |have: VersionId| version == Version::Latest || version == Version::Id(have);
        match row {
            VersionRow::Object(info) if named(info.version) => return Ok((info, Bytes::copy_from_slice(inline))),
            VersionRow::Marker(marker) if named(marker.version) => {
                return Err(Error::DeleteMarker { key: key.to_owned(), version: marker.version, asked: version });
            }
            VersionRow::NullAt(sequence) if sequence > 0 => found = at(sequence)?,
            VersionRow::Object(_) | VersionRow::Marker(_) | VersionRow::NullAt(_) => {}
        }
    }
    buckets::find(&transaction, bucket)?;
    Err(match version {
        Version::Latest => Error::no_key(bucket, key),
        Version::Id(version) => Error::NoSuchVersion { key: key.to_owned(), version },
    })
}

impl Store {
    /// What is known of an object.
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::NoSuchBucket`], [`Error::DeleteMarker`], [`Error::Corrupt`] if its row is damaged.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<ObjectInfo, Error> {
        self.head_version(bucket, key, Version::Latest).await
    }

    /// What is known of a version of an object.
    /// # Errors
    /// As [`Store::head`], and [`Error::NoSuchVersion`].
    pub async fn head_version(&self, bucket: &str, key: &str, version: Version) -> Result<ObjectInfo, Error> {
        check_key(key)?;
        let (inner, path) = (Arc::clone(&self.0), Path::new(bucket, key));
        off_runtime(move || Ok(inner.counted(row(&inner.meta, &path, version))?.0)).await
    }

    /// Opens an object for reading. What is read is what it was now, whatever happens to it later.
    /// # Errors
    /// As [`Store::head`].
    pub async fn object(&self, bucket: &str, key: &str) -> Result<ObjectReader, Error> {
        self.object_version(bucket, key, Version::Latest).await
    }

    /// Opens a version of an object for reading.
    /// # Errors
    /// As [`Store::head_version`].
    pub async fn object_version(&self, bucket: &str, key: &str, version: Version) -> Result<ObjectReader, Error> {
        check_key(key)?;
        let (inner, path) = (Arc::clone(&self.0), Path::new(bucket, key));
        off_runtime(move || {
            loop {
                let (info, inline) = inner.counted(row(&inner.meta, &path, version))?;
                let pins = inner.reaper.pin(info.extents.iter().map(|extent| extent.id).collect());
                // Between reading the row and pinning, the object may have been replaced and its files removed. If the row
                // still names them, they were not, and the pins keep them.
                if info.extents.is_empty() || row(&inner.meta, &path, version)?.0.extents == info.extents {
                    inner.was_read(&path, &info);
                    let name = format!("{}/{}", path.bucket, path.key).into();
                    return Ok(ObjectReader { info, inline, name, inner: Arc::clone(&inner), pins, cipher: None });
                }
            }
        })
        .await
    }
}

impl Inner {
    fn counted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error @ Error::Corrupt { .. }) = &result {
            self.counters.corrupt();
            tracing::error!(%error, "a metadata row cannot be read");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::RangeRequest::{Between, Suffix, Whole};

    #[test]
    fn ranges_resolve_as_http_says() {
        let resolve = |range: super::RangeRequest, size| range.resolve(size).ok().map(|range| (range.start, range.end));
        assert_eq!(resolve(Whole, 0), Some((0, 0)));
        assert_eq!(resolve(Between(0, Some(0)), 10), Some((0, 1)));
        assert_eq!(resolve(Between(3, None), 10), Some((3, 10)));
        assert_eq!(resolve(Between(3, Some(u64::MAX)), 10), Some((3, 10)));
        assert_eq!(resolve(Between(10, None), 10), None);
        assert_eq!(resolve(Between(5, Some(4)), 10), None);
        assert_eq!(resolve(Suffix(3), 10), Some((7, 10)));
        assert_eq!(resolve(Suffix(30), 10), Some((0, 10)));
        assert_eq!(resolve(Suffix(0), 10), None);
        assert_eq!(resolve(Suffix(1), 0), None);
    }
}
