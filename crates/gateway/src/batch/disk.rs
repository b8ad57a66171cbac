//! Where files and batches lie: a folder with one row of JSON beside each body.
//!
//! *Invariant*: a file is there when its row is there, and the row comes last, after the body is on the drive; a row is replaced
//! as a whole. What a crash leaves without a row is removed at the next start. One process at a time holds the folder.
//!
//! Layout: `files/ID.json` and `files/ID.data`; `batches/ID.json`; while a batch runs `batches/ID.output` and `batches/ID.errors`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Between two looks at a folder that somebody holds.
const LOOK: Duration = Duration::from_millis(20);

/// The folder, held until dropped.
pub(crate) struct Disk {
    root: PathBuf,
    _lock: File,
}

/// A file of lines that grows, and what it held when it was opened.
pub(crate) struct Journal {
    file: File,
}

impl Disk {
    /// Takes hold of `root`, which is made if it is not there. A process that was killed may take `patience` to be gone.
    pub(crate) fn open(root: &Path, patience: Duration) -> io::Result<Self> {
        for folder in ["files", "batches"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        let begun = Instant::now();
        while lock.try_lock().is_err() {
            if begun.elapsed() >= patience {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another gateway holds this folder"));
            }
            sleep(LOOK);
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// A place under which a body is written before it has a row.
    pub(crate) fn upload(&self, id: &str) -> PathBuf {
        self.root.join("files").join(format!("{id}.upload"))
    }

    pub(crate) fn body(&self, id: &str) -> PathBuf {
        self.root.join("files").join(format!("{id}.data"))
    }

    pub(crate) fn journal(&self, batch: &str, kind: &str) -> PathBuf {
        self.root.join("batches").join(format!("{batch}.{kind}"))
    }

    /// Writes the row of `folder/id`, durably and whole.
    pub(crate) fn put(&self, folder: &str, id: &str, row: &impl Serialize) -> io::Result<()> {
        let folder = self.root.join(folder);
        let (fresh, place) = (folder.join(format!("{id}.new")), folder.join(format!("{id}.json")));
        let mut file = File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(row)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &place)?;
        sync(&folder)
    }

    /// Moves a body that is on the drive to its place; it may be there already.
    pub(crate) fn keep(&self, from: &Path, id: &str) -> io::Result<()> {
        let to = self.body(id);
        if from.exists() || !to.exists() {
            fs::rename(from, &to)?;
        }
        sync(&self.root.join("files"))
    }

    /// Removes a file: its row first.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        let folder = self.root.join("files");
        fs::remove_file(folder.join(format!("{id}.json")))?;
        sync(&folder)?;
        fs::remove_file(self.body(id))
    }

    /// Removes the row of a batch.
    pub(crate) fn forget(&self, batch: &str) -> io::Result<()> {
        fs::remove_file(self.root.join("batches").join(format!("{batch}.json")))
    }

    /// All rows of `folder`; one that cannot be read is left where it is and told about.
    pub(crate) fn rows<T: DeserializeOwned>(&self, folder: &str) -> io::Result<Vec<T>> {
        let mut rows = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "json") {
                match serde_json::from_slice(&fs::read(&path)?) {
                    Ok(row) => rows.push(row),
                    Err(error) => tracing::error!(path = %path.display(), %error, "a row cannot be read"),
                }
            }
        }
        Ok(rows)
    }

    /// Removes bodies without a row, except those that `expected` names.
    pub(crate) fn sweep(&self, expected: impl Fn(&str) -> bool) -> io::Result<()> {
        let folder = self.root.join("files");
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let (Some(id), Some(kind)) =
                (path.file_stem().and_then(|id| id.to_str()), path.extension().and_then(|kind| kind.to_str()))
            else {
                continue;
            };
            let orphan = kind == "data" && !folder.join(format!("{id}.json")).exists() && !expected(id);
            if orphan || kind == "upload" || kind == "new" {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Journal {
    /// Opens or makes a journal. A line that a crash cut off is removed; each whole one is shown to `see`.
    pub(crate) fn open(path: &Path, mut see: impl FnMut(&[u8])) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut whole, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            see(&line);
            whole += u64::try_from(read).map_err(io::Error::other)?;
        }
        file.set_len(whole)?;
        Ok(Self { file })
    }

    /// Adds whole lines, durably.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(lines)?;
        self.file.sync_data()
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_of_a_journal_is_removed_and_whole_ones_are_shown() {
        let folder = std::env::temp_dir().join(format!("dh-journal-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("j");
        fs::write(&path, b"{\"a\":1}\n{\"b\":2}\n{\"c").unwrap();
        let mut seen = Vec::new();
        let mut journal = Journal::open(&path, |line| seen.push(line.to_vec())).unwrap();
        journal.append(b"{\"d\":4}\n").unwrap();
        assert_eq!(seen, [b"{\"a\":1}\n".to_vec(), b"{\"b\":2}\n".to_vec()]);
        assert_eq!(fs::read(&path).unwrap(), b"{\"a\":1}\n{\"b\":2}\n{\"d\":4}\n");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_has_no_row_is_swept_and_a_folder_has_one_holder() {
        let root = std::env::temp_dir().join(format!("dh-disk-{}", std::process::id()));
        let disk = Disk::open(&root, Duration::ZERO).unwrap();
        assert!(Disk::open(&root, Duration::ZERO).is_err());
        for id in ["kept", "orphan", "expected"] {
            fs::write(disk.body(id), b"x").unwrap();
        }
        fs::write(disk.upload("half"), b"x").unwrap();
        disk.put("files", "kept", &"row").unwrap();
        disk.sweep(|id| id == "expected").unwrap();
        let there = ["kept", "orphan", "expected"].map(|id| disk.body(id).exists());
        assert_eq!((there, disk.upload("half").exists()), ([true, false, true], false));
        assert_eq!(disk.rows::<String>("files").unwrap(), ["row"]);
        disk.remove("kept").unwrap();
        assert!(!disk.body("kept").exists());
        drop(disk);
        fs::remove_dir_all(&root).unwrap();
    }
}
