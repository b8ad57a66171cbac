//! Services whose replicas follow their load: the gateway says how many are wanted, and the hall is asked for them.
//!
//! *Invariant*: replicas come and go as jobs of the hall, submitted and cancelled through its log like those of a person, so
//! queues, places and restarts hold for them. Nothing is decided here but which replica goes: the newest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dh_blueprint::{Service, ServiceFacts, ServiceRole, ServiceScale, ServiceSource, Settings};
use dh_core::JobId;
use dh_core::time::Span;
use dh_gateway::{Energy, EngineFacts, EngineKind, EngineRole, Gateway, KvEvents, Price, ScaledModel};
use dh_hall::{Event, JobKind};
use dh_policy::scaling::Targets;
use dh_units::{Seconds, whole};
use tokio::time::Instant;

use crate::Error;
use crate::api::{self, Api};
use crate::wire::ServiceRequest;

/// Under this name it asks the hall.
const BY: &str = "scaling";
const LOOK: Duration = Duration::from_millis(200);
/// After replicas were ordered, and after they could not be.
const ORDERED: Duration = Duration::from_secs(2);
const REFUSED: Duration = Duration::from_secs(15);

/// What the gateway is told of a service's engines.
pub(crate) fn facts(said: &ServiceFacts) -> EngineFacts {
    let millionths = |value: f64| whole((value * 1e6).round());
    let price = said.usd_prompt.or(said.usd_answer).map(|_| {
        let prompt = millionths(said.usd_prompt.unwrap_or(0.0));
        Price { prompt, cached: prompt, answer: millionths(said.usd_answer.unwrap_or(0.0)) }
    });
    let energy = said.joules_prompt.or(said.joules_answer).map(|_| Energy {
        prompt: millionths(said.joules_prompt.unwrap_or(0.0)),
        answer: millionths(said.joules_answer.unwrap_or(0.0)),
    });
    EngineFacts {
        site: said.region.clone(),
        round_trip: said.round_trip.map_or(Duration::ZERO, |Seconds(time)| Duration::from_secs_f64(time.min(1e6))),
        egress_micro_usd: said.egress.map_or(0, millionths),
        data_class: said.data_class,
        price,
        energy,
        role: match said.role {
            ServiceRole::Both => EngineRole::Both,
            ServiceRole::Prefill => EngineRole::Prefill,
            ServiceRole::Decode => EngineRole::Decode,
        },
        kv_events: said
            .kv_events
            .as_ref()
            .map(|endpoint| KvEvents { endpoint: endpoint.clone(), replay: said.kv_replay.clone() }),
    }
}

/// The model that requests for a service of the hall ask for, and what its engines speak.
pub(crate) fn model_of(name: &str, service: &Service) -> Option<(String, EngineKind)> {
    match &service.source {
        ServiceSource::Model(model) => Some((model.clone(), EngineKind::Chat)),
        ServiceSource::Workload(_) => Some((name.to_owned(), EngineKind::Classifier)),
        ServiceSource::Url(_) => None,
    }
}

/// What is known of the engines that the hall runs, by their models.
pub(crate) fn facts_of_models(settings: &Settings) -> BTreeMap<String, EngineFacts> {
    let of = |(name, service): (&String, &Service)| Some((model_of(name, service)?.0, facts(&service.facts)));
    settings.services.iter().filter_map(of).collect()
}

/// Services whose replicas follow their load.
fn scaled(settings: &Settings) -> Vec<(String, ServiceScale, (String, EngineKind))> {
    let of = |(name, service): (&String, &Service)| Some((name.clone(), service.scale?, model_of(name, service)?));
    settings.services.iter().filter_map(of).collect()
}

/// The jobs of a service that run or are going to, in order.
fn replicas(api: &Api, service: &str) -> Vec<JobId> {
    let hall = api.hall.read();
    let open = hall.open_services().filter(|job| job.word() != "stopping");
    let of = |kind: &JobKind| matches!(kind, JobKind::Service { service: name, .. } if name == service);
    open.filter(|job| of(&job.spec.kind)).map(|job| job.id).collect()
}

/// Tells the gateway which models are scaled, beginning with the replicas that run already.
pub(crate) fn declare(api: &Api, gateway: &Gateway) -> Result<(), Error> {
    let nanos = |Seconds(time): Seconds| Span(whole((time.min(1e9) * 1e9).round()));
    let model = |(service, scale, (model, kind)): (String, ServiceScale, (String, EngineKind))| {
        let ServiceScale { min, max, ttft, idle_after } = scale;
        let targets = Targets { min, max, ttft: nanos(ttft), idle_after: nanos(idle_after) };
        let start = u32::try_from(replicas(api, &service).len()).unwrap_or(u32::MAX).max(min);
        ScaledModel { model, kind, targets, start }
    };
    let models: Vec<ScaledModel> = scaled(&api.settings).into_iter().map(model).collect();
    Ok(gateway.scale_models(&models)?)
}

/// Asks the hall for what the gateway wants, for ever.
pub(crate) async fn run(api: Arc<Api>, gateway: Gateway) {
    let services = scaled(&api.settings);
    if services.is_empty() {
        return std::future::pending().await;
    }
    let mut turns = tokio::time::interval(LOOK);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut not_before: BTreeMap<&str, Instant> = BTreeMap::new();
    loop {
        turns.tick().await;
        let wanted: BTreeMap<String, u32> =
            gateway.scaling().into_iter().map(|status| (status.model, status.wanted.replicas)).collect();
        for (service, _, (model, _)) in &services {
            let Some(wanted) = wanted.get(model).and_then(|wanted| usize::try_from(*wanted).ok()) else { continue };
            let there = replicas(&api, service);
            let more = wanted.saturating_sub(there.len());
            let later = not_before.get(service.as_str()).is_some_and(|then| Instant::now() < *then);
            if more > 0 && !later {
                let pause = if order(&api, service, more).await { ORDERED } else { REFUSED };
                not_before.insert(service, Instant::now() + pause);
            }
            for job in there.into_iter().skip(wanted) {
                if api.hall.ask(Event::CancelRequested { job, by: BY.to_owned() }).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the hall took so many more replicas.
async fn order(api: &Arc<Api>, service: &str, more: usize) -> bool {
    let request = ServiceRequest {
        service: service.to_owned(),
        model: None,
        source: None,
        protocol: None,
        replicas: Some(u32::try_from(more).unwrap_or(u32::MAX)),
    };
    let ordered = api::add_replicas(api, &request, BY).await;
    if let Err(error) = &ordered {
        // Requests that wait for it are told when their time is over.
        tracing::warn!(service, %error, "no replica can be started");
    }
    ordered.is_ok()
}
