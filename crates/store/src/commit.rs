//! Group commit: one thread takes all changes that wait, makes them durable at once, and then answers them all.
//!
//! Cost: one directory sync per directory of new extents (usually one) and one sync of the log per batch, however many
//! wait. Changes of buckets of the class `group` wait a little for others; those of the class `cache` for nobody, and what
//! they wrote is durable within a second.
//! Invariant: a reply of success is sent after the commit returned; if it fails, everybody in the batch is told so, and
//! their extents are left on the disk, because the commit may have become durable all the same. The next opening of
//! the store removes those that no row names.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::Error;
use crate::config::{CACHE_FLUSH_MS, COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, GROUP_WINDOW_MS};
use crate::disk::Disk;
use crate::extent;
use crate::index::meta::{Commit, Meta};
use crate::index::rows::Durability;
use crate::mutation::{Effects, Moment, Mutation, apply, is_refusal};
use crate::reaper::{ExtentGuard, Reaper};
use crate::stats::Counters;
use crate::store::now_ms;

struct Pending {
    mutation: Mutation,
    class: Durability,
    arrived: Instant,
    guard: Option<ExtentGuard>,
    reply: oneshot::Sender<Result<Effects, Error>>,
}

#[derive(Default)]
struct Waiting {
    changes: Vec<Pending>,
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch; empty if none came for a while; `None` once closed and empty.
    fn take(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.lock();
        let mut idle = false;
        loop {
            let patience = waiting.patience();
            if patience.is_zero() {
                let count = waiting.changes.len().min(COMMIT_BATCH_MAX);
                return Some(waiting.changes.drain(..count).collect());
            }
            if waiting.changes.is_empty() {
                if waiting.closed {
                    return None;
                }
                if idle {
                    return Some(Vec::new());
                }
            }
            let (guard, result) = self.arrived.wait_timeout(waiting, patience).unwrap_or_else(PoisonError::into_inner);
            waiting = guard;
            idle = result.timed_out();
        }
    }
}

impl Waiting {
    /// How long to wait for more: not at all if one is in a hurry, the rest of the window if all may share a sync.
    fn patience(&self) -> Duration {
        let Some(first) = self.changes.first() else { return Duration::from_millis(CACHE_FLUSH_MS) };
        let relaxed = self.changes.iter().all(|pending| pending.class == Durability::Group);
        if self.closed || !relaxed || self.changes.len() >= COMMIT_BATCH_MAX {
            return Duration::ZERO;
        }
        Duration::from_millis(GROUP_WINDOW_MS).saturating_sub(first.arrived.elapsed())
    }
}

/// What the committing thread works on.
pub(crate) struct CommitParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) meta: Arc<Meta>,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) checkpoint_bytes: u64,
}

/// The handle of the committing thread.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    classes: Arc<Classes>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(parts: CommitParts, classes: BTreeMap<String, Durability>) -> Result<Self, Error> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let classes = Arc::new(Classes(Mutex::new(classes)));
        let changing = Arc::clone(&classes);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || {
                while let Some(batch) = theirs.take() {
                    if batch.is_empty() {
                        told("flushing", parts.meta.flush());
                    } else {
                        commit(&parts, &changing, batch);
                    }
                    if parts.meta.wants_checkpoint(parts.checkpoint_bytes) {
                        told("a checkpoint", parts.meta.checkpoint());
                    }
                }
            })
            .map_err(|error| Error::io("start the committer", error))?;
        Ok(Self { queue, classes, thread: Mutex::new(Some(thread)) })
    }

    /// Makes `mutation` durable; `guard` is the new extent that it names.
    pub(crate) async fn submit(&self, mutation: Mutation, guard: Option<ExtentGuard>) -> Result<Effects, Error> {
        let (reply, answer) = oneshot::channel();
        let class = self.classes.of(&mutation);
        {
            let mut waiting = self.queue.lock();
            if waiting.closed {
                return Err(Error::Closed);
            }
            if waiting.changes.len() >= COMMIT_QUEUE_MAX {
                return Err(Error::Busy);
            }
            waiting.changes.push(Pending { mutation, class, arrived: Instant::now(), guard, reply });
        }
        self.queue.arrived.notify_one();
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Makes durable what waits, then ends the thread. Blocks.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.arrived.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the committer ended by a panic");
        }
    }
}

