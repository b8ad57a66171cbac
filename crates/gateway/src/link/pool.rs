//! Connections to one engine that wait for the next request.
//!
//! Each thread keeps its own, so that nobody waits for a lock and an answer is read by the thread that asked. The newest goes
//! out first, so the oldest time out. Whether a kept one still lives is looked at without a system call: a peer that closed
//! has made it readable.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Link;
use crate::config::IDLE_PER_ENGINE_MAX;

const SHARDS: usize = 16;

/// The kept connections.
#[derive(Default)]
pub(crate) struct Pool {
    shards: [Mutex<Vec<Kept>>; SHARDS],
}

struct Kept {
    link: Link,
    since: Instant,
}

impl Pool {
    /// A living connection, if one is kept.
    pub(crate) fn take(&self) -> Option<Link> {
        loop {
            let kept = self.shard().pop()?;
            if let Some(link) = kept.alive() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose last answer ended.
    pub(crate) fn keep(&self, link: Link) {
        let now = Instant::now();
        let mut shard = self.shard();
        // Those at the front were used least lately.
        let over = shard.iter().take_while(|kept| now - kept.since > kept.link.patience).count();
        let over = over.max((shard.len() + 1).saturating_sub(IDLE_PER_ENGINE_MAX));
        let over = over.min(shard.len());
        shard.drain(..over);
        shard.push(Kept { link, since: now });
    }

    /// Closes those of this thread: one of them was closed by the engine, so the others likely are as well.
    pub(crate) fn forget(&self) {
        self.shard().clear();
    }

    /// Closes what has waited too long or was closed by the engine, on all threads.
    pub(crate) fn sweep(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = std::mem::take(&mut *shard);
            let alive = |kept: Kept| {
                let since = kept.since;
                kept.alive().map(|link| Kept { link, since })
            };
            *shard = kept.into_iter().filter_map(alive).collect();
        }
    }

    // No step under this lock can panic half-way.
    fn shard(&self) -> MutexGuard<'_, Vec<Kept>> {
        let shard = self.shards.get(thread() % SHARDS).unwrap_or(&self.shards[0]);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn alive(self) -> Option<Link> {
        let Self { mut link, since } = self;
        (since.elapsed() <= link.patience && link.is_quiet()).then_some(link)
    }
}

/// A small number of this thread's own.
fn thread() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}
