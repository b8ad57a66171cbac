//! Who holds which beginnings of prompts: a flat table of digests, of a size that never changes.
//!
//! An entry is one link of a chain and up to six engines that computed it, each with the mark of its own clock at that time.
//! Whether an engine still holds it follows from how deep it lies in what the engine touched since (`recency.rs`) and from
//! the size of the engine's cache. That size is not told by anybody: it is learned from the cached tokens that engines report,
//! smaller when something believed cached was not, larger when something deeper was.
//!
//! *Invariant*: memory is fixed at the start; what has not been asked for longest makes room (within its set of eight). There
//! is no tree, so nothing splits, merges or leaks. Cost: a look-up reads one cache line for each link, and one or two more
//! if it is known. Integers only.

mod reported;

use super::chain::Link;
use super::recency::Recency;

/// Engines remembered for one link. The beginning that all prompts share is held by more; each of those is found at a later link.
const OWNERS: usize = 6;
/// Links that share a set: their digests fill one cache line.
const WAYS: usize = 8;
/// Digests to a cache line of 64 bytes.
const LINE: usize = 8;
/// Bits of a mark; above them stands the engine.
const MARK_BITS: u32 = 48;
/// A mark counts so many bytes, as a power of two: an engine may touch 18 PB, a hundred years of a million tokens a second.
const GRAIN: u32 = 6;
const MARK_MAX: u64 = (1 << MARK_BITS) - 1;

/// Engines keep blocks of at most so many bytes: 512 tokens.
const BLOCK_MAX: u64 = 2 << 10;

/// What an engine computed fades as all compute so many bytes for each: about a million tokens.
const MEMORY: u64 = 4 << 20;

/// One entry: when it was last asked for, owners.
type Entry = [u64; 1 + OWNERS];

/// The index of one model.
#[derive(Debug, Clone)]
pub struct PrefixIndex {
    table: Table,
    /// Bytes computed anywhere, for the age of entries.
    age: u64,
    /// By engine.
    touched: Vec<Recency>,
    recent: Vec<u64>,
}

/// What an engine likely holds of one prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes from the prompt's beginning that lie within its cache.
    pub bytes: u64,
    /// Bytes that it computed lately, for any prompt.
    pub recent: u64,
    /// Bytes that it once computed, still within its cache or not.
    pub ever: u64,
    /// The mark of the last one within its cache.
    last: u64,
    /// The mark of the first one beyond, and whether there is one.
    beyond: Option<u64>,
}

/// What an engine was believed to hold when it got a prompt, and how deep it lay; reports are held against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Believed {
    bytes: u64,
    /// How deep the last one believed in lay.
    depth: Option<u64>,
    /// How deep the first one lay that was not believed in.
    beyond: Option<u64>,
}

impl PrefixIndex {
    /// An index of at most `links` digests, 64 bytes each.
    pub fn new(links: usize) -> Self {
        Self { table: Table::new(links), age: 1, touched: Vec::new(), recent: Vec::new() }
    }

    /// What each engine holds of the prompt with these `links`; `held` gets a place for each of `engines`.
    pub fn look(&self, links: &[Link], engines: usize, held: &mut Vec<Held>) {
        held.clear();
        held.extend((0..engines).map(|engine| {
            let recent = self.recent.get(engine).copied().unwrap_or(0);
            Held { recent, ..Held::default() }
        }));
        for link in links {
            let Some(entry) = self.table.entry(link.digest) else { return };
            for (engine, mark) in owners(entry) {
                let Some((held, touched)) = held.get_mut(engine).zip(self.touched.get(engine)) else { continue };
                // Whoever holds a link holds all before it, also those that more engines hold than an entry remembers.
                held.ever = link.end;
                if touched.holds(mark) {
                    held.bytes = link.end;
                    held.last = mark;
                } else if held.beyond.is_none() {
                    held.beyond = Some(mark);
                }
            }
        }
    }

