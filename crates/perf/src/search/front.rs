//! Which of two layouts is better, and those that no other beats.
//!
//! Invariant: an order of all candidates that does not depend on which was seen first.

use std::cmp::Ordering;

use super::{Candidate, Objective};
use crate::layout::{Layout, Offload, Recompute, Schedule};

/// What decides between two layouts that take as long: fewer stages, parts of a sequence, tensor-parallel devices, experts dealt
/// out, parts of a stage; less computed again, less shared out, smaller micro-batches; sequence parallelism, 1F1B, no offload.
pub fn order(layout: &Layout) -> [u64; 12] {
    let again = match layout.recompute {
        Recompute::None => 0,
        Recompute::Selective => 1,
        Recompute::Operators => 2,
        Recompute::Full => 3,
    };
    let schedule = match layout.schedule {
        Schedule::OneForwardOneBackward => 0,
        Schedule::AllForward => 1,
        Schedule::ZeroBubble => 2,
    };
    let offload = match layout.offload {
        Offload::None => 0,
        Offload::Optimizer => 1,
        Offload::Everything => 2,
    };
    [
        layout.pp,
        layout.cp,
        layout.tp,
        layout.ep,
        layout.etp,
        layout.vpp,
        again,
        u64::from(layout.sharding as u8),
        layout.micro_batch,
        u64::from(!layout.sequence_parallel),
        schedule,
        offload,
    ]
}

/// Time, cost and energy; what is not known counts as nothing.
pub(super) fn takes(candidate: &Candidate) -> [f64; 3] {
    [candidate.time.0, candidate.cost.map_or(0.0, |cost| cost.0), candidate.energy.map_or(0.0, |energy| energy.0)]
}

/// What the objective looks at.
pub(super) fn aim(takes: [f64; 3], objective: Objective) -> f64 {
    let [time, cost, energy] = takes;
    match objective {
        Objective::Cost if cost > 0.0 => cost,
        Objective::Energy if energy > 0.0 => energy,
        Objective::Time | Objective::Cost | Objective::Energy => time,
    }
}

/// The better first: by the objective, then by time, then fewer accelerators, then by [`order`].
pub(super) fn better(a: &Candidate, b: &Candidate, objective: Objective) -> Ordering {
    aim(takes(a), objective)
        .total_cmp(&aim(takes(b), objective))
        .then_with(|| a.time.0.total_cmp(&b.time.0))
        .then_with(|| a.accelerators.cmp(&b.accelerators))
        .then_with(|| order(&a.layout).cmp(&order(&b.layout)))
}

/// Whether something of the front takes at most `takes` of everything.
pub(super) fn beaten(front: &[Candidate], bound: [f64; 3]) -> bool {
    front.iter().any(|other| takes(other).iter().zip(bound).all(|(has, least)| *has <= least))
}

/// Puts `candidate` on the front, if nothing there beats it, and takes off what it beats.
pub(super) fn admit(front: &mut Vec<Candidate>, candidate: &Candidate) {
    let wins = |a: &Candidate, b: &Candidate| {
        let (of_a, of_b) = (takes(a), takes(b));
        let nowhere_more = of_a.iter().zip(of_b).all(|(a, b)| *a <= b);
        let same = of_a.iter().zip(of_b).all(|(a, b)| a.total_cmp(&b).is_eq());
        nowhere_more && (!same || better(a, b, Objective::Time).is_le())
    };
    if front.iter().any(|other| wins(other, candidate)) {
        return;
    }
    front.retain(|other| !wins(candidate, other));
    front.push(candidate.clone());
}

/// What makes a runner-up another way and not the best with a switch turned.
const fn way(candidate: &Candidate) -> [u64; 6] {
    let layout = &candidate.layout;
    [candidate.accelerators, layout.tp, layout.pp, layout.cp, layout.ep, layout.dp]
}

/// Puts `candidate` among the best of each way, of which `most` are kept.
pub(super) fn rank(best: &mut Vec<Candidate>, candidate: &Candidate, objective: Objective, most: usize) {
    if let Some(place) = best.iter().position(|other| way(other) == way(candidate)) {
        match best.get(place) {
            Some(other) if better(candidate, other, objective).is_lt() => {
                best.remove(place);
            }
            Some(_) | None => return,
        }
    }
    let place = best.partition_point(|other| better(other, candidate, objective).is_lt());
    if place < most {
        best.insert(place, candidate.clone());
        best.truncate(most);
    }
}
