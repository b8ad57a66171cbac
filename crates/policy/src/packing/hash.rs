//! A hash of short keys, the same in every run.
//!
//! Invariant: nothing iterates over a map that uses it, so its order enters no decision. Cost: a multiplication for eight bytes.
//! Source: the multiplicative hash of Firefox and rustc.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose order nobody sees.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Words>>;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words(u64);

impl Words {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

impl Hasher for Words {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.word(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.word(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.word(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    /// The last product mixes upwards only, and a map looks at the low bits.
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
