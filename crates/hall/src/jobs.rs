//! All jobs by id, and who stands where: counts and ordered sets that are kept up with every change, so that no event looks at
//! jobs that it does not concern.
//!
//! Invariant: the counts and sets are what a recount of the jobs gives (see [`Jobs::check`]); they are not saved, and what is
//! read back is counted once. Cost of a change: a few logarithms, and a look at the ranks of the job.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use dh_core::{JobId, SimTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::{Job, Phase};

/// The jobs of a hall.
#[derive(Debug, Clone, Default)]
pub(crate) struct Jobs {
    all: BTreeMap<JobId, Job>,
    sets: Sets,
}

/// What is kept up beside the jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sets {
    /// Jobs by their word.
    words: BTreeMap<&'static str, u64>,
    /// Open jobs by queue.
    open: BTreeMap<String, u64>,
    /// Open jobs that are services.
    services: BTreeSet<JobId>,
    /// Jobs that own slots.
    active: BTreeSet<JobId>,
    /// Jobs that are over.
    done: BTreeSet<JobId>,
    /// Waiting jobs, by when they may start.
    waiting: BTreeSet<(SimTime, JobId)>,
    /// Of these, the ones that the scheduler may not know yet.
    fresh: BTreeSet<(SimTime, JobId)>,
    /// When the time limit of what runs and is not being stopped is over.
    limits: BTreeSet<(SimTime, JobId)>,
}

/// Where a job stands in the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    word: &'static str,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting(SimTime),
    Active(Option<SimTime>),
    Done,
}

impl Stand {
    fn of(job: &Job) -> Self {
        let place = match &job.phase {
            Phase::Waiting { not_before } => Place::Waiting(*not_before),
            Phase::Active { attempt } => {
                let limit = job.spec.time_limit.filter(|_| attempt.verdict.is_none());
                Place::Active(limit.map(|limit| attempt.started.after(limit)))
            }
            Phase::Done { .. } => Place::Done,
        };
        Self { word: job.word(), place }
    }
}

impl Sets {
    fn enter(&mut self, job: &Job, stand: Stand) {
        *self.words.entry(stand.word).or_default() += 1;
        if stand.place != Place::Done {
            // Names of queues are few: only the first job of one is given a copy.
            match self.open.get_mut(&job.spec.queue) {
                Some(count) => *count += 1,
                None => drop(self.open.insert(job.spec.queue.clone(), 1)),
            }
            if job.spec.kind.is_service() {
                self.services.insert(job.id);
            }
        }
        match stand.place {
            Place::Waiting(at) => {
                self.waiting.insert((at, job.id));
                self.fresh.insert((at, job.id));
            }
            Place::Active(limit) => {
                self.active.insert(job.id);
                self.limits.extend(limit.map(|limit| (limit, job.id)));
            }
            Place::Done => drop(self.done.insert(job.id)),
        }
    }

    fn leave(&mut self, job: &Job, stand: Stand) {
        if let Some(count) = self.words.get_mut(stand.word) {
            *count -= 1;
            if *count == 0 {
                self.words.remove(stand.word);
            }
        }
        if stand.place != Place::Done {
            if let Some(count) = self.open.get_mut(&job.spec.queue) {
                *count -= 1;
                if *count == 0 {
                    self.open.remove(&job.spec.queue);
                }
            }
            self.services.remove(&job.id);
        }
        match stand.place {
            Place::Waiting(at) => {
                self.waiting.remove(&(at, job.id));
                self.fresh.remove(&(at, job.id));
            }
            Place::Active(limit) => {
                self.active.remove(&job.id);
                if let Some(limit) = limit {
                    self.limits.remove(&(limit, job.id));
                }
            }
            Place::Done => drop(self.done.remove(&job.id)),
        }
    }
}

impl Jobs {
    fn of(all: BTreeMap<JobId, Job>) -> Self {
        let mut sets = Sets::default();
        for job in all.values() {
            sets.enter(job, Stand::of(job));
        }
        Self { all, sets }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.all.get(&id)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.all.values()
    }

