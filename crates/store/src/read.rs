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
use crate::extent::ExtentRef;
use crate::meta::{BUCKETS, Meta, OBJECTS};
use crate::reaper::Pins;
use crate::rows::{decode, object_key};
use crate::store::{Inner, check_key, off_runtime};
use crate::{Error, ObjectInfo, Store};

/// Blocks of one reader that are fetched at once.
const BLOCKS_AHEAD: usize = 2;

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
        let inline = if self.info.extents.is_empty() && from < to && to <= self.inline.len() {
            Some(self.inline.slice(from..to))
        } else {
            None
        };
        let counters = Arc::clone(&self.inner.counters);
        let Self { name, inner, pins, .. } = self;
        let blocks = futures::stream::iter(wanted)
            .map(move |wanted| fetch(Arc::clone(&inner), Arc::clone(&name), wanted))
            .buffered(BLOCKS_AHEAD);
        futures::stream::iter(inline.map(Ok)).chain(blocks).map(move |result| {
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

async fn fetch(inner: Arc<Inner>, name: Arc<str>, wanted: Wanted) -> Result<Bytes, Error> {
    let address = Address { extent: wanted.extent.id, block: wanted.block };
    let bytes = match inner.cache.get(address) {
        Some(bytes) => bytes,
        None => off_runtime(move || read_block(&inner, &name, &wanted.extent, address)).await?,
    };
    if wanted.to > bytes.len() {
        return Err(Error::corrupt(format!("block {} is shorter than its row says", wanted.block), "an extent"));
    }
    Ok(bytes.slice(wanted.from..wanted.to))
}

fn read_block(inner: &Inner, name: &str, extent: &ExtentRef, address: Address) -> Result<Bytes, Error> {
    match inner.bodies.block(extent, address.block, name) {
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

fn row(meta: &Meta, bucket: &str, key: &str) -> Result<(ObjectInfo, Bytes), Error> {
    let transaction = meta.read()?;
    let row_key = object_key(bucket, key);
    let Some(value) = Meta::get(&transaction, OBJECTS, &row_key)? else {
        return Err(if Meta::get(&transaction, BUCKETS, bucket.as_bytes())?.is_some() {
            Error::no_key(bucket, key)
        } else {
            Error::NoSuchBucket(bucket.to_owned())
        });
    };
    let (info, inline) = decode::<ObjectInfo>(&row_key, &value)?;
    Ok((info, Bytes::copy_from_slice(inline)))
}

impl Store {
    /// What is known of an object.
    /// # Errors
    /// [`Error::NoSuchKey`], [`Error::NoSuchBucket`], [`Error::Corrupt`] if its row is damaged.
    pub async fn head(&self, bucket: &str, key: &str) -> Result<ObjectInfo, Error> {
        check_key(key)?;
        let (inner, bucket, key) = (Arc::clone(&self.0), bucket.to_owned(), key.to_owned());
        off_runtime(move || Ok(inner.counted(row(&inner.meta, &bucket, &key))?.0)).await
    }

    /// Opens an object for reading. What is read is what it was now, whatever happens to it later.
    /// # Errors
    /// As [`Store::head`].
    pub async fn object(&self, bucket: &str, key: &str) -> Result<ObjectReader, Error> {
        check_key(key)?;
        let (inner, bucket, key) = (Arc::clone(&self.0), bucket.to_owned(), key.to_owned());
        off_runtime(move || {
            loop {
                let (info, inline) = inner.counted(row(&inner.meta, &bucket, &key))?;
                let pins = inner.reaper.pin(info.extents.iter().map(|extent| extent.id).collect());
                // Between reading the row and pinning, the object may have been replaced and its files removed. If the row
                // still names them, they were not, and the pins keep them.
                if info.extents.is_empty() || row(&inner.meta, &bucket, &key)?.0.extents == info.extents {
                    let name = format!("{bucket}/{key}").into();
                    return Ok(ObjectReader { info, inline, name, inner: Arc::clone(&inner), pins });
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
