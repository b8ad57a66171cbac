//! Fair time: how long a job would have run by now if it always had its fair share.
//!
//! While no more is asked for than there is, fair time passes like time. While `demand` exceeds `capacity`, it passes slower
//! in that proportion. Moments of fair time stay what they are while the speed changes, so whoever waits for one is sorted
//! once and never touched (the idea of virtual time in fair queueing: Demers, Keshav and Shenker 1989).
//!
//! Invariant: whole nanoseconds; it never runs back, and never faster than time. Each change of speed loses less than one
//! nanosecond. Cost: O(1).

use dh_core::SimTime;
use dh_core::time::Span;
use serde::{Deserialize, Serialize};

/// What is asked for, running or waiting, and what there is, in one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// What all jobs ask for that wait or run.
    pub demand: u64,
    /// What there is.
    pub capacity: u64,
}

impl Load {
    /// Time over fair time.
    fn speed(self) -> (u128, u128) {
        let capacity = u128::from(self.capacity.max(1));
        (capacity, capacity.max(u128::from(self.demand)))
    }
}

/// The clock of fair time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FairClock {
    at: SimTime,
    fair: SimTime,
    load: Load,
}

impl FairClock {
    /// One that shows `now` at `now`.
    pub const fn new(now: SimTime, load: Load) -> Self {
        Self { at: now, fair: now, load }
    }

    /// What it shows at `now`, if the load has not changed since it was last set.
    pub fn read(&self, now: SimTime) -> SimTime {
        let (fast, slow) = self.load.speed();
        let passed = u128::from(now.since(self.at).0) * fast / slow;
        self.fair.after(Span(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// From `now` on the load is `load`.
    pub fn set(&mut self, now: SimTime, load: Load) {
        self.fair = self.read(now);
        self.at = self.at.max(now);
        self.load = load;
    }

    /// The load that was set last.
    pub const fn load(&self) -> Load {
        self.load
    }

    /// The first moment at which it shows `fair` or later, if the load stays.
    pub fn when(&self, fair: SimTime) -> SimTime {
        let (fast, slow) = self.load.speed();
        let passes = (u128::from(fair.since(self.fair).0) * slow).div_ceil(fast);
        self.at.after(Span(u64::try_from(passes).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_like_time_until_more_is_asked_for_than_there_is() {
        let mut clock = FairClock::new(SimTime(100), Load { demand: 5, capacity: 10 });
        assert_eq!(clock.read(SimTime(150)), SimTime(150));
        clock.set(SimTime(150), Load { demand: 20, capacity: 10 });
        assert_eq!(clock.read(SimTime(250)), SimTime(200));
        clock.set(SimTime(250), Load { demand: 10, capacity: 10 });
        assert_eq!(clock.read(SimTime(260)), SimTime(210));
    }

    #[test]
    fn the_moment_it_names_is_the_first_one() {
        for demand in [0, 7, 10, 11, 13, 1000] {
            let clock = FairClock::new(SimTime(3), Load { demand, capacity: 10 });
            for fair in 3..200 {
                let when = clock.when(SimTime(fair));
                assert!(clock.read(when) >= SimTime(fair), "{demand} {fair}");
                assert!(when == SimTime(3) || clock.read(SimTime(when.0 - 1)) < SimTime(fair), "{demand} {fair}");
            }
        }
    }

    #[test]
    fn no_capacity_does_not_stop_the_program() {
        let clock = FairClock::new(SimTime(0), Load { demand: 4, capacity: 0 });
        assert_eq!(clock.read(SimTime(8)), SimTime(2));
    }
}
