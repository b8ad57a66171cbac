//! From a row's words to a layout: what its columns, its notes and its source's documented defaults say.
//!
//! Invariant: each default is named with its source; a row that needs another is refused.

use super::{NONE, Refusal, Row, sharded};
use crate::architecture::{Architecture, Attention, Mix, Mlp};
use crate::layout::{AttentionKernel, Layout, Loss, Offload, Precision, Recompute, Released, Sharding};
use crate::memory::Overheads;

/// A row, read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) shape: Architecture,
    pub(super) layout: Layout,
    pub(super) overheads: Overheads,
    /// The stage whose memory was printed; `None` is the fullest.
    pub(super) stage: Option<usize>,
    /// Whether a default of the source stands for something that was not published.
    pub(super) assumed: bool,
    /// What the reading rests on.
    pub(super) note: String,
}

/// What a source's runs share.
struct Convention {
    precision: Precision,
    kernel: AttentionKernel,
    dropout: bool,
    overheads: Overheads,
    note: &'static str,
}

fn convention(row: &Row) -> Option<Convention> {
    let accumulates = row.precision.contains("fp32 grad");
    let convention = match row.source.split(':').next()? {
        source if source.contains("calculon") => Convention {
            precision: Precision::MEGATRON,
            kernel: AttentionKernel::Unfused,
            dropout: true,
            overheads: NONE,
            note: "Megatron-LM: single-precision gradients, unfused attention with dropout",
        },
        "bigscience-workshop/bigscience" => Convention {
            precision: if accumulates { Precision::DEEPSPEED_BF16 } else { Precision::DEEPSPEED },
            kernel: AttentionKernel::Unfused,
            dropout: true,
            overheads: Overheads::DEVICE,
            note: "Megatron-DeepSpeed: unfused attention with dropout; memory as the driver shows it",
        },
        "pytorch/torchtitan" => Convention {
            precision: Precision::FSDP,
            kernel: AttentionKernel::Flash,
            dropout: false,
            overheads: Overheads::RESERVED,
            note: "torchtitan: single-precision shards; selective checkpointing by operator; reserved memory",
        },
        "InternLM/InternEvo" => Convention {
            // A single-precision master, its gradient and two moments; the half-precision gradient beside its flat copy.
            precision: Precision { gradient: 4.0, ..Precision::DEEPSPEED },
            kernel: AttentionKernel::Flash,
            dropout: false,
            overheads: Overheads::DEVICE,
            note: "InternEvo: single-precision gradients beside the moments; memory as the driver shows it",
        },
        "stas00/ml-engineering" => Convention {
            precision: Precision::DEEPSPEED,
            kernel: AttentionKernel::Flash,
            dropout: false,
            overheads: Overheads::LIVE_WEIGHTS,
            note: "DeepSpeed; reserved memory",
        },
        "pytorch/torchtune" => Convention {
            precision: Precision::BF16,
            kernel: AttentionKernel::Flash,
            dropout: false,
            overheads: NONE,
            note: "torchtune: weights and moments in bf16; memory in use",
        },
        "NVIDIA-NeMo/Megatron-Bridge" => Convention {
            precision: Precision::MIXED,
            kernel: AttentionKernel::Flash,
            dropout: false,
            overheads: NONE,
            note: "Megatron-Bridge: gradients in half precision; memory allocated",
        },
        _ => return None,
    };
    Some(convention)
}

