//! What accelerators of a layout exchange, and how long it takes on the machine's links.
//!
//! Tensor parallelism is innermost, then context, then data and expert parallelism; pipeline stages are outermost. Invariant:
//! a group of one exchanges nothing. Source of the volumes: Narayanan et al. 2021 section 3; Korthikanti et al. 2022
//! section 4.2 (tensor and sequence parallelism); Rajbhandari et al. 2020 (sharding).

use dh_units::{Bytes, real, whole};

use crate::architecture::{Architecture, Attention};
use crate::collectives::{Fabric, Group, Kind, time};
use crate::error::Error;
use crate::layout::{Layout, Sharding};

/// Seconds of exchange: for one layer and micro-batch, forward, unless said otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exchange {
    /// Tensor parallelism, of a layer.
    pub(super) tensor: f64,
    /// Context parallelism, of a layer with attention.
    pub(super) context: f64,
    /// Expert parallelism, of a layer with experts: there and back.
    pub(super) expert: f64,
    /// One message between stages.
    pub(super) stage: f64,
    /// Gathering the sharded weights of a layer; 0 without sharded weights.
    pub(super) gather: f64,
    /// Scattering the gradients of a layer to their shards; 0 without sharded weights.
    pub(super) scatter: f64,
    /// Gradients and weights of a whole stage, once a step; 0 with sharded weights.
    pub(super) replicas: f64,
    /// Bytes that an accelerator sends in a step over all of this, about.
    pub(super) bytes: f64,
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Ranks `stride` accelerators apart.
fn group(fabric: &Fabric, ranks: u64, stride: u64) -> Group {
    let domain = u64::from(fabric.scale_up.accelerators.max(1));
    let inside = (domain / stride.max(1)).clamp(1, ranks.max(1));
    Group { ranks: narrow(ranks), per_domain: narrow(inside) }
}

fn seconds(kind: Kind, bytes: f64, group: Group, fabric: &Fabric) -> Result<f64, Error> {
    if group.ranks <= 1 || bytes <= 0.0 {
        return Ok(0.0);
    }
    let answer = time(kind, Bytes(whole(bytes)), group, fabric).map_err(|_| {
        Error::Impossible("the layout spans several scale-up domains, and the machine has no network between them")
    })?;
    Ok(answer.seconds.0)
}

/// The exchange of `layout`, for `tokens` of a micro-batch on one accelerator of a context-parallel group.
pub(super) fn exchange(
    shape: &Architecture,
    layout: &Layout,
    fabric: &Fabric,
    tokens: f64,
    stage_layers: f64,
) -> Result<Exchange, Error> {
    let h = real(shape.hidden);
    let activations = 2.0 * tokens * h;
    // Two sums a layer; with the sequence split a gather and a scatter, which are as much together.
    let tensor = 2.0 * seconds(Kind::AllReduce, activations, group(fabric, layout.tp, 1), fabric)?;
    let mut all = Exchange { tensor, ..Exchange::default() };
    if layout.cp > 1 {
        let keys = match shape.attention {
            Attention::Mha | Attention::Gqa => {
                2.0 * real(shape.kv_heads.div_ceil(layout.tp.max(1))) * real(shape.head_dim)
            }
            Attention::Mla(latent) => real(latent.kv_rank) + real(latent.rope),
        };
        let bytes = 2.0 * tokens * keys * real(layout.cp);
        all.context = seconds(Kind::AllGather, bytes, group(fabric, layout.cp, layout.tp), fabric)?;
    }
    if let Some(experts) = shape.experts.filter(|_| layout.ep > 1) {
        let own = tokens / (real(layout.tp) / real(layout.etp)).max(1.0);
        // A token goes to a device once, however many of its experts are there.
        let devices = real(layout.ep);
        let distinct = devices * (1.0 - (1.0 - 1.0 / devices).powf(real(experts.top_k)));
        let bytes = 2.0 * own * distinct * real(shape.expert_hidden());
        all.expert = 2.0 * seconds(Kind::AllToAll, bytes, group(fabric, layout.ep, layout.etp), fabric)?;
    }
    if layout.pp > 1 {
        let split = if layout.sequence_parallel { real(layout.tp) } else { 1.0 };
        let apart = layout.tp.saturating_mul(layout.cp).saturating_mul(layout.dp);
        all.stage = seconds(Kind::SendReceive, activations / split, group(fabric, 2, apart), fabric)?;
    }
    replicas(shape, layout, fabric, stage_layers, &mut all)?;
    Ok(all)
}

/// What replicas exchange: of dense weights over all of them, of experts over those that hold the same.
fn replicas(
    shape: &Architecture,
    layout: &Layout,
    fabric: &Fabric,
    stage_layers: f64,
    all: &mut Exchange,
) -> Result<(), Error> {
    let last = shape.layers.saturating_sub(1);
    let dense = shape.dense_parameters(last) / real(layout.tp);
    let experts = shape.expert_parameters(last) / (real(layout.ep) * real(layout.etp));
    let all_replicas = layout.dp.saturating_mul(layout.cp);
    let sharing = if layout.shard_group == 0 { all_replicas } else { layout.shard_group.min(all_replicas) };
    let of_all = group(fabric, sharing, layout.tp);
    let copies = whole(layout.expert_replicas());
    let of_experts = group(fabric, copies, layout.ep.saturating_mul(layout.etp));
    let gathered = layout.precision.gathered;
    let both = |kind: Kind, dense_bytes: f64, expert_bytes: f64| -> Result<f64, Error> {
        Ok(seconds(kind, dense_bytes, of_all, fabric)? + seconds(kind, expert_bytes, of_experts, fabric)?)
    };
    if layout.sharding == Sharding::Weights {
        all.gather = both(Kind::AllGather, gathered * dense, gathered * experts)?;
        all.scatter = both(Kind::ReduceScatter, gathered * dense, gathered * experts)?;
        all.bytes = 3.0 * gathered * (dense + experts) * stage_layers;
        // Groups that each have a whole copy sum what their members hold of it.
        let groups = all_replicas / sharing.max(1);
        let apart = layout.tp.saturating_mul(sharing);
        let shard = gathered * (dense + experts) * stage_layers / real(sharing);
        all.replicas = seconds(Kind::AllReduce, shard, group(fabric, groups, apart), fabric)?;
        return Ok(());
    }
    let ends = 2.0 * shape.embedding_parameters() / real(layout.tp) / real(layout.pp);
    let (dense, experts) = (dense * stage_layers + ends, experts * stage_layers);
    let gradient = layout.precision.gradient.min(4.0);
    all.replicas = if layout.sharding >= Sharding::Optimizer {
        // Groups that each have all of the states sum what their members hold.
        let groups = all_replicas / sharing.max(1);
        let between = group(fabric, groups, layout.tp.saturating_mul(sharing));
        both(Kind::ReduceScatter, gradient * dense, gradient * experts)?
            + both(Kind::AllGather, gathered * dense, gathered * experts)?
            + seconds(Kind::AllReduce, gradient * dense / real(sharing.max(1)), between, fabric)?
    } else {
        both(Kind::AllReduce, gradient * dense, gradient * experts)?
    };
    all.bytes = (gradient + gathered) * (dense + experts);
    Ok(())
}
