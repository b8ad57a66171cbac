//! Whether this server still leads: a thread renews the lease, and whoever acts asks first.
//!
//! What is written is fenced by the term, whatever the clock says; what is *done* is fenced by time: nothing is started after the
//! moment up to which the lease was last promised, counted from before the question was sent. The clock is the one that goes on
//! while a machine sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::journal::Journal;
use crate::Error;

/// How long a lease holds. A leader that dies is replaced after this and a second or two.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How often it is renewed: three tries before it runs out.
const RENEW: Duration = Duration::from_millis(1_500);
/// How often somebody who waits asks for it.
pub(crate) const ASK: Duration = Duration::from_millis(500);

/// This server's hold on the hall.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    term: u64,
    /// The moment, in milliseconds since boot, from which nothing may be done any more.
    until_ms: Arc<AtomicU64>,
}

impl Lease {
    /// A lease that was asked for at `asked_ms` and won.
    pub(crate) fn won(term: u64, asked_ms: u64) -> Self {
        Self { term, until_ms: Arc::new(AtomicU64::new(after(asked_ms))) }
    }

    /// A lease that cannot be lost: nobody else reaches the journal.
    pub(crate) fn alone(term: u64) -> Self {
        Self { term, until_ms: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// The fencing token: larger for every later leader.
    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    /// Whether something may be done at this moment.
    pub(crate) fn holds(&self) -> bool {
        now_ms() < self.until_ms.load(Ordering::SeqCst)
    }

    /// Whether it will still hold after `time`, whatever happens.
    pub(crate) fn holds_for(&self, time: Duration) -> bool {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        now_ms().saturating_add(ms) < self.until_ms.load(Ordering::SeqCst)
    }

    /// Whether another server could have it.
    pub(crate) fn may_be_lost(&self) -> bool {
        self.until_ms.load(Ordering::SeqCst) != u64::MAX
    }

    /// Renews it until that fails for good; then says so. Runs on a thread of its own, with a connection of its own.
    pub(crate) fn keep(&self, mut journal: Box<dyn Journal>, ended: impl Fn() -> bool, lost: impl FnOnce(Error)) {
        loop {
            std::thread::sleep(RENEW);
            if ended() {
                return;
            }
            let asked = now_ms();
            match journal.renew(self.term, LEASE) {
                Ok(true) => self.until_ms.store(after(asked), Ordering::SeqCst),
                Ok(false) => return lost(Error::Deposed),
                Err(error) if self.holds() => tracing::warn!(%error, "the lease was not renewed; trying again"),
                Err(error) => return lost(error),
            }
        }
    }
}

fn after(asked_ms: u64) -> u64 {
    asked_ms.saturating_add(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since boot, also those that the machine slept.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0))
}
