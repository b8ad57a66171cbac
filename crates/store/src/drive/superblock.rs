//! What a drive says of itself: 4 KiB, in two files that are never written at the same time.
//!
//! Layout, little-endian: `"DHDRIVE1" | version u32 | feature bits u64 | store id 16 | drive id 16 | k u8 | m u8 | drives u8 |
//! index u8 | generation u64`, then 17 bytes for each drive of the set `drive id 16 | member u8`, zeros, and the crc of the
//! 4,088 bytes before. Invariant: of two valid copies the higher generation holds; one torn write leaves the other copy.

use std::io;
use std::path::{Path, PathBuf};

use crate::block::bound_crc;
use crate::config::Code;
use crate::disk::Disk;

const MAGIC: &[u8; 8] = b"DHDRIVE1";
const VERSION: u32 = 1;
const BYTES: usize = 4096;
const CRC_AT: usize = BYTES - 8;
/// The two copies.
const NAMES: [&str; 2] = ["drive.a", "drive.b"];

/// Sixteen random bytes that name a store or a drive.
pub(crate) type Id = [u8; 16];

/// What the set thinks of one of its drives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    /// It holds all that it should.
    In,
    /// It is being filled.
    Rebuilding,
    /// Writes were acknowledged without it.
    Out,
}

/// The content of a superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) store: Id,
    pub(crate) drive: Id,
    pub(crate) code: Code,
    pub(crate) index: u8,
    pub(crate) generation: u64,
    pub(crate) members: Vec<(Id, Member)>,
}

/// What is found where a drive should be.
#[derive(Debug)]
pub(crate) enum Found {
    /// A drive.
    Drive(Superblock),
    /// Nothing at all.
    Blank,
    /// A superblock of a newer program.
    Newer(u32),
    /// Files, but no superblock that checks.
    Unknown,
}

struct Cursor<'b>(&'b [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

impl Superblock {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.drive);
        let drives = u8::try_from(self.members.len()).unwrap_or(u8::MAX);
        bytes.extend_from_slice(&[self.code.data, self.code.parity, drives, self.index]);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        for (id, member) in &self.members {
            bytes.extend_from_slice(id);
            bytes.push(match member {
                Member::In => 0,
                Member::Rebuilding => 1,
                Member::Out => 2,
            });
        }
        bytes.resize(CRC_AT, 0);
        let crc = bound_crc(MAGIC, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let (body, crc) = bytes.split_last_chunk::<8>()?;
        let mut cursor = Cursor(body);
        if bytes.len() != BYTES || cursor.take::<8>()? != *MAGIC || bound_crc(MAGIC, body).to_le_bytes() != *crc {
            return None;
        }
        let version = u32::from_le_bytes(cursor.take()?);
        let features = u64::from_le_bytes(cursor.take()?);
        if version != VERSION || features != 0 {
            return Some(Err(version));
        }
        let store = cursor.take()?;
        let drive = cursor.take()?;
        let [data, parity, drives, index] = cursor.take()?;
        let generation = u64::from_le_bytes(cursor.take()?);
        let mut members = Vec::new();
        for _drive in 0..drives {
            let id = cursor.take()?;
            let member = match cursor.take::<1>()? {
                [0] => Member::In,
                [1] => Member::Rebuilding,
                _other => Member::Out,
            };
            members.push((id, member));
        }
        Some(Ok(Self { store, drive, code: Code { data, parity }, index, generation, members }))
    }

    /// Reads what lies in `dir`.
    /// # Errors
    /// If it cannot be read at all.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<Found> {
        let mut best: Option<Self> = None;
        let mut newer = None;
        for name in NAMES {
            let file = match disk.open(&dir.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut bytes = vec![0; BYTES];
            match file.read_at(0, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            match Self::decode(&bytes) {
                Some(Ok(found)) if best.as_ref().is_none_or(|best| best.generation < found.generation) => {
                    best = Some(found);
                }
                Some(Err(version)) => newer = Some(version),
                Some(Ok(_)) | None => {}
            }
        }
        if let Some(found) = best {
            return Ok(Found::Drive(found));
        }
        if let Some(version) = newer {
            return Ok(Found::Newer(version));
        }
        let files = match disk.list(dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A crash while a set is made leaves superblocks that do not check, and nothing else.
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            NAMES.contains(&name) || name == "LOCK" || name == "lost+found"
        };
        Ok(if files.iter().all(ours) { Found::Blank } else { Found::Unknown })
    }

    /// Writes both copies, each durable before the next is touched.
    /// # Errors
    /// What the disk says.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let bytes = self.encode();
        for name in NAMES {
            let path = dir.join(name);
            let file = match disk.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path)?,
                other => other?,
            };
            file.write_at(0, &bytes)?;
            file.sync_data()?;
        }
        disk.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_reads_back_and_every_flipped_bit_is_seen() {
        let block = Superblock {
            store: [1; 16],
            drive: [2; 16],
            code: Code { data: 4, parity: 2 },
            index: 3,
            generation: 9,
            members: vec![([2; 16], Member::In), ([3; 16], Member::Out), ([4; 16], Member::Rebuilding)],
        };
        let bytes = block.encode();
        assert_eq!(bytes.len(), BYTES);
        assert_eq!(Superblock::decode(&bytes), Some(Ok(block)));
        for byte in 0..BYTES {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            assert_eq!(Superblock::decode(&flipped), None, "byte {byte}");
        }
    }
}
