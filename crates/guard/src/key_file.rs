//! The key file: JSON, mode 0600, replaced as a whole.
//!
//! Invariant: at every moment the path holds either the old or the new keys, complete and synced; no other user could read
//! any of the bytes at any time. A change takes a lock on the folder and is refused when the file is not the one that was
//! read, so two processes never undo each other's keys. Cost of a change: one read, one write, two fsyncs.
//!
//! Secrets are stored as they are, because an S3 signature can only be verified with the secret itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dh_core::{Grant, Role, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, mint};

/// Keys that are kept in a file. People and services have some; jobs get ephemeral ones.
pub(crate) const STORED_KEYS_MAX: usize = 4_096;
/// A full file is below some megabytes; anything larger is not ours.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FORMAT: u32 = 1;
const MODE: u32 = 0o600;

/// One key as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredKey {
    pub(crate) id: String,
    pub(crate) secret: Secret<String>,
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) grant: Option<Arc<Grant>>,
}

/// What the file looked like when it was last read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version([u8; 32]);

#[derive(Serialize)]
struct FileOut<'a> {
    format: u32,
    keys: Vec<KeyOut<'a>>,
}

#[derive(Serialize)]
struct KeyOut<'a> {
    id: &'a str,
    name: &'a str,
    role: Role,
    secret: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<&'a Grant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIn {
    format: u32,
    keys: Vec<KeyIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyIn {
    id: String,
    name: String,
    role: Role,
    #[serde(deserialize_with = "secret_text")]
    secret: Secret<String>,
    #[serde(default)]
    grant: Option<Grant>,
}

fn secret_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// Makes a new, empty key file.
pub(crate) fn create(path: &Path) -> Result<Version, Error> {
    let _lock = lock_folder(path)?;
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists(path.to_owned()));
    }
    replace(path, &[])
}

/// Reads and checks the key file.
pub(crate) fn load(path: &Path) -> Result<(Vec<StoredKey>, Version), Error> {
    let bytes = read_private(path)?;
    let version = version_of(bytes.expose());
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let file: FileIn = serde_json::from_slice(bytes.expose()).map_err(|error| damaged(describe(&error)))?;
    if file.format != FORMAT {
        return Err(damaged(format!("its format is {}, and this program reads format {FORMAT}", file.format)));
    }
    if file.keys.len() > STORED_KEYS_MAX {
        return Err(damaged(format!("it holds {} keys; the limit is {STORED_KEYS_MAX}", file.keys.len())));
    }
    let mut keys: Vec<StoredKey> = Vec::with_capacity(file.keys.len());
    let mut ids = std::collections::HashSet::new();
    for (index, KeyIn { id, name, role, secret, grant }) in file.keys.into_iter().enumerate() {
        if !mint::is_id(&id) {
            return Err(damaged(format!("`keys[{index}].id` has not the form of a key id")));
        }
        if !mint::is_secret(secret.expose(), role) {
            return Err(damaged(format!("`keys[{index}].secret` has not the form of a secret of its role")));
        }
        if !ids.insert(id.clone()) {
            return Err(damaged(format!("`keys[{index}].id` is there twice")));
        }
        keys.push(StoredKey { id, secret, role, name, grant: grant.map(Arc::new) });
    }
    Ok((keys, version))
}

/// Replaces the file by `keys`, provided that it still is `expected`.
pub(crate) fn save(path: &Path, keys: &[StoredKey], expected: Version) -> Result<Version, Error> {
    let _lock = lock_folder(path)?;
    let present = read_private(path)?;
    if version_of(present.expose()) != expected {
        return Err(Error::Changed(path.to_owned()));
    }
    replace(path, keys)
}

/// `serde_json`'s message can quote the input; its place and category cannot.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of the wrong type",
        serde_json::error::Category::Io => "it cannot be read",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

fn version_of(bytes: &[u8]) -> Version {
    Version(Sha256::digest(bytes).into())
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, doing, source }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// An exclusive lock that ends when the returned file is dropped.
fn lock_folder(path: &Path) -> Result<File, Error> {
    let folder = File::open(folder_of(path)).map_err(io_error(path, "open its folder"))?;
    folder.lock().map_err(io_error(path, "lock its folder"))?;
    Ok(folder)
}

/// The bytes of a file that only its owner, who is us or root, can open. Checked on the open file, so it cannot be swapped.
fn read_private(path: &Path) -> Result<Secret<Vec<u8>>, Error> {
    let file = File::open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Error::Missing(path.to_owned())
        } else {
            io_error(path, "open it")(error)
        }
    })?;
    let meta = file.metadata().map_err(io_error(path, "look at it"))?;
    let damaged = |why: &str| Error::Damaged { path: path.to_owned(), why: why.to_owned() };
    if !meta.is_file() {
        return Err(damaged("it is not a regular file"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() != user && meta.uid() != 0 {
        return Err(Error::ForeignOwner { path: path.to_owned(), owner: meta.uid(), user });
    }
    if meta.len() > FILE_BYTES_MAX {
        return Err(damaged("it is larger than any key file"));
    }
    // The capacity in advance, so that growing leaves no copy of secrets behind; one more byte shows the end at once.
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).saturating_add(1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io_error(path, "read it"))?;
    Ok(Secret::new(bytes))
}

fn replace(path: &Path, keys: &[StoredKey]) -> Result<Version, Error> {
    static TEMPORARIES: AtomicU64 = AtomicU64::new(0);
    let bytes = Secret::new(encode(path, keys)?);
    let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed);
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder_of(path).join(format!(".{file_name}.{}-{number}.new", std::process::id()));
    let result = write_synced(&temporary, bytes.expose())
        .and_then(|()| std::fs::rename(&temporary, path))
        .and_then(|()| File::open(folder_of(path))?.sync_all());
    if let Err(source) = result {
        // A half-written temporary is of no use to anybody; if it cannot be removed either, the first error says more.
        drop(std::fs::remove_file(&temporary));
        return Err(io_error(path, "replace it")(source));
    }
    Ok(version_of(bytes.expose()))
}

/// Room that the bounds of a key take, about.
fn grant_bytes(key: &StoredKey) -> usize {
    key.grant.as_ref().map_or(0, |grant| grant.models.iter().map(|model| 32 + model.len()).sum())
}

fn encode(path: &Path, keys: &[StoredKey]) -> Result<Vec<u8>, Error> {
    let out = FileOut {
        format: FORMAT,
        keys: keys
            .iter()
            .map(|key| KeyOut {
                id: &key.id,
                name: &key.name,
                role: key.role,
                secret: key.secret.expose(),
                grant: key.grant.as_deref(),
            })
            .collect(),
    };
    // Room for the longest key there can be, so that the buffer never moves.
    let mut bytes = Vec::with_capacity(64 + keys.iter().map(|key| 640 + grant_bytes(key)).sum::<usize>());
    serde_json::to_writer_pretty(&mut bytes, &out).map_err(|error| io_error(path, "write it")(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
