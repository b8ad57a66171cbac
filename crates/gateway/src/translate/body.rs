//! Turns the engine's answer, which is a chat completion, into what the caller asked for.
//!
//! Invariant: each piece is translated and handed on before the next is read. What the engine sent is watched and counted
//! below this, as chat completions.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::chat::{Chunk, Turn, message_of};
use super::events::Events;
use super::responses_answer::{Stage, whole as response_whole};
use super::{ANSWER_BYTES_MAX, Dialect, Echo, messages_answer, refusal, responses_stream};
use crate::Error;

/// The answer for the caller.
/// # Errors
/// [`Error::BadAnswer`] if the engine's answer is no chat completion, or breaks off.
pub(crate) async fn answer(response: Response<Body>, echo: Echo, model: &str) -> Result<Response<Body>, Error> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let events = is(&parts.headers, "text/event-stream");
    if events && parts.status.is_success() {
        let stream = Stream::new(body, echo);
        return Ok(Response::from_parts(parts, Body::new(stream)));
    }
    let bad = |why: &str| Error::BadAnswer { model: model.to_owned(), why: why.to_owned() };
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| bad("it broke off"))?;
    let bytes = collected.to_bytes();
    let text = if parts.status.is_success() {
        let chunk: Chunk = serde_json::from_slice(&bytes).map_err(|_| bad("it is no chat completion"))?;
        let mut turn = Turn::default();
        turn.take(chunk).map_err(|why| bad(&why))?;
        let value = match echo.dialect {
            Dialect::Messages => messages_answer::whole(&turn, &echo),
            Dialect::Responses => response_whole(&turn, &echo, &Stage::Ended),
        };
        Bytes::from(value.to_string())
    } else {
        match echo.dialect {
            Dialect::Messages => {
                let said = serde_json::from_slice::<Value>(&bytes).map(|error| message_of(&error));
                refusal(parts.status, &said.unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned()))
            }
            // The same shape in both.
            Dialect::Responses => return Ok(Response::from_parts(parts, Body::from(bytes))),
        }
    };
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Response::from_parts(parts, Body::from(text)))
}

fn is(headers: &HeaderMap, kind: &str) -> bool {
    let found = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    found.is_some_and(|found| found.trim().eq_ignore_ascii_case(kind))
}

enum Writer {
    Messages(messages_answer::Writer),
    Responses(responses_stream::Writer),
}

impl Writer {
    fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Messages => Self::Messages(messages_answer::Writer::default()),
            Dialect::Responses => Self::Responses(responses_stream::Writer::default()),
        }
    }
}

/// A stream of events, translated as it comes.
struct Stream {
    /// Nothing once it has ended.
    inner: Option<Body>,
    /// Whether the caller has heard the end.
    over: bool,
    events: Events,
    turn: Turn,
    echo: Echo,
    writer: Writer,
}

impl Stream {
    fn new(body: Body, echo: Echo) -> Self {
        let writer = Writer::of(echo.dialect);
        Self { inner: Some(body), over: false, events: Events::default(), turn: Turn::default(), echo, writer }
    }

    /// Translates a piece; an error ends the stream with what went wrong.
    fn piece(&mut self, bytes: &[u8], out: &mut String) {
        let mut datas = VecDeque::new();
        let pushed = self.events.push(bytes, |data| datas.push_back(data.to_owned()));
        for data in datas {
            if self.over {
                return;
            }
            if data == "[DONE]" {
                return self.end(out);
            }
            let taken = serde_json::from_str::<Chunk>(&data)
                .map_err(|_| "the engine sent an event that is no chunk of a chat completion".to_owned());
            match taken.and_then(|chunk| self.turn.take(chunk)) {
                Err(why) => return self.failed(&why, out),
                Ok(changes) => match &mut self.writer {
                    Writer::Messages(writer) => writer.changed(&self.turn, changes, &self.echo, out),
                    Writer::Responses(writer) => writer.changed(&self.turn, changes, &self.echo, out),
                },
            }
        }
        if let Err(why) = pushed.as_ref()
            && !self.over
        {
            self.failed(why, out);
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.turn.finish.is_none() {
            return self.failed("the engine ended its answer without saying that it is whole", out);
        }
        // What is left of the engine's answer is its framing, after which the connection serves again.
        self.over = true;
        match &mut self.writer {
            Writer::Messages(_) => messages_answer::Writer::end(&self.turn, &self.echo, out),
            Writer::Responses(writer) => writer.end(&self.turn, &self.echo, out),
        }
    }

    fn failed(&mut self, why: &str, out: &mut String) {
        (self.inner, self.over) = (None, true);
        match &mut self.writer {
            Writer::Messages(_) => messages_answer::Writer::failed(why, out),
            Writer::Responses(writer) => writer.failed(&self.turn, &self.echo, why, out),
        }
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let mut out = String::new();
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            match Pin::new(inner).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        this.piece(&bytes, &mut out);
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    if !this.over {
                        this.end(&mut out);
                    }
                    this.inner = None;
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

/// The events of an engine's stream that comes in these pieces; nothing if the request cannot be translated.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn translated(dialect: Dialect, request: &[u8], pieces: &[&[u8]]) -> Option<String> {
    let (_, echo) = super::request(dialect, request).ok()?;
    let (mut stream, mut out) = (Stream::new(Body::empty(), echo), String::new());
    for piece in pieces {
        if !stream.over {
            stream.piece(piece, &mut out);
        }
    }
    if !stream.over {
        stream.end(&mut out);
    }
    Some(out)
}