    /// `engine` computes the prompt of `bytes` with these links, of which it held `held`.
    pub fn computes(&mut self, links: &[Link], bytes: u64, engine: usize, held: Held) -> Believed {
        let Some(last) = links.last() else { return Believed::default() };
        let bytes = bytes.max(last.end);
        if self.touched.len() <= engine {
            self.touched.resize_with(engine + 1, Recency::default);
            self.recent.resize(engine + 1, 0);
        }
        let fresh = bytes.saturating_sub(held.bytes);
        self.age = self.age.saturating_add(fresh.max(1));
        self.fade(engine, fresh);
        let (Some(touched), Ok(number)) = (self.touched.get_mut(engine), u64::try_from(engine + 1)) else {
            return Believed::default();
        };
        let believed = Believed {
            bytes: held.bytes,
            depth: (held.bytes > 0).then(|| touched.depth_of(held.last)).flatten(),
            beyond: held.beyond.and_then(|mark| touched.depth_of(mark)),
        };
        // Engines give a prompt's blocks back from its end, so its beginning is what they keep longest.
        let mark = touched.advance(bytes);
        let mut start = 0;
        touched.touch(bytes - last.end, mark, None);
        for link in links {
            let mark = mark.saturating_add(bytes - start);
            if let Some(entry) = self.table.entry_mut(link.digest) {
                let before = remember(entry, self.age, (number << MARK_BITS) | (mark >> GRAIN).min(MARK_MAX));
                touched.touch(link.end - start, mark, before);
            }
            start = link.end;
        }
        touched.settle();
        believed
    }

    /// `engine` reports that it had `cached` bytes of a prompt of which this was `believed`.
    pub fn learn(&mut self, engine: usize, believed: Believed, cached: u64) {
        let Some(touched) = self.touched.get_mut(engine) else { return };
        // Engines keep whole blocks of their own size, and compute the last one anew: a little less than believed is no surprise.
        let slack = believed.bytes / 8 + BLOCK_MAX;
        if cached.saturating_add(slack) < believed.bytes {
            if let Some(depth) = believed.depth {
                touched.missed(depth);
            }
        } else if cached > believed.bytes.saturating_add(slack)
            && let Some(depth) = believed.beyond
        {
            touched.found(depth);
        }
    }

    /// Forgets what `engine` held: it has started afresh.
    pub fn forget(&mut self, engine: usize) {
        if let Some(touched) = self.touched.get_mut(engine) {
            touched.forget();
        }
    }

    /// Bytes that the cache of `engine` holds; `None` while nobody has found out.
    pub fn size_of(&self, engine: usize) -> Option<u64> {
        self.touched.get(engine).and_then(Recency::size)
    }

    /// Bytes of memory, full or not.
    pub fn memory(&self) -> usize {
        self.table.entries.len() * (WAYS * size_of::<u64>() + size_of::<[Entry; WAYS]>())
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
}

/// Links that are known.
#[derive(Debug, Clone)]
struct Table {
    /// Sets of digests, apart from all else so that a look-up reads no more than it compares. 0 is an empty place.
    digests: Vec<u64>,
    /// The first set begins here, at the beginning of a cache line.
    start: usize,
    entries: Vec<[Entry; WAYS]>,
}

impl Table {
    fn new(links: usize) -> Self {
        let sets = (links / WAYS).next_power_of_two().max(1);
        // Zeroes come from the system untouched, so a table that nobody fills costs nothing.
        let digests = vec![0_u64; sets * WAYS + LINE];
        let start = digests.as_ptr().align_offset(LINE * size_of::<u64>()).min(LINE);
        Self { digests, start, entries: vec![[[0; 1 + OWNERS]; WAYS]; sets] }
    }

    fn set_of(&self, digest: u64) -> usize {
        let mask = u64::try_from(self.entries.len() - 1).unwrap_or(0);
        usize::try_from(digest & mask).unwrap_or(0)
    }

    /// The digests of a set.
    fn line(&self, set: usize) -> &[u64] {
        let from = self.start + set * WAYS;
        self.digests.get(from..from + WAYS).unwrap_or_default()
    }

    fn entry(&self, digest: u64) -> Option<&Entry> {
        let set = self.set_of(digest);
        let way = self.line(set).iter().position(|one| *one == digest && digest != 0)?;
        self.entries.get(set)?.get(way)
    }

