//! Files here: walking folders, reading parts, and writing so that a file appears only whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::Error;

/// Folders below folders at most.
const DEPTH_MAX: u32 = 128;

/// Runs `work`, which may block, off the async runtime's threads.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Setting(format!("a transfer ended unexpectedly: {error}")))?
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    Error::file(format!("{verb} {}", path.display()), error)
}

/// The files below `root` with their names relative to it, in order. Links to folders are not followed.
pub(super) fn walk(root: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let mut files = Vec::new();
    let mut open = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = open.pop() {
        for entry in fs::read_dir(&folder).map_err(|error| failed("read", &folder, &error))? {
            let path = entry.map_err(|error| failed("read", &folder, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| Error::Setting(format!("{} has no name that is text", path.display())))?;
            let relative = format!("{prefix}{name}");
            let kind = fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?.file_type();
            if kind.is_dir() {
                if depth >= DEPTH_MAX {
                    return Err(Error::Setting(format!("{} lies too deep", path.display())));
                }
                open.push((path, format!("{relative}/"), depth + 1));
            } else if path.is_file() {
                files.push((path, relative));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `relative` below `folder`, if it stays below it.
pub(super) fn inside(folder: &Path, relative: &str) -> Result<PathBuf, Error> {
    let path = Path::new(relative);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    // `components` passes over doubled slashes and single dots, and two keys must not become one file.
    let same = path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    if !plain || same != relative || relative.contains('\0') {
        return Err(Error::Setting(format!("the key `{relative}` cannot be the name of a file")));
    }
    Ok(folder.join(path))
}

/// Where an object called `name` goes if `path` was named.
pub(super) fn target(path: &Path, name: &str) -> Result<PathBuf, Error> {
    let folder = path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/');
    if folder { inside(path, name) } else { Ok(path.to_owned()) }
}

/// A file that is read in parts.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: Arc<File>,
    path: PathBuf,
    pub(super) bytes: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| failed("open", path, &error))?;
        let metadata = file.metadata().map_err(|error| failed("open", path, &error))?;
        if metadata.is_dir() {
            return Err(Error::Setting(format!("{} is a folder; it is copied with --recursive", path.display())));
        }
        Ok(Self { file: Arc::new(file), path: path.to_owned(), bytes: metadata.len() })
    }

    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Bytes, Error> {
        let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut part, offset).map_err(|error| failed("read", &self.path, &error))?;
        Ok(part.into())
    }
}

/// A file that is written in parts under another name, until it is whole.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl Sink {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| failed("make", folder, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unique = getrandom::u32().unwrap_or_else(|_error| std::process::id());
        let partial = folder.join(format!(".{name}.{unique:08x}.part"));
        let file = File::create_new(&partial).map_err(|error| failed("make", &partial, &error))?;
        Ok(Self { file, partial, path: path.to_owned(), whole: false })
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(|error| failed("write", &self.partial, &error))
    }

    /// Makes it durable and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| failed("sync", &self.partial, &error))?;
        fs::rename(&self.partial, &self.path).map_err(|error| failed("rename", &self.partial, &error))?;
        self.whole = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| failed("sync", folder, &error))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.whole {
            // What cannot be removed is left; its name says what it is.
            drop(fs::remove_file(&self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_only_whole_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let sink = Sink::create(&path).unwrap();
        sink.write(3, b"lo").unwrap();
        sink.write(0, b"hel").unwrap();
        assert!(!path.exists());
        sink.finish().unwrap();
        drop(Sink::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        fs::write(dir.path().join("z"), "").unwrap();
        let names: Vec<String> = walk(dir.path()).unwrap().into_iter().map(|(_path, name)| name).collect();
        assert_eq!(names, ["a/b", "z"]);
        assert_eq!(Source::open(&path).unwrap().read(1, 3).unwrap(), "ell");
        assert!(Source::open(&path).unwrap().read(3, 3).is_err());
        assert!(Source::open(dir.path()).is_err());
    }
}
