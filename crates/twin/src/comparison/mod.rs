//! Policies side by side over several seeds.
//!
//! A seed is the same chance for every policy (common random numbers): the same jobs, the same failures. So policies are
//! compared seed by seed, and the interval is that of the differences, which is far narrower than that of the figures.
//! Invariant: order of policies and seeds is that of the caller; equal runs give an equal comparison.
//! Source: Law, "Simulation Modeling and Analysis", chapters 9 to 11 (paired t interval, common random numbers).

mod figures;
mod student;
mod table;

pub(crate) use figures::grouped;
pub use figures::{Better, FIGURES, Figure, Unit};
pub use student::t_975;
pub use table::Table;

use dh_units::real;
use serde::Serialize;

use crate::measure::Outcome;

/// All runs of one policy.
#[derive(Debug, Clone)]
pub struct Runs {
    /// The policy.
    pub policy: String,
    /// Seeds, and what each gave.
    pub outcomes: Vec<(u64, Outcome)>,
}

/// A mean with the interval that holds the true one 95 times in 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean over the seeds.
    pub mean: f64,
    /// The interval is `mean - half_width ..= mean + half_width`; none with one seed, which shows no spread.
    pub half_width: Option<f64>,
    /// How many seeds have the figure.
    pub seeds: u64,
}

impl Estimate {
    /// Of `values`; none where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let seeds = u64::try_from(values.len()).ok().filter(|seeds| *seeds > 0)?;
        let mean = values.iter().sum::<f64>() / real(seeds);
        let half_width = (seeds > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            t_975(seeds - 1) * (squares / real(seeds - 1) / real(seeds)).sqrt()
        });
        Some(Self { mean, half_width, seeds })
    }

    /// Smallest and largest of the interval; the mean twice where there is none.
    pub fn interval(&self) -> (f64, f64) {
        let half = self.half_width.unwrap_or(0.0);
        (self.mean - half, self.mean + half)
    }
}

/// What the seeds can say about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better than the first policy: the whole interval is on the good side.
    Better,
    /// Worse.
    Worse,
    /// No difference that these seeds can show: the interval holds zero.
    NoDifferenceShown,
    /// The same on every seed, to the last digit.
    Same,
    /// Not to be said from one seed.
    OneSeed,
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::NoDifferenceShown => "no difference that these seeds can show",
            Self::Same => "the same on every seed",
            Self::OneSeed => "one seed shows no interval",
        }
    }
}

/// A policy against the first, seed by seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Its figure minus that of the first policy.
    pub difference: Estimate,
    /// By how much it is better, in percent of the first policy's mean on the same seeds; below 0 is worse. None where that
    /// mean is 0.
    pub better_pct: Option<Estimate>,
    /// What follows.
    pub verdict: Verdict,
}

/// One figure of one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The policy.
    pub policy: String,
    /// The figure; none where no run has it.
    pub estimate: Option<Estimate>,
    /// Against the first policy; none for the first itself, and where they share no seed.
    pub against_first: Option<Difference>,
}

/// One figure of every policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name, which is its place in [`Outcome`].
    pub figure: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// Which is better.
    pub better: Better,
    /// What it is counted in.
    pub unit: Unit,
    /// Policies in order.
    pub policies: Vec<Cell>,
}

/// Policies side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Their names.
    pub policies: Vec<String>,
    /// Seeds that occur, sorted.
    pub seeds: Vec<u64>,
    /// Figures that at least one run has.
    pub figures: Vec<Line>,
}

impl Comparison {
    /// Of `runs`, against the first of them.
    pub fn of(runs: &[Runs]) -> Self {
        let mut seeds: Vec<u64> = runs.iter().flat_map(|runs| runs.outcomes.iter().map(|(seed, _)| *seed)).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let line = |figure: &Figure| {
            let first = runs.first().map(|runs| values(figure, runs)).unwrap_or_default();
            let cell = |(place, runs): (usize, &Runs)| {
                let own = values(figure, runs);
                let against_first = if place == 0 { None } else { against(figure.better, &own, &first) };
                let only: Vec<f64> = own.iter().map(|(_, value)| *value).collect();
                Cell { policy: runs.policy.clone(), estimate: Estimate::of(&only), against_first }
            };
            Line {
                figure: figure.name,
                title: figure.title,
                better: figure.better,
                unit: figure.unit,
                policies: runs.iter().enumerate().map(cell).collect(),
            }
        };
        let known = |line: &Line| line.policies.iter().any(|cell| cell.estimate.is_some());
        Self {
            policies: runs.iter().map(|runs| runs.policy.clone()).collect(),
            seeds,
            figures: FIGURES.iter().map(line).filter(known).collect(),
        }
    }
}

/// The figure of each seed that has it.
fn values(figure: &Figure, runs: &Runs) -> Vec<(u64, f64)> {
    let finite = |value: &f64| value.is_finite();
    runs.outcomes.iter().filter_map(|(seed, outcome)| Some((*seed, (figure.of)(outcome).filter(finite)?))).collect()
}

fn against(better: Better, own: &[(u64, f64)], first: &[(u64, f64)]) -> Option<Difference> {
    let pair = |(seed, value): &(u64, f64)| {
        first.iter().find(|(other, _)| other == seed).map(|(_, base)| (*value - *base, *base))
    };
    let pairs: Vec<(f64, f64)> = own.iter().filter_map(pair).collect();
    let differences: Vec<f64> = pairs.iter().map(|(difference, _)| *difference).collect();
    let bases: Vec<f64> = pairs.iter().map(|(_, base)| *base).collect();
    let difference = Estimate::of(&differences)?;
    let base = Estimate::of(&bases)?.mean;
    let sign = match better {
        Better::Lower => -1.0,
        Better::Higher => 1.0,
    };
    let better_pct = (base.abs() > 0.0).then(|| Estimate {
        mean: sign * difference.mean / base.abs() * 100.0,
        half_width: difference.half_width.map(|half| half / base.abs() * 100.0),
        seeds: difference.seeds,
    });
    let (low, high) = difference.interval();
    let verdict = if differences.iter().all(|difference| *difference == 0.0) {
        Verdict::Same
    } else if difference.half_width.is_none() {
        Verdict::OneSeed
    } else if low <= 0.0 && high >= 0.0 {
        Verdict::NoDifferenceShown
    } else if (difference.mean * sign) > 0.0 {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    Some(Difference { difference, better_pct, verdict })
}
