//! Every gate replays the seeds of all targets, and random changes of them.

use dh_policy::routing::chain::digest_of;

use super::TARGETS;

/// Changed inputs of each target, unless `DH_FUZZ_CASES` says otherwise.
const CASES: u64 = 4_000;
/// The longest input that is made.
const BYTES_MAX: usize = 8 << 10;
/// Texts that readers look for, and bytes that they trip over.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n\n",
    b"\0",
    b"\"",
    b"\\",
    b"\\u00",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"model\":",
    b"\"stream\":true",
    b"\"usage\":{",
    b"data: ",
    b"[DONE]",
    b"0\r\n\r\n",
    b"1;x\r\n",
    b"ffffffffffffffff",
    b"-1",
    b"1e9",
    b"null",
    b"content-length: 1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"\xe2\x80\xa8",
    b"\xff",
];

/// Seeded draws.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 += 1;
        let drawn = digest_of(self.0, b"dice") % u64::try_from(bound.max(1)).unwrap();
        usize::try_from(drawn).unwrap()
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(bytes.len());
    let end = (at + 1 + dice.below(40)).min(bytes.len());
    match dice.below(7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at.min(end)..end)),
        3 => {
            let again = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = dice.below(bytes.len());
            bytes.splice(to..to, again);
        }
        4 => {
            let other = &seeds[dice.below(seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[dice.below(other.len())..]);
        }
        5 => bytes.insert(at, u8::try_from(dice.below(256)).unwrap()),
        _ => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].iter().copied())),
    }
    bytes.truncate(BYTES_MAX);
}

#[test]
fn seeds_and_changes_of_them_break_no_reader() {
    let cases = std::env::var("DH_FUZZ_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let seed = std::env::var("DH_SEED").map_or(0x51ce, |seed| seed.parse().unwrap());
    for (name, target) in TARGETS {
        let run = |input: &[u8]| {
            let outcome = std::panic::catch_unwind(|| target(input));
            assert!(outcome.is_ok(), "{name} fails on \"{}\"", input.escape_ascii());
        };
        let mut dice = Dice(seed);
        let mut seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in &seeds {
            run(seed);
        }
        run(b"");
        // Half of the inputs start from one that was changed before, so that changes pile up.
        let kept = seeds.len();
        for _case in 0..cases {
            let mut input = seeds[dice.below(seeds.len())].clone();
            for _change in 0..=dice.below(4) {
                change(&mut input, &seeds, &mut dice);
            }
            run(&input);
            if seeds.len() < kept * 2 {
                seeds.push(input);
            } else if dice.below(8) == 0 {
                let at = kept + dice.below(kept);
                seeds[at] = input;
            }
        }
    }
}
