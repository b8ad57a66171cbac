//! Spreads numbers of jobs over a table that is only looked up in and never gone through, so it decides nothing.

use std::hash::{BuildHasherDefault, Hasher};

/// What jobs are found by their numbers in.
pub(crate) type ByJob<T> = std::collections::HashMap<u64, T, BuildHasherDefault<Spread>>;

/// The hash.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}
