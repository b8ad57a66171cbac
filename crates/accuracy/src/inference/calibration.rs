//! Fits the numbers of serving: what generations of accelerators and families of engines differ in, and for any other the middle
//! of these.
//!
//! Invariant: a held-out row's group had no part in the numbers that predict it. The group is a model on a generation of
//! accelerators: rows that differ only in load or split are not independent, and the rows of one engine version are too
//! few to be a group. A fit without a group keeps the slopes of the fit to all (`descent`); fitted afresh without each group
//! the held-out medians were the same to 0.3 % (2026-11-25: 12.1, 26.1 and 16.0 % against 12.1, 25.8 and 15.9 %).

use std::collections::BTreeMap;

use dh_blueprint::Catalog;
use dh_perf::serving::{Number, Profile};

use super::case::Case;
use super::descent::{self, Linear};
use super::{Quantity, Table};
use crate::fit::{Parameter, Problem, Scale};
use crate::{Calibration, Error, Moved, Validation};

/// Which rows share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Any,
    Generation,
    Family,
}

/// What belongs to hardware, and what to software; the rest is of any.
const OF_HARDWARE: [&str; 8] = ["gemm", "gemm_8", "gemm_4", "bandwidth", "experts", "cache", "attention", "exchange"];
const OF_SOFTWARE: [&str; 11] = [
    "kernel",
    "expert_kernel",
    "mixer_kernel",
    "host",
    "sequence",
    "eager",
    "mixer_eager",
    "mixed",
    "first",
    "arrival",
    "burst",
];
const GENERATIONS: [&str; 4] = ["hopper", "blackwell", "blackwell-pcie", "cdna3"];
const FAMILIES: [&str; 3] = ["vllm", "sglang", "trtllm"];

/// A number of one scope: with the generation or family that it is of, empty for any.
#[derive(Debug, Clone, PartialEq)]
struct Slot {
    scope: Scope,
    of: &'static str,
    number: &'static Number,
}

/// Rows whose quantities are fitted.
struct Fitting<'a> {
    slots: Vec<Slot>,
    parameters: Vec<Parameter>,
    entries: Vec<(usize, Quantity, f64, String)>,
    table: &'a Table,
}

impl<'a> Fitting<'a> {
    fn new(table: &'a Table, group: &dyn Fn(usize) -> String) -> Self {
        let (mut slots, mut parameters) = (Vec::new(), Vec::new());
        for number in Profile::NUMBERS.iter().filter(|number| !number.name.ends_with("_spread")) {
            let (scope, each): (Scope, &[&str]) = if OF_HARDWARE.contains(&number.name) {
                (Scope::Generation, &GENERATIONS)
            } else if OF_SOFTWARE.contains(&number.name) {
                (Scope::Family, &FAMILIES)
            } else {
                (Scope::Any, &[""])
            };
            for of in each {
                slots.push(Slot { scope, of, number });
                parameters.push(parameter(number));
            }
        }
        let mut entries = Vec::new();
        for (at, (row, case)) in table.rows.iter().zip(&table.cases).enumerate() {
            let Ok(case) = case else { continue };
            if case.family.is_empty() || !GENERATIONS.contains(&case.generation.as_str()) {
                continue;
            }
            for quantity in Quantity::ALL {
                let fitted = match quantity {
                    Quantity::Tpot | Quantity::Ttft => Table::judged(row),
                    Quantity::Rate => row.mode.contains("max load"),
                };
                if let Some(measured) = quantity.measured(row).filter(|_| fitted) {
                    entries.push((at, quantity, measured, group(at)));
                }
            }
        }
        Self { slots, parameters, entries, table }
    }

    /// The factors within which four of five of `errors` lie, without those of the group `but`.
    fn spreads(&self, errors: &[Option<f64>], but: &str) -> [f64; 3] {
        Quantity::ALL.map(|quantity| {
            let mut off: Vec<f64> = self
                .entries
                .iter()
                .zip(errors)
                .filter(|((_, of, _, group), _)| *of == quantity && group != but)
                .filter_map(|(_, error)| error.map(f64::abs))
                .collect();
            off.sort_by(f64::total_cmp);
            off.get(off.len() * 8 / 10).map_or(2.0, |off| off.exp())
        })
    }

    fn profile(&self, case: &Case, values: &[f64]) -> Profile {
        let mut profile = Profile::START;
        for (slot, value) in self.slots.iter().zip(values) {
            if slot.is_of(case) {
                profile.set(slot.number.name, *value);
            }
        }
        profile
    }
}

