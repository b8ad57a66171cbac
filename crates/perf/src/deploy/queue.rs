//! The wait of prompts before they are read, for the slowest of a hundred.
//!
//! A replica reads one prompt at a time, and prompts arrive at random with lengths that vary as much as an exponential's: a
//! queue M/M/1, where the wait is longer than `t` for a share `busy * exp(-t (1 - busy) / service)` of requests. That is the
//! M/G/1 of Pollaczek and Khinchine with a squared coefficient of variation of 1, which is a stated assumption: prompt lengths
//! of published request traces vary so or more. Kingman 1961: in heavy traffic the wait is exponential whatever the lengths,
//! with the mean of Pollaczek and Khinchine. Invariant: a busier replica never answers sooner.

use dh_units::Seconds;

/// The busiest that a replica is planned to be; above it a queue's length is anybody's guess.
pub(super) const BUSY_MOST: f64 = 0.95;

/// One request in so many is slower than what is promised.
const ONE_IN: f64 = 100.0;

/// The mean wait of a replica that is `busy` with prompts that take `service` each (Pollaczek and Khinchine).
pub(super) fn mean(service: Seconds, busy: f64) -> Seconds {
    service * (busy / (1.0 - busy.min(BUSY_MOST)))
}

/// The wait that one request in a hundred exceeds; infinite above [`BUSY_MOST`].
pub(super) fn tail(service: Seconds, busy: f64) -> Seconds {
    if busy > BUSY_MOST {
        return Seconds(f64::INFINITY);
    }
    // At a hundredth of the time or less, 99 of 100 find nobody before them.
    Seconds(service.0 / (1.0 - busy) * (ONE_IN * busy).max(1.0).ln())
}

/// The same of a wait whose mean is known from elsewhere: exponential, ln 100 times the mean.
pub(super) fn tail_of(mean: Seconds) -> Seconds {
    mean * ONE_IN.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_that_of_the_textbook_queue() {
        // M/M/1 at 50 %: P(wait > t) = 0.5 exp(-0.5 t), which is 0.01 at 2 ln 50 = 7.82 services.
        assert!((tail(Seconds(1.0), 0.5).0 - 2.0 * 50.0_f64.ln()).abs() < 1e-12);
        assert!((mean(Seconds(1.0), 0.5).0 - 1.0).abs() < 1e-12);
        assert!(tail(Seconds(1.0), 0.009).0.abs() < 1e-12 && tail(Seconds(1.0), 0.96).0.is_infinite());
    }

    #[test]
    fn a_busier_replica_never_answers_sooner() {
        let mut last = 0.0;
        for step in 0..96 {
            let wait = tail(Seconds(0.1), f64::from(step) / 100.0).0;
            assert!(wait >= last, "{step} %: {wait} after {last}");
            last = wait;
        }
    }
}
