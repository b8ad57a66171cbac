//! What the ranks of a running job use at this moment, as the executor counts it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use dh_core::Kind;

use super::{Failed, Shared, jobs};
use crate::Error;
use crate::wire::{JobUsage, RankUse, SCHEMA_VERSION};

pub(super) async fn usage(State(api): Shared, Path(job): Path<String>) -> Result<Json<JobUsage>, Failed> {
    let id = jobs::parse(&job)?;
    let (attempt, limit, names) = {
        let hall = api.hall.read();
        let job = hall.job(id).ok_or_else(|| Error::NotFound(id.to_string()))?;
        let attempt = job.active().ok_or_else(|| Error::Conflict(format!("{id} does not run")))?.clone();
        let limit = job.spec.time_limit;
        let names: std::collections::BTreeMap<_, _> =
            hall.nodes().map(|(id, node)| (id, node.spec.name.clone())).collect();
        (attempt, limit, names)
    };
    let (executor, asked) = (Arc::clone(&api.executor), attempt.id);
    let used = tokio::task::spawn_blocking(move || executor.usage(asked))
        .await
        .map_err(|error| Failed::new(Kind::Internal, error.to_string()))?
        // Between the slots and the first process there is nothing to count.
        .unwrap_or_default();
    let node_of = |rank| {
        let placed = attempt.placement.iter().find(|placed| placed.rank == rank);
        placed.and_then(|placed| names.get(&placed.node)).cloned().unwrap_or_default()
    };
    let ranks = used.into_iter().map(|one| RankUse {
        rank: one.rank.0,
        node: node_of(one.rank),
        cpu_seconds: one.cpu.0,
        resident_bytes: one.resident.0,
        processes: one.processes,
    });
    Ok(Json(JobUsage {
        schema_version: SCHEMA_VERSION,
        attempt: attempt.id.attempt,
        started_ns: attempt.started.0,
        ends_ns: limit.map(|limit| attempt.started.after(limit).0),
        ranks: ranks.collect(),
    }))
}
