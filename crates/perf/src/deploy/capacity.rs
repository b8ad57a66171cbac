//! How many requests a second one replica serves within the targets, and how it does at a given rate.
//!
//! The load of a replica is its requests in flight, on a ladder of 64 rungs to the doubling; both times grow with it, so that the
//! highest rung within the targets is found by halving. The rate grows with it as a rule, but not where experts are dealt to
//! replicas of attention; an engine admits no more at once than serves best, so a rate is the best of all rungs below. What counts: the time per token at the high end of its interval, the time to the
//! first token with the wait of [`queue`], and memory for as many requests as there are at once for 99 % of the time.
//! Invariant: what is allowed under some targets and some memory is allowed under looser ones and more.

use dh_units::{Bytes, Seconds, real, whole};

use super::worth::{Worth, at_times};
use super::{Case, Choice, Degrees, Formats, Sized, queue};
use crate::memory::{Overheads, ServingLayout, inference};
use crate::serving::{Deployment, Load, Steady, steady};

/// Rungs to the doubling.
pub(super) const DOUBLING: u64 = 64;
/// The rung of one request in flight; the lowest is a sixteenth of one.
pub(super) const ONE: u64 = 4 * DOUBLING;
/// The highest rung: 16,384 requests in flight on one replica.
pub(super) const HIGHEST: u64 = ONE + 14 * DOUBLING;

/// What engines take of an accelerator's memory: the default of vLLM and `SGLang` is 0.9.
const USABLE: f64 = 0.9;
/// Contexts and communicators, see [`Overheads::DEVICE`], and at most this share of a small accelerator's memory (stated
/// assumption).
const CONTEXT_SHARE: f64 = 0.05;
/// Tokens of one pass: the default of vLLM, `SGLang` and TensorRT-LLM on accelerators of 80 GB.
const TOKENS_PER_PASS: u64 = 8_192;
/// Standard deviations of a normal distribution that 99 % lie below.
const NINETY_NINE: f64 = 2.326;

/// Requests in flight at rung `level`.
pub(super) fn in_flight(level: u64) -> f64 {
    ((real(level) - real(ONE)) / real(DOUBLING)).exp2()
}

/// Requests that are at once on a replica of attention with `mean` of them, 99 % of the time: arrivals at random make their
/// number a Poisson's (the queue M/G/infinity), whose deviation is the root of its mean.
fn at_once(mean: f64) -> u64 {
    whole((mean + NINETY_NINE * mean.sqrt()).ceil()).max(1)
}

/// The layout as the models of memory and of serving know it.
pub(super) fn layout(case: &Case<'_>, degrees: Degrees, formats: Formats, sequences: u64) -> ServingLayout {
    ServingLayout {
        tp: degrees.tp,
        pp: degrees.pp,
        ep: degrees.ep,
        sequences,
        context: whole(case.demand.input + case.demand.output),
        tokens_per_pass: TOKENS_PER_PASS,
        weight_bytes: formats.weight_bytes,
        cache_bytes: formats.cache_bytes,
    }
}

/// What `sequences` at their full length need of each accelerator, and what there is; none if the layout cannot be.
pub(super) fn memory(case: &Case<'_>, degrees: Degrees, formats: Formats, sequences: u64) -> Option<(Bytes, Bytes)> {
    let all = case.machine.accelerator.memory.as_f64();
    let context = Overheads::DEVICE.context.min(all * CONTEXT_SHARE);
    let overheads = Overheads { context, ..Overheads::ALLOCATED };
    let needed = inference(case.shape, &layout(case, degrees, formats, sequences), overheads).ok()?;
    Some((needed.total(), Bytes(whole(all * USABLE))))
}

/// Whether memory has room for the requests of rung `level`.
pub(super) fn holds(case: &Case<'_>, degrees: Degrees, formats: Formats, level: u64) -> bool {
    let each = in_flight(level) / real(degrees.attention_replicas);
    memory(case, degrees, formats, at_once(each)).is_some_and(|(needed, there)| needed <= there)
}

/// A replica of one layout.
#[derive(Debug)]
pub(super) struct Replica<'c> {
    case: &'c Case<'c>,
    pub(super) degrees: Degrees,
    pub(super) formats: Formats,
    layout: ServingLayout,
    /// Hardly loaded.
    quiet: Steady,
    /// How long its reading of a prompt keeps others from being read.
    pub(super) service: Seconds,
}