/// Reads a row that has a layout.
pub(super) fn read(row: &Row, shape: Option<&Architecture>) -> Result<Reading, Refusal> {
    let notes = row.notes.to_lowercase();
    for (words, reason) in [
        (["lora fine", "; lora;", "lora ("].as_slice(), "fine-tuning of a part of the parameters is not modelled"),
        (&["(unpacked)", "real batches"], "sequences are shorter than the maximum, by an unpublished amount"),
        (&["micro batch printed as"], "the published micro-batch contradicts the published batch"),
        (&["deepspeed 3d"], "the sharding is not published"),
    ] {
        if words.iter().any(|word| notes.contains(word)) {
            return Err(reason.to_owned());
        }
    }
    let mut assumed = Vec::new();
    let shape = shape_of(row, shape)?;
    let published = |value: Option<u64>, what: &str| value.ok_or_else(|| format!("the {what} is not published"));
    let convention = convention(row).ok_or("the source's conventions are not known")?;
    let defaults = defaults(row);
    let mut or_default = |value: Option<u64>, default: Option<u64>, what: &'static str| {
        if value.is_none() && default.is_some() {
            assumed.push(what);
        }
        published(value.or(default), what)
    };
    let sequence = or_default(row.seq_len, defaults.sequence, "sequence length")?;
    let tp = or_default(row.tp, defaults.tp, "tensor parallelism")?;
    let pp = or_default(row.pp, defaults.pp, "number of stages")?;
    let dp = or_default(
        row.dp,
        row.n_accel.filter(|_| defaults.rest_is_data_parallel).map(|n| n / (tp * pp * row.cp.unwrap_or(1)).max(1)),
        "data parallelism",
    )?;
    let micro_batch = or_default(row.micro_batch, defaults.micro_batch, "micro-batch")?;
    let ep = or_default(row.ep, Some(defaults.ep.unwrap_or(1)), "expert parallelism")?;
    let zero = if row.zero.is_empty() { defaults.zero } else { &row.zero };
    if row.recompute.is_empty() && defaults.recompute.is_some() {
        assumed.push("recomputation");
    }
    assumed.retain(|what| *what != "expert parallelism" || defaults.ep.is_some());
    let float8 = row.precision.contains("fp8") || row.precision.contains("float8");
    let mut layout = Layout {
        tp,
        pp,
        vpp: interleaving(row),
        dp,
        cp: row.cp.unwrap_or(1),
        ep,
        // Megatron-Core's default where experts are dealt out: each whole on one device.
        etp: if ep > 1 { 1 } else { tp },
        sharding: sharding(zero)?,
        micro_batch,
        micro_batches: None,
        sequence,
        recompute: recompute(row, defaults.recompute)?,
        released: released(&notes),
        sequence_parallel: row.sequence_parallel == Some(1),
        dropout: convention.dropout,
        kernel: convention.kernel,
        loss: loss(row),
        precision: convention.precision,
        offload: offload(&row.notes),
        ..Layout::default()
    };
    // Stated assumption, from memory: recipes of models with latent attention keep moments in half precision.
    if row.source.contains("Megatron-Bridge") && matches!(shape.attention, Attention::Mla(_)) {
        layout.precision.optimizer = 8.0;
    }
    if float8 {
        layout.precision = layout.precision.with_fp8_products();
    }
    // The 1.3B study prints 13 GB on 32 GB devices for a layout that overflows 16 GB ones, and its figures grow with the
    // micro-batch as the first stage's do and not as logits do: it printed the first stage.
    let stage = row.source.contains("tr3m-1B3").then_some(0);
    let note = if assumed.is_empty() {
        convention.note.to_owned()
    } else {
        format!("{}; {} from {}", convention.note, assumed.join(", "), defaults.source)
    };
    Ok(Reading { shape, layout, overheads: convention.overheads, stage, assumed: !assumed.is_empty(), note })
}

/// What a source's recipes set where a row does not say.
#[derive(Default)]
struct Defaults {
    sequence: Option<u64>,
    micro_batch: Option<u64>,
    tp: Option<u64>,
    pp: Option<u64>,
    ep: Option<u64>,
    /// Devices that no other parallelism takes are replicas.
    rest_is_data_parallel: bool,
    zero: &'static str,
    recompute: Option<Recompute>,
    source: &'static str,
}

fn defaults(row: &Row) -> Defaults {
    match row.source.split(':').next().unwrap_or("") {
        "InternLM/InternEvo" => Defaults {
            sequence: Some(2048),
            source: "the example that the table names, configs/7B_sft.py",
            ..Defaults::default()
        },
        "pytorch/torchtune" => Defaults {
            recompute: Some(Recompute::Full),
            source: "recipes/configs/llama3_1/70B_full.yaml",
            ..Defaults::default()
        },
        // The schedule has as many micro-batches as stages unless it is told otherwise.
        "pytorch/torchtitan" => Defaults {
            micro_batch: number_after(&row.notes, "local batch ")
                .map(dh_units::whole)
                .map(|batch| (batch / row.pp.unwrap_or(1).max(1)).max(1)),
            source: "torchtitan's default of as many micro-batches as stages",
            ..Defaults::default()
        },
        // Stated assumption, from memory: recipes of its expert models deal experts to eight devices of a node and leave the
        // rest to data parallelism; pretraining has 4,096 tokens, Nemotron's recipes 8,192.
        "NVIDIA-NeMo/Megatron-Bridge" => Defaults {
            sequence: Some(if row.model.starts_with("Nemotron") { 8192 } else { 4096 }),
            micro_batch: Some(1),
            tp: Some(1),
            pp: Some(1),
            ep: (row.model.starts_with("Nemotron") || row.model.starts_with("Qwen3_30B")).then_some(8),
            rest_is_data_parallel: true,
            zero: "1",
            recompute: Some(Recompute::Selective),
            source: "its recipes, a stated assumption",
        },
        _ => Defaults::default(),
    }
}

