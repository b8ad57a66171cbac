//! What can go wrong at the gateway, and how callers are told: the JSON shape that `OpenAI` clients parse.

use std::fmt;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use dh_core::time::Span;
use dh_core::{HasKind, Kind};
use dh_policy::quota::Bound;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::engines::EngineKind;

/// A bound that a caller met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Whose key.
    pub caller: String,
    /// Which bound.
    pub bound: Bound,
    /// How much it is.
    pub most: u64,
    /// What the request would take of it.
    pub asked: u64,
    /// When it would fit; `None` if waiting does not help.
    pub wait: Option<Span>,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { caller, bound, most, asked, wait } = self;
        match bound {
            Bound::Requests => write!(f, "the key of `{caller}` may send {most} requests a minute")?,
            Bound::Tokens => {
                write!(f, "the key of `{caller}` may use {most} tokens a minute, and this request may take {asked}")?;
            }
            Bound::Budget => {
                let usd = |micro: &u64| format!("{}.{:06} USD", micro / 1_000_000, micro % 1_000_000);
                write!(f, "the budget of `{caller}` is {}, and this request may take {} of it", usd(most), usd(asked))?;
            }
        }
        match wait {
            Some(wait) => write!(f, "; try again in {} s", wait.0.div_ceil(1_000_000_000)),
            None => f.write_str("; waiting does not help"),
        }
    }
}