/// A replica at some load.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) concurrency: f64,
    pub(super) steady: Steady,
    /// Answers a second.
    pub(super) rate: f64,
    pub(super) ttft_99: Seconds,
    pub(super) tpot_99: Seconds,
}

impl<'c> Replica<'c> {
    /// The replica, if the model of serving knows its layout and formats.
    pub(super) fn new(case: &'c Case<'c>, degrees: Degrees, formats: Formats) -> Option<Self> {
        let layout = layout(case, degrees, formats, 1);
        let quiet = estimate(case, degrees, formats, &layout, Asked { level: 0, prefix_hit: case.demand.prefix_hit })?;
        let read = estimate(case, degrees, formats, &layout, Asked { level: 0, prefix_hit: 1.0 })?;
        // Stages read different prompts at once, and so do replicas of attention.
        let parallel = real(degrees.pp) * real(degrees.attention_replicas);
        let service = Seconds((quiet.ttft.value.0 - read.ttft.value.0).max(0.0) / parallel);
        Some(Self { case, degrees, formats, layout, quiet, service })
    }

    /// The replica at rung `level`.
    pub(super) fn at(&self, level: u64) -> Option<Point> {
        let case = self.case;
        let asked = Asked { level, prefix_hit: case.demand.prefix_hit };
        let steady = estimate(case, self.degrees, self.formats, &self.layout, asked)?;
        let concurrency = in_flight(level);
        // Little's law: requests in flight over the time that each of them stays.
        let stays = steady.ttft.value.0 + (case.demand.output - 1.0).max(0.0) * steady.tpot.value.0;
        let rate = concurrency / stays;
        let quiet = self.quiet.ttft.value;
        // The model of serving may know a wait of its own; the longer one counts.
        let known = queue::tail_of(Seconds((steady.ttft.value.0 - quiet.0).max(0.0)));
        let wait = Seconds(queue::tail(self.service, rate * self.service.0).0.max(known.0));
        Some(Point { concurrency, rate, ttft_99: quiet + wait, tpot_99: steady.tpot.high, steady })
    }

    /// Within memory and targets the rung of the highest rate, and that rate; none if even the lowest is not within them.
    pub(super) fn most(&self, ttft: Option<Seconds>, tpot: Option<Seconds>) -> Option<(u64, f64)> {
        let keeps = |level: u64| {
            holds(self.case, self.degrees, self.formats, level)
                && self.at(level).is_some_and(|point| keeps(&point, ttft, tpot) && point.rate > 0.0)
        };
        self.best(last(HIGHEST, keeps)?)
    }

    /// The rung of the highest rate up to rung `most`, the lowest of equal ones, and that rate.
    ///
    /// Only layouts with replicas of attention serve less under more load, but for thousandths; theirs are looked through from
    /// above, leaving out spans that cannot hold more: no request stays shorter where there are more.
    fn best(&self, most: u64) -> Option<(u64, f64)> {
        let mut best = (most, self.at(most)?.rate);
        if self.degrees.attention_replicas > 1 {
            let mut spans = vec![(0, most)];
            while let Some((low, high)) = spans.pop() {
                let rate = self.at(low)?.rate;
                if rate > best.1 || (low < best.0 && rate >= best.1) {
                    best = (low, rate);
                }
                if high - low > 1 && rate * in_flight(high - 1) / in_flight(low) >= best.1 {
                    let middle = u64::midpoint(low, high);
                    spans.extend([(low, middle), (middle, high)]);
                }
            }
        }
        Some(best)
    }

    /// So many replicas under the rate that is asked, or as full as targets allow.
    pub(super) fn choice(&self, sized: Sized) -> Option<Choice> {
        let each = self.case.demand.rate.map_or(sized.each, |rate| rate / real(sized.replicas));
        // The lowest rung that serves this rate; it is above the highest that does not.
        let below = last(HIGHEST, |level| self.at(level).is_some_and(|point| point.rate < each));
        self.loaded(sized, below.map_or(0, |level| level + 1), each)
    }

