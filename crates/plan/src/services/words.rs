//! What is said of services: layouts, what lost and why, what is missing and what would do.
//!
//! Invariant: each sentence has the figure that it rests on; nothing is searched that the blueprint rules out.

use dh_blueprint::{Service, WeightFormat};
use dh_perf::deploy::{Answer, Choice, Degrees, Obstacle, Space};
use dh_units::{Bytes, real, significant};

use super::case::Ready;

/// `tp 4`, `tp 8 x pp 2`, `tp 1, experts over 32`.
pub(super) fn degrees(degrees: Degrees) -> String {
    let part = |word: &str, degree: u64| if degree > 1 { format!("{word} {degree}") } else { String::new() };
    let Degrees { pp, tp, ep, attention_replicas } = degrees;
    format!("tp {tp}{}{}{}", part(" x pp", pp), part(" x dp", attention_replicas), part(", ep", ep))
}

/// The same with the other side, where there are two.
pub(super) fn layout(choice: &Choice) -> String {
    match choice.prefill {
        None => degrees(choice.degrees),
        Some(side) => format!(
            "{} x prefill ({}) : {} x decode ({})",
            side.replicas,
            degrees(side.degrees),
            choice.replicas,
            degrees(choice.degrees)
        ),
    }
}

/// Replicas and layout: `3 x tp 4`.
fn way(choice: &Choice) -> String {
    match choice.prefill {
        None => format!("{} x ({})", choice.replicas, degrees(choice.degrees)),
        Some(_) => layout(choice),
    }
}

fn percent(ratio: f64) -> String {
    format!("{} %", significant(ratio * 100.0))
}

/// The next best way and why it lost.
pub(super) fn runner_up(ready: &Ready, best: &Choice, other: &Choice) -> String {
    let text = way(other);
    if ready.demand.rate.is_some() && other.accelerators > best.accelerators {
        let more = other.accelerators - best.accelerators;
        return format!("{text} on {} accelerators, {more} more", other.accelerators);
    }
    let each = |choice: &Choice| real(choice.accelerators) / choice.tokens_per_second;
    if ready.demand.rate.is_none() && each(other) > each(best) * 1.000_5 {
        return format!("{text}, {} more accelerators for its tokens", percent(each(other) / each(best) - 1.0));
    }
    let on = format!("{text} on as many accelerators");
    if other.prefill.is_some() && best.prefill.is_none() {
        return format!("{on}, with a second kind of replica to keep");
    }
    if other.capacity < best.capacity * 0.999_5 {
        return format!("{on}, {} less headroom", percent(1.0 - other.capacity / best.capacity));
    }
    let slower = other.tpot_99.0 / best.tpot_99.0 - 1.0;
    if slower > 5e-4 {
        return format!("{on}, {} more time per token", percent(slower));
    }
    format!("{on}, as good; of equal ones that with fewer stages and smaller degrees is taken")
}

/// What the best way needs beyond what there is.
pub(super) fn too_many(ready: &Ready, best: &Choice, answer: &Answer, other: Option<&str>) -> Option<String> {
    let most = ready.space.accelerators;
    if best.accelerators <= most {
        return None;
    }
    let limit = if most < ready.pool_accelerators {
        format!("`max_accelerators` is {most}")
    } else {
        format!("pool `{}` has {most}", ready.pool)
    };
    let wanted = ready.demand.rate.map_or_else(String::new, |rate| format!(" for {} requests/s", significant(rate)));
    let reach = if answer.reach > 0.0 {
        format!("; {most} serve {} requests/s", significant(answer.reach))
    } else {
        String::new()
    };
    let other = other.map_or_else(String::new, |other| format!("; {other}"));
    Some(format!(
        "it needs {} accelerators ({}){wanted}, {} more than there are: {limit}{reach}{other}",
        best.accelerators,
        way(best),
        best.accelerators - most
    ))
}

/// Why there is no way, by how much, and what would do.
pub(super) fn missed(ready: &Ready, obstacle: &Obstacle, other: Option<&str>) -> String {
    let targets = |ttft: dh_units::Seconds, tpot: dh_units::Seconds| {
        let mut missed = Vec::new();
        if let Some(most) = ready.demand.ttft.filter(|most| ttft > *most) {
            missed.push(format!("{ttft} until the first token where {most} is asked"));
        }
        if let Some(most) = ready.demand.tpot.filter(|most| tpot > *most) {
            missed.push(format!("{tpot} per token where {most} is asked"));
        }
        missed.join(" and ")
    };
    let (why, cure) = match obstacle {
        Obstacle::NoLayout => {
            ("no layout that is allowed can be cut from the model and the pool".to_owned(), pool_cure(ready))
        }
        Obstacle::Memory { degrees: over, needed, available } => {
            let lacks = Bytes(needed.0.saturating_sub(available.0));
            let why = format!(
                "weights and the cache of one request need {needed} of each accelerator ({}), {lacks} more than the {available} that an engine takes of {}",
                degrees(*over),
                ready.machine.accelerator.name
            );
            (why, pool_cure(ready))
        }
        Obstacle::Slow { degrees: over, ttft_99, tpot_99 } => {
            let why = format!(
                "even hardly loaded, the nearest layout ({}) has for 99 of 100 requests {}",
                degrees(*over),
                targets(*ttft_99, *tpot_99)
            );
            (why, None)
        }
        Obstacle::Replicas { most } => {
            let wanted = ready.demand.rate.map_or_else(String::new, significant);
            let given = ready.space.replicas.unwrap_or(0);
            let why = format!("{given} replicas serve {} requests/s, {wanted} are asked", significant(*most));
            (why, more_replicas(ready))
        }
    };
    [Some(why), cure, other.map(str::to_owned)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// How many replicas would do.
fn more_replicas(ready: &Ready) -> Option<String> {
    let space = Space { replicas: None, ..ready.space.clone() };
    let best = ready.search(&space).ok()?.best.ok()?;
    Some(format!("{} replicas ({} accelerators) would do", way(&best), best.accelerators))
}

/// Accelerators of a replica that would do, were there as many as one likes.
fn pool_cure(ready: &Ready) -> Option<String> {
    const ANY: u64 = 4_096;
    let space = Space { accelerators: ANY, size: None, degrees: None, replicas: None, ..ready.space.clone() };
    let best = ready.search(&space).ok()?.best.ok()?;
    Some(format!("{} accelerators ({}) would do", best.accelerators, way(&best)))
}

/// What narrower weights would save, where the blueprint does not say what they are kept in.
pub(super) fn other_formats(service: &Service, ready: &Ready, answer: &Answer) -> Option<String> {
    if service.precision.is_some() {
        return None;
    }
    let narrower = ready.weights.iter().filter(|(format, _)| *format != WeightFormat::Bf16);
    let found = narrower.filter_map(|(format, formats)| {
        let space = Space { formats: vec![*formats], ..ready.space.clone() };
        ready.search(&space).ok()?.best.ok().map(|best| (format, best))
    });
    let each = |choice: &Choice| real(choice.accelerators) / choice.tokens_per_second;
    let (format, best) = found.min_by(|(_, a), (_, b)| each(a).total_cmp(&each(b)))?;
    let better = answer.best.as_ref().map_or(true, |own| each(&best) < each(own) * 0.999_5);
    let on = match (ready.demand.rate, &answer.best) {
        (None, Ok(own)) => {
            format!("each token would need {} less of an accelerator", percent(1.0 - each(&best) / each(own)))
        }
        _ => format!("{} accelerators ({}) would do", best.accelerators, way(&best)),
    };
    better.then(|| format!("with precision = \"{}\" {on}", format.word()))
}
