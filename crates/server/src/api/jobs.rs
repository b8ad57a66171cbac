//! Jobs: submit, list, show, explain, cancel, and break on purpose.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use dh_core::{JobId, Kind, Rank, TaskId};
use dh_hall::{Event, Job, Why};
use serde::Deserialize;

use super::{Caller, Failed, Shared};
use crate::wire::{Accepted, JobList, JobRequest, JobView, SCHEMA_VERSION};
use crate::{Error, launch};

/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 200;

pub(super) async fn submit(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Json<JobRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Accepted>, Failed> {
    let Json(request) = body.map_err(|error| Failed::new(Kind::Invalid, error.body_text()))?;
    let key = match headers.get("idempotency-key").map(|value| value.to_str()) {
        None => None,
        Some(Ok(key)) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Some(format!("{}:{key}", caller.name)),
        Some(_) => {
            let message = format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible characters");
            return Err(Failed::new(Kind::Invalid, message));
        }
    };
    let spec = launch::job(&api.settings, request)?;
    let job = api.hall.submit(spec, caller.name, key).await?;
    Ok(Json(Accepted { schema_version: SCHEMA_VERSION, jobs: vec![job] }))
}

/// Which jobs to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// At most so many; all if absent.
    limit: Option<usize>,
    /// Only jobs with larger numbers, oldest first.
    after: Option<u64>,
    /// Only jobs with smaller numbers, newest first; 0 begins with the newest.
    before: Option<u64>,
    /// Only jobs that are not over.
    #[serde(default)]
    open: bool,
    /// Only jobs in this state.
    state: Option<String>,
    /// Only jobs of this queue.
    queue: Option<String>,
}

pub(super) async fn list(State(api): Shared, Query(page): Query<Page>) -> Json<JobList> {
    let limit = page.limit.unwrap_or(usize::MAX);
    let wanted = |job: &&Job| {
        (!page.open || job.open())
            && page.state.as_ref().is_none_or(|state| job.word() == state)
            && page.queue.as_ref().is_none_or(|queue| job.spec.queue == *queue)
    };
    let hall = api.hall.read();
    let jobs: Vec<JobView> = match (page.before, page.after) {
        (Some(before), _) => {
            let older = |job: &&Job| before == 0 || job.id.0 < before;
            hall.jobs().rev().filter(older).filter(wanted).take(limit).map(JobView::of).collect()
        }
        (None, after) => {
            let newer = |job: &&Job| job.id.0 > after.unwrap_or(0);
            hall.jobs().filter(newer).filter(wanted).take(limit).map(JobView::of).collect()
        }
    };
    drop(hall);
    let next = jobs.last().filter(|_| jobs.len() == limit).map(|job| job.id);
    Json(JobList { schema_version: SCHEMA_VERSION, jobs, next })
}

pub(super) async fn show(State(api): Shared, Path(job): Path<String>) -> Result<Json<JobView>, Failed> {
    let id = parse(&job)?;
    let view = api.hall.read().job(id).map(JobView::of);
    Ok(Json(view.ok_or_else(|| Error::NotFound(id.to_string()))?))
}

pub(super) async fn why(State(api): Shared, Path(job): Path<String>) -> Result<Json<Why>, Failed> {
    let id = parse(&job)?;
    let why = api.hall.read().why(id);
    Ok(Json(why.ok_or_else(|| Error::NotFound(id.to_string()))?))
}

pub(super) async fn cancel(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Path(job): Path<String>,
) -> Result<Json<JobView>, Failed> {
    let id = parse(&job)?;
    let open = api.hall.read().job(id).map(dh_hall::Job::open);
    match open {
        None => return Err(Error::NotFound(id.to_string()).into()),
        Some(false) => return Err(Error::Conflict(format!("{id} is over already")).into()),
        Some(true) => api.hall.ask(Event::CancelRequested { job: id, by: caller.name }).await?,
    }
    show(State(api), Path(job)).await
}

/// A fault on purpose: the rank's processes are killed as if its machine had taken them down.
pub(super) async fn kill_rank(
    State(api): Shared,
    Path((job, rank)): Path<(String, u32)>,
) -> Result<Json<JobView>, Failed> {
    let id = parse(&job)?;
    let attempt = api.hall.read().job(id).map(|job| job.active().map(|attempt| attempt.id));
    let attempt = attempt
        .ok_or_else(|| Error::NotFound(id.to_string()))?
        .ok_or_else(|| Error::Conflict(format!("{id} does not run")))?;
    let executor = std::sync::Arc::clone(&api.executor);
    let task = TaskId { attempt, rank: Rank(rank) };
    tokio::task::spawn_blocking(move || executor.kill_rank(task))
        .await
        .map_err(|error| Failed::new(Kind::Internal, error.to_string()))?
        .map_err(Error::from)?;
    show(State(api), Path(job)).await
}

pub(super) fn parse(job: &str) -> Result<JobId, Failed> {
    job.parse().map_err(|error: dh_core::id::BadJobId| Failed::new(Kind::Invalid, error.to_string()))
}
