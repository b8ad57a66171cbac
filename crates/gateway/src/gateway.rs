//! The gateway's handle: settings, engines, counters.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::Router;
use dh_core::Authenticate;
use dh_core::time::Clock;
use dh_policy::routing::{self, Route};
use tokio::net::TcpListener;

use crate::accounts::Accounts;
use crate::admission::Admission;
use crate::batch::{self, Batches};
use crate::cache::Caches;
use crate::config::Price;
use crate::engines::{EngineKind, EngineStatus, EngineTarget, Model, Snapshot};
use crate::kv::Kv;
use crate::lines::Lines;
use crate::metrics::Registry;
use crate::scale::{ScaledModel, Scaling, ScalingStatus};
use crate::upstream::Upstream;
use crate::{Error, GatewayConfig, SystemClock, handlers, kv, ledger, scale, serve};

/// The gateway. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) auth: Arc<dyn Authenticate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: &'static dyn Route,
    pub(crate) admission: Admission,
    pub(crate) accounts: Accounts,
    pub(crate) registry: Registry,
    pub(crate) upstream: Upstream,
    pub(crate) scaling: Scaling,
    pub(crate) kv: Arc<Kv>,
    pub(crate) batches: Option<Arc<Batches>>,
    pub(crate) lines: Option<Arc<Lines>>,
    pub(crate) caches: Option<Caches>,
    /// Whether requests take the way of [`crate::detour`].
    pub(crate) detours: bool,
    snapshot: RwLock<Arc<Snapshot>>,
    wanted: Mutex<Wanted>,
}

/// What the server asked for last. Its lock also puts replacements in order.
#[derive(Clone, Default)]
struct Wanted {
    targets: Vec<EngineTarget>,
    expected: Vec<(String, EngineKind)>,
    scaled: Vec<ScaledModel>,
}

impl Shared {
    /// What the model costs its callers, where that is said.
    pub(crate) fn price(&self, model: &Model) -> Option<Price> {
        if self.config.prices.is_empty() { None } else { self.config.prices.get(&*model.name).copied() }
    }
}

impl Gateway {
    /// A gateway with no engines.
    /// # Errors
    /// [`Error::UnknownPolicy`]; [`Error::BadOptions`]; [`Error::Tls`]; [`Error::Disk`]; [`Error::BadEngine`] for the address of
    /// a ledger.
    pub fn new(config: GatewayConfig, auth: Arc<dyn Authenticate>) -> Result<Self, Error> {
        Self::with_clock(config, auth, Arc::new(SystemClock::new()))
    }

    /// A gateway whose breakers learn the time from `clock`.
    /// # Errors
    /// Those of [`Gateway::new`].
    pub fn with_clock(
        config: GatewayConfig,
        auth: Arc<dyn Authenticate>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let options = &config.options;
        if let Some(why) = options.problem() {
            return Err(Error::BadOptions(why));
        }
        let lines = options.line.as_ref().map(|line| Arc::new(Lines::new(line)));
        let caches = Caches::new(options);
        let kv = Arc::<Kv>::default();
        let shared = Shared {
            lines: lines.clone(),
            detours: options.line.is_some() || !options.fallbacks.is_empty() || caches.is_some(),
            caches,
            policy: routing::by_name(&config.policy).ok_or_else(|| Error::UnknownPolicy {
                name: config.policy.clone(),
                known: routing::names().join(", "),
            })?,
            accounts: Accounts::open(config.ledger.as_ref())?,
            admission: Admission::new(&config),
            registry: Registry::default(),
            scaling: Scaling::default(),
            upstream: Upstream::new(&config, lines, Arc::clone(&kv))?,
            kv,
            batches: config.batch.clone().map(Batches::open).transpose()?.map(Arc::new),
            snapshot: RwLock::default(),
            wanted: Mutex::default(),
            config,
            auth,
            clock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Replaces the engines. Requests under way keep theirs; engines that stay keep their state.
    /// # Errors
    /// [`Error::BadEngine`], [`Error::TooManyEngines`]; the present engines then stay as they are.
    pub fn set_engines(&self, targets: Vec<EngineTarget>) -> Result<(), Error> {
        self.replace(|wanted| wanted.targets = targets)
    }

    /// Replaces the models that exist even while no engine of them is ready: asking for one gives 503 instead of 404.
    /// # Errors
    /// Those of [`Gateway::set_engines`].
    pub fn expect_models(&self, expected: Vec<(String, EngineKind)>) -> Result<(), Error> {
        self.replace(|wanted| wanted.expected = expected)
    }

    /// Replaces the models whose replicas follow their load. They exist even without a replica: requests then wait for one.
    /// # Errors
    /// Those of [`Gateway::set_engines`].
    pub fn scale_models(&self, models: &[ScaledModel]) -> Result<(), Error> {
        self.replace(|wanted| wanted.scaled = models.to_vec())?;
        self.shared.scaling.set(models);
        Ok(())
    }

    /// How the scaled models are doing, and how many replicas of each are wanted.
    pub fn scaling(&self) -> Vec<ScalingStatus> {
        self.shared.scaling.statuses(self)
    }

    /// How the engines are doing, in the order of their models.
    pub fn engines(&self) -> Vec<EngineStatus> {
        self.snapshot().statuses()
    }

    /// The counters, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let mut text = self.shared.registry.render(self.shared.admission.in_flight(), &self.engines());
        self.shared.upstream.render(&mut text);
        if let Some(caches) = &self.shared.caches {
            caches.render(&mut text);
        }
        if let Some(lines) = &self.shared.lines {
            lines.render(&mut text);
        }
        if let Some(batches) = &self.shared.batches {
            batches.render(&mut text);
        }
        self.shared.scaling.render(self, &mut text);
        self.shared.kv.render(&mut text);
        text
    }

    /// The routes, for a server of one's own. [`Gateway::serve`] adds the bounds on connections.
    pub fn router(&self) -> Router {
        handlers::router(self.clone())
    }

    /// Serves `listener` until `shutdown` resolves, then lets answers under way end.
    /// # Errors
    /// [`Error::Listen`] if the listener fails for good.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let _batches = batch::start(self);
        let work = (ledger::start(self), scale::start(self), kv::start(self));
        let served = serve::serve(self, listener, shutdown).await;
        drop(work);
        ledger::end(self).await;
        served
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, change: impl FnOnce(&mut Wanted)) -> Result<(), Error> {
        let shared = &self.shared;
        let mut wanted = shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = wanted.clone();
        change(&mut next);
        let scaled = next.scaled.iter().map(|scaled| (scaled.model.clone(), scaled.kind));
        let expected: Vec<_> = next.expected.iter().cloned().chain(scaled).collect();
        let snapshot = self.snapshot().next(
            next.targets.clone(),
            &expected,
            shared.config.breaker,
            &shared.registry,
            shared.clock.now(),
        )?;
        *shared.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        shared.scaling.replaced();
        shared.kv.replaced();
        *wanted = next;
        Ok(())
    }
}
