//! The stage: stub engines, a gateway on a free port, a client, a clock that moves by hand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use dh_core::time::Clock;
use dh_core::{Authenticate, DataClass, Grant, Principal, Role, Secret, SimTime};
use dh_gateway::{EngineFacts, EngineKind, EngineTarget, Gateway, GatewayConfig};
use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) const CALLER: &str = "dh-model-canary-of-the-caller";
pub(crate) const ADMIN: &str = "dh-admin-canary";
pub(crate) const JOB: &str = "dh-job-canary";
/// A caller whose key has bounds.
pub(crate) const BOUNDED: &str = "dh-model-canary-of-the-bounded";
/// Keys of tenants begin so, and their names follow. `heavy` has the weight 3, `bulk` the class `batch`.
pub(crate) const TENANT: &str = "dh-model-tenant-";
/// A caller whose data is internal.
pub(crate) const FENCED: &str = "dh-model-canary-of-the-fenced";
pub(crate) const ENGINE_KEY: &str = "engine-key-canary";
pub(crate) const CHAT: &str = "/v1/chat/completions";

pub(crate) struct Keys;

impl Authenticate for Keys {
    fn bearer(&self, token: &str) -> Option<Principal> {
        let role = match token {
            CALLER => Role::Model,
            JOB => Role::Job,
            ADMIN => Role::Admin,
            FENCED => return Some(Principal { name: "fenced".to_owned(), role: Role::Model }),
            tenant if tenant.starts_with(TENANT) => {
                return Some(Principal { name: tenant.trim_start_matches(TENANT).to_owned(), role: Role::Model });
            }
            BOUNDED => return Some(Principal { name: "bounded".to_owned(), role: Role::Model }),
            _ => return None,
        };
        Some(Principal { name: "tester".to_owned(), role })
    }

    fn grant(&self, name: &str) -> Option<Arc<Grant>> {
        let grant = Grant {
            models: vec!["m".to_owned(), "priced".to_owned()],
            requests_per_minute: Some(1_000_000),
            tokens_per_minute: Some(20_000),
            budget_micro_usd: Some(100),
            ..Grant::default()
        };
        match name {
            "bounded" => Some(Arc::new(grant)),
            "heavy" => Some(Arc::new(Grant { weight: Some(3), ..Grant::default() })),
            "bulk" => Some(Arc::new(Grant { class: Some("batch".to_owned()), ..Grant::default() })),
            "fenced" => Some(Arc::new(Grant { data_class: Some(DataClass::Internal), ..Grant::default() })),
            _ => None,
        }
    }

    fn signing_key(&self, _: &str) -> Option<(Secret<String>, Principal)> {
        None
    }
}

#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> SimTime {
        SimTime(self.0.load(Ordering::SeqCst))
    }
}

/// What an engine was asked.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Stub {
    /// An engine that answers each request with what `answer` makes of it.
    pub(crate) async fn start(answer: impl Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync + 'static) -> Self {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
    }

    pub(crate) async fn start_on(
        address: SocketAddr,
        answer: impl Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        let service = move |request: Request| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let seen = Seen { path: parts.uri.to_string(), headers: parts.headers, body };
                log.lock().unwrap().push(seen.clone());
                answer(seen).await
            }
        };
        let router = axum::Router::new().fallback(service);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    pub(crate) async fn json(text: &'static str) -> Self {
        Self::start(move |_| Box::pin(async move { reply(200, "application/json", text) })).await
    }

    pub(crate) async fn status(status: u16, text: &'static str) -> Self {
        Self::start(move |_| Box::pin(async move { reply(status, "application/json", text) })).await
    }

    pub(crate) fn asked(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn target(&self, id: &str) -> EngineTarget {
        target(id, self.address)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn target(id: &str, address: SocketAddr) -> EngineTarget {
    EngineTarget {
        id: id.to_owned(),
        model: "m".to_owned(),
        kind: EngineKind::Chat,
        url: format!("http://{address}"),
        key: Some(Secret::new(ENGINE_KEY.to_owned())),
        facts: EngineFacts::default(),
    }
}

/// An address where nobody listens.
pub(crate) async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) fn reply(status: u16, kind: &'static str, body: impl Into<Body>) -> Response {
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<HandClock>,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) served: Option<tokio::task::JoinHandle<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Stage {
    pub(crate) async fn new(targets: Vec<EngineTarget>) -> Self {
        Self::with(GatewayConfig::default(), targets).await
    }

    pub(crate) async fn with(config: GatewayConfig, targets: Vec<EngineTarget>) -> Self {
        let clock = Arc::new(HandClock::default());
        let gateway = Gateway::with_clock(config, Arc::new(Keys), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        gateway.set_engines(targets).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn({
            let gateway = gateway.clone();
            async move {
                let shutdown = async { drop(stopped.await) };
                gateway.serve(listener, shutdown).await.unwrap();
            }
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { gateway, address, clock, stop: Some(stop), served: Some(served), client }
    }

    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    pub(crate) async fn request(&self, request: http::Request<Full<Bytes>>) -> http::Response<Incoming> {
        self.client.request(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> http::Response<Incoming> {
        self.send("POST", path, Some(CALLER), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        text(self.send("GET", path, Some(CALLER), "").await).await
    }

    /// A chat with model `m`.
    pub(crate) async fn chat(&self) -> (StatusCode, String) {
        text(self.post(CHAT, r#"{"model":"m","messages":[]}"#).await).await
    }

    /// The value of the metric that begins with `name`.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.gateway.metrics();
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    }

    /// Waits until the metric has this value; answers are counted when their last byte is gone, a moment after it arrived.
    pub(crate) async fn metric_becomes(&self, name: &str, value: &str) {
        eventually(
            || self.metric(name).as_deref() == Some(value),
            || format!("{name} is not {value}:\n{}", self.gateway.metrics()),
        )
        .await;
    }
}

pub(crate) async fn eventually(holds: impl Fn() -> bool, says: impl Fn() -> String) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{}", says());
}

pub(crate) async fn text(response: http::Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

pub(crate) fn error_of(body: &str) -> Value {
    serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{error}: {body}")).get("error").cloned().unwrap()
}
