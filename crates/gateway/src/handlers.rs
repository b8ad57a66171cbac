//! The routes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::access::{self, Caller, REQUEST_ID};
use crate::admission::Buffered;
use crate::engines::{EngineKind, Model};
use crate::error::shown;
use crate::relay::{self, Begun};
use crate::request::Prompt;
use crate::upstream::{Answer, Outgoing, Target};
use crate::{Error, Gateway, bill, detour, fence, headers, pools, request, scale, translate, whole};

pub(crate) fn router(gateway: Gateway) -> Router {
    let ledger = crate::ledger::serve::routes(&gateway);
    let guarded = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/responses", post(responses))
        .route("/v1/rerank", post(rerank))
        .route("/v1/messages", post(messages))
        .route("/v2/models/{*path}", get(inference_protocol).post(inference_protocol))
        .route("/metrics", get(metrics))
        .merge(crate::batch::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(gateway.clone(), gate))
        .with_state(gateway);
    Router::new().route("/healthz", get(|| async { "ok" })).merge(ledger).merge(guarded)
}

/// Lets verified callers through; names every request.
async fn gate(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let request_id = access::request_id(request.headers());
    let mut response = match access::caller(&*gateway.shared.auth, request.headers()) {
        Ok(principal) => {
            request.extensions_mut().insert(Caller { name: principal.name, request_id: request_id.clone() });
            next.run(request).await
        }
        Err(error) => {
            let nobody = Caller { name: String::new(), request_id: request_id.clone() };
            refuse(&gateway, error, &nobody, None, Instant::now())
        }
    };
    response.headers_mut().insert(REQUEST_ID, request_id);
    response
}

async fn chat(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    generate(&gateway, caller, request, "/v1/chat/completions").await
}

async fn completions(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    generate(&gateway, caller, request, "/v1/completions").await
}

async fn embeddings(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response {
    generate(&gateway, caller, request, "/v1/embeddings").await
}

async fn responses(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    generate(&gateway, caller, request, "/v1/responses").await
}

async fn rerank(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    generate(&gateway, caller, request, "/v1/rerank").await
}

async fn messages(State(gateway): State<Gateway>, Extension(caller): Extension<Caller>, request: Request) -> Response {
    generate(&gateway, caller, request, "/v1/messages").await
}

/// The routes of requests that name their model in their body; [`crate::front`] serves them without the router.
const GENERATING: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank", "/v1/messages"];

/// The route of `path`, if requests for it name their model in their body.
pub(crate) fn plain_route(path: &str) -> Option<&'static str> {
    GENERATING.into_iter().find(|route| *route == path)
}

/// A place for a request, and its body.
pub(crate) type Admitted = (OwnedSemaphorePermit, Buffered);

/// A request that names its model in its body.
pub(crate) async fn generate(gateway: &Gateway, caller: Caller, request: Request, path: &'static str) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let read = async {
        let place = gateway.shared.admission.enter()?;
        Ok((place, gateway.shared.admission.read(&parts.headers, body).await?))
    };
    answer(gateway, caller, &parts.headers, path, started, read.await).await
}

