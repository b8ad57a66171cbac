//! A disk in memory that tells cached from durable. It can fail any one operation, and stop at any operation as a power
//! cut would: what was not synced is then gone, or kept, as the test chooses.
//!
//! Model: a file's content becomes durable by `sync_data` (of that content) and its name by `sync_dir` of its directory.
//! A cut keeps for each file the durable content and for each directory the durable names. Source for what file systems
//! may do: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, Space};

/// What goes wrong at the chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// That one operation fails as by a bad device; later ones work.
    Eio,
    /// That one operation fails for want of space, if it writes; later ones work.
    Full,
    /// That operation and all later ones fail: the machine is gone.
    Cut,
}

#[derive(Debug, Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    /// All files by number, so that an unlinked file can still be read.
    files: BTreeMap<u64, Content>,
    /// Names as programs see them, and as a power cut would leave them.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeMap<PathBuf, bool>,
    next: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    locked: bool,
    used: u64,
    /// Directories whose drive does not answer, and those that stop answering at an operation.
    lost: BTreeSet<PathBuf>,
    losing: Vec<(u64, PathBuf)>,
}

/// The disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
    total: u64,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: u64,
    path: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Read,
    Write,
}

impl SimDisk {
    /// An empty disk of `total` bytes.
    pub fn new(total: u64) -> Self {
        Self { inner: Arc::default(), total }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations so far; the number that the next one gets.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Plans `fault` for the operation numbered `at`.
    pub fn plan(&self, at: u64, fault: Fault) {
        self.inner().fault = Some((at, fault));
    }

    /// Forgets the planned fault.
    pub fn heal(&self) {
        self.inner().fault = None;
    }

    /// The disk as the next start finds it if nothing that was not synced survived.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let inner = self.inner();
        let names = inner.durable_names.clone();
        let mut files = BTreeMap::new();
        for number in names.values() {
            if let Some(content) = inner.files.get(number) {
                files.insert(*number, Content { cached: content.durable.clone(), durable: content.durable.clone() });
            }
        }
        self.image(&inner, names, files)
    }

