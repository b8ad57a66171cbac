//! Fuzz targets of segments: records and maps whose checksum is right, whatever they hold.

use super::record::{HEAD_BYTES, encode_map, head_crc, parse_map, verified};
use crate::block::{Address, block_crc};
use crate::extent::{ENTRY_BYTES, ExtentRef, Place, parse_entry};

const SEGMENT: u64 = 3;
const OFFSET: u64 = 64;

/// The first bytes are the length that the row names; then come a head without its checksum, and blocks. Where the row and
/// the record agree the blocks come out; nothing beyond the record is read.
pub(crate) fn segments(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<3>() else { return };
    let [low, middle, high] = *len;
    let len = u64::from(u32::from_le_bytes([low, middle, high, 0]));
    let mut extent = ExtentRef {
        id: 7,
        len,
        stored: 0,
        crc: 0,
        sealed: 7,
        place: Place::Packed { segment: SEGMENT, offset: OFFSET },
    };
    let Some((body, data)) = rest.split_at_checked(HEAD_BYTES - 8 + extent.blocks().max(1) * ENTRY_BYTES) else {
        drop(parse_map(SEGMENT, 1, bytes));
        return;
    };
    // The checksums of blocks are right, too, so that what is behind them is looked at.
    let mut body = body.to_vec();
    let mut rest = data;
    for (block, entry) in (0_u32..).zip(body.get_mut(24..).unwrap_or_default().chunks_exact_mut(ENTRY_BYTES)) {
        let Some(read) = parse_entry(entry) else { return };
        let (stored, after) = rest.split_at(rest.len().min(usize::try_from(read.stored).unwrap_or(usize::MAX)));
        let crc = block_crc(Address { extent: extent.id, block }, read.codec, read.logical, stored);
        if let Some(slot) = entry.get_mut(8..16) {
            slot.copy_from_slice(&crc.to_le_bytes());
        }
        rest = after;
    }
    extent.crc = head_crc(SEGMENT, OFFSET, &body);
    let record = [&body[..], &extent.crc.to_le_bytes(), data].concat();
    extent.stored = record.len() as u64;
    let read = |range: std::ops::Range<u64>| {
        let end = usize::try_from(range.end).ok()?;
        record.get(usize::try_from(range.start).ok()?..end).map(<[u8]>::to_vec)
    };
    for wanted in [None, Some(0), Some(1), Some(u32::MAX)] {
        for sealed in verified(&extent, SEGMENT, OFFSET, wanted, read).into_iter().flatten() {
            drop(sealed.open(None));
        }
    }
    let elsewhere = verified(&extent, SEGMENT, OFFSET + 8, None, read);
    assert!(elsewhere.is_none(), "a record of another place is refused");
    let map: Vec<(u64, u64)> =
        data.chunks_exact(16).map(|pair| (pair.len() as u64, u64::from(pair.is_empty()))).collect();
    assert_eq!(parse_map(SEGMENT, 1, &encode_map(SEGMENT, 1, &map)), Some(map));
}

#[cfg(test)]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |len: u32, blocks: &[&[u8]]| {
        let mut bytes = len.to_le_bytes()[..3].to_vec();
        bytes.extend_from_slice(b"DHRC");
        bytes.extend_from_slice(&u32::try_from(blocks.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&u64::from(len).to_le_bytes());
        for block in blocks {
            let length = u32::try_from(block.len()).unwrap();
            let entry = [length.to_le_bytes(), length.to_le_bytes(), [0; 4], [0; 4]].concat();
            bytes.extend_from_slice(&entry);
        }
        bytes.extend(blocks.concat());
        bytes
    };
    vec![seed(5, &[b"hello"]), seed((256 << 10) + 3, &[b"the first", b"end"])]
}
