//! Exchanges between accelerators against published times and bus bandwidths.
//!
//! The reading of rows and the model are in `dh_perf::collectives`. Its profiles are constants there, so that a time costs no
//! look-up; an efficiency profile `collectives-NAME` of the catalogue, if there is one, goes before the constant `NAME`.
//! Invariant: small and large messages are judged apart, since one is bound by steps and the other by links.

mod fitting;
mod parameters;

use std::collections::BTreeMap;

use dh_blueprint::Catalog;
use dh_perf::collectives::Fabric;
use dh_perf::collectives::golden::{Prediction, Quantity, Question, Row};
use dh_perf::validation::Outcome;

use crate::{Calibration, Error, Subject, Validation, rows};
use parameters::Profiles;

/// The model of exchanges.
pub struct Collectives;

/// Columns without which a row says nothing.
const NEEDED: [&str; 9] =
    ["id", "source", "collective", "accelerator", "ranks", "interconnect", "bytes", "time_us", "busbw_gbytes_s"];

const MIB: f64 = 1_048_576.0;

impl Subject for Collectives {
    fn word(&self) -> &'static str {
        "collectives"
    }

    fn about(&self) -> &'static str {
        "exchanges between accelerators: time or bus bandwidth"
    }

    fn validate(&self, catalog: &Catalog, csv: &str) -> Result<Validation, Error> {
        let asked = Asked::read(csv)?;
        let profiles = Profiles::of(catalog);
        Ok(asked.validation(|_, question| question.answer(&profiles.fabric(&question.fabric))))
    }

    fn calibrate(&self, catalog: &Catalog, csv: &str, progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
        fitting::calibrate(&Asked::read(csv)?, &Profiles::of(catalog), progress)
    }
}

/// The rows of a file, and what each asks of the model or why it asks nothing.
struct Asked {
    rows: Vec<Row>,
    questions: Vec<Result<Question, String>>,
}

impl Asked {
    fn read(csv: &str) -> Result<Self, Error> {
        let rows: Vec<Row> = rows::read(csv, &NEEDED)?;
        let questions = rows.iter().map(Question::of).collect();
        Ok(Self { rows, questions })
    }

    /// Every row as `answer` says it, by the place of the row.
    fn validation(&self, answer: impl Fn(usize, &Question) -> Result<Prediction, String>) -> Validation {
        let mut outcomes = Vec::with_capacity(self.rows.len());
        let mut blocks: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, (row, question)) in self.rows.iter().zip(&self.questions).enumerate() {
            let answered = question.as_ref().map_err(Clone::clone).and_then(|question| answer(at, question));
            outcomes.push(outcome(row, &answered));
            blocks.entry(block(row, question.as_ref().ok())).or_default().push(at);
        }
        let blocks = BLOCKS.iter().enumerate().map(|(at, name)| (*name, blocks.remove(&at).unwrap_or_default()));
        Validation { outcomes, blocks: blocks.collect() }
    }
}

/// What is judged for itself: where the ranks are, and what bounds the time.
const BLOCKS: [&str; 4] = ["one_domain_below_1MiB", "one_domain_from_1MiB", "several_below_1MiB", "several_from_1MiB"];

/// The place of a row's block in [`BLOCKS`]. A row that asks nothing goes by its machines.
fn block(row: &Row, question: Option<&Question>) -> usize {
    let several = question.map_or_else(|| row.n_nodes.unwrap_or(1) > 1, |question| question.group.domains() > 1);
    usize::from(several) * 2 + usize::from(row.bytes.unwrap_or(0.0) >= MIB)
}

fn outcome(row: &Row, answer: &Result<Prediction, String>) -> Outcome {
    let (name, published) = match (row.time_us, row.busbw_gbytes_s) {
        (Some(time), _) if time > 0.0 => ("time_us", time),
        (_, rate) => ("busbw_gbytes_s", rate.unwrap_or(0.0)),
    };
    let base = Outcome {
        id: row.id.clone(),
        source: row.source.clone(),
        quantity: name.to_owned(),
        measured: published,
        predicted: None,
        low: None,
        high: None,
        note: String::new(),
    };
    match answer {
        Err(why) => Outcome { note: why.clone(), ..base },
        Ok(answer) => Outcome {
            quantity: match answer.quantity {
                Quantity::TimeUs => "time_us".to_owned(),
                Quantity::BusGigabytesPerSecond => "busbw_gbytes_s".to_owned(),
            },
            measured: answer.published,
            predicted: Some(answer.predicted),
            low: Some(answer.low),
            high: Some(answer.high),
            note: if answer.model.outside_calibrated_range {
                format!("{}; by {:?}", crate::OUTSIDE, answer.model.algorithm)
            } else {
                format!("by {:?}", answer.model.algorithm)
            },
            ..base
        },
    }
}

impl Profiles {
    /// A row's fabric with these profiles in place of the built-in ones of the same names.
    fn fabric(&self, fabric: &Fabric) -> Fabric {
        let mut fabric = *fabric;
        if let Some(up) = self.up.iter().find(|profile| profile.name == fabric.scale_up.profile.name) {
            fabric.scale_up.profile = *up;
        }
        if let Some(network) = &mut fabric.scale_out
            && let Some(out) = self.out.iter().find(|profile| profile.name == network.profile.name)
        {
            network.profile = *out;
        }
        fabric
    }
}
