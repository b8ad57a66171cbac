//! `POST /v1/ledger`: where other gateways lease from the one that keeps the ledger. For keys with the role `admin` only.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use dh_policy::ledger::{Ask, Bounds};
use http::HeaderMap;

use super::Keeper;
use crate::{Error, Gateway, access};

/// The route, and its path.
pub(crate) mod serve {
    pub(crate) use super::routes;
    pub(crate) const PATH: &str = "/v1/ledger";
}

pub(crate) fn routes(gateway: &Gateway) -> Router {
    let Some(Keeper::Kept(_)) = gateway.shared.accounts.shares.as_ref().map(|shares| &shares.keeper) else {
        return Router::new();
    };
    Router::new().route(serve::PATH, post(lend)).with_state(gateway.clone())
}

async fn lend(State(gateway): State<Gateway>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&gateway, &headers, &body).await {
        Ok(answer) => answer,
        Err(error) => error.into_response(),
    }
}

async fn answer(gateway: &Gateway, headers: &HeaderMap, body: &Bytes) -> Result<Response, Error> {
    let shared = &gateway.shared;
    let principal = shared.auth.bearer(access::bearer(headers).ok_or(Error::NoKey)?).ok_or(Error::UnknownKey)?;
    if !principal.may_operate() {
        return Err(Error::ForbiddenLedger(principal.name));
    }
    let ask: Ask = serde_json::from_slice(body).map_err(|error| Error::NotJson(error.to_string()))?;
    let Some(Keeper::Kept(kept)) = shared.accounts.shares.as_ref().map(|shares| &shares.keeper) else {
        return Err(Error::NoLedger("this gateway keeps none".to_owned()));
    };
    // Bounds are those that the keeper's own keys have.
    let grant = shared.auth.grant(&ask.caller).ok_or_else(|| Error::NoAccount(crate::error::shown(&ask.caller, 80)))?;
    let answer = kept.ask(shared.clock.now(), Bounds::from(&*grant), &ask).await?;
    Ok(Json(answer).into_response())
}
