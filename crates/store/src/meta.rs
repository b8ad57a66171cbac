//! The metadata database: redb on the store's disk seam.
//!
//! Invariant: what [`Meta::write`] returned `Ok` for is durable. After a failed write the database is opened again, which
//! rolls back to the last commit; after a failed *sync* nobody knows what the disk holds, so the store takes no more
//! changes until it is opened again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend, Table, TableDefinition,
};

use crate::Error;
use crate::config::META_CACHE_BYTES;
use crate::disk::{Disk, DiskFile};

type Bytes = &'static [u8];
pub(crate) const BUCKETS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("buckets");
pub(crate) const OBJECTS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("objects");
pub(crate) const UPLOADS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("uploads");
pub(crate) const PARTS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("parts");
pub(crate) const SEGMENTS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("segments");
const STATE: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("state");

const EPOCH: Bytes = b"epoch";
/// Extents that one opening of the store may make: ids are `epoch << 40 | counter`, so none is ever used twice.
const EPOCH_SHIFT: u32 = 40;

/// The tables of one write transaction.
pub(crate) struct Tables<'t> {
    pub(crate) buckets: Table<'t, Bytes, Bytes>,
    pub(crate) objects: Table<'t, Bytes, Bytes>,
    pub(crate) uploads: Table<'t, Bytes, Bytes>,
    pub(crate) parts: Table<'t, Bytes, Bytes>,
    pub(crate) segments: Table<'t, Bytes, Bytes>,
}

/// Whether a write transaction has anything to make durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    Needed,
    Nothing,
}

#[derive(Debug)]
struct MetaFile {
    file: Box<dyn DiskFile>,
    sync_failed: Arc<AtomicBool>,
}

impl StorageBackend for MetaFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data().inspect_err(|_error| self.sync_failed.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, data)
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Meta {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    database: RwLock<Option<Arc<Database>>>,
    sync_failed: Arc<AtomicBool>,
    sealed: Mutex<Option<String>>,
}

fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    if let redb::Error::Corrupted(what) = error {
        return Error::corrupt(what, "meta.redb");
    }
    let shown = error.to_string();
    if let redb::Error::Io(error) = error
        && let full @ Error::Full(_) = Error::io("meta.redb", error)
    {
        return full;
    }
    Error::Meta(shown)
}

/// Like [`failed`] inside of a write transaction, where corruption is the database's, never that of one row.
fn write_failed(error: impl Into<redb::Error>) -> Error {
    let error = failed(error);
    if let Error::Corrupt { what, .. } = &error { Error::Meta(format!("corrupt: {what}")) } else { error }
}

impl Meta {
    /// Opens or makes the database in `dir`, checks every page of it, and returns the first extent id of this opening.
    ///
    /// A new database is made under another name and takes its own when it is whole and durable, so a crash in the
    /// middle leaves either no database or a good one.
    pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<(Self, u64), Error> {
        let path = dir.join("meta.redb");
        let fresh = dir.join("meta.redb.tmp");
        let io = |error| Error::io(path.display().to_string(), error);
        let there = disk.list(dir).map_err(io)?;
        if there.contains(&fresh) {
            disk.remove(&fresh).map_err(io)?;
        }
        if !there.contains(&path) {
            disk.create(&fresh).map_err(io)?;
            let made = Self::at(disk, fresh.clone())?;
            made.next_epoch()?;
            drop(made);
            disk.open(&fresh).and_then(|file| file.sync_data()).map_err(io)?;
            disk.rename(&fresh, &path).map_err(io)?;
            disk.sync_dir(dir).map_err(io)?;
        }
        let this = Self::at(disk, path)?;
        let epoch = this.next_epoch()?;
        Ok((this, epoch << EPOCH_SHIFT))
    }

