//! Another store as a tier: bodies lie there sealed, under names that tell nothing.
//!
//! A body is cut into chunks of 64 blocks, each an object of its own: an index of 16 bytes per block, then the blocks as they
//! would lie on drives; index and blocks each under AES-256-GCM, whose key follows from a secret of the tier and the body's
//! id, as does the name. Ids are never used twice, so an object that was kept back or exchanged does not open.
//!
//! Invariant: the other store never sees a byte of an object or a part of its name; it sees sizes and times. Cost of a read:
//! one request a block, and one more for the index of each chunk, of which the last ones are kept.

use std::sync::Arc;

use bytes::Bytes;
use dh_core::HasKind as _;
use ring::hmac;

use crate::Error;
use crate::block::{self, Address, BlockEntry, Sealed, bound_crc};
use crate::body::shape::size;
use crate::config::BLOCK_BYTES;
use crate::crypto::Cipher;
use crate::extent::{ENTRY_BYTES, ExtentRef, encode_entry, parse_entry};

/// Blocks of a chunk: 16 MiB, which is all that a move holds in memory.
pub(crate) const CHUNK_BLOCKS: usize = CHUNK as usize;
const CHUNK: u32 = 64;
/// Bytes that encryption adds.
const TAG_BYTES: u64 = 16;
/// Set in the number of a block where an index is meant.
const INDEX_BIT: u32 = 1 << 31;
/// Chunks whose index is kept: 1 KiB each.
const OPEN_CHUNKS_MAX: usize = 4_096;

/// Why another store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It has no such object, or other bytes than were written.
    #[error("{0}")]
    Lost(String),
    /// It cannot be reached, or refuses for now.
    #[error("{0}")]
    Away(String),
}

