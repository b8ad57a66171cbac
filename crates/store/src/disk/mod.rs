//! The seam to the operating system: every byte that the store keeps goes through a [`Disk`].
//!
//! Invariant: the store learns of durability only through `sync_data` and `sync_dir`; nothing else promises anything.
//! [`RealDisk`] is the operating system; [`SimDisk`] keeps cached and durable images apart, fails any operation, and
//! shows what a power cut would leave.

mod crash;
mod real;
mod sim;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

pub use crash::{CrashPoints, Survival};
pub use real::RealDisk;
pub use sim::{Fault, SimDisk};

/// Space of the file system that holds a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A file system.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Makes a file that must not exist yet, for reading and writing.
    /// # Errors
    /// What the operating system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    /// # Errors
    /// What the operating system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file within its directory.
    /// # Errors
    /// What the operating system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    /// # Errors
    /// What the operating system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents; it is no error if they exist.
    /// # Errors
    /// What the operating system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    /// # Errors
    /// What the operating system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The files and directories in a directory, in any order.
    /// # Errors
    /// What the operating system says.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// The free space.
    /// # Errors
    /// What the operating system says.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the one lock on the file at `path`; `None` if another process or handle has it. Dropping it lets go.
    /// # Errors
    /// What the operating system says.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Fills `out` from `offset`, or fails.
    /// # Errors
    /// What the operating system says; `UnexpectedEof` if the file is shorter.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    /// # Errors
    /// What the operating system says.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    /// # Errors
    /// What the operating system says. After a failure nothing may be believed about the file.
    fn sync_data(&self) -> io::Result<()>;
    /// Gives the space of `offset..offset + len` back; the bytes read as zeros, the length stays. Space is given back in
    /// whole pages of the file system at most.
    /// # Errors
    /// What the operating system says; `Unsupported` if the file system has no holes.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    /// # Errors
    /// What the operating system says.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends the file with zeros.
    /// # Errors
    /// What the operating system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Whether the file has no bytes.
    /// # Errors
    /// What the operating system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
