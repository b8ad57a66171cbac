//! A rate that is kept over all who share it, without bursts to make up for idle time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How soon who waits sees that it is to stop.
const STEP: Duration = Duration::from_millis(250);

/// What was spent of a rate.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Until when what was spent is within the rate.
    until: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until `bytes` more are within `rate`, in bytes per second, or until `stopped`.
    pub(crate) fn spend(&self, bytes: usize, rate: u64, stopped: impl Fn() -> bool) {
        let takes = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1));
        let until = {
            let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = until.map_or(now, |until| until.max(now));
            *until.insert(from + takes)
        };
        while !stopped() && Instant::now() < until {
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(STEP));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_spent_by_any_number_of_hands() {
        let pace = Pace::default();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            for _hand in 0..4 {
                scope.spawn(|| (0..5).for_each(|_turn| pace.spend(1_000, 200_000, || false)));
            }
        });
        assert!(begin.elapsed() >= Duration::from_millis(100), "20 kB at 200 kB/s");
        pace.spend(usize::MAX / 2, 1, || true);
    }
}
