//! The best way to serve a model under its targets: layout, replicas, and what they cost in accelerators, energy and money.
//!
//! Every layout that memory has room for is loaded as far as the targets allow (`capacity`); a rate then needs the rate over
//! that many replicas, and the layout with the fewest accelerators is chosen. Prompts and answers may be served by replicas of
//! their own (`split`), whose ratio follows from both sides' capacities. Invariant: pure and deterministic, ties go to the
//! layout with more headroom and then to the smaller degrees; a higher rate, a stricter target and less memory never need
//! fewer accelerators. Cost: some dozens of estimates for each layout. Sources: Little 1961 (requests in flight = rate x time);
//! Zhong et al. 2024 (`DistServe`, two sides sized by their own capacities).

mod capacity;
mod front;
mod queue;
mod space;
mod speeds;
mod split;
#[cfg(test)]
mod tests;
mod worth;

use dh_units::{Bytes, Joules, Seconds, Usd, real, whole};

use crate::architecture::Architecture;
use crate::error::Error;
use crate::hardware::{Format, Machine};
use crate::serving::{Profile, Within};
use capacity::Replica;

pub use speeds::{Speed, speeds};
pub use worth::Worth;

/// What is asked of all replicas together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Requests a second; none to fill the replicas that there are.
    pub rate: Option<f64>,
    /// Tokens of a prompt.
    pub input: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Share of a prompt's tokens whose keys and values are cached from before.
    pub prefix_hit: f64,
    /// Tokens accepted per step of speculative decoding; 1 without it.
    pub accepted: f64,
    /// The time to the first token that 99 of 100 requests must keep.
    pub ttft: Option<Seconds>,
    /// The time per further token that 99 of 100 requests must keep.
    pub tpot: Option<Seconds>,
}

/// What weights and cache are kept in, and what products are computed in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Formats {
    /// Of matrix products.
    pub products: Format,
    /// Bytes of a weight, scales included.
    pub weight_bytes: f64,
    /// Bytes of an element of the cache.
    pub cache_bytes: f64,
}

/// How one replica is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Degrees {
    /// Pipeline stages.
    pub pp: u64,
    /// Tensor parallelism.
    pub tp: u64,
    /// Accelerators of a stage that whole experts are dealt to; 1 splits each expert by `tp`.
    pub ep: u64,
    /// Replicas of attention that share experts.
    pub attention_replicas: u64,
}

impl Degrees {
    /// Accelerators of one replica.
    pub const fn accelerators(self) -> u64 {
        self.tp.saturating_mul(self.pp).saturating_mul(self.attention_replicas)
    }
}

/// Whether prompts are read on replicas of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// No.
    Never,
    /// Where that needs fewer accelerators.
    IfFewer,
    /// Yes.
    Always,
}

/// What may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Formats, the preferred first.
    pub formats: Vec<Formats>,
    /// The only layout, if there is to be only one.
    pub degrees: Option<Degrees>,
    /// Accelerators of a replica, if they are given.
    pub size: Option<u64>,
    /// Replicas, if they are given.
    pub replicas: Option<u64>,
    /// The most accelerators of a replica; [`Answer::reach`] is for so many together.
    pub accelerators: u64,
    /// Accelerators of one node, which is the most that tensor parallelism spans.
    pub node: u64,
    /// One side or two.
    pub split: Split,
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The model.
    pub shape: &'a Architecture,
    /// Accelerators and what joins them.
    pub machine: &'a Machine,
    /// What of them is reached.
    pub profile: &'a Profile,
    /// The engine, as profiles name it; empty is any.
    pub engine: &'a str,
    /// What is asked.
    pub demand: Demand,
    /// What may be chosen.
    pub space: &'a Space,
    /// What it costs.
    pub worth: &'a Worth,
}

/// The side that reads prompts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prefill {
    /// How one of its replicas is laid out.
    pub degrees: Degrees,
    /// Replicas.
    pub replicas: u64,
    /// Time to send the cache of one prompt to the side that answers.
    pub transfer: Seconds,
}

