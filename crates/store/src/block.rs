//! One block of a body: compressed if it pays, under a checksum that is bound to where it lies.
//!
//! Invariant: `open(address, seal(address, bytes)) == bytes`, and a block of another extent or another place fails.
//! Cost: a probe of 16 KiB tells most incompressible blocks, so that they are not compressed in vain. `docs/adr/0011` says
//! why there are two codecs. Each block names its own, so what was written under another setting stays readable.

use std::cell::RefCell;

use crc_fast::{CrcAlgorithm, Digest};

use crate::Error;
use crate::config::{BLOCK_BYTES, Compression};
use crate::crypto::Cipher;

/// zstd's fastest regular level; levels 2 and 3 gain a few per cent for half of the speed.
const ZSTD_LEVEL: i32 = 1;

/// How a block lies. The number is part of its checksum and of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Plain = 0,
    Zstd = 1,
    Lz4 = 2,
}

/// Bytes of each of the two samples that the probe compresses.
const PROBE_BYTES: usize = 8 << 10;

/// Where a block lies. Part of its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) extent: u64,
    pub(crate) block: u32,
}

/// What the index of an extent says of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    pub(crate) stored: u32,
    pub(crate) logical: u32,
    pub(crate) codec: Codec,
    pub(crate) crc: u64,
}

/// Why a block cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("the checksum differs")]
    Checksum,
    #[error("it does not decompress to its length")]
    Decompress,
    #[error("it does not decrypt")]
    Decrypt,
}

/// A block as it lies, of which the checksum is right.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) address: Address,
    pub(crate) entry: BlockEntry,
    pub(crate) stored: Vec<u8>,
}

impl Sealed {
    /// Its bytes.
    pub(crate) fn open(self, cipher: Option<&Cipher>) -> Result<Vec<u8>, BlockError> {
        open(self.address, self.entry, self.stored, cipher)
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The checksum of bytes that belong at a place: an address, then the bytes.
pub(crate) fn bound_crc(place: &[u8], bytes: &[u8]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(place);
    digest.update(bytes);
    digest.finalize()
}

pub(crate) fn block_crc(address: Address, codec: Codec, logical: u32, stored: &[u8]) -> u64 {
    let mut place = [0_u8; 17];
    let fields = address
        .extent
        .to_le_bytes()
        .into_iter()
        .chain(address.block.to_le_bytes())
        .chain(logical.to_le_bytes())
        .chain([codec as u8]);
    for (target, byte) in place.iter_mut().zip(fields) {
        *target = byte;
    }
    bound_crc(&place, stored)
}

fn compress(codec: Codec, bytes: &[u8]) -> Option<Vec<u8>> {
    match codec {
        Codec::Plain => None,
        Codec::Zstd => zstd(bytes),
        Codec::Lz4 => Some(lz4_flex::block::compress(bytes)),
    }
}

fn zstd(bytes: &[u8]) -> Option<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        slot.as_mut()?.compress(bytes).ok()
    })
}

fn pays(before: usize, after: usize) -> bool {
    after <= before - before / 16
}

fn looks_compressible(codec: Codec, bytes: &[u8]) -> bool {
    if bytes.len() <= 4 * PROBE_BYTES {
        return true;
    }
    [0, bytes.len() / 2].into_iter().any(|start| {
        bytes
            .get(start..start + PROBE_BYTES)
            .and_then(|sample| Some((sample.len(), compress(codec, sample)?.len())))
            .is_some_and(|(before, after)| pays(before, after))
    })
}

/// The entry of a block and, if it pays, its compressed bytes; `None` means that the bytes are stored as they are.
/// # Errors
/// If it cannot be encrypted.
pub(crate) fn seal(
    address: Address,
    bytes: &[u8],
    compression: Compression,
    cipher: Option<&Cipher>,
) -> Result<(BlockEntry, Option<Vec<u8>>), Error> {
    let codec = match compression {
        Compression::Auto | Compression::Lz4 => Codec::Lz4,
        Compression::Zstd => Codec::Zstd,
        Compression::Off => Codec::Plain,
    };
    let tries = codec != Codec::Plain && bytes.len() >= 64 && looks_compressible(codec, bytes);
    let packed = if tries { compress(codec, bytes).filter(|packed| pays(bytes.len(), packed.len())) } else { None };
    let codec = if packed.is_some() { codec } else { Codec::Plain };
    let packed = match cipher {
        None => packed,
        Some(cipher) => Some(cipher.seal(address, packed.unwrap_or_else(|| bytes.to_vec()))?),
    };
    let stored = packed.as_deref().unwrap_or(bytes);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let logical = length(bytes);
    let entry = BlockEntry { stored: length(stored), logical, codec, crc: block_crc(address, codec, logical, stored) };
    Ok((entry, packed))
}

