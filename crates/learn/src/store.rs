//! The object store as training sees it: a small blocking trait, its errors, and a store in memory.
//!
//! [`crate::S3`] is the real one. [`MemoryStore`] holds the objects of a run that has no store: examples, tests, and
//! training in one process.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use dh_core::{HasKind, Kind};

use crate::number;

/// Why a store could not do what was asked. No message holds a secret or a signed address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting is missing or wrong.
    #[error("cannot use the store: {0}")]
    Setting(String),
    /// Names that cannot be sent safely.
    #[error("`{name}` is not a usable {what}: {why}")]
    Name {
        /// Bucket or key.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The object or the bucket does not exist.
    #[error("{0} does not exist in the store")]
    NotFound(String),
    /// The store answered with a refusal.
    #[error("the store refused to {action}: HTTP {status}{}", code_text(.code.as_deref()))]
    Refused {
        /// What was tried, such as `get bucket/key`.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The store's own error code, if it sent one.
        code: Option<String>,
    },
    /// The store did not answer, for as long as we were willing to wait.
    #[error("cannot {action}: the store at {endpoint} does not answer ({why}); gave up after {tries} tries")]
    Unreachable {
        /// What was tried.
        action: String,
        /// Where.
        endpoint: String,
        /// What happened at the last try.
        why: String,
        /// How often it was tried.
        tries: u32,
    },
    /// The answer is not what it says it is.
    #[error("cannot {action}: {why}")]
    Corrupt {
        /// What was tried.
        action: String,
        /// What is wrong.
        why: String,
    },
    /// Larger than we are willing to hold.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The object.
        what: String,
        /// The limit.
        limit: u64,
    },
}

fn code_text(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Setting(_) | Self::Name { .. } => Kind::Invalid,
            Self::NotFound(_) => Kind::NotFound,
            Self::Refused { status, .. } => Kind::from_http_status(*status),
            Self::Unreachable { .. } => Kind::Unreachable,
            Self::Corrupt { .. } => Kind::Corrupt,
            Self::TooLarge { .. } => Kind::TooLarge,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("is the hall up, and is AWS_ENDPOINT_URL its store?".to_owned()),
            Self::Refused { status: 401 | 403, .. } => {
                Some("check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned())
            }
            Self::Refused { .. }
            | Self::Setting(_)
            | Self::Name { .. }
            | Self::NotFound(_)
            | Self::Corrupt { .. }
            | Self::TooLarge { .. } => None,
        }
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// The largest object that is read whole. A shard or a checkpoint is a few megabytes.
pub const GET_BYTES_MAX: u64 = 1 << 30;

/// What training needs of a store. Calls block; a `put` that returned is durable.
pub trait ObjectStore: Send + Sync {
    /// Writes an object, replacing what was there.
    ///
    /// # Errors
    /// What the store said, or that it does not answer; the same goes for every other call.
    fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<(), Error>;
    /// Reads a whole object of at most [`GET_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none; else as for [`ObjectStore::put`].
    fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, Error>;
    /// Every object whose key begins with `prefix`, in the order of the keys.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectEntry>, Error>;
    /// Removes an object; one that is not there counts as removed.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    fn delete(&self, bucket: &str, key: &str) -> Result<(), Error>;
    /// Makes a bucket; one that is there already and ours is fine.
    ///
    /// # Errors
    /// As for [`ObjectStore::put`].
    fn create_bucket(&self, bucket: &str) -> Result<(), Error>;
}

/// Objects in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<(String, String), Vec<u8>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<(String, String), Vec<u8>>) -> T) -> T {
        // A panic of another thread cannot leave the map half changed: every use is one call of it.
        work(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<(), Error> {
        self.with(|objects| objects.insert((bucket.to_owned(), key.to_owned()), body.to_vec()));
        Ok(())
    }

    fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, Error> {
        self.with(|objects| objects.get(&(bucket.to_owned(), key.to_owned())).cloned())
            .ok_or_else(|| Error::NotFound(format!("{bucket}/{key}")))
    }

    fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectEntry>, Error> {
        Ok(self.with(|objects| {
            objects
                .iter()
                .filter(|((owner, key), _)| owner == bucket && key.starts_with(prefix))
                .map(|((_, key), body)| ObjectEntry { key: key.clone(), bytes: number::wide(body.len()) })
                .collect()
        }))
    }

    fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        self.with(|objects| objects.remove(&(bucket.to_owned(), key.to_owned())));
        Ok(())
    }

    fn create_bucket(&self, _bucket: &str) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_store_keeps_what_it_was_given() {
        let store = MemoryStore::new();
        store.put("b", "x/2", b"two").unwrap();
        store.put("b", "x/1", b"one").unwrap();
        store.put("c", "x/1", b"other").unwrap();
        assert_eq!(store.get("b", "x/1").unwrap(), b"one");
        let keys: Vec<String> = store.list("b", "x/").unwrap().into_iter().map(|entry| entry.key).collect();
        assert_eq!(keys, ["x/1", "x/2"]);
        store.delete("b", "x/1").unwrap();
        store.delete("b", "x/1").unwrap();
        assert_eq!(store.get("b", "x/1").unwrap_err().kind(), Kind::NotFound);
    }
}
