//! What an engine's own reports of its cache change in the index: exact losses, and the size it cannot exceed.

use super::{OWNERS, PrefixIndex, owners};

impl PrefixIndex {
    /// `engine` reports that it lost the beginning with this digest. Tells whether the index believed otherwise.
    pub fn lost(&mut self, digest: u64, engine: usize) -> bool {
        let set = self.table.set_of(digest);
        let way = self.table.line(set).iter().position(|one| *one == digest && digest != 0);
        let entry = way.and_then(|way| self.table.entries.get_mut(set)?.get_mut(way));
        let Some(entry) = entry else { return false };
        let Some(place) = owners(entry).position(|(owner, _)| owner == engine) else { return false };
        let [_, owners @ ..] = entry;
        // Those behind it close up: an empty place ends the list.
        owners.copy_within((place + 1).min(OWNERS).., place);
        owners[OWNERS - 1] = 0;
        true
    }

    /// The cache of `engine` is full and holds `bytes`, so it cannot hold more.
    pub fn bound(&mut self, engine: usize, bytes: u64) {
        if let Some(touched) = self.touched.get_mut(engine) {
            touched.bound(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::chain::Link;
    use super::super::{Held, PrefixIndex};

    fn chain(family: u64) -> Vec<Link> {
        (1..=4).map(|number| Link { digest: family * 100 + number, end: number * 100 }).collect()
    }

    fn held(index: &PrefixIndex, family: u64) -> Vec<u64> {
        let mut held = Vec::new();
        index.look(&chain(family), 8, &mut held);
        held.iter().map(|held| held.bytes).collect()
    }

    #[test]
    fn what_an_engine_lost_is_believed_of_the_others_alone() {
        let mut index = PrefixIndex::new(1 << 10);
        for engine in 0..6 {
            index.computes(&chain(1), 400, engine, Held::default());
        }
        assert_eq!(held(&index, 1), [400, 400, 400, 400, 400, 400, 0, 0]);
        assert!(index.lost(103, 2) && index.lost(104, 2));
        assert!(!index.lost(104, 2) && !index.lost(999, 2) && !index.lost(0, 2));
        assert_eq!(held(&index, 1), [400, 400, 200, 400, 400, 400, 0, 0]);
        for engine in [0, 5, 1, 3, 4] {
            assert!(index.lost(104, engine), "{engine}");
        }
        assert_eq!(held(&index, 1), [300, 300, 200, 300, 300, 300, 0, 0]);
        index.computes(&chain(1), 400, 2, Held::default());
        assert_eq!(held(&index, 1)[2], 400);
    }

    #[test]
    fn a_full_cache_holds_no_more_than_it_says() {
        let mut index = PrefixIndex::new(1 << 12);
        for family in 1..=400 {
            index.computes(&chain(family), 400, 0, Held::default());
        }
        assert_eq!((held(&index, 1)[0], index.size_of(0)), (400, None));
        index.bound(0, 80_000);
        assert_eq!(index.size_of(0), Some(80_000));
        assert_eq!((held(&index, 1)[0], held(&index, 400)[0]), (0, 400));
        index.bound(0, 90_000);
        assert_eq!(index.size_of(0), Some(80_000), "reports of answers may have taught that it holds less");
    }
}
