//! The files of an attempt, and how they are written so that a crash leaves either the old or the new one.
//!
//! ```text
//! STATE/executor.lock            held by the one server that uses STATE
//! STATE/tasks/job-7/attempt-2/   exists from before the first process of the attempt; never reused
//!     gang.json                  number of ranks, mark
//!     rank-0.task.json           what the warden starts
//!     rank-0.lock                locked as long as the warden lives; its own complaints are inside
//!     rank-0.processes.json      warden and task, by pid and start time
//!     rank-0.log                 output and errors of the task, in order
//!     rank-0.exit.json           how it ended; there only when nothing of it is left
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dh_core::{AttemptId, Rank, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Only the server's user may read what tasks print and how they are started.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Paths under one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    state: PathBuf,
}

impl Layout {
    pub(crate) const fn new(state: PathBuf) -> Self {
        Self { state }
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn server_lock(&self) -> PathBuf {
        self.state.join("executor.lock")
    }

    pub(crate) fn attempt(&self, attempt: AttemptId) -> PathBuf {
        self.state.join("tasks").join(format!("job-{}", attempt.job.0)).join(format!("attempt-{}", attempt.attempt))
    }

    pub(crate) fn gang_record(&self, attempt: AttemptId) -> PathBuf {
        self.attempt(attempt).join("gang.json")
    }

    pub(crate) fn task(&self, task: TaskId) -> TaskFiles {
        TaskFiles { folder: self.attempt(task.attempt), rank: task.rank }
    }
}

/// The files of one rank.
#[derive(Debug, Clone)]
pub(crate) struct TaskFiles {
    folder: PathBuf,
    rank: Rank,
}

impl TaskFiles {
    /// The files beside a task record.
    pub(crate) fn beside(task_record: &Path, rank: Rank) -> Self {
        Self { folder: task_record.parent().unwrap_or(Path::new(".")).to_owned(), rank }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("rank-{}.{what}", self.rank))
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.file("task.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.file("lock")
    }

    pub(crate) fn processes(&self) -> PathBuf {
        self.file("processes.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.file("exit.json")
    }
}

/// Makes `path` and its parents, readable for their owner only.
pub(crate) fn make_folders(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(|error| Error::os("make the folder", path, error))
}

/// Makes `path`; `false` if it exists already. This is what lets an attempt start only once.
pub(crate) fn make_folder_once(path: &Path) -> Result<bool, Error> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::os("make the folder", path, error)),
    }
}

/// Makes the entries of `path` and of the two folders above it outlive a loss of power.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    for folder in path.ancestors().take(3) {
        let synced = File::open(folder).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::os("sync the folder", folder, error))?;
    }
    Ok(())
}

/// Opens `path` to append, making it if needed.
pub(crate) fn open_append(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| Error::os("open", path, error))
}

/// Whether a file outlives a loss of power, or only of the process that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Process,
    Power,
}

/// Writes `value` as `path`, all or nothing.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), Error> {
    let text =
        serde_json::to_vec(value).map_err(|error| Error::Corrupt { path: path.to_owned(), why: error.to_string() })?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
        file.write_all(&text)?;
        if durability == Durability::Power {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) if durability == Durability::Power => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    written.map_err(|error| Error::os("write", path, error))
}

/// Adds `value` to `path` as a line. Nothing is replaced: file systems are slow to make a file just after one was deleted, and each
/// rank would delete one. It outlives the process, not a loss of power.
pub(crate) fn append_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let mut text =
        serde_json::to_vec(value).map_err(|error| Error::Corrupt { path: path.to_owned(), why: error.to_string() })?;
    text.push(b'\n');
    open_append(path)?.write_all(&text).map_err(|error| Error::os("write", path, error))
}

/// The last line that [`append_json`] wrote whole; `None` if there is none. A text without a line's end is what [`write_json`] wrote.
pub(crate) fn read_last_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::os("read", path, error)),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(&text[..], |end| &text[..end]);
    let last = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if last.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(last)
        .map(Some)
        .map_err(|error| Error::Corrupt { path: path.to_owned(), why: error.to_string() })
}

/// Reads what [`write_json`] wrote; `None` if it was never written.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::os("read", path, error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Corrupt { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts_and_older_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.json");
        let last = || read_last_json::<Vec<u32>>(&path);
        assert_eq!(last().unwrap(), None);
        fs::write(&path, "").unwrap();
        assert_eq!(last().unwrap(), None);
        append_json(&path, &[1]).unwrap();
        append_json(&path, &[2, 3]).unwrap();
        assert_eq!(last().unwrap(), Some(vec![2, 3]));
        // A writer that was killed half-way.
        open_append(&path).unwrap().write_all(b"[4,").unwrap();
        assert_eq!(last().unwrap(), Some(vec![2, 3]));
        write_json(&path, &[5], Durability::Process).unwrap();
        assert_eq!(last().unwrap(), Some(vec![5]));
        fs::write(&path, "{\n").unwrap();
        assert!(last().is_err());
    }
}
