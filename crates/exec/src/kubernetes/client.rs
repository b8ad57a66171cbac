//! Asks the API: one call with a bound on its time and size, a list in pages, a watch that goes on where it was cut off, and a log.
//!
//! Invariant: a refusal that will not get better ([`Failure::Refused`]) is told from one that may ([`Failure::Passing`]); only the
//! caller tries again. Source: API concepts of Kubernetes (resource versions, bookmarks, 410 Gone).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use super::access::{Access, Read, Token};
use super::object::{List, Object, Status};
use crate::Error;

/// How long a call may take.
pub(super) const CALL: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer: a page of pods takes some ten MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest line of a watch or a log.
const LINE_BYTES_MAX: usize = 16 << 20;
const PAGE: u32 = 500;
/// How long a watch is asked to last, and how much later it is taken for dead.
const WATCH: Duration = Duration::from_secs(290);
const WATCH_LATE: Duration = Duration::from_secs(30);
/// Pauses between tries; they double, and are spread so that many do not come back at once.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's own word.
    Refused { code: u16, message: String },
    /// Nobody answered, or the server is not well.
    Passing(String),
}

impl Failure {
    pub(super) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted.as_u16())
    }

    pub(super) fn into_error(self, doing: &str) -> Error {
        match self {
            Self::Refused { code, message, .. } => {
                Error::Cluster { doing: doing.to_owned(), why: message, code: Some(code) }
            }
            Self::Passing(why) => Error::Cluster { doing: doing.to_owned(), why, code: None },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message, .. } => f.write_str(message),
            Self::Passing(why) => f.write_str(why),
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    Json,
    MergePatch,
}

/// A client of one cluster and one namespace. Clones share connections.
#[derive(Clone)]
pub(super) struct Client(Arc<Inner>);

struct Inner {
    server: String,
    namespace: String,
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    token: Token,
    kept: Mutex<Read>,
}

/// News of a watch.
#[derive(Debug)]
pub(super) enum News<T> {
    /// All there are, as asked for at this moment; what is older and not among them is gone.
    All(Vec<T>, Instant),
    /// It is new or has changed.
    Put(T),
    /// It is gone; this is how it was last.
    Gone(T),
}

