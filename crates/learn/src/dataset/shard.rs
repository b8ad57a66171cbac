//! One object of the store: some thousand samples, plain bytes.
//!
//! The pixels are not compressed here, so that what the store saves by compression can be seen there. Layout, all numbers
//! little-endian: magic `DHSHARD1` (8) | version u32 = 1 | samples u32 | height u32 | width u32 | label kind u32
//! (1 = one class per sample, u8) | classes u32 | CRC-32 of the payload u32 | CRC-32 of the header before it u32 |
//! payload: pixels, then labels. Shards come over a network, so every field is checked before it is used.

use dh_core::{HasKind, Kind};

use super::Samples;
use crate::number;

const MAGIC: &[u8; 8] = b"DHSHARD1";
const VERSION: u32 = 1;
const LABEL_CLASS_U8: u32 = 1;

/// Length of the header.
pub const HEADER_BYTES: usize = 40;

/// The most samples of one shard, and the largest image side: 65,536 images of 1,024 x 1,024 would be too large, and
/// the payload bound catches that.
const SAMPLES_MAX: u32 = 1 << 20;
const SIDE_MAX: u32 = 4_096;
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// Why bytes are not a shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a usable shard: {why}")]
pub struct Error {
    why: String,
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        Kind::Corrupt
    }
}

fn wrong(why: impl Into<String>) -> Error {
    Error { why: why.into() }
}

/// Writes samples `range` of `samples` as a shard.
///
/// # Errors
/// If the range is not inside the samples, or they are too many for one shard.
pub fn encode(samples: &Samples, range: std::ops::Range<usize>, classes: u32) -> Result<Vec<u8>, Error> {
    let width = samples.pixels_per_sample();
    let labels = samples.labels.get(range.clone()).ok_or_else(|| wrong("the range is outside of the samples"))?;
    let pixels = samples
        .pixels
        .get(range.start * width..range.end * width)
        .ok_or_else(|| wrong("there are fewer pixels than labels need"))?;
    let count = number::small(labels.len());
    if count == 0 || count > SAMPLES_MAX {
        return Err(wrong(format!("{count} samples; a shard holds 1 to {SAMPLES_MAX}")));
    }
    let mut payload = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
    payload.update(pixels);
    payload.update(labels);
    let payload_crc = crc32(payload.finalize());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + pixels.len() + labels.len());
    bytes.extend_from_slice(MAGIC);
    for field in [VERSION, count, samples.shape[0], samples.shape[1], LABEL_CLASS_U8, classes, payload_crc] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    let header_crc = crc_fast::crc32_iso_hdlc(&bytes);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(pixels);
    bytes.extend_from_slice(labels);
    Ok(bytes)
}

/// Reads a shard and checks all of it.
///
/// # Errors
/// Says what is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Samples, Error> {
    let header =
        bytes.get(..HEADER_BYTES).ok_or_else(|| wrong(format!("it ends inside its header ({} bytes)", bytes.len())))?;
    if !header.starts_with(MAGIC) {
        return Err(wrong("it does not begin with DHSHARD1"));
    }
    let mut fields = [0_u32; 8];
    for (field, raw) in fields.iter_mut().zip(header.get(MAGIC.len()..).unwrap_or_default().as_chunks::<4>().0) {
        *field = u32::from_le_bytes(*raw);
    }
    let [version, count, height, width, label_kind, classes, payload_crc, header_crc] = fields;
    if crc_fast::crc32_iso_hdlc(header.get(..HEADER_BYTES - 4).unwrap_or_default()) != header_crc {
        return Err(wrong("its header is damaged (CRC)"));
    }
    if version != VERSION {
        return Err(wrong(format!("version {version}; this program reads {VERSION}")));
    }
    if label_kind != LABEL_CLASS_U8 {
        return Err(wrong(format!("label kind {label_kind} is unknown")));
    }
    if count == 0 || count > SAMPLES_MAX || height == 0 || width == 0 || height > SIDE_MAX || width > SIDE_MAX {
        return Err(wrong(format!("{count} images of {height} x {width}")));
    }
    if classes == 0 || classes > 256 {
        return Err(wrong(format!("{classes} classes for labels of one byte")));
    }
    let pixels = u64::from(count) * u64::from(height) * u64::from(width);
    let expected = pixels + u64::from(count);
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if expected > PAYLOAD_BYTES_MAX || number::wide(payload.len()) != expected {
        return Err(wrong(format!("its header announces {expected} bytes and {} follow", payload.len())));
    }
    if crc_fast::crc32_iso_hdlc(payload) != payload_crc {
        return Err(wrong("its samples are damaged (CRC)"));
    }
    let (pixels, labels) = payload.split_at(number::index(pixels));
    if let Some(label) = labels.iter().find(|label| u32::from(**label) >= classes) {
        return Err(wrong(format!("label {label} with {classes} classes")));
    }
    Ok(Samples { shape: [height, width], pixels: pixels.to_vec(), labels: labels.to_vec() })
}

#[expect(clippy::cast_possible_truncation, reason = "a 32-bit CRC in a 64-bit answer")]
const fn crc32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        Samples { shape: [2, 2], pixels: (0..20).collect(), labels: vec![0, 1, 2, 1, 0] }
    }

    #[test]
    fn a_shard_reads_back_as_written() {
        let bytes = encode(&samples(), 1..4, 3).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES + 3 * 5);
        let back = decode(&bytes).unwrap();
        assert_eq!((back.pixels, back.labels), ((4..16).collect::<Vec<u8>>(), vec![1, 2, 1]));
    }

    #[test]
    fn every_truncation_and_every_flip_is_found() {
        let bytes = encode(&samples(), 0..5, 3).unwrap();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(decode(&longer).is_err());
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[place] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "byte {place} bit {bit}");
            }
        }
    }

    #[test]
    fn impossible_ranges_and_labels_are_refused() {
        assert!(encode(&samples(), 0..6, 3).is_err());
        assert!(encode(&samples(), 2..2, 3).is_err());
        assert!(decode(&encode(&samples(), 0..5, 2).unwrap()).is_err());
    }
}
