//! A disk in memory that tells cached from durable. It can fail any one operation, and stop at any operation as a power
//! cut would: what was not synced is then gone, or kept, as the test chooses.
//!
//! Model: a file's content becomes durable by `sync_data` (of that content) and its name by `sync_dir` of its directory; so
//! does a directory's own. What was not synced is kept as a list of changes, of which a cut keeps none, or those that a
//! [`Survival`] lets live: any of them, in any mix, writes also by sectors. Source for what file systems may do: Pillai et
//! al., "All File Systems Are Not Created Equal", OSDI 2014.
//! Cost: a sync copies what was written since the last one.

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

/// A change of a file that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write(usize, Arc<[u8]>),
    Len(usize),
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write(start, data) => {
                let end = start + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(target) = bytes.get_mut(*start..end) {
                    target.copy_from_slice(data);
                }
            }
        }
    }
}

/// A change of a directory that is not durable yet.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
    Dir(PathBuf),
}

impl Entry {
    fn parent(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(_, path, _) | Self::Dir(path) => path.parent(),
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, u64>, dirs: &mut BTreeSet<PathBuf>) {
        match self {
            Self::Link(path, number) => drop(names.insert(path.clone(), *number)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Rename(from, to, number) => {
                names.remove(from);
                names.insert(to.clone(), *number);
            }
            Self::Dir(path) => drop(dirs.insert(path.clone())),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) cached: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

impl Content {
    fn whole(bytes: Vec<u8>) -> Self {
        Self { cached: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// All files by number, so that an unlinked file can still be read.
    pub(super) files: BTreeMap<u64, Content>,
    /// Names as programs see them, and as a power cut would leave them.
    pub(super) names: BTreeMap<PathBuf, u64>,
    pub(super) durable_names: BTreeMap<PathBuf, u64>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) durable_dirs: BTreeSet<PathBuf>,
    /// Changes of directories that are not durable.
    pub(super) entries: Vec<Entry>,
    next: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    locked: BTreeSet<PathBuf>,
    used: u64,
    /// Directories whose drive does not answer, and those that stop answering at an operation.
    lost: BTreeSet<PathBuf>,
    losing: Vec<(u64, PathBuf)>,
    /// What was done, if it is recorded, by number of operation.
    trace: Option<Vec<(u64, Step)>>,
}

/// An operation that changed something.
#[derive(Debug, Clone)]
pub(super) enum Step {
    File(u64, Change),
    SyncFile(u64),
    Entry(Entry),
    SyncDir(PathBuf),
}

impl Inner {
    /// Does one step.
    pub(super) fn take(&mut self, step: Step) {
        if let Some(trace) = &mut self.trace {
            // The operation was counted before it was done.
            trace.push((self.operations.saturating_sub(1), step.clone()));
        }
        match step {
            Step::File(number, change) => self.files.entry(number).or_default().change(change),
            Step::SyncFile(number) => self.files.entry(number).or_default().sync(),
            Step::Entry(entry) => {
                entry.apply(&mut self.names, &mut self.dirs);
                if let Entry::Link(_path, number) = &entry {
                    self.files.entry(*number).or_default();
                }
                // A directory that stands at the top was there before.
                if let Entry::Dir(path) = &entry
                    && path.parent().is_some_and(|parent| parent.parent().is_none())
                {
                    self.durable_dirs.insert(path.clone());
                } else {
                    self.entries.push(entry);
                }
            }
            Step::SyncDir(path) => {
                for entry in std::mem::take(&mut self.entries) {
                    if entry.parent() == Some(&path) {
                        entry.apply(&mut self.durable_names, &mut self.durable_dirs);
                    } else {
                        self.entries.push(entry);
                    }
                }
            }
        }
    }

    /// A disk of these files.
    pub(super) fn image(
        names: BTreeMap<PathBuf, u64>,
        dirs: BTreeSet<PathBuf>,
        content: impl Fn(u64) -> Option<Vec<u8>>,
    ) -> Self {
        let there = |path: &PathBuf| path.ancestors().skip(1).all(|dir| dirs.contains(dir) || dir.parent().is_none());
        let names: BTreeMap<PathBuf, u64> = names.into_iter().filter(|(path, _number)| there(path)).collect();
        let numbers: BTreeSet<u64> = names.values().copied().collect();
        let files: BTreeMap<u64, Content> =
            numbers.into_iter().filter_map(|number| Some((number, Content::whole(content(number)?)))).collect();
        let used = files.values().map(|content| content.cached.len() as u64).sum();
        let next = names.values().max().map_or(0, |number| number + 1);
        Self {
            files,
            durable_names: names.clone(),
            names,
            durable_dirs: dirs.clone(),
            dirs,
            next,
            used,
            ..Self::default()
        }
    }
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

    pub(super) fn of(inner: Inner, total: u64) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), total }
    }

    /// Notes every operation from now on, for [`CrashPoints`](super::CrashPoints). The disk is empty.
    pub fn record(&self) {
        self.inner().trace = Some(Vec::new());
    }

    pub(super) fn trace(&self) -> Vec<(u64, Step)> {
        self.inner().trace.clone().unwrap_or_default()
    }

    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The disk as the next start finds it if nothing that was not synced survived.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let inner = self.inner();
        let durable = |number: u64| inner.files.get(&number).map(|content| content.durable.clone());
        let image = Inner::image(inner.durable_names.clone(), inner.durable_dirs.clone(), durable);
        Self::of(Inner { lost: inner.lost.clone(), ..image }, self.total)
    }

