//! `[workload.NAME]`: a job that can be submitted by name (built-in training or any program), or the pretraining of a large
//! model that is planned.

pub(crate) mod layout;
mod shape;

use std::collections::BTreeMap;

use dh_core::limits::{ATTEMPTS_MAX, GANG_RANKS_MAX};
use dh_units::{Bytes, Seconds, Tokens, Usd};
use serde::{Deserialize, Serialize};

use super::{DEFAULT_QUEUE, DEFAULT_STORE, Facts, in_catalog, reference};
use crate::catalog;
use crate::codes::Code;
use crate::dense::DenseModel;
use crate::docs::Doc;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::{Writer, key, quoted as toml};

pub use layout::{Optimise, PinnedLayout};
pub use shape::Shape;

/// A job that can be submitted by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Processes that start together or not at all.
    pub ranks: u32,
    /// Slots of each rank, all on one node.
    pub slots_per_rank: u32,
    /// Attempts after the first.
    pub retries: u32,
    /// Where it waits.
    pub queue: String,
    /// Where its data and checkpoints are.
    pub store: String,
    /// The most memory one rank may use.
    pub memory: Option<Bytes>,
    /// The longest it may run.
    pub time_limit: Option<Seconds>,
    /// What its ranks need, where that is not whole accelerators wherever they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// What it does.
    #[serde(flatten)]
    pub kind: WorkloadKind,
}

/// What a workload does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WorkloadKind {
    /// Built-in training.
    Train(Train),
    /// Any program.
    Command(Command),
    /// The pretraining of a large model: planned, not run by the hall itself.
    Pretrain(Pretrain),
}

/// Built-in data-parallel training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// The network.
    pub model: DenseModel,
    /// The data set's name.
    pub dataset: String,
    /// Passes over the data.
    pub epochs: u32,
    /// Samples of one step, over all ranks; a multiple of the ranks.
    pub batch: u32,
    /// Step size of the optimiser.
    pub learning_rate: f64,
    /// Where every random choice starts from.
    pub seed: u64,
    /// Steps between two checkpoints.
    pub checkpoint_every: u32,
}

/// A program that the executor starts once per rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables added for it.
    pub env: BTreeMap<String, String>,
}

/// Numbers that products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Brain floating point of 16 bits.
    Bf16,
    /// Floating point of 8 bits.
    Fp8,
    /// Floating point of 32 bits on 19-bit products (TF32).
    Tf32,
}

const PRECISIONS: [(&str, Precision); 3] =
    [("bf16", Precision::Bf16), ("fp8", Precision::Fp8), ("tf32", Precision::Tf32)];

impl Precision {
    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        PRECISIONS.iter().find(|(_, precision)| *precision == self).map_or("", |(word, _)| word)
    }
}

/// The pretraining of a large model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pretrain {
    /// The model's name in the catalogue.
    pub model: String,
    /// Tokens it learns from.
    pub tokens: Tokens,
    /// Tokens of one optimiser step, over all accelerators.
    pub batch: Tokens,
    /// Tokens of one sequence.
    pub sequence: Tokens,
    /// The data set's name, which nodes keep in their drives once they have read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// What the data set takes; four bytes of each token if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_size: Option<Bytes>,
    /// Accelerators it runs on; all of the hall if not given.
    pub accelerators: Option<u32>,
    /// What products are computed in.
    pub precision: Precision,
    /// Model FLOP utilisation to plan with, above 0 and at most 1; predicted from the layout if not given.
    pub mfu: Option<f64>,
    /// Degrees of parallelism that are decided.
    pub layout: PinnedLayout,
    /// What the layout is chosen for.
    pub optimise: Optimise,
    /// The most it may cost.
    pub budget: Option<Usd>,
    /// When it must be done.
    pub deadline: Option<Seconds>,
    /// How long training stands still for one checkpoint; from size and the store's bandwidth if not given.
    pub checkpoint_blocks: Option<Seconds>,
    /// Time from an interruption until it trains again, without the steps that are lost.
    pub restart: Seconds,
    /// Bytes of a checkpoint for each parameter.
    pub checkpoint_bytes: f64,
}

/// Weights, two moments of Adam and a main copy in 32 bits, as published for mixed precision: 12 bytes without gradients.
const CHECKPOINT_BYTES: f64 = 12.0;

