//! How many replicas a rate of requests needs.
//!
//! Invariant: no smaller number meets the targets. Sources: Little 1961 (requests in flight = rate x time); for the slowest
//! of a hundred, an exponential tail of the wait (stated assumption: a single server in heavy traffic, Kingman 1961).

use dh_units::{Seconds, real, whole};

use super::{Deployment, Load, Profile, Steady, steady};
use crate::error::Error;
use crate::hardware::Machine;

/// What all replicas together have to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Requests a second.
    pub requests_per_second: f64,
    /// The most until the first token, for 99 of a hundred requests.
    pub ttft: Seconds,
    /// The most per further token, in the mean.
    pub tpot: Seconds,
}

/// Replicas that meet a demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizing {
    /// Replicas.
    pub replicas: u64,
    /// Accelerators of all of them.
    pub accelerators: u64,
    /// Each of them.
    pub each: Steady,
    /// Until the first token, for 99 of a hundred requests.
    pub ttft_99: Seconds,
}

/// Waits that one request in a hundred exceeds, over the mean of an exponential one: ln 100.
const TAIL: f64 = 4.605;

/// The fewest replicas of `deployment` that serve `demand`; the concurrency in `load` is not read.
/// # Errors
/// As [`steady`]; [`Error::Impossible`] if even one request alone is slower than the demand allows.
pub fn replicas_for(
    deployment: &Deployment<'_>,
    demand: &Demand,
    load: &Load,
    machine: &Machine,
    profile: &Profile,
) -> Result<Sizing, Error> {
    let at = |concurrency: f64| steady(deployment, &Load { concurrency, ..*load }, machine, profile);
    let alone = at(1.0)?;
    let tail = |steady: &Steady| {
        let quiet = alone.ttft.value.0.min(steady.ttft.value.0);
        quiet + TAIL * (steady.ttft.value.0 - quiet)
    };
    let meets = |steady: &Steady| steady.tpot.value.0 <= demand.tpot.0 && tail(steady) <= demand.ttft.0;
    if !(demand.requests_per_second.is_finite() && demand.requests_per_second > 0.0) {
        let value = demand.requests_per_second;
        return Err(Error::Work { figure: "requests_per_second", value, expected: "a number above 0" });
    }
    if !meets(&alone) {
        return Err(Error::Impossible("even one request alone is slower than what is asked"));
    }
    // The most requests in flight with which one replica meets the targets: both times grow with it.
    let (mut fine, mut over) = (1.0, 2.0);
    while over <= alone.most && meets(&at(over)?) {
        fine = over;
        over *= 2.0;
    }
    over = over.min(alone.most.max(1.0));
    for _ in 0..12 {
        let middle = f64::midpoint(fine, over);
        if meets(&at(middle)?) {
            fine = middle;
        } else {
            over = middle;
        }
    }
    let full = at(fine)?;
    let each_rate = full.output_per_second / load.output;
    let replicas = whole((demand.requests_per_second / each_rate).ceil()).max(1);
    // Little's law at the share that each of so many replicas gets: fewer in flight than when it is full.
    let share = demand.requests_per_second / real(replicas);
    let (mut low, mut high) = (0.0, fine);
    for _ in 0..20 {
        let middle = f64::midpoint(low, high);
        let rate = at(middle.max(1e-3))?.output_per_second / load.output;
        if rate < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    let each = at(high.max(1e-3))?;
    let ttft_99 = Seconds(tail(&each));
    let per_replica = deployment.layout.tp * deployment.layout.pp * deployment.attention_replicas;
    Ok(Sizing { replicas, accelerators: replicas.saturating_mul(per_replica), each, ttft_99 })
}
