//! Prompts read by one engine and answers written by another: the request goes to an engine that prefills, with one token of an
//! answer, and what that says about the keys and values it holds goes with the request to an engine that decodes.
//!
//! The protocol is vLLM's: `kv_transfer_params` with `do_remote_decode` in the request to the first, and those of its answer,
//! whatever they hold, in the request to the second. *Invariant*: a caller sees one answer, of one engine; if either half fails
//! before the first byte, an engine that does whole requests is asked, if there is one. The first engine is chosen by the
//! gateway's policy, so by prefix caches; the second by its load, since the prompt comes to it whatever it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use dh_policy::routing;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use crate::engines::EngineKind;
use crate::facts::{EngineRole, Part};
use crate::gateway::Shared;
use crate::relay::Begun;
use crate::upstream::{Answer, Outgoing};
use crate::usage::{Usage, UsageFinder};
use crate::{Error, Gateway, handlers, whole};

/// The fields of a request that say how an answer comes, which is no affair of the engine that reads the prompt.
const OF_THE_ANSWER: [&str; 3] = ["stream", "stream_options", "min_tokens"];
const ONE: [&str; 2] = ["max_tokens", "max_completion_tokens"];
const PARAMS: &str = "kv_transfer_params";
/// What asks an engine to keep what it computed for another one.
const HANDS_ON: &str = r#"{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}"#;

type Fields<'b> = BTreeMap<String, &'b RawValue>;

/// Whether requests of this route are split over the engines of the model of `begun`.
pub(crate) fn splits(begun: &Begun, path: &str) -> bool {
    begun.model.split
        && begun.model.kind == EngineKind::Chat
        && matches!(path, "/v1/chat/completions" | "/v1/completions")
}

/// What a whole request may be asked of: engines for whole requests, or, without any, those that decode.
pub(crate) fn whole_part(roles: impl Iterator<Item = EngineRole>) -> Part {
    let (mut any, mut both) = (false, false);
    for role in roles {
        any = true;
        both |= role == EngineRole::Both;
    }
    if any && !both { Part::Any } else { Part::Whole }
}

/// The answer to a request that is split.
pub(crate) async fn send(gateway: &Gateway, mut begun: Begun, mut outgoing: Outgoing) -> Result<Response, Error> {
    let shared = &gateway.shared;
    let plain = outgoing.body.clone();
    let first = prefill(shared, &begun, &mut outgoing, &plain).await;
    let params = match first {
        Ok(Half::Params(params, read)) => {
            begun.read_by = Some(read);
            Some(params)
        }
        // The request itself is wrong: another engine would say the same.
        Ok(Half::Answer(answer)) => return handlers::finish(*answer, begun).await,
        Err(error) => {
            tracing::debug!(%error, "no engine read the prompt apart");
            None
        }
    };
    if let Some(params) = params {
        outgoing.work.part = Part::Decode;
        outgoing.body = with_params(&plain, &params)?;
        let by_load = routing::by_name("least_tokens").unwrap_or(shared.policy);
        match shared.upstream.ask(&begun.model, &outgoing, by_load, &*shared.clock).await {
            Ok(answer) if !answer.response.status().is_server_error() => return handlers::finish(answer, begun).await,
            Ok(answer) if !has_both(&begun) => return handlers::finish(answer, begun).await,
            Err(error) if !has_both(&begun) => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    begun.read_by = None;
    outgoing.body = plain;
    outgoing.work.part = begun.model.whole;
    let answer = shared.upstream.ask(&begun.model, &outgoing, shared.policy, &*shared.clock).await?;
    handlers::finish(answer, begun).await
}

/// What came of asking an engine to read the prompt.
enum Half {
    Params(Box<RawValue>, ReadBy),
    Answer(Box<Answer>),
}

/// Who read the prompt, and what it counted.
pub(crate) type ReadBy = (std::sync::Arc<crate::engines::Engine>, Usage);

async fn prefill(shared: &Shared, begun: &Begun, outgoing: &mut Outgoing, plain: &Bytes) -> Result<Half, Error> {
    outgoing.work.part = Part::Prefill;
    outgoing.body = one_token(plain)?;
    let started = Instant::now();
    let answer = shared.upstream.ask(&begun.model, outgoing, shared.policy, &*shared.clock).await?;
    let status = answer.response.status();
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return Ok(Half::Answer(Box::new(answer)));
    }
    if status != StatusCode::OK {
        return Err(Error::Refused { model: begun.model.name.to_string(), status: status.as_u16() });
    }
    let (mut answer, bytes) = whole::read(answer, begun).await?;
    learned(&mut answer, begun, &bytes, started.elapsed());
    let mut finder = UsageFinder::new();
    finder.push(&bytes);
    let usage = finder.found().unwrap_or_default();
    let said = serde_json::from_slice::<Said<'_>>(&bytes).ok().and_then(|said| said.kv_transfer_params);
    match said.filter(|params| params.get() != "null") {
        Some(params) => Ok(Half::Params(params.to_owned(), (answer.engine, usage))),
        None => Err(Error::Refused { model: begun.model.name.to_string(), status: status.as_u16() }),
    }
}

/// What the answer teaches about the model and the engine.
fn learned(answer: &mut Answer, begun: &Begun, bytes: &[u8], took: Duration) {
    answer.load.first_token(took);
    let mut finder = UsageFinder::new();
    finder.push(bytes);
    if let Some(usage) = finder.found() {
        // Its one token says nothing about the length of answers.
        begun.model.knowledge.learn(answer.belief, Usage { completion_tokens: None, ..usage });
    }
}

#[derive(Deserialize)]
struct Said<'b> {
    #[serde(borrow)]
    kv_transfer_params: Option<&'b RawValue>,
}

