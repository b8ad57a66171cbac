//! The metadata database: redb on the store's disk seam.
//!
//! Invariant: what [`Meta::write`] returned `Ok` for is durable. After a failed write the database is opened again, which
//! rolls back to the last commit; after a failed *sync* nobody knows what the disk holds, so the store takes no more
//! changes until it is opened again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend, Table, TableDefinition,
};

use crate::Error;
use crate::config::META_CACHE_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::index::codec::{decode, encode};
use crate::mutation::UsageChange;
use crate::stats::BucketUsage;

type Bytes = &'static [u8];

/// A table of the index. Its number is part of the log's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TableId {
    /// The store's own numbers.
    State = 0,
    /// Buckets by name.
    Buckets = 1,
    /// Versions of objects.
    Objects = 2,
    /// Multipart uploads.
    Uploads = 3,
    /// Their parts.
    Parts = 4,
    /// Documents of buckets.
    Documents = 5,
    /// Identities: users, groups, keys, policies, sessions.
    Identities = 6,
    /// What each bucket holds.
    Usage = 7,
}

impl TableId {
    pub(crate) const ALL: [Self; 8] = [
        Self::State,
        Self::Buckets,
        Self::Objects,
        Self::Uploads,
        Self::Parts,
        Self::Documents,
        Self::Identities,
        Self::Usage,
    ];

    const fn definition(self) -> TableDefinition<'static, Bytes, Bytes> {
        TableDefinition::new(match self {
            Self::State => "state",
            Self::Buckets => "buckets",
            Self::Objects => "objects",
            Self::Uploads => "uploads",
            Self::Parts => "parts",
            Self::Documents => "documents",
            Self::Identities => "identities",
            Self::Usage => "usage",
        })
    }
}

const EPOCH: Bytes = b"epoch";
const SEQUENCE: Bytes = b"sequence";
/// Extents that one opening of the store may make: ids are `epoch << 40 | counter`, so none is ever used twice.
const EPOCH_SHIFT: u32 = 40;
/// Changes of one batch: the sequence number of a change is `batch << 12 | place in the batch`.
pub(crate) const BATCH_SHIFT: u32 = 12;

/// The tables of one write transaction.
pub(crate) struct Tables<'t> {
    /// In the order of [`TableId::ALL`].
    tables: Vec<Table<'t, Bytes, Bytes>>,
    /// What buckets hold, as far as this transaction touched them; `None` for those that are gone.
    usage: BTreeMap<String, Option<BucketUsage>>,
}

/// A row: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);
/// Rows in order.
pub(crate) type Rows = Vec<Row>;

impl<'t> Tables<'t> {
    fn open(transaction: &'t redb::WriteTransaction) -> Result<Self, Error> {
        let open = |id: &TableId| transaction.open_table(id.definition()).map_err(write_failed);
        Ok(Self { tables: TableId::ALL.iter().map(open).collect::<Result<_, _>>()?, usage: BTreeMap::new() })
    }

