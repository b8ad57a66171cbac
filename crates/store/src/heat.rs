//! What is known of how often objects are read.
//!
//! Bounded: when there are too many objects, the colder half is forgotten. Invariant: what is not known of an object is
//! never taken for its not having been read: it counts as read when this store was first opened, or when the last one was
//! forgotten. What is known is noted every [`NOTED_EVERY`] and when the store is closed; after a kill all objects count as
//! read until the next note would have come.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dh_policy::tiering::Heat;

use crate::block::bound_crc;
use crate::notes;
use crate::store::{Inner, now_ms};

/// Objects that are remembered: 32 bytes each.
const OBJECTS_MAX: usize = 1 << 18;
/// The note of what is known.
const NOTE: &str = "heat";
/// How often the heat is noted if it changed.
pub(crate) const NOTED_EVERY: Duration = Duration::from_mins(5);
/// The first bytes of a note, whose last tells its form.
const FORM: &[u8; 4] = b"heat";
/// Words of a note before those of objects: whether the store was closed then, and since when reads are known.
const HEAD: usize = 2;
/// Words of an object: its name, its heat, and when it was read last.
const ENTRY: usize = 3;

#[derive(Debug)]
struct Known {
    heats: HashMap<u64, Heat>,
    /// Nothing is known of reads before.
    since_ms: u64,
    /// Every object may have been read until then.
    until_ms: u64,
}

/// The heat of objects.
#[derive(Debug)]
pub(crate) struct Heats {
    known: Mutex<Known>,
    half_life_ms: u64,
    /// Reads that were counted, and how many of them the last note knew.
    reads: AtomicU64,
    noted: AtomicU64,
}

fn name(bucket: &str, key: &str) -> u64 {
    bound_crc(&[bucket.as_bytes(), &[0]].concat(), key.as_bytes())
}

impl Heats {
    pub(crate) fn new(half_life_ms: u64, now_ms: u64) -> Self {
        let known = Known { heats: HashMap::new(), since_ms: now_ms, until_ms: 0 };
        Self { known: Mutex::new(known), half_life_ms, reads: AtomicU64::new(0), noted: AtomicU64::new(u64::MAX) }
    }

    /// What was noted at `noted_ms`; what was not is taken for read.
    pub(crate) fn restore(&self, noted_ms: u64, note: &[u8]) {
        let Some(words) = note.strip_prefix(FORM) else { return };
        let (words, []) = words.as_chunks::<8>() else { return };
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let Some(([closed, since_ms], entries)) = words.split_first_chunk::<HEAD>() else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.since_ms = known.since_ms.min(*since_ms);
        let between = u64::try_from(NOTED_EVERY.as_millis()).unwrap_or(u64::MAX);
        known.until_ms = if *closed == 1 { 0 } else { noted_ms.saturating_add(between) };
        let (entries, _rest) = entries.as_chunks::<ENTRY>();
        known.heats = entries
            .iter()
            .take(OBJECTS_MAX)
            .map(|[name, milli, at_ms]| (*name, Heat { milli: *milli, at_ms: *at_ms }))
            .collect();
    }

