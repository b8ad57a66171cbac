//! The stay of a gang on accelerators that it shares, as a shorter stay on all of them.
//!
//! Invariant: the time of accelerators that gangs held together is that of the accelerators, however many were there; a gang
//! that gets on beside others runs work in all of its share, however slow it is.

use dh_core::SimTime;
use dh_core::time::Span;

use crate::measure::Stop;

const MILLION: u128 = 1_000_000;

/// How much of its accelerators' time a gang had so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared {
    from: SimTime,
    /// From then on, millionths.
    share: u64,
    speed: u64,
    /// Sums up to then, nanoseconds times millionths.
    had: u128,
    went: u128,
}

impl Shared {
    /// It was alone since then.
    pub(super) const fn alone(since: SimTime) -> Self {
        Self::new(since, 1_000_000, 1_000_000)
    }

    /// It has this share and speed from now on, in millionths.
    pub(super) const fn new(now: SimTime, share: u64, speed: u64) -> Self {
        Self { from: now, share, speed, had: 0, went: 0 }
    }

    /// Its share at present of what it holds.
    pub(super) fn of(&self, milli: u64) -> u64 {
        u64::try_from(u128::from(milli) * u128::from(self.share) / MILLION).unwrap_or(milli)
    }

    /// Time goes on to `now`.
    pub(super) fn advance(&mut self, now: SimTime) {
        let time = u128::from(now.since(self.from).0);
        self.had += time * u128::from(self.share);
        self.went += time * u128::from(self.speed);
        self.from = self.from.max(now);
    }

    /// From now on it has another share and speed.
    pub(super) const fn turn(&mut self, next: Self) {
        (self.share, self.speed) = (next.share, next.speed);
    }

    /// Its stay up to `now` as a stay on all that it held, and its mean share of `milli`.
    pub(super) fn counted(&self, now: SimTime, stop: Stop, milli: u64) -> (Stop, u64) {
        let stay = u128::from(now.since(stop.since).0);
        let had = self.had / MILLION;
        // What it did at its speed took as much longer, of which it had its share.
        let time = |work: Span| Span(u64::try_from(u128::from(work.0) * self.had / self.went.max(1)).unwrap_or(work.0));
        let (kept, lost) = (time(stop.kept), time(stop.lost));
        let since = SimTime(now.0.saturating_sub(u64::try_from(had).unwrap_or(u64::MAX)));
        let mean = u128::from(milli) * had / stay.max(1);
        (Stop { since, kept, lost, ..stop }, u64::try_from(mean).unwrap_or(milli).min(milli))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cause;

    #[test]
    fn half_of_the_accelerators_for_a_while_is_half_of_the_time_and_all_of_it_ran_work() {
        let mut shared = Shared::alone(SimTime(0));
        shared.advance(SimTime(100));
        shared.turn(Shared::new(SimTime(100), 500_000, 800_000));
        assert_eq!(shared.of(8_000), 4_000);
        shared.advance(SimTime(300));
        let stop =
            Stop { cause: Cause::Ended, since: SimTime(0), kept: Span(100 + 160), lost: Span(0), checkpoints: Span(0) };
        let (stop, mean) = shared.counted(SimTime(300), stop, 8_000);
        assert_eq!((stop.since, stop.kept), (SimTime(100), Span(200)), "200 of 300 on all of them");
        assert_eq!(mean, 5_333);
    }
}
