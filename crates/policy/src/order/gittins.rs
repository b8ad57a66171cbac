//! The Gittins order, for jobs whose length nobody knows, and the [`History`] that it learns from jobs that ended.
//!
//! For every job it asks: over the best stretch to look ahead, how much time does it cost per job that ends? That is the
//! Gittins index, here as the *effective remaining time* of a job of that attained time. Where lengths are heavy-tailed it
//! grows with what has been attained, as least attained service; where all last a day it falls, as shortest remaining time.
//!
//! Lengths are learned as hazards: of the jobs that reached a level of attained time, how many ended in it. Running jobs
//! count as far as they got, so that the long ones that have not ended yet are not forgotten. Three sources are mixed, the
//! nearer the heavier: jobs of the same group and width submitted around the same time (people submit sweeps, whose
//! jobs last about as long as one another), all jobs of that group and width, all jobs.
//!
//! Invariant: whole numbers only; memory is bounded by `CLASSES` and `PEERS`, whatever has ended.
//! Cost: submit O(peers) at worst, end and level crossings O(log peers), a prediction O(levels + neighbours), 3 microseconds.
//! Source: Gittins 1979; Gu et al., Tiresias, NSDI 2019 (two-dimensional Gittins index); Kaplan and Meier 1958.

use std::collections::{BTreeMap, VecDeque};

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use serde::{Deserialize, Serialize};

use super::{Candidate, Displaces, Key, Order, Value, class_of, service};

/// Width of the first level of attained time; each is twice as wide as the one before.
const FIRST: Span = Span::from_secs(600);
/// Levels; the last begins after 227 days.
const LEVELS: usize = 16;
/// Jobs of a class that are remembered one by one.
const PEERS: usize = 1024;
/// Classes that are learned apart; further ones are known only by what all jobs do.
const CLASSES: usize = 4096;
/// How many submissions before and after a job count as near it.
const NEAR: usize = 10;
/// Weight of a neighbour: 1024 for the next submission, halved every 4/3 submissions.
const NEXT: u64 = 1024;
/// Weight added for a submission in the same minute, halved every [`APART`].
const SAME_TIME: u64 = 2048;
/// See [`SAME_TIME`].
const APART: Span = Span::from_secs(2500);
/// Weight of the class, against the weights of neighbours.
const CLASS_WEIGHT: u64 = 307;
/// Jobs that the hazard of all jobs counts as, within that of a class.
const ALL_WEIGHT: u64 = 2;
/// Jobs that the assumption counts as, within the hazard of all jobs: half of those that begin a level end in it.
const ASSUMED_WEIGHT: u64 = 5;
/// Certainty, as a hazard.
const ONE: u64 = 1 << 20;

/// What makes jobs alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Likeness {
    /// Who or what: a tenant, a user, a model; 0 if nothing is known.
    pub group: u32,
    /// Accelerators of the gang, in thousandths.
    pub milli: u64,
}

/// Jobs that reached each level of attained time, and those that ended in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Counts {
    reached: [u64; LEVELS],
    ended: [u64; LEVELS],
}

/// A job that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Peer {
    job: JobId,
    submitted: SimTime,
    level: usize,
    ended: bool,
}

/// Jobs that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Class {
    counts: Counts,
    /// In order of submission.
    peers: VecDeque<Peer>,
}

/// What has been seen of the lengths of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    all: Counts,
    #[serde(with = "pairs")]
    classes: BTreeMap<Likeness, Class>,
}

/// A map whose keys are no strings, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Class, Likeness};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<Likeness, Class>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Likeness, Class>, D::Error> {
        Ok(Vec::<(Likeness, Class)>::deserialize(from)?.into_iter().collect())
    }
}

/// The level of a job that has run for `attained`.
fn level(attained: Span) -> usize {
    let level = (attained.0 / FIRST.0 + 1).ilog2();
    usize::try_from(level).map_or(LEVELS - 1, |level| level.min(LEVELS - 1))
}

/// Where `level` begins.
fn begins(level: usize) -> u64 {
    FIRST.0.saturating_mul((1_u64 << level.min(LEVELS)) - 1)
}

impl Counts {
    fn hazard(&self, level: usize, before: u64, weight: u64) -> u64 {
        (self.ended[level] * ONE + before * weight) / (self.reached[level] + weight)
    }
}

impl History {
    /// A job was accepted.
    pub fn submitted(&mut self, like: Likeness, job: &Candidate) {
        self.all.reached[0] += 1;
        if self.classes.len() >= CLASSES && !self.classes.contains_key(&like) {
            return;
        }
        let class = self.classes.entry(like).or_default();
        class.counts.reached[0] += 1;
        if class.peers.len() == PEERS {
            class.peers.pop_front();
        }
        let peer = Peer { job: job.job, submitted: job.submitted, level: 0, ended: false };
        class.peers.insert(class.place(job), peer);
    }

