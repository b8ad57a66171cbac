//! Why one layout lost to another, in a sentence: what differs, and which parts of a step that makes longer.

use dh_units::{Seconds, significant};

use super::Candidate;
use crate::layout::{Layout, Offload, Recompute, Sharding};
use crate::pretraining::Parts;

/// Parts that are named in a sentence.
const NAMED: usize = 2;
/// Of the step, what a part must have grown by to be worth naming.
const WORTH: f64 = 0.002;

/// The parts of a step by name, in the order in which they are drawn.
pub const fn named_parts(parts: &Parts) -> [(&'static str, Seconds); 13] {
    [
        ("matrix products", parts.products),
        ("attention", parts.attention),
        ("vector operations", parts.vector),
        ("recomputation", parts.recompute),
        ("exposed tensor-parallel traffic", parts.tensor),
        ("exposed context-parallel traffic", parts.context),
        ("exposed expert-parallel traffic", parts.expert),
        ("exposed messages between stages", parts.pipeline),
        ("exposed data-parallel traffic", parts.data),
        ("pipeline bubble", parts.bubble),
        ("optimiser step", parts.optimizer),
        ("traffic with host memory", parts.offload),
        ("kernel starts and host", parts.host),
    ]
}

/// A layout in a line: `TP 8, PP 8 x 3, DP 8, micro-batch 1, full recomputation`. Degrees of 1 are left out.
pub fn degrees(layout: &Layout) -> String {
    let mut words: Vec<String> = named_degrees(layout)
        .into_iter()
        .filter(|(name, degree)| *degree > 1 || *name == "micro-batch")
        .map(|(name, degree)| format!("{name} {degree}"))
        .collect();
    words.extend(options(layout).into_iter().filter(|option| !option.is_empty()).map(str::to_owned));
    words.join(", ")
}

const fn named_degrees(layout: &Layout) -> [(&'static str, u64); 8] {
    [
        ("TP", layout.tp),
        ("PP", layout.pp),
        ("interleaving", layout.vpp),
        ("DP", layout.dp),
        ("CP", layout.cp),
        ("EP", layout.ep),
        ("expert TP", layout.etp),
        ("micro-batch", layout.micro_batch),
    ]
}

const fn options(layout: &Layout) -> [&'static str; 4] {
    [
        match layout.sharding {
            Sharding::None => "",
            Sharding::Optimizer => "optimiser sharded",
            Sharding::Gradients => "optimiser and gradients sharded",
            Sharding::Weights => "fully sharded",
        },
        match layout.recompute {
            Recompute::None => "",
            Recompute::Selective => "selective recomputation",
            Recompute::Operators => "recomputation by operator",
            Recompute::Full => "full recomputation",
        },
        if layout.sequence_parallel { "sequence parallel" } else { "" },
        match layout.offload {
            Offload::None => "",
            Offload::Optimizer => "optimiser in host memory",
            Offload::Everything => "states in host memory",
        },
    ]
}

/// Why `other` takes longer than `best`: `TP 8 -> 4, DP 64 -> 128: 3.1 s more of exposed data-parallel traffic; 4.2 % slower`.
pub fn reason(best: &Candidate, other: &Candidate) -> String {
    let mut changes: Vec<String> = Vec::new();
    if best.accelerators != other.accelerators {
        changes.push(format!("{} -> {} accelerators", best.accelerators, other.accelerators));
    }
    let pairs = named_degrees(&best.layout).into_iter().zip(named_degrees(&other.layout));
    changes.extend(pairs.filter(|(a, b)| a.1 != b.1).map(|(a, b)| format!("{} {} -> {}", a.0, a.1, b.1)));
    let or_none = |word: &'static str, what: &str| if word.is_empty() { format!("no {what}") } else { word.to_owned() };
    for ((a, b), what) in options(&best.layout).into_iter().zip(options(&other.layout)).zip([
        "sharding",
        "recomputation",
        "sequence parallelism",
        "offload",
    ]) {
        if a != b {
            changes.push(format!("{} -> {}", or_none(a, what), or_none(b, what)));
        }
    }
    // Steps of different batches are compared for as many tokens.
    let scale = best.step.tokens / other.step.tokens;
    let mut parts: Vec<(&str, f64)> = named_parts(&best.step.parts)
        .into_iter()
        .zip(named_parts(&other.step.parts))
        .map(|((name, a), (_, b))| (name, b.0 * scale - a.0))
        .collect();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let worth = best.step.time.0 * WORTH;
    let more: Vec<String> = parts
        .iter()
        .filter(|(_, more)| *more > worth)
        .take(NAMED)
        .map(|(name, more)| format!("{} more of {name}", Seconds(*more)))
        .collect();
    let less = parts.last().filter(|(_, more)| *more < -worth);
    let mut text = changes.join(", ");
    let mut causes = more;
    if let Some((name, more)) = less {
        causes.push(format!("{} less of {name}", Seconds(-more)));
    }
    if !causes.is_empty() {
        text = format!("{text}: {}", causes.join(", "));
    }
    let slower = (other.time / best.time - 1.0) * 100.0;
    if slower.abs() < 0.05 {
        format!("{text}; as fast, and later in the order of ties")
    } else if slower > 0.0 {
        format!("{text}; {} % slower", significant(slower))
    } else {
        format!("{text}; {} % faster", significant(-slower))
    }
}
