//! Every disk that a power cut could leave behind, at every operation of a recorded life.
//!
//! The life is recorded once; then its steps are repeated on an empty disk, and at each the changes that were not durable
//! live or die as a [`Survival`] says. Cost of an image: a copy of its files.

use super::SimDisk;
use super::sim::{Change, Content, Inner, Step};

const SECTOR: usize = 512;

/// Which changes that were not synced live through a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// None.
    Nothing,
    /// All: only the process died.
    Everything,
    /// All of files, none of directories.
    Files,
    /// All of directories, none of files.
    Names,
    /// Any mix of both, as the seed says.
    Some(u64),
    /// Any mix of the sectors of all writes, and of names.
    Sectors(u64),
    /// Of each file only the newest change, so that writes overtake each other.
    Newest,
    /// All but the newest change of each file, of which some first sectors were written.
    Torn(u64),
    /// Files are as long as they became, but hold zeros where nothing was synced.
    Lengths,
}

impl Survival {
    /// Nine images of one crash.
    pub const fn all(seed: u64) -> [Self; 9] {
        [
            Self::Nothing,
            Self::Everything,
            Self::Files,
            Self::Names,
            Self::Some(seed),
            Self::Sectors(seed),
            Self::Newest,
            Self::Torn(seed),
            Self::Lengths,
        ]
    }

    const fn seed(self) -> u64 {
        match self {
            Self::Some(seed) | Self::Sectors(seed) | Self::Torn(seed) => seed,
            Self::Nothing | Self::Everything | Self::Files | Self::Names | Self::Newest | Self::Lengths => 0,
        }
    }
}

/// `SplitMix64`.
struct Coin(u64);

impl Coin {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn heads(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

/// The crash points of a recorded life, in order.
#[derive(Debug)]
pub struct CrashPoints {
    now: Inner,
    steps: std::vec::IntoIter<(u64, Step)>,
    total: u64,
}

impl CrashPoints {
    /// Those of what `disk` recorded.
    pub fn of(disk: &SimDisk) -> Self {
        Self { now: Inner::default(), steps: disk.trace().into_iter(), total: disk.total() }
    }

    /// Steps that are left.
    pub fn left(&self) -> usize {
        self.steps.len()
    }

    /// Does the next step; returns the number of its operation. The crash comes right after it.
    pub fn advance(&mut self) -> Option<u64> {
        let (operation, step) = self.steps.next()?;
        self.now.take(step);
        Some(operation)
    }

    /// The disk that the crash leaves.
    pub fn image(&self, survival: Survival) -> SimDisk {
        let (mut names, mut dirs) = (self.now.durable_names.clone(), self.now.durable_dirs.clone());
        let mut coin = Coin(survival.seed());
        for entry in &self.now.entries {
            let lives = match survival {
                Survival::Nothing | Survival::Files => false,
                Survival::Everything | Survival::Names | Survival::Newest | Survival::Torn(_) | Survival::Lengths => {
                    true
                }
                Survival::Some(_) | Survival::Sectors(_) => coin.heads(),
            };
            if lives {
                entry.apply(&mut names, &mut dirs);
            }
        }
        let content = |number: u64| Some(survive(self.now.files.get(&number)?, survival, number));
        SimDisk::of(Inner::image(names, dirs, content), self.total)
    }
}

/// A file's bytes after the crash.
fn survive(file: &Content, survival: Survival, number: u64) -> Vec<u8> {
    if survival == Survival::Everything || survival == Survival::Files {
        return file.cached.clone();
    }
    let mut bytes = file.durable.clone();
    let last = file.pending.len().saturating_sub(1);
    let mut coin = Coin(survival.seed() ^ number.rotate_left(32));
    for (index, change) in file.pending.iter().enumerate() {
        match survival {
            Survival::Nothing | Survival::Names => {}
            Survival::Everything | Survival::Files => change.apply(&mut bytes),
            Survival::Some(_) => {
                if coin.heads() {
                    change.apply(&mut bytes);
                }
            }
            Survival::Sectors(_) => sectors(change, &mut bytes, || coin.heads()),
            Survival::Newest => {
                if index == last {
                    change.apply(&mut bytes);
                }
            }
            Survival::Torn(_) => {
                let mut whole = true;
                sectors(change, &mut bytes, || {
                    whole &= index < last || coin.heads() || coin.heads();
                    whole
                });
            }
            Survival::Lengths => {
                if file.cached.len() > bytes.len() {
                    bytes.resize(file.cached.len(), 0);
                }
            }
        }
    }
    bytes
}

/// Applies the sectors of a write for which `lives` says so.
fn sectors(change: &Change, bytes: &mut Vec<u8>, mut lives: impl FnMut() -> bool) {
    let Change::Write(start, data) = change else {
        if lives() {
            change.apply(bytes);
        }
        return;
    };
    let mut at = *start;
    let mut rest = data.as_ref();
    while !rest.is_empty() {
        let (sector, later) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
        if lives() {
            Change::Write(at, sector.into()).apply(bytes);
        }
        at += sector.len();
        rest = later;
    }
}