    /// A job ran on, from `job.attained` to an attained time of `to`. Whether that changed what is predicted for its like.
    pub fn ran(&mut self, like: Likeness, job: &Candidate, to: Span) -> bool {
        let (from, to) = (level(job.attained), level(to));
        let mut class = self.classes.get_mut(&like);
        for reached in from + 1..=to {
            self.all.reached[reached] += 1;
            if let Some(class) = &mut class {
                class.counts.reached[reached] += 1;
            }
        }
        if let Some(peer) = class.filter(|_| from < to).and_then(|class| class.peer(job)) {
            peer.level = peer.level.max(to);
        }
        from < to
    }

    /// A job ended by itself after `job.attained`, all of which [`Self::ran`] was told. One that was cancelled is not reported.
    pub fn ended(&mut self, like: Likeness, job: &Candidate) {
        let level = level(job.attained);
        self.all.ended[level] += 1;
        if let Some(class) = self.classes.get_mut(&like) {
            class.counts.ended[level] += 1;
            if let Some(peer) = class.peer(job) {
                (peer.level, peer.ended) = (level, true);
            }
        }
    }

    /// The effective remaining time of a job that has run for `job.attained`: the least, over all stretches ahead, of the
    /// time that running it costs per job that ends.
    pub fn remaining(&self, like: Likeness, job: &Candidate) -> Span {
        let hazards = self.hazards(like, job);
        let attained = job.attained.0;
        let certain = u128::from(ONE) << 20;
        let (mut left, mut cost, mut best) = (certain, 0_u128, u128::MAX);
        for (level, hazard) in hazards.iter().enumerate().skip(level(job.attained)) {
            let whole = begins(level + 1) - begins(level);
            let width = begins(level + 1).saturating_sub(attained.max(begins(level))).max(whole / 64);
            // The part of the level that is still ahead; jobs that end in it do so half-way on average.
            let hazard = u128::from(*hazard) * u128::from(width) / u128::from(whole);
            cost += left * u128::from(width) / u128::from(2 * ONE) * (u128::from(2 * ONE) - hazard);
            left -= left * hazard / u128::from(ONE);
            best = best.min(cost / (certain - left).max(1));
        }
        Span(u64::try_from(best).unwrap_or(u64::MAX))
    }

    /// The chance that a job like this ends in each level once it has reached it, in units of 1 / [`ONE`].
    fn hazards(&self, like: Likeness, job: &Candidate) -> [u64; LEVELS] {
        let mut hazards = [0; LEVELS];
        let class = self.classes.get(&like);
        let (reached, ended) = class.map_or(([0; LEVELS], [0; LEVELS]), |class| class.near(job));
        for (level, hazard) in hazards.iter_mut().enumerate() {
            let mut known = self.all.hazard(level, ONE / 2, ASSUMED_WEIGHT);
            if let Some(class) = class {
                known = class.counts.hazard(level, known, ALL_WEIGHT);
            }
            *hazard = (ended[level] * ONE + known * CLASS_WEIGHT) / (reached[level] + CLASS_WEIGHT);
        }
        hazards
    }
}

impl Class {
    /// Where `job` is, or would be.
    fn place(&self, job: &Candidate) -> usize {
        self.peers.partition_point(|peer| (peer.submitted, peer.job) < (job.submitted, job.job))
    }

    /// What is remembered of `job`, if it is not too long ago.
    fn peer(&mut self, job: &Candidate) -> Option<&mut Peer> {
        let place = self.place(job);
        self.peers.get_mut(place).filter(|peer| peer.job == job.job)
    }

    /// The weights of neighbours of `job` that reached each level, and of those that ended in it.
    fn near(&self, job: &Candidate) -> ([u64; LEVELS], [u64; LEVELS]) {
        let (mut reached, mut ended) = ([0; LEVELS], [0; LEVELS]);
        let at = self.place(job);
        for (other, peer) in self.peers.iter().enumerate().take(at + NEAR + 1).skip(at.saturating_sub(NEAR)) {
            if peer.job == job.job {
                continue;
            }
            let apart = peer.submitted.since(job.submitted).0.max(job.submitted.since(peer.submitted).0);
            let between = other.abs_diff(at).saturating_sub(1);
            let weight = (NEXT >> (between * 3 / 4)) + (SAME_TIME >> (apart / APART.0).min(63));
            reached[peer.level] += weight;
            if peer.ended {
                ended[peer.level] += weight;
            }
        }
        // Who reached a level has reached those before it.
        for level in (1..LEVELS).rev() {
            reached[level - 1] += reached[level];
        }
        (reached, ended)
    }
}

#[derive(Debug)]
pub(super) struct Gittins;

