//! The bytes of a record, and of the map that ends a coded segment.

use std::ops::Range;

use crate::block::{self, Address, BlockEntry, Sealed, bound_crc};
use crate::extent::{ENTRY_BYTES, ExtentRef, encode_entry, parse_entry};

const MAGIC: &[u8; 4] = b"DHRC";
/// Bytes of a record before its entries, and of the crc behind them.
pub(super) const HEAD_BYTES: usize = 24 + 8;

/// The head of a record, and its crc.
pub(super) fn head(segment: u64, offset: u64, id: u64, len: u64, entries: &[BlockEntry]) -> (Vec<u8>, u64) {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + entries.len() * ENTRY_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    for entry in entries {
        encode_entry(entry, &mut bytes);
    }
    let crc = head_crc(segment, offset, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    (bytes, crc)
}

pub(super) fn head_crc(segment: u64, offset: u64, head: &[u8]) -> u64 {
    let mut place = segment.to_le_bytes().to_vec();
    place.extend_from_slice(&offset.to_le_bytes());
    bound_crc(&place, head)
}

/// Blocks `wanted` (all, if none) of the record `extent`, from whatever `read` gives for ranges of the record; `None` if
/// anything is not what the row says.
pub(super) fn verified(
    extent: &ExtentRef,
    segment: u64,
    offset: u64,
    wanted: Option<u32>,
    read: impl Fn(Range<u64>) -> Option<Vec<u8>>,
) -> Option<Vec<Sealed>> {
    let count = extent.blocks().max(1);
    let head_bytes = HEAD_BYTES + count * ENTRY_BYTES;
    // One block is read with its head, several are not.
    let first = if count == 1 { extent.stored } else { head_bytes as u64 };
    let bytes = read(0..first)?;
    let (head, data) = bytes.split_at_checked(head_bytes)?;
    let (body, crc) = head.split_last_chunk::<8>()?;
    if *crc != extent.crc.to_le_bytes() || head_crc(segment, offset, body) != extent.crc {
        return None;
    }
    let mut at = head_bytes as u64;
    let mut blocks = Vec::new();
    for (index, bytes) in (0_u32..).zip(body.get(24..)?.chunks_exact(ENTRY_BYTES)) {
        let entry = parse_entry(bytes)?;
        let range = at..at + u64::from(entry.stored);
        at = range.end;
        if wanted.is_some_and(|wanted| wanted != index) {
            continue;
        }
        let stored = if count == 1 { data.to_vec() } else { read(range)? };
        let address = Address { extent: extent.id, block: index };
        if !block::checks(address, entry, &stored) {
            return None;
        }
        blocks.push(Sealed { address, entry, stored });
    }
    (at == extent.stored).then_some(blocks)
}

/// The map of a coded segment, as it ends the file.
pub(super) fn encode_map(id: u64, generation: u32, map: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(map.len() * 16 + 8);
    for (offset, at) in map {
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
    }
    let crc = map_crc(id, generation, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn map_crc(id: u64, generation: u32, bytes: &[u8]) -> u64 {
    let mut place = id.to_le_bytes().to_vec();
    place.extend_from_slice(&generation.to_le_bytes());
    bound_crc(&place, bytes)
}

/// The map that [`encode_map`] wrote, if it checks.
pub(super) fn parse_map(id: u64, generation: u32, bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (body, crc) = bytes.split_last_chunk::<8>()?;
    if map_crc(id, generation, body).to_le_bytes() != *crc {
        return None;
    }
    let pair = |pair: &[u8]| {
        let (offset, at) = pair.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*offset), u64::from_le_bytes(*at.first_chunk::<8>()?)))
    };
    body.chunks_exact(16).map(pair).collect()
}
