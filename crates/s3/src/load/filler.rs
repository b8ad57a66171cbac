//! Bodies that no store has seen: random bytes with a stamp in every 4 KiB, so that nothing can be kept once for two.
//!
//! A share of each 4 KiB is zeros, which is what any compression takes away. Cost: a stamp a block, and the checksum; the
//! buffer of the last body is used again once it was sent.

use bytes::{Bytes, BytesMut};

use crate::Crc64;

const BLOCK: usize = 4096;

/// Makes bodies of one size.
pub(crate) struct Filler {
    buffer: BytesMut,
    last: Option<Bytes>,
    random: SplitMix,
}

/// `SplitMix64`. Source: Steele, Lea, Flood 2014.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A place in a list of `len`, which is not empty.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.next() % (len.max(1) as u64)).unwrap_or_default()
    }
}

impl Filler {
    /// Of `size` bytes, of which `zeros` per cent can be compressed away.
    pub(crate) fn new(size: usize, zeros: u8, seed: u64) -> Self {
        let mut random = SplitMix(seed);
        let mut buffer = BytesMut::zeroed(size);
        for block in buffer.chunks_mut(BLOCK) {
            let noise = block.len() - block.len() * usize::from(zeros.min(100)) / 100;
            for word in block.iter_mut().take(noise).collect::<Vec<_>>().chunks_mut(8) {
                for (byte, random) in word.iter_mut().zip(random.next().to_le_bytes()) {
                    **byte = random;
                }
            }
        }
        Self { buffer, last: None, random }
    }

    /// A body, and its checksum.
    pub(crate) fn next(&mut self) -> (Bytes, Crc64) {
        let taken = self.last.take().map(Bytes::try_into_mut);
        let mut buffer = match taken {
            Some(Ok(buffer)) => buffer,
            // The connection still holds it, so it is copied.
            Some(Err(held)) => BytesMut::from(&held[..]),
            None => std::mem::take(&mut self.buffer),
        };
        for block in buffer.chunks_mut(BLOCK) {
            for (byte, random) in block.iter_mut().zip(self.random.next().to_le_bytes()) {
                *byte = random;
            }
        }
        let body = buffer.freeze();
        self.last = Some(body.clone());
        (body.clone(), Crc64::of(&body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_blocks_of_any_two_bodies_are_the_same() {
        let mut seen = std::collections::BTreeSet::new();
        for worker in 0..3 {
            let mut filler = Filler::new(5 * BLOCK + 100, 0, worker);
            for _body in 0..20 {
                let (body, crc) = filler.next();
                assert_eq!((body.len(), crc), (5 * BLOCK + 100, Crc64::of(&body)));
                for block in body.chunks(BLOCK) {
                    assert!(seen.insert(block.to_vec()));
                }
            }
        }
    }

    #[test]
    fn the_share_of_zeros_is_as_asked() {
        let zeros = |share| {
            let (body, _crc) = Filler::new(1 << 20, share, 1).next();
            body.iter().map(|byte| usize::from(*byte == 0)).sum::<usize>() * 100 / body.len()
        };
        assert!(zeros(0) <= 1);
        assert!((49..=51).contains(&zeros(50)));
        assert_eq!(Filler::new(0, 0, 1).next().0.len(), 0);
    }
}
