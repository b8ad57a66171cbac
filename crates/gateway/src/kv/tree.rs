//! What an engine says its cache holds, and which beginnings of prompts stand on which of its blocks.
//!
//! A block is known by the engine's own hash and by a digest of all tokens up to its end, which the gateway can make of a prompt
//! as well. *Invariant*: blocks and followed prompts have bounds; what is beyond them is not followed, and a prompt whose
//! fate is not known is left to the index's own estimate. Cost: two look-ups a block.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use dh_policy::routing::chain::digest_of;

use super::events::Event;

/// Blocks that are followed: 4 million tokens in blocks of 16.
const BLOCKS_MAX: usize = 1 << 18;
/// Prompts that are followed, and the links of all of them.
const PROMPTS_MAX: usize = 4_096;
const LINKS_MAX: usize = 1 << 18;
/// Removed blocks that are remembered for prompts whose tokens are not known yet.
const GONE_MAX: usize = 8_192;

/// The digest of a block whose beginning nobody told.
const ROOTLESS: u64 = 0;

/// One engine's cache.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By the engine's hash: the digest of the tokens up to its end.
    blocks: HashMap<u64, u64>,
    /// Tokens of a block; 0 before one was stored.
    size: usize,
    /// Nothing of the cache is unknown: its beginning was heard, all since, and no block was too many to follow.
    whole: bool,
    /// The most blocks that there were at once since then.
    most: usize,
    prompts: BTreeMap<u64, Prompt>,
    next: u64,
    links: usize,
    /// By digest of a block: prompts that stand on it, with the first of their links that does.
    on: HashMap<u64, Vec<(u64, usize)>>,
    gone: VecDeque<u64>,
    gone_now: HashSet<u64>,
}

/// A followed prompt: its links, and under each the block that holds its end.
#[derive(Debug)]
struct Prompt {
    links: Vec<(u64, u64)>,
}

/// What a batch changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) stored: u64,
    pub(super) removed: u64,
    pub(super) cleared: u64,
    /// Links of prompts that the engine no longer holds.
    pub(super) lost: Vec<u64>,
}

/// The digest of a block's tokens and of all before them.
pub(super) fn chained(before: u64, tokens: &[u32]) -> u64 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
    digest_of(before, &bytes).max(1)
}

impl Tree {
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Tokens of a block, once one was stored.
    pub(super) fn block_tokens(&self) -> Option<usize> {
        (self.size > 0).then_some(self.size)
    }

    /// Tokens that fit into the cache, if it is full now and all of it is known.
    pub(super) fn capacity(&self) -> Option<usize> {
        (self.whole && self.size > 0).then(|| self.most.saturating_mul(self.size))
    }

    /// The cache is empty: it was emptied, or its engine has just begun.
    pub(super) fn begin(&mut self) {
        self.forget();
        self.whole = true;
    }

    pub(super) fn apply(&mut self, events: Vec<Event>) -> Change {
        let mut change = Change::default();
        for event in events {
            match event {
                Event::Stored { hashes, parent, tokens, size, plain } => {
                    change.stored += u64::try_from(hashes.len()).unwrap_or(0);
                    self.store(&hashes, parent, &tokens, size, plain);
                }
                Event::Removed { hashes } => {
                    change.removed += u64::try_from(hashes.len()).unwrap_or(0);
                    for hash in hashes {
                        self.remove(hash, &mut change.lost);
                    }
                }
                Event::Cleared => {
                    change.cleared += 1;
                    self.begin();
                }
            }
        }
        change
    }

    /// Nobody knows any more what is in the cache.
    pub(super) fn forget(&mut self) {
        *self = Self { size: self.size, next: self.next, ..Self::default() };
    }

    fn store(&mut self, hashes: &[u64], parent: Option<u64>, tokens: &[u32], size: usize, plain: bool) {
        if size == 0 {
            return;
        }
        self.size = size;
        let behind = parent.map_or(Some(0), |parent| self.blocks.get(&parent).copied().filter(|one| *one != ROOTLESS));
        // What is keyed by more than tokens is not to be found by them.
        let mut before = behind.filter(|_| plain);
        let mut parts = tokens.chunks_exact(size);
        for hash in hashes {
            let digest = before.zip(parts.next()).map(|(before, tokens)| chained(before, tokens));
            before = digest;
            if self.blocks.len() < BLOCKS_MAX || self.blocks.contains_key(hash) {
                self.blocks.insert(*hash, digest.unwrap_or(ROOTLESS));
            } else {
                self.whole = false;
            }
            if let Some(digest) = digest {
                self.gone_now.remove(&digest);
            }
        }
        self.most = self.most.max(self.blocks.len());
    }