/// Modules that Megatron-Core's list of a row's notes names.
fn released(notes: &str) -> Released {
    let Some(list) = notes.split("recompute modules: ").nth(1).or_else(|| notes.split("recompute ").nth(1)) else {
        return Released::NOTHING;
    };
    let list = list.split(';').next().unwrap_or(list);
    let mut all = Released::NOTHING;
    for name in list.split([',', '+', ' ']) {
        all = all.and(match name {
            "layernorm" => Released::NORMS,
            "moe_act" => Released::ACTIVATIONS,
            "moe" => Released::EXPERTS,
            "mla_up_proj" => Released::UP_PROJECTIONS,
            _ => Released::NOTHING,
        });
    }
    all
}

/// A layout for figures of states alone: sharding and offload, no batch.
///
/// `DeepSpeed`'s estimators count `4 P + 16 P / N` under stage 2, the whole half-precision gradient included, and
/// `18 P / N` under stage 3, where the 16 include the gradient.
pub(super) fn states_only(row: &Row) -> Result<Layout, Refusal> {
    let replicas = row.dp.or(row.n_accel).ok_or("the number of replicas is not published")?;
    let stage = sharding(&row.zero)?;
    let layout = sharded(replicas, stage, offload(&row.notes));
    if !row.source.contains("DeepSpeed") {
        return Ok(Layout { precision: Precision::MIXED, ..layout });
    }
    let estimator = Precision::DEEPSPEED;
    Ok(match stage {
        Sharding::Weights => Layout { precision: Precision { gradient: 0.0, ..estimator }, ..layout },
        Sharding::Gradients | Sharding::Optimizer | Sharding::None => {
            Layout { precision: estimator, sharding: stage.min(Sharding::Optimizer), ..layout }
        }
    })
}

fn sharding(zero: &str) -> Result<Sharding, Refusal> {
    match zero {
        "0" => Ok(Sharding::None),
        "1" => Ok(Sharding::Optimizer),
        "2" => Ok(Sharding::Gradients),
        "3" | "fsdp" => Ok(Sharding::Weights),
        _ => Err("the sharding is not published".to_owned()),
    }
}

fn recompute(row: &Row, default: Option<Recompute>) -> Result<Recompute, Refusal> {
    match row.recompute.as_str() {
        "none" => Ok(Recompute::None),
        "full" => Ok(Recompute::Full),
        "selective" if row.source.contains("torchtitan") => Ok(Recompute::Operators),
        "selective" => Ok(Recompute::Selective),
        _ => default.ok_or_else(|| "recomputation is not published".to_owned()),
    }
}

/// Megatron's loss over a split vocabulary is one kernel; torchtune's `compile` makes one of PyTorch's operations, and its
/// techniques add up in the order `packed`, `compile`, `chunked`.
fn loss(row: &Row) -> Loss {
    let notes = row.notes.to_lowercase();
    let has = |words: &str| notes.contains(words);
    if has("with liger")
        || has("; liger")
        || has("chunked")
        || has("+activation checkpointing")
        || has("cpu offload with")
    {
        return Loss::Chunked;
    }
    // torchtitan's runs of 2025 compile the loss: from memory.
    let operations =
        row.source.contains("torchtitan") && !row.source.contains("_2025") || has("without liger") || has("+packed");
    if operations { Loss::Whole } else { Loss::Fused }
}

fn offload(notes: &str) -> Offload {
    let notes = notes.to_lowercase();
    if ["offload_param=cpu", "all offloaded", "cpu offload with"].iter().any(|words| notes.contains(words)) {
        Offload::Everything
    } else if ["offload_optimizer=cpu", "optimizer offloaded", "adamw offloaded", "optimizer offload,"]
        .iter()
        .any(|words| notes.contains(words))
    {
        Offload::Optimizer
    } else {
        Offload::None
    }
}

fn interleaving(row: &Row) -> u64 {
    if row.source.contains("torchtitan") && row.notes.contains("Interleaved") {
        // Stated assumption: two parts of a stage, the least that interleaves.
        return 2;
    }
    // The study's table 3: its 175B and 530B runs are interleaved by 3; figure 7's rows do not repeat it.
    if row.source.contains("seqsel_fig7") && matches!(row.model.as_str(), "GPT-175B" | "GPT-530B") {
        return 3;
    }
    ["(vpp) ", "VPP 10", "VPP "]
        .iter()
        .find_map(|words| {
            let from = if *words == "VPP 10" { "VPP " } else { words };
            row.notes.contains(words).then(|| number_after(&row.notes, from)).flatten()
        })
        .map_or(1, dh_units::whole)
}