/// Tokens of a sequence if nothing is said: the context that Llama 3 was pretrained with.
const SEQUENCE: Tokens = Tokens(8_192);

/// Detection, a new set of nodes, start of processes, loading; the arithmetic published beside the Llama 3 run uses it.
const RESTART: Seconds = Seconds(360.0);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Train,
    Command,
    Pretrain,
}

/// Keys that only some kinds have.
const SPECIAL: [(&str, &[&str]); 23] = [
    ("model", &["train", "pretrain"]),
    ("dataset", &["train", "pretrain"]),
    ("dataset_size", &["pretrain"]),
    ("epochs", &["train"]),
    ("batch", &["train"]),
    ("learning_rate", &["train"]),
    ("seed", &["train"]),
    ("checkpoint_every", &["train"]),
    ("command", &["command"]),
    ("env", &["command"]),
    ("tokens", &["pretrain"]),
    ("batch_tokens", &["pretrain"]),
    ("sequence", &["pretrain"]),
    ("accelerators", &["pretrain"]),
    ("precision", &["pretrain"]),
    ("mfu", &["pretrain"]),
    ("layout", &["pretrain"]),
    ("optimise", &["pretrain"]),
    ("budget", &["pretrain"]),
    ("deadline", &["pretrain"]),
    ("checkpoint_blocks", &["pretrain"]),
    ("restart", &["pretrain"]),
    ("checkpoint_bytes", &["pretrain"]),
];

pub(crate) const DOC: Doc = Doc {
    pattern: "workload.*",
    about: "A job that can be submitted by name, or the pretraining of a large model that is planned.",
    keys: &[
        (
            "kind",
            "\"train\" is built-in training of a dense network, \"command\" any program, \"pretrain\" the pretraining of a large model that is planned.",
        ),
        ("ranks", "Processes that start together or not at all."),
        ("slots_per_rank", "Slots of each rank, all on one node."),
        ("retries", "Attempts after the first."),
        ("queue", "Where it waits."),
        ("store", "Where its data and checkpoints are."),
        ("memory", "The most memory one rank may use."),
        ("time_limit", "The longest it may run."),
        ("box", "Sides of the box of a torus that its ranks are together, [x, y, z] in accelerators."),
        ("share", "The part of one accelerator that each rank needs, above 0 and below 1."),
        ("share_memory", "The memory of the accelerator that each rank needs, beside `share`."),
        ("slice", "The slice of one accelerator that each rank needs, by the name of its profile: \"1g.10gb\"."),
        (
            "model",
            "Of kind \"train\": layer sizes, as dense-784-256-10. Of kind \"pretrain\": a model of the catalogue.",
        ),
        (
            "dataset",
            "The data set's name in the store; of kind \"pretrain\", what nodes keep in their drives once they have read it.",
        ),
        ("dataset_size", "What the data set takes; four bytes of each token if left out."),
        ("epochs", "Passes over the data."),
        ("batch", "Samples of one step over all ranks; a multiple of the ranks."),
        ("learning_rate", "Step size of the optimiser, above 0 and at most 100."),
        ("seed", "Where every random choice starts from."),
        ("checkpoint_every", "Steps between two checkpoints."),
        ("command", "The program and its arguments, as a list."),
        ("env", "Environment variables added for it."),
        ("tokens", "Tokens that the model learns from."),
        ("batch_tokens", "Tokens of one optimiser step over all accelerators."),
        ("sequence", "Tokens of one sequence."),
        ("accelerators", "Accelerators it runs on; all of the hall if left out."),
        ("precision", "What products are computed in: \"bf16\", \"fp8\" or \"tf32\"."),
        (
            "mfu",
            "Model FLOP utilisation to plan with, above 0 and at most 1; predicted from the best layout if left out.",
        ),
        ("layout", "Degrees of parallelism that are decided; the best of the others is searched for."),
        ("optimise", "What the layout is chosen for: \"time\", \"cost\" or \"energy\"."),
        ("budget", "The most that the training may cost; the fastest way within it is chosen."),
        ("deadline", "When it must be done, counted from its start."),
        (
            "checkpoint_blocks",
            "How long training stands still for one checkpoint; from its size and the store's bandwidth if left out.",
        ),
        ("restart", "Time from an interruption until it trains again, without the steps that are lost."),
        ("checkpoint_bytes", "Bytes of a checkpoint for each parameter, 1 to 64."),
    ],
};