/// Whether the stored bytes are those that were sealed at this address. Needs no key.
pub(crate) fn checks(address: Address, entry: BlockEntry, stored: &[u8]) -> bool {
    block_crc(address, entry.codec, entry.logical, stored) == entry.crc
}

/// The bytes of a block, verified.
/// # Errors
/// If they are not what was sealed at this address.
pub(crate) fn open(
    address: Address,
    entry: BlockEntry,
    stored: Vec<u8>,
    cipher: Option<&Cipher>,
) -> Result<Vec<u8>, BlockError> {
    if !checks(address, entry, &stored) {
        return Err(BlockError::Checksum);
    }
    let stored = match cipher {
        None => stored,
        Some(cipher) => cipher.open(address, stored).ok_or(BlockError::Decrypt)?,
    };
    let logical = usize::try_from(entry.logical).map_err(|_too_large| BlockError::Decompress)?;
    if logical > BLOCK_BYTES {
        return Err(BlockError::Decompress);
    }
    let bytes = match entry.codec {
        Codec::Plain => stored,
        Codec::Lz4 => lz4_flex::block::decompress(&stored, logical).map_err(|_wrong| BlockError::Decompress)?,
        Codec::Zstd => DECOMPRESSOR
            .with_borrow_mut(|slot| {
                if slot.is_none() {
                    *slot = zstd::bulk::Decompressor::new().ok();
                }
                slot.as_mut()?.decompress(&stored, logical).ok()
            })
            .ok_or(BlockError::Decompress)?,
    };
    if bytes.len() == logical { Ok(bytes) } else { Err(BlockError::Decompress) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Address = Address { extent: 7, block: 3 };

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..length)
            .map(|_index| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect()
    }

    #[test]
    fn a_block_opens_to_what_was_sealed_and_text_gets_smaller() {
        for (bytes, compressed) in [
            (b"the quick brown fox ".repeat(5_000), true),
            (noise(100_000), false),
            (Vec::new(), false),
            (vec![0; 1], false),
        ] {
            for (compression, codec) in [
                (Compression::Auto, Codec::Lz4),
                (Compression::Lz4, Codec::Lz4),
                (Compression::Zstd, Codec::Zstd),
                (Compression::Off, Codec::Plain),
            ] {
                let (entry, packed) = seal(HERE, &bytes, compression, None).unwrap();
                let wanted = if compressed { codec } else { Codec::Plain };
                assert_eq!(entry.codec, wanted, "{} bytes", bytes.len());
                let stored = packed.unwrap_or_else(|| bytes.clone());
                assert_eq!(open(HERE, entry, stored.clone(), None).unwrap(), bytes);
                for other in [Codec::Plain, Codec::Zstd, Codec::Lz4].into_iter().filter(|other| *other != entry.codec) {
                    let named = BlockEntry { codec: other, ..entry };
                    assert_eq!(open(HERE, named, stored.clone(), None), Err(BlockError::Checksum));
                }
            }
        }
    }

    #[test]
    fn an_encrypted_block_is_compressed_first_and_needs_its_key() {
        let (right, wrong) = (Cipher::new(&[1; 32]).unwrap(), Cipher::new(&[2; 32]).unwrap());
        let bytes = b"the quick brown fox ".repeat(5_000);
        let (entry, packed) = seal(HERE, &bytes, Compression::Auto, Some(&right)).unwrap();
        let stored = packed.unwrap();
        assert!(entry.codec == Codec::Lz4 && stored.len() < bytes.len() / 10);
        assert_eq!(open(HERE, entry, stored.clone(), Some(&right)).unwrap(), bytes);
        assert_eq!(open(HERE, entry, stored.clone(), Some(&wrong)), Err(BlockError::Decrypt));
        assert!(open(HERE, entry, stored, None).is_err());
    }

    #[test]
    fn a_block_of_another_place_or_with_a_flipped_bit_is_refused() {
        let bytes = b"weights and biases".repeat(100);
        let (entry, packed) = seal(HERE, &bytes, Compression::Auto, None).unwrap();
        let stored = packed.unwrap();
        for wrong in [Address { extent: 8, block: 3 }, Address { extent: 7, block: 4 }] {
            assert_eq!(open(wrong, entry, stored.clone(), None), Err(BlockError::Checksum));
        }
        for byte in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[byte] ^= 1 << (byte % 8);
            assert_eq!(open(HERE, entry, flipped, None), Err(BlockError::Checksum));
        }
        assert_eq!(
            open(HERE, BlockEntry { logical: entry.logical - 1, ..entry }, stored, None),
            Err(BlockError::Checksum)
        );
    }
}
