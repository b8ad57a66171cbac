//! What a row describes, in the terms of the model of power.
//!
//! Invariant: neither the power nor the energy of a row, nor what only follows from them, enters its job. A row's measured
//! throughput and step time do: the model says what an activity draws, not how fast a server is. A trace's job is known by
//! the power it draws without a cap, which another row of its group has.

use std::collections::BTreeMap;

use dh_blueprint::Catalog;
use dh_perf::hardware::{Accelerator, Format};
use dh_perf::power::{self, Activity, Decoding, Profile};
use dh_units::{Bytes, Flop, Seconds, Watts, whole};

use super::row::Row;
use super::shape::Shape;

/// What is done in the time that decoding does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Prompts of text are read.
    Prefill,
    /// The host works and the accelerator now and then: pictures are decoded and scaled, sequences are scheduled.
    Host,
}

/// What a row describes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    /// A language model that answers.
    Serving {
        /// One of its accelerators.
        accelerator: Accelerator,
        /// A step.
        decoding: Decoding,
        /// Share of time in such steps.
        share: f64,
        /// What fills the rest.
        rest: Rest,
        /// What the source prints, over average power.
        convention: f64,
    },
    /// A picture or film that is made in many passes over all of it.
    Denoising {
        /// One of its accelerators.
        accelerator: Accelerator,
        /// Operations over the peak.
        products: f64,
    },
    /// A training under a cap of power.
    Capped {
        /// The accelerator's name in the catalogue.
        accelerator: &'static str,
        /// What the same training draws without.
        uncapped: Watts,
        /// The cap.
        cap: Watts,
        /// The accelerator's default limit.
        limit: Watts,
    },
    /// Nothing that a model of power could be held against.
    None(&'static str),
}

/// The job of each row.
pub(super) fn jobs(catalog: &Catalog, rows: &[Row]) -> Vec<Job> {
    let references = References::of(rows);
    rows.iter().map(|row| job(catalog, row, &references)).collect()
}

fn job(catalog: &Catalog, row: &Row, references: &References) -> Job {
    if row.source.contains("model card") && row.avg_power_w_per_accel.is_none() {
        return Job::None("circular: the card multiplies hours by thermal design power, nothing was metered");
    }
    if row.notes.contains("CIRCULAR") {
        return Job::None("circular: the energy is hours times thermal design power, nothing was metered");
    }
    if row.notes.contains("second-hand") || row.notes.contains("not readable") || row.source.contains("Google Gemini") {
        return Job::None("the source gives a total, and neither the accelerator's work nor its hours");
    }
    if row.source.contains("NSDI") {
        return references.capped(row);
    }
    if row.notes.contains("steps ") {
        return denoising(catalog, row).unwrap_or(Job::None("a cell that describes the making of a picture is empty"));
    }
    if row.throughput_tokens_s.is_some() {
        return serving(catalog, row).unwrap_or(Job::None("the model's size or the accelerator is not known"));
    }
    Job::None("the row does not say what its accelerators did in their time")
}

/// Tokens of a prompt, of which files say nothing: stated assumptions of the order of each task's prompts. They move the
/// cache that a step reads, by less than a tenth but where prompts are far longer than answers.
fn prompt(task: &str) -> f64 {
    match task {
        "gpqa" => 300.0,
        "image-chat" => 1_500.0,
        "sourcegraph-fim" | "video-chat" => 5_000.0,
        _ => 150.0,
    }
}

