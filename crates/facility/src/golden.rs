//! Our models against published numbers, row by row.
//!
//! A row is what the file says: source, quantity, value, unit, notes; the caller reads the file. A row is compared
//! if a model of this crate computes it, or if it is an input of the models or a fact of the catalogue that must agree with
//! it; it is *informative* if nothing here can compute it: a survey, a range, another system's result. Invariant: a row that
//! nothing checked is never counted as matched.

use dh_units::{BitsPerSec, Ledger, Seconds, Watts, real};
use serde::{Deserialize, Serialize};

use crate::chain::worked_sizing;
use crate::failures::{Cause, Counting, LLAMA_DAYS, LLAMA_POPULATION, Model, Rates, checkpoint_max, write_time};

/// A row of a file of published numbers, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Who published it.
    pub source: &'a str,
    /// What it is: a stable word.
    pub quantity: &'a str,
    /// The number.
    pub value: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// Remarks.
    pub notes: &'a str,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Computed or looked up, and the same at the printed precision.
    Matched,
    /// Computed or looked up, and not the same.
    Mismatch,
    /// Nothing here computes it.
    Informative,
}

/// A row and what stands against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Who published it.
    pub source: String,
    /// What it is.
    pub quantity: String,
    /// What was published, as printed.
    pub published: String,
    /// Its unit.
    pub unit: String,
    /// What we have, in the same unit; `None` for informative rows.
    pub ours: Option<f64>,
    /// How we came by it, or why not.
    pub how: String,
    /// Whether they are the same.
    pub verdict: Verdict,
}

/// All rows of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The rows in their order, then what follows from several of them.
    pub rows: Vec<Checked>,
    /// How many are the same.
    pub matched: usize,
    /// How many are not.
    pub mismatches: usize,
}

impl Report {
    fn of(rows: Vec<Checked>) -> Self {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        Self { matched: count(Verdict::Matched), mismatches: count(Verdict::Mismatch), rows }
    }
}

/// Rated and measured power of an eight-H100 node as the caller's catalogue has them; `None` where it has not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeFacts {
    /// Rated power.
    pub rated: Option<Watts>,
    /// The most that was measured.
    pub measured: Option<Watts>,
}

/// What the counts of the report give, printed to three digits.
const DERIVED: [(&str, &str, &str); 5] = [
    ("sum_of_unexpected", "419", "count"),
    ("mean_time_between_unexpected", "3.09", "hours"),
    ("mean_time_between_all", "2.78", "hours"),
    ("accelerator_hours_between_unexpected", "50677", "hours"),
    ("unexpected_per_1000_node_days", "3.79", "count"),
];

