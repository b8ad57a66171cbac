//! The job API: HTTP and JSON under `/v1`. One layer checks the key of every request but `/healthz`.

mod energy;
mod events;
mod exec;
mod files;
mod jobs;
mod keys;
mod logs;
mod routes;
mod secrets;
mod services;
mod status;
mod usage;
mod wishes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use dh_blueprint::Settings;
use dh_core::time::Clock;
use dh_core::{Authenticate, HasKind, Kind, Principal, limits};
use dh_exec::Executor;
use dh_guard::KeyRing;
use dh_store::Store;
use routes::ROUTES;
use tokio::sync::watch;

use crate::Error;
use crate::body::{Handle, SystemClock};
use crate::log::LogPlace;
use crate::meter::Meter;
use crate::secrets::Secrets;
use crate::trace::{Kind as SpanKind, Span, Tracer};
use crate::wire::{ErrorBody, ErrorView, Listeners};

/// What the handlers need.
pub(crate) struct Api {
    pub(crate) settings: Settings,
    pub(crate) hall: Handle,
    pub(crate) log: LogPlace,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) store: Store,
    pub(crate) meter: Arc<Meter>,
    pub(crate) tracer: Tracer,
    /// Where ranks start.
    pub(crate) workdir: PathBuf,
    /// Our own program: its hidden `beside` runs programs beside a rank.
    pub(crate) own_program: OsString,
    pub(crate) auth: Arc<dyn Authenticate>,
    pub(crate) keys: KeyRing,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) listeners: Listeners,
    pub(crate) started: Instant,
    pub(crate) not_enforced: Vec<String>,
    /// Set to true to end the server.
    pub(crate) stop: watch::Sender<bool>,
}

pub(crate) use services::{add_replicas, start_service};
pub(crate) use status::of as status_of;

type Shared = State<Arc<Api>>;

/// All routes.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let guarded = ROUTES
        .iter()
        .fold(Router::new(), |router, route| router.route(route.path, (route.handler)()))
        .fallback(no_route)
        .layer(from_fn_with_state(Arc::clone(&api), check_key));
    Router::new()
        .route("/healthz", axum::routing::get(|| async { "ok" }))
        .merge(guarded)
        .layer(from_fn_with_state(Arc::clone(&api), traced))
        .layer(DefaultBodyLimit::max(limits::JOB_BYTES_MAX))
        .with_state(api)
}

/// The one check. A request without a key that may operate goes no further.
async fn check_key(State(api): Shared, mut request: Request, next: Next) -> Result<Response, Failed> {
    let principal = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(dh_guard::bearer_of)
        .and_then(|token| api.auth.bearer(token))
        .ok_or_else(|| Failed::new(Kind::Unauthorized, "a key is needed").hint("send `Authorization: Bearer KEY`"))?;
    if !principal.may_operate() {
        let message = format!("the key of `{}` may not use the job API", principal.name);
        return Err(Failed::new(Kind::Forbidden, message).hint("use the hall's admin key"));
    }
    request.extensions_mut().insert(Caller(principal));
    let answer = next.run(request).await;
    // What the handler read of the hall may be younger than the log on the disk.
    api.hall.settled().await?;
    Ok(answer)
}

/// A span for each request, where somebody wants them: below the caller's own, if the request says where that is.
async fn traced(State(api): Shared, request: Request, next: Next) -> Response {
    let callers = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let Some((at, parent)) = api.tracer.request(callers) else { return next.run(request).await };
    let route = request.extensions().get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned());
    // Without a route the path is the caller's own invention, and stays out of the name.
    let method = request.method().to_string();
    let name = route.as_ref().map_or_else(|| method.clone(), |route| format!("{method} {route}"));
    let start = SystemClock.now();
    let answer = next.run(request).await;
    let status = answer.status();
    let mut attributes =
        vec![("http.request.method", method), ("http.response.status_code", status.as_u16().to_string())];
    attributes.extend(route.map(|route| ("http.route", route)));
    let failure = status.is_server_error().then(|| status.to_string());
    api.tracer.send(Span {
        at,
        parent,
        name,
        kind: SpanKind::Server,
        start,
        end: SystemClock.now(),
        attributes,
        failure,
    });
    answer
}

/// The caller whose key was checked.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Principal);

async fn no_route(request: Request) -> Failed {
    Failed::new(Kind::NotFound, format!("there is no {} {}", request.method(), request.uri().path()))
}

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failed {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Failed {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if matches!(kind, Kind::Internal | Kind::Corrupt) {
            tracing::error!(%error, "a request failed on our side");
        }
        Self { kind, message: error.to_string(), hint: error.hint() }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = ErrorView { message: self.message, kind: self.kind.word().to_owned(), hint: self.hint };
        (status, Json(ErrorBody { error })).into_response()
    }
}

/// Serves until `stop` turns true, then lets open requests end for a moment.
pub(crate) async fn serve(
    router: Router,
    listener: tokio::net::TcpListener,
    mut stop: watch::Receiver<bool>,
) -> Result<(), std::io::Error> {
    let mut stopped = stop.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        // A dropped sender means that the server is going, too.
        drop(stop.wait_for(|stop| *stop).await);
    });
    let deadline = async move {
        drop(stopped.wait_for(|stop| *stop).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    tokio::select! {
        outcome = server => outcome,
        () = deadline => Ok(()),
    }
}
