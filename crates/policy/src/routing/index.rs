//! Who holds which beginnings of prompts: a flat table of digests, of a size that never changes.
//!
//! An entry is one link of a chain and up to six engines that computed it, each with the mark of its own clock at that time.
//! An engine's clock counts the bytes that it had to compute; so the difference to a mark says how much came into its cache
//! since, and an engine's *reach* is how far back its cache goes. The reach is not told by anybody: it is learned from the
//! cached tokens that engines report, shorter when something believed cached was not, longer when something older was.
//!
//! *Invariant*: memory is fixed at the start; what has not been asked for longest makes room (within its set of four). There
//! is no tree, so nothing splits, merges or leaks. Cost: one cache line for each link. Integers only.

use super::chain::Link;

/// Engines remembered for one link. The beginning that all prompts share is held by more; each of those is found at a later link.
const OWNERS: usize = 6;
/// Links that share a set.
const WAYS: usize = 4;
/// Bits of a mark; above them stands the engine.
const MARK_BITS: u32 = 48;
const MARK_MAX: u64 = (1 << MARK_BITS) - 1;
/// A reach that nobody has measured.
const UNKNOWN: u64 = u64::MAX;
/// A cache smaller than this would serve nobody; so one surprise cannot talk the index into forgetting everything.
const REACH_MIN: u64 = 64 << 10;

/// What an engine computed fades as all compute so many bytes for each: about a million tokens.
const MEMORY: u64 = 4 << 20;

/// One entry: digest, when it was last asked for, owners. A digest of 0 is an empty entry.
type Entry = [u64; 2 + OWNERS];

/// The index of one model.
#[derive(Debug, Clone)]
pub struct PrefixIndex {
    sets: Vec<[Entry; WAYS]>,
    /// Bytes computed anywhere, for the age of entries.
    age: u64,
    /// By engine.
    clocks: Vec<u64>,
    recent: Vec<u64>,
    reach: Vec<u64>,
}

/// What an engine likely holds of one prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes from the prompt's beginning that are within its reach.
    pub bytes: u64,
    /// Bytes that it computed lately, for any prompt.
    pub recent: u64,
    /// Bytes that it once computed, within reach or not.
    pub ever: u64,
    /// How far back the last one within reach lies.
    distance: u64,
    /// How far back the first one beyond it lies.
    beyond: u64,
}

impl PrefixIndex {
    /// An index of at most `links` digests, 64 bytes each.
    pub fn new(links: usize) -> Self {
        let sets = (links / WAYS).next_power_of_two().max(1);
        // Zeroes come from the system untouched, so a table that nobody fills costs nothing.
        Self {
            sets: vec![[[0; 2 + OWNERS]; WAYS]; sets],
            age: 1,
            clocks: Vec::new(),
            recent: Vec::new(),
            reach: Vec::new(),
        }
    }

    /// What each engine holds of the prompt with these `links`; `held` gets a place for each of `engines`.
    pub fn look(&self, links: &[Link], engines: usize, held: &mut Vec<Held>) {
        held.clear();
        held.extend((0..engines).map(|engine| {
            let recent = self.recent.get(engine).copied().unwrap_or(0);
            Held { recent, ..Held::default() }
        }));
        for link in links {
            let Some(entry) = self.entry(link.digest) else { return };
            for (engine, mark) in owners(entry) {
                let Some(held) = held.get_mut(engine) else { continue };
                // Whoever holds a link holds all before it, also those that more engines hold than an entry remembers.
                held.ever = link.end;
                let distance = self.distance(engine, mark);
                if distance <= self.reach(engine) {
                    held.bytes = link.end;
                    held.distance = held.distance.max(distance);
                } else if held.beyond == 0 {
                    held.beyond = distance.max(1);
                }
            }
        }
    }

    /// `engine` computes the prompt with these links, of which it held `held`.
    pub fn computes(&mut self, links: &[Link], engine: usize, held: Held) {
        let Some(last) = links.last() else { return };
        let fresh = last.end.saturating_sub(held.bytes);
        self.age = self.age.saturating_add(fresh.max(1));
        if self.clocks.len() <= engine {
            self.clocks.resize(engine + 1, 0);
            self.recent.resize(engine + 1, 0);
            self.reach.resize(engine + 1, UNKNOWN);
        }
        self.fade(engine, fresh);
        let Some(clock) = self.clocks.get_mut(engine) else { return };
        *clock = clock.saturating_add(fresh).min(MARK_MAX);
        let Ok(number) = u64::try_from(engine + 1) else { return };
        let owner = (number << MARK_BITS) | *clock;
        for link in links {
            let age = self.age;
            if let Some(entry) = self.entry_mut(link.digest) {
                remember(entry, age, owner);
            }
        }
    }

