//! The ways to serve that no other beats.
//!
//! Invariant: for each way that is left out, one that is kept is as good in all of accelerators for its tokens, both times and
//! energy. Cost: ways times kept ways.

use dh_units::real;

use super::capacity::{DOUBLING, ONE, Replica};
use super::{Case, Choice, Sized};

/// Numbers of replicas around the fewest that serve the rate at all: fewer requests in flight on each are faster and dearer.
const MORE: [f64; 6] = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0];

/// Ways of one layout, fast ones and cheap ones, whether or not they keep the targets; `within` is what one replica serves
/// within them.
pub(super) fn around(case: &Case<'_>, replica: &Replica<'_>, within: Option<(u64, f64)>, points: &mut Vec<Choice>) {
    let Some((highest, most)) = replica.most(None, None) else { return };
    let each = within.map_or(0.0, |(_, each)| each);
    let room = case.space.accelerators / replica.degrees.accelerators().max(1);
    let Some(rate) = case.demand.rate else {
        let replicas = case.space.replicas.unwrap_or(1);
        let mut level = highest;
        while level >= ONE {
            let at = replica.at(level).map_or(0.0, |point| point.rate);
            points.extend(replica.loaded(Sized { replicas, each }, level, at));
            level = level.saturating_sub(DOUBLING);
        }
        return;
    };
    let mut last = 0;
    for more in MORE {
        let least = (rate / most).ceil().max(1.0);
        let replicas = case.space.replicas.unwrap_or_else(|| dh_units::whole((least * more).ceil()));
        if replicas == last || replicas > room || real(replicas) * most < rate {
            continue;
        }
        last = replicas;
        points.extend(replica.choice(Sized { replicas, each }));
    }
}

/// What ways are compared by; all are better where smaller.
fn measures(way: &Choice) -> [f64; 4] {
    let each = real(way.accelerators) / way.tokens_per_second.max(f64::MIN_POSITIVE);
    [each, way.tpot_99.0, way.ttft_99.0, way.energy.map_or(0.0, |energy| energy.0)]
}

/// Those of `points` that no other beats, the cheapest first; of equal ones the first.
pub(super) fn pareto(points: Vec<Choice>) -> Vec<Choice> {
    let mut points: Vec<([f64; 4], Choice)> = points.into_iter().map(|way| (measures(&way), way)).collect();
    points.sort_by(|(a, one), (b, other)| {
        let by = |place: usize| match (a.get(place), b.get(place)) {
            (Some(a), Some(b)) => a.total_cmp(b),
            _ => std::cmp::Ordering::Equal,
        };
        by(0).then(by(1)).then(by(2)).then(by(3)).then(one.degrees.cmp(&other.degrees))
    });
    let mut kept: Vec<([f64; 4], Choice)> = Vec::new();
    for (measure, way) in points {
        let beaten = kept.iter().any(|(other, _)| other.iter().zip(&measure).all(|(other, own)| other <= own));
        if !beaten {
            kept.push((measure, way));
        }
    }
    kept.into_iter().map(|(_, way)| way).collect()
}
