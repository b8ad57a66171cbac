//! From what happens in the kernel to measures and a picture.
//!
//! Fairness: alone on a 1/n share a job would have taken its length times what everybody asked for, over what there was, on
//! average while it was in the hall, and at least its length (Mahajan et al. 2020, Themis, with accelerators asked for as n).

use std::collections::BTreeMap;

use dh_core::time::Span;
use dh_core::{NodeId, SimTime};
use dh_hall::scheduler::{Cause, Scheduler};
use dh_policy::fleet::{Domain, Fleet, Holding, Service, View};
use dh_policy::packing::WHOLE;

use super::locality::Judge;
use super::shared::Shared;
use super::sleep::Sleeping;
use super::{Scene, Wanted};
use crate::kernel::{Fate, Happening, JobFacts, Observer};
use crate::measure::{self, Curve, End, Measures, NodeChange, NodeState, Outcome, Pending, Setup, Start, Stop, Tariff};
use crate::site::Drawn;
use crate::spread::ByJob;
use crate::timeline::{Chart, Colour, Mark, Nodes, Series, Stay, Timeline, What};

/// Whether a picture is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Draw {
    /// No.
    #[default]
    Nothing,
    /// Curves, and strips of nodes.
    All,
}

/// Watches a run.
#[derive(Debug)]
pub struct Watch<'a> {
    measures: Measures<'a>,
    judge: Judge,
    colour: Colour,
    timeline: Option<Timeline>,
    jobs: ByJob<Seen>,
    /// Accelerators that all jobs in the hall ask for, and those in service, thousandths.
    demand: u64,
    capacity: u64,
    /// Thousandths of demand over capacity, at least 1,000, summed over time in ns.
    crowding: u128,
    since: SimTime,
    held: u64,
    waiting: Pending,
    running: u64,
    nodes: Vec<NodeState>,
    /// Since when each node that is not up is what it is.
    away: BTreeMap<NodeId, SimTime>,
    sleeping: Sleeping,
    /// What is drawn, if that is known.
    drawn: Option<Drawn<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    crowding: u128,
    /// Since when it waits.
    waits: SimTime,
    started: SimTime,
    attempt: u32,
    /// Of its present run, if it shares or did.
    shared: Option<Shared>,
}

impl<'a> Watch<'a> {
    /// Before the first event.
    pub fn new(scene: &'a Scene, fleet: &Fleet, wanted: &Wanted<'a>) -> Self {
        let price = scene.price.as_ref().map(|curve| -> &dyn Curve { curve });
        let carbon = scene.carbon.as_ref().map(|curve| -> &dyn Curve { curve });
        let tariff = Tariff {
            price: wanted.tariff.price.or(price),
            carbon: wanted.tariff.carbon.or(carbon),
            capital: wanted.tariff.capital,
        };
        let setup = Setup { queues: scene.queues.clone(), window: wanted.window, tariff };
        let mut measures = Measures::new(setup);
        let milli = |node: usize| milli_of(fleet, NodeId(u32::try_from(node).unwrap_or(u32::MAX)));
        for node in 0..fleet.len() {
            let change = NodeChange { milli: milli(node), from: NodeState::Absent, to: NodeState::Up };
            measures.node_changed(SimTime(0), change);
        }
        let tree = fleet.tree();
        let racks = tree.domains(tree.last()).max(1);
        let nodes = u32::try_from(fleet.len()).unwrap_or(u32::MAX);
        let colour = if scene.queues.len() > 1 { Colour::Queue } else { Colour::Job };
        let timeline = (wanted.draw == Draw::All).then(|| {
            let per_node = (0..fleet.len()).map(milli).max().unwrap_or(1000);
            let strips = Nodes { nodes, nodes_per_rack: nodes.div_ceil(racks).max(1), milli: per_node, colour };
            Timeline::new(SimTime(0), Some(strips))
        });
        Self {
            measures,
            judge: Judge::new(fleet),
            colour,
            timeline,
            jobs: ByJob::default(),
            demand: 0,
            capacity: (0..fleet.len()).map(milli).sum(),
            crowding: 0,
            since: SimTime(0),
            held: 0,
            waiting: Pending::default(),
            running: 0,
            nodes: vec![NodeState::Up; fleet.len()],
            away: BTreeMap::new(),
            sleeping: Sleeping::new(wanted.window),
            drawn: scene.power.as_ref().map(|model| Drawn::new(model, scene.loads.clone())),
        }
    }

