//! One line of a batch: asked through the same door as any request, so that bounds, budgets, routing and counters hold.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::Batches;
use super::lines::Line;
use super::rows::fresh;
use crate::access::{self, Caller};
use crate::error::Hopeless;
use crate::lines::CLASS;
use crate::{Gateway, handlers};

/// Tries of a line whose engine fails without saying when it will not.
const TRIES: u32 = 5;
/// Between tries: doubled from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A longer answer is cut off, and counts as a failure.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// How a line went.
pub(crate) enum Answer {
    Good {
        name: String,
        line: Vec<u8>,
    },
    Bad {
        name: String,
        line: Vec<u8>,
    },
    /// Nobody has a key of the owner's name any more.
    NoKey,
}

#[derive(Serialize)]
struct Out<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<Failure<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: &'a str,
    body: &'a RawValue,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
}

/// The class of lines of batches, where there is one of this name.
const BATCH: &str = "batch";

/// Asks until there is an answer that another try would not change.
pub(crate) async fn ask(gateway: &Gateway, batches: &Batches, owner: &str, route: &'static str, line: Line) -> Answer {
    let Line { name, model, body } = line;
    let body = bytes::Bytes::from(body);
    let (mut pause, mut tries) = (PAUSE.0, 0);
    loop {
        let passed = batches.gate.pass(gateway, &model).await;
        if !gateway.shared.auth.knows(owner) {
            return Answer::NoKey;
        }
        let mut request = Request::new(Body::from(body.clone()));
        request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        if gateway.shared.lines.as_ref().is_some_and(|lines| lines.knows(BATCH)) {
            request.headers_mut().insert(CLASS, http::HeaderValue::from_static(BATCH));
        }
        let request_id = access::request_id(&HeaderMap::new());
        let caller = Caller { name: owner.to_owned(), request_id: request_id.clone() };
        let (parts, answer) = handlers::generate(gateway, caller, request, route).await.into_parts();
        let answer = Limited::new(answer, ANSWER_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
        drop(passed);
        let wait =
            parts.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        tries += u32::from(wait.is_none());
        let hopeless = parts.extensions.get::<Hopeless>().is_some();
        let again = !hopeless && tries < TRIES && (answer.is_err() || passes(parts.status));
        if again {
            sleep(wait.unwrap_or(pause).max(PAUSE.0)).await;
            pause = (pause * 2).min(PAUSE.1);
            continue;
        }
        let Ok(answer) = answer else {
            return bad(name, "engine_lost", "the engine broke off its answer, again and again");
        };
        let (status_code, request_id) = (parts.status.as_u16(), request_id.to_str().unwrap_or_default());
        let Some(body) = json(&answer) else { return bad(name, "bad_answer", "the engine's answer is no text") };
        let response = Some(Response { status_code, request_id, body: &body });
        let line = print(&Out { id: fresh("batch_req_"), custom_id: &name, response, error: None });
        return if parts.status.is_success() { Answer::Good { name, line } } else { Answer::Bad { name, line } };
    }
}

/// The result of a line that was not asked in time.
pub(crate) fn expired(name: &str) -> Answer {
    bad(name.to_owned(), "batch_expired", "this request could not be executed before the completion window expired")
}

fn bad(name: String, code: &str, message: &str) -> Answer {
    let error = Some(Failure { code, message });
    let line = print(&Out { id: fresh("batch_req_"), custom_id: &name, response: None, error });
    Answer::Bad { name, line }
}

/// Whether what the status says passes.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The answer as JSON on one line; other text becomes a string.
fn json(answer: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(answer).ok()?;
    // Line ends in JSON are blanks, since strings cannot hold them.
    let flat = text.trim().replace(['\n', '\r'], " ");
    RawValue::from_string(flat).ok().or_else(|| RawValue::from_string(serde_json::to_string(text).ok()?).ok())
}

fn print(out: &Out<'_>) -> Vec<u8> {
    // Strings and numbers cannot fail to print.
    let mut line = serde_json::to_vec(out).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_take_one_line_whatever_they_are() {
        let shown = |text: &[u8]| json(text).map(|value| value.get().to_owned());
        assert_eq!(shown(b"{\n \"a\": 1e400 }\n").as_deref(), Some("{  \"a\": 1e400 }"));
        assert_eq!(shown(b"oops\n").as_deref(), Some("\"oops\\n\""));
        assert_eq!(shown(b"\xff"), None);
        let Answer::Bad { name, line } = expired("a\"\n") else { panic!() };
        assert_eq!((name.as_str(), memchr::memchr_iter(b'\n', &line).count()), ("a\"\n", 1));
    }
}
