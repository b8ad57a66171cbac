//! The best way to train a model on a hall: every layout that can be, the fastest, and what is worth choosing between.
//!
//! Invariant: pure and deterministic. The answer does not depend on how the work is shared out: best, front and runners-up are
//! those of trying every layout (tests compare). What is pruned is pruned by a bound that no layout beats. Ties go to the
//! layout that comes first in [`order`]. Cost: below a microsecond for a layout that memory or a bound rejects, one
//! [`crate::pretraining::step`] for the others; memory grows with the front alone.
//!
//! Layers 0 to 3 have no threads, so a search is cut into [`Share`]s that a caller may run wherever it likes:
//! `search.shares(n)`, `share.run(..)` on each, `search.merge(..)`. [`Search::run`] does one after the other.

mod choices;
mod front;
mod reason;
mod share;

use dh_units::{Bytes, Joules, Seconds, Tokens, Usd, UsdPerHour, Watts, real, whole};

use crate::architecture::Architecture;
use crate::error::Error;
use crate::hardware::{Format, Machine};
use crate::layout::Layout;
use crate::memory::Overheads;
use crate::power;
use crate::pretraining::{self, Step, Work};

pub use choices::Choices;
pub use front::order;
pub use reason::{degrees, named_parts, reason};
pub use share::{Partial, Share};

/// Runners-up that are kept.
pub const RUNNERS_UP: usize = 5;

/// Shares that a search is cut into where nothing speaks for another number: enough for the cores of a machine. What is counted
/// as bounded depends on the number, so that all who want the same counts must take the same.
pub const SHARES: usize = 64;

/// How far the tokens of a step may be from those asked for where these cannot be dealt out: of 4,000,000 tokens and sequences
/// of 8,192 no step can be made exactly. Stated assumption: recipes round a batch by as much.
pub const BATCH_TOLERANCE: f64 = 0.05;

/// What is to be least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Objective {
    /// The time of the run.
    #[default]
    Time,
    /// What its accelerators cost; the time where no price is known.
    Cost,
    /// What its accelerators draw; the time where their power is not known.
    Energy,
}

/// How many accelerators the run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many. Fewer are on the front and are not chosen.
    Exactly(u64),
    /// At most so many.
    UpTo(u64),
}

impl Amount {
    /// The most.
    pub const fn most(self) -> u64 {
        match self {
            Self::Exactly(count) | Self::UpTo(count) => count,
        }
    }

    /// Whether `accelerators` may be chosen.
    pub const fn may_be(self, accelerators: u64) -> bool {
        match self {
            Self::Exactly(count) => accelerators == count,
            Self::UpTo(most) => accelerators <= most,
        }
    }

    /// Numbers of accelerators that are tried: all, half, a quarter, an eighth, and the same of the largest power of two, since a
    /// number such as 1,016 has few divisors. The largest first.
    pub fn sizes(self) -> Vec<u64> {
        let most = self.most();
        let round = most.checked_ilog2().map_or(0, |power| 1 << power);
        let mut sizes: Vec<u64> = [1, 2, 4, 8]
            .into_iter()
            .flat_map(|part| {
                [most, round].into_iter().filter(move |whole| whole % part == 0).map(move |all| all / part)
            })
            .filter(|size| *size > 0)
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.dedup();
        sizes
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The model.
    pub shape: Architecture,
    /// The format of its matrix products.
    pub products: Format,
    /// What it runs on.
    pub machine: Machine,
    /// What of the machine's data sheets a training reaches.
    pub profile: pretraining::Profile,
    /// What its accelerators draw.
    pub power: power::Profile,
    /// What an accelerator costs for an hour.
    pub price: Option<UsdPerHour>,
    /// Accelerators.
    pub accelerators: Amount,
    /// Tokens of one sequence.
    pub sequence: Tokens,
    /// Tokens of one step, over all replicas.
    pub batch: Tokens,
    /// Tokens of the run.
    pub tokens: Tokens,
    /// What is to be least.
    pub objective: Objective,
    /// What may be chosen.
    pub choices: Choices,
}

/// A layout with what it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Accelerators.
    pub accelerators: u64,
    /// The layout.
    pub layout: Layout,
    /// One step.
    pub step: Step,
    /// Memory that the fullest accelerator cannot do without.
    pub needed: Bytes,
    /// Time of the run without interruptions.
    pub time: Seconds,
    /// What one accelerator draws on average, if it is known.
    pub power: Option<Watts>,
    /// What the accelerators cost for that time, if their price is known.
    pub cost: Option<Usd>,
    /// What the accelerators draw in that time, if their power is known.
    pub energy: Option<Joules>,
}

/// The layout that came nearest to fitting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Accelerators.
    pub accelerators: u64,
    /// The layout.
    pub layout: Layout,
    /// Memory that its fullest accelerator cannot do without.
    pub needed: Bytes,
    /// What of it an accelerator lacks.
    pub missing: Bytes,
}

