//! Pretraining of large models: how much work, how long, with what the hall and its failures leave.
//!
//! The time of a step is that of the best layout; where the blueprint says `mfu` it follows from that, and where the models do not
//! know the hardware, from a usual utilisation.

mod machine;
mod predicted;
mod ways;

use dh_blueprint::{AcceleratorItem, Kind, Precision, Pretrain, Sourced, WorkloadKind};
use dh_facility::failures::Outlook;
use dh_perf::search::{Found, Search};
use dh_perf::sizing::{self, Pace, Run, Size};
use dh_units::{BitsPerSec, Bytes, BytesPerSec, FlopPerSec, Joules, Seconds, Usd, real};
use serde::Serialize;

use crate::book::Book;
use crate::error::Error;
use crate::networks::{EndOf, NetworkPlan};
use crate::pools::PoolPlan;
use crate::reliability;
use crate::storage::StorePlan;

use predicted::{Asked, Predicted, Unpredicted, predict};
pub use ways::{Degrees, Looked, Prediction, RunnerUp, StepPart, Way};

/// Who carries a search out, told the training's name: with threads where there are some.
pub type Searcher<'s> = dyn FnMut(&str, &Search) -> Found + 's;

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
    /// The most it may cost, if the blueprint says.
    #[serde(rename = "budget_usd")]
    pub budget: Option<Usd>,
    /// What its accelerators draw in the time without interruptions, if it is known.
    #[serde(rename = "energy_joules")]
    pub energy: Option<Joules>,
    /// The best layout and what the models say of it.
    pub prediction: Option<Prediction>,
    /// Why there is no prediction: the models do not know the hardware or the model, and a usual utilisation is taken.
    pub unpredicted: Option<String>,
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
pub(crate) fn trainings(
    book: &mut Book<'_>,
    hall: Hall<'_>,
    searcher: &mut Searcher<'_>,
) -> Result<(Vec<TrainingPlan>, Vec<Unfit>), Error> {
    let settings = book.settings;
    let (mut plans, mut unfit) = (Vec::new(), Vec::new());
    for (name, workload) in &settings.workloads {
        let WorkloadKind::Pretrain(training) = &workload.kind else { continue };
        match one(book, name, training, hall, searcher)? {
            Ok(plan) => plans.push(plan),
            Err(why) => unfit.push(Unfit { name: name.clone(), why }),
        }
    }
    Ok((plans, unfit))
}

/// The pool of a training: that with the most accelerators.
fn pool_of(pools: &[PoolPlan]) -> Option<(usize, &PoolPlan)> {
    // Of equal ones the first by name, so that no order of a map decides.
    pools
        .iter()
        .enumerate()
        .filter(|(_, pool)| pool.accelerators > 0)
        .reduce(|best, pool| if pool.1.accelerators > best.1.accelerators { pool } else { best })
}

