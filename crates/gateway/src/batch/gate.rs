//! When a line of a batch may go out: only into room that nobody else asks for.
//!
//! *Invariant*: with `n` engines of a model, a line goes out only while fewer than `n` times the mark of requests, those of
//! callers who wait for them and those of batches together, are under way on that model. Lines poll: batches are in no hurry,
//! and whoever waits for an answer pays nothing for them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Gateway;

/// A held line looks again after the first, then more and more rarely up to the last.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));
/// A line that has just gone out is not yet seen on an engine.
const APART: Duration = Duration::from_millis(1);

pub(crate) struct Gate {
    /// Requests for each engine.
    mark: u32,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    by_model: HashMap<String, Out>,
    held: u64,
}

#[derive(Default)]
struct Out {
    under_way: u32,
    last: Option<Instant>,
}

/// A line under way; counted until dropped.
pub(crate) struct Passed<'g> {
    gate: &'g Gate,
    model: String,
}

impl Gate {
    pub(crate) fn new(mark: u32) -> Self {
        Self { mark: mark.max(1), counts: Mutex::default() }
    }

    /// Waits until there is room for a line for `model`. A model that is not there has room: the answer says that it is not.
    pub(crate) async fn pass(&self, gateway: &Gateway, model: &str) -> Passed<'_> {
        let mut pause = LOOK.0;
        let mut held = None;
        loop {
            let (engines, under_way) = gateway.snapshot().model(model).map_or((0, 0), |model| {
                let sum = model.engines.iter().map(|engine| u64::from(engine.state.in_flight())).sum();
                (u64::try_from(model.engines.len()).unwrap_or(u64::MAX), sum)
            });
            if self.enter(model, engines, under_way) {
                return Passed { gate: self, model: model.to_owned() };
            }
            held.get_or_insert_with(|| Held::new(self));
            sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    fn enter(&self, model: &str, engines: u64, under_way: u64) -> bool {
        let mut counts = self.lock();
        let out = counts.by_model.entry(model.to_owned()).or_default();
        let ours = u64::from(out.under_way);
        let now = Instant::now();
        // With others about, a line is seen on its engine before the next one goes.
        let crowded = under_way > ours.saturating_sub(1) && out.last.is_some_and(|last| now - last < APART) && ours > 0;
        let room = engines == 0 || (ours.max(under_way) < engines.saturating_mul(u64::from(self.mark)) && !crowded);
        if room {
            out.under_way += 1;
            out.last = Some(now);
        }
        room
    }

    /// Lines under way, and lines held.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let counts = self.lock();
        (counts.by_model.values().map(|out| u64::from(out.under_way)).sum(), counts.held)
    }

    // No step under this lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let mut counts = self.gate.lock();
        if let Some(out) = counts.by_model.get_mut(&self.model) {
            out.under_way -= 1;
            if out.under_way == 0 {
                counts.by_model.remove(&self.model);
            }
        }
    }
}

/// A line that waits; counted until dropped.
struct Held<'g>(&'g Gate);

impl<'g> Held<'g> {
    fn new(gate: &'g Gate) -> Self {
        gate.lock().held += 1;
        Self(gate)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.lock().held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fill_what_others_leave() {
        let gate = Gate::new(2);
        let passed = |model: &str| Passed { gate: &gate, model: model.to_owned() };
        assert!(gate.enter("m", 2, 0));
        let one = passed("m");
        assert!(gate.enter("m", 2, 0), "nobody else is about");
        let two = passed("m");
        assert!(!gate.enter("m", 2, 4), "others fill it");
        assert!(gate.enter("n", 1, 0), "another model has its own room");
        let three = passed("n");
        assert_eq!(gate.counts(), (3, 0));
        drop((one, two, three));
        assert_eq!(gate.counts(), (0, 0));
        assert!(gate.enter("m", 1, 1));
        let one = passed("m");
        assert!(!gate.enter("m", 1, 2), "the mark is reached");
        drop(one);
        assert!(gate.enter("gone", 0, 0));
    }
}
