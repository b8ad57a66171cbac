//! Writing a body: blocks go to the disk while the next ones arrive.
//!
//! Memory: one block that fills and one that is written, 512 KiB; a body that may still turn out to be small is held, up
//! to 1 MiB, and one with parity has a stripe in memory.

use std::sync::Arc;

use bytes::Bytes;
use dh_core::limits::OBJECT_PUT_BYTES_MAX;
use tokio::task::JoinHandle;

use crate::config::{BLOCK_BYTES, INLINE_BYTES_MAX, PACKED_BYTES_MAX};
use crate::crypto::{Cipher, INLINE};
use crate::digest::Digester;
use crate::extent::{ExtentRef, ExtentWriter};
use crate::mutation::{Mutation, Path};
use crate::reaper::ExtentGuard;
use crate::store::{Inner, check_key, now_ms, off_runtime};
use crate::{ChecksumKind, Checksums, Condition, Error, ObjectInfo, ObjectMeta, Store, VersionId};

/// A body whose bytes are durable and that no object names yet. Dropping it frees them.
pub struct SealedBody {
    /// Its length.
    pub size: u64,
    /// Its MD5 in hex.
    pub md5: String,
    /// Its checksum, of the kind that was asked for.
    pub checksums: Checksums,
    pub(crate) content: Content,
}

impl std::fmt::Debug for SealedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedBody").field("size", &self.size).field("md5", &self.md5).finish_non_exhaustive()
    }
}

pub(crate) enum Content {
    Inline(Vec<u8>),
    Extent(ExtentRef, ExtentGuard),
}

/// Where a body will lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In its row if it is small, else in an extent.
    Object,
    /// Always in an extent: parts become extents of the object.
    Part,
}

struct Work {
    inner: Arc<Inner>,
    digester: Digester,
    /// The guard is dropped after the writer, when the file is no longer used.
    writer: Option<ExtentWriter>,
    guard: Option<ExtentGuard>,
    /// Blocks of a body that may still turn out to be small.
    held: Vec<Vec<u8>>,
    size: u64,
    cipher: Option<Arc<Cipher>>,
}

impl Work {
    /// Appends a block. Blocks the thread.
    fn block(mut self, bytes: Vec<u8>) -> Result<Self, Error> {
        self.digester.update(&bytes);
        self.inner.reaper.meter().admit(bytes.len() as u64)?;
        self.size += bytes.len() as u64;
        if self.writer.is_none() && self.size <= PACKED_BYTES_MAX as u64 {
            self.held.push(bytes);
            return Ok(self);
        }
        if self.writer.is_none() {
            let id = self.inner.bodies.new_id();
            self.guard = Some(ExtentGuard::new(&self.inner.reaper, id));
            let (compression, cipher) = (self.inner.config.compression, self.cipher.clone());
            self.writer = Some(ExtentWriter::create(self.inner.bodies.set(), id, compression, cipher)?);
        }
        if let (Some(writer), Some(guard)) = (&mut self.writer, &mut self.guard) {
            for bytes in self.held.drain(..).chain([bytes]).filter(|bytes| !bytes.is_empty()) {
                writer.push(&bytes)?;
                guard.grow_to(writer.physical());
            }
        }
        Ok(self)
    }

    /// Hands the body to the drives; its name, or its segment, is made durable with the row. Blocks the thread.
    fn seal(mut self) -> Result<SealedBody, Error> {
        let set = self.inner.bodies.set();
        let (extent, guard) = if let (Some(writer), Some(mut guard)) = (self.writer.take(), self.guard.take()) {
            let extent = writer.seal()?;
            guard.grow_to(extent.physical(set));
            (extent, guard)
        } else {
            let (extent, open) =
                self.inner.bodies.pack(&self.held, self.inner.config.compression, self.cipher.as_deref())?;
            (extent, ExtentGuard::packed(&self.inner.reaper, extent, open, extent.physical(set)))
        };
        let (md5, checksums) = self.digester.finish();
        Ok(SealedBody { size: self.size, md5, checksums, content: Content::Extent(extent, guard) })
    }
}

enum State {
    Idle(Box<Work>),
    Busy(JoinHandle<Result<Box<Work>, Error>>),
    Failed(Error),
}

/// Takes a body piece by piece.
pub struct BodyWriter {
    buffer: Vec<u8>,
    state: State,
    received: u64,
    limit: u64,
    place: Place,
}

impl std::fmt::Debug for BodyWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyWriter").field("received", &self.received).finish_non_exhaustive()
    }
}

