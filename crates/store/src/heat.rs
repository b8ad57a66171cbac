//! What is known of how often objects are read.
//!
//! Bounded: when there are too many objects, the colder half is forgotten. Invariant: what is not known of an object is
//! never taken for its not having been read: it counts as read when this store was opened, or when the last one was forgotten.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dh_policy::tiering::Heat;

use crate::block::bound_crc;

/// Objects that are remembered: 32 bytes each.
const OBJECTS_MAX: usize = 1 << 18;

#[derive(Debug)]
struct Known {
    heats: HashMap<u64, Heat>,
    /// Nothing is known of reads before.
    since_ms: u64,
}

/// The heat of objects.
#[derive(Debug)]
pub(crate) struct Heats {
    known: Mutex<Known>,
    half_life_ms: u64,
}

fn name(bucket: &str, key: &str) -> u64 {
    bound_crc(&[bucket.as_bytes(), &[0]].concat(), key.as_bytes())
}

impl Heats {
    pub(crate) fn new(half_life_ms: u64, now_ms: u64) -> Self {
        Self { known: Mutex::new(Known { heats: HashMap::new(), since_ms: now_ms }), half_life_ms }
    }

    /// The object was read; its heat since.
    pub(crate) fn read(&self, bucket: &str, key: &str, now_ms: u64) -> Heat {
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
            Some(heat) => (heat.at(now_ms, self.half_life_ms).milli, heat.at_ms),
            None => (0, known.since_ms),
        }
    }

    /// Objects that are remembered.
    pub(crate) fn len(&self) -> u64 {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).heats.len() as u64
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
}