    /// So many replicas at rung `level`, each with `each` requests a second.
    pub(super) fn loaded(&self, sized: Sized, level: u64, each: f64) -> Option<Choice> {
        let case = self.case;
        let point = self.at(level)?;
        let accelerators = self.degrees.accelerators().checked_mul(sized.replicas)?;
        let rate = each * real(sized.replicas);
        let tokens_per_second = rate * case.demand.output;
        let activity = at_times(point.steady.activity, each / point.rate * point.concurrency.min(1.0));
        let power = case.worth.power(&case.machine.accelerator, activity, accelerators);
        Some(Choice {
            degrees: self.degrees,
            formats: self.formats,
            replicas: sized.replicas,
            prefill: None,
            accelerators,
            concurrency: point.concurrency,
            rate,
            capacity: sized.each * real(sized.replicas),
            ttft: point.steady.ttft,
            tpot: point.steady.tpot,
            ttft_99: point.ttft_99,
            tpot_99: point.tpot_99,
            tokens_per_second,
            energy: power.map(|power| Worth::energy(power, tokens_per_second)),
            cost: case.worth.cost(accelerators, tokens_per_second),
            keeps: keeps(&point, case.demand.ttft, case.demand.tpot),
            outside: point.steady.outside,
        })
    }
}

fn keeps(point: &Point, ttft: Option<Seconds>, tpot: Option<Seconds>) -> bool {
    let within = |time: Seconds, most: Option<Seconds>| time.0.is_finite() && most.is_none_or(|most| time <= most);
    within(point.ttft_99, ttft) && within(point.tpot_99, tpot)
}

/// The highest number up to `most` for which `holds`, if it holds for all below one that it holds for; none if not for 0.
///
/// The same numbers are asked whatever holds, so that what holds more often is never found lower.
pub(super) fn last(most: u64, holds: impl Fn(u64) -> bool) -> Option<u64> {
    if !holds(0) {
        return None;
    }
    let (mut fine, mut over) = (0, most + 1);
    while over - fine > 1 {
        let middle = u64::midpoint(fine, over);
        if holds(middle) {
            fine = middle;
        } else {
            over = middle;
        }
    }
    Some(fine)
}

/// What one estimate is asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    level: u64,
    prefix_hit: f64,
}

fn estimate(
    case: &Case<'_>,
    degrees: Degrees,
    formats: Formats,
    layout: &ServingLayout,
    asked: Asked,
) -> Option<Steady> {
    let load = Load {
        input: case.demand.input,
        output: case.demand.output,
        concurrency: in_flight(asked.level),
        prefix_hit: asked.prefix_hit,
        accepted: case.demand.accepted,
    };
    serve(case, degrees, formats, layout, &load)
}

/// The model of serving under `load`; none if it cannot be, or is no number.
pub(super) fn serve(
    case: &Case<'_>,
    degrees: Degrees,
    formats: Formats,
    layout: &ServingLayout,
    load: &Load,
) -> Option<Steady> {
    let deployment = Deployment {
        shape: case.shape,
        layout,
        attention_replicas: degrees.attention_replicas,
        products: formats.products,
        dense_bytes: layout.weight_bytes,
        engine: case.engine,
    };
    let found = steady(&deployment, load, case.machine, case.profile).ok()?;
    let good = |time: Seconds| time.0.is_finite() && time.0 >= 0.0;
    (good(found.ttft.value) && good(found.tpot.value) && found.tpot.value.0 > 0.0).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_has_one_request_where_it_says() {
        assert!((in_flight(ONE) - 1.0).abs() < 1e-12 && (in_flight(ONE + DOUBLING) - 2.0).abs() < 1e-12);
        assert!((in_flight(HIGHEST) - 16_384.0).abs() < 1e-6);
    }

    #[test]
    fn the_last_that_holds_is_found() {
        for most in 0..20 {
            for bound in 0..=most {
                assert_eq!(last(most, |number| number <= bound), Some(bound));
            }
            assert_eq!(last(most, |_| false), None);
        }
    }

    #[test]
    fn memory_is_kept_for_more_requests_than_the_mean() {
        assert_eq!([0.1, 1.0, 100.0].map(at_once), [1, 4, 124]);
    }
}
