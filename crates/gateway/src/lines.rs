//! Lines in front of the engines of each model, used only while all of them are at their bound.
//!
//! Invariant: requests under way on a model never exceed what its engines may work on at once; who waits holds one place in
//! one line and gives it up when its caller leaves. Who is next decides [`dh_policy::waiting`]. A request that need not wait
//! takes one short lock.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dh_core::SimTime;
use dh_core::time::{Clock as _, Span};
use dh_policy::waiting::{Comer, Line, Place, Refused, Rule};
use http::{HeaderMap, HeaderName};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::SystemClock;
use crate::config::MODEL_SERIES_MAX;
use crate::engines::Model;
use crate::metrics::{FIRST_EDGES, Histogram, escaped, family, line};
use crate::options::LineConfig;
use crate::{Error, Gateway};

/// A request's class, which may also stand in its body as `service_tier`.
pub(crate) const CLASS: HeaderName = HeaderName::from_static("x-datahall-class");
/// How often those who wait look whether there are more engines.
const LOOK: Duration = Duration::from_millis(100);
/// Requests of other classes that may go before one that waits, for the class of each rank.
const PASSES: [u32; 3] = [16, 32, 64];

/// The lines of all models.
pub(crate) struct Lines {
    config: LineConfig,
    clock: SystemClock,
    by_model: Mutex<HashMap<String, Arc<Queue>>>,
}

/// The line of one model, and what is under way.
pub(crate) struct Queue {
    /// Requests that all its engines may work on at once, when that was last looked at.
    capacity: AtomicU64,
    state: Mutex<State>,
    classes: Vec<ClassMetrics>,
    clock: SystemClock,
}

struct State {
    line: Line,
    under_way: u64,
    calls: BTreeMap<Place, oneshot::Sender<()>>,
}

struct ClassMetrics {
    name: String,
    first_token: Duration,
    waited: Histogram,
    full: AtomicU64,
    too_long: AtomicU64,
    expired: AtomicU64,
    left: AtomicU64,
    in_time: AtomicU64,
    late: AtomicU64,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) class: usize,
    pub(crate) tenant: &'a str,
    pub(crate) weight: u32,
    pub(crate) tokens: u64,
}

/// The right to be under way; given back when dropped.
pub(crate) struct Seat {
    queue: Arc<Queue>,
    class: usize,
}

impl Lines {
    pub(crate) fn new(config: &LineConfig) -> Self {
        Self { config: config.clone(), clock: SystemClock::new(), by_model: Mutex::default() }
    }

    /// Whether there is a class of this name.
    pub(crate) fn knows(&self, class: &str) -> bool {
        self.config.classes.iter().any(|known| known.name == class)
    }

    /// The class of a request: its own word, then its key's, then that of all.
    pub(crate) fn class_of(&self, headers: &HeaderMap, tier: Option<&str>, key: Option<&str>) -> Result<usize, Error> {
        let place = |name: &str| self.config.classes.iter().position(|class| class.name == name);
        if let Some(said) = headers.get(CLASS) {
            let name = said.to_str().unwrap_or_default();
            let known = || self.config.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ");
            return place(name).ok_or_else(|| Error::BadField(format!("`{CLASS}` is one of {}", known())));
        }
        let tier = tier.map(|tier| match tier {
            // The service's own words for the same.
            "priority" => "interactive",
            "flex" => "batch",
            other => other,
        });
        Ok(tier.and_then(place).or_else(|| key.and_then(place)).or_else(|| place(&self.config.class)).unwrap_or(0))
    }