/// Published failures: the counts must be those of [`Rates::published`], and what follows from the file's counts is
/// appended as rows of its own.
pub fn failures(rows: &[Row<'_>]) -> Report {
    let table = Rates::llama_3_405b();
    let mut checked: Vec<Checked> = rows.iter().map(|row| failure(row, &table)).collect();
    // From the counts in the file, not from our table: an edited file must show.
    let count = |cause: Cause| -> f64 {
        let of = |row: &&Row<'_>| table.rates.iter().any(|rate| rate.component == row.quantity && rate.cause == cause);
        rows.iter().filter(of).filter_map(|row| row.value.parse::<f64>().ok()).sum()
    };
    let unexpected = count(Cause::Unexpected);
    let hours = real(LLAMA_DAYS) * 24.0;
    let node_days = real(LLAMA_POPULATION.nodes * LLAMA_DAYS);
    let ours = [
        unexpected,
        hours / unexpected,
        hours / (unexpected + count(Cause::Planned)),
        hours * real(LLAMA_POPULATION.accelerators) / unexpected,
        unexpected * 1_000.0 / node_days,
    ];
    for ((quantity, value, unit), ours) in DERIVED.into_iter().zip(ours) {
        let row = Row { source: "derived from the counts above", quantity, value, unit, notes: "" };
        checked.push(compared(&row, ours, "54 days, 16,384 accelerators, 2,048 nodes"));
    }
    Report::of(checked)
}

fn failure(row: &Row<'_>, table: &Rates) -> Checked {
    if let Some(rate) = table.rates.iter().find(|rate| rate.component == row.quantity) {
        let expected = rate.expected(LLAMA_POPULATION, Seconds(real(LLAMA_DAYS) * 86_400.0));
        return compared(row, expected, "the table's rate x its own unit-days");
    }
    match row.quantity {
        "accelerators" => compared(row, real(LLAMA_POPULATION.accelerators), "the table's accelerators"),
        "checkpoint_time_at_20_gbit" => match write_time(530_000_000_000, 12, BitsPerSec(2e10).into()) {
            Some((_, time)) => compared(row, time.0 / 60.0, "530e9 parameters x 12 B / 20 Gb/s"),
            None => informative(row, "does not fit 64 bits"),
        },
        "effective_training_time" => {
            let mtbf = table.mtbf(LLAMA_POPULATION, Counting::Unexpected);
            let longest = |model| mtbf.and_then(|mtbf| checkpoint_max(0.9, mtbf, Seconds(360.0), model));
            let text = |model| longest(model).map_or_else(|| "none".to_owned(), |time| time.to_string());
            let (first, exact) = (text(Model::FirstOrder), text(Model::Exact));
            let how = format!(
                "its checkpoints and restarts are not published; with restarts of 6 min it needs checkpoints of at \
                 most {first} (first order) or {exact} (exact)"
            );
            informative(row, &how)
        }
        _ => informative(row, "nothing here computes it"),
    }
}

/// Published energy: the worked sizing is computed, node powers come from the catalogue as `node` says.
pub fn energy(rows: &[Row<'_>], node: NodeFacts) -> Report {
    let site = worked_sizing().site("power", &mut Ledger::new()).ok();
    let known = |row: &Row<'_>, power: Option<Watts>| match power {
        Some(power) => compared(row, power.0, "the catalogue"),
        None => informative(row, "the catalogue does not have it"),
    };
    let check = |row: &Row<'_>| match (row.quantity, &site) {
        ("dgx_h100_rated_power", _) => known(row, node.rated),
        ("dgx_h100_measured_peak_power", _) => known(row, node.measured),
        ("10000_h100_site_power", Some(site)) => {
            compared(row, site.supply.0 / 1e6, "10,000 x 700 W x 1.3 x PUE 1.30 x margin 1.1")
        }
        ("10000_h100_site_energy_per_year", Some(site)) => {
            compared(row, site.energy.kwh() / 1e6, "10,000 x 700 W x 1.3 x PUE 1.30 x 8,760 h, without the margin")
        }
        _ => informative(row, "a survey or another system's result; nothing here computes it"),
    };
    Report::of(rows.iter().map(check).collect())
}

/// Ours against the published number, at the precision that it is printed with.
fn compared(row: &Row<'_>, ours: f64, how: &str) -> Checked {
    let same = row.value.trim().parse::<f64>().is_ok_and(|published| {
        // The bit above half a place is for numbers like 42.5, which no rounding of decimals in binary settles.
        (ours - published).abs() <= half_place(row.value.trim()) * (1.0 + 1e-9)
    });
    checked(row, Some(ours), how, if same { Verdict::Matched } else { Verdict::Mismatch })
}

/// Half of the last decimal place of a printed number: 0.005 for `13.01`.
fn half_place(printed: &str) -> f64 {
    let places = printed.split_once('.').map_or(0, |(_, places)| places.len());
    0.5 * 10.0_f64.powi(-i32::try_from(places).unwrap_or(i32::MAX))
}

fn informative(row: &Row<'_>, why: &str) -> Checked {
    checked(row, None, why, Verdict::Informative)
}

