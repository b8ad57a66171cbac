//! What a job used of energy: by the accelerators' own counters where a driver has them, else from the rating of the nodes.
//!
//! An estimate takes for each slot its share of the node's rated power times the pool's load, for as long as the job held it. Of
//! ended attempts nobody knows any more on which nodes they were: the mean of the hall's slots stands for theirs.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use dh_blueprint::{Pool, Settings};
use dh_core::SimTime;
use dh_hall::{Attempt, Hall, Job, JobSpec, Part};
use dh_units::real;

use super::{Api, Failed, Shared, jobs};
use crate::Error;
use crate::wire::{EnergyAttempt, EnergyView, SCHEMA_VERSION};

pub(super) async fn energy(State(api): Shared, Path(job): Path<String>) -> Result<Json<EnergyView>, Failed> {
    let id = jobs::parse(&job)?;
    // Reading a driver's counters takes milliseconds.
    let view = tokio::task::spawn_blocking(move || {
        let job = api.hall.read().job(id).cloned()?;
        Some(view(&api, &job))
    });
    let view = view.await.map_err(|error| Failed::new(dh_core::Kind::Internal, error.to_string()))?;
    Ok(Json(view.ok_or_else(|| Error::NotFound(id.to_string()))?))
}

fn view(api: &Api, job: &Job) -> EnergyView {
    let measured = api.meter.kept(job.id);
    let slots = slots(&job.spec);
    let mean = watts_per_slot(&api.settings, |_| 1.0);
    let mut attempts = Vec::new();
    let mut add = |attempt: u32, seconds: f64, measured: Option<f64>, watts: f64| {
        let source = if measured.is_some() { "measured" } else { "estimated" }.to_owned();
        attempts.push(EnergyAttempt { attempt, seconds, joules: measured.unwrap_or(watts * slots * seconds), source });
    };
    for record in &job.history {
        let seconds = between(record.started, record.ended);
        add(record.attempt, seconds, measured.get(&record.attempt).copied(), mean);
    }
    if let Some(attempt) = job.active() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = SimTime(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let watts = watts_of(&api.settings, &api.hall.read(), attempt).unwrap_or(mean);
        add(attempt.id.attempt, between(attempt.started, now), api.meter.so_far(attempt.id), watts);
    }
    let joules: f64 = attempts.iter().map(|attempt| attempt.joules).sum();
    let by_counter = attempts.iter().filter(|attempt| attempt.source == "measured").count();
    let (source, how) = if by_counter == 0 {
        (
            "estimated",
            "the slots' share of their nodes' rated power, times the pool's load, for as long as they were held",
        )
    } else if by_counter == attempts.len() {
        ("measured", "the accelerators' own counters; the rest of their nodes is not in it")
    } else {
        ("mixed", "the accelerators' own counters for some attempts, the rating of nodes for the others")
    };
    // Slots of one hall may stand at several sites: the first pool's speaks for all, as the mean does for its slots.
    let site = pools(&api.settings).next().and_then(|(_, pool)| api.settings.sites.get(&pool.site));
    let pue = site.map_or(1.0, |site| site.pue);
    let kilowatt_hours = joules * pue / 3.6e6;
    let usd_per_kwh = site.map_or(0.0, |site| site.price.0);
    EnergyView {
        schema_version: SCHEMA_VERSION,
        job: job.id.0,
        joules,
        source: source.to_owned(),
        how: how.to_owned(),
        slot_seconds: attempts.iter().map(|attempt| attempt.seconds * slots).sum(),
        pue,
        kilowatt_hours,
        usd: kilowatt_hours * usd_per_kwh,
        usd_per_kwh,
        co2_grams: site.and_then(|site| site.carbon).map(|carbon| kilowatt_hours * carbon.0),
        attempts,
    }
}

fn between(from: SimTime, to: SimTime) -> f64 {
    real(to.since(from).0) / 1e9
}

/// Slots that all ranks hold, parts counted as such.
fn slots(spec: &JobSpec) -> f64 {
    let part = spec.part.as_ref().map_or(1.0, |part: &Part| f64::from(part.milli()) / 1e3);
    f64::from(spec.ranks) * f64::from(spec.slots_per_rank) * part
}

/// Pools with slots.
fn pools(settings: &Settings) -> impl Iterator<Item = (&String, &Pool)> {
    settings.pools.iter().filter(|(_, pool)| pool.slots > 0 && pool.nodes > 0)
}

/// Expected power of one slot: the mean over pools, each with the weight of its slots times what `share` says of it.
fn watts_per_slot(settings: &Settings, share: impl Fn(&str) -> f64) -> f64 {
    let (mut watts, mut slots) = (0.0, 0.0);
    for (name, pool) in pools(settings) {
        let Some(item) = pool.item(&settings.catalog) else { continue };
        let node = pool.rated.unwrap_or(item.rated.value).0 * pool.load;
        let weight = f64::from(pool.nodes) * f64::from(pool.slots) * share(name);
        watts += node / f64::from(pool.slots) * weight;
        slots += weight;
    }
    if slots > 0.0 { watts / slots } else { 0.0 }
}

/// Expected power of a slot of a running attempt, if its nodes are of one pool.
fn watts_of(settings: &Settings, hall: &Hall, attempt: &Attempt) -> Option<f64> {
    let first = attempt.placement.first()?.node;
    let (_, node) = hall.nodes().find(|(id, _)| *id == first)?;
    Some(watts_per_slot(settings, |pool| if pool == node.spec.pool { 1.0 } else { 0.0 }))
}

#[cfg(test)]
mod tests {
    use dh_blueprint::Blueprint;

    use super::*;

    #[test]
    fn a_slot_has_its_share_of_its_nodes_rated_power() {
        let text = "schema = 1\nname = \"t\"\n[pool.a]\nnodes = 1\nnode = \"dgx-h100\"\nslots = 8\n[pool.b]\nnodes = 3\nslots = 4\nrated = \"400 W\"\nload = 0.5\n";
        let settings = Blueprint::parse("t", text).map_err(|report| report.to_string()).unwrap();
        let of = |wanted: &str| watts_per_slot(&settings, |pool| if pool == wanted { 1.0 } else { 0.0 });
        // 400 W at a load of one half over 4 slots.
        assert!((of("b") - 50.0).abs() < 1e-9, "{}", of("b"));
        let node = settings.catalog.node("dgx-h100").unwrap();
        assert!((of("a") - node.rated.value.0 * 0.8 / 8.0).abs() < 1e-9, "{}", of("a"));
        // The mean has the weight of 8 slots and of 12.
        let mean = watts_per_slot(&settings, |_| 1.0);
        assert!((mean - (of("a") * 8.0 + of("b") * 12.0) / 20.0).abs() < 1e-9, "{mean}");
    }
}
