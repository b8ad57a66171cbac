//! Layouts of one replica.
//!
//! Invariant: in one order, each once; all can be cut from the model. Tensor parallelism stays inside a node and divides the
//! heads; experts are either split as attention is, or dealt whole to all accelerators of a stage, as engines do it.

use super::{Case, Degrees};

/// The most stages that engines are run with; more only add their latency to each token. Stated assumption.
const STAGES_MAX: u64 = 16;
/// The most replicas of attention: published wide layouts have up to 144 accelerators for decoding.
const ATTENTION_MAX: u64 = 128;

/// 1, 2, 4, .. up to `most`.
fn doublings(most: u64) -> impl Iterator<Item = u64> + Clone {
    std::iter::successors(Some(1_u64), |degree| degree.checked_mul(2)).take_while(move |degree| *degree <= most)
}

/// Layouts that the space of `case` allows for its model.
pub(super) fn layouts(case: &Case<'_>) -> Vec<Degrees> {
    let (shape, space) = (case.shape, case.space);
    let allowed = |degrees: &Degrees| {
        let size = degrees.accelerators();
        size <= space.accelerators && space.size.is_none_or(|wanted| wanted == size)
    };
    if let Some(degrees) = space.degrees {
        return Some(degrees).filter(allowed).into_iter().collect();
    }
    let experts = shape.experts.map_or(0, |experts| experts.count);
    let mut found = Vec::new();
    for pp in doublings(STAGES_MAX.min(shape.layers)) {
        for tp in doublings(space.node.min(space.accelerators)).filter(|tp| shape.heads.is_multiple_of(*tp)) {
            let stage = |ep, attention_replicas| Degrees { pp, tp, ep, attention_replicas };
            found.push(stage(1, 1));
            let replicas = if experts > 1 { ATTENTION_MAX } else { 0 };
            let dealt = doublings(replicas).map(|replicas| stage(tp.saturating_mul(replicas), replicas));
            found.extend(dealt.filter(|degrees| degrees.ep > 1 && degrees.ep <= experts));
        }
    }
    found.retain(allowed);
    found
}
