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

use std::collections::{BTreeMap, BTreeSet};

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Event, Gain, Goal, Plan, RunId};
use dh_policy::fleet::{Domain, Holding, View};
use dh_policy::packing::WHOLE;
use serde::Serialize;

use super::live::Live;
use super::observer::Observer;
use super::world::{Arrival, Fault, Kernel};

/// Waiting gangs for which a plan is asked each time, at most.
const TRIED: usize = 8;

/// So long nodes that came free stay free, and the time until they sleep is not counted: stated assumption. The jobs that moved
/// off them would have ended some time, too.
const FREE: Span = Span::from_secs(3_600);

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
    /// What they cost, accelerator-seconds: what the scheduler says, or stopping and starting here if that is more.
    pub price: u64,
    /// Gangs that started because others moved.
    pub started: u64,
    /// How much sooner than they would have by what was known then, accelerator-seconds; gangs of which nothing was known do
    /// not count.
    pub sooner: u64,
    /// Nodes that came free, less those that were idle before.
    pub freed: u64,
}

/// Whether nodes that are idle are sent to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// They stay awake: nothing is gained by freeing them.
    StaysUp,
    /// They sleep after so long.
    Sleeps(Span),
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

/// Gangs that wait, with the thousandths of accelerators that they ask for.
type Waiting = Vec<(JobId, u64)>;

/// Gangs that run, with the number of their start.
type Running = Vec<(JobId, RunId)>;

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
        let helped: Waiting = waiting.iter().filter(|(_, milli)| *milli <= free).copied().collect();
        for (job, milli) in helped.into_iter().take(TRIED) {
            let Some(plan) = self.plan(Goal::Start { job }) else { continue };
            let otherwise = self.scheduler.why(job).and_then(|why| why.earliest);
            let sooner = otherwise.map_or(every, |otherwise| otherwise.since(self.now));
            let price = self.price(&plan);
            if worth(milli, sooner) > price {
                if let Some(moves) = &mut self.moves {
                    moves.awaited.insert(job, otherwise);
                }
                self.apply(&plan, price, observer);
            }
        }
        if waiting.is_empty()
            && let Idle::Sleeps(after) = idle
        {
            self.free_nodes(after, observer);
        }
    }

    /// Nodes come free to sleep, if more do than are taken for it, and if that pays.
    fn free_nodes(&mut self, after: Span, observer: &mut impl Observer) {
        let Some(plan) = self.plan(Goal::FreeNodes { nodes: NODES }) else { return };
        let Gain::Frees { nodes } = &plan.gain else { return };
        let fleet = self.scheduler.fleet();
        let accelerators = |nodes: &mut dyn Iterator<Item = NodeId>| -> u64 {
            nodes.map(|node| u64::from(fleet.accelerators(node))).sum()
        };
        let taken: BTreeSet<NodeId> = plan
            .moves
            .iter()
            .flat_map(|each| &each.to)
            .map(|held| held.node)
            .filter(|node| fleet.idle(*node))
            .collect();
        let (more, less) = (accelerators(&mut nodes.iter().copied()), accelerators(&mut taken.iter().copied()));
        let freed = u64::try_from(nodes.len().saturating_sub(taken.len())).unwrap_or(0);
        let sleeps = Span(FREE.0.saturating_sub(after.0));
        let price = self.price(&plan);
        if worth(more.saturating_sub(less) * u64::from(WHOLE), sleeps) > price {
            if let Some(moves) = &mut self.moves {
                moves.moved.freed += freed;
            }
            self.apply(&plan, price, observer);
        }
    }

    /// What a plan costs: what the scheduler says, or what stopping and starting takes here, if that is more.
    fn price(&self, plan: &Plan) -> u64 {
        let here = plan.moves.iter().map(|each| {
            let costs = self.costs(each.job);
            worth(milli(&each.from), Span(costs.save.0.saturating_add(costs.restart.0)))
        });
        plan.price.max(here.sum())
    }

    fn plan(&mut self, goal: Goal) -> Option<Plan> {
        let plan = self.scheduler.consolidate(goal)?;
        if let Some(moves) = &mut self.moves {
            moves.moved.plans += 1;
        }
        Some(plan)
    }

    fn apply(&mut self, plan: &Plan, price: u64, observer: &mut impl Observer) {
        if let Some(moves) = &mut self.moves {
            moves.moved.applied += 1;
            moves.moved.moves += u64::try_from(plan.moves.len()).unwrap_or(u64::MAX);
            moves.moved.price = moves.moved.price.saturating_add(price);
        }
        self.tell(&Event::Apply { goal: plan.goal, plan: plan.id }, observer);
    }

    /// Gangs that wait, in the order in which they came, with the thousandths of accelerators that they ask for; and gangs that
    /// run, by number.
    fn standing(&self) -> (Waiting, Running) {
        #[expect(clippy::disallowed_methods, reason = "sorted by time and id before anything is done")]
        let mut jobs: Vec<&Live> = self.live.values().collect();
        jobs.sort_unstable_by_key(|live| (live.facts.submitted, live.facts.job));
        let waits = |live: &&&Live| live.run.is_none() && live.leaving.is_none();
        let waiting = jobs.iter().filter(waits).map(|live| (live.facts.job, live.facts.milli)).collect();
        let runs = |live: &&&Live| live.run.as_ref().is_some_and(|run| run.base > 0);
        let mut running: Running = jobs.iter().filter(runs).map(|live| (live.facts.job, live.started_as)).collect();
        running.sort_unstable();
        (waiting, running)
    }
}

/// Accelerators of a gang's ranks, thousandths.
pub(super) fn milli(ranks: &[Holding]) -> u64 {
    ranks.iter().map(|held| u64::from(held.milli) * u64::from(held.mask.count_ones())).sum()
}
