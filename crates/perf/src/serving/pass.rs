//! The time of one pass of a model: of a decode step, of a part of a prompt, or of both at once.
//!
//! Each class of operators takes the longer of its arithmetic and its bytes; classes follow each other. A pass without
//! prompt tokens is replayed from a captured graph, so that its kernels cost only what they take on the accelerator; one with
//! prompt tokens is launched kernel by kernel and takes at least `eager` for each layer. Invariant: more tokens, more context
//! and less bandwidth are never faster; one accelerator exchanges nothing. Source: Williams et al. 2009 (roofline).

use dh_units::{Bytes, real, whole};

use super::work::{HALF, Work};
use super::{Deployment, Profile};
use crate::collectives::{Group, Kind, time};
use crate::error::Error;
use crate::hardware::{Format, Machine};
use crate::power::Activity;

/// The tokens of one pass over a replica.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Tokens {
    /// Sequences that decode, over all replicas of attention.
    pub(super) sequences: f64,
    /// Tokens of each of them that are checked at once; 1, or 0 for the same, without speculation.
    pub(super) checked: f64,
    /// Tokens that each of them sees.
    pub(super) context: f64,
    /// Tokens of prompts, on the fullest replica of attention.
    pub(super) prompt: f64,
    /// Tokens that each of these sees, in the mean.
    pub(super) seen: f64,
    /// Tokens of prompts, over all replicas of attention.
    pub(super) prompts: f64,
}

/// What a pass takes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pass {
    /// Seconds, on accelerators and host.
    pub(super) seconds: f64,
    /// Operations over the peak, bytes over the bandwidth, and exchanges, in seconds.
    pub(super) ideal: Activity,
}

/// The longer of two times that hide behind each other, and a little more where they are alike: neither hides all of itself.
fn either(one: f64, other: f64) -> f64 {
    let (long, short) = (one.max(other), one.min(other));
    if long > 0.0 { long * (1.0 + (short / long).powi(3)).cbrt() } else { 0.0 }
}

/// A deployment on a machine, ready to be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine<'a> {
    pub(super) work: Work,
    pub(super) profile: &'a Profile,
    machine: &'a Machine,
    tp: f64,
    pp: f64,
    replicas: f64,
    accelerators: f64,
    expert_parts: f64,
    dense_bytes: f64,
    expert_bytes: f64,
    bandwidth: f64,
    /// Operations a second: of 16-bit products, of dense ones, of those of experts; what of the last two is reached.
    half: f64,
    dense: [f64; 2],
    routed: [f64; 2],
}