impl Client {
    pub(super) fn new(access: Access, namespace: Option<String>) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let builder = HttpsConnectorBuilder::new();
        let tls = access.tls.unwrap_or_else(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let nobody = rustls::RootCertStore::empty();
            // Ring's own versions are supported by Ring; and this one is never used: the address is plain HTTP.
            Arc::new(config.map_or_else(
                |_error| rustls::ClientConfig::builder().with_root_certificates(nobody.clone()).with_no_client_auth(),
                |config| config.with_root_certificates(nobody.clone()).with_no_client_auth(),
            ))
        });
        let connector = builder.with_tls_config((*tls).clone()).https_or_http().enable_http1().wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        let namespace = namespace.unwrap_or(access.namespace);
        Self(Arc::new(Inner { server: access.server, namespace, pool, token: access.token, kept: Mutex::new(None) }))
    }

    pub(super) fn namespace(&self) -> &str {
        &self.0.namespace
    }

    pub(super) fn server(&self) -> &str {
        &self.0.server
    }

    /// The path of a kind of object in the namespace, or of one object.
    pub(super) fn path(&self, kind: &str, name: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("/api/v1/namespaces/{}/{kind}{slash}{name}", self.0.namespace)
    }

    /// One call. An answer of 2xx is its body.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(Body, &serde_json::Value)>,
    ) -> Result<Bytes, Failure> {
        let asked = async {
            let answer = self.send(method, path, body).await?;
            let bytes = Limited::new(answer, ANSWER_BYTES_MAX).collect().await;
            Ok(bytes.map_err(|error| Failure::Passing(format!("the answer broke off: {error}")))?.to_bytes())
        };
        match tokio::time::timeout(CALL, asked).await {
            Ok(outcome) => outcome,
            Err(_late) => Err(Failure::Passing(format!("{} did not answer in {} s", self.0.server, CALL.as_secs()))),
        }
    }

    /// The same, read as `T`.
    pub(super) async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        body: Option<(Body, &serde_json::Value)>,
    ) -> Result<T, Failure> {
        let bytes = self.call(method, path, body).await?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Passing(format!("the answer cannot be read: {error}")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(Body, &serde_json::Value)>,
    ) -> Result<Incoming, Failure> {
        let (kind, bytes) = match body {
            None => (None, Bytes::new()),
            Some((kind, value)) => {
                let kind = match kind {
                    Body::Json => "application/json",
                    Body::MergePatch => "application/merge-patch+json",
                };
                (Some(("content-type", kind)), Bytes::from(value.to_string()))
            }
        };
        Ok(self.ask(method, path, kind.as_slice(), bytes).await?.into_body())
    }

    /// One call with these headers. An answer of 2xx, or that the connection goes on as another protocol, is given as it is.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let unsent = |error: &dyn std::fmt::Display| Failure::Passing(format!("the request was not sent: {error}"));
        let uri: Uri = format!("{}{path}", self.0.server).parse().map_err(|error| unsent(&error))?;
        let mut request = Request::builder().method(method).uri(uri).header("accept", "application/json");
        if let Some(token) = self.token().await? {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| unsent(&error))?;
        let answer = self.0.pool.request(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| deepest(source).to_string());
            Failure::Passing(format!("{} cannot be reached: {cause}", self.0.server))
        })?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        if status == StatusCode::UNAUTHORIZED {
            // The token may have been renewed meanwhile.
            *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let said = Limited::new(answer.into_body(), 1 << 20)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let said: Status = serde_json::from_slice(&said).unwrap_or_else(|_| Status {
            message: format!("{status}: {}", String::from_utf8_lossy(&said).trim()),
            ..Status::default()
        });
        let passing =
            status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        Err(if passing {
            Failure::Passing(said.message)
        } else {
            Failure::Refused { code: status.as_u16(), message: said.message }
        })
    }

    /// A program that makes tokens may take a while, so it is asked off the runtime's threads.
    async fn token(&self) -> Result<Option<dh_core::Secret<String>>, Failure> {
        let inner = Arc::clone(&self.0);
        let asked = move || {
            let mut kept = inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
            inner.token.now(&mut kept)
        };
        let token = match self.0.token {
            Token::None | Token::Fixed(_) => asked(),
            Token::File(_) | Token::Program { .. } => tokio::task::spawn_blocking(asked)
                .await
                .map_err(|error| Failure::Passing(format!("no token was read: {error}")))?,
        };
        token.map_err(|error| Failure::Passing(error.to_string()))
    }

    /// All objects of a list, page by page, and the version of it that a watch goes on from.
    pub(super) async fn list<T: Object>(&self, path: &str, selector: &str) -> Result<(Vec<T>, String), Failure> {
        let mut all = Vec::new();
        let mut more = String::new();
        loop {
            let query = format!(
                "?limit={PAGE}&labelSelector={}{}",
                encoded(selector),
                match more.as_str() {
                    "" => String::new(),
                    token => format!("&continue={}", encoded(token)),
                }
            );
            let page: List<T> = self.read(Method::GET, &format!("{path}{query}"), None).await?;
            all.extend(page.items.into_iter().flatten());
            if page.metadata.more.is_empty() {
                return Ok((all, page.metadata.resource_version));
            }
            more = page.metadata.more;
        }
    }

    /// Tells of a list and of every change of it, for ever.
    pub(super) async fn watch<T: Object>(&self, path: &str, selector: &str, mut tell: impl FnMut(News<T>)) {
        let mut pause = Pause::default();
        let mut since: Option<String> = None;
        loop {
            let asked = Instant::now();
            let version = match since.take() {
                Some(version) => version,
                None => match self.list(path, selector).await {
                    Ok((all, version)) => {
                        pause = Pause::default();
                        tell(News::All(all, asked));
                        version
                    }
                    Err(failure) => {
                        pause.after(path, &failure).await;
                        continue;
                    }
                },
            };
            let (reached, ended) = self.follow(path, selector, version, &mut tell, &mut pause).await;
            match ended {
                Ok(()) => since = Some(reached),
                // What was asked for is forgotten there: the list is read again.
                Err(failure) if failure.is(StatusCode::GONE) => {
                    tracing::debug!(path, "the watch is too old; listing again");
                }
                Err(failure @ Failure::Refused { .. }) => pause.after(path, &failure).await,
                Err(failure @ Failure::Passing(_)) => {
                    since = Some(reached);
                    pause.after(path, &failure).await;
                }
            }
        }
    }

    /// One watch until it ends, and the version that it has reached.
    async fn follow<T: Object>(
        &self,
        path: &str,
        selector: &str,
        version: String,
        tell: &mut impl FnMut(News<T>),
        pause: &mut Pause,
    ) -> (String, Result<(), Failure>) {
        let mut reached = version;
        let query = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&labelSelector={}&resourceVersion={reached}",
            WATCH.as_secs(),
            encoded(selector)
        );
        let late = || Failure::Passing("the watch has gone silent".to_owned());
        let mut lines = match tokio::time::timeout(CALL, self.lines(&query)).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(failure)) => return (reached, Err(failure)),
            Err(_late) => return (reached, Err(late())),
        };
        loop {
            let line = match tokio::time::timeout(WATCH + WATCH_LATE, lines.next()).await {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return (reached, Ok(())),
                Ok(Err(failure)) => return (reached, Err(failure)),
                Err(_late) => return (reached, Err(late())),
            };
            let event: Event = match serde_json::from_slice(&line) {
                Ok(event) => event,
                Err(error) => return (reached, Err(Failure::Passing(format!("the watch cannot be read: {error}")))),
            };
            if event.kind == "ERROR" {
                let status: Status = serde_json::from_value(event.object).unwrap_or_default();
                let Status { message, code } = status;
                return (reached, Err(Failure::Refused { code, message }));
            }
            let object: T = match serde_json::from_value(event.object) {
                Ok(object) => object,
                Err(error) => return (reached, Err(Failure::Passing(format!("the watch cannot be read: {error}")))),
            };
            *pause = Pause::default();
            reached.clone_from(&object.meta().resource_version);
            match event.kind.as_str() {
                "ADDED" | "MODIFIED" => tell(News::Put(object)),
                "DELETED" => tell(News::Gone(object)),
                // A bookmark says only how far the watch is.
                _ => {}
            }
        }
    }

    /// An answer line by line.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        Ok(Lines { body: self.send(Method::GET, path, None).await?, rest: Vec::new(), ended: false })
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: serde_json::Value,
}