impl BodyWriter {
    fn new(inner: Arc<Inner>, kind: ChecksumKind, place: Place) -> Self {
        let digester = Digester::new(kind);
        let work = Work { inner, digester, writer: None, guard: None, held: Vec::new(), size: 0, cipher: None };
        Self { buffer: Vec::new(), state: State::Idle(Box::new(work)), received: 0, limit: OBJECT_PUT_BYTES_MAX, place }
    }

    /// The same writer, but what it writes is encrypted. Before the first byte.
    #[must_use]
    pub fn encrypted(mut self, cipher: Arc<Cipher>) -> Self {
        if let State::Idle(work) = &mut self.state {
            work.cipher = Some(cipher);
        }
        self
    }

    /// Waits for the block that is being written.
    async fn work(&mut self) -> Result<Box<Work>, Error> {
        let gone = State::Failed(Error::Closed);
        let result = match std::mem::replace(&mut self.state, gone) {
            State::Idle(work) => Ok(work),
            State::Busy(task) => {
                task.await.unwrap_or_else(|_panic| Err(Error::Meta("a storage task panicked; see the log".to_owned())))
            }
            State::Failed(error) => Err(error),
        };
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// Appends `bytes`.
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Full`], or what the disk says; the body is then lost, and so is what it took.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.limit {
            return Err(Error::TooLarge(self.limit));
        }
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.buffer.len();
            let piece = bytes.split_to(room.min(bytes.len()));
            self.buffer.extend_from_slice(&piece);
            if self.buffer.len() == BLOCK_BYTES {
                let work = self.work().await?;
                let block = std::mem::replace(&mut self.buffer, Vec::with_capacity(BLOCK_BYTES));
                self.state = State::Busy(tokio::task::spawn_blocking(move || work.block(block).map(Box::new)));
            }
        }
        Ok(())
    }

    /// Makes the body durable.
    /// # Errors
    /// As [`BodyWriter::write`].
    pub async fn finish(mut self) -> Result<SealedBody, Error> {
        let mut work = self.work().await?;
        work.inner.counters.bytes_in(self.received);
        let rest = std::mem::take(&mut self.buffer);
        if self.place == Place::Object && work.size == 0 && rest.len() <= INLINE_BYTES_MAX {
            work.digester.update(&rest);
            let (md5, checksums) = work.digester.finish();
            let size = rest.len() as u64;
            let stored = match &work.cipher {
                None => rest,
                Some(cipher) => cipher.seal(INLINE, rest)?,
            };
            return Ok(SealedBody { size, md5, checksums, content: Content::Inline(stored) });
        }
        off_runtime(move || {
            let work = if rest.is_empty() && work.size > 0 { *work } else { work.block(rest)? };
            work.seal()
        })
        .await
    }
}

impl Store {
    /// A writer for the body of an object.
    pub fn body(&self) -> BodyWriter {
        self.body_with(ChecksumKind::Crc64Nvme)
    }

    /// The same, with the checksum that the client wants.
    pub fn body_with(&self, kind: ChecksumKind) -> BodyWriter {
        BodyWriter::new(Arc::clone(&self.0), kind, Place::Object)
    }

    /// A writer for the body of a part.
    pub fn part_body(&self, kind: ChecksumKind) -> BodyWriter {
        BodyWriter::new(Arc::clone(&self.0), kind, Place::Part)
    }

    /// Makes `body` the object `key`. When it returns, the object is durable.
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::Precondition`], or a failed commit; then nothing has changed.
    pub async fn put_sealed(
        &self,
        bucket: &str,
        key: &str,
        body: SealedBody,
        meta: impl Into<ObjectMeta> + Send,
        condition: Condition,
    ) -> Result<ObjectInfo, Error> {
        check_key(key)?;
        let (extents, inline, guard) = match body.content {
            Content::Inline(bytes) => (Vec::new(), bytes, None),
            Content::Extent(extent, guard) => (vec![extent], Vec::new(), Some(guard)),
        };
        let info = ObjectInfo {
            version: VersionId::Null,
            size: body.size,
            etag: body.md5,
            modified_ms: now_ms(),
            meta: meta.into(),
            checksums: body.checksums,
            parts: Vec::new(),
            extents,
        };
        let mutation = Mutation::Put { path: Path::new(bucket, key), info, inline, condition };
        let effects = self.0.commit(mutation, guard).await?;
        let info = effects.object.ok_or_else(|| Error::Meta("a put without an object".to_owned()))?;
        self.0.classed((bucket, key), &info);
        Ok(info)
    }
}
