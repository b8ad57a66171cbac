//! Reads a row of published serving measurements, and says how its source meant it.
//!
//! Invariant: what a row says of its layout is corrected in one place, here, and never by what it measured.

use dh_blueprint::{Catalog, ModelItem};
use dh_perf::architecture::Architecture;
use dh_perf::hardware::{Accelerator, Format};
use dh_perf::memory::ServingLayout;
use dh_perf::serving::{family, generation};
use serde::Deserialize;

/// A row as the file has it; names are those of the columns.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) model: String,
    pub(super) precision: String,
    pub(super) accelerator: String,
    pub(super) n_accel: Option<f64>,
    pub(super) tp: Option<f64>,
    pub(super) pp: Option<f64>,
    pub(super) ep: Option<f64>,
    pub(super) attention_dp: Option<f64>,
    pub(super) engine: String,
    pub(super) mode: String,
    pub(super) input_len: Option<f64>,
    pub(super) output_len: Option<f64>,
    pub(super) concurrency_or_batch: Option<f64>,
    pub(super) concurrency_kind: String,
    pub(super) metric_scope: String,
    pub(super) tokens_per_s: Option<f64>,
    pub(super) ttft_ms: Option<f64>,
    pub(super) tpot_ms: Option<f64>,
    pub(super) notes: String,
}

/// How the accelerators of a replica share the work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    pub(super) tp: u64,
    pub(super) pp: u64,
    pub(super) attention: u64,
    pub(super) expert_parts: u64,
}

/// A model's shape, and bytes and formats of its numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Served {
    pub(super) shape: Architecture,
    pub(super) weight_bytes: f64,
    pub(super) dense_bytes: f64,
    pub(super) cache_bytes: f64,
    pub(super) products: Format,
}

impl Row {
    /// A number that the notes have after `key`, as `batch_size=64`.
    pub(super) fn noted(&self, key: &str) -> Option<f64> {
        self.notes.split([' ', ';', ':']).find_map(|word| {
            let (name, value) = word.split_once('=')?;
            (name == key).then(|| value.parse().ok()).flatten()
        })
    }

    /// The generation of the accelerator.
    pub(super) fn generation(&self) -> String {
        generation(&self.accelerator.to_lowercase()).to_owned()
    }