/// A way to serve.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// How a replica is laid out; with two sides, one that answers.
    pub degrees: Degrees,
    /// Formats.
    pub formats: Formats,
    /// Replicas; with two sides, those that answer.
    pub replicas: u64,
    /// The side that reads prompts, where it has replicas of its own.
    pub prefill: Option<Prefill>,
    /// Accelerators of all of it.
    pub accelerators: u64,
    /// Requests that one replica answers at once.
    pub concurrency: f64,
    /// Requests a second of all replicas.
    pub rate: f64,
    /// Requests a second that all replicas can serve within the targets.
    pub capacity: f64,
    /// Until the first token, in the mean.
    pub ttft: Within,
    /// Per further token, in the mean.
    pub tpot: Within,
    /// Until the first token, for 99 of 100 requests.
    pub ttft_99: Seconds,
    /// Per further token, for 99 of 100 requests.
    pub tpot_99: Seconds,
    /// Generated tokens a second of all replicas.
    pub tokens_per_second: f64,
    /// Energy of a million generated tokens, with that of nodes and building; none where the accelerator's power is not known.
    pub energy: Option<Joules>,
    /// Price of a million generated tokens; none without a price of an accelerator-hour.
    pub cost: Option<Usd>,
    /// Whether it keeps the targets.
    pub keeps: bool,
    /// Why no published run is like this; empty inside the calibrated range.
    pub outside: Vec<&'static str>,
}

/// Why there is no way to serve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Obstacle {
    /// No layout that is allowed can be.
    NoLayout,
    /// Weights and the cache of one request do not fit.
    Memory {
        /// The layout that lacks least.
        degrees: Degrees,
        /// What it needs of each accelerator.
        needed: Bytes,
        /// What there is for it.
        available: Bytes,
    },
    /// Even hardly loaded, a target is missed.
    Slow {
        /// The layout that is nearest to the targets.
        degrees: Degrees,
        /// Its time to the first token, for 99 of 100 requests.
        ttft_99: Seconds,
        /// Its time per further token, for 99 of 100 requests.
        tpot_99: Seconds,
    },
    /// The given replicas serve less than the rate.
    Replicas {
        /// The most requests a second that they can serve.
        most: f64,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The way with the fewest accelerators that keeps the targets, be they more than there are; else why there is none.
    pub best: Result<Choice, Obstacle>,
    /// The next best of another layout.
    pub runner_up: Option<Choice>,
    /// Ways that none other beats in accelerators for its tokens, both times and energy, the cheapest first; of those that
    /// need no more than [`Space::accelerators`].
    pub front: Vec<Choice>,
    /// The most requests a second that [`Space::accelerators`] can serve within the targets.
    pub reach: f64,
    /// Layouts that were tried, times formats.
    pub tried: u64,
}

/// Replicas and the rate that each of them can serve, of one layout.
#[derive(Debug, Clone, Copy)]
struct Sized {
    replicas: u64,
    each: f64,
}

/// The best way to serve `case`.
/// # Errors
/// [`Error::Work`] if the demand is no demand: a rate, a length or a target that is not above zero.
pub fn search(case: &Case<'_>) -> Result<Answer, Error> {
    check(&case.demand)?;
    let mut found = Found::default();
    for formats in &case.space.formats {
        for degrees in space::layouts(case) {
            found.tried += 1;
            let Some((needed, available)) = capacity::memory(case, degrees, *formats, 1) else { continue };
            if needed > available {
                found.lacking(degrees, needed, available);
                continue;
            }
            if let Some(replica) = Replica::new(case, degrees, *formats) {
                found.add(case, &replica);
            }
        }
        if case.space.split != Split::Never {
            found.apart(case, *formats);
        }
    }
    Ok(found.answer(case))
}

/// What is collected on the way.
#[derive(Debug, Default)]
struct Found {
    tried: u64,
    kept: Vec<Choice>,
    points: Vec<Choice>,
    reach: f64,
    most: f64,
    memory: Option<(Degrees, Bytes, Bytes)>,
    slow: Option<(f64, Degrees, Seconds, Seconds)>,
}

impl Found {
    fn lacking(&mut self, degrees: Degrees, needed: Bytes, available: Bytes) {
        let less = |(_, least, _): &(Degrees, Bytes, Bytes)| needed < *least;
        if self.memory.as_ref().is_none_or(less) {
            self.memory = Some((degrees, needed, available));
        }
    }

