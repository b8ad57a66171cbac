//! Decompressed, verified blocks in RAM, bounded by bytes.
//!
//! Keys hold the extent's id, and ids are never used twice, so an entry can be old but not wrong: nothing needs to be
//! invalidated. The replacement (S3-FIFO like, by `quick_cache`) is not flushed by one long scan.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::block::Address;
use crate::config::BLOCK_BYTES;

#[derive(Clone)]
struct ByBytes;

impl Weighter<(u64, u32), Bytes> for ByBytes {
    fn weight(&self, _key: &(u64, u32), value: &Bytes) -> u64 {
        // An entry costs its bytes and about a hundred more for key, links and the allocation.
        value.len() as u64 + 128
    }
}

/// The cache of blocks.
pub(crate) struct BlockCache {
    blocks: Option<Cache<(u64, u32), Bytes, ByBytes>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockCache {
    /// A cache of at most `bytes`; zero for none.
    pub(crate) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / (BLOCK_BYTES as u64 / 4)).unwrap_or(1 << 20).clamp(16, 1 << 20);
        let blocks = (bytes > 0).then(|| Cache::with_weighter(items, bytes, ByBytes));
        Self { blocks, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, address: Address) -> Option<Bytes> {
        let found = self.blocks.as_ref().and_then(|blocks| blocks.get(&(address.extent, address.block)));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    pub(crate) fn insert(&self, address: Address, bytes: Bytes) {
        if let Some(blocks) = &self.blocks {
            blocks.insert((address.extent, address.block), bytes);
        }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(crate) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.as_ref().map_or(0, Cache::weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_bytes_and_counts() {
        let cache = BlockCache::new(8 << 20);
        for block in 0..200 {
            cache.insert(Address { extent: 1, block }, Bytes::from(vec![7; BLOCK_BYTES]));
            assert!(cache.bytes() <= 8 << 20, "{}", cache.bytes());
        }
        let held = (0..200).filter(|block| cache.get(Address { extent: 1, block: *block }).is_some()).count();
        assert!(held > 0 && held <= 32, "{held}");
        assert_eq!(cache.hits(), held as u64);
        assert_eq!(cache.misses(), 200 - held as u64);
    }

    #[test]
    fn a_cache_of_no_bytes_holds_nothing() {
        let cache = BlockCache::new(0);
        cache.insert(Address { extent: 1, block: 1 }, Bytes::from_static(b"x"));
        assert!(cache.get(Address { extent: 1, block: 1 }).is_none());
    }
}
