//! `POST /v1/chat/completions` and `POST /v1/completions`, whole or as a stream.
//!
//! The status line waits for the first token: until then any failure is a proper status, and what clients and gateways
//! measure as time to first byte is the time to the first token. Dropping the response ends the work.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use dh_core::Kind;
use tokio::sync::mpsc::UnboundedReceiver;

use super::metrics::Outcome;
use super::openai::{ChatRequest, CompletionRequest, Envelope, Options, Shape, messages, sse};
use super::reply::{Refusal, read_json};
use super::slots::{Event, Slots};
use super::{Engine, Work, unix_seconds};
use crate::language::{self, LanguageModel, Request};

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(engine): State<Arc<Engine>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    counted(&engine, async {
        let ChatRequest { messages: wire, options } = read_json(body)?;
        let messages = messages(wire)?;
        answer(&engine, Shape::Chat, options, move |model| model.chat_prompt(&messages)).await
    })
    .await
}

/// `POST /v1/completions`.
pub(super) async fn complete(
    State(engine): State<Arc<Engine>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    counted(&engine, async {
        let (text, options) = read_json::<CompletionRequest>(body)?.prompt()?;
        answer(&engine, Shape::Text, options, move |model| model.text_prompt(&text)).await
    })
    .await
}

/// Counts refusals. What a slot has begun is counted by the slot.
async fn counted(engine: &Engine, work: impl Future<Output = Result<Response, Refusal>>) -> Result<Response, Refusal> {
    let result = work.await;
    // Failures of computing are the slot's to count.
    if let Err(refusal) = &result
        && refusal.outcome() != Outcome::Failed
    {
        engine.metrics.count(refusal.outcome());
    }
    result
}

async fn answer(
    engine: &Engine,
    shape: Shape,
    mut options: Options,
    prompt: impl FnOnce(&LanguageModel) -> Result<Vec<u32>, language::Error> + Send + 'static,
) -> Result<Response, Refusal> {
    let accepted = Instant::now();
    let (model, slots) = language_work(engine)?;
    if let Some(asked) = &options.model
        && *asked != engine.name
    {
        return Err(Refusal::no_model(asked, &engine.name));
    }
    options.check()?;
    let envelope = Envelope::new(shape, &engine.name, unix_seconds(), options.wants_usage_in_stream())?;
    let mut request = Request {
        prompt: Vec::new(),
        tokens_max: options.tokens_max(engine.answer_tokens),
        sampling: options.sampling()?,
        stops: options.stops(),
    };
    request.check()?;
    // A long prompt takes milliseconds to cut into tokens: not on a thread that serves sockets.
    let model = Arc::clone(model);
    request.prompt = tokio::task::spawn_blocking(move || prompt(&model))
        .await
        .map_err(|error| Refusal::new(Kind::Internal, format!("reading the prompt failed: {error}")))??;
    let mut events = slots.submit(request, accepted).map_err(|full| Refusal {
        retry_after: Some(full.retry_after),
        ..Refusal::new(Kind::Busy, "all slots are taken and the queue is full; try again later")
    })?;
    if options.wants_stream() { stream(envelope, events).await } else { whole(&envelope, &mut events).await }
}

fn language_work(engine: &Engine) -> Result<(&Arc<LanguageModel>, &Slots), Refusal> {
    match &engine.work {
        Work::Language { model, slots } => Ok((model, slots)),
        Work::Dense(_) => {
            let message = format!("`{}` is a classifier; use POST /v2/models/{}/infer", engine.name, engine.name);
            Err(Refusal::new(Kind::Invalid, message))
        }
    }
}

async fn whole(envelope: &Envelope, events: &mut UnboundedReceiver<Event>) -> Result<Response, Refusal> {
    let mut text = String::new();
    loop {
        match events.recv().await {
            Some(Event::Text(more)) => text += &more,
            Some(Event::Done(usage)) => return Ok(Json(envelope.whole(&text, &usage)).into_response()),
            Some(Event::Failed(error)) => return Err(error.into()),
            None => return Err(gone()),
        }
    }
}

/// The thread of a slot ended without a word.
fn gone() -> Refusal {
    Refusal::new(Kind::Interrupted, "the engine is stopping")
}

async fn stream(envelope: Envelope, mut events: UnboundedReceiver<Event>) -> Result<Response, Refusal> {
    let first = match events.recv().await {
        Some(Event::Failed(error)) => return Err(error.into()),
        Some(event) => event,
        None => return Err(gone()),
    };
    let mut beginning = envelope.opening().unwrap_or_default();
    let ended = write_event(&envelope, first, &mut beginning);
    let rest = Some((envelope, events)).filter(|_| !ended);
    let body = futures::stream::unfold((Some(beginning), rest), |(beginning, rest)| async move {
        if let Some(beginning) = beginning.filter(|text| !text.is_empty()) {
            return Some((beginning, (None, rest)));
        }
        let (envelope, mut events) = rest?;
        let mut out = String::new();
        let mut ended = false;
        // One write carries all that is ready; tokens without text of their own wait for the next.
        while out.is_empty() && !ended {
            ended = next_event(&envelope, events.recv().await, &mut out);
            while !ended && let Ok(event) = events.try_recv() {
                ended = write_event(&envelope, event, &mut out);
            }
        }
        Some((out, (None, Some((envelope, events)).filter(|_| !ended))))
    });
    let body = Body::from_stream(futures::StreamExt::map(body, Ok::<_, std::convert::Infallible>));
    let headers = [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, body).into_response())
}

fn next_event(envelope: &Envelope, event: Option<Event>, out: &mut String) -> bool {
    if let Some(event) = event {
        return write_event(envelope, event, out);
    }
    *out += &sse(&gone().body());
    true
}

/// Writes an event as clients read it. Gives whether it was the last. After an error there is no `[DONE]`: a client that
/// missed the error sees a stream that broke off, not an answer.
fn write_event(envelope: &Envelope, event: Event, out: &mut String) -> bool {
    match event {
        Event::Text(text) => {
            if !text.is_empty() {
                *out += &envelope.more(&text);
            }
            false
        }
        Event::Done(usage) => {
            *out += &envelope.closing(&usage);
            *out += "data: [DONE]\n\n";
            true
        }
        Event::Failed(error) => {
            *out += &sse(&Refusal::from(error).body());
            true
        }
    }
}
