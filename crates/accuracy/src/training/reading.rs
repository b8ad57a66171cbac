//! From a row to what is asked of the model: shape, layout, format, machine.
//!
//! Invariant: nothing measured enters. What a row does not say is taken from the catalogue, then from its source's documented
//! defaults, then from what is usual; each default is a line here.

use dh_blueprint::Catalog;
use dh_perf::architecture::{Architecture, Attention, Experts, Mix, Mlp};
use dh_perf::collectives::ScaleOutProfile;
use dh_perf::hardware::{Accelerator, Format, Machine, Network};
use dh_perf::layout::{AttentionKernel, Layout, Offload, Precision, Recompute, Sharding, Trained};
use dh_perf::memory::{Overheads, training};
use dh_units::{BytesPerSec, real, whole};

use super::row::Row;

/// A row, read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) shape: Architecture,
    pub(super) layout: Layout,
    pub(super) format: Format,
    pub(super) machine: Machine,
    pub(super) accelerators: u64,
}

/// The catalogue's name of a row's accelerator.
pub(super) fn accelerator(row: &Row) -> String {
    match row.accelerator.as_str() {
        // The runs of 2021 and 2022 were on Selene and its like.
        "A100" => "a100-80gb-sxm".to_owned(),
        "H100" => "h100-80gb-sxm".to_owned(),
        "V100" => "v100-32gb".to_owned(),
        other => other.to_lowercase(),
    }
}

/// Reads `row`.
/// # Errors
/// What it lacks, in words.
pub(super) fn read(row: &Row, catalog: &Catalog) -> Result<Reading, String> {
    let name = accelerator(row);
    let found = Accelerator::named(catalog, &name).map_err(|error| format!("`{}`: {error}", row.accelerator))?;
    let accelerators = row.n_accel.filter(|n| *n > 0).ok_or("no number of accelerators")?;
    let shape = shape(row, catalog)?;
    let layout = layout(row, &shape, accelerators, &found);
    let format = format(row);
    let machine = Machine::new(found, Some(network(row, &name)));
    Ok(Reading { shape, layout, format, machine, accelerators })
}

fn format(row: &Row) -> Format {
    let word = row.precision.to_lowercase();
    if word.contains("fp4") {
        Format::Fp4
    } else if word.contains("fp8") {
        Format::Fp8
    } else if word == "fp16" {
        Format::Fp16
    } else {
        Format::Bf16
    }
}

/// The shape: of the row's own dimensions where they are whole, of the catalogue's model, or of the number of parameters.
fn shape(row: &Row, catalog: &Catalog) -> Result<Architecture, String> {
    let known = catalog.model_called(&row.model).map(Architecture::from);
    let Some(mut shape) = known else { return of_dimensions(row) };
    // A variant with other depth or width than the catalogue's is what the row says.
    if let (Some(layers), Some(hidden)) = (row.layers, row.hidden)
        && (layers != shape.layers || hidden != shape.hidden)
        && shape.mix == Mix::default()
    {
        return of_dimensions(row);
    }
    // Sweeps vary how the same width is cut into heads.
    if shape.attention == Attention::Mha
        && let Some(heads) = row.heads.filter(|heads| *heads > 0 && *heads != shape.heads)
    {
        shape.heads = heads;
        shape.kv_heads = heads;
        shape.head_dim = (shape.hidden / heads).max(1);
    }
    if shape.experts.is_none()
        && let Some(vocab) = row.vocab
    {
        shape.vocab = vocab;
    }
    Ok(shape)
}

