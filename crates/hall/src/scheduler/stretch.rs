//! The bound on how far an order may set a job back: a job that has waited too long for what it ran goes before all others.
//!
//! Time is fair time ([`FairClock`]): it slows down as more is asked for than there is. A job that falls due keeps its key
//! ahead of all while it waits, and once it runs until it has run enough; see [`Stretch`].
//!
//! Invariant: each waiting job that is not due has one moment, in fair time, at which it falls due; each running one that is
//! has one at which it is released, in time. Cost: a change of a sorted set when a job comes, waits or starts; the job that
//! falls due is the only one that moves. Without the bound, nothing.

use std::collections::{BTreeMap, BTreeSet};

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::fairness::{FairClock, Load, Progress, Stretch};
use dh_policy::order::Key;
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::job::{Phase, Slot};
use super::line::Head;
use super::run::milli;
use super::share::Capacity;

/// Due jobs that are looked at for one that may go first.
const LOOKS: usize = 16;

/// Who is due, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    stretch: Stretch,
    clock: FairClock,
    /// What all jobs ask for, thousandths of accelerators.
    demand: u64,
    /// By slot: when the job was submitted, in fair time.
    entered: Vec<SimTime>,
    /// When waiting jobs fall due, in fair time.
    falls: BTreeSet<(SimTime, Slot)>,
    due: BTreeMap<Slot, Due>,
    /// Due jobs that wait, by when they fell due.
    waiting: BTreeSet<(SimTime, Slot)>,
    /// Due jobs that run, by when they are released.
    held: BTreeSet<(SimTime, Slot)>,
}

/// A job that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Due {
    /// When it fell due, in fair time.
    fell: SimTime,
    /// When it is released, if it runs.
    until: Option<SimTime>,
}

impl Bound {
    pub(super) fn new(stretch: Stretch, capacity: &Capacity) -> Self {
        let load = Load { demand: 0, capacity: capacity.amounts().accelerators_milli };
        Self {
            stretch,
            clock: FairClock::new(SimTime(0), load),
            demand: 0,
            entered: Vec::new(),
            falls: BTreeSet::new(),
            due: BTreeMap::new(),
            waiting: BTreeSet::new(),
            held: BTreeSet::new(),
        }
    }

    fn progress(&self, slot: Slot, attained: Span) -> Progress {
        let entered = usize::try_from(slot).ok().and_then(|at| self.entered.get(at)).copied();
        Progress { entered: entered.unwrap_or_default(), attained }
    }

    /// Takes a job out of every set but that of the due ones.
    fn forget(&mut self, slot: Slot, attained: Span) {
        self.falls.remove(&(self.stretch.due_at(&self.progress(slot, attained)), slot));
        if let Some(due) = self.due.get_mut(&slot) {
            self.waiting.remove(&(due.fell, slot));
            if let Some(until) = due.until.take() {
                self.held.remove(&(until, slot));
            }
        }
    }
}

impl Scheduler {
    /// What is asked for, or what there is, has changed.
    pub(super) fn load_changed(&mut self) {
        let capacity = self.state.capacity.amounts().accelerators_milli;
        if let Some(bound) = &mut self.state.bound {
            bound.clock.set(self.state.now, Load { demand: bound.demand, capacity });
        }
    }

    fn attained(&self, slot: Slot) -> Span {
        self.candidate(slot).map_or(Span(0), |candidate| candidate.attained)
    }

    /// A job is known from now on. If it has been in line before, that counts as if it always could have had its share.
    pub(super) fn enters(&mut self, slot: Slot) {
        let Some(bound) = &mut self.state.bound else { return };
        let Some(job) = self.state.jobs.get(slot) else { return };
        let entered = bound.clock.read(self.state.now).0.saturating_sub(self.state.now.since(job.submitted).0);
        let Ok(at) = usize::try_from(slot) else { return };
        if bound.entered.len() <= at {
            bound.entered.resize(at + 1, SimTime(0));
        }
        if let Some(place) = bound.entered.get_mut(at) {
            *place = SimTime(entered);
        }
        bound.demand += self.state.shapes.get(job.shape).map_or(0, milli);
        self.load_changed();
    }

    /// A job is known no more.
    pub(super) fn is_gone(&mut self, slot: Slot) {
        self.no_hazard(slot);
        let Some(bound) = &mut self.state.bound else { return };
        let Some(job) = self.state.jobs.get(slot) else { return };
        bound.forget(slot, job.attained);
        bound.due.remove(&slot);
        bound.demand -= self.state.shapes.get(job.shape).map_or(0, milli);
        self.load_changed();
    }

    /// A job comes to wait. One that is due stays so unless it has run enough.
    pub(super) fn lines_up(&mut self, slot: Slot) {
        let Some(bound) = &mut self.state.bound else { return };
        let Some(job) = self.state.jobs.get(slot) else { return };
        let progress = bound.progress(slot, job.attained);
        bound.forget(slot, job.attained);
        let fair = bound.clock.read(self.state.now);
        if let Some(due) = bound.due.get(&slot).copied() {
            if bound.stretch.holds_for(&progress, fair) > Span(0) {
                bound.waiting.insert((due.fell, slot));
                return;
            }
            bound.due.remove(&slot);
        }
        bound.falls.insert((bound.stretch.due_at(&progress), slot));
    }

