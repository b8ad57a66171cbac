//! One body, as rows name it, and the large ones, which have striped files of their own.
//!
//! A large body's striped file is its stored blocks one after another, an index of 16 bytes per block
//! `stored u32, bit 31 = zstd, bit 30 = lz4 | logical u32 | crc u64`, and `"DHINDEX1" | extent id u64 | blocks u32 | 0 u32 | logical u64 |
//! crc of index and the 32 bytes before` (40 bytes). Blocks that do not compress are as large as a unit, so one lies on one drive.
//!
//! Invariant: the metadata row repeats the file's length and the index's crc, so that a file of the right name and the
//! wrong content is seen before one of its bytes is used.

use std::sync::Arc;

use crate::Error;
use crate::block::{self, Address, BlockEntry, Codec, Sealed, bound_crc};
use crate::body::shape::{Shape, size};
use crate::body::stripe::{FileKey, StripeWriter};
use crate::body::striped::{Damage, StripedFile};
use crate::config::{BLOCK_BYTES, Compression};
use crate::crypto::Cipher;
use crate::drive::DriveSet;

const INDEX_MAGIC: &[u8; 8] = b"DHINDEX1";
pub(crate) const ENTRY_BYTES: usize = 16;
const TRAILER_BYTES: usize = 40;
const ZSTD_BIT: u32 = 1 << 31;
const LZ4_BIT: u32 = 1 << 30;
/// Bytes of a unit of a large body's striped file: a block's.
pub(crate) const UNIT_BYTES: u64 = BLOCK_BYTES as u64;

/// Where a body's bytes lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Place {
    /// In a striped file of its own.
    #[default]
    Large,
    /// In a segment, from this offset of the segment as it was first written; later moves are the segment's own affair.
    Packed { segment: u64, offset: u64 },
    /// In a striped file of its own on the drives of a colder tier.
    Cold { tier: u8 },
    /// In objects of another store.
    Remote { tier: u8 },
}

impl Place {
    /// The tier: 0 for the store's own drives.
    pub(crate) const fn tier(self) -> u8 {
        match self {
            Self::Large | Self::Packed { .. } => 0,
            Self::Cold { tier } | Self::Remote { tier } => tier,
        }
    }
}

/// How a metadata row names a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ExtentRef {
    pub(crate) id: u64,
    /// Logical bytes.
    pub(crate) len: u64,
    /// Bytes of blocks and index, before parity.
    pub(crate) stored: u64,
    /// The index's checksum.
    pub(crate) crc: u64,
    pub(crate) place: Place,
    /// The id that its blocks are bound to: its own, or that of the body which it is a moved copy of.
    pub(crate) sealed: u64,
}

impl ExtentRef {
    /// The form of a large body's file.
    pub(crate) fn shape(&self, set: &DriveSet) -> Shape {
        Shape { code: set.code(), unit: UNIT_BYTES, len: self.stored }
    }

    /// Bytes on all drives; of packed bodies as they are first written.
    pub(crate) fn physical(&self, set: &DriveSet) -> u64 {
        match self.place {
            Place::Large | Place::Cold { .. } => self.shape(set).physical(),
            Place::Remote { .. } => self.stored,
            Place::Packed { .. } => self.stored * (u64::from(set.code().parity) + 1),
        }
    }

    /// Its blocks.
    pub(crate) fn blocks(&self) -> usize {
        size(self.len.div_ceil(BLOCK_BYTES as u64))
    }
}

/// The bytes of an entry.
pub(crate) fn encode_entry(entry: &BlockEntry, out: &mut Vec<u8>) {
    let codec = match entry.codec {
        Codec::Plain => 0,
        Codec::Zstd => ZSTD_BIT,
        Codec::Lz4 => LZ4_BIT,
    };
    let stored = entry.stored | codec;
    out.extend_from_slice(&stored.to_le_bytes());
    out.extend_from_slice(&entry.logical.to_le_bytes());
    out.extend_from_slice(&entry.crc.to_le_bytes());
}

/// The entry that [`encode_entry`] wrote.
pub(crate) fn parse_entry(bytes: &[u8]) -> Option<BlockEntry> {
    let word = u32::from_le_bytes(bytes.get(0..4)?.try_into().ok()?);
    let codec = match (word & ZSTD_BIT != 0, word & LZ4_BIT != 0) {
        (false, false) => Codec::Plain,
        (true, false) => Codec::Zstd,
        (false, true) => Codec::Lz4,
        (true, true) => return None,
    };
    Some(BlockEntry {
        stored: word & !(ZSTD_BIT | LZ4_BIT),
        codec,
        logical: u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?),
        crc: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
    })
}

/// A large body that is being written. Used on blocking threads only.
#[derive(Debug)]
pub(crate) struct ExtentWriter {
    stripes: StripeWriter,
    id: u64,
    logical: u64,
    entries: Vec<BlockEntry>,
    compression: Compression,
    cipher: Option<Arc<Cipher>>,
    place: Place,
    sealed: u64,
}

impl ExtentWriter {
    /// Starts the extent `id`.
    pub(crate) fn create(
        set: &Arc<DriveSet>,
        id: u64,
        compression: Compression,
        cipher: Option<Arc<Cipher>>,
    ) -> Result<Self, Error> {
        let stripes = StripeWriter::create(set, FileKey::extent(id), UNIT_BYTES)?;
        let (place, sealed) = (Place::Large, id);
        Ok(Self { stripes, id, logical: 0, entries: Vec::new(), compression, cipher, place, sealed })
    }