    /// The family of the engine.
    pub(super) fn family(&self) -> &'static str {
        family(&self.engine)
    }

    /// The accelerator in the catalogue.
    pub(super) fn accelerator(&self, catalog: &Catalog) -> Result<Accelerator, String> {
        Accelerator::named(catalog, &self.accelerator.to_lowercase()).map_err(|error| error.to_string())
    }

    /// Mean tokens of prompts and answers. `InferenceX` draws lengths evenly from 0.8 of the nominal one to all of it; its
    /// runs are those with a date.
    pub(super) fn lengths(&self) -> Result<(f64, f64), String> {
        let (Some(input), Some(output)) = (self.input_len, self.output_len) else {
            return Err("the row does not say how long prompts and answers are".to_owned());
        };
        let drawn = if self.notes.contains("measured 20") { 0.9 } else { 1.0 };
        Ok(((input * drawn).max(1.0), (output * drawn).max(1.0)))
    }

    /// The split of one replica, corrected.
    ///
    /// The largest source writes the product of two readings of one degree where experts are dealt out: 8 accelerators with
    /// `tp 8, ep 8` become `tp 64, ep 8, moe_tp 8`, and attention in parallel over `tp` becomes `tp x tp`. No such run left
    /// one server of 8.
    pub(super) fn split(&self) -> Result<Split, String> {
        let degree = |value: Option<f64>| value.filter(|value| *value >= 1.0).map_or(1, dh_units::whole);
        let (tp, pp) = (degree(self.tp.or(self.n_accel)), degree(self.pp));
        let (ep, dp) = (degree(self.ep), degree(self.attention_dp));
        let moe_tp = degree(self.noted("moe_tp"));
        // A batch of each accelerator and no degree of attention: each has its own sequences.
        let shared = self.attention_dp.is_none() && tp > 1 && ep > 1;
        let of_each = self.noted("batch_size").zip(self.concurrency_or_batch).filter(|_| shared);
        if of_each.is_some_and(|(batch, all)| (all - batch * dh_units::real(tp)).abs() < 0.5) {
            return Ok(Split { tp: 1, pp, attention: tp, expert_parts: tp });
        }
        let squared = ep > 1 && ep == moe_tp && tp * dp == ep * moe_tp;
        let (tp, attention) = match (squared, dp > 1) {
            (true, true) => (1, ep),
            (true, false) => (ep, 1),
            (false, true) if tp == dp => (1, dp),
            (false, _) => (tp, dp),
        };
        if tp > 512 || attention > 512 || pp > 64 {
            return Err("the layout is no layout of one replica".to_owned());
        }
        Ok(Split { tp, pp, attention, expert_parts: if ep > 1 { tp * attention } else { 1 } })
    }

    /// Requests in flight on one replica.
    pub(super) fn concurrency(&self, split: Split) -> Result<f64, String> {
        let Some(value) = self.concurrency_or_batch.filter(|value| *value > 0.0) else {
            return Err("the row does not say how many requests are in flight".to_owned());
        };
        if self.concurrency_kind == "batch size per attention-dp rank" {
            return Ok(value * dh_units::real(split.attention));
        }
        // Several replicas behind one door: the batch of one is a part of all.
        let several = self.n_accel == Some(0.0) || split.attention == 1;
        let batch = self.noted("batch_size").filter(|batch| several && *batch > 0.0 && *batch < value);
        Ok(batch.unwrap_or(value))
    }

    /// The model in its published number formats.
    ///
    /// Stated assumptions: checkpoints of mixtures in 4 bits keep attention and shared experts in 16 (gpt-oss, Kimi and
    /// NVIDIA's quantised ones do); caches are of 8 bits where weights are; where an accelerator has no products of 4 bits,
    /// weights are widened to 16.
    pub(super) fn served(&self, model: &ModelItem, accelerator: &Accelerator) -> Served {
        let shape = Architecture::from(model);
        let mixture = shape.experts.is_some();
        let has = |format: Format| accelerator.peak(format).is_some();
        let written = self.model.to_lowercase();
        let precision = match self.precision.as_str() {
            "" if written.contains("fp8") => "fp8",
            "" if written.contains("fp4") => "fp4",
            other => other,
        };
        let latent = matches!(shape.attention, dh_perf::architecture::Attention::Mla(_)) || shape.mix.state_layers > 0;
        let wide = if mixture && (latent || written.contains("gpt-oss")) { 2.0 } else { Format::Fp4.bytes() };
        let (weight_bytes, dense_bytes, products, cache_bytes) = match precision {
            "fp8" | "int8" => (1.0, 1.0, if has(Format::Fp8) { Format::Fp8 } else { Format::Bf16 }, 1.0),
            "fp4" | "mxfp4" | "nvfp4" => {
                // gpt-oss is multiplied with activations of 8 bits.
                let narrow = if written.contains("gpt-oss") { Format::Fp8 } else { Format::Fp4 };
                (Format::Fp4.bytes(), wide, if has(Format::Fp4) { narrow } else { Format::Bf16 }, 1.0)
            }
            "int4" => (0.5625, if mixture { 2.0 } else { 0.5625 }, Format::Bf16, 2.0),
            _ => (2.0, 2.0, Format::Bf16, 2.0),
        };
        Served { shape, weight_bytes, dense_bytes, cache_bytes, products }
    }

    /// Tokens accepted per step.
    ///
    /// Stated assumption: `DeepSeek` under TensorRT-LLM 1.2.0rc6.post3 predicts several tokens. Its rows take 0.55 to 0.65 of
    /// the time per token of 1.2.0rc6.post2 in the same layout and under the same load, and no other change between two
    /// patches does that.
    pub(super) fn accepted(&self) -> f64 {
        if self.engine == "trtllm 1.2.0rc6.post3" && self.model.to_lowercase().contains("deepseek") { 1.8 } else { 1.0 }
    }

    /// The layout of a replica.
    pub(super) fn layout(served: &Served, split: Split, concurrency: f64, context: f64) -> ServingLayout {
        ServingLayout {
            tp: split.tp,
            pp: split.pp,
            ep: split.expert_parts,
            sequences: dh_units::whole(concurrency).max(1),
            context: dh_units::whole(context.ceil()).max(1),
            // The default budget of a pass of vLLM, SGLang and TensorRT-LLM on large accelerators.
            tokens_per_pass: 8192,
            weight_bytes: served.weight_bytes,
            cache_bytes: served.cache_bytes,
        }
    }
}