    fn of(&self, model: &str) -> Arc<Queue> {
        let mut all = self.by_model.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = all.get(model) {
            return Arc::clone(queue);
        }
        if all.len() >= MODEL_SERIES_MAX {
            // Nobody holds these but the table.
            all.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let queue = Arc::new(Queue::new(&self.config, self.clock.clone()));
        all.insert(model.to_owned(), Arc::clone(&queue));
        queue
    }

    /// What `model`'s engines may work on at once; without bound if none may be asked, so that the caller learns that.
    fn capacity(&self, gateway: &Gateway, model: &str) -> u64 {
        let now = gateway.shared.clock.now();
        let snapshot = gateway.snapshot();
        let Ok(model) = snapshot.model(model) else { return u64::MAX };
        let ready = model.engines.iter().filter(|engine| engine.state.breaker().wait(now).is_none()).count();
        match u64::try_from(ready) {
            Ok(ready @ 1..) => ready.saturating_mul(u64::from(self.config.engine_in_flight)),
            Ok(0) | Err(_) => u64::MAX,
        }
    }

    /// Waits until a request may go to an engine of `model`.
    /// # Errors
    /// [`Error::Crowded`] if it would wait, or has waited, longer than its class waits.
    pub(crate) async fn enter(&self, gateway: &Gateway, model: &Model, who: Who<'_>) -> Result<Seat, Error> {
        let queue = self.of(&model.name);
        queue.capacity.store(self.capacity(gateway, &model.name), Ordering::Relaxed);
        let started = Instant::now();
        let crowded = |wait: Option<Span>| Error::Crowded {
            model: model.name.to_string(),
            class: self.config.classes.get(who.class).map(|class| class.name.clone()).unwrap_or_default(),
            wait: wait.unwrap_or(Span::from_secs(1)),
        };
        let mut waiting = match queue.join(who) {
            Ok(Joined::Passed(seat)) => return Ok(seat),
            Ok(Joined::Waits(waiting)) => waiting,
            Err(Refused::Full { wait }) => return Err(crowded(wait)),
            Err(Refused::TooLong { wait }) => return Err(crowded(Some(wait))),
        };
        let patience = self.config.classes.get(who.class).map(|class| class.wait_max).unwrap_or_default();
        loop {
            let look = (started + patience).min(Instant::now() + LOOK);
            let Some(call) = &mut waiting.call else { return Err(crowded(None)) };
            match tokio::time::timeout_at(look, call).await {
                // The sender is gone only with the line.
                Ok(_) => break,
                Err(_) if started.elapsed() >= patience => {
                    waiting.expired = true;
                    return Err(crowded(None));
                }
                Err(_) => {
                    queue.capacity.store(self.capacity(gateway, &model.name), Ordering::Relaxed);
                    queue.pump(&mut queue.lock());
                }
            }
        }
        waiting.call = None;
        if let Some(metrics) = queue.classes.get(who.class) {
            metrics.waited.observe(started.elapsed(), 1);
        }
        Ok(Seat { queue: Arc::clone(&queue), class: who.class })
    }

    /// A seat if there is room now and nobody waits.
    pub(crate) fn try_enter(&self, model: &Model) -> Option<Seat> {
        let queue = self.of(&model.name);
        let mut state = queue.lock();
        let free = state.line.is_empty() && state.under_way < queue.capacity.load(Ordering::Relaxed);
        state.under_way += u64::from(free);
        drop(state);
        free.then(|| Seat { queue, class: usize::MAX })
    }

    /// Appends the metrics.
    pub(crate) fn render(&self, out: &mut String) {
        let all = self.by_model.lock().unwrap_or_else(PoisonError::into_inner);
        let mut models: Vec<_> = all.iter().map(|(name, queue)| (escaped(name), Arc::clone(queue))).collect();
        drop(all);
        models.sort_by(|one, other| one.0.cmp(&other.0));
        let each = |out: &mut String, write: &dyn Fn(&mut String, &str, &Queue, usize, &ClassMetrics)| {
            for (model, queue) in &models {
                for (place, class) in queue.classes.iter().enumerate() {
                    let labels = format!("model=\"{model}\",class=\"{}\"", escaped(&class.name));
                    write(out, &labels, queue, place, class);
                }
            }
        };
        family(out, "queue_depth", "gauge", "Requests that wait for an engine.");
        each(out, &|out, labels, queue, place, _| {
            let depth = queue.lock().line.waiting(place);
            line(out, &format!("datahall_gateway_queue_depth{{{labels}}}"), depth);
        });
        family(out, "queue_wait_seconds", "histogram", "How long requests waited that had to wait.");
        each(out, &|out, labels, _, _, class| {
            class.waited.write_with(out, "datahall_gateway_queue_wait_seconds", labels);
        });
        family(out, "queue_refused_total", "counter", "Requests that were refused, or left, instead of waiting.");
        each(out, &|out, labels, _, _, class| {
            for (why, count) in [
                ("full", &class.full),
                ("predicted", &class.too_long),
                ("expired", &class.expired),
                ("left", &class.left),
            ] {
                let name = format!("datahall_gateway_queue_refused_total{{{labels},why=\"{why}\"}}");
                line(out, &name, count.load(Ordering::Relaxed));
            }
        });
        family(out, "class_first_tokens_total", "counter", "First tokens of streams by whether they came in time.");
        each(out, &|out, labels, _, _, class| {
            for (met, count) in [("true", &class.in_time), ("false", &class.late)] {
                let _infallible = writeln!(
                    out,
                    "datahall_gateway_class_first_tokens_total{{{labels},in_time=\"{met}\"}} {}",
                    count.load(Ordering::Relaxed)
                );
            }
        });
    }
}

/// How joining went.
enum Joined {
    Passed(Seat),
    Waits(Waiting),
}

impl Queue {
    fn new(config: &LineConfig, clock: SystemClock) -> Self {
        let rule = |(rank, class): (usize, &crate::options::ClassConfig)| Rule {
            wait_max: Span(u64::try_from(class.wait_max.as_nanos()).unwrap_or(u64::MAX)),
            passes_max: PASSES.get(rank).or(PASSES.last()).copied().unwrap_or(64),
        };
        let rules: Vec<Rule> = config.classes.iter().enumerate().map(rule).collect();
        let metrics = |class: &crate::options::ClassConfig| ClassMetrics {
            name: class.name.clone(),
            first_token: class.first_token,
            waited: Histogram::new(FIRST_EDGES),
            full: AtomicU64::new(0),
            too_long: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            left: AtomicU64::new(0),
            in_time: AtomicU64::new(0),
            late: AtomicU64::new(0),
        };
        Self {
            capacity: AtomicU64::new(0),
            state: Mutex::new(State {
                line: Line::new(&rules, config.length_max),
                under_way: 0,
                calls: BTreeMap::new(),
            }),
            classes: config.classes.iter().map(metrics).collect(),
            clock,
        }
    }