    /// What the run came to.
    pub fn finish(mut self, now: SimTime) -> (Outcome, Option<Chart>) {
        for (node, from) in std::mem::take(&mut self.away) {
            self.stay_away(node, from, now);
        }
        let sleep = self.sleeping.finish(now, self.nodes.len());
        let locality = self.judge.finish();
        let outcome = Outcome { locality, sleep, ..self.measures.finish(now) };
        (outcome, self.timeline.map(|timeline| timeline.finish(now)))
    }

    /// Sums crowding up to `now`.
    fn advance(&mut self, now: SimTime) {
        let time = u128::from(now.since(self.since).0);
        let crowded = (u128::from(self.demand) * 1000).checked_div(u128::from(self.capacity)).unwrap_or(1000);
        self.crowding += time * crowded.max(1000);
        self.since = self.since.max(now);
    }

    fn submitted(&mut self, now: SimTime, job: &JobFacts) {
        self.advance(now);
        self.demand += job.milli;
        self.jobs
            .insert(job.job.0, Seen { crowding: self.crowding, waits: now, started: now, attempt: 0, shared: None });
        self.waiting.jobs += 1;
        self.waiting.milli += job.milli;
        self.measures.submitted(now, &facts(job));
    }

    fn started(&mut self, now: SimTime, job: &JobFacts, ranks: &[Holding]) {
        let milli = held(ranks);
        self.judge.started(job.job.0, ranks);
        let Some(seen) = self.jobs.get_mut(&job.job.0) else { return };
        seen.attempt += 1;
        seen.started = now;
        seen.shared = None;
        let start = Start { attempt: seen.attempt, waited: now.since(seen.waits) };
        self.waiting.jobs -= 1;
        self.waiting.milli -= job.milli;
        self.running += 1;
        self.held += milli;
        self.measures.started(now, &measure::JobFacts { milli, ..facts(job) }, start);
    }

    /// A gang has another share of its accelerators.
    fn shares(&mut self, now: SimTime, job: &JobFacts, ranks: &[Holding], next: Shared) {
        let milli = held(ranks);
        let Some(seen) = self.jobs.get_mut(&job.job.0) else { return };
        let mut shared = seen.shared.unwrap_or_else(|| Shared::alone(seen.started));
        let before = shared.of(milli);
        shared.advance(now);
        shared.turn(next);
        seen.shared = Some(shared);
        self.measures.reshared(now, before, shared.of(milli));
        self.held = self.held + shared.of(milli) - before;
    }

    /// What tells the users of a node apart.
    fn key(&self, job: &JobFacts) -> u64 {
        match self.colour {
            Colour::Queue => u64::from(job.queue),
            Colour::Job => job.job.0,
        }
    }

    fn stopped(&mut self, now: SimTime, job: &JobFacts, ranks: &[Holding], stop: Stop) {
        let (milli, since) = (held(ranks), stop.since);
        self.judge.stopped(job.job.0);
        self.running -= 1;
        let shared = self.jobs.get_mut(&job.job.0).and_then(|seen| seen.shared.take());
        let (stop, part) = match shared {
            None => (stop, milli),
            Some(mut shared) => {
                self.measures.reshared(now, shared.of(milli), milli);
                self.held = self.held + milli - shared.of(milli);
                shared.advance(now);
                shared.counted(now, stop, milli)
            }
        };
        self.held -= milli;
        self.measures.stopped(now, &measure::JobFacts { milli, ..facts(job) }, stop);
        let key = self.key(job);
        if let Some(timeline) = &mut self.timeline {
            for held in ranks {
                timeline.stayed(Stay {
                    node: held.node.0,
                    what: What::Work(key),
                    milli: u64::from(held.milli) * u64::from(held.mask.count_ones()) * part / milli.max(1),
                    from: since,
                    to: now,
                });
            }
        }
    }

