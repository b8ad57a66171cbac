//! The client: one request signed, sent, tried again, and its refusal put into words.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use time::OffsetDateTime;

use crate::body::Pieces;
use crate::config::{Settings, Signing};
use crate::document::Node;
use crate::place::{Slash, encode_into};
use crate::sign::{Signed, Signer, TRAILER, UNSIGNED, canonical_query, sha256_hex};
use crate::{Crc64, Error};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause between tries; it doubles up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// The largest document: a page of a listing has a thousand keys of at most a KiB, three times as long when encoded.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// The header, and the trailer, with our checksum.
pub(crate) const CRC_HEADER: &str = "x-amz-checksum-crc64nvme";

/// How a body is vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Vouch {
    /// Its SHA-256 is part of the signature.
    #[default]
    Hash,
    /// Not at all.
    Nothing,
    /// By a checksum behind it.
    Trailer,
}

/// A request that can be sent as often as needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// For messages: what is tried.
    pub(crate) action: String,
    pub(crate) method: Method,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Pieces,
    pub(crate) vouch: Vouch,
}

impl Request {
    pub(crate) fn new(verb: &str, method: Method, bucket: &str, key: &str) -> Self {
        let action = if key.is_empty() { format!("{verb} {bucket}") } else { format!("{verb} {bucket}/{key}") };
        Self { action, method, bucket: bucket.to_owned(), key: key.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub(crate) fn ask(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, body: impl Into<Pieces>) -> Self {
        self.body = body.into();
        self
    }

    fn path(&self) -> String {
        let mut path = String::with_capacity(self.bucket.len() + self.key.len() + 2);
        path.push('/');
        encode_into(&mut path, &self.bucket, Slash::Kept);
        if !self.key.is_empty() {
            path.push('/');
            encode_into(&mut path, &self.key, Slash::Kept);
        }
        path
    }
}

/// How a try ended that brought nothing.
pub(crate) enum Try {
    /// It will not get better.
    Final(Error),
    /// Another try may help.
    Passing(String),
    /// The store asked for patience.
    Busy(Error),
}

/// A client of one endpoint with one key. Clones share its connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// Scheme and authority.
    base: String,
    host: String,
    signer: Option<Signer>,
    pool: Pool<HttpsConnector<HttpConnector>, Pieces>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.0.base).finish_non_exhaustive()
    }
}

/// An answer to a request that is not S3's.
#[derive(Debug, Clone)]
pub struct Plain {
    /// The whole body.
    pub body: Bytes,
    /// The value of `content-type`.
    pub content_type: String,
}

impl Client {
    /// A client with these settings; nothing is sent yet.
    /// # Errors
    /// [`Error::Setting`] if the endpoint is no address of a server.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Setting(format!("`{}` is not a store's address: {why}", settings.endpoint));
        let uri: Uri = settings.endpoint.parse().map_err(|_error| wrong("it is no URL"))?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        let scheme = scheme.ok_or_else(|| wrong("it starts with neither http:// nor https://"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') || !["", "/"].contains(&uri.path()) || uri.query().is_some() {
            return Err(wrong("only scheme, host and port belong into it"));
        }
        let default_port = if scheme == "http" { 80 } else { 443 };
        // The host that is signed is the one that hyper writes, which leaves the scheme's own port out.
        let host = match uri.port_u16() {
            Some(port) if port == default_port => authority.host().to_owned(),
            Some(_) | None => authority.as_str().to_owned(),
        };
        let base = format!("{scheme}://{authority}");
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| Error::Setting(format!("TLS cannot be set up: {error}")))?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(settings.idle_connections)
            .build(connector);
        let signer = settings.credentials.clone().map(|key| Signer::new(key, settings.region.clone()));
        Ok(Self(Arc::new(Inner { settings, base, host, signer, pool })))
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &str {
        &self.0.base
    }