    /// Starts a copy at `place` of a body whose blocks are bound to `sealed`.
    pub(crate) fn copying(set: &Arc<DriveSet>, extent: &ExtentRef, compression: Compression) -> Result<Self, Error> {
        let ExtentRef { id, place, sealed, .. } = *extent;
        Ok(Self { place, sealed, ..Self::create(set, id, compression, None)? })
    }

    /// Appends a block as it lies elsewhere.
    pub(crate) fn push_sealed(&mut self, block: &Sealed) -> Result<(), Error> {
        self.stripes.append(&block.stored)?;
        self.entries.push(block.entry);
        self.logical += u64::from(block.entry.logical);
        Ok(())
    }

    /// Bytes on all drives so far.
    pub(crate) fn physical(&self) -> u64 {
        self.stripes.physical()
    }

    /// Appends one block; every block but the last must be full.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        assert!(bytes.len() <= BLOCK_BYTES, "a block is at most {BLOCK_BYTES} bytes");
        assert!(self.logical.is_multiple_of(BLOCK_BYTES as u64), "only the last block may be short");
        let block = u32::try_from(self.entries.len()).map_err(|_many| Error::TooLarge(u64::from(u32::MAX)))?;
        let (entry, packed) =
            block::seal(Address { extent: self.sealed, block }, bytes, self.compression, self.cipher.as_deref())?;
        self.stripes.append(packed.as_deref().unwrap_or(bytes))?;
        self.entries.push(entry);
        self.logical += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index and makes the bytes durable. The names are durable once their directories are synced, which the
    /// committer does for a whole batch.
    pub(crate) fn seal(mut self) -> Result<ExtentRef, Error> {
        let mut tail = Vec::with_capacity(self.entries.len() * ENTRY_BYTES + TRAILER_BYTES);
        for entry in &self.entries {
            encode_entry(entry, &mut tail);
        }
        let blocks = u32::try_from(self.entries.len()).map_err(|_many| Error::TooLarge(u64::from(u32::MAX)))?;
        tail.extend_from_slice(INDEX_MAGIC);
        tail.extend_from_slice(&self.id.to_le_bytes());
        tail.extend_from_slice(&blocks.to_le_bytes());
        tail.extend_from_slice(&0_u32.to_le_bytes());
        tail.extend_from_slice(&self.logical.to_le_bytes());
        let crc = bound_crc(&self.id.to_le_bytes(), &tail);
        tail.extend_from_slice(&crc.to_le_bytes());
        self.stripes.append(&tail)?;
        let shape = self.stripes.finish()?;
        let Self { id, place, sealed, logical: len, .. } = self;
        Ok(ExtentRef { id, len, stored: shape.len, crc, place, sealed })
    }
}

/// A large body that is open for reading, with its verified index.
#[derive(Debug)]
pub(crate) struct OpenExtent {
    file: StripedFile,
    sealed: u64,
    /// Entry and offset of each block.
    blocks: Vec<(BlockEntry, u64)>,
}

impl OpenExtent {
    /// Opens the file, and believes nothing in it that the row does not confirm.
    pub(crate) fn open(set: &Arc<DriveSet>, extent: &ExtentRef, found: &mut Vec<Damage>) -> Result<Self, Error> {
        let file = StripedFile::new(set, FileKey::extent(extent.id), extent.shape(set));
        let tail_bytes = extent.blocks().saturating_mul(ENTRY_BYTES).saturating_add(TRAILER_BYTES);
        let start = extent.stored.checked_sub(tail_bytes as u64);
        let start = start.ok_or_else(|| Error::corrupt("the row's lengths contradict each other", file.name()))?;
        let parse = |tail: &[u8]| {
            let (body, crc) = tail.split_last_chunk::<8>()?;
            if *crc != extent.crc.to_le_bytes() || bound_crc(&extent.id.to_le_bytes(), body) != extent.crc {
                return None;
            }
            let mut blocks = Vec::with_capacity(extent.blocks());
            let mut offset = 0;
            for bytes in body.chunks_exact(ENTRY_BYTES).take(extent.blocks()) {
                let entry = parse_entry(bytes)?;
                blocks.push((entry, offset));
                offset += u64::from(entry.stored);
            }
            (offset == start).then_some(blocks)
        };
        let range = start..extent.stored;
        let blocks = if let Some(blocks) = file.read(range.clone()).and_then(|tail| parse(&tail)) {
            blocks
        } else {
            let tail = file.careful(range, found)?;
            parse(&tail).ok_or_else(|| Error::corrupt("the index is not the one that was written", file.name()))?
        };
        Ok(Self { file, sealed: extent.sealed, blocks })
    }

    /// Its name in reports.
    pub(crate) fn name(&self) -> String {
        self.file.name()
    }

    /// Block `block` as it lies, verified; what was found bad on the way is added to `found`.
    pub(crate) fn sealed(&self, block: u32, found: &mut Vec<Damage>) -> Result<Sealed, Error> {
        let place = usize::try_from(block).ok().and_then(|index| self.blocks.get(index)).copied();
        let (entry, offset) =
            place.ok_or_else(|| Error::corrupt(format!("there is no block {block}"), self.file.name()))?;
        let address = Address { extent: self.sealed, block };
        let range = offset..offset + u64::from(entry.stored);
        // Whether it decrypts is no question of the drive.
        let good = |stored: &Vec<u8>| block::checks(address, entry, stored);
        let stored = match self.file.read(range.clone()).filter(good) {
            Some(stored) => stored,
            None => self.file.careful(range, found)?,
        };
        Ok(Sealed { address, entry, stored })
    }
}