    fn table(&self, id: TableId) -> Result<&Table<'t, Bytes, Bytes>, Error> {
        self.tables.get(id as usize).ok_or_else(|| Error::Meta("an unknown table".to_owned()))
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut Table<'t, Bytes, Bytes>, Error> {
        self.tables.get_mut(id as usize).ok_or_else(|| Error::Meta("an unknown table".to_owned()))
    }

    /// The value of a row.
    pub(crate) fn get(&self, id: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.table(id)?.get(key).map_err(write_failed)?.map(|value| value.value().to_vec()))
    }

    /// Sets a row.
    pub(crate) fn put(&mut self, id: TableId, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.table_mut(id)?.insert(key, value).map_err(write_failed)?;
        Ok(())
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, id: TableId, key: &[u8]) -> Result<(), Error> {
        self.table_mut(id)?.remove(key).map_err(write_failed)?;
        Ok(())
    }

    /// What a bucket holds.
    pub(crate) fn usage(&mut self, bucket: &str) -> Result<BucketUsage, Error> {
        if let Some(usage) = self.usage.get(bucket) {
            return Ok(usage.unwrap_or_default());
        }
        let key = bucket.as_bytes();
        let row = self.get(TableId::Usage, key)?;
        let usage = row.map(|value| Ok::<_, Error>(decode(key, &value)?.0)).transpose()?.unwrap_or_default();
        self.usage.insert(bucket.to_owned(), Some(usage));
        Ok(usage)
    }

    /// Counts what came and went.
    pub(crate) fn change_usage(&mut self, bucket: &str, change: UsageChange) -> Result<(), Error> {
        let mut usage = self.usage(bucket)?;
        usage.apply(change);
        self.usage.insert(bucket.to_owned(), Some(usage));
        Ok(())
    }

    /// Forgets a bucket that is gone.
    pub(crate) fn forget_usage(&mut self, bucket: &str) {
        self.usage.insert(bucket.to_owned(), None);
    }

    /// Writes the counts of this transaction.
    fn flush_usage(&mut self) -> Result<(), Error> {
        for (bucket, usage) in std::mem::take(&mut self.usage) {
            let key = bucket.as_bytes();
            match usage {
                Some(usage) => self.put(TableId::Usage, key, &encode(key, &usage, &[]))?,
                None => self.remove(TableId::Usage, key)?,
            }
        }
        Ok(())
    }

    /// The first `limit` rows of `from..to`.
    pub(crate) fn rows(&self, id: TableId, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, Error> {
        self.table(id)?
            .range(from..to)
            .map_err(write_failed)?
            .take(limit)
            .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).map_err(write_failed))
            .collect()
    }
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

/// One of the store's own numbers; zero if it was never set.
fn number(tables: &Tables<'_>, name: Bytes) -> Result<u64, Error> {
    let Some(value) = tables.get(TableId::State, name)? else { return Ok(0) };
    let bytes =
        value.as_slice().try_into().map_err(|_length| Error::Meta("corrupt: a number of the store".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
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
            let mut tables = Tables::open(&transaction)?;
            let epoch = number(&tables, EPOCH)? + 1;
            tables.put(TableId::State, EPOCH, &epoch.to_le_bytes())?;
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
    pub(crate) fn get(transaction: &ReadTransaction, id: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let table = transaction.open_table(id.definition()).map_err(failed)?;
        Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec()))
    }

    /// The first row of `from..to`.
    pub(crate) fn first(
        transaction: &ReadTransaction,
        id: TableId,
        from: &[u8],
        to: &[u8],
    ) -> Result<Option<Row>, Error> {
        let table = transaction.open_table(id.definition()).map_err(failed)?;
        let row = table.range(from..to).map_err(failed)?.next().transpose().map_err(failed)?;
        Ok(row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
    }

    /// The rows of `from..to` in order, as many as `take` wants: it returns where to go on.
    pub(crate) fn scan(
        transaction: &ReadTransaction,
        id: TableId,
        from: Vec<u8>,
        to: &[u8],
        mut take: impl FnMut(&[u8], &[u8]) -> Result<Next, Error>,
    ) -> Result<(), Error> {
        let table = transaction.open_table(id.definition()).map_err(failed)?;
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

    /// Runs `change` in one transaction and makes it durable. It gets the batch's first sequence number.
    /// # Errors
    /// Nothing of the change may be believed after an error.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Tables<'_>, u64) -> Result<(R, Commit), Error>,
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

    fn try_write<R>(
        &self,
        change: impl FnOnce(&mut Tables<'_>, u64) -> Result<(R, Commit), Error>,
    ) -> Result<R, Error> {
        let database = self.current()?;
        let transaction = database.begin_write().map_err(write_failed)?;
        let changed = {
            let mut tables = Tables::open(&transaction)?;
            let batch = number(&tables, SEQUENCE)? + 1;
            tables.put(TableId::State, SEQUENCE, &batch.to_le_bytes())?;
            let result = change(&mut tables, batch << BATCH_SHIFT);
            result.and_then(|result| tables.flush_usage().map(|()| result))
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
