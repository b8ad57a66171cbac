//! Bodies of fuzz targets: each takes any bytes and fails if a promise about what comes from outside is broken.
//!
//! Invariant: no input panics, none allocates more than it is long allows, and what a target says of an input is the same
//! each time. `fuzz/` beside the workspace runs them under libFuzzer; the tests below replay its seeds and random changes
//! of them in every gate (`DH_FUZZ_CASES=1000000 cargo test --release -p dh-store --lib fuzz` for long). Compiled for tests
//! and with the feature `fuzz` alone.

mod policies;
#[cfg(test)]
mod replay;

use std::path::Path;

use crate::block::{self, Address, BlockEntry, Codec};
use crate::disk::{Disk as _, SimDisk};
use crate::drive::{Found, Superblock};
use crate::{body, index, s3};

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("requests", s3::fuzz::requests),
    ("signatures", s3::fuzz::signatures),
    ("chunks", s3::fuzz::chunks),
    ("ranges", s3::fuzz::ranges),
    ("documents", s3::fuzz::documents),
    ("policies", policies::policies),
    ("rows", index::fuzz::rows),
    ("log", index::wal::fuzz::log),
    ("records", index::wal::fuzz::records),
    ("superblocks", superblocks),
    ("segments", body::packed::fuzz::segments),
    ("blocks", blocks),
];

/// Runs the target of this name.
/// # Panics
/// If there is none, or a promise is broken.
#[cfg(feature = "fuzz")]
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _body)| *known == name);
    assert!(target.is_some(), "`{name}` is no target");
    if let Some((_name, body)) = target {
        body(bytes);
    }
}

/// A superblock whose checksum is right, whatever else it says, reads back as itself.
fn superblocks(bytes: &[u8]) {
    const MAGIC: &[u8] = b"DHDRIVE1";
    let (disk, dir) = (SimDisk::new(1 << 20), Path::new("/drive"));
    let mut image = MAGIC.to_vec();
    image.extend_from_slice(bytes);
    image.resize(4_088, 0);
    let crc = block::bound_crc(MAGIC, &image);
    image.extend_from_slice(&crc.to_le_bytes());
    let made = disk.create_dir(dir).and_then(|()| disk.create(&dir.join("drive.a")));
    let written = made.and_then(|file| file.write_at(0, &image));
    assert!(written.is_ok(), "the simulated disk takes it");
    if let Ok(Found::Drive(found)) = Superblock::read(&disk, dir) {
        let again = SimDisk::new(1 << 20);
        assert!(again.create_dir(dir).and_then(|()| found.write(&again, dir)).is_ok(), "the simulated disk takes it");
        assert!(matches!(Superblock::read(&again, dir), Ok(Found::Drive(read)) if read == found), "{found:?}");
    }
}

/// A block whose checksum is right, whatever it holds, opens to as many bytes as its entry says, or not at all.
fn blocks(bytes: &[u8]) {
    let Some((head, stored)) = bytes.split_first_chunk::<5>() else { return };
    let [kind, logical @ ..] = *head;
    let codec = match kind % 3 {
        0 => Codec::Plain,
        1 => Codec::Zstd,
        _ => Codec::Lz4,
    };
    let logical = u32::from_le_bytes(logical);
    let address = Address { extent: 7, block: 1 };
    let length = u32::try_from(stored.len()).unwrap_or(u32::MAX);
    let crc = block::block_crc(address, codec, logical, stored);
    let entry = BlockEntry { stored: length, logical, codec, crc };
    if let Ok(opened) = block::open(address, entry, stored.to_vec(), None) {
        assert_eq!(u32::try_from(opened.len()), Ok(logical));
    }
    let wrong = BlockEntry { crc: crc ^ 1, ..entry };
    assert!(block::open(address, wrong, stored.to_vec(), None).is_err(), "a wrong checksum is seen");
}