const EPOCHS_MAX: u32 = 1_000_000;
const BATCH_MAX: u32 = 1 << 24;
const CHECKPOINT_STEPS_MAX: u32 = 1_000_000_000;
const SLOTS_PER_RANK_MAX: u32 = 1_024;
const RETRIES: u32 = 3;

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Workload> {
    const KINDS: [(&str, Kind); 3] = [("train", Kind::Train), ("command", Kind::Command), ("pretrain", Kind::Pretrain)];
    let kind = section.need("kind", section.word("kind", &KINDS));
    let ranks = section.integer("ranks", 1..=GANG_RANKS_MAX);
    let slots_per_rank = section.integer("slots_per_rank", 1..=SLOTS_PER_RANK_MAX);
    let retries = section.integer("retries", 0..=ATTEMPTS_MAX - 1);
    let queue = reference(section, "queue", section.text("queue"), &facts.queues, DEFAULT_QUEUE);
    let store = reference(section, "store", section.text("store"), &facts.stores, DEFAULT_STORE);
    let memory = section.bound("memory", Bytes(0));
    let time_limit = section.bound("time_limit", Seconds(0.0));
    let shape = shape::read(section, facts);
    let what = match kind.as_ref().map(|kind| kind.value) {
        Some(Kind::Train) => {
            only(section, "train");
            train(section, section.need("ranks", ranks.as_ref())).map(WorkloadKind::Train)
        }
        Some(Kind::Command) => {
            only(section, "command");
            command(section).map(WorkloadKind::Command)
        }
        Some(Kind::Pretrain) => {
            only(section, "pretrain");
            pretrain(section, facts).map(WorkloadKind::Pretrain)
        }
        None => {
            section.know(&SPECIAL.map(|(key, _)| key));
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
        shape,
        kind: what?,
    })
}

/// Reports keys that belong to other kinds of workload.
fn only(section: &Section<'_>, kind: &'static str) {
    section.variant(kind);
    for (key, kinds) in SPECIAL.iter().filter(|(key, kinds)| section.has(key) && !kinds.contains(&kind)) {
        let others = kinds.join("\" or \"");
        section.refuse(&[key], &format!("is a key of kind = \"{others}\", and this workload has kind = \"{kind}\""));
    }
}

