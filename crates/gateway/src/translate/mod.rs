//! Messages of Anthropic and responses of `OpenAI` for engines that only have chat completions.
//!
//! Invariant: nothing is left out in silence that changes what is asked: what chat completions cannot say is refused with its
//! name. Fields that nobody here knows pass as they are. An engine that has the route itself never comes here.
//! Cost: a tree of the request, and one of each event; a stream is translated piece by piece, never held back.

mod body;
mod chat;
mod events;
mod messages;
mod messages_answer;
mod responses;
mod responses_answer;
mod responses_stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(crate) use body::answer;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use body::translated;

/// Where engines that have no other route are asked.
pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
/// Of one answer: what is translated is held until its part is whole.
const ANSWER_BYTES_MAX: usize = 32 << 20;

type Fields = Map<String, Value>;

/// A way to ask that can be said in chat completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Messages,
    Responses,
}

impl Dialect {
    /// All of them, for tables.
    pub(crate) const COUNT: usize = 2;

    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            MESSAGES => Some(Self::Messages),
            RESPONSES => Some(Self::Responses),
            _ => None,
        }
    }

    pub(crate) const fn place(self) -> usize {
        match self {
            Self::Messages => 0,
            Self::Responses => 1,
        }
    }
}

/// What the answer has to know of the request.
#[derive(Debug)]
pub(crate) struct Echo {
    dialect: Dialect,
    /// Fields that the answer repeats.
    fields: Fields,
    /// Texts that end the answer.
    stops: Vec<String>,
    /// Whether the caller reads what the model thinks.
    thinking: bool,
}

/// `body`, a request of `dialect`, as a chat completion.
/// # Errors
/// What chat completions cannot say.
pub(crate) fn request(dialect: Dialect, body: &[u8]) -> Result<(Bytes, Echo), String> {
    let unread = |error: serde_json::Error| format!("what cannot be read: {error}");
    let fields: Fields = serde_json::from_slice(body).map_err(unread)?;
    let (mut chat, echo) = match dialect {
        Dialect::Messages => messages::request(fields),
        Dialect::Responses => responses::request(fields),
    }?;
    if chat.get("stream") == Some(&Value::Bool(true)) {
        // Both dialects tell at the end of a stream what it took.
        chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    let bytes = serde_json::to_vec(&chat).map_err(unread)?;
    Ok((Bytes::from(bytes), echo))
}

/// A refusal as clients of Anthropic read it.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Bytes {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    Bytes::from(json!({"type": "error", "error": {"type": kind, "message": message}}).to_string())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Sets field `name` of an object.
fn set(of: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = of {
        fields.insert(name.to_owned(), value.into());
    }
}

/// The string of field `name`.
fn string<'v>(of: &'v Value, name: &str) -> Option<&'v str> {
    of.get(name)?.as_str()
}
