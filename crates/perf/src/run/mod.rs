//! From one step to a run: days, energy and dollars.
//!
//! ```text
//! step'  = step x slowest of n + exposed reading of its data
//! work   = tokens / tokens of a step x step'
//! wall   = work / ETTR(checkpoints, interruptions)
//! ```
//!
//! Energy is the accelerators' at work while they work and at rest for the remaining time, with what their node and the site add.
//! Rates of failures come in as arguments: the model of failures knows them, and its ETTR is the same formula.
//!
//! Invariant: pure; a longer step, more tokens, slower stores or more frequent interruptions never make a run shorter.

pub mod checkpoint;
pub mod interruptions;
mod stragglers;
#[cfg(test)]
mod tests;

use dh_units::{Bytes, BytesPerSec, Joules, Seconds, Usd, Watts, real, whole};

use crate::error::{Error, above_zero};
use crate::hardware::Accelerator;
use crate::loading::exposed_reading;
use crate::power::{self, Activity};

pub use interruptions::{Failures, Kept};
pub use stragglers::{SPREAD, Stragglers, slowest};

/// Bytes of a stored token: 4, an index of 32 bits, as most loaders of tokenised text write them.
pub const TOKEN_BYTES: f64 = 4.0;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Tokens to train on.
    pub tokens: f64,
    /// Tokens of a step, all replicas.
    pub tokens_per_step: f64,
    /// A step on accelerators that are all alike, its data at hand.
    pub step: Seconds,
    /// Accelerators.
    pub accelerators: u64,
    /// How unlike they are; `None` where the step was measured with its slowest.
    pub stragglers: Option<Stragglers>,
    /// Where its data comes from; `None` for data at hand.
    pub reading: Option<Reading>,
    /// How it is saved; `None` for never.
    pub checkpoint: Option<Checkpoint>,
    /// How often it is interrupted; `None` for never.
    pub failures: Option<Failures>,
    /// What it draws; `None` if nobody asks.
    pub power: Option<Power>,
    /// What it costs; `None` if nobody asks.
    pub prices: Option<Prices>,
}

/// Where data comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Stored bytes of a token; see [`TOKEN_BYTES`].
    pub bytes_per_token: f64,
    /// What the store gives this run.
    pub bandwidth: BytesPerSec,
}

/// How a run is saved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// What is written; see [`checkpoint::size`].
    pub size: Bytes,
    /// Where it goes.
    pub store: checkpoint::Store,
    /// Whether the work waits for it.
    pub save: checkpoint::Save,
    /// Work between two; left out, the interval that keeps most, or none where nothing fails.
    pub interval: Option<Seconds>,
}

/// What one accelerator draws, and what is drawn for its sake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// At work.
    pub at_work: Watts,
    /// At rest: during checkpoints and restarts, and while it waits for data.
    pub at_rest: Watts,
    /// Its part of processors, memory, network cards and fans of its node.
    pub node: Watts,
    /// What the site draws over what its machines draw, at least 1.
    pub pue: f64,
}

impl Power {
    /// What `accelerator` draws at `activity` and doing nothing.
    /// # Errors
    /// If its thermal design power is not known.
    pub fn of(
        accelerator: &Accelerator,
        activity: Activity,
        profile: &power::Profile,
        node: Watts,
        pue: f64,
    ) -> Result<Self, Error> {
        let at_work = power::draw(accelerator, activity, profile)?.power;
        let at_rest = power::draw(accelerator, Activity::default(), profile)?.power;
        Ok(Self { at_work, at_rest, node, pue })
    }
}

/// What a run is charged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// One accelerator for an hour, with its part of everything else.
    pub accelerator_hour: Usd,
    /// A kilowatt hour, where it is charged beside that.
    pub kilowatt_hour: Usd,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Steps.
    pub steps: u64,
    /// A step with its slowest accelerator and the data that it waits for.
    pub step: Seconds,
    /// What each step waits for data.
    pub exposed_reading: Seconds,
    /// How much longer a step takes for its slowest accelerator; at least 1.
    pub straggling: f64,
    /// The times of a checkpoint, if any is taken.
    pub checkpoint: Option<checkpoint::Times>,
    /// What interruptions and checkpoints leave.
    pub kept: Kept,
    /// From start to end.
    pub wall: Seconds,
    /// Share of `wall` that undisturbed steps would have taken: above 0, at most 1.
    pub goodput: f64,
    /// Tokens a second over `wall`.
    pub tokens_per_second: f64,
    /// Interruptions to expect.
    pub interruptions: f64,
    /// Drawn by the site for the run.
    pub energy: Option<Joules>,
    /// What the run costs.
    pub dollars: Option<Usd>,
}

