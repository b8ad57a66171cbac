//! How fast gangs run on each class of accelerators: those that were told, and the average of those that came lately.
//!
//! A job's length is what it takes on its fastest class, and a gang is as fast as its slowest rank: when a running gang ends,
//! and whether a waiting one is over by some moment, follows from the accelerators where it runs, or would.
//!
//! Invariant: what is kept is in millionths of the gang's own fastest class, so that every gang weighs the same. Cost: a pass
//! over the classes for each gang that comes with speeds; over the running gangs when speeds are told anew.

use std::collections::BTreeMap;

use dh_core::SimTime;
use dh_core::time::Span;
use dh_policy::fleet::{CLASSES_MAX, Holding, NodeFacts, View};
use dh_policy::packing::Request;
use dh_policy::placement::{self, Misfit, Need, Share};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::event::{Gang, SpeedsId};
use super::job::{Job, Slot};

/// The fastest class of a gang.
const FASTEST: u64 = 1_000_000;
const FULL: u32 = 1_000_000;

/// Each gang that comes moves the average by one part in so many: the last hundred or so decide.
const WEIGHT: u64 = 64;

/// What was told, and the average of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Speeds {
    told: BTreeMap<SpeedsId, Vec<u32>>,
    average: Vec<u32>,
    /// A bit for each class of accelerators that is there.
    #[serde(default)]
    present: u32,
}

/// How fast a gang is on accelerators that it may have, millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paces {
    pub(super) slowest: u32,
    pub(super) fastest: u32,
}

/// Where a job is over by a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InTime {
    Everywhere,
    /// On these classes, a bit for each.
    On(u32),
    Nowhere,
}

/// What is done in a time.
pub(super) fn work(time: Span, pace: u32) -> Span {
    let done = u128::from(time.0) * u128::from(pace) / u128::from(FULL);
    Span(u64::try_from(done).unwrap_or(u64::MAX))
}

/// How long work takes.
pub(super) fn time(work: Span, pace: u32) -> Span {
    let takes = (u128::from(work.0) * u128::from(FULL)).div_ceil(u128::from(pace.max(1)));
    Span(u64::try_from(takes).unwrap_or(u64::MAX))
}

impl Speeds {
    pub(super) fn new(nodes: &[NodeFacts]) -> Self {
        let present = nodes.iter().fold(0, |mask, node| mask | 1_u32.checked_shl(node.class.into()).unwrap_or(0));
        Self { present, ..Self::default() }
    }

