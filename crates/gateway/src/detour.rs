//! The way of a request through a gateway that has more than engines: lines, other models. See [`crate::Options`].
//!
//! Invariant: an answer goes out for one model alone; whatever was tried before it is over, and costs the caller nothing.
//! Models whose prompts and answers are of different engines ([`crate::pools`]) go the plain way.
//! The plain way in [`crate::handlers`] stays as short as it is: nothing here runs without an option.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;
use bytes::Bytes;
use dh_core::DataClass;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::access::Caller;
use crate::accounts::{Accounts, Charge};
use crate::admission::Buffered;
use crate::engines::{EngineKind, Model};
use crate::handlers::{self, Admitted};
use crate::lines::{Seat, Who};
use crate::relay::Begun;
use crate::request::Peek;
use crate::upstream::{Answer, Outgoing, Target};
use crate::{Error, Gateway, cache, fence, headers, request, scale};

/// Names the model that answered in place of another one.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-datahall-model");

/// A request with all that belongs to it.
pub(crate) struct Asked {
    pub(crate) gateway: Gateway,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) path: &'static str,
    pub(crate) started: Instant,
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) body: Buffered,
    /// Set when the answer has ended whole and well.
    pub(crate) whole: Option<Arc<AtomicBool>>,
}

/// The answer to a request that was read, or was not.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: Caller,
    headers: &HeaderMap,
    path: &'static str,
    started: Instant,
    read: Result<Admitted, Error>,
) -> Response {
    match read {
        Err(error) => handlers::refuse_in(path, gateway, error, &caller, None, started),
        Ok((place, body)) => {
            let (gateway, headers) = (gateway.clone(), headers.clone());
            let asked = Asked { gateway, caller, headers, path, started, place, body, whole: None };
            if asked.gateway.shared.caches.is_some() { cache::answer(asked).await } else { direct(asked).await }
        }
    }
}

/// The answer of an engine.
pub(crate) async fn direct(asked: Asked) -> Response {
    let mut found = None;
    let (gateway, caller, path, started) = (asked.gateway.clone(), asked.caller.clone(), asked.path, asked.started);
    let answered = async {
        let chosen = choose(&asked, &mut found).await?;
        finish(asked, chosen).await
    };
    match answered.await {
        Ok(response) => response,
        Err(error) => handlers::refuse_in(path, &gateway, error, &caller, found.as_ref(), started),
    }
}

/// What asking the engines of one model came to.
struct Asking {
    model: Arc<Model>,
    answer: Answer,
    outgoing: Outgoing,
    seat: Option<Seat>,
}

/// What is passed on.
struct Chosen {
    asking: Asking,
    charge: Option<Charge>,
    stream: bool,
}

/// The first good answer of the model and those in its place; if none is good, what the model itself came to.
async fn choose(asked: &Asked, found: &mut Option<Arc<Model>>) -> Result<Chosen, Error> {
    let shared = &asked.gateway.shared;
    let peek = request::peek(&asked.body.bytes)?;
    let stream = peek.stream;
    let class = fence::of(shared, &asked.caller.name, &asked.headers)?;
    let others = shared.config.options.fallbacks.get(&*peek.model).map(Vec::as_slice).unwrap_or_default();
    let mut charge: Option<Charge> = None;
    let mut failed: Option<Result<Asking, Error>> = None;
    for (number, name) in std::iter::once(&*peek.model).chain(others.iter().map(String::as_str)).enumerate() {
        let snapshot = asked.gateway.snapshot();
        let model = match snapshot.model(name) {
            Ok(model) => Arc::clone(model),
            Err(error) => {
                failed.get_or_insert(Err(error));
                continue;
            }
        };
        if number > 0 && !may_stand_in(found.as_ref(), &model, shared, &asked.caller.name, class) {
            continue;
        }
        if number == 0 {
            *found = Some(Arc::clone(&model));
        }
        // With another model at hand nobody waits for a first replica.
        let model = if others.is_empty() {
            scale::served(&asked.gateway, &asked.caller.name, model, asked.body.bytes.len()).await?
        } else {
            model
        };
        let came = ask(asked, &peek, (model, class), &mut charge).await;
        let elsewhere = match &came {
            Ok(asking) => stands_in_for(asking.answer.response.status()),
            Err(error) => error.elsewhere(),
        };
        if !elsewhere {
            return came.map(|asking| Chosen { asking, charge, stream });
        }
        failed.get_or_insert(came);
    }
    let asking = failed.unwrap_or(Err(Error::NoModel))?;
    Ok(Chosen { asking, charge, stream })
}