fn has_both(begun: &Begun) -> bool {
    begun.model.whole == Part::Whole
}

fn fields(body: &[u8]) -> Result<Fields<'_>, Error> {
    serde_json::from_slice(body).map_err(|error| Error::NotJson(error.to_string()))
}

fn text(fields: &Fields<'_>) -> Result<Bytes, Error> {
    serde_json::to_vec(fields).map(Bytes::from).map_err(|error| Error::NotJson(error.to_string()))
}

/// The request for the engine that reads the prompt.
fn one_token(body: &[u8]) -> Result<Bytes, Error> {
    let mut fields = fields(body)?;
    let raw = |text: &str| RawValue::from_string(text.to_owned()).map_err(|error| Error::NotJson(error.to_string()));
    let (one, hands_on, no) =
        (to_raw_value(&1).map_err(|error| Error::NotJson(error.to_string()))?, raw(HANDS_ON)?, raw("false")?);
    for key in OF_THE_ANSWER {
        fields.remove(key);
    }
    fields.insert("stream".to_owned(), &no);
    fields.insert("max_tokens".to_owned(), &one);
    for key in ONE {
        if let Some(most) = fields.get_mut(key) {
            *most = &one;
        }
    }
    fields.insert(PARAMS.to_owned(), &hands_on);
    text(&fields)
}

/// The request for the engine that writes the answer.
fn with_params(body: &[u8], params: &RawValue) -> Result<Bytes, Error> {
    let mut fields = fields(body)?;
    fields.insert(PARAMS.to_owned(), params);
    text(&fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_halves_of_a_request_keep_every_field_as_it_was() {
        let body = br#"{"model":"m","messages":[{"content":"a\u00e9"}],"stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":70,"seed":123456789012345678901234567890,"kv_transfer_params":1}"#;
        let read = one_token(body).unwrap();
        let read = std::str::from_utf8(&read).unwrap();
        for part in [
            r#""messages":[{"content":"a\u00e9"}]"#,
            r#""seed":123456789012345678901234567890"#,
            r#""stream":false"#,
            r#""max_tokens":1"#,
            r#""max_completion_tokens":1"#,
            r#""do_remote_decode":true"#,
        ] {
            assert!(read.contains(part), "{part} not in {read}");
        }
        assert!(!read.contains("stream_options"));
        let params = RawValue::from_string(r#"{"remote_block_ids":[1,2]}"#.to_owned()).unwrap();
        let written = with_params(body, &params).unwrap();
        let written = std::str::from_utf8(&written).unwrap();
        for part in
            [r#""kv_transfer_params":{"remote_block_ids":[1,2]}"#, r#""stream":true"#, r#""max_completion_tokens":70"#]
        {
            assert!(written.contains(part), "{part} not in {written}");
        }
        assert_eq!(written.matches("kv_transfer_params").count(), 1);
    }
}
