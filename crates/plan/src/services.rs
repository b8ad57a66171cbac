//! Model services: how each is best served on its pool, what it then answers in, draws and costs, and what cannot be had.
//!
//! Invariant: a service that cannot be predicted (an engine at a URL, a machine whose accelerators nobody knows) is said to be
//! so and stops no plan; every number of one that can be is in the ledger under `service.NAME`.

mod case;
mod entered;
mod pools;
mod words;

use dh_blueprint::{Service, ServiceSource, WorkloadKind};
use dh_perf::deploy::{Answer, Choice, Speed};
use dh_units::{Joules, Seconds, Usd};
use serde::Serialize;

use crate::book::Book;
use crate::networks::NetworkPlan;
use crate::pools::PoolPlan;
use crate::trainings::TrainingPlan;
use case::Ready;

pub use pools::PoolDemand;

/// Ways of the front that a plan keeps.
const FRONT_MOST: usize = 24;

/// What the plan says of one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// The model, as far as it is known.
    pub model: String,
    /// The pool it runs on.
    pub pool: Option<String>,
    /// The pool's accelerators.
    pub accelerator: Option<String>,
    /// Accelerators that it may use.
    pub available: u64,
    /// Why nothing can be predicted.
    pub unpredicted: Option<String>,
    /// The best way to serve it.
    pub best: Option<Way>,
    /// What cannot be had, by how much, and what would do.
    pub missed: Option<String>,
    /// The next best way, and why it lost.
    pub runner_up: Option<String>,
    /// What another format would save.
    pub hint: Option<String>,
    /// Ways that no other beats, the cheapest first.
    pub front: Vec<Way>,
    /// How fast one replica of the best way is, by requests in flight.
    #[serde(skip)]
    pub speeds: Vec<Speed>,
}

/// One way to serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// How a replica is laid out: `tp 4`.
    pub layout: String,
    /// Replicas; with two sides, those that answer.
    pub replicas: u64,
    /// Replicas that only read prompts.
    pub prefill_replicas: u64,
    /// Accelerators of all of them.
    pub accelerators: u64,
    /// Requests that one replica answers at once.
    pub concurrency: f64,
    /// Requests a second.
    pub requests_per_second: f64,
    /// Requests a second that would still keep the targets.
    pub capacity_per_second: f64,
    /// Until the first token, in the mean.
    #[serde(rename = "ttft_seconds")]
    pub ttft: Interval,
    /// Per further token, in the mean.
    #[serde(rename = "tpot_seconds")]
    pub tpot: Interval,
    /// Until the first token, for 99 of 100 requests.
    #[serde(rename = "ttft_p99_seconds")]
    pub ttft_p99: Seconds,
    /// Per further token, for 99 of 100 requests.
    #[serde(rename = "tpot_p99_seconds")]
    pub tpot_p99: Seconds,
    /// Generated tokens a second.
    pub tokens_per_second: f64,
    /// Energy of a million generated tokens.
    #[serde(rename = "joules_per_million_tokens")]
    pub energy: Option<Joules>,
    /// Price of a million generated tokens.
    #[serde(rename = "usd_per_million_tokens")]
    pub cost: Option<Usd>,
    /// Whether it keeps the targets.
    pub keeps: bool,
    /// Why no published run is like this; empty inside the calibrated range.
    pub outside_calibrated_range: Vec<&'static str>,
}

/// A time and the interval that four of five measurements should lie in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The time.
    pub value: Seconds,
    /// The low end.
    pub low: Seconds,
    /// The high end.
    pub high: Seconds,
}

impl Way {
    /// `3 x (tp 4)`; with two sides how many of each.
    pub fn replicas_and_layout(&self) -> String {
        if self.prefill_replicas > 0 { self.layout.clone() } else { format!("{} x ({})", self.replicas, self.layout) }
    }

    fn of(choice: &Choice) -> Self {
        let interval = |time: dh_perf::serving::Within| Interval { value: time.value, low: time.low, high: time.high };
        Self {
            layout: words::layout(choice),
            replicas: choice.replicas,
            prefill_replicas: choice.prefill.map_or(0, |side| side.replicas),
            accelerators: choice.accelerators,
            concurrency: choice.concurrency,
            requests_per_second: choice.rate,
            capacity_per_second: choice.capacity,
            ttft: interval(choice.ttft),
            tpot: interval(choice.tpot),
            ttft_p99: choice.ttft_99,
            tpot_p99: choice.tpot_99,
            tokens_per_second: choice.tokens_per_second,
            energy: choice.energy,
            cost: choice.cost,
            keeps: choice.keeps,
            outside_calibrated_range: choice.outside.clone(),
        }
    }
}

