//! What breaks in a year, how many nodes to keep in reserve, and what interruptions leave of a training's time.

use dh_blueprint::{Pretrain, Settings};
use dh_facility::failures::{Outlook, Population, Question, Rates, outlook};
use dh_units::{Bytes, BytesPerSec, Seconds, real, whole};

use crate::book::Book;
use crate::error::Error;
use crate::pools::PoolPlan;
use crate::storage::StorePlan;

/// A year of 365 days.
const YEAR: Seconds = Seconds(365.0 * 86_400.0);

/// From an interruption until the work goes on, as the blueprint's own default of `restart`. Stated assumption.
const RESTART: Seconds = Seconds(360.0);

/// How long a lost node is away: parts on the shelf and a working day. Stated assumption.
const REPAIR: Seconds = Seconds(48.0 * 3_600.0);

/// How surely a lost node finds a spare: of a hundred, one may wait. Stated assumption.
const CERTAINTY: f64 = 0.99;

/// State of a checkpoint where no training says: 1 MB to 4 GB an accelerator was published for Llama 3; the most is taken.
const STATE_PER_ACCELERATOR: u64 = 4_000_000_000;

/// What is written for each accelerator where no store says: 2 TB/s for 16,384 of them was published for Llama 3.
const WRITE_PER_ACCELERATOR: f64 = 2e12 / 16_384.0;

const LLAMA: &str = "published for the Llama 3 training on 16,384 accelerators";

/// Accelerators and nodes that may fail.
pub(crate) fn population(pools: &[PoolPlan]) -> Population {
    let with = pools.iter().filter(|pool| pool.accelerators > 0);
    Population {
        accelerators: with.clone().map(|pool| pool.accelerators).sum(),
        nodes: with.map(|pool| u64::from(pool.nodes)).sum(),
    }
}

/// A job on the whole hall for a year, under `failures`; none where there is no accelerator.
pub(crate) fn hall(book: &mut Book<'_>, pools: &[PoolPlan], stores: &[StorePlan]) -> Result<Option<Outlook>, Error> {
    let population = population(pools);
    if population.accelerators == 0 {
        return Ok(None);
    }
    let prefix = "failures";
    enter_population(book, prefix, pools, population);
    let state = Bytes(population.accelerators.saturating_mul(STATE_PER_ACCELERATOR));
    book.ledger.given(
        "failures.state.accelerator",
        "state of a checkpoint for each accelerator",
        Bytes(STATE_PER_ACCELERATOR),
        &format!("1 MB to 4 GB {LLAMA}; the most is taken"),
    );
    book.sum(
        "failures.state",
        "state that a checkpoint writes",
        state,
        format!("{} x {}", population.accelerators, Bytes(STATE_PER_ACCELERATOR)),
        &["failures.accelerators".to_owned(), "failures.state.accelerator".to_owned()],
    );
    let bandwidth = bandwidth(book, prefix, stores, population);
    ask(book, prefix, "the hall", population, YEAR, state, bandwidth, RESTART).map(Some)
}

/// What the store of checkpoints writes: what its drives can, or what is usual.
fn bandwidth(book: &mut Book<'_>, prefix: &str, stores: &[StorePlan], population: Population) -> BytesPerSec {
    let id = format!("{prefix}.bandwidth");
    if let Some(store) = stores.iter().max_by(|a, b| a.write.0.total_cmp(&b.write.0)) {
        let from = format!("storage.{}.write", store.name);
        book.sum(&id, "bandwidth of checkpoints", store.write, "what the fastest store writes", &[from]);
        return store.write;
    }
    let each = BytesPerSec(WRITE_PER_ACCELERATOR);
    let each_id = format!("{prefix}.bandwidth.accelerator");
    let source = format!("no store is planned; 2 TB/s was {LLAMA}");
    book.ledger.given(&each_id, "bandwidth of checkpoints for each accelerator", each, &source);
    let usual = each * real(population.accelerators);
    let formula = format!("{} x {each}", population.accelerators);
    book.sum(&id, "bandwidth of checkpoints", usual, formula, &[format!("{prefix}.accelerators"), each_id]);
    usual
}

