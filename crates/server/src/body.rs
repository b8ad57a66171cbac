//! The live body's heart: one thread that owns the log and moves the hall.
//!
//! Order for every batch of events: step the hall, write the events and commit, and only then let actions out and answer
//! callers. The hall is locked only while it steps: who reads it meanwhile may see what is not durable yet, and waits with the
//! answer until it is ([`Handle::settled`], asked once for every request). A failed commit is final: nothing is acknowledged
//! any more, and the process ends and recovers from its log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dh_core::time::Clock;
use dh_core::{JobId, SimTime};
use dh_hall::{Action, Event, Hall, JobSpec};
use tokio::sync::{broadcast, oneshot, watch};

use crate::Error;
use crate::log::{EventLog, Row};

/// Events that share one commit. Enough to make the fsync cheap per event, few enough to answer the first one soon.
const BATCH_MAX: usize = 256;

/// Events between two state hashes in the log, at least; and so many for each job that is remembered, because the hash reads
/// them all: a hall with a long queue would do little else.
const MARK_EVERY: u64 = 64;
const MARK_PER_JOB: u64 = 4;

/// Events that a reader may be behind before it is cut off.
const NEWS_WAITING: usize = 4_096;

/// The longest sleep, so that a clock that was set forward is noticed.
const NAP_MAX: Duration = Duration::from_secs(1);

/// The system's clock. A hall never reads it: it is told.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SimTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SimTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

enum Message {
    /// An event that needs no answer.
    Tell(Event),
    /// An event that is answered when it is durable.
    Ask(Event, oneshot::Sender<()>),
    /// A job, which may be refused before it becomes an event.
    Submit(Box<Submission>),
    /// End after what came before.
    End,
    /// The hall is another's, or its log is out of reach.
    Lost(Error),
}

struct Submission {
    spec: JobSpec,
    by: String,
    key: Option<String>,
    answer: oneshot::Sender<Result<JobId, Error>>,
}

/// Access to the hall: events go in through the body, everybody may read.
#[derive(Clone)]
pub(crate) struct Handle {
    messages: Sender<Message>,
    hall: Arc<RwLock<Hall>>,
    /// Events that the hall has taken in.
    stepped: Arc<AtomicU64>,
    /// Those of them that are durable.
    durable: watch::Receiver<u64>,
    ended: Arc<AtomicBool>,
    news: broadcast::Sender<Arc<Row>>,
}

impl Handle {
    /// The hall as it is. What is read is told to nobody before [`Handle::settled`] has returned.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Hall> {
        // A poisoned lock means that a step broke an invariant; the body has ended, and reading is all that is left.
        self.hall.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until everything that may have been read so far is durable.
    pub(crate) async fn settled(&self) -> Result<(), Error> {
        let seen = self.stepped.load(Ordering::SeqCst);
        let mut durable = self.durable.clone();
        durable.wait_for(|durable| *durable >= seen).await.map(drop).map_err(|_| Error::Stopping)
    }

    /// Hands an event in without waiting.
    pub(crate) fn tell(&self, event: Event) {
        if self.messages.send(Message::Tell(event)).is_err() {
            tracing::debug!("an event came after the hall had stopped");
        }
    }

    /// Hands an event in and waits until it is durable and has taken effect.
    pub(crate) async fn ask(&self, event: Event) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.messages.send(Message::Ask(event, answer)).map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)
    }

    /// Submits a job and waits until it is durably accepted.
    pub(crate) async fn submit(&self, spec: JobSpec, by: String, key: Option<String>) -> Result<JobId, Error> {
        let (answer, answered) = oneshot::channel();
        let submission = Box::new(Submission { spec, by, key, answer });
        self.messages.send(Message::Submit(submission)).map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)?
    }

    /// Ends at once: the lease is lost.
    pub(crate) fn lost(&self, error: Error) {
        if self.messages.send(Message::Lost(error)).is_err() {
            tracing::debug!("the hall had stopped already");
        }
    }

    /// Every event from now on, once it is durable.
    pub(crate) fn news(&self) -> broadcast::Receiver<Arc<Row>> {
        self.news.subscribe()
    }

    /// Whether the body has ended.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        if self.messages.send(Message::End).is_err() {
            tracing::debug!("the hall had stopped already");
        }
    }
}

/// The thread's own side.
pub(crate) struct Body {
    log: EventLog,
    hall: Arc<RwLock<Hall>>,
    inbox: Receiver<Message>,
    actions: Sender<Action>,
    clock: Box<dyn Clock>,
    /// The number of steps at which the next state hash is due.
    mark_at: u64,
    stepped: Arc<AtomicU64>,
    durable: watch::Sender<u64>,
    ended: Arc<AtomicBool>,
    news: broadcast::Sender<Arc<Row>>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

impl Body {
    pub(crate) fn new(log: EventLog, hall: Hall, actions: Sender<Action>, clock: Box<dyn Clock>) -> (Self, Handle) {
        let (messages, inbox) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let (news, _) = broadcast::channel(NEWS_WAITING);
        // What was replayed is durable.
        let replayed = hall.steps();
        let hall = Arc::new(RwLock::new(hall));
        let (durable, durable_so_far) = watch::channel(replayed);
        let stepped = Arc::new(AtomicU64::new(replayed));
        let handle = Handle {
            messages,
            hall: Arc::clone(&hall),
            stepped: Arc::clone(&stepped),
            durable: durable_so_far,
            ended: Arc::clone(&ended),
            news: news.clone(),
        };
        (Self { log, hall, inbox, actions, clock, mark_at: 0, stepped, durable, ended, news }, handle)
    }

