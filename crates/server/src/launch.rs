//! From what the blueprint declares to what the hall runs: workloads and services become job specifications.

use std::collections::BTreeMap;

use dh_blueprint::{AcceleratorItem, ServiceSource, Settings, Shape, Train, WorkloadKind};
use dh_core::time::Span;
use dh_exec::Devices;
use dh_hall::{JobKind, JobSpec, Part, Protocol};
use dh_policy::packing::WHOLE;
use dh_units::{Bytes, Seconds};

use crate::wire::{JobRequest, ServiceRequest};
use crate::{Error, job_access};

/// The bucket of training sets, one prefix each.
pub const DATASETS: &str = "datasets";
/// The bucket of checkpoints, `WORKLOAD/job-N/...`.
pub const CHECKPOINTS: &str = "checkpoints";
/// The bucket of models that services load.
pub const MODELS: &str = "models";

/// The bucket of what jobs keep for themselves, `QUEUE/job-N/...`.
pub const JOBS: &str = "jobs";

/// The longest name of a bucket, and of a key as S3 has it.
const PLACE_BYTES_MAX: usize = 5 + 63 + 1 + 1024;

/// Our own program: the executor puts its folder first in `PATH`.
const PROGRAM: &str = "datahall";

/// Where a workload's job keeps its checkpoints and its final model. `{job}` stands for the job's number.
pub fn checkpoint_prefix(workload: &str, job: &str) -> String {
    format!("{workload}/job-{job}")
}

/// The job that `request` asks for.
pub(crate) fn job(settings: &Settings, request: JobRequest) -> Result<JobSpec, Error> {
    let mut spec = match &request.workload {
        Some(name) => workload(settings, name)?,
        None => plain(only_queue(settings)),
    };
    if let Some(command) = request.command {
        spec.command = command;
    }
    spec.env.extend(request.env);
    spec.ranks = request.ranks.unwrap_or(spec.ranks);
    spec.slots_per_rank = request.slots_per_rank.unwrap_or(spec.slots_per_rank);
    spec.queue = request.queue.unwrap_or(spec.queue);
    spec.priority = request.priority.unwrap_or(spec.priority);
    spec.retries = request.retries.unwrap_or(spec.retries);
    if let Some(text) = request.time_limit {
        let time: Seconds = text.parse().map_err(|error| Error::Invalid(format!("time_limit `{text}`: {error}")))?;
        spec.time_limit = Some(span(time)?);
    }
    if let Some(text) = request.memory {
        let memory: Bytes = text.parse().map_err(|error| Error::Invalid(format!("memory `{text}`: {error}")))?;
        spec.memory_bytes = Some(memory.0);
    }
    spec.ranks_min = request.ranks_min.or(spec.ranks_min);
    spec.within = request.within.or(spec.within);
    spec.data_seed = request.data_seed.or(spec.data_seed);
    for text in request.datasets {
        let place = if text.contains("://") { text.clone() } else { format!("s3://{DATASETS}/{text}") };
        spec.datasets.push(in_store("datasets", &text, place)?);
    }
    if !request.nodes.is_empty() {
        spec.nodes = request.nodes;
    }
    spec.avoid_nodes.extend(request.avoid_nodes);
    if let Some(text) = request.checkpoints {
        spec.checkpoints = Some(in_store("checkpoints", &text, text.clone())?);
    }
    if let Some(name) = request.name {
        spec.name = name;
    } else if spec.name.is_empty() {
        let program = spec.command.first().map_or("job", String::as_str);
        spec.name = program.rsplit('/').next().unwrap_or(program).chars().take(60).collect();
    }
    Ok(spec)
}