    fn ended(&mut self, now: SimTime, job: &JobFacts, fate: measure::Fate, first_start: Option<SimTime>) {
        self.advance(now);
        self.demand -= job.milli;
        let seen = self.jobs.remove(&job.job.0);
        let alone = seen.and_then(|seen| {
            let stay = u128::from(now.since(job.submitted).0);
            let crowded = (self.crowding - seen.crowding).checked_div(stay).unwrap_or(1000).max(1000);
            u64::try_from(u128::from(job.length.0) * crowded / 1000).ok().map(Span)
        });
        self.measures.ended(now, &facts(job), End { fate, first_start, alone });
    }

    fn node(&mut self, now: SimTime, node: NodeId, service: Service, fleet: &Fleet) {
        let to = match service {
            Service::Down => NodeState::Down,
            Service::Asleep => NodeState::Asleep,
            Service::Up | Service::Spare | Service::Drained | Service::Quarantined => NodeState::Up,
        };
        let Some(state) = usize::try_from(node.0).ok().and_then(|at| self.nodes.get_mut(at)) else { return };
        let from = std::mem::replace(state, to);
        if from == to {
            return;
        }
        self.advance(now);
        let milli = milli_of(fleet, node);
        if from == NodeState::Down {
            self.capacity += milli;
        }
        if to == NodeState::Down {
            self.capacity -= milli;
        }
        self.measures.node_changed(now, NodeChange { milli, from, to });
        if let Some(since) = self.away.remove(&node) {
            self.stay(node, from, since, now, milli);
        }
        if to != NodeState::Up {
            self.away.insert(node, now);
        }
        if to == NodeState::Down
            && let Some(timeline) = &mut self.timeline
        {
            timeline.mark(now, Mark::Failure);
        }
    }

    fn stay_away(&mut self, node: NodeId, from: SimTime, now: SimTime) {
        let state = usize::try_from(node.0).ok().and_then(|at| self.nodes.get(at)).copied();
        self.stay(node, state.unwrap_or(NodeState::Up), from, now, u64::MAX);
    }

    fn stay(&mut self, node: NodeId, state: NodeState, from: SimTime, to: SimTime, milli: u64) {
        let what = match state {
            NodeState::Down => What::Down,
            NodeState::Asleep => What::Asleep,
            NodeState::Absent | NodeState::Up => return,
        };
        if let Some(timeline) = &mut self.timeline {
            timeline.stayed(Stay { node: node.0, what, milli, from, to });
        }
    }

    /// Tells measures and picture the levels at `now`.
    fn levels(&mut self, now: SimTime, scheduler: &Scheduler) {
        self.measures.pending(now, self.waiting);
        let power = self.drawn.as_ref().map(Drawn::power);
        if let Some(power) = power {
            self.measures.power(now, power);
        }
        if let Some(timeline) = &mut self.timeline {
            let fleet = scheduler.fleet();
            let free = fleet.free_in(Domain::HALL, View::All) * u64::from(WHOLE);
            timeline.set(now, Series::HeldMilli, self.held);
            timeline.set(now, Series::FreeMilli, free);
            timeline.set(now, Series::RunningJobs, self.running);
            timeline.set(now, Series::PendingJobs, self.waiting.jobs);
            if let Some(power) = power {
                timeline.set(now, Series::ItWatts, dh_units::whole(power.it.0));
                timeline.set(now, Series::FacilityWatts, dh_units::whole(power.facility.0));
            }
        }
    }
}

