//! Secrets that the hall keeps for jobs: set, list, remove. A value comes in and does not go out again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use dh_core::Kind;

use super::{Api, Caller, Failed, Shared};
use crate::Error;
use crate::wire::{SCHEMA_VERSION, SecretList, SecretRequest};

pub(super) async fn list(State(api): Shared) -> Result<Json<SecretList>, Failed> {
    let secrets = blocking(&api, |api| api.secrets.names()).await?;
    Ok(Json(SecretList { schema_version: SCHEMA_VERSION, secrets }))
}

pub(super) async fn set(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    body: Result<Json<SecretRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<SecretList>, Failed> {
    // What the parser says may quote what was sent.
    let Json(SecretRequest { name, value }) = body
        .map_err(|_quotes| Failed::new(Kind::Invalid, "the body is not `{\"name\": \"...\", \"value\": \"...\"}`"))?;
    tracing::info!(by = caller.name, name, "a secret is set");
    let value = value.into_secret();
    blocking(&api, move |api| api.secrets.keep(&name, &value)).await?;
    list(State(api)).await
}

pub(super) async fn remove(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<SecretList>, Failed> {
    tracing::info!(by = caller.name, name, "a secret is removed");
    blocking(&api, move |api| api.secrets.remove(&name)).await?;
    list(State(api)).await
}

/// Runs what reaches the journal off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    api: &Arc<Api>,
    work: impl FnOnce(&Api) -> Result<T, Error> + Send + 'static,
) -> Result<T, Failed> {
    let api = Arc::clone(api);
    let done = tokio::task::spawn_blocking(move || work(&api)).await;
    Ok(done.map_err(|error| Failed::new(Kind::Internal, error.to_string()))??)
}
