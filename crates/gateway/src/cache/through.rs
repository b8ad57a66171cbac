//! The way of a request through the caches.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use memchr::memmem;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::flight::{BrokenOff, Flight, Head, Reading};
use super::key::{self, Key, Raw};
use super::semantic::Question;
use super::{Caches, Exact, Found, Stored};
use crate::accounts::{Accounts, Used};
use crate::detour::{self, Asked, MODEL};
use crate::engines::Model;
use crate::error::Hopeless;
use crate::request::Prompt;
use crate::{Error, handlers, request, translate};

/// Says in an answer where it comes from; in a request, `on` asks for the cache whatever the request is, and `off` for none.
pub(super) const CACHE: HeaderName = HeaderName::from_static("x-datahall-cache");
/// Fields of a head that decide about an answer.
const DECIDING: [&str; 2] = ["anthropic-version", "anthropic-beta"];

/// What may be looked up.
struct Plan {
    model: Arc<Model>,
    exact: Option<Key>,
    semantic: Option<Question>,
    /// Whether what is kept will not do.
    fresh: bool,
}

/// The answer to a request: a kept one, or an engine's.
pub(crate) async fn answer(asked: Asked) -> Response {
    let gateway = asked.gateway.clone();
    let Some((caches, plan)) = gateway.shared.caches.as_ref().and_then(|caches| Some((caches, plan(&asked, caches)?)))
    else {
        return detour::direct(asked).await;
    };
    let Plan { model, exact, semantic, fresh } = plan;
    let mut landing = Landing { asked_of: gateway.clone(), key: exact, flight: None, question: None };
    let reading = match caches.exact.as_ref().zip(exact).map(|(exact, key)| exact.find(key, fresh)) {
        Some(Found::Hit(stored)) => return hit(asked, &model, &stored, "hit").await,
        Some(Found::Joined(reading)) => return follow(asked, &model, reading, caches).await,
        Some(Found::Lead(flight, reading)) => {
            landing.flight = Some(flight);
            reading
        }
        None => {
            let (flight, reading) = Flight::start(super::ENTRY_BYTES_MAX);
            landing.flight = Some(flight);
            reading
        }
    };
    if let (Some(cache), Some(question)) = (&caches.semantic, semantic)
        && let Some(vector) = cache.embed(&gateway, &asked.caller, &question).await
    {
        if !fresh && let Some(stored) = cache.nearest(&question, &vector) {
            landing.with(&stored);
            return hit(asked, &model, &stored, "semantic").await;
        }
        landing.question = Some((question, vector));
    }
    tokio::spawn(produce(asked, landing));
    let Some(head) = reading.head().await else {
        // The task is gone with its runtime.
        return Error::Busy("it is stopping").into_response();
    };
    with_head(&head, Body::new(reading), "miss")
}

fn plan(asked: &Asked, caches: &Caches) -> Option<Plan> {
    let control = control(&asked.headers);
    let said = asked.headers.get(CACHE).and_then(|value| value.to_str().ok());
    if control.no_store || said == Some("off") {
        return None;
    }
    let shared = &asked.gateway.shared;
    let peek = request::peek(&asked.body.bytes).ok()?;
    let model = Arc::clone(asked.gateway.snapshot().model(&peek.model).ok()?);
    Accounts::scope(shared, &asked.caller.name, &model).ok()?;
    let fields: Raw<'_> = serde_json::from_slice(&asked.body.bytes).ok()?;
    let says = |name: &str, value: &str| fields.get(name).is_some_and(|raw| raw.get() == value);
    let given = |name: &str| fields.get(name).is_some_and(|raw| !matches!(raw.get(), "null" | "false"));
    // What an engine stores, or has stored, is not the same twice.
    let responses = asked.path == "/v1/responses";
    if given("store")
        || (responses && !says("store", "false"))
        || ["previous_response_id", "conversation", "background"].into_iter().any(given)
    {
        return None;
    }
    let number = |name: &str| fields.get(name).and_then(|raw| raw.get().parse::<f64>().ok());
    let computed = matches!(asked.path, "/v1/embeddings" | "/v1/rerank");
    let deterministic =
        computed || number("temperature") == Some(0.0) || number("seed").is_some() || said == Some("on");
    let deciding: Vec<&[u8]> =
        DECIDING.iter().map(|name| asked.headers.get(*name).map_or(&b""[..], HeaderValue::as_bytes)).collect();
    let key_of = |fields: &Raw<'_>, tenant: &str| {
        let beside = [&[asked.path.as_bytes(), tenant.as_bytes()][..], &deciding].concat();
        key::of(fields, &beside)
    };
    let exact = caches.exact.as_ref().filter(|_| deterministic).and_then(|exact| {
        let tenant = if exact.config.shared { "" } else { &asked.caller.name };
        key_of(&fields, tenant)
    });
    let semantic = caches.semantic.as_ref().filter(|_| asked.path == translate::CHAT).and_then(|semantic| {
        let wanted = semantic.wanted(&model.name)?;
        let (text, rest) = last_question(&fields)?;
        let mut others = fields.clone();
        others.insert("messages".to_owned(), &rest);
        Some(Question { bucket: key_of(&others, &asked.caller.name)?, text, wanted })
    });
    (exact.is_some() || semantic.is_some()).then_some(Plan { model, exact, semantic, fresh: control.no_cache })
}

