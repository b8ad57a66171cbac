//! What is true outside the scheduler, and what must hold: nobody has what is another's, a gang has all its ranks or none, whom
//! others were stopped for starts, and when the faults stop every job ends.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{JobId, NodeId, SimTime};
use dh_hall::scheduler::{Action, Cause, Event, Grace, QueueRules, RunId, Scheduler, Submission};
use dh_policy::fleet::{Holding, Service};
use dh_policy::packing::WHOLE;

use crate::halls::{Dice, QUEUES, settings};

/// Worlds whose seeds have this remainder have a torus, and jobs that ask for boxes, shares and slices.
const SHAPED: (u64, u64) = (8, 3);

/// What the world knows of a job.
pub(crate) struct Job {
    pub(crate) submission: Submission,
    /// The run it is in, or was in last.
    pub(crate) run: RunId,
    /// What it holds while it runs or is being stopped.
    pub(crate) ranks: Vec<Holding>,
    /// It was told to stop, and has not answered.
    pub(crate) stopping: bool,
    /// It goes on with fewer ranks once it has.
    pub(crate) shrinks: bool,
    pub(crate) cancelled: bool,
}

pub(crate) struct World {
    pub(crate) dice: Dice,
    /// Whether there is a torus, and jobs of every shape.
    pub(crate) shaped: bool,
    pub(crate) scheduler: Scheduler,
    pub(crate) now: u64,
    pub(crate) events: u64,
    pub(crate) next_job: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) down: BTreeSet<NodeId>,
    /// Answers that were told, and may come again at any time.
    pub(crate) echoes: Vec<Event>,
    /// Preemptors that others were stopped for and that have not started.
    pub(crate) owed: BTreeSet<JobId>,
    pub(crate) preemptions: u64,
    /// Victims that gave up only some of their ranks.
    pub(crate) shrunk: u64,
    /// Plans of moves that were stale.
    pub(crate) stale: u64,
    pub(crate) faults: bool,
    pub(crate) submitted: u64,
    pub(crate) ended: u64,
    pub(crate) refused: u64,
    /// Plans of moves are applied at these throws.
    pub(crate) plans: Option<Dice>,
    /// Plans that were applied.
    pub(crate) applied: u64,
    pub(crate) log: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let shaped = seed % SHAPED.0 == SHAPED.1;
        let scheduler = Scheduler::new(settings(&mut dice, shaped)).unwrap();
        Self {
            dice,
            shaped,
            scheduler,
            now: 0,
            events: 0,
            next_job: 0,
            jobs: BTreeMap::new(),
            down: BTreeSet::new(),
            echoes: Vec::new(),
            owed: BTreeSet::new(),
            preemptions: 0,
            shrunk: 0,
            stale: 0,
            faults: true,
            submitted: 0,
            ended: 0,
            refused: 0,
            plans: None,
            applied: 0,
            log: std::env::var("DH_LOG").is_ok(),
        }
    }

    pub(crate) fn nodes(&self) -> u64 {
        self.scheduler.fleet().len() as u64
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        self.now += self.dice.below(10_000_000_000);
        self.events += 1;
        // The controller is killed, and another reads its state.
        if self.faults && self.dice.one_in(400) {
            let saved = serde_json::to_vec(&self.scheduler).unwrap();
            self.scheduler = serde_json::from_slice(&saved).unwrap();
        }
        let mut actions = Vec::new();
        self.scheduler.step(SimTime(self.now), event, &mut actions);
        if self.log {
            eprintln!("{} {event:?} -> {actions:?}", self.now);
        }
        self.scheduler.check();
        let mut follow = Vec::new();
        for action in actions {
            self.carry_out(action, &mut follow);
        }
        for event in follow {
            self.tell(&event);
        }
    }

    /// Nothing that is given out may be anybody else's, and no rank may stand on a node that is down.
    pub(crate) fn alone(&self, job: JobId, ranks: &[Holding]) {
        for (at, held) in ranks.iter().enumerate() {
            assert!(!self.down.contains(&held.node), "{job} has a rank on {}, which is down", held.node);
            let others = self.jobs.iter().filter(|(other, _)| **other != job).flat_map(|(_, job)| &job.ranks);
            for other in
                others.chain(&ranks[..at]).filter(|other| other.node == held.node && other.mask & held.mask != 0)
            {
                assert!(
                    held.milli < WHOLE && other.milli < WHOLE,
                    "{job} has accelerators of {} that somebody else has",
                    held.node
                );
                assert_eq!((held.slots == 0, held.slots & other.slots), (other.slots == 0, 0), "{job} has slots twice");
            }
        }
    }

    pub(crate) fn carry_out(&mut self, action: Action, follow: &mut Vec<Event>) {
        match action {
            Action::Start { job, run, ranks } => {
                let known = &self.jobs[&job];
                let gang = &known.submission.gang;
                assert!(known.ranks.is_empty(), "{job} starts twice");
                assert!(!known.cancelled, "{job} starts and was cancelled");
                assert!(
                    ranks.len() as u32 >= gang.least_ranks.min(gang.need.ranks)
                        && ranks.len() as u32 <= gang.need.ranks,
                    "{job} starts in part"
                );
                if gang.need.within == 1 {
                    let racks: BTreeSet<u32> =
                        ranks.iter().map(|held| self.scheduler.fleet().tree().domain(held.node.0, 1).number).collect();
                    assert_eq!(racks.len(), 1, "{job} must stay in one rack");
                }
                if gang.need.asked().is_some() {
                    assert_eq!(ranks.len() as u32, gang.need.ranks, "{job} has part of a box");
                }
                self.alone(job, &ranks);
                self.owed.remove(&job);
                let started = self.jobs.get_mut(&job).unwrap();
                assert!(run > started.run, "{job} starts as a run that is over");
                (started.run, started.ranks) = (run, ranks);
            }
            Action::Repair { job, ranks } => {
                let mut held = self.jobs[&job].ranks.clone();
                for (rank, holding) in ranks {
                    held[rank as usize] = holding;
                }
                self.alone(job, &held);
                self.jobs.get_mut(&job).unwrap().ranks = held;
            }
            Action::Resize { job, ranks } => {
                self.alone(job, &ranks);
                self.jobs.get_mut(&job).unwrap().ranks = ranks;
            }
            Action::Stop { job, cause } => {
                let known = self.jobs.get_mut(&job).unwrap();
                assert!(!known.ranks.is_empty() && !known.stopping, "{job} is stopped and does not run");
                known.stopping = true;
                known.shrinks = matches!(cause, Cause::Shrunk { .. });
                if let Cause::Preempted { by } | Cause::Shrunk { by } = cause {
                    assert_eq!(known.submission.gang.grace, Grace::Preemptible, "{job} is protected");
                    self.preemptions += 1;
                    self.shrunk += u64::from(known.shrinks);
                    self.owed.insert(by);
                }
            }
            Action::Refused { job, .. } => {
                self.refused += u64::from(self.jobs.remove(&job).is_some());
            }
            Action::Wake { node } => follow.push(Event::Node { node, service: Service::Up }),
            Action::Sleep { node } => {
                if self.scheduler.fleet().idle(node) && self.scheduler.fleet().service(node) == Service::Up {
                    follow.push(Event::Node { node, service: Service::Asleep });
                }
            }
            Action::Quarantined { .. } => {}
            Action::NotApplied { .. } => self.stale += 1,
        }
    }

    /// The faults stop: every node is up, no rule is in the way, and every job ends.
    pub(crate) fn calm(&mut self) {
        self.faults = false;
        for queue in 0..QUEUES as u16 {
            let rules = QueueRules { share: 1, ..QueueRules::default() };
            self.tell(&Event::Queue { queue, rules });
        }
        self.tell(&Event::PowerCap { watts: None });
        for node in 0..self.nodes() as u32 {
            self.down.remove(&NodeId(node));
            self.tell(&Event::Node { node: NodeId(node), service: Service::Up });
            // One that came back to make up for a used spare is told that none is wanted.
            if self.scheduler.fleet().service(NodeId(node)) == Service::Spare {
                self.tell(&Event::Node { node: NodeId(node), service: Service::Up });
            }
        }
        let mut quiet = 0;
        while !self.jobs.is_empty() {
            let before = self.ended;
            if let Some(job) = self.pick(|job| !job.ranks.is_empty()) {
                self.answer(job);
            } else {
                // Claims, back-offs and probations end. A probation of weeks has a wake-up every few seconds before its end where
                // jobs are arranged in rounds: the longer nothing has happened, the later this clock calls.
                let late = 1_000_000_000 << (quiet / 100).min(20);
                self.now = self.scheduler.wakeup().map_or(self.now, |at| self.now.max(at.0)) + late - 1_000_000_000;
                self.tell(&Event::Tick);
            }
            quiet = if self.ended > before { 0 } else { quiet + 1 };
            assert!(quiet < 2_000, "{} jobs never end: {:?}", self.jobs.len(), self.jobs.keys().next());
        }
        assert_eq!((self.scheduler.len(), self.scheduler.running(), self.scheduler.waiting()), (0, 0, 0));
        assert_eq!(self.submitted, self.ended + self.refused, "a job was lost");
        assert!(self.owed.is_empty(), "others were stopped for {:?}, which never started", self.owed);
    }
}