    /// The disk as the next start finds it if only the process died: the kernel writes all out.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let inner = self.inner();
        let files = inner
            .files
            .iter()
            .map(|(number, content)| {
                (*number, Content { cached: content.cached.clone(), durable: content.cached.clone() })
            })
            .collect();
        self.image(&inner, inner.names.clone(), files)
    }

    fn image(&self, inner: &Inner, names: BTreeMap<PathBuf, u64>, files: BTreeMap<u64, Content>) -> Self {
        let used = files.values().map(|content| content.cached.len() as u64).sum();
        let fresh = Inner {
            files,
            durable_names: names.clone(),
            names,
            dirs: inner.dirs.clone(),
            lost: inner.lost.clone(),
            next: inner.next,
            used,
            ..Inner::default()
        };
        Self { inner: Arc::new(Mutex::new(fresh)), total: self.total }
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.inner().names.keys().cloned().collect()
    }

    /// Flips one bit of a file behind the store's back. False if there is no such byte.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) -> bool {
        let mut inner = self.inner();
        let Some(number) = inner.names.get(path).copied() else { return false };
        let Some(content) = inner.files.get_mut(&number) else { return false };
        let Some(cached) = content.cached.get_mut(byte) else { return false };
        *cached ^= 1 << (bit % 8);
        content.durable.clone_from(&content.cached);
        true
    }

    /// The drive whose file system is at `dir` answers no more.
    pub fn lose(&self, dir: &Path) {
        self.inner().lost.insert(dir.to_owned());
    }

    /// The same, from the operation numbered `at`.
    pub fn lose_at(&self, at: u64, dir: &Path) {
        self.inner().losing.push((at, dir.to_owned()));
    }

    /// The drive at `dir` answers again, as it was.
    pub fn find(&self, dir: &Path) {
        let mut inner = self.inner();
        inner.lost.remove(dir);
        inner.losing.retain(|(_at, losing)| losing != dir);
    }

    /// Puts an empty drive at `dir`.
    pub fn wipe(&self, dir: &Path) {
        self.find(dir);
        let mut inner = self.inner();
        let gone: u64 = inner
            .names
            .iter()
            .filter(|(path, _number)| path.starts_with(dir))
            .filter_map(|(_path, number)| inner.files.get(number))
            .map(|content| content.cached.len() as u64)
            .sum();
        inner.used = inner.used.saturating_sub(gone);
        inner.names.retain(|path, _number| !path.starts_with(dir));
        inner.durable_names.retain(|path, _number| !path.starts_with(dir));
        inner.dirs.retain(|path, _made| path == dir || !path.starts_with(dir));
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        inner.names.get(path).and_then(|number| inner.files.get(number)).map(|content| content.cached.clone())
    }

    /// Changes a file behind the store's back. False if there is no such file.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut inner = self.inner();
        let Some(number) = inner.names.get(path).copied() else { return false };
        let Some(content) = inner.files.get_mut(&number) else { return false };
        change(&mut content.cached);
        content.durable.clone_from(&content.cached);
        true
    }

    fn step(&self, does: Does, path: &Path) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.inner();
        let number = inner.operations;
        inner.operations += 1;
        let now: Vec<PathBuf> =
            inner.losing.iter().filter(|(at, _dir)| *at <= number).map(|(_at, dir)| dir.clone()).collect();
        inner.lost.extend(now);
        if inner.lost.iter().any(|dir| path.starts_with(dir)) {
            return Err(io::Error::other("the drive does not answer"));
        }
        if let Some((at, fault)) = inner.fault {
            let error = match fault {
                Fault::Eio if number == at => Some(io::Error::other("injected input/output error")),
                Fault::Full if number >= at && does == Does::Write => {
                    inner.fault = None;
                    Some(io::ErrorKind::StorageFull.into())
                }
                Fault::Cut if number >= at => Some(io::Error::other("the machine is gone")),
                Fault::Eio | Fault::Full | Fault::Cut => None,
            };
            if let Some(error) = error {
                return Err(error);
            }
        }
        Ok(inner)
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.step(Does::Write, path)?;
        if inner.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|parent| inner.dirs.contains_key(parent)) {
            return Err(missing());
        }
        let number = inner.next;
        inner.next += 1;
        inner.files.insert(number, Content::default());
        inner.names.insert(path.to_owned(), number);
        Ok(Box::new(SimFile { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.step(Does::Read, path)?;
        let number = inner.names.get(path).copied().ok_or_else(missing)?;
        Ok(Box::new(SimFile { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Read, from)?;
        let number = inner.names.remove(from).ok_or_else(missing)?;
        inner.names.insert(to.to_owned(), number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Read, path)?;
        let number = inner.names.remove(path).ok_or_else(missing)?;
        let freed = inner.files.get(&number).map_or(0, |content| content.cached.len() as u64);
        inner.used = inner.used.saturating_sub(freed);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let made = path.ancestors().map(|path| (path.to_owned(), true));
        self.step(Does::Write, path)?.dirs.extend(made);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Read, path)?;
        inner.durable_names.retain(|name, _number| name.parent() != Some(path));
        let present: Vec<(PathBuf, u64)> = inner
            .names
            .iter()
            .filter(|(name, _number)| name.parent() == Some(path))
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        inner.durable_names.extend(present);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.step(Does::Read, path)?;
        let inside = |found: &&PathBuf| found.parent() == Some(path);
        Ok(inner.names.keys().filter(inside).chain(inner.dirs.keys().filter(inside)).cloned().collect())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { free: self.total.saturating_sub(self.inner().used), total: self.total })
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let mut inner = self.inner();
        if inner.locked {
            return Ok(None);
        }
        inner.locked = true;
        Ok(Some(Box::new(Unlock(Arc::clone(&self.inner)))))
    }
}

struct Unlock(Arc<Mutex<Inner>>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.step(Does::Read, &self.path)?;
        let content = inner.files.get(&self.number).ok_or_else(missing)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(out.len());
        let found = content.cached.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Write, &self.path)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(data.len());
        let have = inner.files.get(&self.number).ok_or_else(missing)?.cached.len();
        let grows = end.saturating_sub(have) as u64;
        if inner.used.saturating_add(grows) > self.disk.total {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.used += grows;
        let content = inner.files.get_mut(&self.number).ok_or_else(missing)?;
        if content.cached.len() < end {
            content.cached.resize(end, 0);
        }
        if let Some(target) = content.cached.get_mut(start..end) {
            target.copy_from_slice(data);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Read, &self.path)?;
        let content = inner.files.get_mut(&self.number).ok_or_else(missing)?;
        content.durable.clone_from(&content.cached);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Read, &self.path)?;
        let content = inner.files.get_mut(&self.number).ok_or_else(missing)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.cached.len());
        let end = usize::try_from(offset + len).unwrap_or(usize::MAX).min(content.cached.len());
        if let Some(hole) = content.cached.get_mut(start..end) {
            hole.fill(0);
        }
        inner.used = inner.used.saturating_sub((end - start) as u64);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let inner = self.disk.step(Does::Read, &self.path)?;
        Ok(inner.files.get(&self.number).ok_or_else(missing)?.cached.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Write, &self.path)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let content = inner.files.get_mut(&self.number).ok_or_else(missing)?;
        let before = content.cached.len() as u64;
        content.cached.resize(len, 0);
        inner.used = (inner.used + len as u64).saturating_sub(before);
        Ok(())
    }
}
