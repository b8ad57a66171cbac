//! Pretraining of large models: how much work, how long, with what the hall and its failures leave.

use dh_blueprint::{AcceleratorItem, Kind, Precision, Pretrain, Sourced, WorkloadKind};
use dh_facility::failures::Outlook;
use dh_perf::sizing::{self, Run, Size};
use dh_units::{BitsPerSec, Bytes, BytesPerSec, FlopPerSec, Seconds, Usd, real};
use serde::Serialize;

use crate::book::Book;
use crate::error::Error;
use crate::networks::{EndOf, NetworkPlan};
use crate::pools::PoolPlan;
use crate::reliability;
use crate::storage::StorePlan;

/// What the plan says of one training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingPlan {
    /// Its name.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// Accelerators it runs on.
    pub accelerators: u64,
    /// Time without interruptions.
    #[serde(rename = "time_seconds")]
    pub time: Seconds,
    /// Share of time that is kept work.
    pub ettr: f64,
    /// Time with interruptions.
    #[serde(rename = "effective_time_seconds")]
    pub effective_time: Seconds,
    /// When it must be done, if the blueprint says.
    #[serde(rename = "deadline_seconds")]
    pub deadline: Option<Seconds>,
    /// What it costs, at the hall's price of a used accelerator-hour.
    #[serde(rename = "cost_usd")]
    pub cost: Option<Usd>,
    /// Network that each accelerator needs, over what it has; above 1 the exchange is seen.
    pub network_demand: Option<f64>,
    /// Accelerators that hold one copy of the state at least, over those it runs on.
    pub memory_demand: f64,
    /// Work between checkpoints.
    #[serde(rename = "interval_seconds")]
    pub interval: Option<Seconds>,
    /// How long one checkpoint takes.
    #[serde(rename = "checkpoint_seconds")]
    pub checkpoint: Seconds,
    /// Unexpected interruptions.
    pub interruptions: f64,
}

/// A training that cannot run on the hall.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unfit {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What trainings need to know of the rest of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hall<'a> {
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) networks: &'a [NetworkPlan],
    pub(crate) stores: &'a [StorePlan],
}

/// All trainings under `training.NAME`, and those that cannot run.
pub(crate) fn trainings(book: &mut Book<'_>, hall: Hall<'_>) -> Result<(Vec<TrainingPlan>, Vec<Unfit>), Error> {
    let settings = book.settings;
    let (mut plans, mut unfit) = (Vec::new(), Vec::new());
    for (name, workload) in &settings.workloads {
        let WorkloadKind::Pretrain(training) = &workload.kind else { continue };
        match one(book, name, training, hall)? {
            Ok(plan) => plans.push(plan),
            Err(why) => unfit.push(Unfit { name: name.clone(), why }),
        }
    }
    Ok((plans, unfit))
}

/// The pool of a training: that with the most accelerators.
fn pool_of(pools: &[PoolPlan]) -> Option<&PoolPlan> {
    // Of equal ones the first by name, so that no order of a map decides.
    pools
        .iter()
        .filter(|pool| pool.accelerators > 0)
        .reduce(|best, pool| if pool.accelerators > best.accelerators { pool } else { best })
}