    /// How requests are signed, in a word.
    pub fn signing_name(&self) -> &'static str {
        match self.0.settings.signing {
            Signing::Header => "header",
            Signing::Presigned => "presigned",
        }
    }

    /// Another client with the same settings but for the number of tries.
    /// # Errors
    /// None that [`Client::new`] did not have.
    pub fn with_tries(&self, tries: u32) -> Result<Self, Error> {
        Self::new(Settings { tries, ..self.0.settings.clone() })
    }

    /// An address at which whoever has it may do this for some minutes.
    /// # Errors
    /// [`Error::Setting`] if the client has no key.
    pub fn presigned(&self, method: &Method, bucket: &str, key: &str) -> Result<String, Error> {
        let request = Request::new("presign", method.clone(), bucket, key);
        let path = request.path();
        let signer = self.0.signer.as_ref().ok_or_else(|| Error::Setting("there is no key to sign with".to_owned()))?;
        let signed = Signed { method, host: &self.0.host, path: &path, query: &[], payload: UNSIGNED };
        Ok(format!("{}{path}?{}", self.0.base, signer.query(&signed, OffsetDateTime::from(SystemTime::now()))))
    }

    /// Calls an endpoint of the server that is not S3's, as the key's owner: `GET` or `POST` of `/-/...`.
    /// # Errors
    /// What the server says, or that it does not answer.
    pub async fn plain(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Plain, Error> {
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let mut request = Request::new(method.as_str(), method.clone(), bucket, key);
        request.query = query.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let (headers, body) = self.whole(&request, limit).await?;
        Ok(Plain { body, content_type: text(&headers, "content-type").unwrap_or_default().to_owned() })
    }

    /// Sends it until it works, fails for good, or the tries are used up. The body of the answer is still to come.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response<Incoming>, Error> {
        self.persist(&request.action, || self.once(request)).await
    }

    /// The same with the whole body of the answer, as long as announced.
    pub(crate) async fn whole(&self, request: &Request, limit: usize) -> Result<(HeaderMap, Bytes), Error> {
        self.persist(&request.action, || async {
            let (parts, body) = self.once(request).await?.into_parts();
            let body = tokio::time::timeout(self.0.settings.timeout, Limited::new(body, limit).collect())
                .await
                .map_err(|_elapsed| Try::Passing("the answer stalled".to_owned()))?;
            match body {
                Ok(body) => Ok((parts.headers, body.to_bytes())),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(Try::Final(Error::TooLarge { what: request.action.clone(), limit: limit as u64 }))
                }
                Err(error) => Err(Try::Passing(format!("the answer broke off: {error}"))),
            }
        })
        .await
    }

    /// Tries `once` as often as the settings allow.
    pub(crate) async fn persist<T, F: Future<Output = Result<T, Try>>>(
        &self,
        action: &str,
        once: impl Fn() -> F,
    ) -> Result<T, Error> {
        let mut pause = PAUSE_MIN;
        let mut tries = 0;
        loop {
            tries += 1;
            let failed = match once().await {
                Ok(value) => return Ok(value),
                Err(Try::Final(error)) => return Err(error),
                Err(failed) => failed,
            };
            if tries >= self.0.settings.tries.max(1) {
                return Err(match failed {
                    Try::Final(error) | Try::Busy(error) => error,
                    Try::Passing(why) => {
                        Error::Unreachable { action: action.to_owned(), endpoint: self.0.base.clone(), why, tries }
                    }
                });
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One try.
    pub(crate) async fn once(&self, request: &Request) -> Result<Response<Incoming>, Try> {
        let outgoing = self.outgoing(request).map_err(Try::Final)?;
        let answer = tokio::time::timeout(self.0.settings.timeout, self.0.pool.request(outgoing)).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Try::Passing(causes(&error))),
            Err(_elapsed) => return Err(Try::Passing("it took too long".to_owned())),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(self.0.settings.timeout, Limited::new(body, REFUSAL_BYTES_MAX).collect()).await;
        let body = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(refusal(&request.action, status, &parts.headers, &body))
    }

    fn outgoing(&self, request: &Request) -> Result<http::Request<Pieces>, Error> {
        let bad = |what: &str| Error::Setting(format!("{}: {what}", request.action));
        if request.key.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(bad("a segment `.` or `..` of a key cannot be part of an address"));
        }
        let path = request.path();
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 6);
        for (name, value) in &request.headers {
            let value = HeaderValue::from_str(value).map_err(|_error| bad(&format!("the value of {name}")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let mut body = request.body.clone();
        let presigned = self.0.settings.signing == Signing::Presigned;
        let payload = match request.vouch {
            // An address cannot be signed together with the body.
            _ if presigned => UNSIGNED.to_owned(),
            Vouch::Nothing => UNSIGNED.to_owned(),
            Vouch::Trailer => {
                let crc = body.iter().fold(Crc64::empty(), |crc, piece| crc.then(Crc64::of(piece)));
                headers.insert("x-amz-trailer", HeaderValue::from_static(CRC_HEADER));
                headers.insert("x-amz-decoded-content-length", HeaderValue::from(body.len()));
                headers.insert("content-encoding", HeaderValue::from_static("aws-chunked"));
                body = body.framed(CRC_HEADER, &crc.base64());
                TRAILER.to_owned()
            }
            Vouch::Hash => {
                let mut pieces = body.iter();
                match (pieces.next(), pieces.next()) {
                    (None, _) => sha256_hex(b""),
                    (Some(one), None) => sha256_hex(one),
                    (Some(_), Some(_)) => {
                        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
                        body.iter().for_each(|piece| context.update(piece));
                        hex::encode(context.finish())
                    }
                }
            }
        };
        if body.is_empty() && [Method::PUT, Method::POST].contains(&request.method) {
            // Without a body hyper would not say so, and stores want to know.
            headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        let now = OffsetDateTime::from(SystemTime::now());
        let signed = Signed {
            method: &request.method,
            host: &self.0.host,
            path: &path,
            query: &request.query,
            payload: &payload,
        };
        let query = match &self.0.signer {
            Some(signer) if presigned => signer.query(&signed, now),
            Some(signer) => {
                signer.headers(&signed, &mut headers, now);
                canonical_query(&request.query)
            }
            None => canonical_query(&request.query),
        };
        let uri =
            if query.is_empty() { format!("{}{path}", self.0.base) } else { format!("{}{path}?{query}", self.0.base) };
        let mut outgoing = http::Request::builder().method(request.method.clone()).uri(uri);
        if let Some(all) = outgoing.headers_mut() {
            *all = headers;
        }
        outgoing.body(body).map_err(|_error| bad("it cannot be written as an address"))
    }

    pub(crate) fn piece_timeout(&self) -> Duration {
        self.0.settings.timeout
    }
}

/// A header's value as text.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

/// A failure with all of its causes; the address, which may be signed, is in none of hyper's words.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if !words.contains(&said) {
            words.push_str(": ");
            words.push_str(&said);
        }
        cause = deeper.source();
    }
    words
}

