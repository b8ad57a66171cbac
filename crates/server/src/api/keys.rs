//! Keys of applications: issue, list, revoke. A secret leaves the server once, in the answer that made it.

use axum::Json;
use axum::extract::{Path, State};
use dh_core::{Kind, Role};

use super::{Failed, Shared};
use crate::wire::{KeyRequest, KeyView, NewKey, SCHEMA_VERSION};
use crate::{ADMIN_KEY, MODEL_KEY};

pub(super) async fn list(State(api): Shared) -> Json<Vec<KeyView>> {
    let infos = api.keys.keys().into_iter().filter(|info| info.stored);
    let view = |info: dh_guard::KeyInfo| KeyView {
        id: info.id,
        name: info.principal.name,
        role: info.principal.role,
        grant: info.grant.as_deref().cloned().unwrap_or_default(),
    };
    Json(infos.map(view).collect())
}

pub(super) async fn issue(
    State(api): Shared,
    body: Result<Json<KeyRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<NewKey>, Failed> {
    let Json(KeyRequest { name, grant }) = body.map_err(|error| Failed::new(Kind::Invalid, error.body_text()))?;
    if name == ADMIN_KEY || name == MODEL_KEY {
        return Err(Failed::new(Kind::Conflict, format!("`{name}` is the name of a key of the hall itself")));
    }
    let keys = api.keys.clone();
    // A key counts once it is synced to its file.
    let made = tokio::task::spawn_blocking(move || keys.issue_with(Role::Model, &name, Some(grant)));
    let key = made.await.map_err(|error| Failed::new(Kind::Internal, error.to_string()))?.map_err(failed)?;
    let secret = key.secret.expose().clone();
    Ok(Json(NewKey { schema_version: SCHEMA_VERSION, id: key.id, secret }))
}

pub(super) async fn revoke(State(api): Shared, Path(id): Path<String>) -> Result<Json<Vec<KeyView>>, Failed> {
    let keys = api.keys.clone();
    let kept = keys.keys().into_iter().find(|info| info.id == id);
    if kept.is_some_and(|info| info.principal.name == ADMIN_KEY || info.principal.name == MODEL_KEY) {
        return Err(Failed::new(Kind::Conflict, format!("`{id}` is a key of the hall itself")));
    }
    let gone = tokio::task::spawn_blocking(move || keys.revoke(&id));
    gone.await.map_err(|error| Failed::new(Kind::Internal, error.to_string()))?.map_err(failed)?;
    Ok(list(State(api)).await)
}

fn failed(error: dh_guard::Error) -> Failed {
    crate::Error::from(error).into()
}
