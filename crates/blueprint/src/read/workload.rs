//! `[workload.NAME]`: a job that can be submitted by name, built-in training or any program.

use std::collections::BTreeMap;

use dh_core::limits::{ATTEMPTS_MAX, GANG_RANKS_MAX};
use dh_units::{Bytes, Seconds};

use super::{DEFAULT_QUEUE, DEFAULT_STORE, Facts, reference};
use crate::codes::Code;
use crate::dense::DenseModel;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::settings::{Command, Train, Workload, WorkloadKind};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Train,
    Command,
}

/// Keys that only one kind has.
const TRAIN_KEYS: [&str; 7] = ["model", "dataset", "epochs", "batch", "learning_rate", "seed", "checkpoint_every"];
const COMMAND_KEYS: [&str; 2] = ["command", "env"];

const EPOCHS_MAX: u32 = 1_000_000;
const BATCH_MAX: u32 = 1 << 24;
const CHECKPOINT_STEPS_MAX: u32 = 1_000_000_000;
const SLOTS_PER_RANK_MAX: u32 = 1_024;
const RETRIES: u32 = 3;

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Workload> {
    let kind = section.need("kind", section.word("kind", &[("train", Kind::Train), ("command", Kind::Command)]));
    let ranks = section.integer("ranks", 1..=GANG_RANKS_MAX);
    let slots_per_rank = section.integer("slots_per_rank", 1..=SLOTS_PER_RANK_MAX);
    let retries = section.integer("retries", 0..=ATTEMPTS_MAX - 1);
    let queue = reference(section, "queue", section.text("queue"), &facts.queues, DEFAULT_QUEUE);
    let store = reference(section, "store", section.text("store"), &facts.stores, DEFAULT_STORE);
    let memory = section.positive("memory", Bytes(0));
    let time_limit = section.positive("time_limit", Seconds(0.0));
    let what = match kind.as_ref().map(|kind| kind.value) {
        Some(Kind::Train) => {
            section.refuse(&COMMAND_KEYS, "is a key of kind = \"command\", and this workload has kind = \"train\"");
            train(section, section.need("ranks", ranks.as_ref())).map(WorkloadKind::Train)
        }
        Some(Kind::Command) => {
            section.refuse(&TRAIN_KEYS, "is a key of kind = \"train\", and this workload has kind = \"command\"");
            command(section).map(WorkloadKind::Command)
        }
        None => {
            section.know(&TRAIN_KEYS);
            section.know(&COMMAND_KEYS);
            None
        }
    };
    fits(section, ranks.as_ref(), slots_per_rank.as_ref(), facts);
    section.finish();
    Some(Workload {
        ranks: ranks.map_or(1, |ranks| ranks.value),
        slots_per_rank: slots_per_rank.map_or(1, |slots| slots.value),
        retries: retries.map_or(RETRIES, |retries| retries.value),
        queue: queue?,
        store: store?,
        memory: memory.map(|memory| memory.value),
        time_limit: time_limit.map(|time_limit| time_limit.value),
        kind: what?,
    })
}

fn train(section: &Section<'_>, ranks: Option<&Spot<u32>>) -> Option<Train> {
    let model = section.need("model", section.text("model")).and_then(|found| model(section, &found));
    let dataset = section.need("dataset", section.text("dataset")).filter(|found| dataset(section, found));
    let epochs = section.need("epochs", section.integer("epochs", 1..=EPOCHS_MAX));
    let batch = section.need("batch", section.integer("batch", 1..=BATCH_MAX));
    let rate = section.real("learning_rate", "a number above 0, at most 100", |rate| rate > 0.0 && rate <= 100.0);
    let rate = section.need("learning_rate", rate);
    let seed = section.need("seed", section.integer("seed", 0..=i64::MAX.unsigned_abs()));
    let every = section.integer("checkpoint_every", 1..=CHECKPOINT_STEPS_MAX);
    let every = section.need("checkpoint_every", every);
    if let (Some(batch), Some(ranks)) = (&batch, ranks)
        && batch.value % ranks.value != 0
    {
        let below = batch.value - batch.value % ranks.value;
        let above = below.saturating_add(ranks.value);
        let hint = if below == 0 { format!("batch = {above}") } else { format!("batch = {below} or {above}") };
        let message = format!("`batch` is {}, which {} ranks cannot share equally", batch.value, ranks.value);
        section.problems.add(Code::BATCH, &batch.at, message, Some(hint));
    }
    Some(Train {
        model: model?,
        dataset: dataset?.value,
        epochs: epochs?.value,
        batch: batch?.value,
        learning_rate: rate?.value,
        seed: seed?.value,
        checkpoint_every: every?.value,
    })
}

