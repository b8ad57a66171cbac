//! Elastic victims: a gang that can do with fewer ranks gives up those that are in the way, and goes on with the others.
//!
//! Whom a job displaces is chosen as if everybody went whole. Of each victim that is elastic, the ranks that the job's place
//! does not touch are kept, if they are enough. The victim is told to stop with [`Cause::Shrunk`]; when it answers, the ranks
//! that it keeps are started at once, from what it saved: it never waits. It grows again as any gang that is small.
//!
//! Invariants: what is kept stays the victim's own from the decision to the start; with it, the place of the job that goes
//! first is still whole. Ranks that are lost with a node meanwhile are not kept; if too few are left, the victim waits as others
//! do. Cost: a look at the ranks of each elastic victim.

use std::collections::BTreeMap;

use dh_core::JobId;
use dh_policy::fleet::Holding;

use super::Scheduler;
use super::event::{Action, Cause};
use super::job::{Job, Slot};

/// By slot: the numbers of the ranks that are kept, ascending.
pub(super) type Shrinking = BTreeMap<Slot, Vec<u32>>;

impl Scheduler {
    /// Of the victims of a job that will hold `ranks`, those that are enough if they shrink, and the ranks that they keep.
    pub(super) fn keeps(&mut self, ranks: &[Holding], victims: &[JobId]) -> Vec<(JobId, Vec<u32>)> {
        let mut taken: Vec<Holding> = ranks.to_vec();
        taken.sort_unstable_by_key(|held| held.node);
        let keeps: Vec<(JobId, Vec<u32>)> =
            victims.iter().filter_map(|victim| Some((*victim, self.keeps_of(*victim, &taken)?))).collect();
        if keeps.is_empty() || self.fits_beside(ranks, victims, &keeps) { keeps } else { Vec::new() }
    }

    /// The ranks of an elastic victim that are not in the way, if they are enough.
    fn keeps_of(&self, victim: JobId, taken: &[Holding]) -> Option<Vec<u32>> {
        let slot = self.state.jobs.slot(victim)?;
        let (gang, run) = (self.gang(slot)?, self.state.jobs.get(slot)?.run()?);
        if gang.least_ranks >= u32::try_from(run.ranks.len()).ok()? {
            return None;
        }
        let clear = |held: &Holding| {
            let first = taken.partition_point(|other| other.node < held.node);
            let mut here = taken.get(first..).unwrap_or(&[]).iter().take_while(|other| other.node == held.node);
            here.all(|other| other.mask & held.mask == 0)
        };
        let kept: Vec<u32> =
            (0_u32..).zip(&run.ranks).filter(|(_, held)| clear(held)).map(|(number, _)| number).collect();
        let all = kept.len() >= run.ranks.len();
        (!all && kept.len() >= usize::try_from(gang.least_ranks.max(1)).ok()?).then_some(kept)
    }

    /// Whether a place is whole once the victims are gone but for what they keep: cores and memory are shared.
    fn fits_beside(&mut self, ranks: &[Holding], victims: &[JobId], keeps: &[(JobId, Vec<u32>)]) -> bool {
        let mut gone: Vec<Holding> = Vec::new();
        for victim in victims {
            let Some(run) = self.state.jobs.slot(*victim).and_then(|slot| self.state.jobs.get(slot)?.run()) else {
                continue;
            };
            let kept = keeps.iter().find(|(job, _)| job == victim).map_or(&[][..], |(_, kept)| kept.as_slice());
            let goes = (0_u32..).zip(&run.ranks).filter(|(number, _)| kept.binary_search(number).is_err());
            gone.extend(goes.map(|(_, held)| *held));
        }
        for held in &gone {
            self.state.fleet.release(held);
        }
        let mut placed: Vec<Holding> = Vec::with_capacity(ranks.len());
        for rank in ranks {
            if self.state.fleet.free_of(rank) != [*rank] {
                break;
            }
            self.state.fleet.occupy(rank);
            placed.push(*rank);
        }
        let whole = placed.len() == ranks.len();
        for held in &placed {
            self.state.fleet.release(held);
        }
        for held in &gone {
            self.state.fleet.occupy(held);
        }
        whole
    }

    /// A victim is told to go on with the ranks that it keeps.
    pub(super) fn shrink_for(&mut self, slot: Slot, by: JobId, kept: &[u32], actions: &mut Vec<Action>) {
        self.state.shrinking.insert(slot, kept.to_vec());
        self.stop(slot, Cause::Shrunk { by }, actions);
    }

    /// Ranks of a running job that go when it stops.
    pub(super) fn going(&self, slot: Slot) -> usize {
        let all = self.state.jobs.get(slot).and_then(Job::run).map_or(0, |run| run.ranks.len());
        all - self.state.shrinking.get(&slot).map_or(0, Vec::len).min(all)
    }

    /// What a job that was told to stop gives back of what it holds.
    pub(super) fn gives_back(&self, slot: Slot) -> impl Iterator<Item = Holding> {
        let kept = self.state.shrinking.get(&slot).map_or(&[][..], Vec::as_slice);
        let ranks = self.state.jobs.get(slot).and_then(Job::run).map_or(&[][..], |run| run.ranks.as_slice());
        let goes = (0_u32..).zip(ranks).filter(move |(number, _)| kept.binary_search(number).is_err());
        goes.map(|(_, held)| *held)
    }

    /// A job is gone from its nodes that holds `kept` on: it goes on with that, or gives it back and waits.
    pub(super) fn go_on_with(&mut self, slot: Slot, kept: Vec<Holding>, actions: &mut Vec<Action>) {
        let least = self.gang(slot).map_or(1, |gang| gang.least_ranks.max(1));
        if u32::try_from(kept.len()).unwrap_or(u32::MAX) < least {
            self.give_back(slot, &kept);
            self.wait(slot);
            return;
        }
        self.guess(slot);
        self.charge(slot, kept.len());
        self.run(slot, kept, actions);
    }

    /// For checks: who shrinks was told to stop, and keeps enough.
    pub(super) fn check_shrinking(&self) {
        for (slot, kept) in &self.state.shrinking {
            let run = self.state.jobs.get(*slot).and_then(Job::run);
            assert!(run.is_some_and(|run| run.stopping), "slot {slot} shrinks and does not stop");
            let least = self.gang(*slot).map_or(0, |gang| gang.least_ranks.max(1));
            assert!(kept.len() >= usize::try_from(least).unwrap_or(0), "slot {slot} keeps too few ranks");
            assert!(kept.is_sorted() && run.is_some_and(|run| kept.len() < run.ranks.len()), "slot {slot} keeps all");
        }
    }
}