#[derive(Default)]
struct Control {
    no_store: bool,
    no_cache: bool,
}

/// What the request says about caches. Source: RFC 9111, section 5.2.1.
fn control(headers: &HeaderMap) -> Control {
    let mut control = Control::default();
    for value in headers.get_all(CACHE_CONTROL) {
        for word in value.to_str().unwrap_or_default().split(',') {
            control.no_store |= word.trim().eq_ignore_ascii_case("no-store");
            control.no_cache |= word.trim().eq_ignore_ascii_case("no-cache");
        }
    }
    control
}

/// The text of the last message, if that is a user's and neither tools nor images are about; and the messages before it.
fn last_question(fields: &Raw<'_>) -> Option<(String, Box<RawValue>)> {
    if ["tools", "functions", "tool_choice", "audio", "modalities"].iter().any(|name| fields.contains_key(*name)) {
        return None;
    }
    let messages: Vec<Raw<'_>> = serde_json::from_str(fields.get("messages")?.get()).ok()?;
    let texts = messages.iter().map(text_of).collect::<Option<Vec<_>>>()?;
    let (last, before) = messages.split_last()?;
    if last.get("role")?.get() != "\"user\"" {
        return None;
    }
    let rest = serde_json::value::to_raw_value(before).ok()?;
    Some((texts.into_iter().next_back()?, rest))
}

/// What a message says if that is all text.
fn text_of(message: &Raw<'_>) -> Option<String> {
    if message.keys().any(|name| !matches!(name.as_str(), "role" | "content")) {
        return None;
    }
    let content = message.get("content")?.get();
    if let Ok(text) = serde_json::from_str::<String>(content) {
        return Some(text);
    }
    let parts: Vec<Raw<'_>> = serde_json::from_str(content).ok()?;
    let part = |part: &Raw<'_>| {
        let is_text = part.get("type").is_some_and(|kind| kind.get() == "\"text\"");
        is_text.then(|| serde_json::from_str::<String>(part.get("text")?.get()).ok()).flatten()
    };
    Some(parts.iter().map(part).collect::<Option<Vec<_>>>()?.join("\n"))
}

/// Counts a request that takes no tokens.
async fn reserve(asked: &Asked, model: &Model) -> Result<(), Error> {
    let shared = &asked.gateway.shared;
    let nothing = Prompt { answer_max: Some(0), answered: true, ..Prompt::default() };
    if let Some(charge) = shared.accounts.reserve(shared, &asked.caller.name, model, &nothing).await? {
        charge.settle(Used::Nothing, None);
    }
    Ok(())
}

async fn hit(asked: Asked, model: &Arc<Model>, stored: &Stored, how: &'static str) -> Response {
    if let Err(error) = reserve(&asked, model).await {
        return handlers::refuse_in(asked.path, &asked.gateway, error, &asked.caller, Some(model), asked.started);
    }
    drop(Counted::new(asked, model, stored.head.status));
    let mut response = with_head(&stored.head, Body::from(stored.body.clone()), how);
    response.headers_mut().insert(AGE, HeaderValue::from(stored.since.elapsed().as_secs()));
    response
}

/// Reads along with who asked first.
async fn follow(asked: Asked, model: &Arc<Model>, reading: Reading, caches: &Caches) -> Response {
    if let Err(error) = reserve(&asked, model).await {
        return handlers::refuse_in(asked.path, &asked.gateway, error, &asked.caller, Some(model), asked.started);
    }
    let Some(head) = reading.head().await else {
        // Who asked first has left before an engine was asked: another one is the first now.
        drop(reading);
        return again(asked).await;
    };
    // Where callers share answers, one's refusal is not another's.
    if head.status != StatusCode::OK && caches.exact.as_ref().is_some_and(|exact| exact.config.shared) {
        drop(reading);
        return detour::direct(asked).await;
    }
    let counted = Counted::new(asked, model, head.status);
    with_head(&head, Body::new(Followed { reading, _counted: counted }), "hit")
}