    fn remove(&mut self, hash: u64, lost: &mut Vec<u64>) {
        let Some(digest) = self.blocks.remove(&hash).filter(|digest| *digest != ROOTLESS) else { return };
        self.gone.push_back(digest);
        self.gone_now.insert(digest);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.pop_front()
            && !self.gone.contains(&oldest)
        {
            self.gone_now.remove(&oldest);
        }
        for (number, from) in self.on.remove(&digest).unwrap_or_default() {
            self.cut(number, from, lost);
        }
    }

    /// The prompt's links from one on are lost.
    fn cut(&mut self, number: u64, from: usize, lost: &mut Vec<u64>) {
        let Some(prompt) = self.prompts.get_mut(&number) else { return };
        let tail = prompt.links.split_off(from.min(prompt.links.len()));
        if prompt.links.is_empty() {
            self.prompts.remove(&number);
        }
        self.unlink(number, &tail);
        lost.extend(tail.iter().map(|(link, _)| *link));
    }

    /// The prompt no longer stands on the blocks of `links`.
    fn unlink(&mut self, number: u64, links: &[(u64, u64)]) {
        self.links -= links.len().min(self.links);
        for (_, block) in links {
            if let Some(on) = self.on.get_mut(block) {
                on.retain(|(other, _)| *other != number);
                if on.is_empty() {
                    self.on.remove(block);
                }
            }
        }
    }

    /// From now on the fate of a prompt is known: the digests of its links, each with the token that it ends before. Gives links
    /// that the engine has lost since it computed them.
    pub(super) fn follow(&mut self, links: &[(u64, usize)], tokens: &[u32]) -> Vec<u64> {
        let mut lost = Vec::new();
        let Some(size) = self.block_tokens() else { return lost };
        let mut before = 0;
        let chain = tokens.chunks_exact(size).map(|tokens| {
            before = chained(before, tokens);
            before
        });
        let chain: Vec<u64> = chain.collect();
        let Some(last) = chain.len().checked_sub(1) else { return lost };
        // The block that holds the link's last token; what is behind the last whole block is in no cache.
        let under = |token: usize| chain.get((token.saturating_sub(1) / size).min(last)).copied().unwrap_or(ROOTLESS);
        let links: Vec<(u64, u64)> = links.iter().map(|(link, end)| (*link, under(*end))).collect();
        if links.len() > LINKS_MAX / 64 {
            return lost;
        }
        let held = links.iter().position(|(_, block)| self.gone_now.contains(block)).unwrap_or(links.len());
        let (held, gone) = links.split_at(held);
        lost.extend(gone.iter().map(|(link, _)| *link));
        while self.prompts.len() >= PROMPTS_MAX || self.links + held.len() > LINKS_MAX {
            let Some((number, oldest)) = self.prompts.pop_first() else { break };
            self.unlink(number, &oldest.links);
        }
        if held.is_empty() {
            return lost;
        }
        let number = self.next;
        self.next += 1;
        let mut seen = ROOTLESS;
        for (place, (_, block)) in held.iter().enumerate() {
            if *block != seen {
                self.on.entry(*block).or_default().push((number, place));
                seen = *block;
            }
        }
        self.links += held.len();
        self.prompts.insert(number, Prompt { links: held.to_vec() });
        lost
    }

    /// Prompts that are followed.
    pub(super) fn followed(&self) -> usize {
        self.prompts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 0] = [];

    fn stored(hashes: &[u64], parent: Option<u64>, tokens: &[u32]) -> Event {
        Event::Stored { hashes: hashes.to_vec(), parent, tokens: tokens.to_vec(), size: 2, plain: true }
    }

    fn removed(tree: &mut Tree, hash: u64) -> Vec<u64> {
        tree.apply(vec![Event::Removed { hashes: vec![hash] }]).lost
    }