    /// `engine` reports that it had `cached` bytes of a prompt of which it was believed to hold `held`.
    pub fn learn(&mut self, engine: usize, held: Held, cached: u64) {
        let Some(reach) = self.reach.get_mut(engine) else { return };
        // Engines keep whole blocks of their own size: a little less than believed is no surprise.
        let slack = held.bytes / 8;
        if cached.saturating_add(slack) < held.bytes {
            // What lies as far back as the furthest that was believed in is gone.
            let gone = held.distance.max(REACH_MIN);
            *reach = if *reach == UNKNOWN { gone } else { *reach - reach.saturating_sub(gone) / 4 };
        } else if held.ever > held.bytes && cached > held.bytes.saturating_add(slack) && *reach != UNKNOWN {
            *reach = reach.saturating_add(held.beyond.saturating_sub(*reach) / 4);
        }
    }

    /// Forgets what `engine` held: it has started afresh.
    pub fn forget(&mut self, engine: usize) {
        if let Some(clock) = self.clocks.get_mut(engine) {
            // Every mark is then further back than any reach that a later report could teach.
            *clock = clock.saturating_add(MARK_MAX / 1_024).min(MARK_MAX);
        }
        if let Some(reach) = self.reach.get_mut(engine) {
            *reach = (*reach).min(MARK_MAX / 2_048);
        }
    }

    /// How far back the cache of `engine` goes, in bytes that it computed since; `None` while nobody has found out.
    pub fn reach_of(&self, engine: usize) -> Option<u64> {
        self.reach.get(engine).copied().filter(|reach| *reach != UNKNOWN)
    }

    /// Bytes of memory, full or not.
    pub fn memory(&self) -> usize {
        self.sets.len() * size_of::<[Entry; WAYS]>()
    }

    /// `engine` computed `fresh` bytes more, and what all computed before fades as much.
    fn fade(&mut self, engine: usize, fresh: u64) {
        let count = u64::try_from(self.recent.len()).unwrap_or(u64::MAX);
        let memory = u128::from(MEMORY.saturating_mul(count.max(1)));
        for recent in &mut self.recent {
            let faded = (u128::from(*recent) * u128::from(fresh)).div_ceil(memory);
            *recent = recent.saturating_sub(u64::try_from(faded).unwrap_or(u64::MAX));
        }
        if let Some(recent) = self.recent.get_mut(engine) {
            *recent = recent.saturating_add(fresh);
        }
    }

    fn reach(&self, engine: usize) -> u64 {
        self.reach.get(engine).copied().unwrap_or(UNKNOWN)
    }

    fn distance(&self, engine: usize, mark: u64) -> u64 {
        self.clocks.get(engine).copied().unwrap_or(0).saturating_sub(mark)
    }

    fn set_of(&self, digest: u64) -> usize {
        let mask = u64::try_from(self.sets.len() - 1).unwrap_or(0);
        usize::try_from(digest & mask).unwrap_or(0)
    }

    fn entry(&self, digest: u64) -> Option<&Entry> {
        self.sets.get(self.set_of(digest))?.iter().find(|entry| entry[0] == digest && digest != 0)
    }

    /// The entry of `digest`; a new one takes the place of what was not asked for longest.
    fn entry_mut(&mut self, digest: u64) -> Option<&mut Entry> {
        let at = self.set_of(digest);
        let set = self.sets.get_mut(at)?;
        if let Some(place) = set.iter().position(|entry| entry[0] == digest) {
            return set.get_mut(place);
        }
        let oldest = set.iter_mut().min_by_key(|entry| entry[1])?;
        *oldest = [0; 2 + OWNERS];
        oldest[0] = digest;
        Some(oldest)
    }
}

/// The engines of an entry, each with its mark.
fn owners(entry: &Entry) -> impl Iterator<Item = (usize, u64)> + '_ {
    entry
        .iter()
        .skip(2)
        .take_while(|owner| **owner != 0)
        .filter_map(|owner| Some((usize::try_from((owner >> MARK_BITS).checked_sub(1)?).ok()?, owner & MARK_MAX)))
}

