//! A bound on how far an order may set a job back: who has waited too long for what it ran goes first, whatever its key.
//!
//! The length of a job need not be known. It may end at any moment, so at every moment the time since it was submitted should
//! be at most a stretch of what it ran. A job is *due* when that is nearly spent; it then goes before all that are not, is
//! displaced by nobody, and stays so until it has run enough to be well within the bound again. The gap between the two
//! limits keeps jobs from taking turns every moment.
//!
//! Time is counted on the clock of fair time ([`super::FairClock`]), which slows down as more is asked for than there is. So
//! the bound is one on the finish time over the fair finish time, and it can be kept however much is asked for: a job that
//! always got its share would run as long as this clock says that it was there.
//!
//! Invariant: the moment at which a waiting job falls due, and the time after which a running one is released, are known when
//! it starts to wait or to run: one timer each, and no scan. Whole numbers.
//! Source: the measure is finish-time fairness (Themis, Mahajan et al. 2020) for jobs of unknown length.

use dh_core::SimTime;
use dh_core::time::Span;
use serde::{Deserialize, Serialize};

use crate::order::Key;

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// When it was submitted, in fair time.
    pub entered: SimTime,
    /// How long it has run so far, all attempts whose work was kept.
    pub attained: Span,
}

/// The limits. Jobs that ran less than `floor` count as if they had run that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stretch {
    /// A job is due when it has waited this many thousandths of what it ran.
    pub due_milli: u32,
    /// It is released when it has waited no more than this many thousandths of what it ran. Less than `due_milli`.
    pub released_milli: u32,
    /// Shorter jobs count as this long.
    pub floor: Span,
}

impl Default for Stretch {
    /// Due at a finish time of 2.8 times the fair one, released at 2: then the Philly trace ends no job beyond three times.
    fn default() -> Self {
        Self { due_milli: 1800, released_milli: 1000, floor: Span::from_secs(60) }
    }
}

impl Stretch {
    /// When a waiting job falls due, in fair time.
    pub fn due_at(&self, job: &Progress) -> SimTime {
        let counted = u128::from(job.attained.0.max(self.floor.0));
        let wait = u64::try_from(counted * u128::from(self.due_milli) / 1000).unwrap_or(u64::MAX);
        job.entered.after(job.attained).after(Span(wait))
    }

    /// How much longer a running job that was due keeps its place, if it is `now` in fair time; zero if it is released. What
    /// is asked for may rise meanwhile: then it is released somewhat late, never early.
    pub fn holds_for(&self, job: &Progress, now: SimTime) -> Span {
        let waited = u128::from(now.since(job.entered.after(job.attained)).0);
        let enough = waited * 1000 / u128::from(self.released_milli.max(1));
        let enough = u64::try_from(enough).unwrap_or(u64::MAX);
        if enough <= self.floor.0 { Span(0) } else { Span(enough.saturating_sub(job.attained.0)) }
    }

    /// The key of a job that fell due at `due`: before all that are not due, the one that fell due first ahead.
    pub const fn key(due: SimTime) -> Key {
        Key { class: i64::MIN, value: due.0 }
    }

    /// Whether a job stands where it does because it is due. Such a job is displaced by nobody.
    pub const fn is_due(key: Key) -> bool {
        key.class == i64::MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(entered: u64, attained: u64) -> Progress {
        Progress { entered: at(entered), attained: Span::from_secs(attained) }
    }

    fn at(seconds: u64) -> SimTime {
        SimTime::default().after(Span::from_secs(seconds))
    }

    const STRETCH: Stretch = Stretch { due_milli: 2000, released_milli: 1000, floor: Span::from_secs(60) };

    #[test]
    fn due_when_it_waited_twice_what_it_ran() {
        assert_eq!(STRETCH.due_at(&job(100, 1000)), at(100 + 1000 + 2000));
        assert_eq!(STRETCH.due_at(&job(100, 0)), at(100 + 120));
    }

    #[test]
    fn released_when_it_ran_as_long_as_it_waited() {
        // At 3,100 it has waited 2,000 and run 1,000.
        assert_eq!(STRETCH.holds_for(&job(100, 1000), at(3100)), Span::from_secs(1000));
        assert_eq!(STRETCH.holds_for(&job(100, 2000), at(4100)), Span(0));
        assert_eq!(STRETCH.holds_for(&job(100, 0), at(150)), Span(0));
    }

    /// With room for a job whenever it is due, no end is beyond three times the length: whatever else the order does to it.
    #[test]
    fn an_adversary_cannot_set_a_job_back_beyond_the_bound() {
        let (mut now, mut attained, mut due) = (0, 0, None);
        for turn in 0..5000_u64 {
            let mut candidate = job(0, attained);
            if due.is_none() && STRETCH.due_at(&candidate) <= at(now) {
                due = Some(now);
            }
            // The order gives it a minute now and then; being due gives it every minute.
            if due.is_some() || turn % 97 == 0 {
                attained += 60;
            }
            now += 60;
            candidate = job(0, attained);
            if due.is_some() && STRETCH.holds_for(&candidate, at(now)) == Span(0) {
                due = None;
            }
            assert!(attained == 0 || now <= 3 * attained + 180, "at {now} it ran {attained}");
        }
        assert!(now > 2 * attained, "the adversary did set it back");
    }

    #[test]
    fn due_jobs_go_first_in_the_order_in_which_they_fell_due() {
        assert!(Stretch::key(at(5)) < Stretch::key(at(6)));
        assert!(Stretch::is_due(Stretch::key(at(5))) && !Stretch::is_due(Key { class: i64::MIN + 1, value: 0 }));
    }
}