fn enter_population(book: &mut Book<'_>, prefix: &str, pools: &[PoolPlan], population: Population) {
    let with = || pools.iter().filter(|pool| pool.accelerators > 0);
    let accelerators: Vec<String> = with().map(|pool| format!("count.pool.{}.accelerators", pool.name)).collect();
    let nodes: Vec<String> = with().map(|pool| pool.nodes_id.clone()).collect();
    let title = "accelerators that may fail";
    book.sum(&format!("{prefix}.accelerators"), title, population.accelerators, "all accelerators", &accelerators);
    book.sum(
        &format!("{prefix}.nodes"),
        "nodes that may fail",
        population.nodes,
        "all nodes with accelerators",
        &nodes,
    );
}

#[expect(clippy::too_many_arguments, reason = "the question's own fields, entered one by one")]
fn ask(
    book: &mut Book<'_>,
    prefix: &str,
    what: &str,
    hall: Population,
    duration: Seconds,
    state: Bytes,
    bandwidth: BytesPerSec,
    restart: Seconds,
) -> Result<Outlook, Error> {
    let rates = Rates::llama_3_405b();
    // What the model would enter as asked, with the reason; what is there already stays as it is.
    let ledger = &mut book.ledger;
    ledger.given(
        &format!("{prefix}.duration"),
        "duration of the job",
        duration,
        "stated assumption: a year of 365 days",
    );
    let source = "stated assumption: an unexpected interruption is seen, its node replaced and the job loaded again";
    ledger.given(&format!("{prefix}.restart"), "time of a restart, R", restart, source);
    let source = "stated assumption: parts on the shelf and a working day";
    ledger.given(&format!("{prefix}.repair"), "time of a repair", REPAIR, source);
    let source = "stated assumption: of a hundred lost nodes one may wait";
    ledger.given(&format!("{prefix}.certainty"), "how surely a lost node finds a spare", CERTAINTY, source);
    let question =
        Question { rates: &rates, hall, duration, state, bandwidth, restart, repair: REPAIR, certainty: CERTAINTY };
    outlook(&question, prefix, &mut book.ledger).map_err(|error| Error::Failures { what: what.to_owned(), error })
}

/// One training that runs for `time` on `accelerators` of the hall, under `training.NAME.failures`.
pub(crate) fn training(
    book: &mut Book<'_>,
    name: &str,
    training: &Pretrain,
    (accelerators, nodes): (u64, u64),
    time: Seconds,
    parameters: u64,
    stores: &[StorePlan],
) -> Result<Outlook, Error> {
    let prefix = format!("training.{name}.failures");
    let id = |key: &str| format!("{prefix}.{key}");
    let path = |key: &str| format!("workload.{name}.{key}");
    let population = Population { accelerators, nodes };
    let on = format!("training.{name}.accelerators");
    book.sum(
        &id("accelerators"),
        "accelerators that may fail",
        accelerators,
        "all that it runs on",
        std::slice::from_ref(&on),
    );
    book.sum(&id("nodes"), "nodes that may fail", nodes, "the nodes they are in", &[on]);
    let time_id = format!("training.{name}.time");
    book.sum(&id("duration"), "duration of the job", time, "time without interruptions", &[time_id]);
    let bytes =
        book.says(&path("checkpoint_bytes"), "bytes of a checkpoint for each parameter", training.checkpoint_bytes);
    let state = Bytes(whole((real(parameters) * training.checkpoint_bytes).round()));
    book.sum(
        &id("state"),
        "state that a checkpoint writes",
        state,
        format!("{} parameters x {} B", parameters, training.checkpoint_bytes),
        &[bytes, format!("training.{name}.parameters")],
    );
    book.says(&path("restart"), "time of a restart, R", training.restart);
    book.sum(&id("restart"), "time of a restart, R", training.restart, "as the blueprint says", &[path("restart")]);
    let bandwidth = match training.checkpoint_blocks {
        Some(blocks) if blocks.0 > 0.0 => {
            let said = book.says(&path("checkpoint_blocks"), "how long training stands still for a checkpoint", blocks);
            let bandwidth = state / blocks;
            let title = "bandwidth as training sees it";
            let formula = format!("{state} / {blocks}; the rest is written while training goes on");
            book.sum(&id("bandwidth"), title, bandwidth, formula, &[id("state"), said]);
            bandwidth
        }
        _ => self::bandwidth(book, &prefix, stores, population),
    };
    ask(book, &prefix, &format!("workload `{name}`"), population, time, state, bandwidth, training.restart)
}

/// Nodes that the blueprint keeps in reserve.
pub(crate) fn spares_written(settings: &Settings) -> Option<u32> {
    let written: Vec<u32> = settings.pools.values().filter_map(|pool| pool.spares).collect();
    (!written.is_empty()).then(|| written.iter().sum())
}