/// The answer to a request that was read, or was not.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: Caller,
    headers: &HeaderMap,
    path: &'static str,
    started: Instant,
    read: Result<Admitted, Error>,
) -> Response {
    if gateway.shared.detours && !is_split(gateway, &read) {
        // On the heap, so that the plain way does not carry its room.
        return Box::pin(detour::answer(gateway, caller, headers, path, started, read)).await;
    }
    let mut found = None;
    let answer = async {
        let (place, body) = read?;
        let peek = request::peek(&body.bytes)?;
        let model = Arc::clone(found.insert(Arc::clone(gateway.snapshot().model(&peek.model)?)));
        let model = if model.engines.is_empty() {
            Box::pin(scale::served(gateway, &caller.name, model, body.bytes.len())).await?
        } else {
            model
        };
        let mut begun = begin(gateway, caller.clone(), model, EngineKind::Chat, started, peek.stream, place)?;
        let shared = &gateway.shared;
        let fence = fence::of(shared, &caller.name, headers)?;
        fence::check(&begun.model, fence)?;
        begun.charge = shared.accounts.reserve(shared, &caller.name, &begun.model, &peek.prompt).await?;
        let turn = begun.model.turn.fetch_add(1, Ordering::Relaxed);
        let mut work = begun.model.knowledge.weigh(&peek.prompt, turn, shared.policy, begun.model.slots);
        (work.fence, work.part) = (fence, begun.model.whole);
        shared.scaling.came(&begun.model, work.ask.prompt);
        let outgoing = Outgoing {
            method: Method::POST,
            target: Target::Route(path),
            headers: headers::for_engine(headers, &caller.request_id),
            body: body.bytes.clone(),
            work,
            chat: OnceLock::new(),
        };
        if pools::splits(&begun, path) {
            return Box::pin(pools::send(gateway, begun, outgoing)).await;
        }
        send(gateway, begun, outgoing).await
    };
    match answer.await {
        Ok(response) => response,
        Err(error) => refuse_in(path, gateway, error, &caller, found.as_ref(), started),
    }
}

/// Whether the request is for a model whose prompts and answers are of different engines.
fn is_split(gateway: &Gateway, read: &Result<Admitted, Error>) -> bool {
    let Ok((_place, body)) = read else { return false };
    let Ok(peek) = request::peek(&body.bytes) else { return false };
    gateway.snapshot().model(&peek.model).is_ok_and(|model| model.split)
}

/// The same as [`refuse`], in the words of the clients of `path`.
pub(crate) fn refuse_in(
    path: &str,
    gateway: &Gateway,
    error: Error,
    caller: &Caller,
    model: Option<&Arc<Model>>,
    started: Instant,
) -> Response {
    if path != translate::MESSAGES {
        return refuse(gateway, error, caller, model, started);
    }
    let said = translate::refusal(error.status(), &error.message());
    refuse(gateway, error, caller, model, started).map(|_| said.into())
}

/// A request of the Open Inference Protocol, which names its model in its path and may have a binary body.
async fn inference_protocol(
    State(gateway): State<Gateway>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    let started = Instant::now();
    let mut found = None;
    let answer = async {
        let place = gateway.shared.admission.enter()?;
        let (parts, body) = request.into_parts();
        let snapshot = gateway.snapshot();
        let (model, operation) = snapshot.model_of_path(&path)?;
        if !matches!((&parts.method, operation), (&Method::POST, "/infer") | (&Method::GET, "" | "/ready")) {
            return Err(no_such_route(&parts.method, parts.uri.path()));
        }
        let model = Arc::clone(found.insert(Arc::clone(model)));
        let begun = begin(&gateway, caller.clone(), model, EngineKind::Classifier, started, false, place)?;
        crate::accounts::Accounts::scope(&gateway.shared, &caller.name, &begun.model)?;
        let body = gateway.shared.admission.read(&parts.headers, body).await?;
        let model = scale::served(&gateway, &caller.name, Arc::clone(&begun.model), body.bytes.len()).await?;
        let begun = Begun { model, ..begun };
        let turn = begun.model.turn.fetch_add(1, Ordering::Relaxed);
        let prompt = Prompt::default();
        let work = begun.model.knowledge.weigh(&prompt, turn, gateway.shared.policy, begun.model.slots);
        let outgoing = Outgoing {
            target: Target::Path(parts.uri.path().to_owned()),
            headers: headers::for_engine(&parts.headers, &caller.request_id),
            method: parts.method,
            body: body.bytes.clone(),
            work,
            chat: OnceLock::new(),
        };
        send(&gateway, begun, outgoing).await
    };
    match answer.await {
        Ok(response) => response,
        Err(error) => refuse(&gateway, error, &caller, found.as_ref(), started),
    }
}