/// A shape from what the row has; the rest is as in the GPTs and Llamas of its time.
fn of_dimensions(row: &Row) -> Result<Architecture, String> {
    let parameters = row.params_total_b.map(|billions| billions * 1e9);
    let hidden = match (row.hidden, parameters) {
        (Some(hidden), _) => hidden,
        // Depth grows with width at 128 to 150 units a layer in published dense models: 12 L h^2 with L = h / 128.
        (None, Some(parameters)) => whole((parameters * 128.0 / 12.0).cbrt() / 128.0).max(1) * 128,
        (None, None) => return Err(format!("neither the shape nor the size of `{}` is known", row.model)),
    };
    let vocab = row.vocab.unwrap_or(if row.source.contains("BLOOM") || row.source.contains("BigScience") {
        250_880
    } else {
        51_200
    });
    let heads = row.heads.unwrap_or_else(|| (hidden / 128).max(1));
    let kv_heads = row.kv_heads.unwrap_or(heads);
    let head_dim = if row.says("head_dim 256") { 256 } else { (hidden / heads.max(1)).max(1) };
    let gated = row.ffn_hidden.is_some_and(|ffn| ffn != 4 * hidden) || row.moe_experts.is_some();
    let ffn = row.ffn_hidden.unwrap_or(4 * hidden);
    let experts = row.moe_experts.map(|count| Experts {
        count,
        top_k: row.moe_topk.unwrap_or(2),
        ffn,
        shared_ffn: 0,
        dense_layers: 0,
    });
    let mut shape = Architecture {
        layers: row.layers.unwrap_or(1),
        hidden,
        ffn,
        heads,
        kv_heads,
        head_dim,
        vocab,
        attention: if kv_heads < heads { Attention::Gqa } else { Attention::Mha },
        mlp: if gated { Mlp::Swiglu3 } else { Mlp::Gelu2 },
        experts,
        tied_embeddings: row.ffn_hidden.is_none(),
        encoder: false,
        mix: Mix::default(),
    };
    if let (None, Some(parameters)) = (row.layers, parameters) {
        let layer = shape.dense_parameters(0) + shape.expert_parameters(0);
        shape.layers = whole(((parameters - shape.embedding_parameters()) / layer).round()).max(1);
    }
    // Two matrices or three: whichever is nearer to the printed size.
    if let Some(parameters) = parameters {
        let other = Architecture { mlp: if shape.mlp == Mlp::Gelu2 { Mlp::Swiglu3 } else { Mlp::Gelu2 }, ..shape };
        let off = |shape: &Architecture| (shape.parameters() / parameters).ln().abs();
        if row.layers.is_some() && off(&other) < off(&shape) {
            shape = other;
        }
    }
    Ok(shape)
}

/// The largest power of two up to `most` that divides `number`.
fn power_dividing(number: u64, most: u64) -> u64 {
    let mut power = 1;
    while power * 2 <= most && number.is_multiple_of(power * 2) {
        power *= 2;
    }
    power
}

