//! Jobs as the scheduler keeps them: a record of fixed size each, in a slab, found by id. A job that is over leaves no trace.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use dh_core::time::Span;
use dh_core::{JobId, NodeId, SimTime};
use dh_policy::fleet::Holding;
use dh_policy::order::Key;
use dh_policy::pages::Pages;
use serde::{Deserialize, Serialize};

use super::event::{QueueId, RunId};

/// A place in the slab.
pub(super) type Slot = u32;

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) submitted: SimTime,
    pub(super) attained: Span,
    pub(super) length: Option<std::num::NonZeroU64>,
    pub(super) key: Key,
    pub(super) phase: Phase,
    /// The gang, by its number among the shapes.
    pub(super) shape: u32,
    pub(super) priority: i32,
    pub(super) queue: QueueId,
    pub(super) cancelled: bool,
    /// Who says how long it is.
    pub(super) source: Source,
    /// Which jobs it is like, to its owner.
    pub(super) kind: u32,
}

/// Who says how long a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// Whoever submitted it.
    Told,
    /// History; good enough to sort by.
    Guessed,
    /// History; plans may be made on it.
    Trusted,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// In a group of jobs that ask for the same.
    Waiting { group: u32 },
    /// It owns what is free of its place, and waits for the rest.
    Claiming(Box<Claim>),
    /// It holds its ranks' accelerators.
    Running(Box<Run>),
    /// It was cancelled while it waited; its slot is free once its group forgets it.
    Gone,
}

/// A place that is being cleared for a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// What each rank will hold, in rank order.
    pub(super) ranks: Vec<Holding>,
    /// What it owns of that already, in pieces.
    pub(super) held: Vec<Holding>,
    /// Nodes of which it does not own all it will hold, sorted.
    pub(super) missing: Vec<NodeId>,
    /// Jobs that were told to stop for it and are still there, sorted.
    pub(super) victims: Vec<JobId>,
    /// When it gives up.
    pub(super) until: SimTime,
}

/// A gang on its nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) started: SimTime,
    /// What each rank holds, in rank order.
    pub(super) ranks: Vec<Holding>,
    /// When its work was last safe.
    pub(super) safe: SimTime,
    /// When it is expected to end.
    pub(super) ends: Option<SimTime>,
    /// When its number of ranks last changed.
    pub(super) resized: SimTime,
    /// Whether it was told to stop.
    pub(super) stopping: bool,
    /// Ranks that were lost with a node, and until when the others wait for a repair.
    pub(super) lost: Option<Lost>,
}

/// Ranks that were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    /// Their numbers, ascending.
    pub(super) ranks: Vec<u32>,
    /// What was found for some of them already, ascending; the gang owns it.
    pub(super) found: Vec<(u32, Holding)>,
    /// When the gang gives up.
    pub(super) until: SimTime,
}

impl Job {
    pub(super) fn length(&self) -> Option<Span> {
        self.length.map(|length| Span(length.get()))
    }

    /// How much longer it runs, if plans may be made on that: nothing if it has run longer than was thought.
    pub(super) fn remaining(&self) -> Option<Span> {
        self.length()
            .filter(|_| self.source != Source::Guessed)
            .map(|length| Span(length.0.saturating_sub(self.attained.0)))
    }

    pub(super) fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Running(run) => Some(run),
            Phase::Waiting { .. } | Phase::Claiming(_) | Phase::Gone => None,
        }
    }

    pub(super) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.phase {
            Phase::Running(run) => Some(run),
            Phase::Waiting { .. } | Phase::Claiming(_) | Phase::Gone => None,
        }
    }
}

/// All jobs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub(super) struct Jobs {
    slots: Pages<Option<Job>, 256>,
    free: Pages<Slot, 1024>,
    by_id: Index,
    /// Few jobs have one.
    deadlines: BTreeMap<JobId, SimTime>,
}

/// What is saved: the index is built again.
#[derive(Serialize, Deserialize)]
struct Saved {
    slots: Pages<Option<Job>, 256>,
    free: Pages<Slot, 1024>,
    deadlines: BTreeMap<JobId, SimTime>,
}

