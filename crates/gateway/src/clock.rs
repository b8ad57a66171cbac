//! The gateway's clock: counts from the Unix epoch as the host saw it once, then only forwards.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dh_core::SimTime;
use dh_core::time::Clock;

/// Host time that never jumps: the wall clock at the start plus a monotonic count.
#[derive(Debug, Clone)]
pub struct SystemClock {
    epoch_nanos: u64,
    started: Instant,
}

impl SystemClock {
    /// A clock that starts at the host's present time.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { epoch_nanos: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX), started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SimTime {
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        SimTime(self.epoch_nanos.saturating_add(elapsed))
    }
}
