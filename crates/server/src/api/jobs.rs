//! Jobs: submit, list, show, explain, cancel, and break on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use dh_core::{JobId, Kind, NodeId, Rank, TaskId};
use dh_hall::{Event, Hall, Job, When, Why};
use serde::Deserialize;

use super::{Api, Caller, Failed, Shared, wishes};
use crate::wire::{Accepted, JobList, JobRequest, JobView, NodeRanks, SCHEMA_VERSION, StartPlan};
use crate::{Error, launch, trace};

/// Jobs that are looked at before others may have the hall.
const LOOKED_AT_ONCE: usize = 2_048;

/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 200;

pub(super) async fn submit(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
    body: Result<Json<JobRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<Accepted>, Failed> {
    let Json(mut request) = body.map_err(|error| Failed::new(Kind::Invalid, error.body_text()))?;
    let key = match headers.get("idempotency-key").map(|value| value.to_str()) {
        None => None,
        Some(Ok(key)) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Some(format!("{}:{key}", caller.name)),
        Some(_) => {
            let message = format!("an idempotency key has 1 to {KEY_BYTES_MAX} visible characters");
            return Err(Failed::new(Kind::Invalid, message));
        }
    };
    // The job goes on in its caller's trace, and so do its ranks.
    if let Some(callers) = headers.get("traceparent").and_then(|value| value.to_str().ok())
        && trace::Context::read(callers).is_some()
    {
        request.env.entry(trace::VARIABLE.to_owned()).or_insert_with(|| callers.trim().to_owned());
    }
    let known = key.as_deref().and_then(|key| api.hall.read().job_by_key(key));
    let job = match known {
        // It was checked and accepted before.
        Some(job) => job,
        None => accept(&api, request, caller.name, key).await?,
    };
    let plan = wish.plan.then(|| start_plan(&api.hall.read(), job)).flatten();
    Ok(Json(Accepted { schema_version: SCHEMA_VERSION, jobs: vec![job], plan }))
}

/// Looks up what the job names, keeps its secrets, and hands it to the hall.
async fn accept(api: &Arc<Api>, mut request: JobRequest, by: String, key: Option<String>) -> Result<JobId, Failed> {
    let (secrets, unchecked) = (std::mem::take(&mut request.secrets), request.unchecked);
    let mut spec = launch::job(&api.settings, request)?;
    wishes::name_nodes(api, &mut spec)?;
    if !unchecked {
        wishes::find_data(&api.store, &spec).await?;
    }
    if secrets.is_empty() {
        return Ok(api.hall.submit(spec, by, key).await?);
    }
    // A job that would be refused brings no secret along.
    api.hall.read().check(&spec).map_err(Error::from)?;
    let env = spec.env.clone();
    spec.secrets = super::secrets::blocking(api, move |api| api.secrets.take_in(secrets, &env)).await?;
    let names = spec.secrets.clone();
    let accepted = api.hall.submit(spec, by, key).await;
    api.secrets.arrived(&names);
    Ok(accepted?)
}

/// What is told of a job that was accepted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Also where and when it starts.
    #[serde(default)]
    plan: bool,
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
    let mut jobs = Vec::new();
    let mut from = match page.before {
        Some(0) => Some(u64::MAX),
        Some(before) => Some(before),
        None => page.after.or(Some(0)),
    };
    while let Some(at) = from.filter(|_| jobs.len() < limit) {
        from = page.look(&api.hall.read(), at, limit, &mut jobs);
    }
    let next = jobs.last().filter(|_| jobs.len() == limit).map(|job| job.id);
    Json(JobList { schema_version: SCHEMA_VERSION, jobs, next })
}

impl Page {
    fn wants(&self, job: &Job) -> bool {
        (!self.open || job.open())
            && self.state.as_ref().is_none_or(|state| job.word() == state)
            && self.queue.as_ref().is_none_or(|queue| job.spec.queue == *queue)
    }

    /// Takes what is wanted of the next jobs, up to `limit`; where it goes on if there may be more.
    fn look(&self, hall: &Hall, at: u64, limit: usize, jobs: &mut Vec<JobView>) -> Option<u64> {
        let mut last = None;
        let mut take = |mut next: Box<dyn Iterator<Item = &Job> + '_>| {
            for _ in 0..LOOKED_AT_ONCE {
                let job = next.next()?;
                last = Some(job.id.0);
                if self.wants(job) {
                    jobs.push(JobView::of(job));
                    if jobs.len() >= limit {
                        return None;
                    }
                }
            }
            last
        };
        if self.before.is_some() {
            take(Box::new(hall.jobs_before(JobId(at))))
        } else {
            take(Box::new(hall.jobs_after(JobId(at))))
        }
    }
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

pub(super) async fn plan(State(api): Shared, Path(job): Path<String>) -> Result<Json<StartPlan>, Failed> {
    let id = parse(&job)?;
    let plan = start_plan(&api.hall.read(), id);
    Ok(Json(plan.ok_or_else(|| Error::NotFound(id.to_string()))?))
}

fn start_plan(hall: &Hall, id: JobId) -> Option<StartPlan> {
    let forecast = hall.forecast(id)?;
    let names: BTreeMap<NodeId, &str> = match forecast.nodes.len() {
        0 => BTreeMap::new(),
        _ => hall.nodes().map(|(id, node)| (id, node.spec.name.as_str())).collect(),
    };
    let (starts, at) = match forecast.when {
        When::Started(at) => ("now", Some(at)),
        When::Expected(at) => ("expected", Some(at)),
        When::Unknown => ("unknown", None),
        When::Over => ("over", None),
    };
    let ranks = |(node, ranks): &(NodeId, u32)| NodeRanks {
        node: names.get(node).map_or_else(|| node.to_string(), |name| (*name).to_owned()),
        ranks: *ranks,
    };
    Some(StartPlan {
        state: forecast.state.to_owned(),
        starts: starts.to_owned(),
        at_ns: at.map(|at| at.0),
        nodes: forecast.nodes.iter().map(ranks).collect(),
        ahead: u64::try_from(forecast.ahead).unwrap_or(u64::MAX),
        because: forecast.because,
    })
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
    let executor = Arc::clone(&api.executor);
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