fn layout(row: &Row, shape: &Architecture, accelerators: u64, found: &Accelerator) -> Layout {
    let gpu = found.class == dh_blueprint::AcceleratorClass::Gpu;
    let zero = row.zero_stage_or_fsdp.to_lowercase();
    let fsdp = zero.contains("fsdp") || zero.contains("full_shard") || zero.contains("zero3");
    let (tp, pp) = degrees(row, shape, accelerators, found, gpu, fsdp);
    let cp = row.cp.unwrap_or(1).max(1);
    let left = (accelerators / (tp * pp * cp)).max(1);
    let dp = row.dp.filter(|dp| dp.checked_mul(tp * pp * cp) == Some(accelerators)).unwrap_or(left);
    let ep = row.ep.unwrap_or_else(|| usual_ep(shape, dp * cp)).clamp(1, shape.experts.map_or(1, |e| e.count));
    // Stated assumption: 4,096 tokens, the sequence of most rows that say it, where a table has none; 2,048 before 2023.
    let old = row.accelerator.starts_with("TPU-v4") || row.accelerator.starts_with("TPU-v3");
    let usual = if row.model.starts_with("LLAMA3") || row.model.starts_with("LLAMA-3") {
        8192
    } else if old || row.source.contains("OPT") || row.source.contains("PaLM") {
        2048
    } else {
        4096
    };
    let sequence = row.seq_len.unwrap_or(usual).max(1);
    let sharding = if fsdp || (!gpu && zero.is_empty()) {
        Sharding::Weights
    } else if zero.contains("shard_grad_op") || zero.contains("zero2") {
        Sharding::Gradients
    } else {
        Sharding::Optimizer
    };
    let batch = row.global_batch_seqs.unwrap_or(0.0);
    let local =
        row.notes.split("local batch ").nth(1).and_then(|rest| rest.split([',', ';', ' ']).next()?.parse().ok());
    let per_replica = if batch > 0.0 { (batch / real(dp)).max(1.0) } else { local.unwrap_or(0.0) };
    // A table that gives neither has one micro-batch of one or, with stages, eight for each.
    let micro_batch = match (row.micro_batch, per_replica > 0.0) {
        (Some(micro_batch), _) => whole(micro_batch.max(1.0)),
        (None, true) if pp == 1 && (fsdp || !gpu) => whole(per_replica).clamp(1, 8),
        (None, true) if pp == 1 && row.stack() == "megatron-lm-2024" => whole(per_replica).clamp(1, 4),
        (None, true) if row.stack() == "megatron-lm-2024" => 2,
        // What BLOOM's scripts have.
        (None, true) if row.stack() == "megatron-deepspeed" => whole(per_replica).clamp(1, 2),
        (None, true) => 1,
        (None, false) if !gpu => 4,
        (None, false) => 2,
    };
    let micro_batches = if per_replica > 0.0 {
        whole((per_replica / real(micro_batch)).round()).max(1)
    } else if pp > 1 {
        8 * pp
    } else {
        1
    };
    let layout = Layout {
        tp,
        pp,
        vpp: vpp(row, shape, pp),
        dp,
        cp,
        ep: ep.min(tp * cp * dp),
        etp: 1,
        sharding,
        shard_group: shard_group(row, dp * cp, tp, found),
        trained: if row.source.contains("LoRA") || row.says("LoRA") { Trained::Adapters } else { Trained::All },
        micro_batch,
        micro_batches: Some(micro_batches),
        sequence,
        recompute: recompute(row, shape, gpu),
        sequence_parallel: tp > 1 && !row.says("no sequence parallel") && row.stack() != "megatron-deepspeed",
        dropout: false,
        kernel: kernel(row),
        precision: if fsdp { Precision::FSDP } else { Precision::MEGATRON },
        offload: if zero.contains("offload") { Offload::Optimizer } else { Offload::None },
        ..Layout::default()
    };
    recomputed_to_fit(row, shape, layout, found)
}

/// Where a table does not say what is computed again and a dense model would not fit without: all of it. Not of Megatron,
/// whose recipes then compute single modules again, which costs little.
fn recomputed_to_fit(row: &Row, shape: &Architecture, layout: Layout, found: &Accelerator) -> Layout {
    let silent = !row.stack().starts_with("megatron")
        && row.recompute.is_empty()
        && layout.recompute == Recompute::None
        && shape.experts.is_none();
    let fits = || training(shape, &layout, Overheads::ALLOCATED).is_ok_and(|memory| memory.fits(found.memory).fits());
    if silent && !fits() { Layout { recompute: Recompute::Full, ..layout } } else { layout }
}

/// Replicas that share out: as printed, or on TPUs those of a slice, since slices are joined by a slower network.
fn shard_group(row: &Row, replicas: u64, tp: u64, found: &Accelerator) -> u64 {
    let zero = &row.zero_stage_or_fsdp;
    if zero.starts_with("fsdp8") || zero.contains("8-GPU") {
        return 8;
    }
    if zero.contains("4-GPU") {
        return 4;
    }
    let slice = u64::from(found.scale_up_domain) / tp.max(1);
    if found.class == dh_blueprint::AcceleratorClass::Tpu && replicas > slice { slice.max(1) } else { 0 }
}

/// Expert parallelism where a table leaves it out: over all replicas up to 64, as the same tables have it elsewhere.
fn usual_ep(shape: &Architecture, replicas: u64) -> u64 {
    let Some(experts) = shape.experts else { return 1 };
    power_dividing(experts.count, replicas.min(64))
}