fn begin(
    gateway: &Gateway,
    caller: Caller,
    model: Arc<Model>,
    protocol: EngineKind,
    started: Instant,
    stream: bool,
    place: OwnedSemaphorePermit,
) -> Result<Begun, Error> {
    if model.kind != protocol {
        return Err(Error::WrongProtocol { model: model.name.to_string(), kind: model.kind });
    }
    let clock = Arc::clone(&gateway.shared.clock);
    Ok(Begun {
        caller,
        started,
        stream,
        _place: place,
        charge: None,
        read_by: None,
        price: gateway.shared.price(&model),
        model,
        clock,
        chunk_gap: gateway.shared.config.timeouts.chunk_gap,
        seat: None,
        whole: None,
    })
}

async fn send(gateway: &Gateway, begun: Begun, outgoing: Outgoing) -> Result<Response, Error> {
    let shared = &gateway.shared;
    let answer = shared.upstream.ask(&begun.model, &outgoing, shared.policy, &*shared.clock).await?;
    passed_on(answer, begun, outgoing).await
}

/// An engine's answer as the caller gets it, in the words of the route that was asked.
pub(crate) async fn passed_on(answer: Answer, begun: Begun, outgoing: Outgoing) -> Result<Response, Error> {
    if !answer.as_chat {
        return finish(answer, begun).await;
    }
    let name = Arc::clone(&begun.model.name);
    let response = finish(answer, begun).await?;
    match outgoing.chat.into_inner().map(|chat| *chat) {
        // On the heap, so that other requests do not carry its room.
        Some(Ok((_, echo))) => Box::pin(translate::answer(response, echo, &name)).await,
        Some(Err(_)) | None => Ok(response),
    }
}

/// The answer of an engine, for the caller.
pub(crate) async fn finish(answer: Answer, begun: Begun) -> Result<Response, Error> {
    if !begun.stream && bill::is_due(&answer.engine, begun.price) {
        return Box::pin(whole::relay(answer, begun)).await;
    }
    Ok(relay::relay(answer, begun))
}

/// The answer to a request that no engine answered; counted and logged here, once.
pub(crate) fn refuse(
    gateway: &Gateway,
    error: Error,
    caller: &Caller,
    model: Option<&Arc<Model>>,
    started: Instant,
) -> Response {
    let status = error.status().as_u16();
    let metrics = model.map_or(&gateway.shared.registry.unknown, |model| &model.metrics);
    metrics.answered(status);
    metrics.took(started.elapsed());
    tracing::info!(
        target: "dh_gateway::access",
        request_id = ?caller.request_id,
        caller = caller.name,
        model = model.map(|model| &*model.name),
        status,
        error = %error,
        "refused"
    );
    error.into_response()
}

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<ModelInfo>,
}

#[derive(Serialize)]
struct ModelInfo {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl ModelInfo {
    fn of(model: &Arc<Model>) -> Self {
        let created = model.since.0 / 1_000_000_000;
        Self { id: model.name.to_string(), object: "model", created, owned_by: "datahall" }
    }
}

async fn models(State(gateway): State<Gateway>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: gateway.snapshot().models().map(ModelInfo::of).collect() })
}

async fn model(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<Json<ModelInfo>, Error> {
    Ok(Json(ModelInfo::of(gateway.snapshot().model(&id)?)))
}

async fn metrics(State(gateway): State<Gateway>) -> Response {
    let mut response = gateway.metrics().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

async fn no_route(request: Request) -> Error {
    no_such_route(request.method(), request.uri().path())
}

async fn wrong_method(request: Request) -> Error {
    Error::Method(shown(request.method().as_str(), 20))
}

fn no_such_route(method: &Method, path: &str) -> Error {
    Error::NoRoute { method: shown(method.as_str(), 20), path: shown(path, 80) }
}
