//! A circuit breaker for one engine. Pure: it learns the time as an argument.
//!
//! Closed until `failures_to_open` failures follow each other; then open for a back-off that doubles with each failed trial.
//! When the back-off is over one request is let through as a trial, and its success closes the breaker. Trials are spaced by
//! the back-off whether or not the earlier one has ended, so a slow answer never keeps a healthy engine locked.

use dh_core::SimTime;
use dh_core::time::Span;

/// When an engine is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row that open it; at least 1.
    pub failures_to_open: u32,
    /// The first back-off.
    pub back_off: Span,
    /// The longest back-off.
    pub back_off_max: Span,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures_to_open: 3, back_off: Span::from_secs(1), back_off_max: Span::from_secs(30) }
    }
}

/// How a request was let through; to be handed back with its verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    Normal,
    Trial,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: SimTime, back_off: Span },
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { failures: 0 } }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// How long until a request may pass; `None` if one may pass at `now`.
    pub(crate) fn wait(&self, now: SimTime) -> Option<Span> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } => Some(until.since(now)).filter(|wait| *wait > Span(0)),
        }
    }

    /// Lets a request through, or says how long to wait.
    pub(crate) fn admit(&mut self, now: SimTime) -> Result<Pass, Span> {
        if let Some(wait) = self.wait(now) {
            return Err(wait);
        }
        match &mut self.state {
            State::Closed { .. } => Ok(Pass::Normal),
            State::Open { until, back_off } => {
                *until = now.after(*back_off);
                Ok(Pass::Trial)
            }
        }
    }

    pub(crate) fn succeeded(&mut self, pass: Pass) {
        // An old request that answers while the breaker is open proves nothing about the engine's present state.
        if self.is_closed() || pass == Pass::Trial {
            self.state = State::Closed { failures: 0 };
        }
    }

    pub(crate) fn failed(&mut self, pass: Pass, now: SimTime) {
        match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                if *failures >= self.config.failures_to_open {
                    let back_off = self.config.back_off;
                    self.state = State::Open { until: now.after(back_off), back_off };
                }
            }
            State::Open { until, back_off } => {
                if pass == Pass::Trial {
                    *back_off = Span(back_off.0.saturating_mul(2)).min(self.config.back_off_max);
                    *until = now.after(*back_off);
                }
            }
        }
    }

    /// The request ended with no verdict, because its caller went away: the next one may be the trial.
    pub(crate) fn abandoned(&mut self, pass: Pass, now: SimTime) {
        if let (State::Open { until, .. }, Pass::Trial) = (&mut self.state, pass) {
            *until = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime(seconds * 1_000_000_000)
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig {
            failures_to_open: 3,
            back_off: Span::from_secs(2),
            back_off_max: Span::from_secs(6),
        })
    }

    fn opened() -> Breaker {
        let mut breaker = breaker();
        for _ in 0..3 {
            let pass = breaker.admit(at(10)).unwrap();
            breaker.failed(pass, at(10));
        }
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = breaker();
        for _ in 0..10 {
            breaker.failed(Pass::Normal, at(1));
            breaker.failed(Pass::Normal, at(1));
            breaker.succeeded(Pass::Normal);
        }
        assert_eq!(breaker.admit(at(1)), Ok(Pass::Normal));
        assert_eq!(opened().admit(at(10)), Err(Span::from_secs(2)));
    }

    #[test]
    fn one_trial_after_the_back_off_and_its_success_closes() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(11)), Err(Span::from_secs(1)));
        assert_eq!(breaker.admit(at(12)), Ok(Pass::Trial));
        assert_eq!(breaker.admit(at(12)), Err(Span::from_secs(2)), "one trial at a time");
        breaker.succeeded(Pass::Trial);
        assert!(breaker.is_closed());
        assert_eq!(breaker.admit(at(12)), Ok(Pass::Normal));
        breaker.failed(Pass::Normal, at(12));
        assert!(breaker.is_closed(), "the count starts again");
    }

    #[test]
    fn failed_trials_double_the_back_off_up_to_its_bound() {
        let mut breaker = opened();
        let mut now = 12;
        for wait in [4, 6, 6, 6] {
            assert_eq!(breaker.admit(at(now)), Ok(Pass::Trial));
            breaker.failed(Pass::Trial, at(now));
            assert_eq!(breaker.wait(at(now)), Some(Span::from_secs(wait)));
            now += wait;
        }
    }

    #[test]
    fn late_verdicts_of_old_requests_do_not_count() {
        let mut breaker = opened();
        breaker.succeeded(Pass::Normal);
        assert!(!breaker.is_closed());
        breaker.failed(Pass::Normal, at(11));
        assert_eq!(breaker.wait(at(11)), Some(Span::from_secs(1)), "the back-off is not prolonged");
    }

    #[test]
    fn an_abandoned_trial_makes_room_for_the_next() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(12)), Ok(Pass::Trial));
        breaker.abandoned(Pass::Trial, at(12));
        assert_eq!(breaker.admit(at(12)), Ok(Pass::Trial));
        assert_eq!(breaker.admit(at(14)), Ok(Pass::Trial), "a trial without end does not lock the engine");
    }
}