/// What a refusal says, from its document if it has one.
pub(crate) fn refusal(action: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Try {
    let document = Node::parse(body).unwrap_or_default();
    let named = |name: &str| document.get(name).map(str::trim).filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let unnamed = || status.canonical_reason().unwrap_or("-").replace(' ', "");
    let code = named("Code").unwrap_or_else(unnamed);
    let error = Error::Refused {
        action: action.to_owned(),
        status: status.as_u16(),
        message: named("Message").unwrap_or_default(),
        request_id: named("RequestId").or_else(|| text(headers, "x-amz-request-id").map(ToOwned::to_owned)),
        code,
    };
    let passing = match status.as_u16() {
        408 | 429 | 500 | 502..=504 => true,
        400 => error.code() == Some("RequestTimeout"),
        409 => error.code() == Some("OperationAborted"),
        _other => false,
    };
    if passing { Try::Busy(error) } else { Try::Final(error) }
}

/// A pause between half of `pause` and all of it, so that clients that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Without randomness of the system the pause is simply whole.
    let share = getrandom::u32().map_or(1.0, |bits| f64::from(bits) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_and_a_host() {
        for endpoint in ["http://127.0.0.1:9000", "https://s3.example/", "http://h:80"] {
            assert!(Client::new(Settings::new(endpoint, None)).is_ok(), "{endpoint}");
        }
        for endpoint in ["127.0.0.1:9000", "ftp://h", "http://h/path", "http://a:b@h", "", "http://h?x"] {
            assert!(Client::new(Settings::new(endpoint, None)).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn a_refusal_has_code_message_and_request() {
        let body = b"<Error><Code>NoSuchKey</Code><Message>gone</Message><RequestId>7F</RequestId></Error>";
        let Try::Final(error) = refusal("get b/k", StatusCode::NOT_FOUND, &HeaderMap::new(), body) else { panic!() };
        assert_eq!(error.to_string(), "get b/k: the store answered 404 NoSuchKey: gone (request 7F)");
        let Try::Busy(error) = refusal("put", StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new(), b"") else {
            panic!()
        };
        assert_eq!(error.code(), Some("ServiceUnavailable"));
        let Try::Final(_) = refusal("put", StatusCode::INSUFFICIENT_STORAGE, &HeaderMap::new(), b"") else { panic!() };
    }
}
