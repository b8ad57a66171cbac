//! `datahall plan --golden FILE`: our models against published numbers, row by row. The head of the file says which model is meant.

use std::path::Path;

use dh_blueprint::Catalog;
use dh_core::Kind;
use dh_facility::golden as facility;
use serde::Serialize;

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::output;

/// A file of published numbers; the largest there is has some thousand rows.
const BYTES_MAX: u64 = 16 << 20;

/// The exit code when a number is not reproduced, as for other differences.
const DIFFERENT: u8 = 5;

/// What stands in the JSON whatever the model: rows, how many are reproduced, and each that is not.
#[derive(Serialize)]
struct Outcome<M> {
    rows: usize,
    matched: usize,
    /// Rows that no model here computes: surveys, ranges, results of other systems.
    informative: usize,
    mismatches: Vec<M>,
}

pub(super) fn check(file: &Path, globals: &Globals) -> Result<u8, Failure> {
    let size = std::fs::metadata(file).or_fail_as(Kind::NotFound, format!("read {}", file.display()))?.len();
    if size > BYTES_MAX {
        return Err(Failure::new(
            Kind::TooLarge,
            format!("{} has {size} bytes, at most {BYTES_MAX} are read", file.display()),
        ));
    }
    let text = std::fs::read_to_string(file).or_fail_as(Kind::Invalid, format!("read {}", file.display()))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let head = reader.headers().or_fail_as(Kind::Invalid, format!("read the head of {}", file.display()))?.clone();
    let has = |name: &str| head.iter().any(|column| column == name);
    if has("switch_radix_end_ports") {
        let rows: Vec<dh_fabric::golden::Row> =
            reader.deserialize().collect::<Result<_, _>>().or_fail_as(Kind::Invalid, file.display())?;
        return fabrics(&rows, globals);
    }
    if !(has("quantity") && has("value")) {
        let known = "columns of a table of fabrics (switch_radix_end_ports, ..) or of quantities (quantity, value, ..)";
        return Err(Failure::new(Kind::Invalid, format!("{} has neither {known}", file.display())));
    }
    let records: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().or_fail_as(Kind::Invalid, file.display())?;
    let cell = |record: &'_ csv::StringRecord, name: &str| {
        head.iter().position(|column| column == name).and_then(|place| record.get(place)).unwrap_or("").to_owned()
    };
    let cells: Vec<[String; 5]> = records
        .iter()
        .map(|record| ["source", "quantity", "value", "unit", "notes"].map(|name| cell(record, name)))
        .collect();
    let rows: Vec<facility::Row<'_>> = cells
        .iter()
        .map(|[source, quantity, value, unit, notes]| facility::Row { source, quantity, value, unit, notes })
        .collect();
    let report = if rows.iter().any(|row| row.quantity == "faulty_gpu") {
        facility::failures(&rows)
    } else {
        facility::energy(&rows, h100())
    };
    let informative = report.rows.iter().filter(|row| row.verdict == facility::Verdict::Informative).count();
    let mismatches = report.rows.iter().filter(|row| row.verdict == facility::Verdict::Mismatch).cloned().collect();
    let outcome = Outcome { rows: report.rows.len(), matched: report.matched, informative, mismatches };
    tell(&outcome, globals, |row: &facility::Checked| {
        let ours = row.ours.map_or_else(|| "nothing".to_owned(), dh_units::significant);
        format!(
            "{}: {} is {ours} {} by our models ({}), published {}",
            row.source, row.quantity, row.unit, row.how, row.published
        )
    })
}

/// A number of a fabric that we do not reproduce, with the words of its row.
#[derive(Serialize)]
struct FabricMismatch<'r> {
    source: &'r str,
    nodes: u64,
    #[serde(flatten)]
    mismatch: dh_fabric::golden::Mismatch,
}

fn fabrics(rows: &[dh_fabric::golden::Row], globals: &Globals) -> Result<u8, Failure> {
    let report = dh_fabric::golden::check(rows);
    for note in &report.notes {
        if !globals.quiet {
            output::note(format!("{} row {}: {}", output::yellow("note:"), note.row + 1, note.note));
        }
    }
    let named = report.mismatches.into_iter().map(|mismatch| {
        let row = rows.get(mismatch.row);
        let (source, nodes) = row.map_or(("", 0), |row| (row.source.as_str(), row.nodes.into()));
        FabricMismatch { source, nodes, mismatch }
    });
    let outcome = Outcome { rows: report.rows, matched: report.matched, informative: 0, mismatches: named.collect() };
    tell(&outcome, globals, |row| {
        let dh_fabric::golden::Mismatch { field, expected, computed, error, .. } = &row.mismatch;
        let why = error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{}, {} nodes: {field} is {computed} by our rule, published {expected}{why}", row.source, row.nodes)
    })
}

/// Power of the eight-H100 node as the catalogue has it.
fn h100() -> facility::NodeFacts {
    let node = Catalog::builtin().node("dgx-h100");
    facility::NodeFacts {
        rated: node.map(|node| node.rated.value),
        measured: node.and_then(|node| node.measured_max.as_ref()).map(|power| power.value),
    }
}

fn tell<M: Serialize>(outcome: &Outcome<M>, globals: &Globals, line: impl Fn(&M) -> String) -> Result<u8, Failure> {
    if globals.output.is_data() {
        output::versioned(outcome)?;
    } else {
        for mismatch in &outcome.mismatches {
            output::line(line(mismatch));
        }
        let others = match outcome.informative {
            0 => String::new(),
            count => format!("; {count} more are not computed by any model here"),
        };
        output::line(format!("{} rows, {} reproduced{others}", outcome.rows, outcome.matched));
    }
    Ok(if outcome.mismatches.is_empty() { 0 } else { DIFFERENT })
}
