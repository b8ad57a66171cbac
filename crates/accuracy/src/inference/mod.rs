//! Serving: time to the first token, time per further token and tokens a second, row by row.
//!
//! Most published rows are one file of measurements of many engines. So `source` of an outcome is what the file's column
//! says, and held-out fits leave out groups that share what a fit could learn by heart: all rows of one model on one
//! generation of accelerators (see `calibration`). Invariant: a row that the model refuses is an outcome that says why.

mod calibration;
mod case;
mod descent;
mod row;

use std::collections::BTreeMap;

use dh_blueprint::Catalog;
use dh_perf::serving::Profile;
use dh_perf::validation::Outcome;

use crate::{Calibration, Error, Subject, Validation};
use case::{Answer, Case};
use row::Row;

pub use calibration::{Held, held_out_by};

/// Serving.
#[derive(Debug, Clone, Copy)]
pub struct Inference;

/// Milliseconds above which a measured time to the first token is a queue's.
const QUEUE: f64 = 1000.0;

/// One measured quantity of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Tpot,
    Ttft,
    Rate,
}

impl Quantity {
    const ALL: [Self; 3] = [Self::Tpot, Self::Ttft, Self::Rate];

    const fn name(self) -> &'static str {
        match self {
            Self::Tpot => "tpot_ms",
            Self::Ttft => "ttft_ms",
            Self::Rate => "tokens_per_s",
        }
    }

    fn measured(self, row: &Row) -> Option<f64> {
        let value = match self {
            Self::Tpot => row.tpot_ms,
            Self::Ttft => row.ttft_ms,
            Self::Rate => row.tokens_per_s,
        };
        value.filter(|value| *value > 0.0)
    }

    const fn of(self, answer: &Answer) -> (f64, f64, f64) {
        match self {
            Self::Tpot => answer.tpot,
            Self::Ttft => answer.ttft,
            Self::Rate => answer.rate,
        }
    }
}

/// Rows with their cases.
struct Table {
    rows: Vec<Row>,
    cases: Vec<Result<Case, String>>,
}

impl Table {
    fn read(catalog: &Catalog, text: &str) -> Result<Self, Error> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers()?.clone();
        for needed in ["id", "model", "accelerator", "engine", "mode", "input_len", "output_len", "ttft_ms", "tpot_ms"]
        {
            if !columns.iter().any(|column| column == needed) {
                return Err(Error::Column(needed));
            }
        }
        let rows = reader.deserialize().collect::<Result<Vec<Row>, _>>()?;
        let cases = rows.iter().map(|row| Case::of(row, catalog)).collect();
        Ok(Self { rows, cases })
    }

    /// Whether the row is in the blocks `tpot` and `ttft`.
    fn judged(row: &Row) -> bool {
        row.mode.contains("aggregated") && row.ttft_ms.is_some_and(|ttft| ttft < QUEUE)
    }

    /// Every quantity of every row, as `profile` of a case has it.
    fn validation(&self, profile: &dyn Fn(usize, &Case) -> Profile) -> Validation {
        let (mut outcomes, mut blocks) = (Vec::new(), BTreeMap::<&'static str, Vec<usize>>::new());
        for (at, (row, case)) in self.rows.iter().zip(&self.cases).enumerate() {
            let answer = case.as_ref().map_err(Clone::clone).and_then(|case| case.answer(&profile(at, case)));
            for quantity in Quantity::ALL {
                let Some(measured) = quantity.measured(row) else { continue };
                let block = match quantity {
                    Quantity::Tpot => Self::judged(row).then_some("tpot"),
                    Quantity::Ttft => Self::judged(row).then_some("ttft"),
                    Quantity::Rate => Some("throughput"),
                };
                if let Some(block) = block {
                    blocks.entry(block).or_default().push(outcomes.len());
                }
                outcomes.push(outcome(row, quantity, measured, &answer));
            }
        }
        Validation { outcomes, blocks: blocks.into_iter().collect() }
    }
}

fn outcome(row: &Row, quantity: Quantity, measured: f64, answer: &Result<Answer, String>) -> Outcome {
    let said = answer.as_ref().ok().map(|answer| quantity.of(answer));
    let note = match answer {
        Ok(answer) if answer.outside.is_empty() => String::new(),
        Ok(answer) => format!("outside the calibrated range: {}", answer.outside.join("; ")),
        Err(why) => why.clone(),
    };
    Outcome {
        id: row.id.clone(),
        source: row.source.clone(),
        quantity: quantity.name().to_owned(),
        measured,
        predicted: said.map(|(value, ..)| value),
        low: said.map(|(_, low, _)| low),
        high: said.map(|(.., high)| high),
        note,
    }
}

impl Subject for Inference {
    fn word(&self) -> &'static str {
        "inference"
    }

    fn about(&self) -> &'static str {
        "serving: time to the first token, time per token, tokens a second"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let table = Table::read(catalog, csv)?;
        let mut known = BTreeMap::new();
        for case in table.cases.iter().flatten() {
            known
                .entry((case.generation.as_str(), case.family))
                .or_insert_with(|| Profile::of(catalog, &case.generation, case.family));
        }
        let profile = |_: usize, case: &Case| {
            known.get(&(case.generation.as_str(), case.family)).copied().unwrap_or(Profile::START)
        };
        Ok(table.validation(&profile))
    }

    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
        calibration::calibrate(catalog, csv, progress)
    }
}