fn again(asked: Asked) -> Pin<Box<dyn Future<Output = Response> + Send>> {
    Box::pin(answer(asked))
}

fn with_head(head: &Head, body: Body, how: &'static str) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers.clone();
    response.headers_mut().insert(CACHE, HeaderValue::from_static(how));
    if head.hopeless {
        response.extensions_mut().insert(Hopeless);
    }
    response
}

/// An answer that no engine gave; counted and logged when dropped.
struct Counted {
    asked_of: crate::Gateway,
    caller: crate::access::Caller,
    model: Arc<Model>,
    started: Instant,
    status: StatusCode,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(asked: Asked, model: &Arc<Model>, status: StatusCode) -> Self {
        let Asked { gateway, caller, started, place, .. } = asked;
        Self { asked_of: gateway, caller, model: Arc::clone(model), started, status, _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.model.metrics.answered(self.status.as_u16());
        self.model.metrics.took(took);
        tracing::info!(
            target: "dh_gateway::access",
            request_id = ?self.caller.request_id,
            caller = self.caller.name,
            model = &*self.model.name,
            in_flight = self.asked_of.shared.admission.in_flight(),
            status = self.status.as_u16(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "answered from the cache"
        );
    }
}

/// The body of one who reads along.
struct Followed {
    reading: Reading,
    _counted: Counted,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Pin::new(&mut self.get_mut().reading).poll_frame(cx)
    }
}

/// Ends a flight whatever becomes of the task that has it.
struct Landing {
    asked_of: crate::Gateway,
    key: Option<Key>,
    flight: Option<Arc<Flight>>,
    /// To be kept with the answer, for those who mean the same.
    question: Option<(Question, Vec<f32>)>,
}

impl Landing {
    /// A kept answer is that of this flight too.
    fn with(&mut self, stored: &Arc<Stored>) {
        if let Some(flight) = &self.flight {
            flight.begin(stored.head.clone());
            flight.push(stored.body.clone());
            flight.end(true);
        }
    }

    fn land(mut self, path: &str, good: bool) {
        let Some(flight) = self.flight.take() else { return };
        let kept = flight.end(true).filter(|(_, body)| good && !says_error(path, body));
        let stored = kept.map(|(head, body)| Arc::new(Stored { head, body, since: Instant::now() }));
        let Some(caches) = &self.asked_of.shared.caches else { return };
        if let (Some(cache), Some((question, vector)), Some(stored)) = (&caches.semantic, self.question.take(), &stored)
        {
            cache.keep(&question, vector, Arc::clone(stored));
        }
        if let Some((exact, key)) = self.exact() {
            exact.landed(key, &flight, stored);
        }
    }

    fn exact(&self) -> Option<(&Exact, Key)> {
        self.asked_of.shared.caches.as_ref()?.exact.as_ref().zip(self.key)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.end(false);
            if let Some((exact, key)) = self.exact() {
                exact.landed(key, &flight, None);
            }
        }
    }
}

/// Whether a stream tells of a failure among its events. In JSON a line end within a text is escaped.
fn says_error(path: &str, body: &[u8]) -> bool {
    let events: &[&[u8]] = match path {
        translate::CHAT | "/v1/completions" => &[b"data: {\"error\""],
        _ => &[b"event: error\n", b"event: response.failed\n"],
    };
    events.iter().any(|event| memmem::find(body, event).is_some())
}

/// What `work` gives; nothing if all readers leave before.
async fn unless_left<T>(flight: &Flight, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => flight.poll_left(cx).map(|()| None),
    })
    .await
}

/// Has an engine answer, for all who read.
async fn produce(mut asked: Asked, landing: Landing) {
    let Some(flight) = landing.flight.clone() else { return };
    let whole = Arc::new(AtomicBool::new(false));
    asked.whole = Some(Arc::clone(&whole));
    let path = asked.path;
    let Some(response) = unless_left(&flight, detour::direct(asked)).await else { return };
    let (mut parts, mut body) = response.into_parts();
    for name in [CONTENT_LENGTH, DATE] {
        parts.headers.remove(name);
    }
    let good = parts.status == StatusCode::OK && !parts.headers.contains_key(MODEL);
    let hopeless = parts.extensions.get::<Hopeless>().is_some();
    flight.begin(Head { status: parts.status, headers: parts.headers, hopeless });
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx));
        match unless_left(&flight, frame).await {
            Some(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    flight.push(piece);
                }
            }
            Some(None) => break,
            Some(Some(Err(_))) | None => return,
        }
        std::future::poll_fn(|cx| flight.poll_room(cx)).await;
    }
    // It tells at its end whether it was whole.
    drop(body);
    landing.land(path, good && whole.load(Ordering::Acquire));
}
