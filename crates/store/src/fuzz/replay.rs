//! Every gate replays the seeds of all targets, and random changes of them.

use super::TARGETS;

/// Changed inputs of each target, unless `DH_FUZZ_CASES` says otherwise.
const CASES: u64 = 2_000;

/// The longest input that is made.
const BYTES_MAX: usize = 16 << 10;

/// Texts that decoders look for, and bytes that they trip over.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\0",
    b"%00",
    b"%ff",
    b"\xff\xff\xff\xff",
    b"\x7f",
    b"\x80",
    b"-",
    b"*",
    b"?",
    b"${",
    b"}",
    b"<",
    b"/>",
    b"&#0;",
    b"]]>",
    b"18446744073709551615",
    b"ffffffffffffffff",
    b"0",
    b"\xe2\x80\xae",
];

/// A seeded stream, `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// The seeds of a target: files of `fuzz/seeds`, and those that code makes because their format is binary.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    seeds.extend(match target {
        "rows" => crate::index::fuzz::seeds(),
        "log" => crate::index::wal::fuzz::seeds(),
        "records" => vec![b"\x04\x03key\x05value\x03\x03key\x00\x00\x00".to_vec()],
        "segments" => crate::body::packed::fuzz::seeds(),
        "superblocks" => superblock_seeds(),
        "blocks" => block_seeds(),
        _text => Vec::new(),
    });
    seeds
}

/// Three drives of a set 2+1, behind the magic.
fn superblock_seeds() -> Vec<Vec<u8>> {
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&[7; 16]);
    bytes.extend_from_slice(&[8; 16]);
    bytes.extend_from_slice(&[2, 1, 3, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    for member in 0..3 {
        bytes.extend_from_slice(&[8 + member; 16]);
        bytes.push(member);
    }
    vec![bytes]
}

fn block_seeds() -> Vec<Vec<u8>> {
    let packed = zstd::bulk::compress(&[b'a'; 1_000], 1).unwrap();
    let with = |kind: u8, logical: u32, stored: &[u8]| [&[kind], &logical.to_le_bytes()[..], stored].concat();
    vec![with(1, 1_000, &packed), with(1, u32::MAX, &packed), with(0, 3, b"abc")]
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    match dice.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[at] = dice.next().to_le_bytes()[0],
        2 if !bytes.is_empty() => {
            bytes.remove(at);
        }
        3 => bytes.truncate(at),
        4 => {
            let word = WORDS[dice.below(WORDS.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        5 => {
            let end = (at + 1 + dice.below(40)).min(bytes.len());
            let again: Vec<u8> = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = dice.below(bytes.len());
            bytes.splice(to..to, again);
        }
        6 => {
            let end = (at + 1 + dice.below(40)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        7 => {
            let other = &seeds[dice.below(seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(dice.below(other.len())..).unwrap_or_default());
        }
        _insert => bytes.insert(at, dice.next().to_le_bytes()[0]),
    }
    bytes.truncate(BYTES_MAX);
}

fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} fails on {} bytes: \"{}\"", input.len(), input.escape_ascii());
}

#[test]
fn seeds_and_changes_of_them_break_no_decoder() {
    let cases = std::env::var("DH_FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let seed = std::env::var("DH_SEED").map_or(0x51ce, |seed| seed.parse().unwrap());
    let only = std::env::var("DH_FUZZ_ONLY").ok();
    for (name, target) in TARGETS {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let mut dice = Dice(seed);
        let mut seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in &seeds {
            run(name, *target, seed);
        }
        run(name, *target, b"");
        // Half of the inputs start from one that was changed before, so that changes pile up.
        let kept = seeds.len();
        for _case in 0..cases {
            let mut input = seeds[dice.below(seeds.len())].clone();
            for _change in 0..=dice.below(4) {
                change(&mut input, &seeds, &mut dice);
            }
            run(name, *target, &input);
            if seeds.len() < kept * 2 {
                seeds.push(input);
            } else if dice.below(8) == 0 {
                let at = kept + dice.below(seeds.len() - kept);
                seeds[at] = input;
            }
        }
    }
}
