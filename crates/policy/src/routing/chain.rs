//! How a prompt begins, as a short list of digests: each covers everything from the first byte to its own end.
//!
//! Two prompts that share a beginning share the digests that end within it. The ends lie every 256 bytes at first, where
//! prompts differ in their system text, and further apart behind, where they are long: 52 digests for 64 KB. All messages
//! count, not only the first, and the tools before them.
//!
//! Cost: one multiplication for 16 bytes. Sources: the folded multiplication of Wang Yi's wyhash; chained blocks as engines
//! key their own caches (Kwon et al. 2023, "`PagedAttention`").

use super::mix;

/// One digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Of all bytes before `end`.
    pub digest: u64,
    /// Bytes from the prompt's beginning.
    pub end: u64,
}

/// The end of the block that begins at byte `start`.
const fn block_end(start: u64) -> u64 {
    if start < 4 << 10 {
        start + 256
    } else if start < 32 << 10 {
        start + (1 << 10)
    } else {
        start + (4 << 10)
    }
}

/// Digests for prompts longer than this are not kept: 2 MB are half a million tokens.
pub const LINKS_MAX: usize = 512;

/// The links of `prompt`, whose chain begins with `seed`; what is behind the last whole block has none.
pub fn links(seed: u64, prompt: &[u8], out: &mut Vec<Link>) {
    out.clear();
    let (mut rest, mut start, mut digest) = (prompt, 0_u64, seed);
    while out.len() < LINKS_MAX {
        let end = block_end(start);
        let Ok(length) = usize::try_from(end - start) else { return };
        let Some((block, behind)) = rest.split_at_checked(length) else { return };
        digest = digest_of(digest, block);
        out.push(Link { digest, end });
        (rest, start) = (behind, end);
    }
}

/// A digest of `bytes` and what came before them.
pub fn digest_of(before: u64, bytes: &[u8]) -> u64 {
    const KEYS: [u64; 4] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let [one, two, three, four] = KEYS;
    let (mut left, mut right) = (before ^ one, before ^ three);
    let mut pairs = bytes.chunks_exact(32);
    for pair in &mut pairs {
        let (first, second) = pair.split_at(16);
        left = fold(word(first) ^ two, word(first.get(8..).unwrap_or_default()) ^ left);
        right = fold(word(second) ^ four, word(second.get(8..).unwrap_or_default()) ^ right);
    }
    let mut last = [0_u8; 32];
    for (to, from) in last.iter_mut().zip(pairs.remainder()) {
        *to = *from;
    }
    let (first, second) = last.split_at(16);
    left = fold(word(first) ^ two, word(first.get(8..).unwrap_or_default()) ^ left);
    right = fold(word(second) ^ four, word(second.get(8..).unwrap_or_default()) ^ right);
    mix(left ^ right.rotate_left(32), u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

/// Both halves of the product, one upon the other.
fn fold(one: u64, other: u64) -> u64 {
    let (low, high) = one.carrying_mul(other, 0);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prompt: &[u8]) -> Vec<Link> {
        let mut out = Vec::new();
        links(0, prompt, &mut out);
        out
    }

    #[test]
    fn prompts_share_exactly_the_links_within_their_common_beginning() {
        let one: Vec<u8> = (0..70_000_u64).map(|at| mix(at, 1).to_le_bytes()[0]).collect();
        for differs in [0, 1, 255, 256, 257, 4_095, 4_096, 20_000, 33_000, 69_999] {
            let mut other = one.clone();
            other[differs] ^= 1;
            let (one, other) = (of(&one), of(&other));
            for (left, right) in one.iter().zip(&other) {
                assert_eq!(left.end, right.end);
                assert_eq!(left.digest == right.digest, left.end <= differs as u64, "{differs} {left:?}");
            }
        }
    }

    #[test]
    fn long_prompts_have_few_links_and_a_bound() {
        assert_eq!(of(&[]).len(), 0);
        assert_eq!(of(&[7; 255]).len(), 0);
        assert_eq!(of(&[7; 256]).len(), 1);
        assert_eq!(of(&vec![7; 64 << 10]).len(), 16 + 28 + 8);
        assert_eq!(of(&vec![7; 16 << 20]).len(), LINKS_MAX);
    }

    #[test]
    fn a_digest_knows_length_order_and_what_came_before() {
        let mut seen = std::collections::BTreeSet::new();
        for length in 0..200 {
            for before in 0..5 {
                assert!(seen.insert(digest_of(before, &vec![0; length])));
            }
        }
        assert!(seen.insert(digest_of(0, b"ab")) && seen.insert(digest_of(0, b"ba")));
    }
}