impl Outlook {
    /// `wall` in days.
    pub fn days(&self) -> f64 {
        self.wall.0 / 86_400.0
    }

    /// What a million tokens cost.
    pub fn dollars_per_million_tokens(&self) -> Option<Usd> {
        self.dollars.map(|dollars| Usd(dollars.0 / (self.tokens_per_second * self.wall.0) * 1e6))
    }

    /// What a token costs in energy.
    pub fn joules_per_token(&self) -> Option<Joules> {
        self.energy.map(|energy| Joules(energy.0 / (self.tokens_per_second * self.wall.0)))
    }
}

/// How `run` goes.
/// # Errors
/// [`Error::Work`] and [`Error::Profile`] for figures that cannot be, [`Error::Impossible`] for a run that never ends.
pub fn outlook(run: &Run) -> Result<Outlook, Error> {
    let step = above_zero("step", run.step.0)?;
    let tokens = above_zero("tokens", run.tokens)?;
    let tokens_per_step = above_zero("tokens_per_step", run.tokens_per_step)?;
    if run.accelerators == 0 {
        return Err(Error::Work { figure: "accelerators", value: 0.0, expected: "at least 1" });
    }
    let straggling = run.stragglers.map_or(1.0, |stragglers| stragglers.factor(run.accelerators));
    let busy = step * straggling;
    let waited = match run.reading {
        None => Seconds(0.0),
        Some(Reading { bytes_per_token, bandwidth }) => {
            above_zero("reading bandwidth", bandwidth.0)?;
            exposed_reading(Bytes(whole(bytes_per_token * tokens_per_step)), bandwidth, Seconds(busy))
        }
    };
    let one = busy + waited.0;
    let count = (tokens / tokens_per_step).ceil();
    let times = match run.checkpoint {
        None => None,
        Some(Checkpoint { size, store, save, .. }) => Some(checkpoint::times(size, &store, save)?),
    };
    let interval = run.checkpoint.and_then(|checkpoint| checkpoint.interval);
    let kept = interruptions::kept(run.failures.as_ref(), times.as_ref(), interval)?;
    let wall = count * one / kept.ettr;
    // Time at work is counted with what is lost: an interrupted run draws its power for that too. What stands still is the
    // waiting for data, checkpoints and restarts.
    let work = wall * (busy / one) * at_work(run.failures.as_ref(), times.as_ref(), &kept);
    let hours = wall / 3600.0 * real(run.accelerators);
    let energy = run.power.map(|power| {
        let accelerators = power.at_work.0 * work + power.at_rest.0 * (wall - work) + power.node.0 * wall;
        Joules(accelerators * real(run.accelerators) * power.pue.max(1.0))
    });
    let dollars = run.prices.map(|prices| {
        let electricity = energy.map_or(0.0, |energy| energy.0 / 3.6e6 * prices.kilowatt_hour.0);
        Usd(prices.accelerator_hour.0 * hours + electricity)
    });
    Ok(Outlook {
        steps: whole(count),
        step: Seconds(one),
        exposed_reading: waited,
        straggling,
        checkpoint: times,
        kept,
        wall: Seconds(wall),
        goodput: count * step / wall,
        tokens_per_second: count * tokens_per_step / wall,
        interruptions: run.failures.map_or(0.0, |failures| wall / failures.mtbf.0),
        energy,
        dollars,
    })
}

/// The share of a run's time in which steps run, kept or lost: all but checkpoints and restarts.
fn at_work(failures: Option<&Failures>, times: Option<&checkpoint::Times>, kept: &Kept) -> f64 {
    let stall = times.map_or(0.0, |times| times.stall.0);
    // Time of a checkpoint for each time of work, kept.
    let stalls = kept.interval.map_or(0.0, |work| if work.0 > 0.0 { stall / work.0 * kept.ettr } else { 0.0 });
    let restarts = failures.map_or(0.0, |failures| failures.restart.0 / failures.mtbf.0);
    (1.0 - stalls - restarts).clamp(kept.ettr, 1.0)
}