    /// What is known, to be noted; none if nothing is new since the last note. A store that is `closed` is not read before
    /// it is opened again.
    pub(crate) fn note(&self, closed: bool) -> Option<Vec<u8>> {
        let reads = self.reads.load(Ordering::Relaxed);
        if self.noted.swap(reads, Ordering::Relaxed) == reads && !closed {
            return None;
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let head = [u64::from(closed), known.since_ms.max(known.until_ms)];
        let mut names: Vec<_> = known.heats.iter().collect();
        names.sort_unstable_by_key(|(name, _heat)| **name);
        let entries = names.into_iter().flat_map(|(name, heat)| [*name, heat.milli, heat.at_ms.max(known.until_ms)]);
        Some(FORM.iter().copied().chain(head.into_iter().chain(entries).flat_map(u64::to_le_bytes)).collect())
    }

    /// The object was read; its heat since.
    pub(crate) fn read(&self, bucket: &str, key: &str, now_ms: u64) -> Heat {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name = name(bucket, key);
        if known.heats.len() >= OBJECTS_MAX && !known.heats.contains_key(&name) {
            self.forget_half(&mut known, now_ms);
        }
        let heat = known.heats.entry(name).or_default();
        *heat = heat.read(now_ms, self.half_life_ms);
        *heat
    }

    fn forget_half(&self, known: &mut Known, now_ms: u64) {
        let mut order: Vec<(u64, u64, u64)> = known
            .heats
            .iter()
            .map(|(name, heat)| (heat.at(now_ms, self.half_life_ms).milli, heat.at_ms, *name))
            .collect();
        order.sort_unstable();
        for (_milli, at_ms, name) in order.into_iter().take(OBJECTS_MAX / 2) {
            known.heats.remove(&name);
            known.since_ms = known.since_ms.max(at_ms);
        }
    }

    /// The object's heat now, in thousandths of a read, and when it was read last as far as is known.
    pub(crate) fn of(&self, bucket: &str, key: &str, now_ms: u64) -> (u64, u64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.heats.get(&name(bucket, key)) {
            Some(heat) => (heat.at(now_ms, self.half_life_ms).milli, heat.at_ms.max(known.until_ms)),
            None => (0, known.since_ms.max(known.until_ms)),
        }
    }

    /// Objects that are remembered.
    pub(crate) fn len(&self) -> u64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).heats.len() as u64
    }
}

impl Inner {
    /// Takes what was noted, and notes that from now on a kill is one of an open store.
    pub(crate) fn recall_heat(&self) {
        if let Some((noted_ms, note)) = notes::read(self.meta.places(), NOTE) {
            self.mover.heats.restore(noted_ms, &note);
        }
        self.note_heat(false);
    }

    /// Notes what is known of reads, if something is new. Losing it costs late moves, so nothing fails for it.
    pub(crate) fn note_heat(&self, closed: bool) {
        if self.bodies.tiers().is_empty() {
            return;
        }
        if let Some(note) = self.mover.heats.note(closed)
            && let Err(error) = notes::write(self.meta.places(), NOTE, now_ms(), &note)
        {
            tracing::warn!(%error, "what is known of reads cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_counts_as_read_when_it_was_forgotten() {
        let heats = Heats::new(1_000, 5);
        assert_eq!(heats.of("b", "k", 9), (0, 5));
        assert_eq!(heats.read("b", "k", 10).milli, 1_000);
        assert_eq!(heats.of("b", "k", 1_010), (500, 10));
        for index in 0..OBJECTS_MAX as u64 {
            heats.read("b", &format!("{index}"), 20 + index);
        }
        assert!(heats.len() <= OBJECTS_MAX as u64);
        let (milli, read_ms) = heats.of("b", "k", 30);
        assert!(milli == 0 && read_ms >= 10, "the coldest was forgotten");
        let last = OBJECTS_MAX as u64 - 1;
        assert_eq!(heats.of("b", &last.to_string(), 20 + last), (1_000, 20 + last));
    }
    #[test]
    fn heat_comes_back_and_after_a_kill_all_may_have_been_read() {
        let heats = Heats::new(1_000, 5);
        assert!(heats.note(false).is_some(), "the first note says that the store is open");
        assert!(heats.note(false).is_none(), "nothing is new");
        heats.read("b", "k", 10);
        let (open, closed) = (heats.note(false).unwrap(), heats.note(true).unwrap());
        let again = Heats::new(1_000, 9_000);
        again.restore(20, &closed);
        assert_eq!((again.of("b", "k", 1_010), again.of("b", "other", 30)), ((500, 10), (0, 5)));
        let killed = Heats::new(1_000, 9_000_000);
        killed.restore(20, &open);
        assert_eq!((killed.of("b", "k", 1_010), killed.of("b", "other", 30)), ((500, 300_020), (0, 300_020)));
        let later = Heats::new(1_000, 9_000_000);
        later.restore(21, &killed.note(true).unwrap());
        assert_eq!((later.of("b", "k", 1_010).1, later.of("b", "other", 30).1), (300_020, 300_020));
        for cut in 0..closed.len() {
            Heats::new(1_000, 5).restore(20, &closed[..cut]);
        }
    }
}