    fn at(disk: &Arc<dyn Disk>, path: PathBuf) -> Result<Self, Error> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let database = Self::database(disk, &path, &sync_failed)?;
        Ok(Self {
            disk: Arc::clone(disk),
            path,
            database: RwLock::new(Some(Arc::new(database))),
            sync_failed,
            sealed: Mutex::new(None),
        })
    }

    fn database(disk: &Arc<dyn Disk>, path: &Path, sync_failed: &Arc<AtomicBool>) -> Result<Database, Error> {
        let file = disk.open(path).map_err(|error| Error::io(path.display().to_string(), error))?;
        let backend = MetaFile { file, sync_failed: Arc::clone(sync_failed) };
        Database::builder()
            .set_cache_size(META_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(failed)
    }

    fn next_epoch(&self) -> Result<u64, Error> {
        let database = self.current()?;
        let transaction = database.begin_write().map_err(failed)?;
        let epoch = {
            for table in [BUCKETS, OBJECTS, UPLOADS, PARTS, SEGMENTS] {
                transaction.open_table(table).map_err(failed)?;
            }
            let mut state = transaction.open_table(STATE).map_err(failed)?;
            let before = match state.get(EPOCH).map_err(failed)? {
                None => 0,
                Some(value) => u64::from_le_bytes(
                    value.value().try_into().map_err(|_length| Error::corrupt("the epoch", "meta.redb"))?,
                ),
            };
            let epoch = before + 1;
            state.insert(EPOCH, epoch.to_le_bytes().as_slice()).map_err(failed)?;
            epoch
        };
        transaction.commit().map_err(failed)?;
        Ok(epoch)
    }

    fn current(&self) -> Result<Arc<Database>, Error> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    /// A snapshot.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Error> {
        self.current()?.begin_read().map_err(failed)
    }

    /// The value of a row, copied out of `transaction`.
    pub(crate) fn get(
        transaction: &ReadTransaction,
        table: TableDefinition<'static, Bytes, Bytes>,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, Error> {
        let table = transaction.open_table(table).map_err(failed)?;
        Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec()))
    }

    /// The rows of `from..to` in order, as many as `take` wants: it returns where to go on.
    pub(crate) fn scan(
        transaction: &ReadTransaction,
        table: TableDefinition<'static, Bytes, Bytes>,
        from: Vec<u8>,
        to: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<Next, Error>,
    ) -> Result<(), Error> {
        let table = transaction.open_table(table).map_err(failed)?;
        let mut from = from;
        'seek: loop {
            if from.as_slice() >= to {
                return Ok(());
            }
            for row in table.range(from.as_slice()..to).map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                match take(key.value(), value.value())? {
                    Next::Row => {}
                    Next::Stop => return Ok(()),
                    Next::Seek(key) => {
                        from = key;
                        continue 'seek;
                    }
                }
            }
            return Ok(());
        }
    }

    /// Why no change is taken any more, if so.
    pub(crate) fn sealed(&self) -> Option<String> {
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no more changes.
    pub(crate) fn seal(&self, why: &str) {
        tracing::error!(why, "the store takes no more changes");
        *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Runs `change` in one transaction and makes it durable.
    /// # Errors
    /// Nothing of the change may be believed after an error.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<(R, Commit), Error>,
    ) -> Result<R, Error> {
        if let Some(why) = self.sealed() {
            return Err(Error::Sealed(why));
        }
        let result = self.try_write(change);
        if let Err(error) = &result {
            if self.sync_failed.load(Ordering::SeqCst) {
                self.seal(&format!("a sync of the metadata failed: {error}"));
            } else if let Err(again) = self.reopen() {
                self.seal(&format!("the metadata cannot be opened again after `{error}`: {again}"));
            }
        }
        result
    }

    fn try_write<R>(&self, change: impl FnOnce(&mut Tables<'_>) -> Result<(R, Commit), Error>) -> Result<R, Error> {
        let database = self.current()?;
        let transaction = database.begin_write().map_err(write_failed)?;
        let changed = {
            let mut tables = Tables {
                buckets: transaction.open_table(BUCKETS).map_err(write_failed)?,
                objects: transaction.open_table(OBJECTS).map_err(write_failed)?,
                uploads: transaction.open_table(UPLOADS).map_err(write_failed)?,
                parts: transaction.open_table(PARTS).map_err(write_failed)?,
                segments: transaction.open_table(SEGMENTS).map_err(write_failed)?,
            };
            change(&mut tables)
        };
        match changed? {
            (value, Commit::Nothing) => {
                transaction.abort().map_err(write_failed)?;
                Ok(value)
            }
            (value, Commit::Needed) => {
                transaction.commit().map_err(write_failed)?;
                Ok(value)
            }
        }
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            return Err(Error::Closed);
        }
        // The failed handle writes nothing when it is dropped; readers that hold it finish on their snapshot.
        *slot = Some(Arc::new(Self::database(&self.disk, &self.path, &self.sync_failed)?));
        Ok(())
    }

    /// Closes the database; waits for nobody.
    pub(crate) fn close(&self) {
        self.database.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Where a scan goes on.
pub(crate) enum Next {
    /// With the next row.
    Row,
    /// Nowhere.
    Stop,
    /// With the first row at or after this key.
    Seek(Vec<u8>),
}

/// Reading and writing rows inside of a write transaction.
pub(crate) fn table_get(table: &Table<'_, Bytes, Bytes>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    Ok(table.get(key).map_err(write_failed)?.map(|value| value.value().to_vec()))
}

/// Sets a row.
pub(crate) fn table_put(table: &mut Table<'_, Bytes, Bytes>, key: &[u8], value: &[u8]) -> Result<(), Error> {
    table.insert(key, value).map_err(write_failed)?;
    Ok(())
}

/// Removes a row.
pub(crate) fn table_remove(table: &mut Table<'_, Bytes, Bytes>, key: &[u8]) -> Result<(), Error> {
    table.remove(key).map_err(write_failed)?;
    Ok(())
}

/// Rows: keys and values.
pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// The first `limit` rows of `from..to`.
pub(crate) fn table_rows(table: &Table<'_, Bytes, Bytes>, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, Error> {
    table
        .range(from..to)
        .map_err(write_failed)?
        .take(limit)
        .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(write_failed))
        .collect()
}
