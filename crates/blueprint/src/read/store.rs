//! `[store.NAME]`: an object store.

use dh_units::Bytes;

use crate::section::Section;
use crate::settings::{Compression, Store};

/// Small enough for a laptop that also trains; large enough for the pieces of a data set that are read every epoch.
const CACHE: Bytes = Bytes(64 << 20);

/// What a store is when nothing is said.
pub(super) const fn ordinary() -> Store {
    Store { capacity: None, cache: CACHE, compression: Compression::Auto }
}

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>) -> Option<Store> {
    let capacity = section.positive("capacity", Bytes(0));
    let cache = section.quantity("cache");
    let compression = section.word("compression", &[("auto", Compression::Auto), ("off", Compression::Off)]);
    section.finish();
    let ordinary = ordinary();
    Some(Store {
        capacity: capacity.map(|capacity| capacity.value),
        cache: cache.map_or(ordinary.cache, |cache| cache.value),
        compression: compression.map_or(ordinary.compression, |compression| compression.value),
    })
}