fn checked(row: &Row<'_>, ours: Option<f64>, how: &str, verdict: Verdict) -> Checked {
    Checked {
        source: row.source.to_owned(),
        quantity: row.quantity.to_owned(),
        published: row.value.to_owned(),
        unit: row.unit.to_owned(),
        ours,
        how: how.to_owned(),
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the file: quantity and value.
    const FAILURES: [(&str, &str); 22] = [
        ("accelerators", "16384"),
        ("planned_interruptions", "47"),
        ("faulty_gpu", "148"),
        ("hbm3", "72"),
        ("software_bug", "54"),
        ("network_switch_or_cable", "35"),
        ("host_maintenance", "32"),
        ("gpu_sram", "19"),
        ("gpu_system_processor", "17"),
        ("nic", "7"),
        ("nccl_watchdog", "7"),
        ("silent_data_corruption", "6"),
        ("gpu_thermal_or_sensor", "6"),
        ("ssd", "3"),
        ("power_supply", "3"),
        ("server_chassis", "2"),
        ("io_board", "2"),
        ("dependency", "2"),
        ("cpu", "2"),
        ("system_memory", "2"),
        ("effective_training_time", "0.90"),
        ("checkpoint_time_at_20_gbit", "42"),
    ];
    const ENERGY: [(&str, &str); 9] = [
        ("dgx_h100_rated_power", "10200"),
        ("dgx_h100_measured_peak_power", "8400"),
        ("energy_saving_without_slowdown", "0.30"),
        ("energy_saving", "0.153-0.758"),
        ("average_pue", "1.58"),
        ("average_pue", "1.15"),
        ("average_pue", "1.08"),
        ("10000_h100_site_power", "13.01"),
        ("10000_h100_site_energy_per_year", "103.6"),
    ];
    const NODE: NodeFacts = NodeFacts { rated: Some(Watts(10_200.0)), measured: Some(Watts(8_400.0)) };

    fn rows<'a>(of: &[(&'a str, &'a str)]) -> Vec<Row<'a>> {
        of.iter().map(|(quantity, value)| Row { source: "test", quantity, value, unit: "", notes: "" }).collect()
    }

    #[test]
    fn published_failures_match_and_what_follows_from_them_too() {
        let report = failures(&rows(&FAILURES));
        assert_eq!((report.matched, report.mismatches), (21 + DERIVED.len(), 0), "{report:#?}");
        let open: Vec<_> = report.rows.iter().filter(|row| row.verdict == Verdict::Informative).collect();
        assert_eq!(open.len(), 1);
        assert!(open[0].how.contains("at most 25.5 s (first order) or 29"), "{}", open[0].how);
    }

    #[test]
    fn the_printed_percentage_of_faulty_gpus_is_a_mismatch() {
        let mut changed = FAILURES;
        changed[2].1 = "126";
        let report = failures(&rows(&changed));
        let wrong: Vec<&str> = report
            .rows
            .iter()
            .filter(|row| row.verdict == Verdict::Mismatch)
            .map(|row| row.quantity.as_str())
            .collect();
        assert_eq!(wrong.len(), 6, "the count and all that follows from it: {wrong:?}");
        assert_eq!(wrong[0], "faulty_gpu");
    }

    #[test]
    fn a_file_without_counts_matches_nothing() {
        let report = failures(&[]);
        assert_eq!((report.matched, report.mismatches), (0, DERIVED.len()));
    }

    #[test]
    fn published_energy_matches_where_it_can_be_computed() {
        let report = energy(&rows(&ENERGY), NODE);
        assert_eq!((report.matched, report.mismatches), (4, 0), "{report:#?}");
        let informative = report.rows.iter().filter(|row| row.verdict == Verdict::Informative).count();
        assert_eq!(informative, 5);
    }

    #[test]
    fn a_catalogue_that_disagrees_is_a_mismatch_and_one_that_is_silent_is_not_a_match() {
        let report = energy(&rows(&ENERGY), NodeFacts { rated: Some(Watts(10_400.0)), measured: None });
        assert_eq!((report.matched, report.mismatches), (2, 1));
    }

    #[test]
    fn numbers_are_compared_at_the_precision_that_they_are_printed_with() {
        let verdict = |value, ours| {
            let row = Row { source: "", quantity: "", value, unit: "", notes: "" };
            compared(&row, ours, "").verdict
        };
        assert_eq!(verdict("13.01", 13.013), Verdict::Matched);
        assert_eq!(verdict("13.01", 13.016), Verdict::Mismatch);
        assert_eq!(verdict("42", 42.4), Verdict::Matched);
        assert_eq!(verdict("42", 42.6), Verdict::Mismatch);
        assert_eq!(verdict("0.153-0.758", 0.3), Verdict::Mismatch);
        assert_eq!(verdict("1", f64::NAN), Verdict::Mismatch);
    }
}