/// Tensor parallelism and stages: as printed, or as few as it takes to hold the states.
fn degrees(
    row: &Row,
    shape: &Architecture,
    accelerators: u64,
    found: &Accelerator,
    gpu: bool,
    fsdp: bool,
) -> (u64, u64) {
    let printed = (row.tp.unwrap_or(0), row.pp.unwrap_or(0));
    if printed.0 > 0 && printed.1 > 0 {
        return printed;
    }
    // Weights and gradients in half and single precision, states shared out: what one accelerator has to hold.
    let states = shape.parameters() * 8.0;
    let copies = states / (0.7 * found.memory.as_f64());
    let split = if fsdp || !gpu { 1 } else { whole(copies.ceil()).max(1).next_power_of_two() };
    let split = if let Some(dp) = row.dp.filter(|dp| *dp > 0 && accelerators.is_multiple_of(*dp)) {
        accelerators / dp
    } else {
        split.min(accelerators)
    };
    let tp = if printed.0 > 0 { printed.0 } else { power_dividing(split, 8) };
    let pp = if printed.1 > 0 { printed.1 } else { (split / tp).max(1) };
    (tp, pp.min(shape.layers.max(1)))
}

fn vpp(row: &Row, shape: &Architecture, pp: u64) -> u64 {
    let vpp = match row.vpp {
        Some(vpp) => vpp.max(1),
        None if row.says("Interleaved 1F1B") => 4,
        None => 1,
    };
    if pp <= 1 { 1 } else { vpp.min((shape.layers / pp).max(1)) }
}

fn recompute(row: &Row, shape: &Architecture, gpu: bool) -> Recompute {
    match row.recompute.as_str() {
        "full" => Recompute::Full,
        "selective" if row.stack() == "torchtitan" => Recompute::Operators,
        "selective" => Recompute::Selective,
        "none" | "minimal" | "qkv_proj_offloaded" => Recompute::None,
        // What a table leaves out: GPTs of 2021 and 2022 were recomputed in full, as their papers say; trainers on TPUs keep
        // little; Megatron-Bridge's recipes recompute parts of large mixtures.
        _ if row.stack() == "megatron-deepspeed" || row.source.contains("cases_april2021") => Recompute::Full,
        _ if row.source.contains("OPT") || row.source.contains("PaLM") => Recompute::Full,
        _ if !gpu => Recompute::Full,
        _ if row.stack() == "nemo-automodel" && shape.experts.is_some() => Recompute::Operators,
        _ => Recompute::None,
    }
}

fn kernel(row: &Row) -> AttentionKernel {
    let unfused = ["megatron-deepspeed"].contains(&row.stack())
        || row.source.contains("Recomputation")
        || row.source.contains("cases_april2021")
        || row.source.contains("OPT")
        || row.source.contains("PaLM");
    if unfused { AttentionKernel::Unfused } else { AttentionKernel::Flash }
}

/// The network between domains: as the notes say, or as machines of this kind have it.
fn network(row: &Row, accelerator: &str) -> Network {
    let stack = row.stack();
    let (gigabits, profile) = if row.says("4x100Gb RoCE") {
        (50.0, ScaleOutProfile::ROCE)
    } else if stack == "megatron-deepspeed" {
        // Jean Zay: four Omni-Path adapters of 100 Gbit/s for eight accelerators (BLOOM's model card).
        (50.0, ScaleOutProfile::UNKNOWN)
    } else if row.source.contains("configs/a3") {
        // GCP a3-high: four adapters of 200 Gbit/s for eight.
        (100.0, ScaleOutProfile::TCPX)
    } else if accelerator.starts_with("tpu") {
        // Data-center network of a host of four chips: stated assumption, 200 Gbit/s.
        (50.0, ScaleOutProfile::UNKNOWN)
    } else if accelerator.starts_with("a100") {
        (200.0, ScaleOutProfile::INFINIBAND)
    } else if accelerator.starts_with("b300") || accelerator.starts_with("gb300") {
        (800.0, ScaleOutProfile::INFINIBAND)
    } else if accelerator.starts_with("v100") {
        (100.0, ScaleOutProfile::INFINIBAND)
    } else {
        (400.0, ScaleOutProfile::INFINIBAND)
    };
    Network { bandwidth: BytesPerSec(gigabits * 1e9 / 8.0), oversubscription: 1.0, in_network: false, profile }
}
