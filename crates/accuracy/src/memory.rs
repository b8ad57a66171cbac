//! Memory of training runs against published figures: states, kept activations, peaks, and what did not fit.
//!
//! The reading of rows and the model are in `dh_perf::memory`; here models' shapes come from the catalogue. Invariant: each
//! quantity is judged for itself, since a share of right verdicts says nothing of gigabytes.

use dh_blueprint::Catalog;
use dh_perf::architecture::Architecture;
use dh_perf::memory::golden::{Row, outcome};
use dh_perf::validation::Outcome;

use crate::{Calibration, Error, Subject, Validation, rows};

/// The model of memory.
pub struct Memory;

/// Columns without which a row says nothing.
const NEEDED: [&str; 5] = ["id", "source", "model", "quantity", "value"];

/// Each quantity, which is judged for itself.
const QUANTITIES: [&str; 5] = ["weights_optimizer_gb", "activations_gb", "peak_gb", "oom", "fits"];

/// The page that a row was published on, without the line of it.
fn page(source: &str) -> &str {
    source.split_once(" line ").map_or(source, |(page, _)| page)
}

impl Subject for Memory {
    fn word(&self) -> &'static str {
        "memory"
    }

    fn about(&self) -> &'static str {
        "memory of training: states, activations, peaks, what fits"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let rows: Vec<Row> = rows::read(csv, &NEEDED)?;
        let shape = |name: &str| catalog.model_called(name).map(Architecture::from);
        let outcomes: Vec<Outcome> = rows
            .iter()
            .map(|row| outcome(row, shape(&row.model).as_ref()))
            .map(|outcome| Outcome { source: page(&outcome.source).to_owned(), ..outcome })
            .collect();
        let of = |quantity: &str| {
            outcomes.iter().enumerate().filter(|(_, outcome)| outcome.quantity == quantity).map(|(at, _)| at).collect()
        };
        let blocks: Vec<(&'static str, Vec<usize>)> =
            QUANTITIES.into_iter().map(|quantity| (quantity, of(quantity))).collect();
        Ok(Validation { outcomes, blocks })
    }

    fn calibrate(&self, _: &Catalog, _: &str, _: &dyn Fn(&str)) -> Result<Calibration, Error> {
        Err(Error::Nothing(
            "nothing of the model of memory is fitted: it counts tensors; what a runtime holds beside them is documented by its source",
        ))
    }
}
