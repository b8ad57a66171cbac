//! The slots: threads that compute answers, and the bounded queue before them.
//!
//! Invariant: at most `slots + waiting_max` requests are inside; one whose client has gone takes no slot. A slow reader
//! holds no slot either: an answer goes into a channel that is bounded by the length of the answer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::metrics::{Metrics, Outcome};
use crate::language::{Error, LanguageModel, Request, Session, Sink, Usage};

/// The longest time that a client is told to wait before it tries again, in seconds.
const RETRY_AFTER_MAX: u64 = 60;
/// What an answer is taken to last before one was measured.
const ANSWER_GUESS: Duration = Duration::from_secs(2);

/// A piece of an answer.
#[derive(Debug)]
pub(super) enum Event {
    /// More text; may be empty.
    Text(String),
    /// The end.
    Done(Usage),
    /// The end, without an answer.
    Failed(Error),
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Seconds until a slot should be free.
    pub(super) retry_after: u64,
}

struct Job {
    request: Request,
    accepted: Instant,
    events: UnboundedSender<Event>,
}

struct State {
    waiting: VecDeque<Job>,
    running: usize,
    /// A moving average over answers.
    answer_time: Duration,
}

struct Shared {
    model: Arc<LanguageModel>,
    metrics: Arc<Metrics>,
    slots: usize,
    waiting_max: usize,
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// A handle on the slots.
pub(super) struct Slots {
    shared: Arc<Shared>,
}

impl Slots {
    /// Starts one thread per slot.
    pub(super) fn start(
        model: Arc<LanguageModel>,
        slots: usize,
        waiting_max: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Self, crate::Error> {
        let state = State { waiting: VecDeque::new(), running: 0, answer_time: ANSWER_GUESS };
        let shared = Arc::new(Shared {
            model,
            metrics,
            slots,
            waiting_max,
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        // Dropped on an early return, which ends the threads that did start.
        let started = Self { shared };
        for slot in 0..slots {
            let shared = Arc::clone(&started.shared);
            let session = Session::new(&shared.model)?;
            std::thread::Builder::new().name(format!("slot-{slot}")).spawn(move || shared.work(session))?;
        }
        Ok(started)
    }

    /// Queues a request.
    pub(super) fn submit(&self, request: Request, accepted: Instant) -> Result<UnboundedReceiver<Event>, Full> {
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.waiting.len() + state.running >= shared.slots + shared.waiting_max {
            state.waiting.retain(|job| !job.events.is_closed());
        }
        let inside = state.waiting.len() + state.running;
        if inside >= shared.slots + shared.waiting_max {
            let rounds = state.waiting.len() / shared.slots + 1;
            let wait = state.answer_time.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
            return Err(Full { retry_after: (wait.as_secs() + 1).min(RETRY_AFTER_MAX) });
        }
        let (events, receiver) = unbounded_channel();
        state.waiting.push_back(Job { request, accepted, events });
        shared.changed.notify_one();
        Ok(receiver)
    }

    /// Requests that wait, and requests that are being answered.
    pub(super) fn load(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.waiting.iter().filter(|job| !job.events.is_closed()).count(), state.running)
    }

    /// Ends all answers, at their next token, and all threads.
    pub(super) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Under the lock, so that no thread is between its look at the flag and its wait.
        let mut state = self.shared.lock();
        for job in state.waiting.drain(..) {
            // A client that has gone needs no answer.
            let _sent = job.events.send(Event::Failed(Error::Cancelled));
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// The state is consistent between any two statements, so a panic elsewhere leaves it usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if self.stopping() {
                return None;
            }
            while let Some(job) = state.waiting.pop_front() {
                if !job.events.is_closed() {
                    state.running += 1;
                    return Some(job);
                }
                self.metrics.count(Outcome::Cancelled);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, mut session: Session) {
        while let Some(job) = self.next_job() {
            let started = Instant::now();
            let waited = started.duration_since(job.accepted);
            let mut sink = Outlet { events: &job.events, shared: self };
            let attempt = AssertUnwindSafe(|| session.answer(&self.model, &job.request, &mut sink));
            let result = catch_unwind(attempt).unwrap_or_else(|_| {
                Err(Error::Compute(candle_core::Error::Msg("a panic while computing; this is a bug".to_owned())))
            });
            let event = match result {
                Ok(usage) => {
                    self.metrics.answered(&usage, waited);
                    Event::Done(usage)
                }
                Err(error) => {
                    let cancelled = matches!(error, Error::Cancelled);
                    if !cancelled {
                        tracing::error!(%error, "an answer failed");
                    }
                    self.metrics.count(if cancelled { Outcome::Cancelled } else { Outcome::Failed });
                    // What the session holds after a failure is not known; a new one is cheap.
                    match Session::new(&self.model) {
                        Ok(fresh) => session = fresh,
                        Err(error) => tracing::error!(%error, "a slot keeps its old session"),
                    }
                    Event::Failed(error)
                }
            };
            let mut state = self.lock();
            state.running -= 1;
            state.answer_time = (state.answer_time * 7 + started.elapsed()) / 8;
            drop(state);
            // A client that has gone needs no answer.
            let _sent = job.events.send(event);
        }
    }
}

struct Outlet<'a> {
    events: &'a UnboundedSender<Event>,
    shared: &'a Shared,
}

impl Sink for Outlet<'_> {
    fn wanted(&self) -> bool {
        !self.events.is_closed() && !self.shared.stopping()
    }

    fn token(&mut self, text: String) {
        // Whether anybody is still there is asked before the next token.
        let _sent = self.events.send(Event::Text(text));
    }
}
