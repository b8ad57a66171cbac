//! The index: redb for what is looked up, the log for what is durable.
//!
//! Protocol of a batch: the rows change in a transaction that is not committed; their bytes go into the log as one record
//! and are made durable; then the transaction is committed without a sync, which shows it to readers. A checkpoint commits
//! with a sync and starts the log anew. A start opens the database at its last checkpoint and repeats the log's records.
//!
//! Invariant: what [`Meta::write`] returned `Ok` for is in the log or in the database's last checkpoint, on every drive
//! that did not fail. After a failed *sync* nobody knows what the disk holds, so the store takes no more changes until it
//! is opened again. Cost of a batch: one write and one `fdatasync` of the log, whatever it holds.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase as _};

use super::files::{self, Bodies};
use super::mirror::{Health, Mirror};
use super::place::Place;
pub(crate) use super::tables::{Row, TableId, Tables};
use super::wal::{self, Batch, Doubt, Record, Wal};
use crate::Error;
use crate::config::{CHECKPOINT_MS, META_CACHE_BYTES};

const EPOCH: &[u8] = b"epoch";
const SEQUENCE: &[u8] = b"sequence";
/// Extents that one opening of the store may make: ids are `epoch << 40 | counter`, so none is ever used twice.
const EPOCH_SHIFT: u32 = 40;
/// Changes of one batch: the sequence number of a change is `batch << 12 | place in the batch`.
pub(crate) const BATCH_SHIFT: u32 = 12;

/// What a write transaction asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Commit {
    /// Nothing: it changed nothing.
    Nothing,
    /// To be seen now and durable later.
    Later,
    /// To be durable now.
    Needed,
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