/// Where the objects of a tier lie. Calls block, and never on a thread of an async runtime.
pub trait RemoteObjects: Send + Sync + std::fmt::Debug {
    /// Writes an object and sees to it, by its checksum, that it is there.
    /// # Errors
    /// [`RemoteError`]; whether the object is there is then unknown.
    fn put(&self, name: &str, body: Bytes) -> Result<(), RemoteError>;
    /// Reads `length` bytes from `offset` on.
    /// # Errors
    /// [`RemoteError`].
    fn get(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, RemoteError>;
    /// Removes an object; that there is none is no error.
    /// # Errors
    /// [`RemoteError::Away`].
    fn delete(&self, name: &str) -> Result<(), RemoteError>;
}

/// A bucket of an S3 store, with a runtime of its own.
pub struct S3Bucket {
    client: dh_s3::Client,
    bucket: String,
    prefix: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl std::fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Bucket")
            .field("endpoint", &self.client.endpoint())
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl S3Bucket {
    /// The bucket `bucket`; the names of objects begin with `prefix`. Nothing is asked yet.
    /// # Errors
    /// [`Error::Invalid`] if the endpoint is no address.
    pub fn new(settings: dh_s3::Settings, bucket: String, prefix: String) -> Result<Self, Error> {
        let client = dh_s3::Client::new(settings).map_err(|error| Error::Invalid(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("store-remote")
            .enable_all()
            .build()
            .map_err(|error| Error::io("start the runtime of a tier", error))?;
        Ok(Self { client, bucket, prefix, runtime: Some(runtime) })
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, dh_s3::Error>>) -> Result<T, dh_s3::Error> {
        match &self.runtime {
            Some(runtime) => runtime.handle().block_on(work),
            None => Err(dh_s3::Error::Setting("the tier is closed".to_owned())),
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Drop for S3Bucket {
    fn drop(&mut self) {
        // The last handle may be dropped on a runtime's thread, which must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn told(error: &dh_s3::Error) -> RemoteError {
    let lost = error.code() == Some("NoSuchKey") || error.kind() == dh_core::Kind::Corrupt;
    if lost { RemoteError::Lost(error.to_string()) } else { RemoteError::Away(error.to_string()) }
}

impl RemoteObjects for S3Bucket {
    fn put(&self, name: &str, body: Bytes) -> Result<(), RemoteError> {
        let (name, length) = (self.name(name), body.len() as u64);
        let crc = dh_s3::Crc64::of(&body).base64();
        let put = dh_s3::Put { body: body.into(), payload: dh_s3::Payload::Checksum, ..dh_s3::Put::default() };
        let head = self.wait(async {
            self.client.put(&self.bucket, &name, put).await?;
            self.client.head(&self.bucket, &name).await
        });
        let head = head.map_err(|error| told(&error))?;
        if head.bytes != length || head.crc64.is_some_and(|have| have != crc) {
            return Err(RemoteError::Lost(format!("{name} is not there as it was written")));
        }
        Ok(())
    }

    fn get(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        let (name, span) = (self.name(name), dh_s3::Span { offset, length });
        self.wait(self.client.get_span(&self.bucket, &name, span, None)).map_err(|error| told(&error))
    }

    fn delete(&self, name: &str) -> Result<(), RemoteError> {
        let name = self.name(name);
        self.wait(self.client.delete(&self.bucket, &name)).map_err(|error| told(&error))
    }
}

/// Entries and offsets of the blocks of a chunk.
type Index = Vec<(BlockEntry, u64)>;

/// A tier in another store.
pub(crate) struct RemoteTier {
    objects: Arc<dyn RemoteObjects>,
    secret: hmac::Key,
    name: String,
    number: u8,
    open: quick_cache::sync::Cache<(u64, u32), Arc<Index>>,
}

impl RemoteTier {
    pub(crate) fn new(objects: Arc<dyn RemoteObjects>, secret: &[u8], name: String, number: u8) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { objects, secret, name, number, open: quick_cache::sync::Cache::new(OPEN_CHUNKS_MAX) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn derived(&self, what: &str, id: u64, chunk: u32) -> hmac::Tag {
        let place = [what.as_bytes(), &id.to_be_bytes(), &chunk.to_be_bytes()].concat();
        hmac::sign(&self.secret, &place)
    }

    fn object(&self, id: u64, chunk: u32) -> String {
        hex::encode(self.derived("name", id, chunk).as_ref())
    }

    fn cipher(&self, id: u64) -> Result<Cipher, Error> {
        Cipher::new(self.derived("key", id, 0).as_ref())
    }

    fn failed(&self, error: RemoteError) -> Error {
        match error {
            RemoteError::Lost(why) => Error::corrupt(why, format!("tier {}", self.name)),
            RemoteError::Away(why) => Error::Away(format!("{}: {why}", self.name)),
        }
    }

    /// The place and the crc of a body of these entries.
    pub(crate) fn body(&self, id: u64, entries: &[BlockEntry], (stored, sealed): (u64, u64)) -> ExtentRef {
        let mut index = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        for entry in entries {
            encode_entry(entry, &mut index);
        }
        let len = entries.iter().map(|entry| u64::from(entry.logical)).sum();
        let crc = bound_crc(&id.to_le_bytes(), &index);
        ExtentRef { id, len, stored, crc, place: crate::extent::Place::Remote { tier: self.number }, sealed }
    }

    /// Writes a chunk; returns its bytes.
    pub(crate) fn put(&self, id: u64, chunk: u32, blocks: &[Sealed]) -> Result<u64, Error> {
        assert!(blocks.len() <= CHUNK_BLOCKS, "a chunk is at most {CHUNK_BLOCKS} blocks");
        let cipher = self.cipher(id)?;
        let mut index = Vec::with_capacity(blocks.len() * ENTRY_BYTES);
        for block in blocks {
            encode_entry(&block.entry, &mut index);
        }
        let mut body = cipher.seal(Address { extent: id, block: INDEX_BIT | chunk }, index)?;
        for block in blocks {
            let address = Address { extent: id, block: block.address.block };
            body.extend_from_slice(&cipher.seal(address, block.stored.clone())?);
        }
        let stored = body.len() as u64;
        self.objects.put(&self.object(id, chunk), body.into()).map_err(|error| self.failed(error))?;
        Ok(stored)
    }

    /// Removes all chunks of a body of so many blocks.
    pub(crate) fn delete(&self, id: u64, blocks: u64) -> Result<(), Error> {
        for chunk in 0..u32::try_from(blocks.div_ceil(CHUNK_BLOCKS as u64).max(1)).unwrap_or(u32::MAX) {
            self.objects.delete(&self.object(id, chunk)).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn wrong(&self, what: &str) -> Error {
        Error::corrupt(format!("{what} does not open"), format!("tier {}", self.name))
    }

    fn index(&self, id: u64, chunk: u32, bytes: &[u8]) -> Result<Index, Error> {
        let address = Address { extent: id, block: INDEX_BIT | chunk };
        let plain = self.cipher(id)?.open(address, bytes.to_vec()).ok_or_else(|| self.wrong("an index"))?;
        let mut at = bytes.len() as u64;
        let mut index = Vec::new();
        for entry in plain.chunks_exact(ENTRY_BYTES) {
            let entry = parse_entry(entry).ok_or_else(|| self.wrong("an index"))?;
            index.push((entry, at));
            at += u64::from(entry.stored) + TAG_BYTES;
        }
        Ok(index)
    }

    /// Block `block` of the body, verified.
    pub(crate) fn block(&self, extent: &ExtentRef, block: u32) -> Result<Sealed, Error> {
        let id = extent.id;
        let (chunk, within) = (block / CHUNK, size(u64::from(block % CHUNK)));
        let name = self.object(id, chunk);
        let first = size(u64::from(chunk)) * CHUNK_BLOCKS;
        let count = extent.blocks().max(1).saturating_sub(first).min(CHUNK_BLOCKS);
        let head = (count * ENTRY_BYTES) as u64 + TAG_BYTES;
        let get = |offset, length| self.objects.get(&name, offset, length).map_err(|error| self.failed(error));
        let mut whole = None;
        let index = if let Some(index) = self.open.get(&(id, chunk)) {
            index
        } else {
            // A body of one block comes with its index.
            let single = extent.blocks() <= 1 && extent.stored <= 2 * BLOCK_BYTES as u64;
            let bytes = get(0, if single { extent.stored } else { head })?;
            let front = bytes.get(..size(head)).ok_or_else(|| self.wrong("an index"))?;
            let index = Arc::new(self.index(id, chunk, front)?);
            self.open.insert((id, chunk), Arc::clone(&index));
            whole = single.then_some(bytes);
            index
        };
        let (entry, offset) = index.get(within).copied().ok_or_else(|| self.wrong("an index"))?;
        let length = u64::from(entry.stored) + TAG_BYTES;
        let bytes = match whole {
            Some(whole) => {
                let range = size(offset)..size(offset + length);
                whole.get(range).ok_or_else(|| self.wrong("a block"))?.to_vec()
            }
            None => get(offset, length)?.to_vec(),
        };
        let place = Address { extent: id, block };
        let stored = self.cipher(id)?.open(place, bytes).ok_or_else(|| self.wrong("a block"))?;
        let address = Address { extent: extent.sealed, block };
        if !block::checks(address, entry, &stored) {
            return Err(self.wrong("a block"));
        }
        Ok(Sealed { address, entry, stored })
    }
}
