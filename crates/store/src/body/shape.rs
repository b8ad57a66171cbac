//! Where the bytes of a striped file lie. Pure arithmetic.
//!
//! A file of `len` bytes is cut into units of `unit` bytes; `k` units are a stripe, and slot `s` (one file on one drive)
//! holds unit `s` of every stripe, one after another; slots `k..k + m` hold parity. Only the last stripe may be short: its
//! units are filled in order, and its parity is as long as its first unit, rounded up to [`GROUP_BYTES`].

use std::ops::Range;

use crate::body::code::GROUP_BYTES;
use crate::config::Code;

/// Bytes under one checksum in a slot's file. Divides every unit.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;

/// `bytes` as a length in memory.
pub(crate) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The form of a striped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) code: Code,
    pub(crate) unit: u64,
    pub(crate) len: u64,
}

/// A piece of a striped file that lies in one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) slot: usize,
    /// In the slot's file.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Shape {
    const fn k(&self) -> u64 {
        self.code.data as u64
    }

    const fn stripe_bytes(&self) -> u64 {
        self.unit * self.k()
    }

    /// Bytes of slot `slot` in stripe `stripe`.
    pub(crate) fn unit_len(&self, stripe: u64, slot: usize) -> u64 {
        let start = stripe.saturating_mul(self.stripe_bytes());
        let left = self.len.saturating_sub(start);
        let slot = slot as u64;
        if slot < self.k() {
            left.saturating_sub(slot * self.unit).min(self.unit)
        } else {
            left.min(self.unit).next_multiple_of(GROUP_BYTES as u64)
        }
    }

    /// Bytes of slot `slot` in all stripes.
    pub(crate) fn slot_len(&self, slot: usize) -> u64 {
        let full = self.len / self.stripe_bytes();
        full * self.unit + self.unit_len(full, slot)
    }

    /// Checksums of slot `slot`.
    pub(crate) fn chunks(&self, slot: usize) -> u64 {
        self.slot_len(slot).div_ceil(CHUNK_BYTES)
    }

    /// Where chunk `chunk` of slot `slot` lies in its file; empty if the slot has no such chunk.
    pub(crate) fn chunk(&self, slot: usize, chunk: u64) -> Range<u64> {
        let len = self.slot_len(slot);
        (chunk * CHUNK_BYTES).min(len)..((chunk + 1) * CHUNK_BYTES).min(len)
    }

    /// Bytes over all drives, without checksums and trailers.
    pub(crate) fn physical(&self) -> u64 {
        (0..self.code.total()).map(|slot| self.slot_len(slot)).sum()
    }

    /// The pieces that hold `range`, in order.
    pub(crate) fn pieces(self, range: Range<u64>) -> impl Iterator<Item = Piece> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (unit, inside) = (at / self.unit, at % self.unit);
            let (stripe, slot) = (unit / self.k(), unit % self.k());
            let len = (self.unit - inside).min(range.end - at);
            at += len;
            Some(Piece { slot: size(slot), offset: stripe * self.unit + inside, len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_place_and_places_fill_the_slots() {
        let unit = CHUNK_BYTES;
        for code in [Code::SINGLE, Code { data: 1, parity: 1 }, Code { data: 3, parity: 2 }] {
            for len in [0, 1, unit - 1, unit, unit + 1, 3 * unit, 3 * unit + 5, 7 * unit + 100] {
                let shape = Shape { code, unit, len };
                let mut ends = vec![0; usize::from(code.data)];
                let mut total = 0;
                for piece in shape.pieces(0..len) {
                    assert_eq!(ends[piece.slot], piece.offset, "{shape:?}");
                    ends[piece.slot] += piece.len;
                    total += piece.len;
                }
                assert_eq!(total, len);
                for (slot, end) in ends.iter().enumerate() {
                    assert_eq!(shape.slot_len(slot), *end, "{shape:?} slot {slot}");
                }
                for slot in usize::from(code.data)..code.total() {
                    assert_eq!(shape.slot_len(slot), shape.slot_len(0).next_multiple_of(64), "{shape:?}");
                }
                let byte_by_byte: Vec<_> =
                    (0..len.min(3)).flat_map(|at| shape.pieces(at..at + 1)).map(|piece| piece.offset).collect();
                assert_eq!(byte_by_byte, (0..len.min(3)).collect::<Vec<_>>());
            }
        }
    }
}
