//! Prompts and answers on replicas of their own.
//!
//! The side that reads prompts is a queue of prompts; the side that answers only decodes; the cache of a prompt travels from
//! one to the other. Each side is sized by itself for the rate, so that the ratio of the two is that of their capacities.
//! Invariant: a rate is served by the slower side. Source: Zhong et al. 2024 (`DistServe`) sections 3 and 4.

use dh_units::{Bytes, Seconds, real, whole};

use super::capacity::{layout, memory, serve};
use super::worth::{Worth, at_times};
use super::{Case, Choice, Degrees, Demand, Formats, Prefill, queue, space};
use crate::collectives::{Group, Kind, time};
use crate::serving::{Load, Steady, Within};

/// Rungs of how busy the side that reads prompts may be.
const BUSY_RUNGS: u64 = 64;

/// One replica of the side that reads prompts.
#[derive(Debug, Clone)]
struct Reader {
    degrees: Degrees,
    quiet: Steady,
    service: Seconds,
    transfer: Seconds,
    /// Prompts a second within the target.
    each: f64,
}

/// One replica of the side that answers.
#[derive(Debug, Clone)]
struct Answerer {
    degrees: Degrees,
    /// Answers a second within the target.
    each: f64,
}

/// Ways with two sides, the best first, and the most requests a second that the accelerators can serve so.
pub(super) fn ways(case: &Case<'_>, formats: Formats) -> (Vec<Choice>, f64) {
    let layouts = space::layouts(case);
    let readers: Vec<Reader> = layouts.iter().filter_map(|degrees| reader(case, *degrees, formats)).collect();
    let answerers: Vec<Answerer> = layouts.iter().filter_map(|degrees| answerer(case, *degrees, formats)).collect();
    let per_rate = |degrees: Degrees, each: f64| real(degrees.accelerators()) / each;
    // Without a rate both sides are as many as fill each other, so that what counts is accelerators for each request.
    let dearness = |degrees: Degrees, each: f64| match case.demand.rate {
        Some(rate) => real(degrees.accelerators()) * (rate / each).ceil().max(1.0),
        None => per_rate(degrees, each),
    };
    let best = readers.iter().min_by(|a, b| {
        dearness(a.degrees, a.each).total_cmp(&dearness(b.degrees, b.each)).then(a.degrees.cmp(&b.degrees))
    });
    let Some(reader) = best else { return (Vec::new(), 0.0) };
    let mut found: Vec<Choice> =
        answerers.iter().filter_map(|answerer| both(case, formats, reader, answerer)).collect();
    found.sort_by(|a, b| super::better(case, a, b));
    let reach =
        answerers.iter().flat_map(|answerer| readers.iter().map(move |reader| together(case, reader, answerer)));
    (found, reach.fold(0.0, f64::max))
}

/// The most requests a second that the accelerators serve with replicas of these two kinds.
fn together(case: &Case<'_>, reader: &Reader, answerer: &Answerer) -> f64 {
    let all = case.space.accelerators;
    let (reading, answering) = (reader.degrees.accelerators(), answerer.degrees.accelerators());
    // Both sides serve the same where readers are to answerers as the rate of one answerer to that of one reader.
    let balanced = real(all) / (real(reading) + real(answering) * reader.each / answerer.each);
    let served = |readers: u64| {
        let left = all.saturating_sub(readers.saturating_mul(reading)) / answering.max(1);
        let answerers = case.space.replicas.map_or(left, |given| given.min(left));
        let most = all / reading.max(1);
        (real(readers.min(most)) * reader.each).min(real(answerers) * answerer.each)
    };
    let below = whole(balanced.floor()).max(1);
    served(below).max(served(below + 1))
}

/// A replica that only reads prompts, as busy as the target allows; none if it cannot keep it.
fn reader(case: &Case<'_>, degrees: Degrees, formats: Formats) -> Option<Reader> {
    let (needed, there) = memory(case, degrees, formats, 1)?;
    if needed > there {
        return None;
    }
    let layout = layout(case, degrees, formats, 1);
    let load = |prefix_hit: f64| Load { prefix_hit, output: 1.0, ..alone(&case.demand) };
    let quiet = serve(case, degrees, formats, &layout, &load(case.demand.prefix_hit))?;
    let read = serve(case, degrees, formats, &layout, &load(1.0))?;
    let parallel = real(degrees.pp) * real(degrees.attention_replicas);
    let service = Seconds((quiet.ttft.value.0 - read.ttft.value.0).max(1e-6) / parallel);
    let transfer = transfer(case, degrees, formats)?;
    let keeps = |rung: u64| {
        let busy = real(rung) / real(BUSY_RUNGS);
        let ttft = quiet.ttft.value + queue::tail(service, busy) + transfer;
        ttft.0.is_finite() && case.demand.ttft.is_none_or(|most| ttft <= most)
    };
    let rung = super::capacity::last(BUSY_RUNGS, keeps).filter(|rung| *rung > 0)?;
    Some(Reader { degrees, quiet, service, transfer, each: real(rung) / real(BUSY_RUNGS) / service.0 })
}

/// The load of one request by itself.
fn alone(demand: &Demand) -> Load {
    Load {
        input: demand.input,
        output: demand.output,
        concurrency: 1.0,
        prefix_hit: demand.prefix_hit,
        accepted: demand.accepted,
    }
}