    // No step under this lock can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> SimTime {
        self.clock.now()
    }

    fn join(self: &Arc<Self>, who: Who<'_>) -> Result<Joined, Refused> {
        let mut state = self.lock();
        if state.line.is_empty() && state.under_way < self.capacity.load(Ordering::Relaxed) {
            state.under_way += 1;
            return Ok(Joined::Passed(Seat { queue: Arc::clone(self), class: who.class }));
        }
        let comer = Comer { class: who.class, tenant: Arc::from(who.tenant), weight: who.weight, tokens: who.tokens };
        let place = state.line.join(self.now(), comer).inspect_err(|refused| {
            if let Some(metrics) = self.classes.get(who.class) {
                let counter = match refused {
                    Refused::Full { .. } => &metrics.full,
                    Refused::TooLong { .. } => &metrics.too_long,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let (sender, call) = oneshot::channel();
        state.calls.insert(place, sender);
        self.pump(&mut state);
        Ok(Joined::Waits(Waiting { queue: Arc::clone(self), place, call: Some(call), expired: false }))
    }

    /// Calls as many as there is room for.
    fn pump(&self, state: &mut State) {
        let capacity = self.capacity.load(Ordering::Relaxed);
        while state.under_way < capacity
            && let Some(place) = state.line.pop(self.now())
        {
            state.under_way += 1;
            // Who has just left gives the room back itself, since it holds no place any more.
            if let Some(sender) = state.calls.remove(&place) {
                let _left = sender.send(());
            }
        }
    }

    fn give_back(&self, state: &mut State) {
        state.under_way = state.under_way.saturating_sub(1);
        self.pump(state);
    }
}

/// A place in the line; given up when dropped.
struct Waiting {
    queue: Arc<Queue>,
    place: Place,
    /// Nothing once the request has become a [`Seat`].
    call: Option<oneshot::Receiver<()>>,
    expired: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.call.is_none() {
            return;
        }
        let mut state = self.queue.lock();
        state.calls.remove(&self.place);
        if state.line.leave(self.place) {
            if let Some(metrics) = self.queue.classes.get(self.place.class()) {
                let counter = if self.expired { &metrics.expired } else { &metrics.left };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            // It was called at the same moment.
            self.queue.give_back(&mut state);
        }
    }
}

impl Seat {
    /// The first token of a stream came after `waited`.
    pub(crate) fn first_token(&self, waited: Duration) {
        if let Some(class) = self.queue.classes.get(self.class) {
            let counter = if waited <= class.first_token { &class.in_time } else { &class.late };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.queue.give_back(&mut self.queue.lock());
    }
}