    /// A job begins to run. One that is due keeps its place for a while.
    pub(super) fn runs(&mut self, slot: Slot) {
        let attained = self.attained(slot);
        let Some(bound) = &mut self.state.bound else { return };
        bound.forget(slot, attained);
        self.hold_on(slot);
    }

    /// A due job that runs is released, or keeps its place until it may be.
    fn hold_on(&mut self, slot: Slot) {
        let attained = self.attained(slot);
        let now = self.state.now;
        let Some(bound) = &mut self.state.bound else { return };
        let holds = bound.stretch.holds_for(&bound.progress(slot, attained), bound.clock.read(now));
        let Some(due) = bound.due.get_mut(&slot) else { return };
        if holds > Span(0) {
            let until = now.after(holds);
            due.until = Some(until);
            bound.held.insert((until, slot));
        } else {
            bound.due.remove(&slot);
        }
    }

    /// Jobs fall due, and due ones that have run enough are released.
    pub(super) fn fall_due(&mut self) {
        let now = self.state.now;
        while let Some(bound) = &mut self.state.bound
            && let Some((until, slot)) = bound.held.first().copied().filter(|(until, _)| *until <= now)
        {
            bound.held.remove(&(until, slot));
            if let Some(due) = bound.due.get_mut(&slot) {
                due.until = None;
            }
            self.hold_on(slot);
            if self.due_key(slot).is_none() {
                self.stands_anew(slot);
            }
        }
        while let Some(bound) = &mut self.state.bound
            && let Some((fell, slot)) = bound.falls.first().copied()
            && fell <= bound.clock.read(now)
        {
            bound.falls.pop_first();
            bound.due.insert(slot, Due { fell, until: None });
            bound.waiting.insert((fell, slot));
            let key = Stretch::key(fell);
            match self.state.jobs.get_mut(slot).map(|job| (&job.phase, &mut job.key)) {
                Some((Phase::Waiting { group }, _)) => {
                    let group = *group;
                    self.state.lines.rise(&mut self.state.jobs, group, slot, key);
                    self.new_head(group);
                    self.look_behind(group);
                }
                // A place is being cleared for it already.
                Some((Phase::Claiming(_) | Phase::Running(_) | Phase::Gone, of_job)) => *of_job = key,
                None => {}
            }
        }
    }

    /// The key of a job that is due.
    pub(super) fn due_key(&self, slot: Slot) -> Option<Key> {
        let bound = self.state.bound.as_ref()?;
        bound.due.get(&slot).map(|due| Stretch::key(due.fell))
    }

    /// Of the due jobs that may fit, the one that fell due first, with its line.
    pub(super) fn due_head(&self) -> Option<(usize, Head)> {
        let bound = self.state.bound.as_ref()?;
        bound.waiting.iter().take(LOOKS).find_map(|(_, slot)| {
            let job = self.state.jobs.get(*slot)?;
            let Phase::Waiting { group } = &job.phase else { return None };
            self.state.lines.live_head(*group).filter(|(_, head)| head.1 == job.id)
        })
    }

    /// When the next job falls due or is released, if the load stays.
    pub(super) fn due_wakeup(&self) -> Option<SimTime> {
        let bound = self.state.bound.as_ref()?;
        let falls = bound.falls.first().map(|(fair, _)| bound.clock.when(*fair));
        let released = bound.held.first().map(|(until, _)| *until);
        falls.into_iter().chain(released).min()
    }

    /// For checks: every job has its moment.
    pub(super) fn check_bound(&self) {
        let Some(bound) = &self.state.bound else { return };
        let (mut demand, mut falls, mut waiting, mut held) = (0, 0, 0, 0);
        for (slot, job) in self.state.jobs.iter() {
            demand += self.gang(slot).map_or(0, milli);
            match (bound.due.get(&slot), &job.phase) {
                (Some(due), Phase::Waiting { .. } | Phase::Claiming(_)) => {
                    assert!(bound.waiting.contains(&(due.fell, slot)), "{} is due and does not wait", job.id);
                    assert_eq!(job.key, Stretch::key(due.fell), "{} is due and does not go first", job.id);
                    waiting += 1;
                }
                (Some(due), Phase::Running(_)) => {
                    assert!(
                        due.until.is_some_and(|until| bound.held.contains(&(until, slot))),
                        "{} is not held",
                        job.id
                    );
                    held += 1;
                }
                (None, Phase::Waiting { .. } | Phase::Claiming(_)) => {
                    let falls_at = bound.stretch.due_at(&bound.progress(slot, job.attained));
                    assert!(bound.falls.contains(&(falls_at, slot)), "{} never falls due", job.id);
                    falls += 1;
                }
                (None, Phase::Running(_)) | (_, Phase::Gone) => {}
            }
        }
        let counted = (bound.demand, bound.falls.len(), bound.waiting.len(), bound.held.len());
        assert_eq!(counted, (demand, falls, waiting, held), "the bound counts jobs that are not there");
    }
}
