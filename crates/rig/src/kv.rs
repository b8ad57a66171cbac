//! The cache of an engine, in blocks, accounted as `PagedAttention` engines do it.
//!
//! A block is free, or held by running requests (several may share one). A free block keeps its content until it is taken,
//! the one that was free longest first, so what is cached is exactly what has not been overwritten. *Invariant*: free and
//! held blocks together are all blocks; a held block is never overwritten. Source: Kwon et al. 2023 (vLLM), section 4.

use std::collections::HashMap;

/// A list of free blocks ends with this.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Block {
    /// What it holds; 0 before anything was put there.
    digest: u64,
    holders: u32,
    before: u32,
    after: u32,
}

/// All blocks of one engine.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<Block>,
    by_digest: HashMap<u64, u32>,
    /// The free block that is taken next, and the one that is taken last.
    first: u32,
    last: u32,
    free: usize,
    /// What changed since it was asked for last, if anybody asks.
    journal: Option<Vec<Change>>,
}

/// What happened to a block's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is cached from now on, behind another block or at a beginning.
    Stored {
        /// The block's digest.
        digest: u64,
        /// That of the block before it.
        parent: Option<u64>,
    },
    /// It was overwritten; the digest says what.
    Removed(u64),
}

/// The blocks of one running request; to be given back with [`KvCache::release`].
#[derive(Debug, Default)]
pub struct Lease {
    blocks: Vec<u32>,
}

impl KvCache {
    /// A cache of `blocks` empty blocks.
    pub fn new(blocks: u32) -> Self {
        let mut cache =
            Self { blocks: Vec::new(), by_digest: HashMap::new(), first: NONE, last: NONE, free: 0, journal: None };
        for place in 0..blocks.min(NONE - 1) {
            cache.blocks.push(Block { digest: 0, holders: 0, before: NONE, after: NONE });
            cache.append(place);
        }
        cache
    }

