//! The deciding core: who starts, where, and whom it displaces. It runs a live hall, its twin and a replay.
//!
//! [`Scheduler::step`] takes the time and one [`Event`] and pushes [`Action`]s. It works event by event and never goes
//! through all jobs or nodes; whoever carries actions out answers with events.
//!
//! Invariants, checked by [`Scheduler::check`]: a gang holds all its ranks or none; nothing has two owners; every job that
//! was taken is waiting, claiming or running; a job that others were stopped for owns what they give back.
//!
//! Cost: an event touches the counts around its nodes, the classes of waiting jobs that need what came free, and the jobs
//! that start.

mod boxes;
mod check;
mod claim;
mod consolidate;
mod displace;
mod event;
mod fractions;
mod hazards;
mod interleave;
mod job;
mod line;
mod members;
mod pairs;
mod pass;
mod power;
mod predict;
mod reclaim;
mod repair;
mod reserve;
mod rise;
mod rounds;
mod run;
mod settings;
mod shapes;
mod share;
mod short;
mod shrink;
mod snapshot;
mod speeds;
mod stretch;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Fleet, Holding};
use dh_policy::order::Order;
use dh_policy::pages::Pages;
use dh_policy::placement::Shaped;
use serde::{Deserialize, Serialize};

pub use boxes::NearBox;
pub use consolidate::{Gain, Goal, Move, Plan};
pub use event::{
    Action, Cause, DatasetId, Event, Gang, Grace, Presence, QueueId, QueueRules, Refusal, RunId, SpeedsId, Stale,
    Submission,
};
pub use settings::{Backfill, Error, GoodFor, Learn, Predict, Settings, Sharing};
pub use snapshot::{Listed, Snapshot, Standing};
pub use why::{Blocker, Foreseen, Holder, Why};

use job::{Jobs, Mix, Slot};
use line::Lines;
use shapes::Shapes;

/// The deciding core.
#[derive(Debug, Clone)]
pub struct Scheduler {
    order: &'static dyn Order,
    placement: Shaped,
    state: State,
    /// The nodes with nothing on them, once somebody has asked what an empty hall takes: they never change.
    empty: Option<Arc<Fleet>>,
}

/// Everything that is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    #[serde(with = "dh_policy::pages::shared")]
    settings: Arc<Settings>,
    now: SimTime,
    /// Events so far.
    version: u64,
    /// Events and actions so far, mixed.
    digest: u64,
    /// Starts so far: the last one's number.
    starts: RunId,
    fleet: Fleet,
    jobs: Jobs,
    shapes: Shapes,
    lines: Lines,
    queues: Vec<Queue>,
    /// What the nodes in service have.
    capacity: share::Capacity,
    /// Who goes first among queues that have a line each.
    shares: Option<share::Shares>,
    /// How long jobs ran.
    predictions: Option<predict::Predictions>,
    /// The bound on how far jobs are set back.
    bound: Option<stretch::Bound>,
    /// Jobs with something on each node.
    owners: Pages<Vec<Slot>>,
    /// Running jobs whose end is expected, in order.
    ends: BTreeSet<(SimTime, Slot)>,
    /// Jobs that wait for a place to be cleared.
    claiming: BTreeSet<Slot>,
    /// Gangs that lost ranks, oldest first.
    broken: BTreeSet<(SimTime, Slot)>,
    #[serde(default)]
    rounds: rounds::Rounds,
    #[serde(default)]
    interleaved: interleave::Interleaved,
    /// What preemption knows.
    displacing: displace::Displacing,
    reservations: reserve::Reservations,
    /// Nodes that have each dataset, sorted.
    warm: BTreeMap<DatasetId, Vec<NodeId>>,
    #[serde(default)]
    speeds: speeds::Speeds,
    power: power::Power,
    faults: repair::Faults,
    /// Elastic gangs that run with fewer ranks than they asked for.
    small: BTreeSet<Slot>,
    /// What jobs that were told to move will hold; taken already.
    moving: consolidate::Moving,
    /// Ranks with which jobs go on that were told to stop.
    #[serde(default)]
    shrinking: shrink::Shrinking,
    running: usize,
}

/// A queue with what its jobs hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Queue {
    rules: QueueRules,
    /// What its running and claiming jobs, and those of queues below it, hold or will hold, thousandths of accelerators.
    used_milli: u64,
    /// What of that is held by jobs that were told to stop.
    leaving_milli: u64,
    /// What it is guaranteed, of what its rules say.
    granted_milli: u64,
}

