//! Group commit: one thread takes all changes that wait, makes them durable at once, and then answers them all.
//!
//! Cost: one directory sync per directory of new extents (usually one) and one redb commit per batch, however many wait.
//! Invariant: a reply of success is sent after the commit returned; if it fails, everybody in the batch is told so, and
//! their extents are left on the disk, because the commit may have become durable all the same. The next opening of
//! the store removes those that no row names.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::Error;
use crate::config::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX};
use crate::disk::Disk;
use crate::extent;
use crate::index::meta::{Commit, Meta};
use crate::mutation::{Effects, Moment, Mutation, apply, is_refusal};
use crate::reaper::{ExtentGuard, Reaper};
use crate::stats::Counters;
use crate::store::now_ms;

struct Pending {
    mutation: Mutation,
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

    /// The next batch; `None` once closed and empty.
    fn take(&self) -> Option<Vec<Pending>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.changes.is_empty() {
                let count = waiting.changes.len().min(COMMIT_BATCH_MAX);
                return Some(waiting.changes.drain(..count).collect());
            }
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What the committing thread works on.
pub(crate) struct CommitParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    pub(crate) meta: Arc<Meta>,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counters: Arc<Counters>,
}

/// The handle of the committing thread.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(parts: CommitParts) -> Result<Self, Error> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || {
                while let Some(batch) = theirs.take() {
                    commit(&parts, batch);
                }
            })
            .map_err(|error| Error::io("start the committer", error))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Makes `mutation` durable; `guard` is the new extent that it names.
    pub(crate) async fn submit(&self, mutation: Mutation, guard: Option<ExtentGuard>) -> Result<Effects, Error> {
        let (reply, answer) = oneshot::channel();
        {
            let mut waiting = self.queue.lock();
            if waiting.closed {
                return Err(Error::Closed);
            }
            if waiting.changes.len() >= COMMIT_QUEUE_MAX {
                return Err(Error::Busy);
            }
            waiting.changes.push(Pending { mutation, guard, reply });
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

fn commit(parts: &CommitParts, batch: Vec<Pending>) {
    let mut replies: Vec<Reply> = Vec::with_capacity(batch.len());
    let mut mutations = Vec::with_capacity(batch.len());
    let full = parts.reaper.meter().admit(0).err();
    for pending in batch {
        if let Some(full) = full.as_ref().filter(|_error| pending.mutation.grows()) {
            answer(parts, pending.reply, pending.guard, Err(full.clone()));
            continue;
        }
        replies.push((pending.reply, pending.guard));
        mutations.push(pending.mutation);
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

fn write(meta: &Meta, mutations: Vec<Mutation>) -> Result<Vec<Result<Effects, Error>>, Error> {
    let now_ms = now_ms();
    meta.write(|tables, first| {
        let mut results = Vec::with_capacity(mutations.len());
        let mut commit = Commit::Nothing;
        for (sequence, mutation) in (first..).zip(mutations) {
            match apply(tables, mutation, Moment { sequence, now_ms }) {
                Err(error) if !is_refusal(&error) => return Err(error),
                result => {
                    if result.is_ok() {
                        commit = Commit::Needed;
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
