//! Models whose number of replicas follows their load: what the gateway sees of them, how many it wants, and requests that wait
//! for the first one.
//!
//! The decision is [`dh_policy::scaling`]'s, once a second and at once when a request waits; whoever starts replicas reads it
//! with [`Gateway::scaling`] or from the metrics. *Invariant*: requests that wait have a bound in number, in bytes and in time,
//! and none is lost when the first replica serves. Free for models that are not scaled: one look at a flag a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dh_core::time::Span;
use dh_policy::scaling::{Controller, Sample, Targets, Wanted};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::accounts::Accounts;
use crate::engines::{EngineKind, Model};
use crate::metrics::{escaped, family, line};
use crate::{Error, Gateway};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// What a gauge shows of a status.
type Pick = fn(&ScalingStatus) -> String;

/// Requests that wait for a first replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldConfig {
    /// How many may wait for all models together; one more is refused.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// How long one may wait.
    pub time: Duration,
}

impl Default for HoldConfig {
    fn default() -> Self {
        // A large model loads for a minute or two.
        Self { requests: 1_024, bytes: 64 << 20, time: Duration::from_mins(5) }
    }
}

/// A model that is scaled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaledModel {
    /// Its name in requests.
    pub model: String,
    /// What its engines speak.
    pub kind: EngineKind,
    /// Within what, and for what.
    pub targets: Targets,
    /// Replicas that run, or were ordered, when it is first scaled.
    pub start: u32,
}

/// How a scaled model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingStatus {
    /// The model.
    pub model: String,
    /// Replicas that serve.
    pub replicas: u32,
    /// Requests that wait for the first one.
    pub held: u64,
    /// How many are wanted, and why.
    pub wanted: Wanted,
}

/// One scaled model's state, which outlives snapshots.
pub(crate) struct Scaled {
    controller: Mutex<Controller>,
    arrived: AtomicU64,
    held: AtomicU64,
}

/// All scaled models.
pub(crate) struct Scaling {
    on: AtomicBool,
    models: RwLock<BTreeMap<String, Arc<Scaled>>>,
    /// A request waits.
    asked: Notify,
    /// The engines were replaced.
    replaced: watch::Sender<()>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            models: RwLock::default(),
            asked: Notify::new(),
            replaced: watch::Sender::new(()),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }
}

impl Scaled {
    // No step of a controller can panic half-way.
    fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scaling {
    /// Replaces the scaled models; those that stay keep their state.
    pub(crate) fn set(&self, wanted: &[ScaledModel]) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        for ScaledModel { model, targets, start, .. } in wanted {
            let before = models.get(model).filter(|scaled| scaled.controller().targets() == *targets);
            let scaled = before.map_or_else(
                || {
                    let controller = Mutex::new(Controller::new(*targets, *start));
                    Arc::new(Scaled { controller, arrived: AtomicU64::new(0), held: AtomicU64::new(0) })
                },
                Arc::clone,
            );
            next.insert(model.clone(), scaled);
        }
        self.on.store(!next.is_empty(), Ordering::Relaxed);
        *models = next;
    }

    /// The engines were replaced.
    pub(crate) fn replaced(&self) {
        self.replaced.send_replace(());
    }

    fn of(&self, model: &str) -> Option<Arc<Scaled>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        self.models.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// A prompt of so many tokens came for `model`.
    pub(crate) fn came(&self, model: &Model, tokens: u64) {
        if let Some(scaled) = self.of(&model.name) {
            scaled.arrived.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    fn all(&self) -> Vec<(String, Arc<Scaled>)> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(name, scaled)| (name.clone(), Arc::clone(scaled))).collect()
    }