/// A job of one rank with one slot, and no command yet.
fn plain(queue: String) -> JobSpec {
    JobSpec {
        name: String::new(),
        command: Vec::new(),
        env: BTreeMap::new(),
        ranks: 1,
        slots_per_rank: 1,
        part: None,
        queue,
        priority: 0,
        retries: 0,
        time_limit: None,
        memory_bytes: None,
        kind: JobKind::Batch,
        workload: None,
        ranks_min: None,
        within: None,
        datasets: Vec::new(),
        data_seed: None,
        checkpoints: None,
        secrets: BTreeMap::new(),
        nodes: Vec::new(),
        avoid_nodes: Vec::new(),
    }
}

/// A job for tests that look at other things.
#[cfg(test)]
pub(crate) fn plain_for_tests() -> JobSpec {
    plain("default".to_owned())
}

/// `place`, if it is one of the store.
fn in_store(key: &str, text: &str, place: String) -> Result<String, Error> {
    match job_access::place_of(&place) {
        Some(_) if place.len() <= PLACE_BYTES_MAX => Ok(place),
        Some(_) | None => Err(Error::Invalid(format!(
            "{key} `{text}` is no place in the store; write s3://BUCKET/PREFIX, without patterns, in {PLACE_BYTES_MAX} bytes at most"
        ))),
    }
}

fn workload(settings: &Settings, name: &str) -> Result<JobSpec, Error> {
    let workload = settings.workloads.get(name).ok_or_else(|| {
        let known: Vec<&str> = settings.workloads.keys().map(String::as_str).collect();
        Error::NotFound(format!("workload `{name}`; the blueprint has {}", list(&known)))
    })?;
    let (command, env) = match &workload.kind {
        WorkloadKind::Train(train) => (train_command(name, train), one_thread()),
        WorkloadKind::Command(command) => (command.command.clone(), command.env.clone()),
        WorkloadKind::Pretrain(_) => {
            return Err(Error::Invalid(format!(
                "workload `{name}` is the pretraining of a large model: `datahall plan` says what it needs, and a workload of kind \"command\" runs your trainer"
            )));
        }
    };
    Ok(JobSpec {
        name: name.to_owned(),
        command,
        env,
        ranks: workload.ranks,
        slots_per_rank: workload.slots_per_rank,
        part: workload.shape.as_ref().map(|shape| part(settings, name, shape)).transpose()?,
        queue: workload.queue.clone(),
        priority: 0,
        retries: workload.retries,
        time_limit: workload.time_limit.map(span).transpose()?,
        memory_bytes: workload.memory.map(|memory| memory.0),
        kind: JobKind::Batch,
        workload: Some(name.to_owned()),
        ranks_min: None,
        within: None,
        datasets: Vec::new(),
        data_seed: None,
        checkpoints: None,
        secrets: BTreeMap::new(),
        nodes: Vec::new(),
        avoid_nodes: Vec::new(),
    })
}

/// What a workload's ranks need of one slot.
fn part(settings: &Settings, name: &str, shape: &Shape) -> Result<Part, Error> {
    match shape {
        Shape::Box(_) => Err(Error::Invalid(format!(
            "workload `{name}` is a box of a torus: `datahall simulate` plays it, and no executor of this version runs on one"
        ))),
        Shape::Share { milli, memory } => {
            let least = memory.map_or(0, |memory| milli_of(settings, memory));
            let milli = (*milli).max(least);
            if milli >= WHOLE {
                let memory = memory.map(|memory| memory.to_string()).unwrap_or_default();
                return Err(Error::Invalid(format!(
                    "workload `{name}`: no accelerator of this hall has {memory} for a part of it; ask for a whole one"
                )));
            }
            Ok(Part::Share { milli, memory_bytes: memory.map(|memory| memory.0) })
        }
        Shape::Slice(profile) => {
            let here = accelerators(settings);
            let named: Vec<&AcceleratorItem> =
                here.iter().filter_map(|name| settings.catalog.accelerator(name)).collect();
            // Slots without an accelerator are simulated: any catalogue item that has such slices says what they are.
            let items: Vec<&AcceleratorItem> =
                if named.is_empty() { settings.catalog.accelerators().collect() } else { named };
            let slices = items.iter().filter_map(|item| item.slices.as_ref()).map(|slices| &slices.value);
            let found = slices.into_iter().find_map(|slices| {
                let known = slices.profile(profile)?;
                Some(Part::Slice {
                    profile: profile.clone(),
                    milli: slices.milli(known),
                    size: known.slots,
                    starts: known.starts,
                })
            });
            let none = || format!("workload `{name}`: no accelerator of this hall has slices `{profile}`");
            found.ok_or_else(|| Error::Invalid(none()))
        }
    }
}