/// What became of the layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Combinations of choices whose degrees multiply to a number of accelerators that is tried: the sum of the others.
    pub enumerated: u64,
    /// Broke a rule of division, were another's double, or cannot run on the machine.
    pub impossible: u64,
    /// Did not fit.
    pub out_of_memory: u64,
    /// Could be neither on the front nor among the best, by their bound.
    pub bounded: u64,
    /// Were estimated.
    pub evaluated: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.enumerated += other.enumerated;
        self.impossible += other.impossible;
        self.out_of_memory += other.out_of_memory;
        self.bounded += other.bounded;
        self.evaluated += other.evaluated;
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The best by the objective; none if nothing fits.
    pub best: Option<Candidate>,
    /// The best of each other choice of degrees, the best first; at most [`RUNNERS_UP`].
    pub runners_up: Vec<Candidate>,
    /// What no other beats in time, cost and energy at once, the fastest first.
    pub front: Vec<Candidate>,
    /// What came nearest to fitting, if nothing fits.
    pub nearest: Option<Nearest>,
    /// What became of all layouts.
    pub tally: Tally,
    /// Why the first layout that the model refused was refused.
    pub refused: Option<Error>,
}

/// A part of the space: degrees that decide what an accelerator computes of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Branch {
    accelerators: u64,
    tp: u64,
    cp: u64,
    ep: u64,
    etp: u64,
    /// No run of it takes less.
    least: f64,
}

/// A search that can begin.
#[derive(Debug, Clone)]
pub struct Search {
    question: Question,
    /// The most promising first.
    branches: Vec<Branch>,
}

impl Search {
    /// Prepares the search.
    /// # Errors
    /// [`Error::Work`] if a figure of the question is zero or the model cannot be, [`Error::Impossible`] if the accelerator lacks
    /// the format.
    pub fn new(question: Question) -> Result<Self, Error> {
        for (figure, value) in [
            ("accelerators", question.accelerators.most()),
            ("sequence", question.sequence.0),
            ("batch", question.batch.0),
            ("tokens", question.tokens.0),
        ] {
            if value == 0 {
                return Err(Error::Work { figure, value: 0.0, expected: "at least 1" });
            }
        }
        Layout { sequence: question.sequence.0, ..Layout::default() }.check(&question.shape)?;
        if question.machine.accelerator.peak(question.products).is_none() {
            return Err(Error::Impossible("the accelerator has no matrix products of this format"));
        }
        let mut search = Self { question, branches: Vec::new() };
        search.branches = search.all_branches();
        Ok(search)
    }

    /// What is asked.
    pub const fn question(&self) -> &Question {
        &self.question
    }

    fn all_branches(&self) -> Vec<Branch> {
        let Question { choices, accelerators, .. } = &self.question;
        let mut branches = Vec::new();
        for size in accelerators.sizes() {
            for &tp in &choices.tp {
                for &cp in &choices.cp {
                    for &ep in &choices.ep {
                        for &etp in choices.etp.iter().filter(|etp| **etp == 1 || **etp == tp) {
                            if size % (tp * cp) != 0 {
                                continue;
                            }
                            let branch = Branch { accelerators: size, tp, cp, ep, etp, least: 0.0 };
                            let least = share::least(self, &branch);
                            branches.push(Branch { least, ..branch });
                        }
                    }
                }
            }
        }
        // Stable, so that equal ones stay in the order of the choices.
        branches.sort_by(|a, b| a.least.total_cmp(&b.least));
        branches
    }

    /// The work in `count` shares, at least one, each with its part of the promising and of the others.
    pub fn shares(&self, count: usize) -> Vec<Share<'_>> {
        let count = count.clamp(1, self.branches.len().max(1));
        (0..count).map(|first| Share::new(self, first, count)).collect()
    }

    /// The answer, from what all shares found.
    pub fn merge(&self, partials: impl IntoIterator<Item = Partial>) -> Found {
        let mut all = Partial::default();
        for partial in partials {
            all.join(partial, self.question.objective);
        }
        all.finish()
    }

    /// The answer, share after share; `progress` is told what is done so far.
    pub fn run(&self, progress: &mut dyn FnMut(Tally)) -> Found {
        let mut done = Tally::default();
        let mut partials = Vec::new();
        for share in self.shares(SHARES) {
            partials.push(share.run(&mut |more| {
                done += more;
                progress(done);
            }));
        }
        self.merge(partials)
    }
}

impl Question {
    /// What `layout` takes of memory and, if it fits, of time, money and energy.
    /// # Errors
    /// [`Error::Work`] if the layout cannot be; see [`pretraining::step`].
    pub fn candidate(&self, layout: Layout) -> Result<Candidate, Error> {
        let work = Work { shape: &self.shape, layout: &layout, products: self.products };
        let step = pretraining::step(&work, &self.machine, &self.profile)?;
        let accelerators = layout.accelerators();
        let time = step.time * (self.tokens.as_f64() / step.tokens);
        let power = power::draw(&self.machine.accelerator, step.activity, &self.power).ok().map(|draw| draw.power);
        let each = real(accelerators);
        Ok(Candidate {
            accelerators,
            layout,
            needed: crate::memory::needed(&self.shape, &layout, OVERHEADS),
            time,
            power,
            cost: self.price.map(|price| price * time * each),
            energy: power.map(|power| power * time * each),
            step,
        })
    }

    /// Memory of an accelerator.
    pub(crate) const fn capacity(&self) -> Bytes {
        self.machine.accelerator.memory
    }

    /// Steps of the run.
    pub fn steps(&self, step: &Step) -> u64 {
        whole((self.tokens.as_f64() / step.tokens).ceil()).max(1)
    }
}

/// What a process takes besides the model.
pub const OVERHEADS: Overheads = Overheads::DEVICE;

#[cfg(test)]
mod tests;
