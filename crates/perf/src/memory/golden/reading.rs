//! From a row's words to a layout: what its columns, its notes and its source's documented defaults say.
//!
//! Invariant: each default is named with its source; a row that needs another is refused.

use super::{NONE, Refusal, Row, sharded};
use crate::architecture::{Architecture, Attention, Mlp};
use crate::layout::{AttentionKernel, Layout, Loss, Offload, Precision, Recompute, Sharding};
use crate::memory::Overheads;

/// A row, read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) shape: Architecture,
    pub(super) layout: Layout,
    pub(super) overheads: Overheads,
    /// The stage whose memory was printed; `None` is the fullest.
    pub(super) stage: Option<usize>,
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
        (
            ["lora fine", "; lora;", "; qlora;", "lora (", "parameter-efficient"].as_slice(),
            "fine-tuning of a part of the parameters is not modelled",
        ),
        (&["optimizer choice"], "the optimiser is not published"),
        (&["(unpacked)", "real batches"], "sequences are shorter than the maximum, by an unpublished amount"),
        (&["fused into backward", "offloading; tech", "8-bit adamw"], "the technique is not modelled"),
        (&["micro batch printed as"], "the published micro-batch contradicts the published batch"),
        (&["deepspeed 3d"], "the sharding is not published"),
        (
            &[
                "recompute modules: mla",
                "recompute modules: moe",
                "recompute modules: layernorm",
                "recompute layernorm",
            ],
            "recomputation of single modules is not modelled",
        ),
    ] {
        if words.iter().any(|word| notes.contains(word)) {
            return Err(reason.to_owned());
        }
    }
    if row.model.starts_with("Nemotron_3") {
        return Err("layers with a recurrent state are not modelled".to_owned());
    }
    let shape = shape_of(row, shape)?;
    let published = |value: Option<u64>, what: &str| value.ok_or_else(|| format!("the {what} is not published"));
    let sequence = published(row.seq_len, "sequence length")?;
    let convention = convention(row).ok_or("the source's conventions are not known")?;
    let (tp, pp) = (published(row.tp, "tensor parallelism")?, published(row.pp, "number of stages")?);
    let ep = row.ep.unwrap_or(1);
    let float8 = row.precision.contains("fp8") || row.precision.contains("float8");
    let mut layout = Layout {
        tp,
        pp,
        vpp: interleaving(row),
        dp: published(row.dp, "data parallelism")?,
        cp: row.cp.unwrap_or(1),
        ep,
        // Megatron-Core's default where experts are dealt out: each whole on one device.
        etp: if ep > 1 { 1 } else { tp },
        sharding: sharding(&row.zero)?,
        micro_batch: published(row.micro_batch, "micro-batch")?,
        micro_batches: None,
        sequence,
        recompute: recompute(row)?,
        sequence_parallel: row.sequence_parallel == Some(1),
        dropout: convention.dropout,
        kernel: convention.kernel,
        loss: loss(row),
        precision: convention.precision,
        offload: offload(&row.notes),
        ..Layout::default()
    };
    if float8 {
        layout.precision = layout.precision.with_fp8_products();
    }
    // The 1.3B study prints 13 GB on 32 GB devices for a layout that overflows 16 GB ones, and its figures grow with the
    // micro-batch as the first stage's do and not as logits do: it printed the first stage.
    let stage = row.source.contains("tr3m-1B3").then_some(0);
    Ok(Reading { shape, layout, overheads: convention.overheads, stage, note: convention.note.to_owned() })
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

fn recompute(row: &Row) -> Result<Recompute, Refusal> {
    match row.recompute.as_str() {
        "none" => Ok(Recompute::None),
        "full" => Ok(Recompute::Full),
        "selective" if row.source.contains("torchtitan") => Ok(Recompute::Operators),
        "selective" => Ok(Recompute::Selective),
        _ => Err("recomputation is not published".to_owned()),
    }
}

/// Megatron's loss over a split vocabulary is one kernel; torchtune's `compile` makes one of PyTorch's operations, and its
/// techniques add up in the order `packed`, `compile`, `chunked`.
fn loss(row: &Row) -> Loss {
    let notes = row.notes.to_lowercase();
    let has = |words: &str| notes.contains(words);
    if has("with liger") || has("; liger") || has("chunked") || has("+activation checkpointing") {
        return Loss::Chunked;
    }
    let operations = row.source.contains("torchtitan") || has("without liger") || has("+packed");
    if operations { Loss::Whole } else { Loss::Fused }
}

fn offload(notes: &str) -> Offload {
    let notes = notes.to_lowercase();
    if notes.contains("offload_param=cpu") || notes.contains("all offloaded") {
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
    if row.notes.contains("layers  ") {
        return Err("the number of layers is not published".to_owned());
    }
    let mut answer = match shape {
        Some(shape) => *shape,
        None => gpt_of(row, hidden)?,
    };
    if let Some(layers) = layers.filter(|_| hidden.is_some()) {
        answer.layers = layers;
    }
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
