//! `datahall diff A B`: what changes from one blueprint's plan to the other's.

use std::path::PathBuf;

use clap::Args;
use dh_plan::Plan;
use dh_units::Number;
use serde::Serialize;

use super::{Globals, Verb};
use crate::blueprint_file;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

/// The exit code when the plans differ.
const DIFFERENT: u8 = 5;

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The blueprint to start from
    from: PathBuf,
    /// The blueprint to compare with
    to: PathBuf,
    /// Only numbers whose id contains this
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Every number that differs, not only sums and what is written in the blueprints
    #[arg(long)]
    all: bool,
}

/// A number that is not the same in both.
#[derive(Serialize)]
struct Changed<'a> {
    id: &'a str,
    title: &'a str,
    unit: &'static str,
    from: Option<&'a dh_units::Value>,
    to: Option<&'a dh_units::Value>,
    /// New over old, where both are numbers and the old one is not zero.
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct Report<'a> {
    differences: Vec<Changed<'a>>,
}

impl Verb for Diff {
    const NAME: &'static str = "diff";
    const ABOUT: &'static str = "Compare the plans of two blueprints";
    const AFTER: &'static str = "Exit codes: 0 if the plans are the same, 5 if they differ";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let (from, to) = (planned(&self.from, globals)?, planned(&self.to, globals)?);
        let mut differences = changes(&from, &to);
        if let Some(part) = &self.only {
            differences.retain(|change| change.id.contains(part.as_str()));
        }
        let every = differences.len();
        if !self.all && self.only.is_none() && !globals.output.is_data() {
            differences.retain(|change| is_sum(change.id));
        }
        let code = if every == 0 { 0 } else { DIFFERENT };
        if globals.output.is_data() {
            output::versioned(&Report { differences })?;
        } else {
            print(&differences, every, globals);
        }
        Ok(code)
    }
}

fn planned(path: &std::path::Path, globals: &Globals) -> Result<Plan, Failure> {
    let (settings, origins) = blueprint_file::load_with_origins(path)?;
    super::plan::planned(&settings, &origins, globals)
}

/// What differs, in the order of the first plan; what only the second has comes last.
fn changes<'a>(from: &'a Plan, to: &'a Plan) -> Vec<Changed<'a>> {
    let change = |number: &'a Number, old: Option<&'a Number>, new: Option<&'a Number>| {
        let (old, new) = (old.map(|number| &number.value), new.map(|number| &number.value));
        let number_of = |value: Option<&dh_units::Value>| value.and_then(dh_units::Value::number);
        let ratio = number_of(old).zip(number_of(new)).filter(|(old, _)| *old != 0.0).map(|(old, new)| new / old);
        Changed { id: &number.id, title: &number.title, unit: number.value.unit(), from: old, to: new, ratio }
    };
    let mut changes = Vec::new();
    for old in from.ledger.numbers() {
        let new = to.ledger.get(&old.id);
        if new.is_none_or(|new| new.value != old.value) {
            changes.push(change(old, Some(old), new));
        }
    }
    for new in to.ledger.numbers().iter().filter(|new| from.ledger.get(&new.id).is_none()) {
        changes.push(change(new, None, Some(new)));
    }
    changes
}

/// Whether a number is one that people compare halls by: written in a blueprint, or a sum over the hall.
fn is_sum(id: &str) -> bool {
    let written = ["site.", "pool.", "fabric.", "store.", "workload."].iter().any(|start| id.starts_with(start));
    let short = |start: &str, parts: usize| id.starts_with(start) && id.split('.').count() <= parts;
    written
        || ["count.", "power.", "cost.", "failures.", "floor."].iter().any(|start| short(start, 2))
        || short("cost.build.", 3)
        || short("network.", 3)
        || short("storage.", 3)
        || short("training.", 3)
        || id.split('.').next_back() == Some("ettr")
}

fn print(differences: &[Changed<'_>], every: usize, globals: &Globals) {
    if every == 0 {
        if !globals.quiet {
            output::note("the plans are the same");
        }
        return;
    }
    let mut table =
        Table::new(&[("NUMBER", Side::Left), ("FROM", Side::Right), ("TO", Side::Right), ("", Side::Right)]);
    let text = |value: Option<&dh_units::Value>| value.map_or_else(|| "-".to_owned(), ToString::to_string);
    for change in differences {
        let percent = change.ratio.map_or_else(String::new, |ratio| format!("{:+.1} %", (ratio - 1.0) * 100.0));
        table.row([change.id.to_owned(), text(change.from), text(change.to), percent]);
    }
    table.lines().iter().for_each(output::line);
    let hidden = every - differences.len();
    if hidden > 0 && !globals.quiet {
        output::note(output::dim(format!("{hidden} more numbers differ; `--all` shows them")));
    }
}