    /// What a placement is told of a gang's speeds.
    pub(super) fn of(&self, gang: &Gang) -> placement::Speeds<'_> {
        match self.told.get(&gang.speeds) {
            Some(own) => placement::Speeds { own, others: &self.average },
            None => placement::Speeds::UNKNOWN,
        }
    }

    /// Whether every gang is equally fast everywhere, as far as is known.
    pub(super) fn all_alike(&self) -> bool {
        self.told.is_empty()
    }

    fn on(&self, id: SpeedsId, class: u8) -> u32 {
        self.told.get(&id).and_then(|own| own.get(usize::from(class))).copied().unwrap_or(FULL)
    }

    /// Classes that are there and that a gang may have.
    fn classes(&self, gang: &Gang) -> impl Iterator<Item = u8> {
        let (present, rank) = (self.present, gang.need.rank);
        (0..u8::try_from(CLASSES_MAX).unwrap_or(u8::MAX))
            .filter(move |class| present >> class & 1 == 1 && rank.accepts(*class))
    }

    pub(super) fn paces(&self, gang: &Gang) -> Paces {
        if !self.told.contains_key(&gang.speeds) {
            return Paces { slowest: FULL, fastest: FULL };
        }
        let of = || self.classes(gang).map(|class| self.on(gang.speeds, class));
        Paces { slowest: of().min().unwrap_or(FULL), fastest: of().max().unwrap_or(FULL) }
    }

    /// Each pace at which a gang may run, the fastest first.
    pub(super) fn paces_of(&self, gang: &Gang) -> Vec<u32> {
        if !self.told.contains_key(&gang.speeds) {
            return vec![FULL];
        }
        let mut paces: Vec<u32> = self.classes(gang).map(|class| self.on(gang.speeds, class)).collect();
        paces.sort_unstable_by(|a, b| b.cmp(a));
        paces.dedup();
        paces
    }

    /// How fast ranks on nodes of these classes are together.
    fn pace(&self, gang: &Gang, classes: impl Iterator<Item = u8>) -> u32 {
        if !self.told.contains_key(&gang.speeds) {
            return FULL;
        }
        classes.map(|class| self.on(gang.speeds, class)).min().unwrap_or(FULL)
    }
    /// Speeds were told, in any unit.
    pub(super) fn tell(&mut self, id: SpeedsId, speeds: &[u32]) {
        let fastest = speeds.iter().take(CLASSES_MAX).max().copied().unwrap_or(0);
        if fastest == 0 || id == 0 {
            self.told.remove(&id);
            return;
        }
        let of = |speed: &u32| u32::try_from(u64::from(*speed) * FASTEST / u64::from(fastest)).unwrap_or(u32::MAX);
        self.told.insert(id, speeds.iter().take(CLASSES_MAX).map(of).collect());
    }

    /// A gang came.
    pub(super) fn came(&mut self, id: SpeedsId) {
        let Some(own) = self.told.get(&id) else { return };
        if self.average.len() < own.len() {
            let unheard = own.get(self.average.len()..).unwrap_or_default();
            self.average.extend_from_slice(unheard);
        }
        for (average, own) in self.average.iter_mut().zip(own) {
            let moved = (u64::from(*average) * (WEIGHT - 1) + u64::from(*own)) / WEIGHT;
            *average = u32::try_from(moved).unwrap_or(u32::MAX);
        }
    }
}

impl Scheduler {
    /// Speeds were told: running gangs that name them end at other times.
    pub(super) fn speeds_told(&mut self, id: SpeedsId, speeds: &[u32]) {
        let before = self.state.speeds.told.get(&id).cloned();
        self.state.speeds.tell(id, speeds);
        if self.state.speeds.told.get(&id) == before.as_ref() {
            return;
        }
        let named = |slot: &Slot| self.gang(*slot).is_some_and(|gang| gang.speeds == id);
        let running: Vec<Slot> = self.state.ends.iter().map(|(_, slot)| *slot).filter(named).collect();
        for slot in running {
            self.length_changed(slot);
        }
        self.doubt();
    }

    /// When a job is over that has these ranks from a moment on, if that is known.
    pub(super) fn ends_on(&self, slot: Slot, from: SimTime, ranks: &[Holding]) -> Option<SimTime> {
        let remaining = self.state.jobs.get(slot)?.remaining()?;
        Some(from.after(time(remaining, self.pace_on(self.gang(slot)?, ranks))))
    }

    fn pace_on(&self, gang: &Gang, ranks: &[Holding]) -> u32 {
        self.state.speeds.pace(gang, ranks.iter().map(|held| self.state.fleet.class(held.node)))
    }

    /// How fast a running gang is.
    pub(super) fn pace_of(&self, slot: Slot) -> u32 {
        let run = self.state.jobs.get(slot).and_then(Job::run);
        run.zip(self.gang(slot)).map_or(FULL, |(run, gang)| self.pace_on(gang, &run.ranks))
    }

    /// A running gang got other ranks: what it has left takes another time than at the pace it had.
    pub(super) fn pace_changed(&mut self, slot: Slot, before: u32) {
        let (now, after) = (self.state.now, self.pace_of(slot));
        let Some(run) = self.state.jobs.get_mut(slot).and_then(Job::run_mut) else { return };
        let Some(old) = run.ends.filter(|_| before != after) else { return };
        let new = now.after(time(work(old.since(now), before), after));
        run.ends = Some(new);
        self.state.ends.remove(&(old, slot));
        self.counts_off(slot, old);
        self.state.ends.insert((new, slot));
        self.counts_on(slot);
    }