impl Scheduler {
    /// A scheduler with all nodes up and no jobs.
    /// # Errors
    /// If the settings name what is not there, or contradict themselves.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let mut fleet = Fleet::new(&settings.levels, &settings.nodes).map_err(Error::Node)?;
        for wiring in &settings.tori {
            fleet.wire(*wiring).map_err(Error::Torus)?;
        }
        if settings.queues.is_empty() || settings.queues.len() > usize::from(QueueId::MAX) {
            return Err(Error::Queues(settings.queues.len()));
        }
        let lines = match settings.sharing {
            Sharing::OneLine => 1,
            Sharing::Fair { .. } => settings.queues.len(),
        };
        let tracks = match (settings.backfill, settings.patience) {
            (Backfill::Easy | Backfill::Conservative { .. }, _) | (Backfill::Any, Some(_)) => members::Tracks::ByLength,
            (Backfill::None, _) | (Backfill::Any, None) => members::Tracks::One,
        };
        let capacity = share::Capacity::new(&settings.nodes);
        let shares = share::Shares::new(&settings, capacity.amounts())?;
        let state = State {
            predictions: settings.predict.map(predict::Predictions::new),
            bound: settings.stretch.map(|stretch| stretch::Bound::new(stretch, &capacity)),
            capacity,
            shares,
            now: SimTime(0),
            version: 0,
            digest: 0,
            jobs: Jobs::default(),
            shapes: Shapes::default(),
            lines: Lines::new(lines, tracks),
            queues: settings.queues.iter().map(|rules| Queue { rules: *rules, ..Queue::default() }).collect(),
            owners: (0..fleet.len()).map(|_| Vec::new()).collect(),
            ends: BTreeSet::new(),
            claiming: BTreeSet::new(),
            broken: BTreeSet::new(),
            rounds: rounds::Rounds::default(),
            interleaved: interleave::Interleaved::default(),
            displacing: displace::Displacing::default(),
            reservations: reserve::Reservations::default(),
            warm: BTreeMap::new(),
            speeds: speeds::Speeds::new(&settings.nodes),
            power: power::Power::default(),
            faults: repair::Faults::default(),
            small: BTreeSet::new(),
            moving: consolidate::Moving::new(),
            shrinking: shrink::Shrinking::new(),
            running: 0,
            starts: 0,
            fleet,
            settings: Arc::new(settings),
        };
        let mut scheduler = Self::of(state)?;
        scheduler.grant_anew();
        scheduler.track();
        Ok(scheduler)
    }

    fn of(mut state: State) -> Result<Self, Error> {
        state.lines.seek_all();
        Ok(Self { order: state.settings.order()?, placement: state.settings.placement()?, state, empty: None })
    }

    /// Tells the scheduler one event at `now`, and takes its decisions. Time never goes back: an earlier `now` counts as the
    /// last one.
    pub fn step(&mut self, now: SimTime, event: &Event, actions: &mut Vec<Action>) {
        let before = actions.len();
        let now = self.state.now.max(now);
        self.state.now = now;
        self.state.version += 1;
        self.apply(event, actions);
        self.expire(actions);
        self.outlived();
        self.fall_due();
        self.probation();
        self.repair(actions);
        self.start_whole(actions);
        self.pay();
        self.claim_guarantees(actions);
        self.carry_out_round(actions);
        self.arrange(actions);
        if !self.in_round() {
            // Whoever has others stopped leaves a line whose next head was not tried, and may fit.
            loop {
                let decided = actions.len();
                self.pass(actions);
                self.retry(actions);
                if actions.len() == decided || !self.state.lines.any_live() {
                    break;
                }
            }
            self.start_whole(actions);
            self.grow(actions);
        }
        let mut mix = Mix::default();
        (self.state.digest, now.0, event).hash(&mut mix);
        actions.get(before..).hash(&mut mix);
        self.state.digest = mix.finish();
    }

    fn apply(&mut self, event: &Event, actions: &mut Vec<Action>) {
        if !matches!(event, Event::Tick | Event::Checkpointed { .. } | Event::Warm { .. }) && !self.answers_round(event)
        {
            self.round_is_due();
        }
        match event {
            Event::Submitted(submission) => {
                self.state.speeds.came(submission.gang.speeds);
                self.submitted(submission, actions);
            }
            Event::Adopted { submission, ranks } => self.adopted(submission, ranks),
            Event::Cancelled { job } => self.cancelled(*job, actions),
            Event::Ended { job, run } => self.ended(*job, *run),
            Event::Stopped { job, run, attained } => self.stopped(*job, *run, *attained, actions),
            Event::Checkpointed { job, run } => {
                if let Some(slot) = self.in_run(*job, *run) {
                    self.safe(slot);
                }
            }
            Event::Predicted { job, length } => {
                self.predicted(*job, *length);
                self.doubt();
            }
            Event::Node { node, service } => {
                self.node(*node, *service, actions);
                self.doubt();
            }
            Event::Suspected { node, evidence } => {
                self.suspected(*node, *evidence, actions);
                self.doubt();
            }
            Event::Queue { queue, rules } => self.queue_rules(*queue, *rules),
            Event::Warm { dataset, node, held } => self.dataset(*dataset, *node, *held),
            Event::Speeds { id, speeds } => self.speeds_told(*id, speeds),
            Event::PowerCap { watts } => self.power_cap(*watts),
            Event::Apply { goal, plan } => self.apply_plan(*goal, *plan, actions),
            Event::Tick => {}
            Event::Iteration { id, iteration } => self.state.interleaved.together.tell(*id, *iteration),
            Event::Beside { id, other, speeds } => self.state.interleaved.together.tell_beside(*id, *other, speeds),
        }
    }

    /// When the scheduler wants to be told the time again, at the latest.
    pub fn wakeup(&self) -> Option<SimTime> {
        let broken = self.state.broken.first().map(|(until, _)| *until);
        broken
            .into_iter()
            .chain(self.claim_wakeup())
            .chain(self.reservation_wakeup())
            .chain(self.power_wakeup())
            .chain(self.order_wakeup())
            .chain(self.probation_wakeup())
            .chain(self.grow_wakeup())
            .chain(self.prediction_wakeup())
            .chain(self.due_wakeup())
            .chain(self.round_wakeup())
            .filter(|at| *at > self.state.now)
            .min()
    }

    /// The time of the last event.
    pub fn now(&self) -> SimTime {
        self.state.now
    }

    /// Events so far: what a reader's decision was based on.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// A digest of all events and decisions so far. Two schedulers that were told the same agree on it, on every machine.
    pub fn digest(&self) -> u64 {
        self.state.digest
    }

    /// How it decides.
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// The nodes.
    pub fn fleet(&self) -> &Fleet {
        &self.state.fleet
    }

    /// Jobs that wait, without those for which a place is being cleared.
    pub fn waiting(&self) -> usize {
        self.state.lines.waiting()
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.state.running
    }

    /// Jobs that are known.
    pub fn len(&self) -> usize {
        self.state.jobs.len()
    }

    /// Whether no job is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a job is known: it waits or runs.
    pub fn knows(&self, job: JobId) -> bool {
        self.state.jobs.slot(job).is_some()
    }

    /// Jobs with ranks on a node, in no particular order.
    pub fn jobs_on(&self, node: NodeId) -> Vec<JobId> {
        let owners = usize::try_from(node.0).ok().and_then(|at| self.state.owners.get(at));
        owners.into_iter().flatten().filter_map(|slot| self.state.jobs.get(*slot)).map(|job| job.id).collect()
    }

    /// What each rank of a running job holds.
    pub fn ranks(&self, job: JobId) -> Option<&[Holding]> {
        let run = self.state.jobs.get(self.state.jobs.slot(job)?)?.run()?;
        Some(&run.ranks)
    }

    /// The run that a job is in, whether or not it was told to stop.
    pub fn run_of(&self, job: JobId) -> Option<RunId> {
        Some(self.state.jobs.get(self.state.jobs.slot(job)?)?.run()?.id)
    }

    /// The slot of a job that is in this run. What is told of another is stale.
    fn in_run(&self, job: JobId, run: RunId) -> Option<Slot> {
        self.state.jobs.slot(job).filter(|_| self.run_of(job) == Some(run))
    }

    /// Time from `earlier` to the last event.
    fn since(&self, earlier: SimTime) -> Span {
        self.state.now.since(earlier)
    }
}

/// The whole state is saved; a scheduler that is read back decides as the other would have.
impl Serialize for Scheduler {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.state.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scheduler {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(State::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Two schedulers are equal if they were told the same and decided the same.
impl PartialEq for Scheduler {
    fn eq(&self, other: &Self) -> bool {
        (self.state.version, self.state.digest) == (other.state.version, other.state.digest)
    }
}

impl Eq for Scheduler {}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod tests_displace;