    /// Runs until [`Handle::end`], or until the log fails.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        loop {
            let (batch, end) = self.next_batch();
            if !batch.is_empty() {
                self.take_in(batch)?;
            }
            match end {
                None => {}
                Some(Ok(())) => {
                    self.mark()?;
                    self.log.release();
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Waits for messages, or for the next moment that the hall asked for.
    fn next_batch(&self) -> (Vec<Message>, Option<Result<(), Error>>) {
        let wakeup = self.hall.read().ok().and_then(|hall| hall.next_wakeup());
        let now = self.clock.now();
        let nap = wakeup.map_or(NAP_MAX, |at| Duration::from_nanos(at.since(now).0).min(NAP_MAX));
        let first = match self.inbox.recv_timeout(nap) {
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return (Vec::new(), Some(Ok(()))),
            Ok(Message::Lost(error)) => return (Vec::new(), Some(Err(error))),
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) if wakeup.is_some_and(|at| at <= self.clock.now()) => {
                Message::Tell(Event::Tick)
            }
            Err(RecvTimeoutError::Timeout) => return (Vec::new(), None),
        };
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match self.inbox.try_recv() {
                Ok(Message::End) => return (batch, Some(Ok(()))),
                Ok(Message::Lost(error)) => return (Vec::new(), Some(Err(error))),
                Ok(message) => batch.push(message),
                Err(_) => break,
            }
        }
        (batch, None)
    }

    fn take_in(&mut self, batch: Vec<Message>) -> Result<(), Error> {
        let mut events = Vec::with_capacity(batch.len());
        let mut actions = Vec::new();
        let mut answers: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        let mut hall = self.hall.write().map_err(|_| Error::Stopping)?;
        for message in batch {
            let now = self.clock.now();
            match message {
                Message::Tell(event) => {
                    events.push((now, event.clone()));
                    hall.step(now, event, &mut actions);
                }
                Message::Ask(event, answer) => {
                    events.push((now, event.clone()));
                    hall.step(now, event, &mut actions);
                    // A caller that has gone away needs no answer.
                    answers.push(Box::new(move || answer.send(()).unwrap_or_default()));
                }
                Message::Submit(submission) => {
                    let Submission { spec, by, key, answer } = *submission;
                    // A repeated key is answered from memory: nothing happened that the log would need to know.
                    let outcome = match key.as_deref().and_then(|key| hall.job_by_key(key)) {
                        Some(job) => Ok(job),
                        None => hall.check(&spec).map(|()| {
                            let event = Event::Submitted { spec: Box::new(spec), by, idempotency_key: key };
                            events.push((now, event.clone()));
                            let mut news = Vec::new();
                            hall.step(now, event, &mut news);
                            let accepted = accepted_in(&news);
                            actions.append(&mut news);
                            accepted
                        }),
                    };
                    answers.push(Box::new(move || drop(answer.send(outcome.map_err(Error::from)))));
                }
                Message::End | Message::Lost(_) => {}
            }
        }
        let steps = hall.steps();
        self.stepped.store(steps, Ordering::SeqCst);
        drop(hall);
        if !events.is_empty() {
            let mark = (steps >= self.mark_at).then(|| self.state_hash(steps)).transpose()?;
            let rows = self.log.append(&events, mark.as_deref())?;
            self.durable.send_replace(steps);
            if self.news.receiver_count() > 0 {
                for row in rows {
                    // Those who listened may have gone meanwhile.
                    drop(self.news.send(Arc::new(row)));
                }
            }
        }
        for action in actions {
            if self.actions.send(action).is_err() {
                return Err(Error::Stopping);
            }
        }
        for answer in answers {
            answer();
        }
        Ok(())
    }

    /// The hash after `steps` events. Whoever reads the hall meanwhile is not held up.
    fn state_hash(&mut self, steps: u64) -> Result<String, Error> {
        let hall = self.hall.read().map_err(|_| Error::Stopping)?;
        self.mark_at = steps + MARK_EVERY.max(MARK_PER_JOB.saturating_mul(hall.known_jobs()));
        Ok(hall.state_hash())
    }

    fn mark(&mut self) -> Result<(), Error> {
        let hash = self.hall.read().map_err(|_| Error::Stopping)?.state_hash();
        self.log.append(&[], Some(&hash)).map(drop)
    }
}

fn accepted_in(actions: &[Action]) -> JobId {
    let accepted = actions.iter().find_map(|action| match action {
        Action::Accepted { job } => Some(*job),
        Action::Start { .. } | Action::Stop { .. } | Action::Serve { .. } | Action::Close { .. } => None,
    });
    assert!(accepted.is_some(), "a submission that was checked must be accepted");
    accepted.unwrap_or(JobId(0))
}