impl From<Saved> for Jobs {
    fn from(saved: Saved) -> Self {
        let known = saved.slots.iter().zip(0..).filter_map(|(job, slot)| {
            let job = job.as_ref().filter(|job| job.phase != Phase::Gone)?;
            Some((job.id.0, slot))
        });
        let mut by_id = Index::default();
        for (id, slot) in known {
            by_id.insert(id, slot);
        }
        Self { slots: saved.slots, free: saved.free, by_id, deadlines: saved.deadlines }
    }
}

impl From<Jobs> for Saved {
    fn from(jobs: Jobs) -> Self {
        Self { slots: jobs.slots, free: jobs.free, deadlines: jobs.deadlines }
    }
}

/// Where each job is. In parts, so that a copy shares those that do not change and none grows long at once.
#[derive(Debug, Clone, Default)]
struct Index {
    parts: Vec<Arc<Part>>,
    len: usize,
}

type Part = HashMap<u64, Slot, BuildHasherDefault<Mix>>;

/// Parts of the index.
const PARTS: u64 = 1024;

impl Index {
    /// Jobs that came one after the other are together.
    fn part(id: u64) -> usize {
        usize::try_from((id >> 6) % PARTS).unwrap_or(0)
    }

    fn get(&self, id: u64) -> Option<Slot> {
        self.parts.get(Self::part(id))?.get(&id).copied()
    }

    fn insert(&mut self, id: u64, slot: Slot) {
        let at = Self::part(id);
        if self.parts.len() <= at {
            self.parts.resize_with(at + 1, Arc::default);
        }
        if let Some(part) = self.parts.get_mut(at)
            && Arc::make_mut(part).insert(id, slot).is_none()
        {
            self.len += 1;
        }
    }

    fn remove(&mut self, id: u64) {
        if let Some(part) = self.parts.get_mut(Self::part(id))
            && Arc::make_mut(part).remove(&id).is_some()
        {
            self.len -= 1;
        }
    }
}

impl Jobs {
    pub(super) fn slot(&self, id: JobId) -> Option<Slot> {
        self.by_id.get(id.0)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Job> {
        self.slots.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Job> {
        self.slots.get_mut(usize::try_from(slot).ok()?)?.as_mut()
    }

    pub(super) fn deadline(&self, id: JobId) -> Option<SimTime> {
        self.deadlines.get(&id).copied()
    }

    pub(super) fn set_deadline(&mut self, id: JobId, deadline: SimTime) {
        self.deadlines.insert(id, deadline);
    }

    pub(super) fn insert(&mut self, job: Job) -> Slot {
        let id = job.id;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at)) {
            *place = Some(job);
        }
        self.by_id.insert(id.0, slot);
        slot
    }

    /// Forgets a job that a group still knows: its slot stays until [`Self::reuse`].
    pub(super) fn bury(&mut self, slot: Slot) {
        if let Some(job) = self.get_mut(slot) {
            job.phase = Phase::Gone;
            let id = job.id;
            self.by_id.remove(id.0);
            self.deadlines.remove(&id);
        }
    }

    /// Forgets a job and frees its slot.
    pub(super) fn reuse(&mut self, slot: Slot) {
        let place = usize::try_from(slot).ok().and_then(|at| self.slots.get_mut(at));
        let Some(job) = place.and_then(Option::take) else { return };
        if job.phase != Phase::Gone {
            self.by_id.remove(job.id.0);
            self.deadlines.remove(&job.id);
        }
        self.free.push(slot);
    }

    /// Jobs that are neither over nor forgotten, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Job)> {
        (0..)
            .zip(self.slots.iter())
            .filter_map(|(slot, job)| Some((slot, job.as_ref()?)))
            .filter(|(_, job)| job.phase != Phase::Gone)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len
    }
}

/// A hash of a number that spreads neighbours. It is only looked up in, never gone through, so it decides nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    // One mixing for each number, not for each of its bytes: every event and every decision is mixed.
    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(i64::from(number).cast_unsigned());
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(i64::try_from(number).unwrap_or(i64::MAX).cast_unsigned());
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0));
        self.write_u64(u64::try_from(number >> 64).unwrap_or(0));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 29;
    }
}