    /// The disk as the next start finds it if only the process died: the kernel writes all out.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let inner = self.inner();
        let cached = |number: u64| inner.files.get(&number).map(|content| content.cached.clone());
        let image = Inner::image(inner.names.clone(), inner.dirs.clone(), cached);
        Self::of(Inner { lost: inner.lost.clone(), ..image }, self.total)
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
        content.pending.clear();
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
        let Inner { dirs, durable_dirs, entries, .. } = &mut *inner;
        for dirs in [dirs, durable_dirs] {
            dirs.retain(|path| path == dir || !path.starts_with(dir));
        }
        entries.retain(|entry| !entry.parent().is_some_and(|parent| parent.starts_with(dir)));
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
        content.pending.clear();
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
        if !path.parent().is_some_and(|parent| inner.dirs.contains(parent)) {
            return Err(missing());
        }
        let number = inner.next;
        inner.next += 1;
        inner.take(Step::Entry(Entry::Link(path.to_owned(), number)));
        Ok(Box::new(SimFile { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inner = self.step(Does::Read, path)?;
        let number = inner.names.get(path).copied().ok_or_else(missing)?;
        Ok(Box::new(SimFile { disk: self.clone(), number, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Read, from)?;
        let number = inner.names.get(from).copied().ok_or_else(missing)?;
        inner.take(Step::Entry(Entry::Rename(from.to_owned(), to.to_owned(), number)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Read, path)?;
        let number = inner.names.get(path).copied().ok_or_else(missing)?;
        inner.take(Step::Entry(Entry::Unlink(path.to_owned())));
        let freed = inner.files.get(&number).map_or(0, |content| content.cached.len() as u64);
        inner.used = inner.used.saturating_sub(freed);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.step(Does::Write, path)?;
        let mut missing: Vec<&Path> = path.ancestors().filter(|dir| dir.parent().is_some()).collect();
        missing.retain(|dir| !inner.dirs.contains(*dir));
        for dir in missing.into_iter().rev() {
            inner.take(Step::Entry(Entry::Dir(dir.to_owned())));
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(Does::Read, path)?.take(Step::SyncDir(path.to_owned()));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.step(Does::Read, path)?;
        let inside = |found: &&PathBuf| found.parent() == Some(path);
        Ok(inner.names.keys().filter(inside).chain(inner.dirs.iter().filter(inside)).cloned().collect())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { free: self.total.saturating_sub(self.inner().used), total: self.total })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let fresh = self.inner().locked.insert(path.to_owned());
        Ok(fresh.then(|| -> Box<dyn Any + Send + Sync> { Box::new(Unlock(Arc::clone(&self.inner), path.to_owned())) }))
    }
}

struct Unlock(Arc<Mutex<Inner>>, PathBuf);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).locked.remove(&self.1);
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
        inner.take(Step::File(self.number, Change::Write(start, data.into())));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Read, &self.path)?;
        inner.take(Step::SyncFile(self.number));
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.disk.step(Does::Read, &self.path)?;
        let have = inner.files.get(&self.number).ok_or_else(missing)?.cached.len();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(have);
        let end = usize::try_from(offset.saturating_add(len)).unwrap_or(usize::MAX).min(have);
        inner.take(Step::File(self.number, Change::Write(start, vec![0; end - start].into())));
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
        let before = inner.files.get(&self.number).ok_or_else(missing)?.cached.len() as u64;
        inner.take(Step::File(self.number, Change::Len(len)));
        inner.used = (inner.used + len as u64).saturating_sub(before);
        Ok(())
    }
}