    /// Where a waiting job would be over before what is kept for others is needed.
    pub(super) fn in_time(&self, slot: Slot, gang: &Gang) -> InTime {
        let Some(first) = self.state.reservations.first() else { return InTime::Everywhere };
        let remaining = self.state.jobs.get(slot).and_then(Job::remaining);
        let (Some(remaining), Some(left)) = (remaining, first.0.checked_sub(self.state.now.0)) else {
            return InTime::Nowhere;
        };
        let speeds = &self.state.speeds;
        let paces = speeds.paces(gang);
        if time(remaining, paces.slowest).0 <= left {
            return InTime::Everywhere;
        }
        if time(remaining, paces.fastest).0 > left {
            return InTime::Nowhere;
        }
        let fast = speeds.classes(gang).filter(|class| time(remaining, speeds.on(gang.speeds, *class)).0 <= left);
        InTime::On(fast.fold(0, |mask, class| mask | 1 << class))
    }

    /// A place on anything that is free, kept for others or not, where the job is over before they need it.
    pub(super) fn find_in_time(&self, slot: Slot, gang: &Gang) -> Result<Vec<Share>, Misfit> {
        match self.in_time(slot, gang) {
            InTime::Everywhere => self.find(gang, View::All),
            InTime::On(models) => {
                let rank = Request { models, ..gang.need.rank };
                self.find(&Gang { need: Need { rank, ..gang.need }, ..*gang }, View::All)
            }
            InTime::Nowhere => Err(Misfit::Reserved { places: 0, ranks: gang.need.ranks }),
        }
    }

    /// For checks: the ends that are noted are those of the jobs that run.
    pub(super) fn check_ends(&self) {
        let ends = self.state.jobs.iter().filter_map(|(slot, job)| Some((job.run()?.ends?, slot)));
        assert!(ends.collect::<std::collections::BTreeSet<_>>() == self.state.ends, "ends are noted that are not");
    }

    /// What a placement is told of a gang's speeds.
    pub(super) fn speeds(&self, gang: &Gang) -> placement::Speeds<'_> {
        self.state.speeds.of(gang)
    }

    /// Whether the placement looks at speeds, or jobs may share: else they need not be told, nor what jobs are like.
    pub fn asks_speeds(&self) -> placement::Speed {
        if self.state.settings.interleave.is_some() {
            return placement::Speed::Asked;
        }
        self.placement.0.asks_speeds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_fits_a_time_takes_no_longer_than_it() {
        for pace in [1, 333_333, 500_000, 999_999, 1_000_000] {
            for left in [0, 1, 999, 1_000_000, 86_400_000_000_000] {
                let fits = work(Span(left), pace);
                assert!(time(fits, pace) <= Span(left), "{left} at {pace}");
                assert!(time(Span(fits.0 + 1), pace) > Span(left), "{left} at {pace}");
            }
        }
    }

    #[test]
    fn every_gang_weighs_the_same_in_the_average_and_the_last_ones_decide() {
        let mut speeds = Speeds::default();
        speeds.tell(1, &[10, 5]);
        speeds.tell(2, &[100, 400]);
        speeds.came(1);
        assert_eq!(speeds.average, [1_000_000, 500_000]);
        for _ in 0..1_000 {
            speeds.came(2);
        }
        let [slow, fast] = speeds.average[..] else { panic!("two classes") };
        assert!((250_000..251_000).contains(&slow) && fast > 999_000, "{slow} {fast}");
        speeds.tell(2, &[]);
        speeds.came(2);
        assert_eq!(speeds.told.len(), 1);
    }
}