/// Whether an answer of this kind is worth asking another model.
fn stands_in_for(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// Whether `other` may answer for `model`: the caller may ask it, and it is no further away than data may go.
fn may_stand_in(
    model: Option<&Arc<Model>>,
    other: &Model,
    shared: &crate::gateway::Shared,
    caller: &str,
    class: DataClass,
) -> bool {
    model.is_none_or(|model| model.kind == other.kind && at_the_same_sites(model, other))
        && other.kind == EngineKind::Chat
        && fence::check(other, class).is_ok()
        && Accounts::scope(shared, caller, other).is_ok()
}

/// Whether all engines of `other` stand at sites where engines of `model` do. What is not known is no hindrance.
fn at_the_same_sites(model: &Model, other: &Model) -> bool {
    let sites = |model: &Model| -> BTreeSet<String> {
        model.engines.iter().filter_map(|engine| engine.facts.site.clone()).collect()
    };
    let known = sites(model);
    known.is_empty() || sites(other).is_subset(&known)
}

async fn ask(
    asked: &Asked,
    peek: &Peek<'_>,
    (mut model, class): (Arc<Model>, DataClass),
    charge: &mut Option<Charge>,
) -> Result<Asking, Error> {
    let Asked { gateway, caller, headers, path, body, .. } = asked;
    let shared = &gateway.shared;
    if model.kind != EngineKind::Chat {
        return Err(Error::WrongProtocol { model: model.name.to_string(), kind: model.kind });
    }
    fence::check(&model, class)?;
    if !charge.as_mut().is_some_and(|charge| charge.moves_to(shared, &model)) {
        drop(charge.take());
        *charge = shared.accounts.reserve(shared, &caller.name, &model, &peek.prompt).await?;
    }
    let body = if *model.name == *peek.model { body.bytes.clone() } else { for_model(&body.bytes, &model.name)? };
    let turn = model.turn.fetch_add(1, Ordering::Relaxed);
    let weigh = |model: &Model| {
        let mut work = model.knowledge.weigh(&peek.prompt, turn, shared.policy, model.slots);
        (work.fence, work.part) = (class, model.whole);
        work
    };
    let work = weigh(&model);
    shared.scaling.came(&model, work.ask.prompt);
    let mut outgoing = Outgoing {
        method: Method::POST,
        target: Target::Route(path),
        headers: headers::for_engine(headers, &caller.request_id),
        body,
        work,
        chat: OnceLock::new(),
    };
    let seat = match &shared.lines {
        None => None,
        Some(lines) => {
            let grant = shared.auth.grant(&caller.name);
            let grant = grant.as_deref();
            let tier = serde_json::from_slice::<Cow<'_, str>>(peek.prompt.tier).ok();
            let class = lines.class_of(headers, tier.as_deref(), grant.and_then(|grant| grant.class.as_deref()))?;
            let weight = grant.and_then(|grant| grant.weight).unwrap_or(1);
            let tokens = outgoing.work.ask.prompt.saturating_add(outgoing.work.ask.answer);
            Some(lines.enter(gateway, &model, Who { class, tenant: &caller.name, weight, tokens }).await?)
        }
    };
    if seat.is_some()
        && let Ok(present) = gateway.snapshot().model(&model.name)
        && !Arc::ptr_eq(present, &model)
    {
        // Engines came or went while it waited.
        model = Arc::clone(present);
        outgoing.work = weigh(&model);
    }
    let answer = shared.upstream.ask(&model, &outgoing, shared.policy, &*shared.clock).await?;
    Ok(Asking { model, answer, outgoing, seat })
}

async fn finish(asked: Asked, chosen: Chosen) -> Result<Response, Error> {
    let Chosen { asking: Asking { model, answer, outgoing, seat }, charge, stream } = chosen;
    let shared = &asked.gateway.shared;
    let wanted = request::peek(&asked.body.bytes)?.model;
    let name = if *wanted == *model.name { None } else { HeaderValue::from_str(&model.name).ok() };
    let begun = Begun {
        caller: asked.caller,
        read_by: None,
        price: shared.price(&model),
        model,
        started: asked.started,
        stream,
        _place: asked.place,
        clock: Arc::clone(&shared.clock),
        chunk_gap: shared.config.timeouts.chunk_gap,
        charge,
        seat,
        whole: asked.whole,
    };
    let mut response = handlers::passed_on(answer, begun, outgoing).await?;
    if let Some(name) = name {
        response.headers_mut().insert(MODEL, name);
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
}

/// `body` with another model's name, all else as it was.
fn for_model(body: &[u8], name: &str) -> Result<Bytes, Error> {
    let named: Named<'_> = serde_json::from_slice(body).map_err(|error| Error::NotJson(error.to_string()))?;
    let old = named.model.get();
    // The value lies within the body.
    let from = old.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    let new = serde_json::to_string(name).map_err(|error| Error::NotJson(error.to_string()))?;
    let before = body.get(..from).unwrap_or_default();
    let after = body.get(from.saturating_add(old.len())..).unwrap_or_default();
    Ok(Bytes::from([before, new.as_bytes(), after].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_changes() {
        for (body, becomes) in [
            (r#"{"model":"m","x":{"model":"m"},"n":1e999}"#, r#"{"model":"a\"b","x":{"model":"m"},"n":1e999}"#),
            (r#" { "x" : 1 , "mod\u0065l" : "caf\u00e9" } "#, r#" { "x" : 1 , "mod\u0065l" : "a\"b" } "#),
        ] {
            assert_eq!(for_model(body.as_bytes(), "a\"b").unwrap(), becomes.as_bytes());
        }
    }
}