impl Order for Gittins {
    fn name(&self) -> &'static str {
        "gittins"
    }

    fn about(&self) -> &'static str {
        "least effective remaining time x accelerators first, learned from jobs that ended, within priorities"
    }

    /// `length` is the attained time plus what [`History::remaining`] says; a job without a
    /// prediction counts as twice what it has had.
    fn key(&self, job: &Candidate) -> Key {
        let remaining = super::remaining(job).unwrap_or(job.attained.max(FIRST));
        Key { class: class_of(job.priority), value: service(remaining, job.milli) }
    }

    fn displaces(&self) -> Displaces {
        Displaces::Later
    }

    fn value(&self) -> Value {
        Value::Service
    }

    fn rises_after(&self, job: &Candidate) -> Option<Span> {
        let level = level(job.attained);
        (level + 1 < LEVELS).then(|| Span(begins(level + 1).saturating_sub(job.attained.0)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::order::tests::job;

    const LIKE: Likeness = Likeness { group: 1, milli: 8000 };
    const HOUR: Span = Span::from_secs(3600);

    fn hours(count: u64) -> Span {
        Span(HOUR.0 * count)
    }

    /// Job `id`, submitted in hour `at`, that has run for `attained`.
    fn ran(id: u64, at: u64, attained: Span) -> Candidate {
        Candidate { submitted: SimTime(HOUR.0 * at), attained, ..job(id) }
    }

    fn end(history: &mut History, id: u64, at: u64, length: Span) {
        history.ran(LIKE, &ran(id, at, Span(0)), length);
        history.ended(LIKE, &ran(id, at, length));
    }

    fn run(history: &mut History, id: u64, at: u64, length: Span) {
        history.submitted(LIKE, &ran(id, at, Span(0)));
        end(history, id, at, length);
    }

    #[test]
    fn knowing_nothing_it_is_least_attained_service() {
        let history = History::default();
        let ranks: Vec<Span> = (0..10).map(|level| history.remaining(LIKE, &ran(1, 0, Span(begins(level))))).collect();
        assert!(ranks.is_sorted() && ranks.windows(2).all(|pair| pair[0] < pair[1]), "{ranks:?}");
    }

    #[test]
    fn where_all_last_a_day_who_has_run_longer_goes_first() {
        let mut history = History::default();
        for job in 0..200 {
            run(&mut history, job, job, hours(24));
        }
        history.submitted(LIKE, &ran(999, 200, Span(0)));
        let fresh = history.remaining(LIKE, &ran(999, 200, Span(0)));
        let half = history.remaining(LIKE, &ran(999, 200, hours(12)));
        assert!(fresh > half, "{fresh} {half}");
        assert!(fresh > hours(18) && fresh < hours(40), "{fresh}");
    }

    #[test]
    fn a_sweep_is_known_by_its_own() {
        let mut history = History::default();
        for job in 0..100 {
            run(&mut history, job, 10 * job, hours(50));
        }
        for job in 1000..1020 {
            history.submitted(LIKE, &ran(job, 2000, Span(0)));
        }
        let before = history.remaining(LIKE, &ran(1010, 2000, Span(0)));
        for job in 1005..1009 {
            end(&mut history, job, 2000, HOUR);
        }
        let after = history.remaining(LIKE, &ran(1010, 2000, Span(0)));
        assert!(after.0 * 4 < before.0, "{before} then {after}");
        assert!(after < hours(3));
    }

    #[test]
    fn who_has_not_ended_is_not_forgotten() {
        let mut short = History::default();
        for job in 0..20 {
            run(&mut short, job, 0, HOUR);
        }
        let mut long = short.clone();
        for job in 100..120 {
            long.submitted(LIKE, &ran(job, 0, Span(0)));
            long.ran(LIKE, &ran(job, 0, Span(0)), hours(30));
        }
        let of = |history: &History| history.remaining(LIKE, &ran(555, 0, Span(0)));
        assert!(of(&long) > of(&short));
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for job in 0..20_000 {
            let like = Likeness { group: u32::try_from(job % 5000).unwrap(), milli: 1000 };
            history.submitted(like, &ran(job, job, Span(0)));
        }
        for job in 20_000..21_000 {
            run(&mut history, job, job, HOUR);
        }
        assert_eq!(history.classes.len(), CLASSES);
        assert!(history.classes.values().all(|class| class.peers.len() <= PEERS));
    }

    #[test]
    fn the_key_follows_the_prediction_and_the_width() {
        let near = Candidate { length: Some(hours(2)), attained: HOUR, milli: 8000, ..job(1) };
        let far = Candidate { length: Some(hours(9)), milli: 1000, ..job(2) };
        assert!(Gittins.key(&near) < Gittins.key(&far));
        let unknown = Candidate { attained: hours(1), milli: 8000, ..job(3) };
        assert_eq!(Gittins.key(&unknown), Gittins.key(&near));
        let rises = Gittins.rises_after(&unknown).unwrap();
        assert_eq!(level(Span(unknown.attained.0 + rises.0)), level(unknown.attained) + 1);
        assert_eq!(level(Span(unknown.attained.0 + rises.0 - 1)), level(unknown.attained));
    }
}
