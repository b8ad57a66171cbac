//! Plans of moves in virtual time: the scheduler is asked for one again and again, and those that pay are carried out.
//!
//! A plan is for a gang that waits and would fit if others moved, or, where idle nodes sleep and nobody waits, for nodes to come
//! free. It pays if it puts more to use than it costs: the accelerators that are put to use, or freed, times how long that is
//! sooner than without it; where nobody knows, until the next asking. Jobs that are told to move save their work, as any job
//! that is told to stop here: the scheduler is told before it is asked that what ran jobs did is safe, so a plan's price is
//! that of stopping and starting.
//!
//! Invariant: whole numbers; jobs are looked at in the order in which they came. Cost: all jobs in the hall once, and at most
//! [`TRIED`] plans, for each asking.

use std::collections::BTreeMap;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Event, Gain, Goal, Plan, RunId};
use dh_policy::fleet::{Domain, Holding, View};
use dh_policy::packing::WHOLE;
use serde::Serialize;

use super::live::Live;
use super::observer::Observer;
use super::world::{Arrival, Fault, Kernel};

/// Waiting gangs for which a plan is asked each time, at most.
const TRIED: usize = 8;

/// Nodes that come free each time, at most.
const NODES: u32 = 4;

/// What moves came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// How often the scheduler was asked.
    pub asked: u64,
    /// Plans that it made.
    pub plans: u64,
    /// Plans that were carried out.
    pub applied: u64,
    /// Jobs that moved for them.
    pub moves: u64,
    /// What they cost, accelerator-seconds, as the scheduler prices them.
    pub price: u64,
    /// Gangs that started because others moved.
    pub started: u64,
    /// How much sooner than they would have by what was known then, accelerator-seconds; gangs of which nothing was known do
    /// not count.
    pub sooner: u64,
    /// Nodes that came free.
    pub freed: u64,
}

/// Whether nodes that are idle are sent to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// They stay awake: nothing is gained by freeing them.
    StaysUp,
    /// They sleep.
    Sleeps,
}

/// When plans are asked for.
#[derive(Debug)]
pub(super) struct Moves {
    every: Span,
    idle: Idle,
    pub(super) next: SimTime,
    /// Gangs for which others moved: when they could have started without.
    awaited: BTreeMap<JobId, Option<SimTime>>,
    pub(super) moved: Moved,
}

impl Moves {
    pub(super) fn new(every: Span, idle: Idle) -> Self {
        let every = Span(every.0.max(1));
        let next = SimTime(0).after(every);
        Self { every, idle, next, awaited: BTreeMap::new(), moved: Moved::default() }
    }

    /// A gang starts.
    pub(super) fn started(&mut self, now: SimTime, job: JobId, milli: u64) {
        let Some(otherwise) = self.awaited.remove(&job) else { return };
        self.moved.started += 1;
        let sooner = otherwise.map_or(Span(0), |otherwise| otherwise.since(now));
        self.moved.sooner = self.moved.sooner.saturating_add(worth(milli, sooner));
    }
}

/// Accelerator-seconds of so many thousandths of accelerators for some time.
fn worth(milli: u64, time: Span) -> u64 {
    u64::try_from(u128::from(milli) * u128::from(time.as_secs()) / u128::from(WHOLE)).unwrap_or(u64::MAX)
}

impl<A: Iterator<Item = Arrival>, F: Iterator<Item = Fault>> Kernel<A, F> {
    /// Asks for plans, and carries out those that pay.
    pub(super) fn consolidate(&mut self, observer: &mut impl Observer) {
        let Some(moves) = &mut self.moves else { return };
        moves.next = self.now.after(moves.every);
        moves.moved.asked += 1;
        let (every, idle) = (moves.every, moves.idle);
        let (waiting, running) = self.standing();
        if waiting.is_empty() && idle == Idle::StaysUp {
            return;
        }
        for (job, run) in running {
            self.tell(&Event::Checkpointed { job, run }, observer);
        }
        let free = self.scheduler.fleet().free_in(Domain::HALL, View::All).saturating_mul(u64::from(WHOLE));
        // Moves make room in one place of what is free in many: who asks for more than that is not helped by them.
        let helped: Vec<(JobId, u64)> = waiting.iter().filter(|(_, milli)| *milli <= free).copied().collect();
        for (job, milli) in helped.into_iter().take(TRIED) {
            let Some(plan) = self.plan(Goal::Start { job }) else { continue };
            let otherwise = self.scheduler.why(job).and_then(|why| why.earliest);
            let sooner = otherwise.map_or(every, |otherwise| otherwise.since(self.now));
            if worth(milli, sooner) > plan.price {
                if let Some(moves) = &mut self.moves {
                    moves.awaited.insert(job, otherwise);
                }
                self.apply(&plan, observer);
            }
        }
        if waiting.is_empty()
            && let Some(plan) = self.plan(Goal::FreeNodes { nodes: NODES })
            && let Gain::Frees { nodes } = &plan.gain
        {
            let fleet = self.scheduler.fleet();
            let accelerators: u64 = nodes.iter().map(|node| u64::from(fleet.accelerators(*node))).sum();
            if worth(accelerators * u64::from(WHOLE), every) > plan.price {
                let freed = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
                if let Some(moves) = &mut self.moves {
                    moves.moved.freed += freed;
                }
                self.apply(&plan, observer);
            }
        }
    }

    fn plan(&mut self, goal: Goal) -> Option<Plan> {
        let plan = self.scheduler.consolidate(goal)?;
        if let Some(moves) = &mut self.moves {
            moves.moved.plans += 1;
        }
        Some(plan)
    }

    fn apply(&mut self, plan: &Plan, observer: &mut impl Observer) {
        if let Some(moves) = &mut self.moves {
            moves.moved.applied += 1;
            moves.moved.moves += u64::try_from(plan.moves.len()).unwrap_or(u64::MAX);
            moves.moved.price = moves.moved.price.saturating_add(plan.price);
        }
        self.tell(&Event::Apply { goal: plan.goal, plan: plan.id }, observer);
    }

    /// Gangs that wait, in the order in which they came, with the thousandths of accelerators that they ask for; and gangs that
    /// run, by number.
    fn standing(&self) -> (Vec<(JobId, u64)>, Vec<(JobId, RunId)>) {
        #[expect(clippy::disallowed_methods, reason = "sorted by time and id before anything is done")]
        let mut jobs: Vec<&Live> = self.live.values().collect();
        jobs.sort_unstable_by_key(|live| (live.facts.submitted, live.facts.job));
        let waits = |live: &&&Live| live.run.is_none() && live.leaving.is_none();
        let waiting = jobs.iter().filter(waits).map(|live| (live.facts.job, live.facts.milli)).collect();
        let runs = |live: &&&Live| live.run.as_ref().is_some_and(|run| run.base > 0);
        let mut running: Vec<(JobId, RunId)> =
            jobs.iter().filter(runs).map(|live| (live.facts.job, live.started_as)).collect();
        running.sort_unstable();
        (waiting, running)
    }
}

/// Accelerators of a gang's ranks, thousandths.
pub(super) fn milli(ranks: &[Holding]) -> u64 {
    ranks.iter().map(|held| u64::from(held.milli) * u64::from(held.mask.count_ones())).sum()
}