impl Observer for Watch<'_> {
    fn happened(&mut self, now: SimTime, what: Happening<'_>, scheduler: &Scheduler) {
        if let Some(drawn) = &mut self.drawn {
            drawn.happened(&what);
        }
        match what {
            Happening::Submitted(job) => self.submitted(now, job),
            Happening::Refused(job, _) => {
                self.waiting.jobs -= 1;
                self.waiting.milli -= job.milli;
                self.ended(now, job, measure::Fate::Rejected, None);
            }
            Happening::Started { job, ranks, .. } => {
                self.sleeping.started(now, ranks, scheduler.fleet());
                self.started(now, job, ranks);
            }
            Happening::Shares { job, ranks, share, speed } => {
                self.shares(now, job, ranks, Shared::new(now, share, speed));
            }
            Happening::Stopped { job, cause, held, kept, lost, ranks } => {
                let cause = match cause {
                    Cause::Preempted { .. } | Cause::Shrunk { .. } | Cause::Moved => measure::Cause::Preempted,
                    Cause::Broken | Cause::Cancelled => measure::Cause::Evicted,
                };
                if let (Some(timeline), measure::Cause::Preempted) = (&mut self.timeline, cause) {
                    timeline.mark(now, Mark::Preemption);
                }
                let since = SimTime(now.0.saturating_sub(held.0));
                self.stopped(now, job, ranks, Stop { cause, since, kept, lost, checkpoints: Span(0) });
                self.waiting.jobs += 1;
                self.waiting.milli += job.milli;
                if let Some(seen) = self.jobs.get_mut(&job.job.0) {
                    seen.waits = now;
                }
            }
            Happening::Ended { job, first_start, held, kept, fate, ranks, .. } => {
                let since = SimTime(now.0.saturating_sub(held.0));
                let stop = Stop { cause: measure::Cause::Ended, since, kept, lost: Span(0), checkpoints: Span(0) };
                self.stopped(now, job, ranks, stop);
                let fate = match fate {
                    Fate::Completed => measure::Fate::Completed,
                    Fate::Failed => measure::Fate::Failed,
                    Fate::Cancelled => measure::Fate::Cancelled,
                };
                if let (Some(timeline), measure::Fate::Failed) = (&mut self.timeline, fate) {
                    timeline.mark(now, Mark::JobFailure);
                }
                self.ended(now, job, fate, Some(first_start));
            }
            Happening::Unfinished { job, first_start, since, kept, ranks } => {
                if let Some(since) = since {
                    let stop =
                        Stop { cause: measure::Cause::Unfinished, since, kept, lost: Span(0), checkpoints: Span(0) };
                    self.stopped(now, job, ranks, stop);
                } else {
                    self.waiting.jobs -= 1;
                    self.waiting.milli -= job.milli;
                }
                self.ended(now, job, measure::Fate::Unfinished, first_start);
            }
            Happening::Node { node, .. } => {
                // The scheduler may have other plans for a node that comes back than the fault says.
                let service = scheduler.fleet().service(node);
                self.sleeping.node(now, node, service);
                self.judge.node(node, service);
                self.node(now, node, service, scheduler.fleet());
            }
        }
    }

    fn settled(&mut self, now: SimTime, scheduler: &Scheduler) {
        self.levels(now, scheduler);
    }
}

fn facts(job: &JobFacts) -> measure::JobFacts {
    measure::JobFacts {
        job: job.job,
        queue: usize::from(job.queue),
        milli: job.milli,
        length: job.length,
        submit: job.submitted,
    }
}

fn held(ranks: &[Holding]) -> u64 {
    ranks.iter().map(|held| u64::from(held.milli) * u64::from(held.mask.count_ones())).sum()
}

fn milli_of(fleet: &Fleet, node: NodeId) -> u64 {
    u64::from(fleet.accelerators(node)) * u64::from(WHOLE)
}
