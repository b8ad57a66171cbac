//! Asks engines for the tokens of prompts that they have just computed, beside the requests.
//!
//! An engine's `/tokenize` takes a chat's messages or a text and gives the numbers of its tokens. *Invariant*: at most
//! [`WAITING_MAX`] prompts wait, of at most [`BODY_BYTES_MAX`] bytes each; further ones are not asked for, and an engine is asked for
//! one at a time. An engine that cannot tell is not asked again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Source, count};
use crate::Gateway;
use crate::engines::Engine;
use crate::plan::Fresh;
use crate::translate;

const WAITING_MAX: usize = 64;
const BODY_BYTES_MAX: usize = 1 << 20;
/// Eight bytes of JSON for a token, and fewer tokens than bytes.
const ANSWER_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;
const PATIENCE: Duration = Duration::from_secs(10);
/// The first events of an engine come a moment after its first answer: so often and so long they are waited for.
const LOOKS: u32 = 40;
const LOOK: Duration = Duration::from_millis(50);

const COMPLETIONS: &str = "/v1/completions";

/// A prompt whose tokens are wanted.
struct Wanted {
    engine: Arc<Engine>,
    path: &'static str,
    body: Bytes,
    fresh: Fresh,
}

/// The way to the task that asks.
pub(crate) struct Asker {
    send: mpsc::Sender<Wanted>,
    receive: Mutex<Option<mpsc::Receiver<Wanted>>>,
}

impl Default for Asker {
    fn default() -> Self {
        let (send, receive) = mpsc::channel(WAITING_MAX);
        Self { send, receive: Mutex::new(Some(receive)) }
    }
}

impl Asker {
    /// `engine` has computed what is `fresh` of a request; `path` is that of its route.
    pub(crate) fn computed(&self, engine: &Arc<Engine>, path: &str, body: &Bytes, fresh: Fresh) {
        let Some(path) = [translate::CHAT, COMPLETIONS].into_iter().find(|known| *known == path) else { return };
        if body.len() <= BODY_BYTES_MAX {
            // Full is as good as asked: the index estimates.
            let wanted = Wanted { engine: Arc::clone(engine), path, body: body.clone(), fresh };
            let _unless_full = self.send.try_send(wanted);
        }
    }
}

/// What of a request decides its tokens.
#[derive(Serialize, Deserialize)]
struct Said<'b> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    model: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    messages: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    prompt: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tools: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    chat_template: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    add_generation_prompt: Option<&'b RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    continue_final_message: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Told {
    tokens: Vec<u32>,
}

/// The question for `/tokenize`; nothing for prompts that are not one text.
fn question(path: &str, body: &[u8]) -> Option<Vec<u8>> {
    let said: Said<'_> = serde_json::from_slice(body).ok()?;
    let whole = if path == COMPLETIONS {
        said.prompt.is_some_and(|prompt| prompt.get().starts_with('"'))
    } else {
        said.messages.is_some()
    };
    if whole { serde_json::to_vec(&said).ok() } else { None }
}

pub(super) fn start(gateway: &Gateway) -> JoinHandle<()> {
    let gateway = gateway.clone();
    let receive = gateway.shared.kv.asker.receive.lock().unwrap_or_else(PoisonError::into_inner).take();
    tokio::spawn(async move {
        let Some(mut receive) = receive else { return };
        while let Some(wanted) = receive.recv().await {
            let Some(source) = gateway.shared.kv.source(&wanted.engine) else { continue };
            if source.mute.load(Ordering::Relaxed) {
                continue;
            }
            follow(&gateway, &source, &wanted).await;
        }
    })
}

async fn follow(gateway: &Gateway, source: &Source, wanted: &Wanted) {
    let Some(question) = question(wanted.path, &wanted.body) else { return };
    let asked = tokio::time::timeout(PATIENCE, ask(gateway, source, &question)).await;
    let Ok(Some(tokens)) = asked else { return };
    count(&source.counts.asked, 1);
    for _ in 0..LOOKS {
        if source.tree().block_tokens().is_some() {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let links = wanted.fresh.ends_in(tokens.len());
    let lost = source.tree().follow(&links, &tokens);
    let lost = source.knowledge().lost(source.state().slot, &lost);
    count(&source.counts.lost, lost);
}

async fn ask(gateway: &Gateway, source: &Source, question: &[u8]) -> Option<Vec<u32>> {
    let engine = &*source.engine;
    let mut head = Vec::with_capacity(256);
    engine.begin(&Method::POST, "/tokenize", &mut head);
    head.extend_from_slice(b"content-type: application/json\r\n");
    if let Some(value) = &engine.authorization {
        for part in [AUTHORIZATION.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(format!("content-length: {}\r\n\r\n", question.len()).as_bytes());
    let response = gateway.shared.upstream.exchange(engine, &head, question).await.ok()?;
    let (parts, mut body) = response.into_parts();
    if matches!(parts.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
        source.mute.store(true, Ordering::Relaxed);
        tracing::info!(engine = engine.id, "the engine tells no tokens: what it throws out is estimated");
    }
    if parts.status != StatusCode::OK {
        return None;
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.ok()?.into_data() else { continue };
        bytes.extend_from_slice(&piece);
        if bytes.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice::<Told>(&bytes).ok().map(|told| told.tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_holds_what_decides_tokens_and_nothing_else() {
        let say = |path: &str, body: &str| question(path, body.as_bytes()).map(|said| String::from_utf8(said).unwrap());
        let chat = r#"{"model":"m", "stream":true,"messages":[{"role": "user"}],"tools":[],"temperature":1}"#;
        let said = r#"{"model":"m","messages":[{"role": "user"}],"tools":[]}"#;
        assert_eq!(say(translate::CHAT, chat).as_deref(), Some(said));
        assert_eq!(say(COMPLETIONS, r#"{"prompt":"a","n":2}"#).as_deref(), Some(r#"{"prompt":"a"}"#));
        assert_eq!(say(COMPLETIONS, r#"{"prompt":["a","b"]}"#), None);
        assert_eq!(say(COMPLETIONS, chat), None);
        assert_eq!(say(translate::CHAT, "[]"), None);
    }
}
