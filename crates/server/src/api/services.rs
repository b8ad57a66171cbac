//! Model services: start, list, stop.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use dh_blueprint::ServiceSource;
use dh_core::{JobId, Kind};
use dh_hall::{Event, JobKind, JobSpec, Outcome, Phase, Protocol};

use super::{Api, Caller, Failed, Shared};
use crate::Error;
use crate::launch::{self, CHECKPOINTS, Resolved, checkpoint_prefix};
use crate::wire::{Accepted, SCHEMA_VERSION, ServiceRequest, ServiceView};

/// Copies of one service on one hall; more are a mistake.
const REPLICAS_MAX: u32 = 1_024;

pub(super) async fn start(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    body: Result<Json<ServiceRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Accepted>, Failed> {
    let Json(request) = body.map_err(|error| Failed::new(Kind::Invalid, error.body_text()))?;
    let jobs = start_service(&api, &request, &caller.name).await?;
    Ok(Json(Accepted { schema_version: SCHEMA_VERSION, jobs, plan: None }))
}

/// Starts every replica of a service that has its model.
pub(crate) async fn start_service(api: &Arc<Api>, request: &ServiceRequest, by: &str) -> Result<Vec<JobId>, Error> {
    let running = views(api).into_iter().find(|view| view.service == request.service && view.job.is_some());
    if let Some(view) = running {
        let job = view.job.map_or_else(String::new, |job| job.to_string());
        return Err(Error::Conflict(format!("service `{}` runs already, as {job}", request.service)));
    }
    add_replicas(api, request, by).await
}

/// Starts replicas of a service that has its model, beside those that run.
pub(crate) async fn add_replicas(api: &Arc<Api>, request: &ServiceRequest, by: &str) -> Result<Vec<JobId>, Error> {
    let (model, bucket, key, protocol, replicas) = match launch::service(&api.settings, request)? {
        Resolved::File { model, bucket, key, protocol, replicas } => (model, bucket, key, protocol, replicas),
        Resolved::Workload { model, workload, replicas } => {
            let job = newest_success(api, &workload).ok_or_else(|| {
                Error::Conflict(format!("workload `{workload}` has no finished run yet: `datahall submit {workload}`"))
            })?;
            let key = format!("{}/model.safetensors", checkpoint_prefix(&workload, &job.0.to_string()));
            (model, CHECKPOINTS.to_owned(), key, Protocol::Inference, replicas)
        }
        Resolved::Url { .. } => {
            return Err(Error::Conflict(format!("service `{}` is served from elsewhere already", request.service)));
        }
    };
    if replicas == 0 || replicas > REPLICAS_MAX {
        return Err(Error::Invalid(format!("a service has 1 to {REPLICAS_MAX} replicas")));
    }
    if api.store.head(&bucket, &key).await.is_err() {
        return Err(Error::Conflict(format!(
            "the model s3://{bucket}/{key} is not in the store yet; `datahall serve {}` can fetch it",
            request.service
        )));
    }
    let mut jobs = Vec::new();
    for _ in 0..replicas {
        let spec: JobSpec = launch::engine(&api.settings, &request.service, &model, &bucket, &key, protocol);
        jobs.push(api.hall.submit(spec, by.to_owned(), None).await?);
    }
    Ok(jobs)
}

fn newest_success(api: &Api, workload: &str) -> Option<JobId> {
    let hall = api.hall.read();
    hall.jobs()
        .rev()
        .find(|job| {
            job.spec.workload.as_deref() == Some(workload)
                && matches!(job.phase, Phase::Done { outcome: Outcome::Succeeded, .. })
        })
        .map(|job| job.id)
}

pub(super) async fn list(State(api): Shared) -> Json<Vec<ServiceView>> {
    Json(views(&api))
}

/// What runs, and what the blueprint declares and does not run.
pub(crate) fn views(api: &Api) -> Vec<ServiceView> {
    let hall = api.hall.read();
    let mut views: Vec<ServiceView> = hall
        .open_services()
        .filter_map(|job| {
            let JobKind::Service { service, model, protocol } = &job.spec.kind else { return None };
            let state = if job.word() == "running" { "ready" } else { job.word() };
            Some(ServiceView {
                service: service.clone(),
                model: model.clone(),
                protocol: *protocol,
                state: state.to_owned(),
                job: Some(job.id),
                because: job.history.last().map(|record| record.because.clone()),
            })
        })
        .collect();
    for (name, service) in &api.settings.services {
        if views.iter().any(|view| view.service == *name) {
            continue;
        }
        let (protocol, state, because) = match &service.source {
            ServiceSource::Url(url) => (Protocol::Chat, "external", Some(format!("served at {url}"))),
            ServiceSource::Model(model) => (
                Protocol::Chat,
                "declared",
                Some(format!("not started; `datahall serve {name}` fetches {model} and starts it")),
            ),
            ServiceSource::Workload(workload) => (
                Protocol::Inference,
                "declared",
                Some(format!("not started; `datahall submit {workload}` trains it, `datahall serve {name}` starts it")),
            ),
        };
        let model = match &service.source {
            ServiceSource::Model(model) => model.clone(),
            ServiceSource::Url(_) | ServiceSource::Workload(_) => name.clone(),
        };
        let state = state.to_owned();
        views.push(ServiceView { service: name.clone(), model, protocol, state, job: None, because });
    }
    views
}

pub(super) async fn stop(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Path(service): Path<String>,
) -> Result<Json<Vec<ServiceView>>, Failed> {
    let jobs: Vec<JobId> =
        views(&api).into_iter().filter(|view| view.service == service).filter_map(|view| view.job).collect();
    if jobs.is_empty() {
        return Err(Error::NotFound(format!("running service `{service}`")).into());
    }
    for job in jobs {
        api.hall.ask(Event::CancelRequested { job, by: caller.name.clone() }).await?;
    }
    Ok(Json(views(&api)))
}