/// One of the store's own numbers; zero if it was never set.
fn number(tables: &Tables<'_>, name: &[u8]) -> Result<u64, Error> {
    let Some(value) = tables.get(TableId::State, name)? else { return Ok(0) };
    let bytes =
        value.as_slice().try_into().map_err(|_length| Error::Meta("corrupt: a number of the store".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    if let redb::Error::Corrupted(what) = error {
        return Error::corrupt(what, "the index");
    }
    let shown = error.to_string();
    if let redb::Error::Io(error) = error {
        if error.kind() == std::io::ErrorKind::InvalidData {
            return Error::corrupt(error.to_string(), "the index");
        }
        if let full @ Error::Full(_) = Error::io("the index", error) {
            return full;
        }
    }
    Error::Meta(shown)
}

/// Like [`failed`] inside of a write transaction, where corruption is the database's, never that of one row.
pub(super) fn write_failed(error: impl Into<redb::Error>) -> Error {
    let error = failed(error);
    if let Error::Corrupt { what, .. } = &error { Error::Meta(format!("corrupt: {what}")) } else { error }
}

/// An open database, and what keeps it from writing once it was given up.
#[derive(Debug)]
struct Handle {
    database: Database,
    fence: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Log {
    wal: Wal,
    /// Rows that readers see and the log does not have yet.
    deferred: Batch,
    /// The last batch.
    sequence: u64,
    checkpointed: Instant,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Meta {
    places: Vec<Place>,
    handle: RwLock<Option<Arc<Handle>>>,
    log: Mutex<Option<Log>>,
    health: Arc<Health>,
    sealed: Mutex<Option<String>>,
}

/// What opening the index found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    /// The first extent id of this opening.
    pub(crate) first_extent: u64,
    /// Records of the log that were repeated.
    pub(crate) replayed: u64,
}

fn database(places: &[Place], health: &Arc<Health>) -> Result<Handle, Error> {
    let mirror = Mirror::new(files::open(places)?, Arc::clone(health));
    let mirror = mirror.map_err(|error| Error::io("open the index", error))?;
    let fence = mirror.fence();
    let database = Database::builder().set_cache_size(META_CACHE_BYTES).create_with_backend(mirror).map_err(failed)?;
    Ok(Handle { database, fence })
}

/// Commits with a sync, in the way that a start after a crash needs no look at the pages.
fn commit_durably(database: &Database, change: impl FnOnce(&mut Tables<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let mut transaction = database.begin_write().map_err(write_failed)?;
    transaction.set_quick_repair(true);
    {
        let mut tables = Tables::open(&transaction)?;
        change(&mut tables)?;
        tables.finish()?;
    }
    transaction.commit().map_err(write_failed)
}

fn replay(tables: &mut Tables<'_>, record: &Record) -> Result<(), Error> {
    for change in record.changes() {
        let (id, key, value) =
            change.ok_or_else(|| Error::corrupt(format!("the rows of record {}", record.sequence), "the log"))?;
        tables.replay(id, key, value)?;
    }
    Ok(())
}

/// Brings the database up to the log and does `also` on top; returns the last batch, and how many records it took.
fn recover(
    database: &Database,
    found: &wal::Found,
    also: impl FnOnce(&mut Tables<'_>) -> Result<(), Error>,
) -> Result<(u64, u64), Error> {
    let (mut sequence, mut replayed) = (0, 0);
    commit_durably(database, |tables| {
        sequence = number(tables, SEQUENCE)?;
        if sequence < found.base {
            let what = format!("it ends at batch {sequence}, and batch {} was acknowledged", found.base);
            return Err(Error::corrupt(what, "the index"));
        }
        let base = sequence;
        for record in found.records.iter().filter(|record| record.sequence > base) {
            replay(tables, record)?;
            replayed += 1;
            sequence = sequence.max(record.sequence);
            tables.replay(TableId::State, SEQUENCE, Some(&record.sequence.to_le_bytes()))?;
        }
        also(tables)
    })?;
    Ok((sequence, replayed))
}

impl Meta {
    /// Opens or makes the index in `places`.
    pub(crate) fn open(places: Vec<Place>, bodies: Bodies) -> Result<(Self, Opened), Error> {
        let health = Arc::new(Health::default());
        files::prepare(&places, bodies, |places| {
            let fresh = database(places, &health)?;
            commit_durably(&fresh.database, |tables| tables.put(TableId::State, EPOCH, &0_u64.to_le_bytes()))
        })?;
        let handle = database(&places, &health)?;
        let found = wal::read(&places)?;
        let mut epoch = 0;
        let (sequence, replayed) = recover(&handle.database, &found, |tables| {
            epoch = number(tables, EPOCH)? + 1;
            tables.put(TableId::State, EPOCH, &epoch.to_le_bytes())
        })?;
        let wal = Wal::create(&places, found.number + 1, sequence)?;
        wal.remove_older()?;
        let log = Log { wal, deferred: Batch::default(), sequence, checkpointed: Instant::now() };
        let this = Self {
            places,
            handle: RwLock::new(Some(Arc::new(handle))),
            log: Mutex::new(Some(log)),
            health,
            sealed: Mutex::new(None),
        };
        Ok((this, Opened { first_extent: epoch << EPOCH_SHIFT, replayed }))
    }

    /// Where it lies.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Damaged pages of the index that were seen, and those of them that were repaired from another drive.
    pub(crate) fn damage(&self) -> (u64, u64) {
        (self.health.damaged.load(Ordering::Relaxed), self.health.repaired.load(Ordering::Relaxed))
    }

    fn current(&self) -> Result<Arc<Handle>, Error> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot. Who found a page that nobody can read was told; the others go on with the rest.
    pub(crate) fn read(&self) -> Result<ReadTransaction, Error> {
        if self.health.unreadable.swap(false, Ordering::SeqCst)
            && let Some(log) = self.log().as_mut()
        {
            drop(self.reopen(log, Error::corrupt("a page cannot be read", "the index")));
        }
        self.current()?.database.begin_read().map_err(failed)
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
        let mut log = self.log();
        let log = log.as_mut().ok_or(Error::Closed)?;
        self.try_write(log, change)
    }

    fn try_write<R>(
        &self,
        log: &mut Log,
        change: impl FnOnce(&mut Tables<'_>, u64) -> Result<(R, Commit), Error>,
    ) -> Result<R, Error> {
        let handle = self.current()?;
        let sequence = log.sequence + 1;
        let evaluated = begin(&handle.database).and_then(|transaction| {
            let mut tables = Tables::open(&transaction)?;
            let (value, commit) = change(&mut tables, sequence << BATCH_SHIFT)?;
            tables.replay(TableId::State, SEQUENCE, Some(&sequence.to_le_bytes()))?;
            let batch = tables.finish()?;
            Ok((transaction, value, commit, batch))
        });
        drop(handle);
        let (transaction, value, commit, batch) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(error) => return Err(self.reopen(log, error)),
        };
        if commit == Commit::Nothing || batch.is_empty() {
            return match transaction.abort() {
                Ok(()) => Ok(value),
                Err(error) => Err(self.reopen(log, write_failed(error))),
            };
        }
        if commit == Commit::Later {
            log.deferred.append(&batch);
        } else {
            let mut record = std::mem::take(&mut log.deferred);
            let deferred = record.len();
            record.append(&batch);
            if let Err((error, doubt)) = log.wal.append(sequence, &record) {
                record.truncate(deferred);
                log.deferred = record;
                if doubt == Doubt::Sync {
                    self.seal(&format!("a sync of the log failed: {error}"));
                }
                if let Err(error) = transaction.abort() {
                    return Err(self.reopen(log, write_failed(error)));
                }
                return Err(error);
            }
        }
        log.sequence = sequence;
        if let Err(error) = transaction.commit() {
            // The log has it: opening the database again shows it. If that fails nobody may be told that it is there.
            let error = self.reopen(log, write_failed(error));
            if self.sealed().is_some() {
                return Err(error);
            }
        }
        Ok(value)
    }

    /// Makes durable what was deferred.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let mut log = self.log();
        let Some(log) = log.as_mut().filter(|log| !log.deferred.is_empty()) else { return Ok(()) };
        if let Some(why) = self.sealed() {
            return Err(Error::Sealed(why));
        }
        let batch = std::mem::take(&mut log.deferred);
        log.wal.append(log.sequence, &batch).map_err(|(error, doubt)| {
            log.deferred = batch;
            if doubt == Doubt::Sync {
                self.seal(&format!("a sync of the log failed: {error}"));
            }
            error
        })
    }

    /// Whether the log is so long, `bytes`, or so old that the database should take it over.
    pub(crate) fn wants_checkpoint(&self, bytes: u64) -> bool {
        let log = self.log();
        log.as_ref().is_some_and(|log| {
            let old = log.checkpointed.elapsed() >= Duration::from_millis(CHECKPOINT_MS);
            log.wal.bytes() >= bytes || (old && log.wal.bytes() > 0)
        })
    }

    /// Makes the database durable by itself, and starts the log anew.
    pub(crate) fn checkpoint(&self) -> Result<(), Error> {
        if let Some(why) = self.sealed() {
            return Err(Error::Sealed(why));
        }
        let mut log = self.log();
        let log = log.as_mut().ok_or(Error::Closed)?;
        self.checkpoint_with(log)
    }

    fn checkpoint_with(&self, log: &mut Log) -> Result<(), Error> {
        log.checkpointed = Instant::now();
        let sequence = log.sequence;
        let handle = self.current()?;
        let committed = commit_durably(&handle.database, |tables| {
            tables.replay(TableId::State, SEQUENCE, Some(&sequence.to_le_bytes()))
        });
        drop(handle);
        if let Err(error) = committed {
            return Err(self.reopen(log, error));
        }
        log.deferred.clear();
        log.wal.rotate(sequence)
    }

    /// Takes a drive in again with `admit`; if the index has a place there, gives it a copy. What lay there is not believed.
    /// # Errors
    /// Why the drive cannot be taken in; the others go on.
    pub(crate) fn renew(&self, dir: &Path, admit: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let Some(place) = self.places.iter().find(|place| place.dir == dir) else { return admit() };
        if let Some(why) = self.sealed() {
            return Err(Error::Sealed(why));
        }
        let mut log = self.log();
        let log = log.as_mut().ok_or(Error::Closed)?;
        files::forget(place)?;
        self.checkpoint_with(log)?;
        let mut slot = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        let old = slot.take().ok_or(Error::Closed)?;
        old.fence.store(true, Ordering::SeqCst);
        drop(old);
        let admitted = admit()
            .and_then(|()| files::renew(&self.places, place).inspect_err(|error| place.give_up(&error.to_string())));
        match database(&self.places, &self.health) {
            Ok(handle) => *slot = Some(Arc::new(handle)),
            Err(error) => {
                self.seal(&format!("the index cannot be opened again: {error}"));
                return Err(error);
            }
        }
        drop(slot);
        admitted?;
        log.wal.rotate(log.sequence)
    }

    /// After a failure of the database: opens it again at its last checkpoint and repeats the log. Seals the store if that
    /// fails too, or if nobody knows what the disk holds. Returns the failure.
    fn reopen(&self, log: &mut Log, error: Error) -> Error {
        if self.health.sync_failed.load(Ordering::SeqCst) {
            self.seal(&format!("a sync of the index failed: {error}"));
            return error;
        }
        let mut slot = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = slot.take() else { return Error::Closed };
        // It must write nothing when it is dropped; readers that hold it finish on their snapshot.
        old.fence.store(true, Ordering::SeqCst);
        drop(old);
        let again = database(&self.places, &self.health).and_then(|handle| {
            recover(&handle.database, &wal::read(&self.places)?, |tables| {
                replay(tables, &Record::new(log.sequence, &log.deferred))?;
                tables.replay(TableId::State, SEQUENCE, Some(&log.sequence.to_le_bytes()))
            })?;
            Ok(handle)
        });
        match again {
            Ok(handle) => {
                tracing::warn!(%error, "the index was opened again after a failure");
                *slot = Some(Arc::new(handle));
            }
            Err(again) => self.seal(&format!("the index cannot be opened again after `{error}`: {again}")),
        }
        error
    }

    /// Closes the index; waits for nobody. What was acknowledged is durable already; a checkpoint spares the next start
    /// the log.
    pub(crate) fn close(&self) {
        if self.sealed().is_none()
            && let Err(error) = self.flush().and_then(|()| self.checkpoint())
            && !matches!(error, Error::Closed)
        {
            tracing::warn!(%error, "the index is closed without a checkpoint; the next start repeats its log");
        }
        let handle = self.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle.filter(|_handle| self.sealed().is_some()) {
            handle.fence.store(true, Ordering::SeqCst);
        }
        self.log().take();
    }
}

fn begin(database: &Database) -> Result<redb::WriteTransaction, Error> {
    let mut transaction = database.begin_write().map_err(write_failed)?;
    transaction.set_durability(Durability::None).map_err(|error| Error::Meta(error.to_string()))?;
    Ok(transaction)
}
