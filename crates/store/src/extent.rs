//! The file that holds one body or part.
//!
//! Layout, little-endian, no padding:
//! `"DHEXTNT1" | version u32 | block bytes u32 | extent id u64 | crc of the 24 bytes before` (32 bytes), the stored blocks
//! one after another, an index of 16 bytes per block `stored u32, bit 31 = zstd | logical u32 | crc u64`, and
//! `"DHINDEX1" | extent id u64 | blocks u32 | 0 u32 | logical u64 | crc of index and the 32 bytes before` (40 bytes).
//!
//! Invariant: the metadata row repeats the file's length and the index's crc, so that a file of the right name and the
//! wrong content is seen before one of its bytes is used. Written under a temporary name, synced, then renamed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Error;
use crate::block::{self, Address, BlockEntry, bound_crc};
use crate::config::{BLOCK_BYTES, Compression};
use crate::crypto::Cipher;
use crate::disk::{Disk, DiskFile};

const HEADER_MAGIC: &[u8; 8] = b"DHEXTNT1";
const INDEX_MAGIC: &[u8; 8] = b"DHINDEX1";
const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: u64 = 32;
const ENTRY_BYTES: usize = 16;
const TRAILER_BYTES: usize = 40;
const ZSTD_BIT: u32 = 1 << 31;
/// Extents of one directory: neighbours share it, so that one directory sync serves a batch of puts.
const DIRECTORY_SHIFT: u32 = 12;
/// The ending of a finished extent's name, and of one that is being written.
pub(crate) const SUFFIX: &str = "dhx";
pub(crate) const TEMP_SUFFIX: &str = "tmp";

/// How a metadata row names an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ExtentRef {
    pub(crate) id: u64,
    /// Logical bytes.
    pub(crate) len: u64,
    /// Bytes of the file.
    pub(crate) stored: u64,
    /// The index's checksum.
    pub(crate) crc: u64,
}

/// The directory of an extent.
pub(crate) fn directory(root: &Path, id: u64) -> PathBuf {
    root.join(format!("{:013x}", id >> DIRECTORY_SHIFT))
}

/// The path of a finished extent.
pub(crate) fn path(root: &Path, id: u64) -> PathBuf {
    directory(root, id).join(format!("{id:016x}.{SUFFIX}"))
}

