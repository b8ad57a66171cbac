//! The published placement protocol on the openb trace.
//!
//! The list of pods grows by drawing from itself until accelerators are asked for `ratio` times over; the order is shuffled;
//! each pod is placed or dropped, nothing leaves. What counts is the share of accelerators that is allocated when what has
//! been asked for is x % of what there is. Source: Weng et al. 2023, "Beware of Fragmentation", and its simulator.
//!
//! Invariant: the same files, policy, ratio and seed give the same figures.

mod moved;
mod read;

use std::collections::BTreeMap;

use dh_policy::packing::{Mix, Node, Packer, Potential, Request};
use serde::Serialize;

use crate::Error;
use crate::random::Stream;
pub use moved::Moves;
use moved::Pods;
pub use read::{Trace, read};

/// Load that has arrived, in percent of all accelerators, at which allocation is read.
pub const MARKS: [u32; 9] = [50, 60, 70, 80, 90, 100, 110, 120, 130];

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Percent of accelerators allocated, by percent asked for.
    pub allocation_pct: BTreeMap<u32, f64>,
    /// Pods that were placed.
    pub placed: u64,
    /// Pods that fitted nowhere.
    pub dropped: u64,
    /// Moves of pods, to let others in.
    pub moves: u64,
}

/// What several runs give.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The policy.
    pub policy: String,
    /// Nodes.
    pub nodes: u64,
    /// Accelerators.
    pub accelerators: u64,
    /// The mean over the seeds: percent of accelerators allocated, by percent asked for.
    pub allocation_pct: BTreeMap<u32, f64>,
    /// Each seed by itself.
    pub runs: Vec<Run>,
}

/// The protocol, ready to be run with any seed.
#[derive(Debug)]
pub struct Protocol<'a> {
    trace: &'a Trace,
    policy: &'static dyn Potential,
    ratio: f64,
    moves: Moves,
    /// The mix of the list, as the published policy knows it.
    mix: Mix,
    capacity: u64,
}

/// Load that is asked for, over what there is, at most: a list of 10,000 pods grows to ten times that.
const RATIO_MAX: f64 = 10.0;

impl<'a> Protocol<'a> {
    /// The protocol on `trace`, until `ratio` times what there is has been asked for.
    /// # Errors
    /// [`Error::Nothing`] if there are no accelerators, no pod asks for any, or the ratio is not between 0 and 10.
    pub fn new(trace: &'a Trace, policy: &'static dyn Potential, ratio: f64) -> Result<Self, Error> {
        let capacity: u64 = trace.nodes.iter().map(Node::free_milli).sum();
        if capacity == 0 {
            return Err(Error::Nothing("the nodes have no accelerators"));
        }
        if trace.pods.iter().all(|pod| pod.demand() == 0) {
            return Err(Error::Nothing("no pod asks for an accelerator"));
        }
        if !(ratio > 0.0 && ratio <= RATIO_MAX) {
            return Err(Error::Nothing("the ratio of load to capacity must lie above 0 and at 10 at most"));
        }
        Ok(Self { trace, policy, ratio, moves: Moves::NONE, mix: Mix::of(trace.pods.iter().copied()), capacity })
    }

    /// The same with pods moved.
    #[must_use]
    pub fn moving(self, moves: Moves) -> Self {
        Self { moves, ..self }
    }

    /// One run.
    pub fn run(&self, seed: u64) -> Run {
        let mut packer = Packer::new(self.policy, self.mix.clone());
        for node in &self.trace.nodes {
            packer.add(*node);
        }
        let mut pods = Pods::new(self.trace.nodes.len(), self.moves);
        let (mut arrived, mut allocated, mut placed, mut dropped) = (0, 0, 0, 0);
        let mut allocation_pct = BTreeMap::new();
        let mut marks = MARKS.into_iter().peekable();
        for pod in arrivals(&self.trace.pods, self.capacity, self.ratio, seed) {
            arrived += pod.demand();
            if pods.place(&mut packer, &pod) {
                allocated += pod.demand();
                placed += 1;
            } else {
                dropped += 1;
            }
            let reached = |mark: &u32| u128::from(arrived) * 100 >= u128::from(self.capacity) * u128::from(*mark);
            while let Some(mark) = marks.next_if(reached) {
                allocation_pct.insert(mark, percent(allocated, self.capacity));
            }
        }
        Run { seed, allocation_pct, placed, dropped, moves: pods.moved() }
    }

    /// What `runs` give together.
    pub fn summary(&self, runs: Vec<Run>) -> Summary {
        let mut allocation_pct = BTreeMap::new();
        for mark in MARKS {
            let at: Vec<f64> = runs.iter().filter_map(|run| run.allocation_pct.get(&mark).copied()).collect();
            if let Some(count) = u32::try_from(at.len()).ok().filter(|count| *count > 0) {
                allocation_pct.insert(mark, at.iter().sum::<f64>() / f64::from(count));
            }
        }
        Summary {
            policy: self.policy.name().to_owned(),
            nodes: u64::try_from(self.trace.nodes.len()).unwrap_or(u64::MAX),
            accelerators: self.capacity / u64::from(dh_policy::packing::WHOLE),
            allocation_pct,
            runs,
        }
    }
}

/// The pods in the order in which they come.
fn arrivals(list: &[Request], capacity: u64, ratio: f64, seed: u64) -> Vec<Request> {
    let mut stream = Stream::new(seed);
    let mut pods = list.to_vec();
    let mut asked: u64 = pods.iter().map(Request::demand).sum();
    // Both are far below 2^53, where every whole number is a float.
    #[expect(clippy::cast_precision_loss, reason = "thousandths of accelerators of one cluster")]
    let enough = |asked: u64| asked as f64 >= capacity as f64 * ratio;
    while !enough(asked) {
        let Some(pod) = list.get(stream.below(list.len())) else { break };
        asked += pod.demand();
        pods.push(*pod);
    }
    stream.shuffle(&mut pods);
    pods
}

#[expect(clippy::cast_precision_loss, reason = "thousandths of accelerators of one cluster, far below 2^53")]
fn percent(part: u64, all: u64) -> f64 {
    part as f64 * 100.0 / all as f64
}