    /// The entry of `digest`; a new one takes the place of what was not asked for longest.
    fn entry_mut(&mut self, digest: u64) -> Option<&mut Entry> {
        let set = self.set_of(digest);
        let known = self.line(set).iter().position(|one| *one == digest);
        let entries = self.entries.get_mut(set)?;
        if let Some(way) = known {
            return entries.get_mut(way);
        }
        let (way, oldest) = entries.iter_mut().enumerate().min_by_key(|(_, entry)| entry[0])?;
        *oldest = [0; 1 + OWNERS];
        *self.digests.get_mut(self.start + set * WAYS + way)? = digest;
        Some(oldest)
    }
}

/// The engines of an entry, each with its mark.
fn owners(entry: &Entry) -> impl Iterator<Item = (usize, u64)> + '_ {
    let [_, owners @ ..] = entry;
    owners.iter().take_while(|owner| **owner != 0).filter_map(|owner| {
        Some((usize::try_from((owner >> MARK_BITS).checked_sub(1)?).ok()?, (owner & MARK_MAX) << GRAIN))
    })
}

/// Puts `owner` first, and tells the mark that it had; the one that was there longest goes if there is no room.
fn remember(entry: &mut Entry, age: u64, owner: u64) -> Option<u64> {
    let [asked, owners @ ..] = entry;
    *asked = age;
    let engine = owner >> MARK_BITS;
    let place = owners.iter().position(|one| *one == 0 || one >> MARK_BITS == engine).unwrap_or(OWNERS - 1);
    let moved = owners.get_mut(..=place)?;
    moved.rotate_right(1);
    let first = moved.first_mut()?;
    let before = std::mem::replace(first, owner);
    (before >> MARK_BITS == engine).then_some((before & MARK_MAX) << GRAIN)
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
        index.computes(&chain(prompt), 0, engine, held[engine]);
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

    /// An engine whose cache keeps `room` blocks, the last used ones.
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
    fn reports_teach_how_much_an_engine_keeps() {
        for room in [300_usize, 1_000, 1_700] {
            let mut index = PrefixIndex::new(1 << 15);
            let mut engine = Lru { room, blocks: Vec::new() };
            let (mut wrong, mut right) = (0, 0);
            for round in 0..6_000_u64 {
                // Prompts of 10 to 19 blocks of 1,000 bytes; half of them from a fifth of the conversations, as callers are.
                let (of, far) = (mix(round, 5) % 200, mix(round, 6).is_multiple_of(2));
                let conversation = if far { of } else { of / 5 };
                let links: Vec<Link> =
                    chain(&(0..10 + conversation % 10).map(|at| conversation * 100 + at).collect::<Vec<_>>())
                        .into_iter()
                        .map(|link| Link { end: link.end * 10, ..link })
                        .collect();
                let mut held = Vec::new();
                index.look(&links, 1, &mut held);
                let cached = engine.serve(&links);
                if round > 1_000 {
                    *(if held[0].bytes == cached { &mut right } else { &mut wrong }) += 1;
                }
                let believed = index.computes(&links, 0, 0, held[0]);
                index.learn(0, believed, cached);
            }
            let learned = index.size_of(0).unwrap() / 1_000;
            let room = room as u64;
            assert!(learned.abs_diff(room) < room / 10, "{learned} blocks instead of {room}");
            assert!(right > 20 * wrong, "{right} right, {wrong} wrong, of {room} blocks");
        }
    }

    #[test]
    fn a_block_less_than_believed_is_no_surprise() {
        let mut index = PrefixIndex::new(1 << 10);
        computes(&mut index, &[1, 2], 0);
        let mut held = Vec::new();
        index.look(&chain(&[1, 2]), 1, &mut held);
        let believed = index.computes(&chain(&[1, 2]), 0, 0, held[0]);
        // Engines with blocks larger than the prompt, and those that compute the last block anew, have none of it.
        index.learn(0, believed, 0);
        assert_eq!(index.size_of(0), None);
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
