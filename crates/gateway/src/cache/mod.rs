//! Answers that are given again: to the same question, and where that is wanted to one that means the same.
//!
//! Invariant: memory has a bound whatever is asked; nobody is given what another caller asked, unless callers share; only whole
//! and good answers are kept. Of many who ask the same at once, one is answered by an engine and the others read along. What
//! leaves a full cache decides [`dh_policy::eviction`].

mod flight;
mod key;
mod semantic;
#[cfg(test)]
mod tests;
mod through;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dh_policy::eviction::Sieve;
use tokio::time::Instant;

use crate::metrics::{family, line};
use crate::options::{CacheConfig, Options};
use flight::{Flight, Head, Reading};
use key::Key;
use semantic::Semantic;
pub(crate) use through::answer;

/// An answer may take a fourth of the cache, and no more than this.
const ENTRY_BYTES_MAX: usize = 16 << 20;
/// What an entry takes beside its body: head, key, places in tables.
const ENTRY_BYTES: usize = 1_024;

/// An answer that is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    head: Head,
    body: Bytes,
    since: Instant,
}

/// All that is kept.
pub(crate) struct Caches {
    exact: Option<Exact>,
    semantic: Option<Semantic>,
}

impl Caches {
    /// Nothing if no cache is wanted.
    pub(crate) fn new(options: &Options) -> Option<Self> {
        let semantic = (!options.semantic.is_empty()).then(|| Semantic::new(&options.semantic));
        let exact = options.cache.map(Exact::new);
        (exact.is_some() || semantic.is_some()).then_some(Self { exact, semantic })
    }

    /// Appends the metrics.
    pub(crate) fn render(&self, out: &mut String) {
        if let Some(exact) = &self.exact {
            exact.render(out);
        }
        if let Some(semantic) = &self.semantic {
            semantic.render(out);
        }
    }
}

/// The cache of exact answers.
struct Exact {
    config: CacheConfig,
    state: Mutex<State>,
    counts: [AtomicU64; EVENTS.len()],
}

/// What happens in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    Hit,
    Joined,
    Miss,
    Kept,
    Left,
}

const EVENTS: [(Happened, &str); 5] = [
    (Happened::Hit, "hit"),
    (Happened::Joined, "joined"),
    (Happened::Miss, "miss"),
    (Happened::Kept, "kept"),
    (Happened::Left, "evicted"),
];

struct State {
    sieve: Sieve,
    entries: HashMap<Key, (usize, Arc<Stored>)>,
    /// The keys of the entries' numbers.
    keys: HashMap<usize, Key>,
    flights: HashMap<Key, Arc<Flight>>,
}

/// What is there for a question.
enum Found {
    Hit(Arc<Stored>),
    /// Somebody asks already.
    Joined(Reading),
    /// The caller is the first.
    Lead(Arc<Flight>, Reading),
}

impl Exact {
    fn new(config: CacheConfig) -> Self {
        let sieve = Sieve::new(config.bytes_max);
        let state = State { sieve, entries: HashMap::new(), keys: HashMap::new(), flights: HashMap::new() };
        Self { config, state: Mutex::new(state), counts: [const { AtomicU64::new(0) }; EVENTS.len()] }
    }

    // No step under this lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, happened: Happened) {
        let place = EVENTS.iter().position(|(known, _)| *known == happened);
        if let Some(counter) = place.and_then(|place| self.counts.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn entry_bytes_max(&self) -> usize {
        (self.config.bytes_max / 4).min(ENTRY_BYTES_MAX)
    }

    /// Looks `key` up; with `fresh` only an answer that is still on its way to nobody else will do.
    fn find(&self, key: Key, fresh: bool) -> Found {
        let mut state = self.lock();
        let State { sieve, entries, keys, flights } = &mut *state;
        if !fresh {
            if let Some((number, stored)) = entries.get(&key) {
                let (number, stored) = (*number, Arc::clone(stored));
                if stored.since.elapsed() < self.config.ttl {
                    sieve.used(number);
                    self.count(Happened::Hit);
                    return Found::Hit(stored);
                }
                sieve.remove(number);
                entries.remove(&key);
                keys.remove(&number);
            }
            if let Some(reading) = flights.get(&key).and_then(Flight::join) {
                self.count(Happened::Joined);
                return Found::Joined(reading);
            }
        }
        self.count(Happened::Miss);
        let (flight, reading) = Flight::start(self.entry_bytes_max());
        flights.insert(key, Arc::clone(&flight));
        Found::Lead(flight, reading)
    }

    /// The answer of `flight` has ended; it is kept if it is good.
    fn landed(&self, key: Key, flight: &Arc<Flight>, stored: Option<Arc<Stored>>) {
        let mut state = self.lock();
        let State { sieve, entries, keys, flights } = &mut *state;
        if flights.get(&key).is_some_and(|present| Arc::ptr_eq(present, flight)) {
            flights.remove(&key);
        }
        let Some(stored) = stored else { return };
        if let Some((number, _)) = entries.remove(&key) {
            sieve.remove(number);
            keys.remove(&number);
        }
        let mut gone = Vec::new();
        if let Some(number) = sieve.insert(stored.bytes(), &mut gone) {
            for gone in gone {
                self.count(Happened::Left);
                if let Some(key) = keys.remove(&gone) {
                    entries.remove(&key);
                }
            }
            entries.insert(key, (number, stored));
            keys.insert(number, key);
            self.count(Happened::Kept);
        }
    }

    fn render(&self, out: &mut String) {
        family(out, "cache_events_total", "counter", "What happened in the cache of exact answers.");
        for ((_, event), count) in EVENTS.iter().zip(&self.counts) {
            let name = format!("datahall_gateway_cache_events_total{{event=\"{event}\"}}");
            line(out, &name, count.load(Ordering::Relaxed));
        }
        let state = self.lock();
        family(out, "cache_bytes", "gauge", "Memory that exact answers take.");
        line(out, "datahall_gateway_cache_bytes", state.sieve.size());
        family(out, "cache_entries", "gauge", "Exact answers that are kept.");
        line(out, "datahall_gateway_cache_entries", state.entries.len());
    }
}

impl Stored {
    /// The memory that it takes.
    fn bytes(&self) -> usize {
        self.body.len() + ENTRY_BYTES
    }
}
