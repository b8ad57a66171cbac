//! One published training run, as its file has it.

use serde::Deserialize;

/// The fields are the columns; a cell may be empty.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) model: String,
    pub(super) params_total_b: Option<f64>,
    pub(super) params_active_b: Option<f64>,
    pub(super) layers: Option<u64>,
    pub(super) hidden: Option<u64>,
    pub(super) ffn_hidden: Option<u64>,
    pub(super) heads: Option<u64>,
    pub(super) kv_heads: Option<u64>,
    pub(super) vocab: Option<u64>,
    pub(super) seq_len: Option<u64>,
    pub(super) moe_experts: Option<u64>,
    pub(super) moe_topk: Option<u64>,
    pub(super) accelerator: String,
    pub(super) n_accel: Option<u64>,
    pub(super) tp: Option<u64>,
    pub(super) pp: Option<u64>,
    pub(super) dp: Option<u64>,
    pub(super) ep: Option<u64>,
    pub(super) cp: Option<u64>,
    pub(super) vpp: Option<u64>,
    pub(super) micro_batch: Option<f64>,
    pub(super) global_batch_seqs: Option<f64>,
    pub(super) precision: String,
    pub(super) recompute: String,
    pub(super) zero_stage_or_fsdp: String,
    pub(super) measured_metric: String,
    pub(super) measured_value: f64,
    pub(super) notes: String,
}

impl Row {
    /// Whether the notes have these words.
    pub(super) fn says(&self, words: &str) -> bool {
        self.notes.contains(words)
    }

    /// The software stack that the source ran, by its name in the profiles.
    pub(super) fn stack(&self) -> &'static str {
        let found = STACKS.iter().find(|(words, _)| self.source.contains(words)).map(|(_, stack)| *stack);
        found.unwrap_or(dh_perf::pretraining::ANY)
    }

    /// The stack with its release, where releases are told apart.
    pub(super) fn release(&self) -> &'static str {
        let found = RELEASES.iter().find(|(words, _)| self.source.contains(words)).map(|(_, release)| *release);
        found.unwrap_or_else(|| self.stack())
    }
}

/// Words of a source, and the stack that it ran.
const STACKS: [(&str, &str); 13] = [
    ("Megatron-Bridge", "megatron-bridge"),
    ("AutoModel", "nemo-automodel"),
    ("llm-foundry", "llm-foundry"),
    ("BLOOM", "megatron-deepspeed"),
    ("BigScience", "megatron-deepspeed"),
    ("InternEvo", "internevo"),
    ("MaxText", "maxtext"),
    ("torchtitan", "torchtitan"),
    ("when-to-upgrade", "deepspeed"),
    ("cases_april2021", "megatron-lm-2021"),
    ("Recomputation", "megatron-lm-2021"),
    ("PaLM paper", dh_perf::pretraining::ANY),
    ("Megatron", "megatron-lm-2024"),
];

/// Words of a source, and the release that it ran.
pub(super) const RELEASES: [(&str, &str); 6] = [
    ("summary 25.09", "megatron-bridge 25.09"),
    ("summary 25.11", "megatron-bridge 25.11"),
    ("summary 26.02", "megatron-bridge 26.02"),
    ("summary 26.04", "megatron-bridge 26.04"),
    ("summary 26.06", "megatron-bridge 26.06"),
    ("summary 26.08", "megatron-bridge 26.08"),
];