impl<'a> Engine<'a> {
    pub(super) fn new(deployment: &Deployment<'_>, machine: &'a Machine, profile: &'a Profile) -> Result<Self, Error> {
        let (layout, accelerator) = (deployment.layout, &machine.accelerator);
        let degree = |figure: &'static str, value: u64| {
            if value == 0 { Err(Error::Work { figure, value: 0.0, expected: "at least 1" }) } else { Ok(real(value)) }
        };
        let tp = degree("tp", layout.tp)?;
        let pp = degree("pp", layout.pp)?;
        let replicas = degree("attention_replicas", deployment.attention_replicas)?;
        let ep = degree("ep", layout.ep)?;
        let peak = |format: Format| {
            accelerator
                .peak(format)
                .map(|peak| peak.0)
                .ok_or(Error::Impossible("the accelerator has no matrix products of this format"))
        };
        let speed = |format: Format| -> Result<[f64; 2], Error> {
            let share = match format {
                Format::Tf32 | Format::Fp16 | Format::Bf16 => profile.gemm,
                Format::Fp8 => profile.gemm_8,
                Format::Fp4 => profile.gemm_4,
            };
            Ok([peak(format)?, share])
        };
        let routed = speed(deployment.products)?;
        Ok(Self {
            work: Work::of(deployment),
            profile,
            machine,
            tp,
            pp,
            replicas,
            accelerators: tp * replicas,
            expert_parts: ep,
            dense_bytes: deployment.dense_bytes,
            expert_bytes: layout.weight_bytes,
            bandwidth: accelerator.bandwidth.0,
            half: peak(Format::Bf16)?,
            dense: if deployment.dense_bytes > 1.5 { speed(Format::Bf16)? } else { routed },
            routed,
        })
    }

    /// Bytes of weights on one accelerator.
    pub(super) fn weights(&self) -> f64 {
        (self.work.dense * self.dense_bytes + 2.0 * self.work.head * HALF) / (self.tp * self.pp)
            + self.work.routed * self.expert_bytes / (self.accelerators * self.pp)
    }

    /// Bytes that one accelerator keeps of a sequence of `context` tokens.
    pub(super) fn sequence_bytes(&self, context: f64) -> f64 {
        self.work.sequence_bytes(context, self.tp, self.pp)
    }

    /// The time of `tokens` through all stages. Sequences are dealt to replicas of attention, and to as many micro-batches
    /// as there are stages, so that each stage has one at a time.
    pub(super) fn pass(&self, tokens: Tokens) -> Result<Pass, Error> {
        let (work, profile) = (&self.work, self.profile);
        let decoding =
            if tokens.sequences > 0.0 { (tokens.sequences / (self.replicas * self.pp)).max(1.0) } else { 0.0 };
        let all_decoding = tokens.sequences.max(0.0) / self.pp;
        let checked = tokens.checked.max(1.0);
        let rows = decoding * checked + tokens.prompt;
        let all_rows = all_decoding.max(decoding) * checked + tokens.prompts.max(tokens.prompt);
        let mut ideal = Activity::default();
        let mut seconds = 0.0;
        let mut class = |operations: f64, peak: [f64; 2], padding: f64, bytes: f64, share: f64| {
            let arithmetic = operations * padding / (peak[0] * peak[1]);
            let transfer = bytes / (self.bandwidth * share);
            ideal.compute += operations / peak[0];
            ideal.memory += bytes / self.bandwidth;
            seconds += arithmetic.max(transfer);
        };
        let padding = |rows: f64| 1.0 + profile.tile / rows.max(1.0);
        let dense = work.dense / self.tp;
        class(2.0 * rows * dense, self.dense, padding(rows), dense * self.dense_bytes, profile.bandwidth);
        if work.routed > 0.0 {
            let parts = self.accelerators;
            let uneven =
                if self.expert_parts > 1.5 { 1.0 + profile.imbalance * (1.0 - 1.0 / self.expert_parts) } else { 1.0 };
            let touched = work.touched(all_rows).max(work.top_k / work.experts);
            let each = all_rows * work.top_k / (work.experts * touched);
            let operations = 2.0 * all_rows * work.top_k / work.experts * work.routed / parts * uneven;
            let bytes = touched * work.routed * self.expert_bytes / parts * uneven;
            class(operations, self.routed, padding(each), bytes, profile.experts);
        }
        // Logits are those of sequences: of each that decodes, and of the prompt's last token.
        let answers = decoding * checked + if tokens.prompt > 0.0 { 1.0 } else { 0.0 };
        let half = [self.half, profile.gemm];
        let head = work.head / self.tp;
        class(2.0 * answers * head, half, padding(answers), head * HALF, profile.bandwidth);
        let attention = [self.half, profile.attention];
        if decoding > 0.0 {
            let attended = work.attended(tokens.context);
            let bytes = decoding * (attended * work.token_bytes + 2.0 * work.state_bytes / self.tp);
            class(decoding * checked * attended * work.decode_pair / self.tp, attention, 1.0, bytes, profile.cache);
        }
        if tokens.prompt > 0.0 {
            let attended = work.attended(tokens.seen);
            class(tokens.prompt * attended * work.prompt_pair / self.tp, attention, 1.0, 0.0, 1.0);
            let vectors = rows * (work.vectors[0] + work.vectors[1] / self.tp) * HALF;
            class(0.0, half, 1.0, vectors, profile.bandwidth);
        }
        let links = self.exchanges(rows, tokens.prompts.max(tokens.prompt) + all_decoding * checked)?;
        ideal.links += links;
        seconds += links
            + work.layers * profile.kernel
            + work.expert_layers * profile.expert_kernel
            + work.mixer_layers * profile.mixer_kernel;
        if tokens.prompt > 0.0 {
            let launches = work.layers * profile.eager + work.mixer_layers * profile.mixer_eager;
            seconds = either(seconds, launches);
        }
        ideal.busy = seconds;
        seconds = either(seconds, profile.host * self.pp + profile.sequence * all_decoding);
        Ok(Pass { seconds, ideal })
    }

    /// Seconds of all exchanges of a pass of `rows` tokens on one replica of attention, `all_rows` over all of them.
    fn exchanges(&self, rows: f64, all_rows: f64) -> Result<f64, Error> {
        let (work, mut seconds) = (&self.work, 0.0);
        let sums = if self.replicas > 1.5 { 2.0 * work.layers - work.expert_layers } else { 2.0 * work.layers };
        if self.tp > 1.5 {
            seconds += sums * self.sum(rows * work.hidden * HALF, self.tp)?;
        }
        if self.replicas > 1.5 && work.expert_layers > 0.0 {
            // A token goes to each accelerator that has one of its experts, in 8 bits, and comes back in 16.
            let copies = work.top_k.min(self.accelerators);
            let sent = all_rows / self.accelerators * copies * work.expert_hidden;
            let there = self.exchange(Kind::AllToAll, sent, self.accelerators)?;
            let back = self.exchange(Kind::AllToAll, sent * HALF, self.accelerators)?;
            seconds += work.expert_layers * (there + back);
        }
        if self.pp > 1.5 {
            let hop = self.machine.fabric.scale_up.bandwidth.0;
            seconds += (self.pp - 1.0) * (self.profile.exchange + rows * work.hidden * HALF / hop);
        }
        Ok(seconds)
    }

    /// A sum of `bytes` over `ranks`: by the collective library, or by the engine's own kernel, in which each reads all.
    fn sum(&self, bytes: f64, ranks: f64) -> Result<f64, Error> {
        let library = self.exchange(Kind::AllReduce, bytes, ranks)?;
        let up = &self.machine.fabric.scale_up;
        let inside = ranks < f64::from(up.accelerators) + 0.5;
        let own = self.profile.exchange + bytes * (ranks - 1.0) / (up.bandwidth.0 * up.profile.direct_share);
        Ok(if inside { own.min(library) } else { library })
    }

    fn exchange(&self, kind: Kind, bytes: f64, ranks: f64) -> Result<f64, Error> {
        let domain = u64::from(self.machine.fabric.scale_up.accelerators.max(1));
        let count = |ranks: u64| u32::try_from(ranks).unwrap_or(u32::MAX);
        let ranks = whole(ranks);
        let group = Group { ranks: count(ranks), per_domain: count(ranks.min(domain)) };
        let found = time(kind, Bytes(whole(bytes.max(1.0))), group, &self.machine.fabric);
        found
            .map(|prediction| prediction.seconds.0)
            .map_err(|_| Error::Impossible("no network joins the domains that the replica spans"))
    }
}