    /// One side: prompts and answers on the same replicas.
    fn add(&mut self, case: &Case<'_>, replica: &Replica<'_>) {
        let targets = &case.demand;
        let Some(quiet) = replica.at(0) else { return };
        let over = (quiet.ttft_99.0 / targets.ttft.map_or(f64::INFINITY, |most| most.0))
            .max(quiet.tpot_99.0 / targets.tpot.map_or(f64::INFINITY, |most| most.0));
        if self.slow.as_ref().is_none_or(|(least, ..)| over < *least) {
            self.slow = Some((over, replica.degrees, quiet.ttft_99, quiet.tpot_99));
        }
        let size = replica.degrees.accelerators();
        let within = replica.most(targets.ttft, targets.tpot);
        if let Some(sized) = within.map(|(_, each)| sized(case, each)) {
            let room = case.space.accelerators / size.max(1);
            let able = case.space.replicas.map_or(room, |replicas| replicas.min(room));
            self.reach = self.reach.max(real(able) * sized.each);
            self.most = self.most.max(real(sized.replicas) * sized.each);
            // Replicas that are given may be too few.
            if case.demand.rate.is_none_or(|rate| real(sized.replicas) * sized.each >= rate)
                && let Some(choice) = replica.choice(sized)
            {
                if case.space.split != Split::Always {
                    self.kept.push(choice.clone());
                }
                self.points.push(choice);
            }
        }
        front::around(case, replica, within, &mut self.points);
    }

    /// Two sides.
    fn apart(&mut self, case: &Case<'_>, formats: Formats) {
        let (mut ways, reach) = split::ways(case, formats);
        self.reach = self.reach.max(reach);
        for way in &ways {
            self.most = self.most.max(way.capacity);
        }
        self.kept.extend(ways.first().cloned());
        self.points.append(&mut ways);
    }

    fn answer(mut self, case: &Case<'_>) -> Answer {
        self.kept.sort_by(|a, b| better(case, a, b));
        let mut kept = self.kept.into_iter();
        let best = kept.next();
        let runner_up = best.as_ref().and_then(|best| {
            kept.find(|other| other.degrees != best.degrees || other.prefill.is_some() != best.prefill.is_some())
        });
        let best = best.ok_or(match (self.slow, self.memory) {
            (Some(_), _) if self.most > 0.0 => Obstacle::Replicas { most: self.most },
            (Some((_, degrees, ttft_99, tpot_99)), _) => Obstacle::Slow { degrees, ttft_99, tpot_99 },
            (None, Some((degrees, needed, available))) => Obstacle::Memory { degrees, needed, available },
            (None, None) => Obstacle::NoLayout,
        });
        self.points.retain(|way| way.accelerators <= case.space.accelerators);
        Answer { best, runner_up, front: front::pareto(self.points), reach: self.reach, tried: self.tried }
    }
}

/// Replicas of a layout that can serve `each` requests a second.
fn sized(case: &Case<'_>, each: f64) -> Sized {
    let wanted = |rate: f64| whole((rate / each).ceil()).max(1);
    Sized { replicas: case.space.replicas.unwrap_or_else(|| case.demand.rate.map_or(1, wanted)), each }
}

/// Which of two ways is to be preferred: with a rate the one with fewer accelerators, without one that with fewer for its
/// tokens; then one side before two, more headroom, a shorter time per token, smaller degrees.
fn better(case: &Case<'_>, a: &Choice, b: &Choice) -> std::cmp::Ordering {
    let each = |way: &Choice| real(way.accelerators) / way.tokens_per_second.max(f64::MIN_POSITIVE);
    let first = match case.demand.rate {
        Some(_) => a.accelerators.cmp(&b.accelerators),
        None => each(a).total_cmp(&each(b)).then(a.accelerators.cmp(&b.accelerators)),
    };
    first
        .then(a.prefill.is_some().cmp(&b.prefill.is_some()))
        .then(b.capacity.total_cmp(&a.capacity))
        .then(a.tpot_99.0.total_cmp(&b.tpot_99.0))
        .then(a.degrees.cmp(&b.degrees))
}

fn check(demand: &Demand) -> Result<(), Error> {
    let target = |time: Option<Seconds>| time.map_or(1.0, |time| time.0);
    for (figure, value) in [
        ("requests_per_second", demand.rate.unwrap_or(1.0)),
        ("input_tokens", demand.input),
        ("output_tokens", demand.output),
        ("accepted_tokens", demand.accepted),
        ("ttft_p99", target(demand.ttft)),
        ("tpot_p99", target(demand.tpot)),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(Error::Work { figure, value, expected: "a number above 0" });
        }
    }
    let share = demand.prefix_hit;
    if (0.0..1.0).contains(&share) {
        Ok(())
    } else {
        Err(Error::Work { figure: "prefix_hit", value: share, expected: "a share from 0 to below 1" })
    }
}
