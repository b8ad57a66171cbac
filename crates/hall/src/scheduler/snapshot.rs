//! What readers see: the hall as it was after some event, which never changes while they look.
//!
//! A snapshot shares every page of jobs, groups and nodes with the scheduler until that one writes to it, so taking one copies
//! pointers and the few parts that are small. What only decisions need (who may be displaced, who should be due) is left out;
//! the expected ends, which are as many as jobs run, are sorted again by the first reader who asks for them.
//!
//! Cost: docs/performance.md has what taking one and the steps after it cost with a million jobs waiting.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::{Fleet, Holding};

use super::consolidate::{Goal, Plan};
use super::displace::Displacing;
use super::event::QueueId;
use super::job::{Job, Phase};
use super::{Scheduler, State, Why};

/// Where a job stands, for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It waits.
    Waiting,
    /// A place is being cleared for it.
    Claiming,
    /// It runs.
    Running,
    /// It was told to stop and has not answered.
    Stopping,
}

/// A job in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// The job.
    pub job: JobId,
    /// Its queue.
    pub queue: QueueId,
    /// Where it stands.
    pub standing: Standing,
    /// Since when it is in the line.
    pub since: SimTime,
    /// When it started, if it runs.
    pub started: Option<SimTime>,
}

/// The hall after some event.
#[derive(Debug)]
pub struct Snapshot {
    taken: Scheduler,
    /// The same with the ends of what runs.
    whole: OnceLock<Box<Scheduler>>,
}

impl Scheduler {
    /// What a reader may look at while this scheduler goes on.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let State { fleet, jobs, shapes, lines, queues, capacity, shares, owners, reservations, .. } = &self.state;
        let state = State {
            settings: Arc::clone(&self.state.settings),
            fleet: fleet.clone(),
            jobs: jobs.clone(),
            shapes: shapes.clone(),
            lines: lines.clone(),
            queues: queues.clone(),
            capacity: capacity.clone(),
            shares: shares.clone(),
            predictions: None,
            bound: None,
            owners: owners.clone(),
            ends: BTreeSet::new(),
            claiming: BTreeSet::new(),
            broken: BTreeSet::new(),
            displacing: Displacing::default(),
            reservations: reservations.clone(),
            warm: self.state.warm.clone(),
            power: self.state.power.clone(),
            faults: super::repair::Faults::default(),
            small: BTreeSet::new(),
            moving: self.state.moving.clone(),
            shrinking: self.state.shrinking.clone(),
            speeds: self.state.speeds.clone(),
            rounds: self.state.rounds.clone(),
            interleaved: self.state.interleaved.clone(),
            ..self.state
        };
        let taken = Scheduler { order: self.order, placement: self.placement, state, empty: None };
        Arc::new(Snapshot { taken, whole: OnceLock::new() })
    }
}

impl Snapshot {
    fn whole(&self) -> &Scheduler {
        self.whole.get_or_init(|| {
            let mut whole = self.taken.clone();
            let slots: BTreeSet<_> = whole.state.owners.iter().flatten().copied().collect();
            let ends = |slot| whole.state.jobs.get(slot).and_then(Job::run).and_then(|run| run.ends);
            whole.state.ends = slots.into_iter().filter_map(|slot| Some((ends(slot)?, slot))).collect();
            Box::new(whole)
        })
    }

    /// Events that had happened: see [`Scheduler::version`].
    pub fn version(&self) -> u64 {
        self.taken.version()
    }

    /// The time of the last of them.
    pub fn now(&self) -> SimTime {
        self.taken.now()
    }

    /// The nodes.
    pub fn fleet(&self) -> &Fleet {
        self.taken.fleet()
    }

    /// Jobs that wait, without those for which a place is being cleared.
    pub fn waiting(&self) -> usize {
        self.taken.waiting()
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.taken.running()
    }

    /// Jobs that are known.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether no job is known.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// See [`Scheduler::why`].
    pub fn why(&self, job: JobId) -> Option<Why> {
        self.whole().why(job)
    }

    /// See [`Scheduler::consolidate`].
    pub fn consolidate(&self, goal: Goal) -> Option<Plan> {
        self.taken.consolidate(goal)
    }

    /// See [`Scheduler::ranks`].
    pub fn ranks(&self, job: JobId) -> Option<&[Holding]> {
        self.taken.ranks(job)
    }

    /// See [`Scheduler::jobs_on`].
    pub fn jobs_on(&self, node: NodeId) -> Vec<JobId> {
        self.taken.jobs_on(node)
    }

    /// Where a job stands; `None` if it is not known.
    pub fn job(&self, job: JobId) -> Option<Listed> {
        let slot = self.taken.state.jobs.slot(job)?;
        self.taken.state.jobs.get(slot).and_then(listed)
    }

    /// All jobs, in no particular order.
    pub fn jobs(&self) -> impl Iterator<Item = Listed> {
        self.taken.state.jobs.iter().filter_map(|(_, job)| listed(job))
    }
}

fn listed(job: &Job) -> Option<Listed> {
    let standing = match &job.phase {
        Phase::Waiting { .. } => Standing::Waiting,
        Phase::Claiming(_) => Standing::Claiming,
        Phase::Running(run) if run.stopping => Standing::Stopping,
        Phase::Running(_) => Standing::Running,
        Phase::Gone => return None,
    };
    let started = job.run().map(|run| run.started);
    Some(Listed { job: job.id, queue: job.queue, standing, since: job.submitted, started })
}