    fn step(&self, gateway: &Gateway) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let snapshot = gateway.snapshot();
        for (name, scaled) in self.all() {
            let mut sample = Sample {
                arrived: scaled.arrived.load(Ordering::Relaxed),
                held: scaled.held.load(Ordering::Relaxed),
                ..Sample::default()
            };
            let engines = snapshot.model(&name).map(|model| model.engines.as_slice()).unwrap_or_default();
            let (mut pace, mut known) = (0_u64, 0_u64);
            for engine in engines.iter().filter(|engine| engine.state.breaker().is_closed()) {
                sample.replicas += 1;
                sample.in_flight += u64::from(engine.state.in_flight());
                sample.queued = sample.queued.saturating_add(engine.state.queued());
                let prefill = engine.state.prefill_us();
                (pace, known) = (pace.saturating_add(prefill), known + u64::from(prefill > 0));
            }
            sample.prefill_us = pace.checked_div(known).unwrap_or(0);
            let before = scaled.controller().wanted().replicas;
            let wanted = scaled.controller().step(gateway.shared.clock.now(), sample);
            if wanted.replicas != before {
                tracing::info!(model = name, before, wanted = wanted.replicas, because = wanted.because, "scales");
            }
        }
    }

    pub(crate) fn statuses(&self, gateway: &Gateway) -> Vec<ScalingStatus> {
        let snapshot = gateway.snapshot();
        let of = |(model, scaled): (String, Arc<Scaled>)| {
            let engines = snapshot.model(&model).map_or(0, |model| model.engines.len());
            ScalingStatus {
                replicas: u32::try_from(engines).unwrap_or(u32::MAX),
                held: scaled.held.load(Ordering::Relaxed),
                wanted: scaled.controller().wanted(),
                model,
            }
        };
        self.all().into_iter().map(of).collect()
    }

    pub(crate) fn render(&self, gateway: &Gateway, out: &mut String) {
        let statuses = self.statuses(gateway);
        if statuses.is_empty() {
            return;
        }
        let families: [(&str, &str, Pick); 4] = [
            ("wanted_replicas", "Replicas that the load asks for.", |status| status.wanted.replicas.to_string()),
            ("replicas", "Replicas that serve.", |status| status.replicas.to_string()),
            ("held_requests", "Requests that wait for a first replica.", |status| status.held.to_string()),
            ("predicted_ttft_seconds", "Time to the first token of a prompt that came now.", |status| {
                let Span(nanos) = status.wanted.ttft;
                format!("{}.{:03}", nanos / 1_000_000_000, nanos % 1_000_000_000 / 1_000_000)
            }),
        ];
        for (name, about, value) in families {
            family(out, name, "gauge", about);
            for status in &statuses {
                let name = format!("datahall_gateway_{name}{{model=\"{}\"}}", escaped(&status.model));
                line(out, &name, value(status));
            }
        }
    }
}

/// A place among those that wait; given back when it is dropped.
struct Held<'g> {
    scaling: &'g Scaling,
    scaled: Arc<Scaled>,
    bytes: u64,
}

impl<'g> Held<'g> {
    fn new(gateway: &'g Gateway, scaled: Arc<Scaled>, bytes: u64) -> Option<Self> {
        let (scaling, config) = (&gateway.shared.scaling, &gateway.shared.config.hold);
        let requests = scaling.requests.fetch_add(1, Ordering::Relaxed);
        let all = scaling.bytes.fetch_add(bytes, Ordering::Relaxed);
        scaled.held.fetch_add(1, Ordering::Relaxed);
        // Dropped again if it does not fit.
        let held = Self { scaling, scaled, bytes };
        (requests < config.requests && all.saturating_add(bytes) <= config.bytes).then_some(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.scaling.requests.fetch_sub(1, Ordering::Relaxed);
        self.scaling.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.scaled.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `model` with an engine: as it is, or once a first replica serves. Models that are not scaled are as they are.
/// A caller whose key is for other models neither waits nor makes a replica start.
pub(crate) async fn served(
    gateway: &Gateway,
    caller: &str,
    model: Arc<Model>,
    bytes: usize,
) -> Result<Arc<Model>, Error> {
    if !model.engines.is_empty() {
        return Ok(model);
    }
    Accounts::scope(&gateway.shared, caller, &model)?;
    let Some(scaled) = gateway.shared.scaling.of(&model.name) else { return Ok(model) };
    let scaling = &gateway.shared.scaling;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let not_ready = || Error::NotReady { model: model.name.to_string(), wait: Span::from_secs(10) };
    let _held = Held::new(gateway, scaled, bytes).ok_or_else(not_ready)?;
    let mut replaced = scaling.replaced.subscribe();
    scaling.asked.notify_one();
    let first = async {
        loop {
            replaced.borrow_and_update();
            let found = Arc::clone(gateway.snapshot().model(&model.name)?);
            if !found.engines.is_empty() {
                return Ok(found);
            }
            if replaced.changed().await.is_err() {
                return Err(not_ready());
            }
        }
    };
    tokio::time::timeout(gateway.shared.config.hold.time, first).await.unwrap_or_else(|_| Err(not_ready()))
}

/// Ends the looks when it is dropped.
pub(crate) struct Looks(JoinHandle<()>);

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to look at the scaled models.
pub(crate) fn start(gateway: &Gateway) -> Looks {
    let gateway = gateway.clone();
    Looks(tokio::spawn(async move {
        let mut turns = tokio::time::interval(LOOK);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = turns.tick() => {}
                () = gateway.shared.scaling.asked.notified() => {}
            }
            gateway.shared.scaling.step(&gateway);
        }
    }))
}