fn serving(catalog: &Catalog, row: &Row) -> Option<Job> {
    let accelerator = Accelerator::named(catalog, row.accelerator()?).ok()?;
    let shape = Shape::of(catalog, &row.model, row.params_b, row.noted("active_params_b"))?;
    let (throughput, batch) = (row.throughput_tokens_s?, row.batch_or_concurrency?.max(1.0));
    let accelerators = row.n_accel?.max(1);
    // A step gives each sequence a token: where its time is not printed, it is what throughput leaves.
    let printed = row.noted("median ITL ms").map(|ms| ms * 1e-3).or_else(|| row.noted("TPOT s"));
    let step = printed.filter(|step| *step > 0.0).unwrap_or(batch / throughput);
    let task = row.noted_word("task ").unwrap_or("");
    let tokens = prompt(task) + row.output_len.unwrap_or(0.0) / 2.0;
    let (weight, format) = match row.precision.as_str() {
        "fp8" => (1.0, Format::Fp8),
        // Kept in 4 bits, multiplied in 16.
        "mxfp4" => (Format::Fp4.bytes(), Format::Bf16),
        "fp16" => (2.0, Format::Fp16),
        _ => (2.0, Format::Bf16),
    };
    let each = |bytes: f64| Bytes(whole(bytes / f64::from(accelerators)));
    let decoding = Decoding {
        accelerators,
        layers: shape.layers,
        step: Seconds(step),
        dense: each(shape.dense * weight),
        experts: each(shape.touched(batch) * weight),
        cache: each(batch * (shape.cached(tokens) + shape.state)),
        flop: Flop(2.0 * shape.active() * batch / f64::from(accelerators)),
        format,
        routed: batch * shape.top_k / f64::from(accelerators),
        rescaled: if shape.count > 0.0 && format == Format::Fp8 { 1.0 } else { 0.0 },
    };
    let pictures = task.starts_with("image") || task.starts_with("video");
    // Servers of 2024 hold the accelerator up while the host schedules: their rest is no prefill alone, and draws as little.
    let rest = if pictures || row.source.contains("v2") { Rest::Host } else { Rest::Prefill };
    let convention = CONVENTIONS.iter().find(|(source, _)| row.source.contains(source)).map_or(1.0, |known| known.1);
    let share = (throughput * step / batch).min(1.0);
    Some(Job::Serving { accelerator, decoding, share, rest, convention })
}

/// What sources print over average power. The second leaderboard's power is derived from averages over different windows
/// and runs low, as its notes say; the factor is the median against the model fitted to the third. The first one's is
/// energy over latency, from a server of 2023 that decodes one sequence at a time.
const CONVENTIONS: [(&str, f64); 2] = [("leaderboard v2", 0.76), ("leaderboard v1", 1.0)];

fn denoising(catalog: &Catalog, row: &Row) -> Option<Job> {
    let accelerator = Accelerator::named(catalog, row.accelerator()?).ok()?;
    let parameters = row.params_b? * 1e9;
    let (steps, time) = (row.noted("steps ")?, row.noted("batch latency s")?);
    let size = row.notes.split(';').find_map(|part| part.split_once(" frames "))?;
    let (height, width) = size.0.trim().split_once('x')?;
    let (height, width, frames): (f64, f64, f64) =
        (height.parse().ok()?, width.parse().ok()?, size.1.trim().parse().ok()?);
    let lower = row.model.to_lowercase();
    // A token is 16 x 16 pixels (an encoder of 8, patches of 2), of films 4 frames; SANA's encoder takes 32, and its
    // attention is linear. Source: the models' reports.
    let coarse = lower.contains("sana");
    let side = if coarse { 32.0 } else { 16.0 };
    let tokens = height * width / (side * side) * ((frames - 1.0) / 4.0 + 1.0);
    // Guidance runs each pass with and without the prompt, but where it was distilled into the model.
    let guided = if lower.contains("flux") || lower.contains("hunyuanvideo") { 1.0 } else { 2.0 };
    // 12 L h^2 parameters in layers of h = 48 L: from 41 (PixArt) to 73 (CogVideoX 5B).
    let hidden = (4.0 * parameters).cbrt();
    let attention = if coarse { 0.0 } else { 4.0 * tokens * parameters / (12.0 * hidden) };
    // Where all blocks keep text and picture apart, each has parameters of its own, and a picture's tokens meet half.
    let met = if lower.contains("stable-diffusion-3") { 0.5 } else { 1.0 };
    let flop = steps * guided * row.batch_or_concurrency? * tokens * (2.0 * parameters * met + attention);
    let peak = accelerator.peak(Format::Bf16)?;
    let products = (Flop(flop / f64::from(row.n_accel?.max(1))) / Seconds(time)).0 / peak.0;
    Some(Job::Denoising { accelerator, products })
}