    /// Jobs with larger numbers than `after`, oldest first.
    pub(crate) fn after(&self, after: JobId) -> impl Iterator<Item = &Job> {
        self.all.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, job)| job)
    }

    /// Jobs with smaller numbers than `before`, newest first.
    pub(crate) fn before(&self, before: JobId) -> impl Iterator<Item = &Job> {
        self.all.range(..before).rev().map(|(_, job)| job)
    }

    /// A new job.
    pub(crate) fn insert(&mut self, job: Job) {
        self.remove(job.id);
        self.sets.enter(&job, Stand::of(&job));
        self.all.insert(job.id, job);
    }

    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.all.remove(&id)?;
        self.sets.leave(&job, Stand::of(&job));
        Some(job)
    }

    /// Changes a job, but for its id and what was asked for.
    pub(crate) fn change<T>(&mut self, id: JobId, change: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let job = self.all.get_mut(&id)?;
        let before = Stand::of(job);
        let outcome = change(job);
        let after = Stand::of(job);
        if before != after {
            self.sets.leave(job, before);
            self.sets.enter(job, after);
        }
        Some(outcome)
    }

    /// Jobs that own slots, in order.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Job> {
        self.sets.active.iter().filter_map(|id| self.all.get(id))
    }

    /// Open jobs that are services, in order.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Job> {
        self.sets.services.iter().filter_map(|id| self.all.get(id))
    }

    /// The same as ids, for whoever changes them on the way.
    pub(crate) fn active_ids(&self) -> Vec<JobId> {
        self.sets.active.iter().copied().collect()
    }

    /// Open jobs.
    pub(crate) fn open(&self) -> usize {
        self.all.len() - self.sets.done.len()
    }

    /// Open jobs of a queue.
    pub(crate) fn open_in(&self, queue: &str) -> u64 {
        self.sets.open.get(queue).copied().unwrap_or(0)
    }

    /// Jobs by their word.
    pub(crate) const fn words(&self) -> &BTreeMap<&'static str, u64> {
        &self.sets.words
    }

    /// Jobs that are over, but for the newest `kept`; oldest first.
    pub(crate) fn done_before(&self, kept: usize) -> Vec<JobId> {
        let surplus = self.sets.done.len().saturating_sub(kept);
        self.sets.done.iter().take(surplus).copied().collect()
    }

    /// Waiting jobs that may start at `now`, by when they could first.
    pub(crate) fn may_start(&self, now: SimTime) -> impl Iterator<Item = &Job> {
        self.sets.waiting.range(..=(now, JobId(u64::MAX))).filter_map(|(_, id)| self.all.get(id))
    }

    /// Those of them that the scheduler may not know yet, in the order of their ids.
    pub(crate) fn fresh(&self, now: SimTime) -> Vec<JobId> {
        let mut fresh: Vec<JobId> = self.sets.fresh.range(..=(now, JobId(u64::MAX))).map(|(_, id)| *id).collect();
        fresh.sort_unstable();
        fresh
    }

    /// The scheduler knows this one.
    pub(crate) fn handed(&mut self, id: JobId) {
        if let Some(Phase::Waiting { not_before }) = self.all.get(&id).map(|job| &job.phase) {
            self.sets.fresh.remove(&(*not_before, id));
        }
    }

    /// There is a scheduler that knows none that wait.
    pub(crate) fn hand_all(&mut self) {
        self.sets.fresh.clone_from(&self.sets.waiting);
    }

    /// Jobs whose time limit is over at `now`, in the order of their ids.
    pub(crate) fn over_limit(&self, now: SimTime) -> Vec<JobId> {
        let mut over: Vec<JobId> = self.sets.limits.range(..=(now, JobId(u64::MAX))).map(|(_, id)| *id).collect();
        over.sort_unstable();
        over
    }

    /// When the next back-off or time limit is over.
    pub(crate) fn next_moment(&self, now: SimTime) -> Option<SimTime> {
        let later = (Bound::Excluded((now, JobId(u64::MAX))), Bound::Unbounded);
        let backoff = self.sets.waiting.range(later).next();
        backoff.into_iter().chain(self.sets.limits.first()).map(|(at, _)| *at).min()
    }

    /// What must hold.
    ///
    /// # Panics
    /// If a count or a set is not what a recount gives.
    pub(crate) fn check(&self, knows: impl Fn(JobId) -> bool) {
        let recount = Self::of(self.all.clone()).sets;
        let fresh = recount.fresh.iter().filter(|(_, id)| !knows(*id));
        for one in fresh {
            assert!(self.sets.fresh.contains(one), "{} waits, and nobody was told", one.1);
        }
        assert!(self.sets.fresh.is_subset(&self.sets.waiting), "a job that does not wait is to be handed on");
        let kept = Sets { fresh: recount.fresh.clone(), ..self.sets.clone() };
        assert_eq!(kept, recount, "the counts of jobs are wrong");
    }
}

impl PartialEq for Jobs {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Jobs {}

impl Serialize for Jobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Jobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::of)
    }
}