/// Whose accelerators the hall's nodes have, if all are of one maker and the nodes are not this machine, whose devices are known
/// by name: it decides how a rank is told which are its own.
pub(crate) fn devices(settings: &Settings) -> Devices {
    if settings.target.executor == dh_blueprint::Executor::Local {
        return Devices::Cores;
    }
    let makers = accelerators(settings).into_iter().map(|name| {
        let item = settings.catalog.accelerator(&name);
        item.and_then(|item| item.vendor.as_deref()).map_or(Devices::Cores, |vendor| match vendor {
            "NVIDIA" => Devices::Cuda,
            "AMD" => Devices::Rocm,
            "Google" => Devices::Tpu,
            _ => Devices::Cores,
        })
    });
    let makers: Vec<Devices> = makers.collect();
    match makers.first() {
        Some(first) if makers.iter().all(|maker| maker == first) => *first,
        Some(_) | None => Devices::Cores,
    }
}

/// The accelerators of the hall's pools, by name.
fn accelerators(settings: &Settings) -> Vec<String> {
    let item = |pool: &dh_blueprint::Pool| Some(pool.item(&settings.catalog)?.accelerator.as_ref()?.value.clone());
    settings.pools.values().filter_map(item).collect()
}

/// The part of the smallest accelerator here that has so much memory, thousandths, rounded up: jobs that share one never need
/// more than it has. Nothing where no accelerator is known.
fn milli_of(settings: &Settings, memory: Bytes) -> u16 {
    let here = accelerators(settings);
    let items = here.iter().filter_map(|name| settings.catalog.accelerator(name)?.memory.as_ref());
    let Some(least) = items.map(|memory| memory.value.0).min().filter(|least| *least > 0) else { return 0 };
    let milli = (u128::from(memory.0) * u128::from(WHOLE)).div_ceil(u128::from(least));
    u16::try_from(milli).unwrap_or(u16::MAX)
}

/// Ranks of the built-in trainer compute on one thread each; more would fight over the cores.
fn one_thread() -> BTreeMap<String, String> {
    ["OMP_NUM_THREADS", "RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"]
        .map(|name| (name.to_owned(), "1".to_owned()))
        .into_iter()
        .collect()
}

/// The built-in trainer. Each job has its own checkpoints, so a second run starts afresh; a retry is the same job.
fn train_command(workload: &str, train: &Train) -> Vec<String> {
    let layers: Vec<String> = train.model.layers().iter().map(u32::to_string).collect();
    let mut command = vec![PROGRAM.to_owned(), "train".to_owned()];
    for (flag, value) in [
        ("--dataset", format!("s3://{DATASETS}/{}", train.dataset)),
        ("--checkpoints", format!("s3://{CHECKPOINTS}/{}", checkpoint_prefix(workload, "{job}"))),
        ("--layers", layers.join(",")),
        ("--epochs", train.epochs.to_string()),
        ("--batch", train.batch.to_string()),
        ("--learning-rate", train.learning_rate.to_string()),
        ("--seed", train.seed.to_string()),
        ("--checkpoint-every", train.checkpoint_every.to_string()),
    ] {
        command.push(flag.to_owned());
        command.push(value);
    }
    command
}

