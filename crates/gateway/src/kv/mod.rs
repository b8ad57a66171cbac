//! What engines say of their caches: one subscription for each engine that publishes events, and what follows for the index of
//! prompts.
//!
//! Three things follow, each exact: a cache that was emptied is forgotten; a full one bounds what the index believes; and a block
//! that was thrown out takes with it the beginnings of prompts that stood on it. The last needs a prompt's tokens, for which the
//! engine is asked once its answer has begun ([`tokens`]). *Invariant*: without such an engine no task runs and a request pays for
//! one look at an option; with one nothing here is waited for, and all memory has bounds. Batches have numbers: what is
//! missed is asked for again, else all that was known of the engine's blocks is forgotten, and the index estimates as before.

mod events;
mod msgpack;
mod tokens;
mod tree;
mod zmtp;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::Gateway;
use crate::engines::{Engine, EngineState, Model};
use crate::metrics::{escaped, family, line};
use crate::plan::Knowledge;
pub(crate) use tokens::Asker;
use tree::Tree;
use zmtp::{Peer, Socket};

/// After a connection was lost; doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What was missed has to come within.
const REPLAY: Duration = Duration::from_secs(10);
/// The number that ends what was missed.
const END: u64 = u64::MAX;

/// Where an engine publishes what happens in its cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEvents {
    /// Where it publishes, `tcp://host:port`.
    pub endpoint: String,
    /// Where it repeats what was missed, if it does.
    pub replay: Option<String>,
}

impl KvEvents {
    /// What is wrong with it, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        let endpoints = [Some(&self.endpoint), self.replay.as_ref()];
        let bad = endpoints.into_iter().flatten().find(|endpoint| zmtp::address(endpoint).is_none())?;
        Some(format!("events of its cache come from tcp://host:port, and that is not `{bad}`"))
    }
}

/// All engines that are followed.
#[derive(Default)]
pub(crate) struct Kv {
    followed: Mutex<BTreeMap<String, Following>>,
    replaced: Notify,
    pub(crate) asker: Asker,
}

struct Following {
    source: Arc<Source>,
    task: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One engine whose cache is followed.
pub(crate) struct Source {
    engine: Arc<Engine>,
    model: Arc<Model>,
    events: KvEvents,
    tree: Mutex<Tree>,
    connected: AtomicBool,
    counts: Counts,
    /// Set when the engine said that it tells no tokens.
    pub(crate) mute: AtomicBool,
}

#[derive(Default)]
struct Counts {
    stored: AtomicU64,
    removed: AtomicU64,
    cleared: AtomicU64,
    missed: AtomicU64,
    repeated: AtomicU64,
    lost: AtomicU64,
    asked: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Source {
    // No step of the tree can panic half-way, so a poisoned lock still guards a sound one.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> &EngineState {
        &self.engine.state
    }

    fn knowledge(&self) -> &Knowledge {
        &self.model.knowledge
    }

    /// Takes the batch of this number in.
    fn take(&self, number: u64, batch: &[u8]) -> io::Result<()> {
        let events =
            events::read(batch).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no batch of events"))?;
        let (change, capacity) = {
            let mut tree = self.tree();
            if number == 0 {
                tree.begin();
            }
            let change = tree.apply(events);
            (change, tree.capacity())
        };
        let slot = self.state().slot;
        if change.cleared > 0 {
            self.knowledge().forget(slot);
        }
        let lost = self.knowledge().lost(slot, &change.lost);
        // Blocks are thrown out when others need their place.
        if let Some(tokens) = capacity.filter(|_| change.removed > 0) {
            self.knowledge().bound(slot, u64::try_from(tokens).unwrap_or(u64::MAX));
        }
        let Counts { stored, removed, cleared, lost: losses, .. } = &self.counts;
        for (counter, by) in
            [(stored, change.stored), (removed, change.removed), (cleared, change.cleared), (losses, lost)]
        {
            count(counter, by);
        }
        Ok(())
    }

