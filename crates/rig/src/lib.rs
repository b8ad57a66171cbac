//! Both ends of a gateway under test: an engine that computes nothing ([`engine`]) and a load that asks ([`load`]).
//!
//! *Invariant*: neither end is the bottleneck. Both speak HTTP/1.1 over plain sockets with one buffer a connection, one read
//! and one write a message, and parse only what they need; they are for loopback and for peers that are trusted.
//!
//! Tokens are counted as a quarter of the prompt's bytes, rounded up, by both ends alike.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::allow_attributes,
        reason = "tests fail by panicking"
    )
)]

pub mod engine;
mod events;
pub mod kv;
pub mod load;
mod message;

/// Bytes of text that both ends count as one token.
pub const TOKEN_BYTES: usize = 4;

/// A well-mixed number of two. Source: the finisher of `SplitMix64` (Steele, Lea, Flood 2014).
pub(crate) fn mix(one: u64, other: u64) -> u64 {
    let mut word = one.wrapping_add(other.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