/// An answer line by line, without the line's end.
pub(super) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The next line; a last one without an end counts.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.rest.iter().skip(looked).position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=looked + end).collect();
                line.pop();
                return Ok(Some(line));
            }
            looked = self.rest.len();
            if self.ended {
                return Ok((!self.rest.is_empty()).then(|| std::mem::take(&mut self.rest)));
            }
            if self.rest.len() > LINE_BYTES_MAX {
                return Err(Failure::Passing(format!("a line of the answer has more than {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Failure::Passing(format!("the answer broke off: {error}"))),
            }
        }
    }
}

/// How long is waited after how many failures.
#[derive(Debug, Default)]
pub(super) struct Pause(u32);

impl Pause {
    /// Waits, and says once what for.
    pub(super) async fn after(&mut self, what: &str, failure: &Failure) {
        if self.0 == 0 {
            tracing::warn!(what, %failure, "Kubernetes does not answer as it should; asking again");
        }
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let pause = (PAUSE_MIN * 2_u32.saturating_pow(self.0.min(10))).min(PAUSE_MAX);
        self.0 = self.0.saturating_add(1);
        let mut random = [0_u8; 1];
        let spread = if getrandom::fill(&mut random).is_ok() { u32::from(random[0]) } else { 128 };
        // Three quarters to five quarters of it.
        pause * (384 + spread) / 512
    }
}

fn deepest<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// A text as a value of a query.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}