fn one(
    book: &mut Book<'_>,
    name: &str,
    training: &Pretrain,
    hall: Hall<'_>,
    searcher: &mut Searcher<'_>,
) -> Result<Result<TrainingPlan, String>, Error> {
    let Some((place, pool)) = pool_of(hall.pools) else { return Ok(Err("no pool has accelerators".to_owned())) };
    let Some(item) = pool.accelerator_item(book) else {
        return Ok(Err(format!("the catalogue does not know the accelerators of pool `{}`", pool.name)));
    };
    let most = training.accelerators.map_or(pool.accelerators, u64::from);
    if most > pool.accelerators {
        let why = format!("it wants {most} accelerators, the largest pool `{}` has {}", pool.name, pool.accelerators);
        return Ok(Err(why));
    }
    let (peak_key, Some(peak)) = peak(item, training.precision) else {
        return Ok(Err(format!("the catalogue has no {} speed of {}", training.precision.word(), item.name)));
    };
    let Some(memory) = &item.memory else { return Ok(Err(format!("the catalogue has no memory of {}", item.name))) };
    let model = book.settings.catalog.model(&training.model).ok_or_else(|| {
        Error::Inconsistent(format!("workload `{name}` trains `{}`, which the catalogue does not have", training.model))
    })?;
    let asked = Asked { name, training, model, item, pool: (place, pool), most };
    let (predicted, unpredicted) = match predict(book, asked, hall, searcher) {
        Ok(predicted) => (Some(predicted), None),
        Err(Unpredicted::Unknown(why)) => (None, Some(why)),
        Err(Unpredicted::Unfit(why)) => return Ok(Err(why)),
    };
    let wanted = predicted.as_ref().map_or(most, |predicted| predicted.candidate.accelerators);
    let (run, ids) = enter(book, asked, wanted, (peak_key, peak, memory));
    let size = match size(book, asked, predicted.as_ref(), run, &ids) {
        Ok(size) => size,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let nodes = wanted.div_ceil(u64::from(pool.accelerators_per_node.max(1)));
    let outlook = reliability::training(book, name, training, (wanted, nodes), size.time, run.parameters, hall.stores)?;
    let mut plan = finish(book, name, training, hall, &size, &outlook, &run);
    if let Some(predicted) = predicted {
        let prefix = format!("training.{name}");
        predicted.enter_energy(book, &prefix, size.time, &format!("{prefix}.accelerators"));
        plan.energy = predicted.candidate.power.map(|power| power * size.time * real(wanted));
        plan.memory_demand = predicted.memory_demand();
        plan.prediction = Some(predicted.prediction);
    }
    plan.unpredicted = unpredicted;
    Ok(Ok(plan))
}

/// How long a step takes and what it needs: as the blueprint assumes, else as predicted, else at a usual utilisation.
fn size(
    book: &mut Book<'_>,
    asked: Asked<'_>,
    predicted: Option<&Predicted>,
    mut run: Run,
    ids: &[String; 7],
) -> Result<Size, dh_perf::Error> {
    let prefix = format!("training.{}", asked.name);
    let mfu_id = format!("{prefix}.mfu");
    let [parameters, _, _, batch, accelerators, peak, memory] = ids.each_ref().map(String::as_str);
    let under = if asked.training.mfu.is_some() { format!("{prefix}.predicted") } else { prefix.clone() };
    if let Some(predicted) = predicted {
        predicted.enter(book, &under, [parameters, accelerators, peak, memory, batch]);
    }
    let assumed = match (asked.training.mfu, predicted) {
        (Some(mfu), _) => {
            run.mfu = mfu;
            Some(book.says(&format!("workload.{}.mfu", asked.name), "model FLOP utilisation", mfu))
        }
        (None, Some(predicted)) => {
            run.mfu = predicted.candidate.step.mfu;
            None
        }
        (None, None) => {
            book.ledger.given(&mfu_id, "model FLOP utilisation", sizing::MFU, sizing::MFU_SOURCE);
            Some(mfu_id.clone())
        }
    };
    let mfu = assumed.as_deref().unwrap_or(&mfu_id);
    let inputs: [&str; 8] = std::array::from_fn(|place| ids.get(place).map_or(mfu, String::as_str));
    match predicted.filter(|_| assumed.is_none()) {
        Some(predicted) => {
            let step = &predicted.candidate.step;
            let pace =
                Pace { step: step.time, batch: predicted.batch(), work: step.model_flop, copy: predicted.copy() };
            sizing::paced(&run, &pace, &prefix, inputs, &mut book.ledger)
        }
        None => sizing::size(&run, &prefix, inputs, &mut book.ledger),
    }
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

/// Enters what the run starts from; the ids are the first seven of [`sizing::size`], in its order. The utilisation is not known yet.
fn enter(
    book: &mut Book<'_>,
    asked: Asked<'_>,
    wanted: u64,
    (peak_key, peak, memory): (&str, &Sourced<FlopPerSec>, &Sourced<Bytes>),
) -> (Run, [String; 7]) {
    let Asked { name, training, model, item, pool: (_, pool), .. } = asked;
    let id = |key: &str| format!("training.{name}.{key}");
    let path = |key: &str| format!("workload.{name}.{key}");
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
        let formula = if wanted == pool.accelerators {
            format!("all of pool {}", pool.name)
        } else {
            format!("of pool {}, as many as take the least {}", pool.name, training.optimise.word())
        };
        book.sum(&id("accelerators"), "accelerators", wanted, formula, &[of])
    };
    let title = format!("peak speed of an accelerator in {}", training.precision.word());
    let peak_id = book.fact(Kind::Accelerator, &item.name, peak_key, &title, peak);
    let memory_id = book.fact(Kind::Accelerator, &item.name, "memory", "memory of an accelerator", memory);
    let run = Run {
        parameters: model.parameters.value,
        active: active.0,
        tokens: training.tokens,
        batch: training.batch,
        accelerators: wanted,
        peak: peak.value,
        memory: memory.value,
        mfu: sizing::MFU,
    };
    (run, [parameters, active.1, tokens, batch, accelerators, peak_id, memory_id])
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
        budget: training.budget,
        energy: None,
        prediction: None,
        unpredicted: None,
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