/// Time to send the cache of a prompt: each accelerator sends its part over its own port, to another node where there is a
/// network. None if nothing joins two accelerators.
fn transfer(case: &Case<'_>, degrees: Degrees, formats: Formats) -> Option<Seconds> {
    let layout = layout(case, degrees, formats, 1);
    let memory = crate::memory::inference(case.shape, &layout, crate::memory::Overheads::ALLOCATED).ok()?;
    let bytes = Bytes(whole(memory.cache_per_token.as_f64() * case.demand.input));
    let per_domain = if case.machine.fabric.scale_out.is_some() { 1 } else { 2 };
    let sent = time(Kind::SendReceive, bytes, Group { ranks: 2, per_domain }, &case.machine.fabric).ok()?;
    Some(sent.seconds)
}

/// One replica that only answers, at a rung of [`super::capacity`]: its estimate and its answers a second.
fn decoding(case: &Case<'_>, degrees: Degrees, formats: Formats, concurrency: f64) -> Option<(Steady, f64)> {
    let layout = layout(case, degrees, formats, 1);
    // All of a prompt comes from the other side, as if it had been cached.
    let load = Load { concurrency, prefix_hit: 1.0, ..alone(&case.demand) };
    let steady = serve(case, degrees, formats, &layout, &load)?;
    let rate = concurrency / (case.demand.output.max(1.0) * steady.tpot.value.0);
    Some((steady, rate))
}

/// A replica that only answers, as loaded as target and memory allow.
fn answerer(case: &Case<'_>, degrees: Degrees, formats: Formats) -> Option<Answerer> {
    let keeps = |level: u64| {
        super::capacity::holds(case, degrees, formats, level)
            && decoding(case, degrees, formats, super::capacity::in_flight(level))
                .is_some_and(|(steady, _)| case.demand.tpot.is_none_or(|most| steady.tpot.high <= most))
    };
    let level = super::capacity::last(super::capacity::HIGHEST, keeps)?;
    let (_, each) = decoding(case, degrees, formats, super::capacity::in_flight(level))?;
    Some(Answerer { degrees, each })
}

/// Both sides together, each with as many replicas as the rate needs.
fn both(case: &Case<'_>, formats: Formats, reader: &Reader, answerer: &Answerer) -> Option<Choice> {
    let given = case.space.replicas.unwrap_or(1);
    let rate = case.demand.rate.unwrap_or(real(given) * answerer.each);
    let needed = |each: f64| whole((rate / each).ceil()).max(1);
    let (readers, answerers) = match (case.demand.rate, case.space.replicas) {
        (Some(_), Some(given)) if needed(answerer.each) > given => return None,
        (_, Some(given)) => (needed(reader.each), given),
        (Some(_), None) => (needed(reader.each), needed(answerer.each)),
        (None, None) => (needed(reader.each), 1),
    };
    let each = rate / real(answerers);
    let below = super::capacity::last(super::capacity::HIGHEST, |level| {
        decoding(case, answerer.degrees, formats, super::capacity::in_flight(level))
            .is_some_and(|(_, rate)| rate < each)
    });
    let concurrency = super::capacity::in_flight(below.map_or(0, |level| level + 1));
    let (steady, reached) = decoding(case, answerer.degrees, formats, concurrency)?;
    let busy = rate / real(readers) * reader.service.0;
    let more = queue::mean(reader.service, busy) + reader.transfer;
    let add = |time: Seconds| time + more;
    let quiet = reader.quiet.ttft;
    let (reading, answering) =
        (reader.degrees.accelerators().checked_mul(readers)?, answerer.degrees.accelerators().checked_mul(answerers)?);
    let accelerators = reading.checked_add(answering)?;
    let tokens_per_second = rate * case.demand.output;
    let power = |activity, share, accelerators| {
        case.worth.power(&case.machine.accelerator, at_times(activity, share), accelerators)
    };
    let answering_share = each / reached * concurrency.min(1.0);
    let power = power(reader.quiet.activity, busy, reading)
        .zip(power(steady.activity, answering_share, answering))
        .map(|(one, other)| one + other);
    let ttft_99 = quiet.value + queue::tail(reader.service, busy) + reader.transfer;
    let tpot_99 = steady.tpot.high;
    let within = |time: Seconds, most: Option<Seconds>| most.is_none_or(|most| time <= most);
    let mut outside: Vec<&'static str> = reader.quiet.outside.clone();
    outside.push("prompts on replicas of their own");
    Some(Choice {
        degrees: answerer.degrees,
        formats,
        replicas: answerers,
        prefill: Some(Prefill { degrees: reader.degrees, replicas: readers, transfer: reader.transfer }),
        accelerators,
        concurrency,
        rate,
        capacity: (real(readers) * reader.each).min(real(answerers) * answerer.each),
        ttft: Within { value: add(quiet.value), low: add(quiet.low), high: add(quiet.high) },
        tpot: steady.tpot,
        ttft_99,
        tpot_99,
        tokens_per_second,
        energy: power.map(|power| Worth::energy(power, tokens_per_second)),
        cost: case.worth.cost(accelerators, tokens_per_second),
        keeps: within(ttft_99, case.demand.ttft) && within(tpot_99, case.demand.tpot),
        outside,
    })
}