fn header(id: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.extend_from_slice(HEADER_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(BLOCK_BYTES).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    let crc = bound_crc(&id.to_le_bytes(), &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// An extent that is being written. Used on blocking threads only.
#[derive(Debug)]
pub(crate) struct ExtentWriter {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    temporary: PathBuf,
    path: PathBuf,
    id: u64,
    offset: u64,
    logical: u64,
    entries: Vec<BlockEntry>,
    compression: Compression,
    cipher: Option<Arc<Cipher>>,
}

impl ExtentWriter {
    /// Starts the extent `id`, whose directory exists.
    pub(crate) fn create(
        disk: &Arc<dyn Disk>,
        root: &Path,
        id: u64,
        compression: Compression,
        cipher: Option<Arc<Cipher>>,
    ) -> Result<Self, Error> {
        let path = path(root, id);
        let temporary = path.with_extension(TEMP_SUFFIX);
        let file = disk.create(&temporary).map_err(|error| Error::io(named("create", &temporary), error))?;
        Ok(Self {
            disk: Arc::clone(disk),
            file,
            temporary,
            path,
            id,
            offset: 0,
            logical: 0,
            entries: Vec::new(),
            compression,
            cipher,
        })
    }

    /// Bytes written so far.
    pub(crate) const fn stored(&self) -> u64 {
        self.offset
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_at(self.offset, bytes).map_err(|error| Error::io(named("write", &self.temporary), error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Appends one block; every block but the last must be full.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        assert!(bytes.len() <= BLOCK_BYTES, "a block is at most {BLOCK_BYTES} bytes");
        assert!(self.logical.is_multiple_of(BLOCK_BYTES as u64), "only the last block may be short");
        if self.offset == 0 {
            self.write(&header(self.id))?;
        }
        let block = u32::try_from(self.entries.len()).map_err(|_many| Error::TooLarge(u64::from(u32::MAX)))?;
        let (entry, packed) =
            block::seal(Address { extent: self.id, block }, bytes, self.compression, self.cipher.as_deref())?;
        self.write(packed.as_deref().unwrap_or(bytes))?;
        self.entries.push(entry);
        self.logical += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index, makes the bytes durable and gives the file its name. The name is durable once its directory
    /// was synced, which the committer does for a whole batch.
    pub(crate) fn seal(mut self) -> Result<ExtentRef, Error> {
        if self.offset == 0 {
            self.write(&header(self.id))?;
        }
        let mut tail = Vec::with_capacity(self.entries.len() * ENTRY_BYTES + TRAILER_BYTES);
        for entry in &self.entries {
            let stored = entry.stored | if entry.zstd { ZSTD_BIT } else { 0 };
            tail.extend_from_slice(&stored.to_le_bytes());
            tail.extend_from_slice(&entry.logical.to_le_bytes());
            tail.extend_from_slice(&entry.crc.to_le_bytes());
        }
        let blocks = u32::try_from(self.entries.len()).map_err(|_many| Error::TooLarge(u64::from(u32::MAX)))?;
        tail.extend_from_slice(INDEX_MAGIC);
        tail.extend_from_slice(&self.id.to_le_bytes());
        tail.extend_from_slice(&blocks.to_le_bytes());
        tail.extend_from_slice(&0_u32.to_le_bytes());
        tail.extend_from_slice(&self.logical.to_le_bytes());
        let crc = bound_crc(&self.id.to_le_bytes(), &tail);
        tail.extend_from_slice(&crc.to_le_bytes());
        self.write(&tail)?;
        self.file.sync_data().map_err(|error| Error::io(named("sync", &self.temporary), error))?;
        self.disk
            .rename(&self.temporary, &self.path)
            .map_err(|error| Error::io(named("rename", &self.temporary), error))?;
        Ok(ExtentRef { id: self.id, len: self.logical, stored: self.offset, crc })
    }
}

/// A finished extent that is open for reading, with its verified index.
#[derive(Debug)]
pub(crate) struct OpenExtent {
    file: Box<dyn DiskFile>,
    name: String,
    id: u64,
    /// Entry and file offset of each block.
    blocks: Vec<(BlockEntry, u64)>,
}

impl OpenExtent {
    /// Opens the file, and believes nothing in it that the row does not confirm.
    pub(crate) fn open(disk: &dyn Disk, root: &Path, extent: &ExtentRef) -> Result<Self, Error> {
        let path = path(root, extent.id);
        let name = path.display().to_string();
        let bad = |what: &str| Error::corrupt(what, &name);
        let file = disk.open(&path).map_err(|error| {
            let missing = error.kind() == ErrorKind::NotFound;
            if missing { bad("the extent file is missing") } else { Error::io(named("open", &path), error) }
        })?;
        let read = |offset: u64, out: &mut [u8]| {
            file.read_at(offset, out).map_err(|error| {
                let short = error.kind() == ErrorKind::UnexpectedEof;
                if short { bad("the extent file is too short") } else { Error::io(named("read", &path), error) }
            })
        };
        let mut head = [0; 32];
        read(0, &mut head)?;
        if head.as_slice() != header(extent.id).as_slice() {
            return Err(bad("the extent's header is not the one that was written"));
        }
        let count = extent.len.div_ceil(BLOCK_BYTES as u64);
        let count = usize::try_from(count).map_err(|_large| bad("the row's length is out of range"))?;
        let tail_bytes = count.saturating_mul(ENTRY_BYTES).saturating_add(TRAILER_BYTES);
        let start = extent
            .stored
            .checked_sub(tail_bytes as u64)
            .filter(|start| *start >= HEADER_BYTES)
            .ok_or_else(|| bad("the row's lengths contradict each other"))?;
        let mut tail = vec![0; tail_bytes];
        read(start, &mut tail)?;
        let (body, crc) = tail.split_at_checked(tail_bytes - 8).unwrap_or((&tail, &[]));
        if crc != extent.crc.to_le_bytes().as_slice() || bound_crc(&extent.id.to_le_bytes(), body) != extent.crc {
            return Err(bad("the extent's index is not the one that was written"));
        }
        let mut blocks = Vec::with_capacity(count);
        let mut offset = HEADER_BYTES;
        for bytes in body.chunks_exact(ENTRY_BYTES).take(count) {
            let entry = parse_entry(bytes).ok_or_else(|| bad("the index is cut short"))?;
            blocks.push((entry, offset));
            offset += u64::from(entry.stored);
        }
        if offset != start {
            return Err(bad("the index does not fill the file"));
        }
        Ok(Self { file, name, id: extent.id, blocks })
    }

    /// The bytes of block `block`, verified.
    pub(crate) fn block(&self, block: u32, cipher: Option<&Cipher>) -> Result<Vec<u8>, Error> {
        let place = usize::try_from(block).ok().and_then(|index| self.blocks.get(index)).copied();
        let (entry, offset) = place.ok_or_else(|| Error::corrupt(format!("there is no block {block}"), &self.name))?;
        let length = usize::try_from(entry.stored).unwrap_or(0);
        let mut stored = vec![0; length];
        self.file.read_at(offset, &mut stored).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                Error::corrupt(format!("block {block} is cut short"), &self.name)
            } else {
                Error::io(format!("read block {block} of {}", self.name), error)
            }
        })?;
        block::open(Address { extent: self.id, block }, entry, stored, cipher)
            .map_err(|error| Error::corrupt(format!("block {block}: {error}"), &self.name))
    }
}

fn parse_entry(bytes: &[u8]) -> Option<BlockEntry> {
    let word = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
    Some(BlockEntry {
        stored: word & !ZSTD_BIT,
        zstd: word & ZSTD_BIT != 0,
        logical: u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?),
        crc: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
    })
}

fn named(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}
