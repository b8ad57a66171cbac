//! The hall as a whole, and its nodes.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use dh_core::{JobId, NodeId};
use dh_hall::{Event, Health, Job, Node};
use serde::Deserialize;

use super::{Caller, Failed, Shared, services};
use crate::Error;
use crate::wire::{NodeJobs, NodeList, NodeView, SCHEMA_VERSION, Status, StoreView, jobs_by_state};

/// Jobs up to which the state's hash is told unasked.
const HASHED_UNASKED: u64 = 1_000;

/// What of the status costs something.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Also the hash of the whole state.
    #[serde(default)]
    hash: bool,
}

pub(super) async fn status(State(api): Shared, Query(wish): Query<Wish>) -> Result<Json<Status>, Failed> {
    let mut status = of(&api);
    if wish.hash || api.hall.read().known_jobs() <= HASHED_UNASKED {
        // It reads the whole state, which takes a while with a long queue.
        let hall = api.hall.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let hall = hall.read();
            (hall.steps(), hall.state_hash())
        });
        let (events, hash) = hashed.await.map_err(|error| Failed::new(dh_core::Kind::Internal, error.to_string()))?;
        status.events = events;
        status.state_hash = Some(hash);
    }
    Ok(Json(status))
}

/// The state of the hall at this moment.
pub(crate) fn of(api: &super::Api) -> Status {
    let services = services::views(api);
    let store = store_view(api);
    let hall = api.hall.read();
    let nodes = hall.nodes().map(|(_, node)| node_view(node)).collect();
    Status {
        schema_version: SCHEMA_VERSION,
        name: api.settings.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        listeners: api.listeners.clone(),
        uptime_seconds: api.started.elapsed().as_secs(),
        resident_bytes: resident_bytes(),
        events: hall.steps(),
        state_hash: None,
        nodes,
        jobs: jobs_by_state(&hall),
        services,
        store,
        not_enforced: api.not_enforced.clone(),
    }
}

fn node_view(node: &Node) -> NodeView {
    NodeView {
        name: node.spec.name.clone(),
        pool: node.spec.pool.clone(),
        slots: node.spec.slots,
        busy: node.taken(),
        health: match (&node.down, node.health) {
            (Some(_), _) => "down".to_owned(),
            (None, Health::Up) => "up".to_owned(),
            (None, Health::Drained) => "drained".to_owned(),
        },
        host: None,
        why: node.down.clone(),
    }
}

pub(super) async fn nodes(State(api): Shared) -> Json<NodeList> {
    Json(node_list(&api, None))
}

/// All nodes, or one, each with the jobs on it.
fn node_list(api: &super::Api, only: Option<NodeId>) -> NodeList {
    let hosts: BTreeMap<NodeId, String> = api.executor.hosts().into_iter().map(|host| (host.node, host.name)).collect();
    let hall = api.hall.read();
    let mut jobs: BTreeMap<NodeId, BTreeSet<JobId>> = BTreeMap::new();
    for attempt in hall.active_jobs().filter_map(Job::active) {
        for placed in &attempt.placement {
            jobs.entry(placed.node).or_default().insert(attempt.id.job);
        }
    }
    let nodes = hall.nodes().filter(|(id, _)| only.is_none_or(|only| only == *id)).map(|(id, node)| NodeJobs {
        node: NodeView { host: hosts.get(&id).cloned(), ..node_view(node) },
        jobs: jobs.get(&id).map(|jobs| jobs.iter().copied().collect()).unwrap_or_default(),
    });
    NodeList { schema_version: SCHEMA_VERSION, nodes: nodes.collect() }
}

fn store_view(api: &super::Api) -> StoreView {
    let stats = api.store.stats();
    StoreView {
        buckets: stats.buckets,
        objects: stats.objects,
        logical_bytes: stats.logical_bytes,
        stored_bytes: stats.stored_bytes,
        cache_hits: stats.cache_hits,
        cache_misses: stats.cache_misses,
        read_bytes: stats.bytes_out,
        written_bytes: stats.bytes_in,
    }
}

/// Resident memory of this process, from `/proc/self/statm`.
pub(crate) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages.saturating_mul(u64::try_from(rustix::param::page_size()).unwrap_or(4096))
}

/// Whether a node is to be kept free of new work.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    drained: bool,
}

pub(super) async fn drain(
    State(api): Shared,
    Path(name): Path<String>,
    body: Result<Json<Drain>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<NodeList>, Failed> {
    let Json(Drain { drained }) = body.map_err(|error| Failed::new(dh_core::Kind::Invalid, error.body_text()))?;
    let node: Option<NodeId> = api.hall.read().nodes().find(|(_, node)| node.spec.name == name).map(|(id, _)| id);
    let node = node.ok_or_else(|| Error::NotFound(format!("node `{name}`")))?;
    api.hall.ask(Event::NodeDrained { node, drained }).await?;
    Ok(Json(node_list(&api, Some(node))))
}

pub(super) async fn shutdown(
    State(api): Shared,
    Extension(Caller(caller)): Extension<Caller>,
) -> Json<serde_json::Value> {
    tracing::info!(by = caller.name, "asked to stop");
    api.stop.send_replace(true);
    Json(serde_json::json!({ "stopping": true }))
}
