//! What every route does alike: the key, error bodies, and reading JSON.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dh_core::{HasKind, Kind, limits};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Engine;
use super::metrics::Outcome;

/// The one path that needs no key, and tells nothing.
const OPEN_PATH: &str = "/healthz";
/// Paths under it answer errors in the shape of the Open Inference Protocol.
const INFERENCE_PREFIX: &str = "/v2/";

/// A refusal, on its way to a client.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
    /// The parameter that is wrong.
    pub(super) param: Option<&'static str>,
    /// A more special word than the kind's.
    pub(super) code: Option<&'static str>,
    /// Seconds until trying again makes sense.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, retry_after: None }
    }

    pub(super) fn param(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::new(Kind::Invalid, message) }
    }

    pub(super) fn no_model(asked: &str, have: &str) -> Self {
        let message = format!("there is no model `{asked}` here; this engine serves `{have}`");
        Self { param: Some("model"), code: Some("model_not_found"), ..Self::new(Kind::NotFound, message) }
    }

    /// Whose fault it is.
    pub(super) fn outcome(&self) -> Outcome {
        if self.kind == Kind::Busy {
            Outcome::Busy
        } else if self.kind.http_status() < 500 {
            Outcome::Invalid
        } else {
            Outcome::Failed
        }
    }

    /// The error object that `OpenAI` clients read.
    pub(super) fn body(&self) -> serde_json::Value {
        let class = match self.outcome() {
            Outcome::Busy => "rate_limit_error",
            Outcome::Invalid if self.kind == Kind::Unauthorized => "authentication_error",
            Outcome::Invalid => "invalid_request_error",
            Outcome::Ok | Outcome::Cancelled | Outcome::Failed => "server_error",
        };
        let code = self.code.unwrap_or(self.kind.word());
        json!({ "error": { "message": self.message, "type": class, "param": self.param, "code": code } })
    }

    fn respond(self, body: serde_json::Value) -> Response {
        let status = StatusCode::from_u16(self.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        (status, headers, Json(body)).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = self.body();
        self.respond(body)
    }
}

/// A refusal in the shape of the Open Inference Protocol, whose `error` is a text.
pub(super) struct InferenceRefusal(pub(super) Refusal);

impl<E: Into<Refusal>> From<E> for InferenceRefusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for InferenceRefusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.0.message });
        self.0.respond(body)
    }
}

impl From<crate::language::Error> for Refusal {
    fn from(error: crate::language::Error) -> Self {
        let message = match error.hint() {
            Some(hint) => format!("{error} (hint: {hint})"),
            None => error.to_string(),
        };
        let refusal = Self::new(error.kind(), message);
        match error {
            crate::language::Error::PromptTooLong { .. } => {
                Self { param: Some("messages"), code: Some("context_length_exceeded"), ..refusal }
            }
            crate::language::Error::Template(_) => Self { param: Some("messages"), ..refusal },
            crate::language::Error::Parameter { name, .. } => Self { param: Some(name), ..refusal },
            crate::language::Error::Read(_)
            | crate::language::Error::NotAModel { .. }
            | crate::language::Error::NoTemplate
            | crate::language::Error::Cancelled
            | crate::language::Error::Compute(_)
            | crate::language::Error::NotFinite => refusal,
        }
    }
}

impl From<crate::classifier::Error> for Refusal {
    fn from(error: crate::classifier::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Lets a request through that carries the key.
pub(super) async fn require_key(State(engine): State<Arc<Engine>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == OPEN_PATH || bearer(request.headers()).is_some_and(|key| engine.key.matches(key)) {
        return next.run(request).await;
    }
    let refusal = Refusal::new(Kind::Unauthorized, "this engine needs its key as `Authorization: Bearer <key>`");
    if path.starts_with(INFERENCE_PREFIX) { InferenceRefusal(refusal).into_response() } else { refusal.into_response() }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}

/// The JSON of a body, or why not.
pub(super) fn read_json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refusal> {
    let bytes = body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the request is larger than {} bytes", limits::CHAT_BYTES_MAX);
            Refusal::new(Kind::TooLarge, message)
        } else {
            Refusal::new(Kind::Invalid, rejection.body_text())
        }
    })?;
    serde_json::from_slice(&bytes).map_err(|error| Refusal::new(Kind::Invalid, format!("the request's JSON: {error}")))
}

pub(super) async fn no_such_path(request: Request) -> Refusal {
    Refusal::new(Kind::NotFound, format!("there is no `{}` here", request.uri().path()))
}

pub(super) async fn no_such_method(request: Request) -> Response {
    let message = format!("`{}` does not take {}", request.uri().path(), request.method());
    let mut response = Refusal::new(Kind::Invalid, message).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