impl Slot {
    fn is_of(&self, case: &Case) -> bool {
        match self.scope {
            Scope::Any => true,
            Scope::Generation => self.of == case.generation,
            Scope::Family => self.of == case.family,
        }
    }
}

fn parameter(number: &Number) -> Parameter {
    let linear = number.low <= 0.0;
    Parameter {
        name: number.name.to_owned(),
        meaning: number.meaning.to_owned(),
        low: number.low,
        high: number.high,
        prior: number.start,
        // Without a group whose rows alone say what a number is, one that is pulled less lies further off: held-out times per
        // token are 13.7 % off in the median at 0.05, 12.5 % at 0.4, 12.1 % at 0.7, 12.6 % at 2.5.
        pull: 0.7,
        scale: if linear { Scale::Linear } else { Scale::Logarithmic },
    }
}

impl Problem for Fitting<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn rows(&self) -> usize {
        self.entries.len()
    }

    fn source(&self, row: usize) -> &str {
        self.entries.get(row).map_or("", |(.., group)| group)
    }

    fn touches(&self, parameter: usize, row: usize) -> bool {
        let (Some(slot), Some((at, quantity, ..))) = (self.slots.get(parameter), self.entries.get(row)) else {
            return false;
        };
        let Some(Ok(case)) = self.table.cases.get(*at) else { return false };
        let only_first = ["first", "burst"].contains(&slot.number.name);
        slot.is_of(case) && (*quantity != Quantity::Tpot || !only_first)
    }

    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        let (at, quantity, measured, _) = self.entries.get(row)?;
        let case = self.table.cases.get(*at)?.as_ref().ok()?;
        let answer = case.answer(&self.profile(case, values)).ok()?;
        Some((quantity.of(&answer).0 / measured).ln())
    }
}

/// By what rows are grouped to be held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A model on a generation of accelerators.
    ModelOnGeneration,
    /// A model.
    Model,
    /// An accelerator.
    Accelerator,
    /// An engine's family with a model.
    EngineAndModel,
}

fn group(table: &Table, held: Held, at: usize) -> String {
    table.rows.get(at).map_or_else(String::new, |row| {
        let model = row.model.rsplit('/').next().unwrap_or(&row.model);
        match held {
            Held::ModelOnGeneration => format!("{model} on {}", row.generation()),
            Held::Model => model.to_owned(),
            Held::Accelerator => row.accelerator.clone(),
            Held::EngineAndModel => format!("{model} by {}", row.family()),
        }
    })
}

/// Every row as predicted by the fit to the rows of all other groups.
/// # Errors
/// If the file is not in the format.
pub fn held_out_by(catalog: &Catalog, csv: &str, held: Held, progress: &dyn Fn(&str)) -> Result<Validation, Error> {
    let table = Table::read(catalog, csv)?;
    let fitting = Fitting::new(&table, &|at| group(&table, held, at));
    let start: Vec<f64> = fitting.parameters.iter().map(|parameter| parameter.prior).collect();
    let fitted = descent::fit(&fitting, &start);
    Ok(held_out(&fitting, &fitted, &|at| group(&table, held, at), progress).0)
}

/// Every row as the fit to all other groups has it, with intervals from how far that fit was from groups other than its own; and
/// the factors of all groups together.
fn held_out(
    fitting: &Fitting<'_>,
    (all, linear): &(Vec<f64>, Linear),
    group: &dyn Fn(usize) -> String,
    progress: &dyn Fn(&str),
) -> (Validation, [f64; 3]) {
    let mut without = BTreeMap::new();
    for name in fitting.entries.iter().map(|(.., name)| name.clone()).collect::<std::collections::BTreeSet<_>>() {
        progress(&name);
        let values = linear.without(fitting, &|row| fitting.source(row) != name);
        without.insert(name, values);
    }
    let errors: Vec<Option<f64>> =
        (0..fitting.entries.len()).map(|row| fitting.log_ratio(row, without.get(fitting.source(row))?)).collect();
    let everywhere = fitting.spreads(&errors, "");
    let spreads: BTreeMap<&str, [f64; 3]> =
        without.keys().map(|name| (name.as_str(), fitting.spreads(&errors, name))).collect();
    let validation = fitting.table.validation(&|at, case| {
        let name = group(at);
        let values = without.get(&name).unwrap_or(all);
        widened(fitting.profile(case, values), spreads.get(name.as_str()).copied().unwrap_or(everywhere))
    });
    (validation, everywhere)
}