fn model(section: &Section<'_>, found: &Spot<String>) -> Option<DenseModel> {
    match found.value.parse() {
        Ok(model) => Some(model),
        Err(error) => {
            let message = format!("{} cannot be trained: {error}", quoted(&found.value));
            let hint =
                Some("for example \"dense-784-256-10\": 784 inputs, a hidden layer of 256, 10 classes".to_owned());
            section.problems.add(Code::BAD_MODEL, &found.at, message, hint);
            None
        }
    }
}

/// A data set's name becomes the first part of object keys.
fn dataset(section: &Section<'_>, found: &Spot<String>) -> bool {
    let name = &found.value;
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !good {
        let hint = Some("letters, digits, `-`, `_` and `.`, at most 64, for example \"fashion-mnist\"".to_owned());
        section.problems.add(Code::BAD_NAME, &found.at, format!("{} is not a data set's name", quoted(name)), hint);
    }
    good
}

fn command(section: &Section<'_>) -> Option<Command> {
    let command = section.need("command", section.texts("command"));
    let env = if section.has("env") {
        section.text_table("env")
    } else {
        section.know(&["env"]);
        Some(vec![])
    };
    if let Some(command) = &command {
        let bad = if command.value.first().is_none_or(String::is_empty) {
            Some("`command` names no program")
        } else if command.value.iter().any(|text| text.contains('\0')) {
            Some("`command` contains a NUL character")
        } else {
            None
        };
        if let Some(message) = bad {
            let hint = Some("command = [\"python3\", \"train.py\"]".to_owned());
            section.problems.add(Code::BAD_COMMAND, &command.at, message, hint);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, value) in env? {
        let good = name.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !value.contains('\0');
        if !good {
            let message = format!("{} cannot be an environment variable", quoted(&name.value));
            let hint = Some("letters, digits and underscores, not starting with a digit".to_owned());
            section.problems.add(Code::BAD_COMMAND, &name.at, message, hint);
        }
        variables.insert(name.value, value);
    }
    Some(Command { command: command?.value, env: variables })
}

/// Whether the gang could ever start.
fn fits(section: &Section<'_>, ranks: Option<&Spot<u32>>, each: Option<&Spot<u32>>, facts: &Facts<'_>) {
    let Some(slots) = facts.slots else { return };
    let (count, per_rank) = (ranks.map_or(1, |ranks| ranks.value), each.map_or(1, |each| each.value));
    if let Some(each) = each
        && per_rank > slots.largest_node
    {
        let message = format!("a rank needs {per_rank} slots on one node, the largest node has {}", slots.largest_node);
        section.problems.add(Code::RANK_TOO_LARGE, &each.at, message, None);
        return;
    }
    let needed = u64::from(count) * u64::from(per_rank);
    if needed > slots.total {
        let at = ranks.or(each).map_or(&section.at, |spot| &spot.at);
        let message =
            format!("the gang needs {needed} slots ({count} ranks x {per_rank} slots), the hall has {}", slots.total);
        let hint = Some("fewer ranks, or more nodes or slots in a pool".to_owned());
        section.problems.add(Code::GANG_TOO_LARGE, at, message, hint);
    }
}