/// What a service of the blueprint or a request resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// A model file in the store, loaded by the built-in engine.
    File { model: String, bucket: String, key: String, protocol: Protocol, replicas: u32 },
    /// The final model of the newest successful job of a workload.
    Workload { model: String, workload: String, replicas: u32 },
    /// An engine that runs elsewhere.
    Url { model: String, url: String },
}

/// What `request` asks for.
pub(crate) fn service(settings: &Settings, request: &ServiceRequest) -> Result<Resolved, Error> {
    let model = request.model.clone();
    let replicas = request.replicas;
    let Some(source) = &request.source else {
        let service = settings.services.get(&request.service).ok_or_else(|| {
            let known: Vec<&str> = settings.services.keys().map(String::as_str).collect();
            Error::NotFound(format!("service `{}`; the blueprint has {}", request.service, list(&known)))
        })?;
        let replicas = replicas.unwrap_or(service.replicas);
        return Ok(match &service.source {
            ServiceSource::Model(name) => Resolved::File {
                model: model.unwrap_or_else(|| name.clone()),
                bucket: MODELS.to_owned(),
                key: format!("{name}.gguf"),
                protocol: Protocol::Chat,
                replicas,
            },
            ServiceSource::Workload(workload) => Resolved::Workload {
                model: model.unwrap_or_else(|| request.service.clone()),
                workload: workload.clone(),
                replicas,
            },
            ServiceSource::Url(url) => {
                Resolved::Url { model: model.unwrap_or_else(|| request.service.clone()), url: url.clone() }
            }
        });
    };
    let (bucket, key) = source
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
        .ok_or_else(|| Error::Invalid(format!("source `{source}`: write `s3://BUCKET/KEY`")))?;
    let protocol = request.protocol.map_or_else(|| protocol_of(key), Ok)?;
    Ok(Resolved::File {
        model: model.unwrap_or_else(|| request.service.clone()),
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        protocol,
        replicas: replicas.unwrap_or(1),
    })
}

fn protocol_of(key: &str) -> Result<Protocol, Error> {
    let ending = key.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "gguf" => Ok(Protocol::Chat),
        "safetensors" => Ok(Protocol::Inference),
        _ => Err(Error::Invalid(format!(
            "`{key}` is neither a `.gguf` language model nor a `.safetensors` classifier; say which by `protocol`"
        ))),
    }
}

/// The engine for one replica.
pub(crate) fn engine(
    settings: &Settings,
    service: &str,
    model: &str,
    bucket: &str,
    key: &str,
    protocol: Protocol,
) -> JobSpec {
    let word = match protocol {
        Protocol::Chat => "chat",
        Protocol::Inference => "inference",
    };
    let command =
        [PROGRAM, "engine", "--source", &format!("s3://{bucket}/{key}"), "--model", model, "--protocol", word];
    JobSpec {
        name: format!("service-{service}"),
        command: command.map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        ranks: 1,
        slots_per_rank: 1,
        part: None,
        queue: only_queue(settings),
        // Somebody waits for an answer; nobody waits for the next training step.
        priority: 100,
        retries: 0,
        time_limit: None,
        memory_bytes: None,
        kind: JobKind::Service { service: service.to_owned(), model: model.to_owned(), protocol },
        workload: None,
        ranks_min: None,
        within: None,
        datasets: Vec::new(),
        data_seed: None,
        checkpoints: None,
        secrets: BTreeMap::new(),
        nodes: Vec::new(),
        avoid_nodes: Vec::new(),
    }
}

fn only_queue(settings: &Settings) -> String {
    match settings.queues.keys().next() {
        Some(only) if settings.queues.len() == 1 => only.clone(),
        _ => "default".to_owned(),
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be positive and below 100 years"
)]
fn span(time: Seconds) -> Result<Span, Error> {
    const CENTURY: f64 = 3.2e9;
    if !(time.0 > 0.0 && time.0 < CENTURY) {
        return Err(Error::Invalid(format!("a time limit of {} s is not between 0 and 100 years", time.0)));
    }
    Ok(Span((time.0 * 1e9) as u64))
}