fn one(
    book: &mut Book<'_>,
    name: &str,
    training: &Pretrain,
    hall: Hall<'_>,
) -> Result<Result<TrainingPlan, String>, Error> {
    let Some(pool) = pool_of(hall.pools) else { return Ok(Err("no pool has accelerators".to_owned())) };
    let Some(item) = pool.accelerator_item(book) else {
        return Ok(Err(format!("the catalogue does not know the accelerators of pool `{}`", pool.name)));
    };
    let wanted = training.accelerators.map_or(pool.accelerators, u64::from);
    if wanted > pool.accelerators {
        let why = format!("it wants {wanted} accelerators, the largest pool `{}` has {}", pool.name, pool.accelerators);
        return Ok(Err(why));
    }
    let (peak_key, Some(peak)) = peak(item, training.precision) else {
        return Ok(Err(format!("the catalogue has no {} speed of {}", training.precision.word(), item.name)));
    };
    let Some(memory) = &item.memory else { return Ok(Err(format!("the catalogue has no memory of {}", item.name))) };
    let (run, ids) = enter(book, name, training, pool, wanted, (item, peak_key, peak, memory))?;
    let inputs: [&str; 8] = std::array::from_fn(|place| ids.get(place).map_or("", String::as_str));
    let prefix = format!("training.{name}");
    let size = match sizing::size(&run, &prefix, inputs, &mut book.ledger) {
        Ok(size) => size,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let nodes = wanted.div_ceil(u64::from(pool.accelerators_per_node.max(1)));
    let outlook = reliability::training(book, name, training, (wanted, nodes), size.time, run.parameters, hall.stores)?;
    Ok(Ok(finish(book, name, training, hall, &size, &outlook, &run)))
}

fn peak(item: &AcceleratorItem, precision: Precision) -> (&'static str, Option<&Sourced<FlopPerSec>>) {
    match precision {
        Precision::Bf16 => match &item.bf16 {
            Some(peak) => ("bf16", Some(peak)),
            None => ("fp16", item.fp16.as_ref()),
        },
        Precision::Fp8 => ("fp8", item.fp8.as_ref()),
        Precision::Tf32 => ("tf32", item.tf32.as_ref()),
    }
}

/// Enters what the run starts from; the ids are those of [`sizing::size`], in its order.
fn enter(
    book: &mut Book<'_>,
    name: &str,
    training: &Pretrain,
    pool: &PoolPlan,
    wanted: u64,
    (item, peak_key, peak, memory): (&AcceleratorItem, &str, &Sourced<FlopPerSec>, &Sourced<Bytes>),
) -> Result<(Run, [String; 8]), Error> {
    let id = |key: &str| format!("training.{name}.{key}");
    let path = |key: &str| format!("workload.{name}.{key}");
    let model = book.settings.catalog.model(&training.model).ok_or_else(|| {
        Error::Inconsistent(format!("workload `{name}` trains `{}`, which the catalogue does not have", training.model))
    })?;
    let all = book.fact(Kind::Model, &model.name, "parameters", "parameters of the model", &model.parameters);
    let active = match &model.active_parameters {
        Some(active) => (
            active.value,
            book.fact(Kind::Model, &model.name, "active_parameters", "parameters that a token passes", active),
        ),
        None => (model.parameters.value, all.clone()),
    };
    let parameters = book.sum(&id("parameters"), "parameters", model.parameters.value, "of the catalogue", &[all]);
    let tokens = book.says(&path("tokens"), "tokens to learn from", training.tokens);
    let batch = book.says(&path("batch_tokens"), "tokens of one step", training.batch);
    let accelerators = if training.accelerators.is_some() {
        let said = book.says(&path("accelerators"), "accelerators of the training", wanted);
        book.sum(&id("accelerators"), "accelerators", wanted, "as the blueprint says", &[said])
    } else {
        let of = format!("count.pool.{}.accelerators", pool.name);
        book.sum(&id("accelerators"), "accelerators", wanted, format!("all of pool {}", pool.name), &[of])
    };
    let title = format!("peak speed of an accelerator in {}", training.precision.word());
    let peak_id = book.fact(Kind::Accelerator, &item.name, peak_key, &title, peak);
    let memory_id = book.fact(Kind::Accelerator, &item.name, "memory", "memory of an accelerator", memory);
    let (mfu, mfu_id) = if let Some(mfu) = training.mfu {
        (mfu, book.says(&path("mfu"), "model FLOP utilisation", mfu))
    } else {
        let id = id("mfu");
        book.ledger.given(&id, "model FLOP utilisation", sizing::MFU, sizing::MFU_SOURCE);
        (sizing::MFU, id)
    };
    let run = Run {
        parameters: model.parameters.value,
        active: active.0,
        tokens: training.tokens,
        batch: training.batch,
        accelerators: wanted,
        peak: peak.value,
        memory: memory.value,
        mfu,
    };
    Ok((run, [parameters, active.1, tokens, batch, accelerators, peak_id, memory_id, mfu_id]))
}

fn finish(
    book: &mut Book<'_>,
    name: &str,
    training: &Pretrain,
    hall: Hall<'_>,
    size: &Size,
    outlook: &Outlook,
    run: &Run,
) -> TrainingPlan {
    let id = |key: &str| format!("training.{name}.{key}");
    let effective = size.time / outlook.ettr.max(1e-9);
    let inputs = [id("time"), id("failures.ettr")];
    let formula = format!("{} / ETTR {}", size.time, dh_units::significant(outlook.ettr));
    book.sum(&id("effective_time"), "time with interruptions", effective, formula, &inputs);
    let hour = book.ledger.get("cost.accelerator_hour").map(|number| number.value.clone());
    let cost = match hour {
        Some(dh_units::Value::UsdPerHour(hour)) => {
            let cost = hour * effective * real(run.accelerators);
            let formula = format!("{hour} x {} accelerators x {effective}", run.accelerators);
            let inputs = ["cost.accelerator_hour".to_owned(), id("accelerators"), id("effective_time")];
            book.sum(&id("cost"), "cost of the training", cost, formula, &inputs);
            Some(cost)
        }
        _ => None,
    };
    let compute = hall.networks.iter().find(|network| network.role == dh_blueprint::Role::Compute);
    let network_demand = compute.map(|network| {
        let has = provided(network, hall.pools);
        let demand = size.bandwidth / has;
        let (bandwidth, ratio) = (format!("network.{}.bisection.ratio", network.name), id("network_demand"));
        let mut inputs = vec![id("bandwidth"), format!("network.{}.port-speed", network.name)];
        inputs.extend(book.ledger.get(&bandwidth).is_some().then_some(bandwidth));
        let formula = format!("{} needed / {has} that each accelerator has", size.bandwidth);
        book.sum(&ratio, "network needed over network there", demand, formula, &inputs);
        demand
    });
    let memory_demand = real(size.spread) / real(run.accelerators.max(1));
    TrainingPlan {
        name: name.to_owned(),
        model: training.model.clone(),
        accelerators: run.accelerators,
        time: size.time,
        ettr: outlook.ettr,
        effective_time: effective,
        deadline: training.deadline,
        cost,
        network_demand,
        memory_demand,
        interval: outlook.interval,
        checkpoint: outlook.checkpoint,
        interruptions: outlook.expected.unexpected,
    }
}

/// What each accelerator can send into the network and through its middle.
fn provided(network: &NetworkPlan, pools: &[PoolPlan]) -> BytesPerSec {
    let joined = network.ends.ranges.iter().filter_map(|range| match &range.of {
        EndOf::Pool(pool) => pools.get(*pool).map(|pool| pool.accelerators),
        EndOf::Switches(..) => None,
    });
    let accelerators: u64 = joined.sum();
    let ends = network.request.node_ends();
    let each = network.request.port_speed * (real(ends) / real(accelerators.max(1)));
    let ratio = network.design.bisection().ratio.min(1.0);
    BytesPerSec::from(BitsPerSec(each.0 * ratio))
}