fn widened(mut profile: Profile, spreads: [f64; 3]) -> Profile {
    [profile.tpot_spread, profile.ttft_spread, profile.rate_spread] = spreads;
    profile
}

pub(super) fn calibrate(catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
    let table = Table::read(catalog, csv)?;
    let by = |at: usize| group(&table, Held::ModelOnGeneration, at);
    let fitting = Fitting::new(&table, &by);
    if fitting.entries.is_empty() {
        return Err(Error::Nothing("the file has no rows of an engine and an accelerator that profiles are of"));
    }
    progress("all rows");
    let start: Vec<f64> = fitting.parameters.iter().map(|parameter| parameter.prior).collect();
    let both = descent::fit(&fitting, &start);
    let values = both.0.clone();
    let (held, spreads) = held_out(&fitting, &both, &by, progress);
    let fitted = table.validation(&|_, case| widened(fitting.profile(case, &values), spreads));
    Ok(Calibration { profiles: profiles(&fitting, catalog, &values, spreads), fitted, held_out: held })
}

/// The files: of any, of each generation, of each family.
fn profiles(fitting: &Fitting<'_>, catalog: &Catalog, values: &[f64], spreads: [f64; 3]) -> Vec<crate::Profile> {
    let mut all: Vec<crate::Profile> = Vec::new();
    let mut any: BTreeMap<&'static str, f64> = BTreeMap::new();
    // What no profile is of takes the middle of those that are.
    for number in Profile::NUMBERS {
        let mut of: Vec<f64> = fitting
            .slots
            .iter()
            .zip(values)
            .filter(|(slot, _)| slot.number.name == number.name)
            .map(|(_, value)| *value)
            .collect();
        of.sort_by(f64::total_cmp);
        let low = of.get((of.len().max(1) - 1) / 2);
        let high = of.get(of.len() / 2);
        if let (Some(low), Some(high)) = (low, high) {
            any.insert(number.name, f64::midpoint(*low, *high));
        }
    }
    for (name, spread) in ["tpot_spread", "ttft_spread", "rate_spread"].into_iter().zip(spreads) {
        any.insert(name, spread);
    }
    all.push(file(catalog, "serving", "Serving, any hardware and engine", "any", any));
    for of in GENERATIONS.iter().chain(&FAMILIES) {
        let numbers: BTreeMap<&'static str, f64> = fitting
            .slots
            .iter()
            .zip(values)
            .filter(|(slot, _)| slot.of == *of)
            .map(|(slot, value)| (slot.number.name, *value))
            .collect();
        let hardware = if GENERATIONS.contains(of) { of } else { "any" };
        all.push(file(catalog, &format!("serving-{of}"), &format!("Serving, {of}"), hardware, numbers));
    }
    all
}

const SOURCE: &str = "fitted by `datahall calibrate inference` to data/published/inference.csv";

fn file(
    catalog: &Catalog,
    name: &str,
    title: &str,
    hardware: &str,
    numbers: BTreeMap<&'static str, f64>,
) -> crate::Profile {
    let before = catalog.efficiency(name).map(|item| item.numbers.value.0.clone()).unwrap_or_default();
    let mut toml = format!(
        "# What the model of serving has learned; fitted by `datahall calibrate inference`.\ntitle = \"{title}\"\n\
         source = \"{SOURCE}\"\nsubject = \"serving\"\n\
         stack = \"vLLM 0.12 to 0.19, SGLang 0.5, TensorRT-LLM 1.0 to 1.3\"\ndate = \"2026-11-25\"\n\
         hardware = [\"{hardware}\"]\n\n[numbers]\nsource = \"{SOURCE}\"\n\n[numbers.value]\n"
    );
    let mut moved = Vec::new();
    for (key, value) in numbers {
        // Four digits: a fit knows no more.
        let written = format!("{value:.3e}").parse().unwrap_or(value);
        toml.extend([key, " = ", &format!("{written:?}"), "\n"]);
        let meaning = Profile::NUMBERS.iter().find(|number| number.name == key).map_or("", |number| number.meaning);
        moved.push(Moved {
            name: key.to_owned(),
            meaning: meaning.to_owned(),
            before: before.get(key).copied(),
            after: written,
        });
    }
    crate::Profile { name: name.to_owned(), toml, moved }
}