type Reply = (oneshot::Sender<Result<Effects, Error>>, Option<ExtentGuard>);

/// The durability of each bucket's changes.
#[derive(Debug, Default)]
struct Classes(Mutex<BTreeMap<String, Durability>>);

impl Classes {
    fn of(&self, mutation: &Mutation) -> Durability {
        let classes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mutation.object_bucket().and_then(|bucket| classes.get(bucket)).copied().unwrap_or_default()
    }

    fn learn(&self, (bucket, class): (String, Durability)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket, class);
    }
}

fn told(what: &str, result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} failed");
    }
}

fn commit(parts: &CommitParts, classes: &Classes, batch: Vec<Pending>) {
    let mut replies: Vec<Reply> = Vec::with_capacity(batch.len());
    let mut mutations = Vec::with_capacity(batch.len());
    let full = parts.reaper.meter().admit(0).err();
    for pending in batch {
        if let Some(full) = full.as_ref().filter(|_error| pending.mutation.grows()) {
            answer(parts, pending.reply, pending.guard, Err(full.clone()));
            continue;
        }
        replies.push((pending.reply, pending.guard));
        mutations.push((pending.mutation, pending.class));
    }
    if mutations.is_empty() {
        return;
    }
    parts.counters.batch(mutations.len());
    let outcome = sync_directories(parts, &replies).and_then(|()| {
        catch_unwind(AssertUnwindSafe(|| write(&parts.meta, mutations))).unwrap_or_else(|_panic| {
            parts.meta.seal("the metadata database panicked");
            Err(Error::Meta("the metadata database panicked".to_owned()))
        })
    });
    match outcome {
        Ok(results) => {
            for effects in results.iter().flatten() {
                if let Some(class) = effects.class.clone() {
                    classes.learn(class);
                }
            }
            for ((reply, guard), result) in replies.into_iter().zip(results) {
                answer(parts, reply, guard, result);
            }
        }
        Err(error) => {
            tracing::error!(%error, changes = replies.len(), "a commit failed; nobody in it was acknowledged");
            for (reply, guard) in replies {
                if let Some(guard) = guard {
                    guard.abandon();
                }
                send(reply, Err(error.clone()));
            }
        }
    }
}

fn sync_directories(parts: &CommitParts, replies: &[Reply]) -> Result<(), Error> {
    let directories: BTreeSet<PathBuf> = replies
        .iter()
        .filter_map(|(_reply, guard)| guard.as_ref())
        .map(|guard| extent::directory(&parts.root, guard.id()))
        .collect();
    for directory in directories {
        parts.disk.sync_dir(&directory).map_err(|error| Error::io(format!("sync {}", directory.display()), error))?;
    }
    Ok(())
}

fn write(meta: &Meta, mutations: Vec<(Mutation, Durability)>) -> Result<Vec<Result<Effects, Error>>, Error> {
    let now_ms = now_ms();
    meta.write(|tables, first| {
        let mut results = Vec::with_capacity(mutations.len());
        let mut commit = Commit::Nothing;
        for (sequence, (mutation, class)) in (first..).zip(mutations) {
            match apply(tables, mutation, Moment { sequence, now_ms }) {
                Err(error) if !is_refusal(&error) => return Err(error),
                result => {
                    if result.is_ok() {
                        let wanted = if class == Durability::Cache { Commit::Later } else { Commit::Needed };
                        commit = commit.max(wanted);
                    }
                    results.push(result);
                }
            }
        }
        Ok((results, commit))
    })
}

fn answer(
    parts: &CommitParts,
    reply: oneshot::Sender<Result<Effects, Error>>,
    guard: Option<ExtentGuard>,
    result: Result<Effects, Error>,
) {
    if let Ok(effects) = &result {
        if let Some(guard) = guard {
            guard.keep();
        }
        parts.counters.usage(effects);
        for extent in &effects.freed {
            parts.reaper.free(extent.id, extent.stored);
        }
    }
    send(reply, result);
}

fn send(reply: oneshot::Sender<Result<Effects, Error>>, result: Result<Effects, Error>) {
    if reply.send(result).is_err() {
        tracing::debug!("the caller of a change went away before its answer");
    }
}
