//! The HTTP listener of one model.
//!
//! Invariant: every path but `/healthz` needs the key, before anything else is looked at; the async threads never compute.
//! Connections, heads, bodies and waiting requests are bounded by `dh_core::limits` and [`EngineConfig`].

mod inference_v2;
mod metrics;
mod openai;
mod reply;
mod slots;
mod text;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dh_core::{Secret, limits};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::language::LanguageModel;
use crate::{Error, Model, standin};
use metrics::Metrics;
use slots::Slots;

/// Answers that may be computed at once. They share the processor, so more is rarely faster.
const SLOTS_MAX: usize = 64;
/// A model's name.
const NAME_BYTES_MAX: usize = 200;
/// How long a connection may stay silent. Longer than the gateway keeps one, so that the gateway closes first and never
/// sends a request into a connection that is being closed.
const SILENCE: Duration = Duration::from_millis(limits::UPSTREAM_IDLE_MS + limits::HEAD_TIMEOUT_MS);
/// What a stopped answer may still take to tell its client.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long to wait when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What to serve and how.
#[derive(Debug)]
pub struct EngineConfig {
    /// The model's name on the wire. With made-up weights it must contain [`standin::NAME_MARKER`].
    pub name: String,
    /// What is served.
    pub model: Model,
    /// The bearer key.
    pub key: Secret<String>,
    /// Answers computed at once, 1 to 64.
    pub slots: usize,
    /// Requests that may wait for a slot.
    pub waiting_max: usize,
    /// Tokens of an answer if the request does not say.
    pub answer_tokens: usize,
}

impl EngineConfig {
    /// One slot, 32 waiting, answers of up to 1,024 tokens.
    pub fn new(name: impl Into<String>, model: Model, key: Secret<String>) -> Self {
        Self { name: name.into(), model, key, slots: 1, waiting_max: 32, answer_tokens: 1_024 }
    }

    fn check(&self) -> Result<(), Error> {
        let bad = |why: String| Err(Error::Config(why));
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || self.name.chars().any(|c| c.is_control() || c == '/')
        {
            return bad(format!("the model's name must have 1 to {NAME_BYTES_MAX} bytes and no `/`"));
        }
        if self.model.is_generated() && !self.name.contains(standin::NAME_MARKER) {
            let (name, marker) = (&self.name, standin::NAME_MARKER);
            return bad(format!(
                "`{name}` has made-up weights; its name must contain `{marker}`, so that nobody is misled"
            ));
        }
        if self.key.expose().is_empty() {
            return bad("the key is empty".to_owned());
        }
        if !(1..=SLOTS_MAX).contains(&self.slots) {
            return bad(format!("{} slots; 1 to {SLOTS_MAX} are possible", self.slots));
        }
        if self.answer_tokens == 0 {
            return bad("answers of 0 tokens".to_owned());
        }
        Ok(())
    }
}

/// What the handlers share.
struct Engine {
    name: String,
    key: Secret<String>,
    created: u64,
    answer_tokens: usize,
    metrics: Arc<Metrics>,
    work: Work,
}

enum Work {
    Language { model: Arc<LanguageModel>, slots: Slots },
    Dense(inference_v2::Classifier),
}

/// Serves `config.model` on `listener` until `shutdown` is ready; then lets answers finish for a short grace.
/// # Errors
/// [`Error::Config`] if the configuration cannot be; [`Error::Listener`] if threads cannot be had.
pub async fn serve(
    config: EngineConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    config.check()?;
    let metrics = Arc::new(Metrics::default());
    let work = match config.model {
        Model::Language(model) => {
            let model = Arc::new(*model);
            let slots = Slots::start(Arc::clone(&model), config.slots, config.waiting_max, Arc::clone(&metrics))?;
            Work::Language { model, slots }
        }
        Model::Dense(model) => Work::Dense(inference_v2::Classifier::new(model, config.waiting_max)),
    };
    let engine = Arc::new(Engine {
        name: config.name,
        key: config.key,
        created: unix_seconds(),
        answer_tokens: config.answer_tokens,
        metrics,
        work,
    });
    let router = router(&engine);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    accept_until(shutdown, &listener, &router, &stopping, &mut connections).await;
    drop(listener);
    // Nobody listening means that there is no connection left to tell.
    let _told = stop.send(true);
    let drained = tokio::time::timeout(Duration::from_millis(limits::STOP_GRACE_MS), drain(&mut connections)).await;
    if let Work::Language { slots, .. } = &engine.work {
        slots.stop();
    }
    if drained.is_err() && tokio::time::timeout(FAREWELL, drain(&mut connections)).await.is_err() {
        connections.shutdown().await;
    }
    Ok(())
}

async fn drain(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

async fn accept_until(
    shutdown: impl Future<Output = ()>,
    listener: &TcpListener,
    router: &Router,
    stopping: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let room = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let accept = async {
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), stopping.clone());
                    connections.spawn(async move {
                        connection(stream, router, stopping).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = accept => {}
    }
}

async fn connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    // Tokens are small and must not wait for each other; without the option they only come later.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "tokens may come late");
    }
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Either the word to stop, or nobody left to give it.
    let stopped = async { drop(stopping.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn router(engine: &Arc<Engine>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/metrics", get(metrics_page))
        .route("/v1/models", get(openai::list_models))
        .route("/v1/chat/completions", post(text::chat))
        .route("/v1/completions", post(text::complete))
        .route("/v2/health/live", get(inference_v2::ready))
        .route("/v2/health/ready", get(inference_v2::ready))
        .route("/v2/models/{name}", get(inference_v2::describe))
        .route("/v2/models/{name}/ready", get(inference_v2::model_ready))
        .route("/v2/models/{name}/infer", post(inference_v2::infer))
        .fallback(reply::no_such_path)
        .method_not_allowed_fallback(reply::no_such_method)
        .layer(DefaultBodyLimit::max(limits::CHAT_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(engine), reply::require_key))
        .with_state(Arc::clone(engine))
}

async fn metrics_page(State(engine): State<Arc<Engine>>) -> Response {
    let (waiting, running) = match &engine.work {
        Work::Language { slots, .. } => slots.load(),
        Work::Dense(classifier) => classifier.load(),
    };
    let page = engine.metrics.render(&engine.name, waiting, running);
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

/// The system clock: wire formats carry the time of day.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
