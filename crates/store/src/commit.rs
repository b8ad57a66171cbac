//! Group commit: one thread takes all changes that wait, makes them durable at once, and then answers them all.
//!
//! Cost: one sync per copy of the segment that takes small bodies, one per directory of new large ones (usually one), and
//! one of the log per batch, however many wait. Changes of buckets of the class `group` wait a little for others; those of the class `cache` for nobody, and what
//! they wrote is durable within a second.
//! Invariant: a reply of success is sent after the commit returned; if it fails, everybody in the batch is told so, and
//! their extents are left on the disk, because the commit may have become durable all the same. The next opening of
//! the store removes those that no row names.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::Error;
use crate::body::Bodies;
use crate::body::packed::{Ledger, Open, SegmentRow, Segments, segment_key};
use crate::config::{CACHE_FLUSH_MS, COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, GROUP_WINDOW_MS};
use crate::extent::ExtentRef;
use crate::index::codec::encode;
use crate::index::meta::{Commit, Meta, TableId};
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
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) meta: Arc<Meta>,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) checkpoint_bytes: u64,
}

/// The handle of the committing thread.
pub(crate) struct Committer {
    queue: Arc<Queue>,
    classes: Arc<Classes>,
    /// Counts the batches that changed a bucket or a document of one.
    buckets: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(parts: CommitParts, classes: BTreeMap<String, Durability>) -> Result<Self, Error> {
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        let classes = Arc::new(Classes(Mutex::new(classes)));
        let changing = Arc::clone(&classes);
        let buckets = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&buckets);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || {
                while let Some(batch) = theirs.take() {
                    if batch.is_empty() {
                        told("flushing", parts.meta.flush());
                    } else {
                        commit(&parts, &changing, &counting, batch);
                    }
                    if parts.meta.wants_checkpoint(parts.checkpoint_bytes) {
                        told("a checkpoint", parts.meta.checkpoint());
                    }
                }
            })
            .map_err(|error| Error::io("start the committer", error))?;
        Ok(Self { queue, classes, buckets, thread: Mutex::new(Some(thread)) })
    }

    /// Makes `mutation` durable; `guard` is the new extent that it names.
    pub(crate) async fn submit(&self, mutation: Mutation, guard: Option<ExtentGuard>) -> Result<Effects, Error> {
        self.queue(mutation, guard)?.await.unwrap_or(Err(Error::Closed))
    }

    /// The same, from a thread that may block.
    pub(crate) fn submit_blocking(&self, mutation: Mutation, guard: Option<ExtentGuard>) -> Result<Effects, Error> {
        self.queue(mutation, guard)?.blocking_recv().unwrap_or(Err(Error::Closed))
    }

    fn queue(
        &self,
        mutation: Mutation,
        guard: Option<ExtentGuard>,
    ) -> Result<oneshot::Receiver<Result<Effects, Error>>, Error> {
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
        Ok(answer)
    }

    /// A number that differs once a change of a bucket or of a document of one is acknowledged: what was read after it was
    /// asked for holds while it stays.
    pub(crate) fn bucket_generation(&self) -> u64 {
        self.buckets.load(Ordering::Acquire)
    }

    /// Whether no more changes are taken.
    pub(crate) fn closed(&self) -> bool {
        self.queue.lock().closed
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

fn commit(parts: &CommitParts, classes: &Classes, buckets: &AtomicU64, batch: Vec<Pending>) {
    let mut replies: Vec<Reply> = Vec::with_capacity(batch.len());
    let mut mutations = Vec::with_capacity(batch.len());
    let full = parts.reaper.meter().admit(0).err();
    let sealed = parts.bodies.set().serves().err();
    for pending in batch {
        if let Some(sealed) = &sealed {
            answer(parts, pending.reply, pending.guard, Err(sealed.clone()));
            continue;
        }
        if let Some(full) = full.as_ref().filter(|_error| pending.mutation.grows()) {
            answer(parts, pending.reply, pending.guard, Err(full.clone()));
            continue;
        }
        let record = pending.guard.as_ref().and_then(ExtentGuard::record);
        replies.push((pending.reply, pending.guard));
        mutations.push(Change { mutation: pending.mutation, class: pending.class, record });
    }
    if mutations.is_empty() {
        return;
    }
    let of_buckets = mutations.iter().any(|change| change.mutation.is_of_bucket());
    parts.counters.batch(mutations.len());
    let guards = || replies.iter().filter_map(|(_reply, guard)| guard.as_ref());
    let large: Vec<u64> = guards().filter_map(ExtentGuard::large).collect();
    let mut open: Vec<Arc<Open>> = guards().filter_map(ExtentGuard::open).cloned().collect();
    open.sort_by_key(|open| open.id);
    open.dedup_by_key(|open| open.id);
    let synced = parts.bodies.sync(&open, &large);
    drop(open);
    let segments = parts.bodies.segments();
    let outcome = synced.and_then(|()| {
        catch_unwind(AssertUnwindSafe(|| write(&parts.meta, segments, mutations))).unwrap_or_else(|_panic| {
            parts.meta.seal("the metadata database panicked");
            Err(Error::Meta("the metadata database panicked".to_owned()))
        })
    });
    if of_buckets {
        // Before anybody hears of the change, and also where nobody knows whether it happened.
        buckets.fetch_add(1, Ordering::Release);
    }
    match outcome {
        Ok((results, changed)) => {
            segments.learn(changed);
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

/// A change of a batch, and the record of a segment that it names for the first time.
struct Change {
    mutation: Mutation,
    class: Durability,
    record: Option<ExtentRef>,
}

/// What a batch did: an answer for each change, and the segments that changed.
type Written = (Vec<Result<Effects, Error>>, Vec<(u64, Option<SegmentRow>)>);

fn write(meta: &Meta, segments: &Segments, changes: Vec<Change>) -> Result<Written, Error> {
    let now_ms = now_ms();
    meta.write(|tables, first| {
        let mut results = Vec::with_capacity(changes.len());
        let mut commit = Commit::Nothing;
        let mut ledger = Ledger::new(segments);
        for (sequence, Change { mutation, class, record }) in (first..).zip(changes) {
            if let Mutation::Segment { id, coded } = &mutation {
                ledger.coded(*id, *coded);
            }
            match apply(tables, mutation, Moment { sequence, now_ms }) {
                Err(error) if !is_refusal(&error) => return Err(error),
                result => {
                    if let Ok(effects) = &result {
                        // What is freed must not be named by a row that a power cut brings back.
                        let later = class == Durability::Cache && effects.freed.is_empty();
                        commit = commit.max(if later { Commit::Later } else { Commit::Needed });
                        ledger.change(record.as_ref(), &effects.freed);
                    }
                    results.push(result);
                }
            }
        }
        let changed = ledger.finish();
        for (id, row) in &changed {
            let key = segment_key(*id);
            match row {
                Some(row) => tables.put(TableId::Segments, &key, &encode(&key, row, &[]))?,
                None => tables.remove(TableId::Segments, &key)?,
            }
        }
        Ok(((results, changed), commit))
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
            parts.bodies.forget(extent.id);
            parts.reaper.free(extent, parts.bodies.physical(extent));
        }
    }
    send(reply, result);
}

fn send(reply: oneshot::Sender<Result<Effects, Error>>, result: Result<Effects, Error>) {
    if reply.send(result).is_err() {
        tracing::debug!("the caller of a change went away before its answer");
    }
}