    #[test]
    fn a_removed_block_loses_all_links_that_stand_on_it_and_behind_it() {
        let mut tree = Tree::default();
        tree.apply(vec![stored(&[10, 11], None, &[1, 2, 3, 4]), stored(&[12], Some(11), &[5, 6])]);
        assert_eq!(tree.follow(&[(100, 1), (101, 2), (102, 4), (103, 6)], &[1, 2, 3, 4, 5, 6, 7]), NONE);
        assert_eq!(tree.follow(&[(100, 2), (205, 4)], &[1, 2, 8, 8]), NONE);
        assert_eq!(removed(&mut tree, 12), [103]);
        assert_eq!(removed(&mut tree, 99), NONE);
        assert_eq!(removed(&mut tree, 10), [100, 101, 102, 100, 205]);
        assert_eq!((tree.followed(), tree.links, tree.on.len(), tree.blocks()), (0, 0, 0, 1));
    }

    #[test]
    fn what_was_removed_before_its_tokens_were_known_is_lost_at_once_unless_it_came_back() {
        let mut tree = Tree::default();
        tree.apply(vec![stored(&[10, 11], None, &[1, 2, 3, 4])]);
        assert_eq!(removed(&mut tree, 11), NONE);
        assert_eq!(tree.follow(&[(100, 2), (101, 4)], &[1, 2, 3, 4]), [101]);
        tree.apply(vec![stored(&[11], Some(10), &[3, 4])]);
        assert_eq!(tree.follow(&[(100, 2), (101, 4)], &[1, 2, 3, 4]), NONE);
    }

    #[test]
    fn blocks_without_a_known_beginning_only_count() {
        let mut tree = Tree::default();
        tree.apply(vec![stored(&[11], Some(10), &[3, 4])]);
        let keyed = Event::Stored { hashes: vec![20], parent: None, tokens: vec![1, 2], size: 2, plain: false };
        tree.apply(vec![keyed]);
        assert_eq!(tree.follow(&[(100, 2)], &[1, 2]), NONE);
        assert_eq!((removed(&mut tree, 20), removed(&mut tree, 11), tree.blocks()), (vec![], vec![], 0));
        assert_eq!(tree.apply(vec![Event::Cleared]), Change { cleared: 1, ..Change::default() });
        assert_eq!(tree.followed(), 0);
    }

    #[test]
    fn prompts_and_removed_blocks_have_bounds() {
        let mut tree = Tree::default();
        for number in 0..20_000_u32 {
            let hash = u64::from(number);
            tree.apply(vec![stored(&[hash], None, &[number, 0])]);
            tree.follow(&[(hash, 2), (hash + 1, 2)], &[number, 0]);
            if number % 2 == 0 {
                removed(&mut tree, hash);
            }
        }
        assert_eq!((tree.followed(), tree.links, tree.on.len()), (PROMPTS_MAX, 2 * PROMPTS_MAX, PROMPTS_MAX));
        assert_eq!((tree.gone.len(), tree.gone_now.len(), tree.blocks()), (GONE_MAX, GONE_MAX, 10_000));
        tree.forget();
        assert_eq!((tree.followed(), tree.blocks(), tree.block_tokens()), (0, 0, Some(2)));
    }

    #[test]
    fn how_much_a_cache_holds_is_known_only_of_one_that_is_known_whole() {
        let mut tree = Tree::default();
        // Heard from somewhere in its life: it holds more than was told.
        tree.apply(vec![stored(&[1, 2], None, &[1, 2, 3, 4])]);
        removed(&mut tree, 900);
        assert_eq!(tree.capacity(), None);
        tree.begin();
        tree.apply(vec![stored(&[1, 2, 3], None, &[1, 2, 3, 4, 5, 6])]);
        removed(&mut tree, 3);
        assert_eq!((tree.blocks(), tree.capacity()), (2, Some(6)), "three fitted");
        tree.forget();
        assert_eq!(tree.capacity(), None);
        tree.apply(vec![Event::Cleared]);
        for number in 0..=u64::try_from(BLOCKS_MAX).unwrap() {
            tree.apply(vec![stored(&[number], None, &[1, 2])]);
        }
        assert_eq!(tree.capacity(), None, "more than is followed");
    }
}