    /// Nobody knows any more what it holds.
    fn unsure(&self) {
        count(&self.counts.missed, 1);
        self.tree().forget();
    }

    /// Batches from the number `from` up to before `to`, if the engine repeats them. Gives the next one that is missing.
    async fn repeat(&self, from: u64, to: u64) -> io::Result<u64> {
        let Some(endpoint) = &self.events.replay else { return Ok(from) };
        let mut peer = Peer::open(endpoint, Socket::Dealer).await?;
        peer.send(&[b"", &from.to_be_bytes()]).await?;
        let mut next = from;
        loop {
            let message = peer.message().await?;
            let Some((number, batch)) = numbered(&message) else { return Ok(next) };
            if number == END || number >= to {
                return Ok(next);
            }
            if number > next {
                // What lies further back than the engine remembers.
                self.unsure();
            }
            if number >= next {
                self.take(number, batch)?;
                count(&self.counts.repeated, 1);
                next = number.saturating_add(1);
            }
        }
    }

    /// Hears the engine until the connection ends; `next` is the number that comes next, if any came.
    async fn hear(&self, next: &mut Option<u64>, pause: &mut Duration) -> io::Result<()> {
        let mut peer = Peer::open(&self.events.endpoint, Socket::Subscriber).await?;
        self.connected.store(true, Ordering::Relaxed);
        tracing::info!(engine = self.engine.id, "events of the engine's cache are heard");
        loop {
            let message = peer.message().await?;
            *pause = PAUSE;
            let Some((number, batch)) = numbered(&message) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without a number"));
            };
            let mut expected = next.unwrap_or(0);
            if number < expected {
                // It has started afresh, with an empty cache.
                self.tree().forget();
                self.knowledge().forget(self.state().slot);
                count(&self.counts.cleared, 1);
                expected = 0;
            }
            if number > expected {
                let repeated = tokio::time::timeout(REPLAY, self.repeat(expected, number)).await;
                let repeated = repeated.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let reached = repeated.unwrap_or_else(|error| {
                    tracing::debug!(engine = self.engine.id, %error, "missed events are not repeated");
                    expected
                });
                if reached < number {
                    self.unsure();
                }
            }
            *next = Some(number.saturating_add(1));
            self.take(number, batch)?;
        }
    }

