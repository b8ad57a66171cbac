//! What is fitted, and to which profile's file each number belongs.
//!
//! Invariant: a number of an accelerator's or a stack's file touches only rows of that accelerator or stack; those of any
//! hardware touch all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dh_blueprint::Catalog;
use dh_perf::hardware::{Accelerator, Format};
use dh_perf::pretraining::{ANY, Number, Profile, Work, step};

use super::reading::{self, Reading};
use super::row::{RELEASES, Row};
use crate::fit::{Parameter, Scale};
use crate::{Moved, Profile as File};

/// Numbers that one profile of any hardware has.
const COMMON: &[&str] = &[
    "half_side",
    "memory",
    "vector",
    "quantise",
    "expert_side",
    "permute",
    "tensor_exposed",
    "context_exposed",
    "expert_exposed",
    "pipeline_exposed",
    "data_hidden",
    "data_leak",
    "gradient_exposed",
    "bubble",
    "host_us",
    "expert_host_us",
    "offload_gb",
    "operators",
];

/// The date of the fit that ships.
const DATE: &str = "2026-11-26";

/// Which rows a number touches.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    All,
    /// A generation, and the format that it is the number of.
    Hardware(&'static str, Option<Format>),
    Stack(&'static str),
    /// A stack on one generation only: its kernels were not made for that.
    Both(&'static str, &'static str),
}

/// Names of accelerators begin so, and share what they reach.
const GENERATIONS: &[(&str, &str, &[&str])] = &[
    ("a100", "NVIDIA A100", &["a100-40gb-sxm", "a100-80gb-sxm", "a100-80gb-pcie"]),
    ("h100", "NVIDIA H100", &["h100-80gb-sxm", "h100-80gb-pcie", "h800-80gb"]),
    ("h100-500w", "NVIDIA H100 at 500 W", &["h100-96gb-hbm2e-500w"]),
    ("h200", "NVIDIA H200", &["h200-141gb-sxm", "gh200-96gb"]),
    ("b200", "NVIDIA B200 and GB200", &["b200-sxm", "gb200"]),
    ("b300", "NVIDIA B300 and GB300", &["b300-sxm", "gb300"]),
    ("tpu-v3", "Google TPU v3", &["tpu-v3"]),
    ("tpu-v4", "Google TPU v4", &["tpu-v4"]),
    ("tpu-v5e", "Google TPU v5e", &["tpu-v5e"]),
    ("tpu-v5p", "Google TPU v5p", &["tpu-v5p"]),
    ("tpu-v6e", "Google TPU v6e", &["tpu-v6e"]),
];

const STACKS: &[&str] = &[
    "megatron-bridge",
    "nemo-automodel",
    "llm-foundry",
    "megatron-deepspeed",
    "internevo",
    "maxtext",
    "torchtitan",
    "deepspeed",
    "megatron-lm-2021",
    "megatron-lm-2024",
];

/// Stacks that say how far they overlap tensor-parallel exchange with products.
const TENSOR_OVERLAP: &[&str] = &["megatron-lm-2024", "torchtitan", "megatron-deepspeed", "megatron-lm-2021"];

/// Stacks of which enough is published to tell how far they overlap the exchange of gradients with the backward pass.
const GRADIENT_OVERLAP: &[&str] = &["megatron-bridge", "megatron-lm-2024", "megatron-deepspeed", "internevo"];

/// A file: its title, hardware, stack, and the numbers with their places among the parameters.
type Contents<'a> = (String, Vec<String>, &'a str, Vec<(usize, &'a str, f64)>);

#[derive(Debug)]
struct Known {
    reading: Result<Reading, String>,
    stack: &'static str,
    release: &'static str,
    source: String,
    base: Profile,
    measured: f64,
    generation: Option<&'static str>,
}

/// Rows, read once, and the numbers to fit.
#[derive(Debug)]
pub(super) struct Runs<'a> {
    rows: Vec<Known>,
    raw: &'a [Row],
    parameters: Vec<Parameter>,
    scopes: Vec<(Scope, &'static str)>,
}

fn generation(accelerator: &str) -> Option<&'static str> {
    GENERATIONS.iter().find(|(.., names)| names.contains(&accelerator)).map(|(name, ..)| *name)
}

impl<'a> Runs<'a> {
    pub(super) fn new(catalog: &Catalog, raw: &'a [Row]) -> Self {
        let rows = raw.iter().map(|row| {
            let reading = reading::read(row, catalog);
            let accelerator = reading.as_ref().map_or("", |reading| &reading.machine.accelerator.name);
            let mut base = Profile::DEFAULT;
            if let Ok(found) = Accelerator::named(catalog, accelerator) {
                base.gemm = found.measured_share.map_or(base.gemm, |share| share * 0.95);
            }
            Known {
                stack: row.stack(),
                release: row.release(),
                source: row.source.clone(),
                base,
                measured: row.measured_value,
                generation: generation(accelerator),
                reading,
            }
        });
        let mut runs = Self { rows: rows.collect(), raw, parameters: Vec::new(), scopes: Vec::new() };
        runs.numbers(catalog);
        runs
    }

    fn numbers(&mut self, catalog: &Catalog) {
        let mut add = |scope: Scope, number: &Number, prior: f64, pull: f64| {
            let name = match &scope {
                Scope::All => format!("any {}", number.name),
                Scope::Hardware(generation, _) => format!("{generation} {}", number.name),
                Scope::Stack(stack) => format!("{stack} {}", number.name),
                Scope::Both(stack, generation) => format!("{stack} on {generation} {}", number.name),
            };
            let scale = if number.low > 0.0 { Scale::Logarithmic } else { Scale::Linear };
            let meaning = number.meaning.trim().to_owned();
            self.parameters.push(Parameter { name, meaning, low: number.low, high: number.high, prior, pull, scale });
            self.scopes.push((scope, number.name));
        };
        for number in Profile::NUMBERS {
            if COMMON.contains(&number.name) && number.name != "bubble" {
                add(Scope::All, number, number.default, 0.02);
            }
        }
        for (generation, _, names) in GENERATIONS {
            let share = names.first().and_then(|name| Accelerator::named(catalog, name).ok()?.measured_share);
            for number in Profile::NUMBERS {
                let (format, prior) = match number.name {
                    "gemm" => (Format::Bf16, share.map_or(number.default, |share| share * 0.95)),
                    "gemm_fp8" => (Format::Fp8, number.default),
                    "gemm_fp4" => (Format::Fp4, number.default),
                    "attention" => (Format::Bf16, number.default),
                    _ => continue,
                };
                add(Scope::Hardware(generation, Some(format)), number, prior, 0.3);
            }
        }
        for stack in STACKS {
            for number in Profile::NUMBERS {
                match number.name {
                    "slowdown" => add(Scope::Stack(stack), number, number.default, 1.0),
                    // Flash attention 2, which does not use what Hopper added.
                    "attention" if *stack == "llm-foundry" => {
                        add(Scope::Both(stack, "h100"), number, number.default, 0.3);
                    }
                    "gradient_exposed" if GRADIENT_OVERLAP.contains(stack) => {
                        add(Scope::Stack(stack), number, number.default, 0.3);
                    }
                    "tensor_exposed" if TENSOR_OVERLAP.contains(stack) => {
                        add(Scope::Stack(stack), number, number.default, 0.3);
                    }
                    _ => {}
                }
            }
        }
        for (_, release) in RELEASES {
            for number in Profile::NUMBERS.iter().filter(|number| number.name == "expert_slowdown") {
                add(Scope::Stack(release), number, number.default, 1.0);
            }
        }
    }

    pub(super) fn parameters_of_fit(&self) -> &[Parameter] {
        &self.parameters
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn source_of(&self, row: usize) -> &str {
        self.rows.get(row).map_or("", |row| &row.source)
    }

    pub(super) fn reading(&self, row: usize) -> Result<&Reading, String> {
        self.rows.get(row).map_or_else(|| Err(String::new()), |row| row.reading.as_ref().map_err(Clone::clone))
    }

    pub(super) fn is_touched(&self, parameter: usize, row: usize) -> bool {
        let (Some(row), Some((scope, _))) = (self.rows.get(row), self.scopes.get(parameter)) else { return false };
        match scope {
            Scope::All => true,
            Scope::Hardware(generation, format) => {
                let of_format = row.reading.as_ref().is_ok_and(|reading| {
                    format.is_none_or(|format| format == reading.format || format == Format::Bf16)
                });
                row.generation == Some(generation) && of_format
            }
            Scope::Stack(stack) => row.stack == *stack || row.release == *stack,
            Scope::Both(stack, generation) => row.stack == *stack && row.generation == Some(generation),
        }
    }

    /// The profile of a row with these values.
    pub(super) fn profile(&self, row: usize, values: &[f64]) -> Profile {
        let Some(known) = self.rows.get(row) else { return Profile::DEFAULT };
        let mut profile = known.base;
        for ((scope, name), value) in self.scopes.iter().zip(values) {
            let wanted = match scope {
                Scope::All => true,
                Scope::Hardware(generation, _) => known.generation == Some(generation),
                Scope::Stack(stack) => known.stack == *stack || known.release == *stack,
                Scope::Both(stack, generation) => known.stack == *stack && known.generation == Some(generation),
            };
            if wanted {
                profile.set(name, *value);
            }
        }
        profile.known_accelerator = known.generation.is_some();
        profile.known_stack = STACKS.contains(&known.stack);
        profile
    }

    /// The logarithm of predicted over measured time.
    pub(super) fn time_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        let (known, raw) = (self.rows.get(row)?, self.raw.get(row)?);
        let reading = known.reading.as_ref().ok()?;
        let work = Work { shape: &reading.shape, layout: &reading.layout, products: reading.format };
        let step = step(&work, &reading.machine, &self.profile(row, values)).ok()?;
        let predicted = super::quantity::predicted(raw, reading, &step).ok()?;
        let ratio = (predicted / known.measured).ln();
        Some(if raw.measured_metric == "step_time_s" { ratio } else { -ratio })
    }

    /// The interval's factor of a row as if its source had never been published.
    pub(super) fn factor_without_source(&self, row: usize) -> f64 {
        let Some(known) = self.rows.get(row) else { return 1.0 };
        let others = || self.rows.iter().filter(|other| other.source != known.source);
        let mut profile = Profile::DEFAULT;
        profile.known_accelerator = others().any(|other| other.generation == known.generation);
        profile.known_stack = known.stack != ANY && others().any(|other| other.stack == known.stack);
        let Ok(reading) = &known.reading else { return 1.0 };
        let work = Work { shape: &reading.shape, layout: &reading.layout, products: reading.format };
        step(&work, &reading.machine, &profile).map_or(1.0, |step| step.outside.factor())
    }

    /// The profiles' files with these values.
    pub(super) fn files(&self, catalog: &Catalog, values: &[f64]) -> Vec<File> {
        let mut files: BTreeMap<String, Contents<'_>> = BTreeMap::new();
        for (at, ((scope, name), value)) in self.scopes.iter().zip(values).enumerate() {
            let touched = (0..self.rows.len()).any(|row| self.is_touched(at, row));
            if !touched {
                continue;
            }
            let (file, title, hardware, stack) = match scope {
                Scope::All => ("training".to_owned(), "Training, any hardware".to_owned(), vec![ANY.to_owned()], ANY),
                Scope::Hardware(generation, _) => {
                    let found = GENERATIONS.iter().find(|(known, ..)| known == generation);
                    let (title, names) = found.map_or(("", &[][..]), |(_, title, names)| (*title, *names));
                    let names = names.iter().map(|name| (*name).to_owned()).collect();
                    (format!("training-{generation}"), format!("Training on {title}"), names, ANY)
                }
                Scope::Both(stack, generation) => {
                    let found = GENERATIONS.iter().find(|(known, ..)| known == generation);
                    let (title, names) = found.map_or(("", &[][..]), |(_, title, names)| (*title, *names));
                    let names = names.iter().map(|name| (*name).to_owned()).collect();
                    let file = format!("training-with-{stack}-on-{generation}");
                    (file, format!("Training with {stack} on {title}"), names, *stack)
                }
                Scope::Stack(stack) => {
                    let file = stack.replace([' ', '.'], "-");
                    (format!("training-with-{file}"), format!("Training with {stack}"), vec![ANY.to_owned()], *stack)
                }
            };
            files.entry(file).or_insert_with(|| (title, hardware, stack, Vec::new())).3.push((at, *name, *value));
        }
        let sources = self.rows.iter().map(|row| &row.source).collect::<BTreeSet<_>>().len();
        let rows = self.rows.len();
        files
            .into_iter()
            .map(|(name, (title, hardware, stack, numbers))| {
                let source = format!("fitted {DATE} to {rows} published training runs of {sources} sources");
                let mut toml =
                    format!("title = {title:?}\nsource = {source:?}\nsubject = \"training\"\nstack = {stack:?}\n");
                writeln!(
                    toml,
                    "date = {DATE:?}\nhardware = {hardware:?}\n\n[numbers]\nsource = {source:?}\n\n[numbers.value]"
                )
                .unwrap_or_default();
                let before = catalog.efficiency(&name).map(|item| &item.numbers.value.0);
                let mut moved = Vec::new();
                for (at, number, value) in numbers {
                    let meaning = self.parameters.get(at).map_or("", |parameter| &parameter.meaning);
                    let shown = format!("{value:.4}");
                    writeln!(toml, "# {meaning}.\n{number} = {shown}").unwrap_or_default();
                    let before = before.and_then(|before| before.get(number)).copied();
                    let name = number.to_owned();
                    moved.push(Moved { name, meaning: meaning.to_owned(), before, after: value });
                }
                File { name, toml, moved }
            })
            .collect()
    }
}
