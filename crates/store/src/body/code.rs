//! The erasure code: `m` parity shards over `k` data shards, any `k` of the `k + m` give all of them.
//!
//! The crate `reed-solomon-simd` (Leopard: an FFT over GF(2^16), AVX2 or NEON chosen when it runs) works on shards of one
//! even length in groups of 64 bytes; here every length is rounded up to 64 with zeros. Groups are independent of each
//! other, so shards are coded window by window, which keeps the work in the processor's cache; the result is the same.
//! With one data shard the code is a mirror: no arithmetic at all.

use std::cell::RefCell;

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use crate::Error;
use crate::config::Code;

/// Parity comes in groups of this many bytes.
pub(crate) const GROUP_BYTES: usize = 64;
/// Bytes of each shard that are encoded at a time: 8+3 gives 7.6 GB/s of data per core at 16 KiB, 5.7 at 256 KiB (measured
/// on a Xeon with AVX-512 that others used too).
const ENCODE_BYTES: usize = 16 << 10;
/// Bytes of each shard that are decoded at a time. Each decode first works out where the losses are, about 0.3 ms whatever
/// the length, so it is done for as much as there is: 0.45 GB/s at 16 KiB, 0.95 at 64 KiB, 1.3 at 256 KiB.
const DECODE_BYTES: usize = 256 << 10;

thread_local! {
    static ENCODER: RefCell<Option<ReedSolomonEncoder>> = const { RefCell::new(None) };
}

fn failed(error: reed_solomon_simd::Error) -> Error {
    Error::Meta(format!("the erasure code: {error}"))
}

/// The bytes `at..at + length` of a shard that ends in zeros without end.
fn window(shard: &[u8], at: usize, length: usize) -> std::borrow::Cow<'_, [u8]> {
    if let Some(whole) = shard.get(at..at + length) {
        return whole.into();
    }
    let mut padded = shard.get(at..).unwrap_or_default().to_vec();
    padded.resize(length, 0);
    padded.into()
}

/// The parity of `data`, at most `k` shards of any lengths; missing and short ones count as zeros.
pub(crate) fn encode(code: Code, data: &[&[u8]]) -> Result<Vec<Vec<u8>>, Error> {
    let (k, m) = (usize::from(code.data), usize::from(code.parity));
    let longest = data.iter().map(|shard| shard.len()).max().unwrap_or(0).next_multiple_of(GROUP_BYTES);
    if k == 1 {
        let copy = window(data.first().copied().unwrap_or_default(), 0, longest);
        return Ok(vec![copy.into_owned(); m]);
    }
    let mut parity = vec![Vec::with_capacity(longest); m];
    if m == 0 {
        return Ok(parity);
    }
    ENCODER.with_borrow_mut(|slot| {
        for at in (0..longest).step_by(ENCODE_BYTES) {
            let length = ENCODE_BYTES.min(longest - at);
            let encoder = if let Some(encoder) = slot {
                encoder.reset(k, m, length).map_err(failed)?;
                encoder
            } else {
                slot.insert(ReedSolomonEncoder::new(k, m, length).map_err(failed)?)
            };
            for shard in 0..k {
                let bytes = data.get(shard).copied().unwrap_or_default();
                encoder.add_original_shard(window(bytes, at, length)).map_err(failed)?;
            }
            let result = encoder.encode().map_err(failed)?;
            for (whole, piece) in parity.iter_mut().zip(result.recovery_iter()) {
                whole.extend_from_slice(piece);
            }
        }
        Ok(parity)
    })
}

/// All data shards from what is left: `shards` has the `k` data and then the `m` parity shards. Each comes back with
/// `length` bytes.
/// # Errors
/// If fewer than `k` are left.
pub(crate) fn reconstruct(code: Code, shards: &[Option<Vec<u8>>], length: usize) -> Result<Vec<Vec<u8>>, Error> {
    let (k, m) = (usize::from(code.data), usize::from(code.parity));
    let length = length.next_multiple_of(GROUP_BYTES);
    if k == 1 {
        let copy = shards.iter().flatten().next();
        let copy = copy.ok_or_else(|| Error::Drives("no copy is left".to_owned()))?;
        return Ok(vec![window(copy, 0, length).into_owned()]);
    }
    let (data, parity) = shards.split_at_checked(k).unwrap_or((shards, &[]));
    let mut whole: Vec<Vec<u8>> = data
        .iter()
        .map(|shard| shard.as_deref().map(|bytes| window(bytes, 0, length).into_owned()).unwrap_or_default())
        .collect();
    if data.iter().all(Option::is_some) {
        return Ok(whole);
    }
    if shards.iter().flatten().count() < k {
        return Err(Error::Drives(format!("fewer than {k} shards are left")));
    }
    let mut decoder: Option<ReedSolomonDecoder> = None;
    for at in (0..length).step_by(DECODE_BYTES) {
        let piece = DECODE_BYTES.min(length - at);
        let decoder = if let Some(decoder) = &mut decoder {
            decoder.reset(k, m, piece).map_err(failed)?;
            decoder
        } else {
            decoder.insert(ReedSolomonDecoder::new(k, m, piece).map_err(failed)?)
        };
        for (index, bytes) in data.iter().enumerate().filter_map(|(index, shard)| Some((index, shard.as_deref()?))) {
            decoder.add_original_shard(index, window(bytes, at, piece)).map_err(failed)?;
        }
        for (index, bytes) in parity.iter().enumerate().filter_map(|(index, shard)| Some((index, shard.as_deref()?))) {
            decoder.add_recovery_shard(index, window(bytes, at, piece)).map_err(failed)?;
        }
        let result = decoder.decode().map_err(failed)?;
        for (index, bytes) in result.restored_original_iter() {
            if let Some(shard) = whole.get_mut(index) {
                shard.extend_from_slice(bytes);
            }
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        (0..length)
            .map(|_index| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_le_bytes()[6]
            })
            .collect()
    }

    #[test]
    fn any_k_of_k_plus_m_give_all() {
        for (k, m) in [(1_u8, 0_u8), (1, 1), (1, 2), (2, 1), (3, 2), (4, 2), (8, 3)] {
            let code = Code { data: k, parity: m };
            let (k, m) = (usize::from(k), usize::from(m));
            for length in [1, 64, 1_000, 20_000] {
                let data: Vec<Vec<u8>> =
                    (0..k).map(|index| shard(index as u64 + 3, length - index.min(length) / 2)).collect();
                let views: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                let parity = encode(code, &views).unwrap();
                assert_eq!(parity.len(), m);
                for lost in 0_u32..1 << (k + m) {
                    if lost.count_ones() as usize > m
                        || (length > 64
                            && (lost.count_ones() as usize != m || (length > 1_000 && lost % 5 != 0 && lost != 0)))
                    {
                        continue;
                    }
                    let all = data.iter().chain(&parity).cloned().enumerate();
                    let left: Vec<_> = all.map(|(index, bytes)| (lost >> index & 1 == 0).then_some(bytes)).collect();
                    let found = reconstruct(code, &left, length).unwrap();
                    for (want, have) in data.iter().zip(&found) {
                        assert_eq!(have[..want.len()], want[..], "{k}+{m}, {length} bytes, lost {lost:b}");
                        assert!(have[want.len()..].iter().all(|byte| *byte == 0));
                    }
                }
            }
        }
    }

    #[test]
    fn fewer_than_k_are_refused() {
        let code = Code { data: 2, parity: 1 };
        assert!(reconstruct(code, &[None, None, Some(vec![0; 64])], 64).is_err());
    }
}