    async fn follow(self: Arc<Self>) {
        let mut next = None;
        let mut pause = PAUSE;
        loop {
            if let Err(error) = self.hear(&mut next, &mut pause).await {
                let was = self.connected.swap(false, Ordering::Relaxed);
                if was {
                    tracing::warn!(engine = self.engine.id, %error, "events of the engine's cache end");
                }
                tracing::debug!(engine = self.engine.id, %error, "events of the engine's cache are not heard");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// The number and the batch of a message: what comes before them is a topic, or the mark of a dealer's envelope.
fn numbered(message: &[Vec<u8>]) -> Option<(u64, &[u8])> {
    let [_, number, batch] = message else { return None };
    Some((u64::from_be_bytes(number.as_slice().try_into().ok()?), batch))
}

impl Kv {
    // No step under this lock can panic half-way.
    fn followed(&self) -> MutexGuard<'_, BTreeMap<String, Following>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engines were replaced.
    pub(crate) fn replaced(&self) {
        self.replaced.notify_one();
    }

    fn source(&self, engine: &Engine) -> Option<Arc<Source>> {
        self.followed().get(&engine.id).map(|following| Arc::clone(&following.source))
    }

    /// Follows exactly the engines of the snapshot that publish.
    fn settle(&self, gateway: &Gateway) {
        let snapshot = gateway.snapshot();
        let mut before = std::mem::take(&mut *self.followed());
        let mut after = BTreeMap::new();
        for model in snapshot.models() {
            for engine in &model.engines {
                let Some(events) = &engine.facts.kv_events else { continue };
                let same = |following: &Following| {
                    let source = &following.source;
                    Arc::ptr_eq(&source.engine.state, &engine.state)
                        && source.events == *events
                        && !following.task.is_finished()
                };
                let kept = before.remove(&engine.id).filter(same);
                let following = kept.unwrap_or_else(|| {
                    let source = Arc::new(Source {
                        engine: Arc::clone(engine),
                        model: Arc::clone(model),
                        events: events.clone(),
                        tree: Mutex::default(),
                        connected: AtomicBool::new(false),
                        counts: Counts::default(),
                        mute: AtomicBool::new(false),
                    });
                    let task = tokio::spawn(Arc::clone(&source).follow());
                    Following { source, task }
                });
                after.insert(engine.id.clone(), following);
            }
        }
        *self.followed() = after;
    }

    /// Appends the metrics.
    pub(crate) fn render(&self, out: &mut String) {
        let followed = self.followed();
        if followed.is_empty() {
            return;
        }
        let sources: Vec<_> =
            followed.iter().map(|(id, following)| (escaped(id), Arc::clone(&following.source))).collect();
        drop(followed);
        let gauge = |out: &mut String, name: &str, about: &str, value: &dyn Fn(&Source) -> u64| {
            family(out, name, "gauge", about);
            for (id, source) in &sources {
                line(out, &format!("datahall_gateway_{name}{{engine=\"{id}\"}}"), value(source));
            }
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        gauge(out, "kv_connected", "Whether the engine's events are heard.", &|source| {
            u64::from(source.connected.load(Ordering::Relaxed))
        });
        gauge(out, "kv_blocks", "Blocks that the engine's cache holds, as its events say.", &|source| {
            number(source.tree().blocks())
        });
        gauge(out, "kv_prompts_followed", "Prompts whose blocks are known.", &|source| {
            number(source.tree().followed())
        });
        family(out, "kv_events_total", "counter", "What engines said of their caches.");
        for (id, source) in &sources {
            let Counts { stored, removed, cleared, missed, repeated, lost, asked } = &source.counts;
            let kinds = [
                ("stored", stored),
                ("removed", removed),
                ("cleared", cleared),
                ("missed", missed),
                ("repeated", repeated),
                ("lost", lost),
                ("tokenized", asked),
            ];
            for (kind, counter) in kinds {
                let name = format!("datahall_gateway_kv_events_total{{engine=\"{id}\",event=\"{kind}\"}}");
                line(out, &name, counter.load(Ordering::Relaxed));
            }
        }
    }
}

/// The work beside requests; it ends when this is dropped.
pub(crate) struct Follows(JoinHandle<()>, JoinHandle<()>);

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.abort();
        self.1.abort();
    }
}

/// Begins to follow engines, and to ask for tokens.
pub(crate) fn start(gateway: &Gateway) -> Follows {
    let door = gateway.clone();
    let follow = tokio::spawn(async move {
        /// Ends what it follows when the gateway ends.
        struct Clear(Gateway);
        impl Drop for Clear {
            fn drop(&mut self) {
                self.0.shared.kv.followed().clear();
            }
        }
        let clear = Clear(door);
        loop {
            clear.0.shared.kv.settle(&clear.0);
            clear.0.shared.kv.replaced.notified().await;
        }
    });
    Follows(follow, tokens::start(gateway))
}

/// How many numbers a batch is read to hold: hashes, parents and tokens; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn numbers_of(batch: &[u8]) -> Option<usize> {
    use events::Event;
    let count = |event: &Event| match event {
        Event::Stored { hashes, parent, tokens, .. } => hashes.len() + usize::from(parent.is_some()) + tokens.len(),
        Event::Removed { hashes } => hashes.len(),
        Event::Cleared => 0,
    };
    events::read(batch).ok().map(|events| events.iter().map(count).sum())
}