/// Why a request was not answered by an engine, or why the gateway could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No bearer token.
    #[error("no key: send the header `Authorization: Bearer <key>`")]
    NoKey,
    /// A token nobody knows.
    #[error("the key is not known here")]
    UnknownKey,
    /// A key for other things.
    #[error("the key of `{0}` may not call models")]
    Forbidden(String),
    /// No such route.
    #[error("there is no `{method} {path}` here")]
    NoRoute {
        /// The method.
        method: String,
        /// The path, cut if long.
        path: String,
    },
    /// The route exists for another method.
    #[error("this path does not take `{0}`")]
    Method(String),
    /// No engine serves this name.
    #[error("there is no model `{model}` here; known models: {known}")]
    UnknownModel {
        /// The name asked for, cut if long.
        model: String,
        /// The names there are, the first ones if many.
        known: String,
    },
    /// The model's engines speak another protocol.
    #[error("model `{model}` is a {kind}; it is not served under this path")]
    WrongProtocol {
        /// The model.
        model: String,
        /// What its engines are.
        kind: EngineKind,
    },
    /// The request has no body.
    #[error("the request body is empty")]
    EmptyBody,
    /// The body is JSON of another type, or no JSON from its first byte.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// The body is no JSON.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(String),
    /// A header field that the gateway reads is wrong.
    #[error("a header field is wrong: {0}")]
    BadHeader(String),
    /// A field that the gateway reads is wrong.
    #[error("the request body has a bad field: {0}")]
    BadField(String),
    /// The field `model` is missing.
    #[error("the request body has no `model`")]
    NoModel,
    /// Too many brackets within brackets.
    #[error("the request body nests deeper than {0} levels")]
    TooDeep(usize),
    /// The body is longer than the limit.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body came too slowly.
    #[error("the request body did not arrive in time")]
    SlowBody,
    /// The connection broke while the body was read.
    #[error("the request body ended early")]
    BrokenBody,
    /// The gateway has all the work that it may take.
    #[error("the gateway is at its limit: {0}")]
    Busy(&'static str),
    /// The caller has used what it may.
    #[error("{0}")]
    Limited(Limit),
    /// The caller's key is for other models.
    #[error("the key of `{caller}` may not ask model `{model}`")]
    OutOfScope {
        /// Whose key.
        caller: String,
        /// The model.
        model: String,
    },
    /// None of the model's engines may read such data.
    #[error("no engine of model `{model}` is cleared for {class} data")]
    Fenced {
        /// The model.
        model: String,
        /// What the data is.
        class: &'static str,
    },
    /// The model is known, and no engine may be asked now.
    #[error("no engine of model `{model}` is ready")]
    NotReady {
        /// The model.
        model: String,
        /// When asking again makes sense.
        wait: Span,
    },
    /// Every engine that was asked failed before its answer began.
    #[error("no engine of model `{model}` could be reached; tried {tried}")]
    Unreachable {
        /// The model.
        model: String,
        /// How many.
        tried: usize,
    },
    /// The engine took too long to begin its answer.
    #[error("the engine of model `{0}` did not begin its answer in time")]
    EngineTimeout(String),
    /// The engine answered in a way that must not be passed on.
    #[error("the engine of model `{model}` refused the gateway with status {status}")]
    Refused {
        /// The model.
        model: String,
        /// The engine's status.
        status: u16,
    },
    /// The engine has only chat completions, which cannot say what is asked.
    #[error("the engine has only chat completions, and they cannot say {0}")]
    Untranslatable(String),
    /// The engine's answer makes no sense.
    #[error("the answer of the engine of model `{model}` cannot be used: {why}")]
    BadAnswer {
        /// The model.
        model: String,
        /// What is wrong.
        why: String,
    },
    /// The engines are full, and so is the time that the request's class waits for them.
    #[error("the engines of model `{model}` are full, and a request of class `{class}` would wait too long")]
    Crowded {
        /// The model.
        model: String,
        /// The class.
        class: String,
        /// When asking again makes sense.
        wait: Span,
    },
    /// Options that make no sense together.
    #[error("{0}")]
    BadOptions(String),
    /// No routing policy has this name.
    #[error("there is no routing policy `{name}`; there are: {known}")]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// An engine cannot be used as described.
    #[error("engine `{id}`: {why}")]
    BadEngine {
        /// The engine's id.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// More engines than the limit.
    #[error("there are more than {0} engines")]
    TooManyEngines(usize),
    /// The gateway keeps no files.
    #[error("this gateway keeps no files and runs no batches")]
    NoFiles,
    /// No such file, or not the caller's.
    #[error("there is no file `{0}`")]
    NoFile(String),
    /// No such batch, or not the caller's.
    #[error("there is no batch `{0}`")]
    NoBatch(String),
    /// A form that is no upload.
    #[error("this is no upload: {0}")]
    Upload(String),
    /// It is in use, or over.
    #[error("{0}")]
    InUse(String),
    /// A file is longer than the limit.
    #[error("the file is larger than {0} bytes")]
    FileTooLarge(u64),
    /// No more files or batches fit.
    #[error("{0}")]
    FilesFull(&'static str),
    /// Another key than one for the ledger.
    #[error("the key of `{0}` may not lease from the ledger")]
    ForbiddenLedger(String),
    /// The keeper has no such caller.
    #[error("the ledger keeps no bounds of a caller `{0}`")]
    NoAccount(String),
    /// The keeper of the ledger gives no answer.
    #[error("the ledger of this key cannot be asked: {0}")]
    NoLedger(String),
    /// The folder of files failed.
    #[error("the folder of files cannot be used: {0}")]
    Disk(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listen(std::io::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoKey | Self::UnknownKey => Kind::Unauthorized,
            Self::Forbidden(_) | Self::ForbiddenLedger(_) | Self::OutOfScope { .. } | Self::Fenced { .. } => {
                Kind::Forbidden
            }
            Self::NoRoute { .. }
            | Self::UnknownModel { .. }
            | Self::NoFiles
            | Self::NoFile(_)
            | Self::NoBatch(_)
            | Self::NoAccount(_) => Kind::NotFound,
            Self::Method(_)
            | Self::WrongProtocol { .. }
            | Self::EmptyBody
            | Self::NotAnObject
            | Self::NotJson(_)
            | Self::BadField(_)
            | Self::BadHeader(_)
            | Self::NoModel
            | Self::TooDeep(_)
            | Self::SlowBody
            | Self::BrokenBody
            | Self::Untranslatable(_)
            | Self::Upload(_)
            | Self::UnknownPolicy { .. }
            | Self::BadOptions(_)
            | Self::BadEngine { .. } => Kind::Invalid,
            Self::InUse(_) => Kind::Conflict,
            Self::FilesFull(_) => Kind::Full,
            Self::TooLarge(_) | Self::FileTooLarge(_) | Self::TooManyEngines(_) => Kind::TooLarge,
            Self::Busy(_) | Self::Limited(_) | Self::Crowded { .. } => Kind::Busy,
            Self::NotReady { .. } | Self::NoLedger(_) => Kind::Interrupted,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::BadAnswer { .. } => Kind::Unreachable,
            Self::EngineTimeout(_) => Kind::Timeout,
            Self::Tls(_) | Self::Listen(_) | Self::Disk(_) => Kind::Internal,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most errors say it all in their message")]
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoFiles => Some("start it with `--data DIR`".to_owned()),
            Self::ForbiddenLedger(_) => Some("lease with a key of the role `admin`".to_owned()),
            Self::Forbidden(_) => Some("issue a key with the role `model`".to_owned()),
            Self::Refused { .. } => Some("check the key that the gateway holds for this engine".to_owned()),
            _ => None,
        }
    }
}

/// What `OpenAI` clients read: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

impl Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others follow from their kind")]
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::from_u16(self.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The words that the service of `OpenAI` uses where it has some.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others follow from their kind")]
    fn words(&self) -> (&'static str, Option<&'static str>, &'static str) {
        match self {
            Self::NoKey | Self::UnknownKey => ("authentication_error", None, "invalid_api_key"),
            Self::Forbidden(_) => ("permission_error", None, "insufficient_permissions"),
            Self::Fenced { .. } => ("permission_error", None, "data_class"),
            Self::OutOfScope { .. } => ("permission_error", Some("model"), "insufficient_permissions"),
            Self::Limited(Limit { bound: Bound::Budget, .. }) => ("insufficient_quota", None, "insufficient_quota"),
            Self::Limited(_) => ("rate_limit_error", None, "rate_limit_exceeded"),
            Self::UnknownModel { .. } => ("invalid_request_error", Some("model"), "model_not_found"),
            Self::NoModel => ("invalid_request_error", Some("model"), "missing_required_parameter"),
            Self::WrongProtocol { .. } => ("invalid_request_error", Some("model"), "wrong_protocol"),
            Self::Untranslatable(_) => ("invalid_request_error", None, "unsupported_by_engine"),
            Self::Busy(_) => ("rate_limit_error", None, "gateway_busy"),
            Self::Crowded { .. } => ("rate_limit_error", None, "queue_full"),
            _ => {
                let kind = self.kind();
                let whose = if kind.http_status() < 500 { "invalid_request_error" } else { "server_error" };
                (whose, None, kind.word())
            }
        }
    }

    /// Whether another model may do what this one's engines could not.
    pub(crate) fn elsewhere(&self) -> bool {
        matches!(
            self,
            Self::NotReady { .. }
                | Self::Unreachable { .. }
                | Self::Refused { .. }
                | Self::EngineTimeout(_)
                | Self::Crowded { .. }
                | Self::BadAnswer { .. }
        )
    }

    /// What it says, with its hint.
    pub(crate) fn message(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; hint: {hint}"),
            None => self.to_string(),
        }
    }

    /// The JSON body.
    pub(crate) fn body(&self) -> String {
        let message = self.message();
        let (r#type, param, code) = self.words();
        let envelope = Envelope { error: Inner { message: &message, r#type, param, code } };
        serde_json::to_string(&envelope).unwrap_or_else(|_| r#"{"error":{"message":"internal"}}"#.to_owned())
    }

    /// Whole seconds after which asking again makes sense.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others follow from their kind")]
    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Limited(Limit { wait, .. }) => wait.map(|wait| wait.0.div_ceil(1_000_000_000).max(1)),
            Self::NotReady { wait, .. } | Self::Crowded { wait, .. } => Some(wait.0.div_ceil(1_000_000_000).max(1)),
            _ => self.kind().retryable().then_some(1),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status();
        if self.retry_after().is_none() {
            response.extensions_mut().insert(Hopeless);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind() == Kind::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::Method(_)) {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        response
    }
}

/// Marks an answer of the gateway itself that another try would not change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hopeless;

/// `text` for a message: at most `chars` characters, control characters escaped.
pub(crate) fn shown(text: &str, chars: usize) -> String {
    let mut shown: String = text.chars().take(chars).flat_map(char::escape_debug).collect();
    if text.chars().nth(chars).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_whatever_is_in_the_names() {
        let error = Error::UnknownModel { model: shown("a\"\n\u{7}b", 80), known: "x, y".to_owned() };
        let value: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(value["error"]["code"], "model_not_found");
        assert_eq!(value["error"]["param"], "model");
        assert!(value["error"]["message"].as_str().unwrap().contains("x, y"));
        assert_eq!(shown(&"x".repeat(300), 10), "xxxxxxxxxx...");
    }

    #[test]
    fn retryable_errors_say_when() {
        let not_ready = |nanos| Error::NotReady { model: "m".to_owned(), wait: Span(nanos) };
        assert_eq!(not_ready(0).retry_after(), Some(1));
        assert_eq!(not_ready(1_000_000_001).retry_after(), Some(2));
        assert_eq!(Error::Busy("x").retry_after(), Some(1));
        assert_eq!(Error::NoModel.retry_after(), None);
    }
}