/// What services need to know of the rest of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hall<'a> {
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) networks: &'a [NetworkPlan],
    pub(crate) trainings: &'a [TrainingPlan],
}

/// All services under `service.NAME`, and what pools are asked for.
pub(crate) fn services(book: &mut Book<'_>, hall: Hall<'_>) -> (Vec<ServicePlan>, Vec<PoolDemand>) {
    let settings = book.settings;
    let plans: Vec<ServicePlan> =
        settings.services.iter().map(|(name, service)| one(book, name, service, hall)).collect();
    let demands = pools::demands(book, hall, &plans);
    (plans, demands)
}

fn one(book: &mut Book<'_>, name: &str, service: &Service, hall: Hall<'_>) -> ServicePlan {
    let mut plan = ServicePlan {
        name: name.to_owned(),
        model: model(book, service),
        pool: None,
        accelerator: None,
        available: 0,
        unpredicted: None,
        best: None,
        missed: None,
        runner_up: None,
        hint: None,
        front: Vec::new(),
        speeds: Vec::new(),
    };
    let pool = match service.pool.as_deref() {
        Some(wanted) => hall.pools.iter().find(|pool| pool.name == wanted),
        None => largest(hall.pools),
    };
    if !matches!(service.source, ServiceSource::Url(_)) {
        plan.pool = pool.map(|pool| pool.name.clone());
        plan.accelerator = pool.and_then(|pool| pool.accelerator.clone());
    }
    match case::ready(book, name, service, pool, hall) {
        Ok(ready) => searched(book, service, &ready, &mut plan),
        Err(case::Why::Unknown(why)) => plan.unpredicted = Some(why),
        Err(case::Why::Missed(why)) => plan.missed = Some(why),
    }
    plan
}

/// Searches, enters and words what `ready` asks.
fn searched(book: &mut Book<'_>, service: &Service, ready: &Ready, plan: &mut ServicePlan) {
    plan.available = ready.space.accelerators;
    let answer = match ready.search(&ready.space) {
        Ok(answer) => answer,
        Err(error) => {
            plan.unpredicted = Some(error.to_string());
            return;
        }
    };
    plan.front = thinned(&answer);
    let other = words::other_formats(service, ready, &answer);
    match &answer.best {
        Ok(best) => {
            entered::best(book, ready, service, best, &answer);
            plan.missed = words::too_many(ready, best, &answer, other.as_deref());
            plan.best = Some(Way::of(best));
            plan.speeds = ready.speeds(best);
            plan.runner_up = answer.runner_up.as_ref().map(|other| words::runner_up(ready, best, other));
            plan.hint = other;
        }
        Err(obstacle) => plan.missed = Some(words::missed(ready, obstacle, other.as_deref())),
    }
}

/// The front with at most [`FRONT_MOST`] ways, evenly picked, ends included.
fn thinned(answer: &Answer) -> Vec<Way> {
    let all = &answer.front;
    let picked = |place: usize| {
        let step = all.len().saturating_sub(1) * place;
        all.get(step / (FRONT_MOST - 1)).map(Way::of)
    };
    if all.len() <= FRONT_MOST {
        all.iter().map(Way::of).collect()
    } else {
        (0..FRONT_MOST).filter_map(picked).collect()
    }
}

/// The pool with the most accelerators; of equal ones the first by name.
fn largest(pools: &[PoolPlan]) -> Option<&PoolPlan> {
    let most = pools.iter().map(|pool| pool.accelerators).max()?;
    pools.iter().find(|pool| pool.accelerators == most)
}

/// The model in words.
fn model(book: &Book<'_>, service: &Service) -> String {
    match &service.source {
        ServiceSource::Model(model) => model.clone(),
        ServiceSource::Workload(workload) => {
            pretrained(book, workload).unwrap_or_else(|| format!("of workload {workload}"))
        }
        ServiceSource::Url(url) => url.clone(),
    }
}

/// The model that a workload pretrains.
fn pretrained(book: &Book<'_>, workload: &str) -> Option<String> {
    match &book.settings.workloads.get(workload)?.kind {
        WorkloadKind::Pretrain(training) => Some(training.model.clone()),
        WorkloadKind::Train(_) | WorkloadKind::Command(_) => None,
    }
}