/// The model's shape: what the caller found, corrected by what the row's notes print of it.
fn shape_of(row: &Row, shape: Option<&Architecture>) -> Result<Architecture, Refusal> {
    let printed = |word: &str| number_after(&row.notes, word).map(dh_units::whole);
    let (layers, hidden, heads) = (printed("layers "), printed("hidden "), printed("heads "));
    let mut answer = match shape {
        Some(shape) => *shape,
        None => gpt_of(row, hidden)?,
    };
    if let Some(hidden) = hidden {
        let changed = hidden != answer.hidden;
        answer.hidden = hidden;
        if changed {
            answer.ffn = 4 * hidden;
        }
    }
    if let Some(heads) = heads.filter(|heads| *heads > 0) {
        answer.heads = heads;
        answer.kv_heads = heads;
        answer.head_dim = answer.hidden / heads;
    }
    if let Some(layers) = layers.filter(|_| hidden.is_some()) {
        answer.layers = layers;
    } else if row.notes.contains("layers  ") {
        // Not printed: those that give the size in the model's name, at 12 h^2 a layer.
        let size = row.model.rsplit('-').next().and_then(scaled).ok_or("the number of layers is not published")?;
        let h = dh_units::real(answer.hidden);
        answer.layers = dh_units::whole(((size - answer.embedding_parameters()) / (12.0 * h * h)).round().max(1.0));
    }
    Ok(answer)
}

/// A GPT whose width the notes print, in a study of GPTs.
fn gpt_of(row: &Row, hidden: Option<u64>) -> Result<Architecture, Refusal> {
    let hidden = hidden.ok_or("the model's shape is not known")?;
    let vocab = if row.notes.contains("GPT-2 vocabulary") {
        50_257
    } else if row.notes.contains("250k-word") {
        250_000
    } else {
        return Err("the model's vocabulary is not known".to_owned());
    };
    // The topology study's 14,400-wide models have 96 heads where none are printed.
    let heads = 96;
    Ok(Architecture {
        layers: 1,
        hidden,
        ffn: 4 * hidden,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        vocab,
        attention: Attention::Mha,
        mlp: Mlp::Gelu2,
        experts: None,
        tied_embeddings: true,
        encoder: false,
        mix: Mix::default(),
    })
}

/// The number of parameters that `notes` print: `7.5B parameters`, `2851M parameters`.
pub(super) fn parameters_in(notes: &str) -> Option<f64> {
    let before = notes.split(" parameters").next().filter(|before| before.len() < notes.len())?;
    scaled(before.rsplit([' ', '~', ';']).next()?)
}

/// The largest layer's parameters that `notes` print: `largest layer 32M`.
pub(super) fn largest_layer_in(notes: &str) -> Option<f64> {
    scaled(notes.split("largest layer ").nth(1)?.split([';', ' ']).next()?)
}

/// A device's memory that `notes` print: `a 40GB GPU`.
pub(super) fn capacity_in(notes: &str) -> Option<f64> {
    notes.split("GB GPU").next().filter(|before| before.len() < notes.len())?.rsplit(' ').next()?.parse().ok()
}

fn scaled(text: &str) -> Option<f64> {
    let factor = match text.chars().last()? {
        'B' => 1e9,
        'M' => 1e6,
        _ => return None,
    };
    Some(text.trim_end_matches(['B', 'M']).parse::<f64>().ok()? * factor)
}

fn number_after(text: &str, words: &str) -> Option<f64> {
    text.split(words).skip(1).find_map(|rest| {
        let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        digits.trim_end_matches('.').parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_are_written() {
        assert_eq!(parameters_in("7.5B parameters; model states only"), Some(7.5e9));
        assert_eq!(parameters_in("divided by 2^30); 2851M parameters, largest layer 32M; x"), Some(2.851e9));
        assert_eq!(parameters_in("statement: a 40GB GPU fits ~11B parameters with"), Some(1.1e10));
        assert_eq!(parameters_in("nothing"), None);
        assert_eq!(largest_layer_in("737.67M parameters, largest layer 32.90M; case1"), Some(32.9e6));
        assert_eq!(capacity_in("a 40GB GPU fits"), Some(40.0));
        assert_eq!(number_after("layers 72 hidden 14336 heads 16", "heads "), Some(16.0));
        let vpp = |notes: &str| interleaving(&Row { notes: notes.to_owned(), ..Row::default() });
        assert_eq!(
            [
                vpp("interleaving (vpp) 3; x"),
                vpp("VPP 10 with segments; VPP 5 unless named"),
                vpp("VPP 5 unless"),
                vpp("")
            ],
            [3, 10, 5, 1]
        );
    }
}