/// Puts `owner` first; the one that was there longest goes if there is no room.
fn remember(entry: &mut Entry, age: u64, owner: u64) {
    let [_, asked, owners @ ..] = entry;
    *asked = age;
    let engine = owner >> MARK_BITS;
    let place = owners.iter().position(|one| *one == 0 || one >> MARK_BITS == engine).unwrap_or(OWNERS - 1);
    if let Some(moved) = owners.get_mut(..=place) {
        moved.rotate_right(1);
        if let Some(first) = moved.first_mut() {
            *first = owner;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::mix;
    use std::collections::BTreeSet;

    fn chain(prompt: &[u64]) -> Vec<Link> {
        let mut digest = 0;
        let blocks = prompt.iter().zip(1_u64..);
        blocks
            .map(|(block, number)| {
                digest = mix(digest, *block + 1);
                Link { digest, end: number * 100 }
            })
            .collect()
    }

    fn held(index: &PrefixIndex, prompt: &[u64]) -> Vec<u64> {
        let mut held = Vec::new();
        index.look(&chain(prompt), 8, &mut held);
        held.iter().map(|held| held.bytes).collect()
    }

    fn computes(index: &mut PrefixIndex, prompt: &[u64], engine: usize) {
        let mut held = Vec::new();
        index.look(&chain(prompt), 8, &mut held);
        index.computes(&chain(prompt), engine, held[engine]);
    }

    #[test]
    fn an_engine_holds_the_common_beginning_of_what_it_computed() {
        let mut index = PrefixIndex::new(1 << 12);
        computes(&mut index, &[1, 2, 3], 0);
        computes(&mut index, &[1, 2, 4], 1);
        assert_eq!(held(&index, &[1, 2, 3, 9])[..3], [300, 200, 0]);
        assert_eq!(held(&index, &[1, 2, 4])[..3], [200, 300, 0]);
        assert_eq!(held(&index, &[1, 9])[..3], [100, 100, 0]);
        assert_eq!(held(&index, &[2, 3]), [0; 8]);
        assert_eq!(held(&index, &[]), [0; 8]);
    }

    #[test]
    fn it_never_claims_what_no_engine_computed_and_forgets_nothing_while_there_is_room() {
        let mut index = PrefixIndex::new(1 << 14);
        let mut naive: BTreeSet<(usize, Vec<u64>)> = BTreeSet::new();
        for round in 0..600_u64 {
            let length = usize::try_from(mix(round, 1) % 6).unwrap() + 1;
            let prompt: Vec<u64> = (0..length as u64).map(|at| mix(round, at + 10) % 3).collect();
            // Six engines, as many as an entry has owners.
            let engine = usize::try_from(mix(round, 2) % 6).unwrap();
            let claimed = held(&index, &prompt);
            for (engine, bytes) in claimed.iter().enumerate() {
                let known = (1..=length).take_while(|end| naive.contains(&(engine, prompt[..*end].to_vec()))).count();
                assert_eq!(*bytes, known as u64 * 100, "round {round} engine {engine}");
            }
            computes(&mut index, &prompt, engine);
            for end in 1..=length {
                naive.insert((engine, prompt[..end].to_vec()));
            }
        }
    }

    #[test]
    fn memory_is_fixed_however_many_prompts_come() {
        let mut index = PrefixIndex::new(1 << 10);
        let before = index.memory();
        for prompt in 0..100_000 {
            computes(&mut index, &[prompt, prompt], 3);
        }
        assert_eq!((index.memory(), before), (64 << 10, 64 << 10));
        assert_eq!(held(&index, &[99_999, 99_999])[3], 200);
        assert_eq!(held(&index, &[0, 0])[3], 0);
    }

    /// An engine whose cache keeps the last `room` blocks.
    struct Lru {
        room: usize,
        blocks: Vec<u64>,
    }

    impl Lru {
        fn serve(&mut self, links: &[Link]) -> u64 {
            let cached = links.iter().take_while(|link| self.blocks.contains(&link.digest)).count();
            for link in links.iter().rev() {
                self.blocks.retain(|block| *block != link.digest);
                self.blocks.push(link.digest);
            }
            let over = self.blocks.len().saturating_sub(self.room);
            self.blocks.drain(..over);
            links[..cached].last().map_or(0, |link| link.end)
        }
    }

    #[test]
    fn reports_teach_how_far_back_an_engines_cache_goes() {
        let mut index = PrefixIndex::new(1 << 15);
        // 1,000 blocks of 100 bytes: a reach of 100,000 bytes.
        let mut engine = Lru { room: 1_000, blocks: Vec::new() };
        let (mut wrong, mut right) = (0, 0);
        for round in 0..6_000_u64 {
            let prompt: Vec<u64> = (0..10).map(|at| (mix(round, 5) % 200) * 100 + at).collect();
            let links = chain(&prompt);
            let mut held = Vec::new();
            index.look(&links, 1, &mut held);
            let cached = engine.serve(&links);
            if round > 1_000 {
                *(if held[0].bytes == cached { &mut right } else { &mut wrong }) += 1;
            }
            index.computes(&links, 0, held[0]);
            index.learn(0, held[0], cached);
        }
        // Half of the prompts are cached; believing all or none would be wrong every second time.
        assert!(right > 4 * wrong, "{right} right, {wrong} wrong, reach {:?}", index.reach_of(0));
    }

    #[test]
    fn an_engine_that_started_afresh_holds_nothing() {
        let mut index = PrefixIndex::new(1 << 10);
        computes(&mut index, &[1, 2], 0);
        computes(&mut index, &[1, 2], 1);
        index.forget(0);
        assert_eq!(held(&index, &[1, 2])[..2], [0, 200]);
        computes(&mut index, &[1, 2], 0);
        assert_eq!(held(&index, &[1, 2])[..2], [200, 200]);
    }
}