    /// From now on it remembers what changes, until [`KvCache::changes`] takes it.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What changed since the last call, in order.
    pub fn changes(&mut self) -> Vec<Change> {
        self.journal.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change);
        }
    }

    /// Blocks that no running request holds.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Blocks there are.
    pub fn size(&self) -> usize {
        self.blocks.len()
    }

    /// How many of the leading `digests` are cached.
    pub fn cached(&self, digests: &[u64]) -> usize {
        digests.iter().take_while(|digest| self.by_digest.contains_key(digest)).count()
    }

    /// Takes the blocks of a prompt whose whole blocks have these digests, and `more` for the rest and the answer. Gives
    /// what is held and how many leading blocks were cached; nothing if too few blocks are free.
    pub fn take(&mut self, digests: &[u64], more: usize) -> Option<(Lease, usize)> {
        let cached = self.cached(digests);
        let leading = digests.get(..cached).unwrap_or_default();
        let asleep = leading.iter().filter(|digest| self.block_of(**digest).is_some_and(|block| block.holders == 0));
        if asleep.count() + (digests.len() - cached) + more > self.free {
            return None;
        }
        let mut lease = Lease { blocks: Vec::with_capacity(digests.len() + more) };
        for digest in leading {
            if let Some(place) = self.by_digest.get(digest).copied() {
                self.hold(place);
                lease.blocks.push(place);
            }
        }
        let mut parent = leading.last().copied();
        for digest in digests.iter().skip(cached).copied().chain(std::iter::repeat_n(0, more)) {
            let place = self.first;
            let Some(block) = self.blocks.get_mut(usize::try_from(place).ok()?) else { break };
            let old = std::mem::replace(&mut block.digest, digest);
            if self.by_digest.get(&old) == Some(&place) {
                self.by_digest.remove(&old);
                self.note(Change::Removed(old));
            }
            if digest != 0 {
                self.by_digest.insert(digest, place);
                self.note(Change::Stored { digest, parent });
                parent = Some(digest);
            }
            self.hold(place);
            lease.blocks.push(place);
        }
        Some((lease, cached))
    }

    /// Gives blocks back; their content stays until they are taken. The last ones go first, as they serve the fewest.
    pub fn release(&mut self, lease: &Lease) {
        for place in lease.blocks.iter().rev().copied() {
            let Some(block) = self.get(place) else { continue };
            block.holders = block.holders.saturating_sub(1);
            if block.holders == 0 {
                self.append(place);
            }
        }
    }

    fn get(&mut self, place: u32) -> Option<&mut Block> {
        self.blocks.get_mut(usize::try_from(place).ok()?)
    }

    fn block_of(&self, digest: u64) -> Option<&Block> {
        let place = self.by_digest.get(&digest)?;
        self.blocks.get(usize::try_from(*place).ok()?)
    }

    /// One more request holds the block; a free one leaves the list.
    fn hold(&mut self, place: u32) {
        let Some(block) = self.get(place) else { return };
        block.holders += 1;
        if block.holders > 1 {
            return;
        }
        let (before, after) = (block.before, block.after);
        match self.get(before) {
            Some(block) => block.after = after,
            None => self.first = after,
        }
        match self.get(after) {
            Some(block) => block.before = before,
            None => self.last = before,
        }
        self.free -= 1;
    }

    /// Puts a block behind all other free ones.
    fn append(&mut self, place: u32) {
        let last = self.last;
        if let Some(block) = self.get(place) {
            (block.before, block.after) = (last, NONE);
        }
        match self.get(last) {
            Some(block) => block.after = place,
            None => self.first = place,
        }
        self.last = place;
        self.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix;

    #[test]
    fn what_was_computed_is_cached_until_it_is_overwritten() {
        let mut cache = KvCache::new(4);
        let (lease, cached) = cache.take(&[1, 2, 3], 1).unwrap();
        assert_eq!((cached, cache.free()), (0, 0));
        assert!(cache.take(&[9], 0).is_none(), "held blocks are never overwritten");
        let (shared, cached) = cache.take(&[1, 2], 0).unwrap();
        assert_eq!((cached, cache.free()), (2, 0), "requests share what is the same");
        cache.release(&lease);
        assert_eq!(cache.free(), 2);
        cache.release(&shared);
        assert_eq!((cache.free(), cache.cached(&[1, 2, 3])), (4, 3));
        // The block of the answer goes first, then the last of the prompt.
        cache.release(&cache_take(&mut KvCache::new(1), &[]));
        let lease = cache.take(&[7, 8], 0).unwrap().0;
        assert_eq!(cache.cached(&[1, 2, 3]), 2);
        cache.release(&lease);
    }

    fn cache_take(cache: &mut KvCache, digests: &[u64]) -> Lease {
        cache.take(digests, 0).unwrap().0
    }

    #[test]
    fn blocks_are_neither_lost_nor_shared_by_different_prompts() {
        let mut cache = KvCache::new(64);
        let mut held: Vec<(Lease, usize)> = Vec::new();
        for round in 0..20_000_u64 {
            let length = mix(round, 1) % 9;
            let family = mix(round, 2) % 30;
            let digests: Vec<u64> = (0..length).map(|at| 1 + family * 100 + at).collect();
            let known = cache.cached(&digests);
            if let Some((lease, cached)) = cache.take(&digests, usize::try_from(mix(round, 3) % 3).unwrap()) {
                assert_eq!(cached, known);
                assert_eq!(cache.cached(&digests), digests.len(), "a running prompt is cached");
                held.push((lease, 0));
            }
            if mix(round, 4).is_multiple_of(2) && !held.is_empty() {
                let at = usize::try_from(mix(round, 5)).unwrap_or(0) % held.len();
                let (lease, _) = held.swap_remove(at);
                cache.release(&lease);
            }
            let distinct: std::collections::HashSet<u32> =
                held.iter().flat_map(|(lease, _)| lease.blocks.iter().copied()).collect();
            assert_eq!(distinct.len() + cache.free(), 64);
        }
        for (lease, _) in held.drain(..) {
            cache.release(&lease);
        }
        assert_eq!(cache.free(), 64);
    }
}