/// What trainings draw without a cap: the row of the highest cap of each group.
struct References {
    of_group: BTreeMap<String, f64>,
    of_workload: BTreeMap<String, Vec<f64>>,
}

impl References {
    fn of(rows: &[Row]) -> Self {
        let mut found = Self { of_group: BTreeMap::new(), of_workload: BTreeMap::new() };
        for row in rows.iter().filter(|row| row.source.contains("NSDI") && is_reference(row)) {
            if let Some(power) = row.avg_power_w_per_accel {
                found.of_group.insert(group(row), power);
                found.of_workload.entry(workload(row)).or_default().push(power);
            }
        }
        for powers in found.of_workload.values_mut() {
            powers.sort_by(f64::total_cmp);
        }
        found
    }

    fn capped(&self, row: &Row) -> Job {
        let (Some(accelerator), Some(cap), Some(limit)) = (row.accelerator(), row.power_cap_w, limit(row)) else {
            return Job::None("the row does not say its accelerator, its cap or the default limit");
        };
        if is_reference(row) {
            return Job::None("the run that its group is compared with: its power is what describes the job");
        }
        // A group whose run without a cap is not in the file is taken to draw what the same training draws at other
        // batches.
        let others = || self.of_workload.get(&workload(row)).and_then(|powers| powers.get(powers.len() / 2));
        match self.of_group.get(&group(row)).or_else(others) {
            Some(uncapped) => {
                Job::Capped { accelerator, uncapped: Watts(*uncapped), cap: Watts(cap), limit: Watts(limit) }
            }
            None => Job::None("no row says what this training draws without a cap"),
        }
    }
}

/// The cap that a trace's slowdowns are against: the default limit.
fn limit(row: &Row) -> Option<f64> {
    row.noted("slowdown vs the")
}

fn is_reference(row: &Row) -> bool {
    row.power_cap_w.zip(limit(row)).is_some_and(|(cap, limit)| cap >= limit)
}

fn group(row: &Row) -> String {
    let batch = row.batch_or_concurrency.unwrap_or(0.0);
    format!("{} {batch} {}", workload(row), row.noted_word("optimizer").unwrap_or(""))
}

/// A training on an accelerator, whatever its batch.
pub(super) fn workload(row: &Row) -> String {
    format!("{} {}", row.accelerator, row.model)
}

impl Job {
    /// Average power of an accelerator in watts, as the source prints it; `None` for what is no such job.
    pub(super) fn watts(&self, profile: &Profile) -> Option<f64> {
        let (accelerator, activity, convention) = match self {
            Self::Serving { accelerator, decoding, share, rest, convention } => {
                let rest = match rest {
                    Rest::Prefill => Activity::prefill(profile),
                    Rest::Host => Activity::preprocessing(profile),
                };
                let steps = decoding.activity(accelerator, profile);
                (accelerator, steps.mixed(*share, rest), *convention)
            }
            Self::Denoising { accelerator, products } => (accelerator, Activity::of_products(*products, profile), 1.0),
            Self::Capped { .. } | Self::None(_) => return None,
        };
        Some((accelerator.tdp? * power::share(activity, profile)).0 * convention)
    }

    /// The accelerator's name in the catalogue, or nothing.
    pub(super) fn accelerator(&self) -> &str {
        match self {
            Self::Serving { accelerator, .. } | Self::Denoising { accelerator, .. } => &accelerator.name,
            Self::Capped { accelerator, .. } => accelerator,
            Self::None(_) => "",
        }
    }
}