fn pretrain(section: &Section<'_>, facts: &Facts<'_>) -> Option<Pretrain> {
    let model = section.need("model", section.text("model"));
    let model = model.and_then(|found| {
        if found.value.parse::<DenseModel>().is_err() {
            return in_catalog(section, facts, catalog::Kind::Model, found);
        }
        let message = format!("{} is a dense network, which is trained and not planned", quoted(&found.value));
        section.problems.add(
            Code::NOT_IN_CATALOG,
            &found.at,
            message,
            Some("write kind = \"train\" and its keys".to_owned()),
        );
        None
    });
    let tokens = section.need("tokens", section.positive("tokens", Tokens(0)));
    let batch = section.need("batch_tokens", section.positive("batch_tokens", Tokens(0)));
    let sequence = section.positive("sequence", Tokens(0));
    let data = section.text("dataset").filter(|found| dataset(section, found));
    let size = section.bound("dataset_size", Bytes(0));
    if let (Some(size), false) = (&size, section.has("dataset")) {
        let message = "`dataset_size` is of no data set: `dataset` is missing".to_owned();
        section.problems.add(Code::ELSEWHERE, &size.at, message, Some("name it with `dataset`".to_owned()));
    }
    let accelerators = section.integer("accelerators", 1..=1 << 30);
    let precision = section.word("precision", &PRECISIONS);
    let mfu = section.real("mfu", "a ratio above 0, at most 1", |mfu| mfu > 0.0 && mfu <= 1.0);
    let pinned = section.table("layout").map(|table| layout::read(&table));
    let optimise = section.word("optimise", &layout::OPTIMISE);
    let budget = section.bound("budget", Usd(0.0));
    let deadline = section.bound("deadline", Seconds(0.0));
    let blocks = section.quantity("checkpoint_blocks");
    let restart = section.quantity("restart");
    let bytes = section.real("checkpoint_bytes", "bytes from 1 to 64", |bytes| (1.0..=64.0).contains(&bytes));
    if let (Some(slots), Some(wanted)) = (facts.slots, &accelerators)
        && u64::from(wanted.value) > slots.total
    {
        let message = format!("the training wants {} accelerators, the hall has {}", wanted.value, slots.total);
        let hint = Some("fewer accelerators, or more nodes in a pool".to_owned());
        section.problems.add(Code::GANG_TOO_LARGE, &wanted.at, message, hint);
    }
    if let (Some(batch), Some(sequence)) = (&batch, &sequence)
        && batch.value < sequence.value
    {
        let message = format!("a step of {} is shorter than one sequence of {}", batch.value, sequence.value);
        section.problems.add(Code::OUT_OF_RANGE, &batch.at, message, None);
    }
    let batch = batch?.value;
    Some(Pretrain {
        model: model?.value,
        tokens: tokens?.value,
        batch,
        // An ordinary context, unless a step is shorter.
        sequence: sequence.map_or(Tokens(SEQUENCE.0.min(batch.0)), |sequence| sequence.value),
        dataset: data.map(|name| name.value),
        dataset_size: size.map(|size| size.value),
        accelerators: accelerators.map(|count| count.value),
        precision: precision.map_or(Precision::Bf16, |precision| precision.value),
        mfu: mfu.map(|mfu| mfu.value),
        layout: pinned.unwrap_or_default(),
        optimise: optimise.map_or(Optimise::Time, |optimise| optimise.value),
        budget: budget.map(|budget| budget.value),
        deadline: deadline.map(|deadline| deadline.value),
        checkpoint_blocks: blocks.map(|time| time.value),
        restart: restart.map_or(RESTART, |time| time.value),
        checkpoint_bytes: bytes.map_or(CHECKPOINT_BYTES, |bytes| bytes.value),
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

pub(crate) fn write(out: &mut Writer<'_>, workload: &Workload) {
    let kind = match &workload.kind {
        WorkloadKind::Train(_) => "train",
        WorkloadKind::Command(_) => "command",
        WorkloadKind::Pretrain(_) => "pretrain",
    };
    out.text("kind", kind);
    out.integer("ranks", workload.ranks);
    out.integer("slots_per_rank", workload.slots_per_rank);
    out.integer("retries", workload.retries);
    out.text("queue", &workload.queue);
    out.text("store", &workload.store);
    out.maybe_quantity("memory", workload.memory);
    out.maybe_quantity("time_limit", workload.time_limit);
    if let Some(shape) = &workload.shape {
        shape::write(out, shape);
    }
    match &workload.kind {
        WorkloadKind::Train(train) => {
            out.text("model", &train.model.to_string());
            out.text("dataset", &train.dataset);
            out.integer("epochs", train.epochs);
            out.integer("batch", train.batch);
            out.real("learning_rate", train.learning_rate);
            out.integer("seed", train.seed);
            out.integer("checkpoint_every", train.checkpoint_every);
        }
        WorkloadKind::Command(command) => {
            out.texts("command", &command.command);
            let entries = command.env.iter().map(|(name, value)| format!("{} = {}", key(name), toml(value)));
            let entries: Vec<String> = entries.collect();
            if !entries.is_empty() {
                out.raw("env", &format!("{{ {} }}", entries.join(", ")));
            }
        }
        WorkloadKind::Pretrain(pretrain) => {
            out.text("model", &pretrain.model);
            out.quantity("tokens", pretrain.tokens);
            out.quantity("batch_tokens", pretrain.batch);
            out.quantity("sequence", pretrain.sequence);
            if let Some(dataset) = &pretrain.dataset {
                out.text("dataset", dataset);
            }
            out.maybe_quantity("dataset_size", pretrain.dataset_size);
            out.maybe_integer("accelerators", pretrain.accelerators);
            out.text("precision", pretrain.precision.word());
            out.maybe_real("mfu", pretrain.mfu);
            layout::write(out, &pretrain.layout);
            out.text("optimise", pretrain.optimise.word());
            out.maybe_quantity("budget", pretrain.budget);
            out.maybe_quantity("deadline", pretrain.deadline);
            out.maybe_quantity("checkpoint_blocks", pretrain.checkpoint_blocks);
            out.quantity("restart", pretrain.restart);
            out.real("checkpoint_bytes", pretrain.checkpoint_bytes);
        }
    }
}
