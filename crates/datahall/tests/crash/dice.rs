//! Everything random here, from one seed, and bodies that can be made again from a few numbers instead of being kept.

/// `SplitMix64`: small, and the same on every machine.
pub struct Dice(u64);

impl Dice {
    /// The `stream`-th generator of a seed; each thread has its own.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        dice.next();
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// How a body is made. Two recipes with different seeds differ in their bytes (unless they are empty).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    seed: u64,
    pub bytes: u64,
    /// Whether a compressor finds something to do.
    compressible: bool,
}

impl Recipe {
    pub fn of_size(dice: &mut Dice, bytes: u64) -> Self {
        Self { seed: dice.next(), bytes, compressible: dice.one_in(2) }
    }

    /// Nothing, or as small as rows, or up to a few megabytes: each way of storing a body is taken often.
    pub fn of_any_size(dice: &mut Dice) -> Self {
        let bytes = match dice.below(20) {
            0 => 0,
            1..=8 => 1 + dice.below(4_096),
            9..=14 => dice.below(64 << 10),
            15..=17 => dice.below(400 << 10),
            _ => dice.below(3 << 20),
        };
        Self::of_size(dice, bytes)
    }

    pub fn make(self) -> Vec<u8> {
        let length = usize::try_from(self.bytes).unwrap();
        let mut dice = Dice::new(self.seed, 0);
        let mut body = Vec::with_capacity(length + 64);
        while body.len() < length {
            let word = dice.next().to_le_bytes();
            body.extend_from_slice(&word);
            if self.compressible {
                body.extend_from_slice(&[b'='; 40]);
            }
        }
        body.truncate(length);
        body
    }
}
