//! Long runs: what the environment asks for, and how far they have come.
//!
//! What is played follows from its number alone, whatever the number of cores; only who plays it does not.

use std::sync::atomic::{AtomicU64, Ordering};

/// A whole number from the environment, decimal or `0x` and hexadecimal.
pub(crate) fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How far a run has come, told at every twentieth of it.
pub(crate) struct Progress {
    what: &'static str,
    wanted: u64,
    done: AtomicU64,
    units: AtomicU64,
}

impl Progress {
    pub(crate) const fn new(what: &'static str, wanted: u64) -> Self {
        Self { what, wanted, done: AtomicU64::new(0), units: AtomicU64::new(0) }
    }

    /// Events so far.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// One more seed or world is over.
    pub(crate) fn over(&self, events: u64) {
        let before = self.done.fetch_add(events, Ordering::Relaxed);
        let units = 1 + self.units.fetch_add(1, Ordering::Relaxed);
        let part = |events: u64| (events * 20 / self.wanted.max(1)).min(20);
        if part(before + events) > part(before) {
            eprintln!("{:3} %: {units} {}, {} events", part(before + events) * 5, self.what, before + events);
        }
    }
}

/// Plays numbers from 0 on, on all cores, as long as `wanted` says so.
pub(crate) fn play(wanted: impl Fn(u64) -> bool + Sync, each: impl Fn(u64) + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if !wanted(number) {
                    return;
                }
                each(number);
            }
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
