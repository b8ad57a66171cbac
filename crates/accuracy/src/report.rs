//! What is said of accuracy: rows and figures for programs, a document and pictures for people.
//!
//! Invariant: every row is in a figure, whether it was answered or not; the same outcomes give the same bytes.

mod document;
mod scatter;

use std::collections::BTreeMap;

use dh_perf::validation::{Outcome, Summary, summarise};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

pub use document::{BEGIN, END, HeldOut, Part, Words, between, document, held_out_toml, judged_table};
pub use scatter::{Picture, pictures};

use crate::Validation;

/// The version of the shape of [`Report`].
const SCHEMA_VERSION: u32 = 1;

/// A row, its prediction, and how far that is off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row<'a> {
    /// The row's name.
    pub id: &'a str,
    /// Where it was published.
    pub source: &'a str,
    /// What was measured.
    pub quantity: &'a str,
    /// The published value.
    pub measured: f64,
    /// The model's.
    pub predicted: Option<f64>,
    /// In percent of the measured value; positive where the model says too much.
    pub error_pct: Option<f64>,
    /// The low end of the 80 % interval.
    pub low: Option<f64>,
    /// Its high end.
    pub high: Option<f64>,
    /// Whether the measured value is in it.
    pub within: Option<bool>,
    /// Why there is no prediction, or what it rests on.
    pub note: &'a str,
}

impl<'a> From<&'a Outcome> for Row<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        Self {
            id: &outcome.id,
            source: &outcome.source,
            quantity: &outcome.quantity,
            measured: outcome.measured,
            predicted: outcome.predicted,
            error_pct: outcome.error_pct(),
            low: outcome.low,
            high: outcome.high,
            within: outcome.within(),
            note: &outcome.note,
        }
    }
}

/// A [`Summary`] by the names that programs read; `within_80` is a share.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Rows.
    pub rows: usize,
    /// Rows with a prediction whose error can be computed.
    pub answered: usize,
    /// The middle absolute error.
    pub median_abs_pct_err: Option<f64>,
    /// The mean absolute error.
    pub mean_abs_pct_err: Option<f64>,
    /// The absolute error that nine of ten rows stay within.
    pub p90_abs_pct_err: Option<f64>,
    /// The largest factor between prediction and measurement.
    pub max_factor: Option<f64>,
    /// The share of intervals that hold the measured value.
    pub within_80: Option<f64>,
    /// The mean error with its sign.
    pub bias_pct: Option<f64>,
}

impl From<Summary> for Figures {
    fn from(summary: Summary) -> Self {
        Self {
            rows: summary.rows,
            answered: summary.answered,
            median_abs_pct_err: summary.median_abs_pct_err,
            mean_abs_pct_err: summary.mean_abs_pct_err,
            p90_abs_pct_err: summary.p90_abs_pct_err,
            max_factor: summary.max_factor,
            within_80: summary.within_80,
            bias_pct: summary.bias_pct,
        }
    }
}

/// The figures of rows that are judged together, or block by block.
#[derive(Debug, Clone, PartialEq)]
pub enum Judged {
    /// Together.
    Whole(Figures),
    /// By block, in the subject's order.
    Blocks(Vec<(&'static str, Figures)>),
}

impl Judged {
    /// Each figure with the name of its block; the whole is called `all`.
    pub fn parts(&self) -> Vec<(&'static str, Figures)> {
        match self {
            Self::Whole(figures) => vec![("all", *figures)],
            Self::Blocks(blocks) => blocks.clone(),
        }
    }
}

impl Serialize for Judged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(figures) => figures.serialize(serializer),
            Self::Blocks(blocks) => {
                let mut map = serializer.serialize_map(Some(blocks.len()))?;
                for (name, figures) in blocks {
                    map.serialize_entry(name, figures)?;
                }
                map.end()
            }
        }
    }
}

/// What `datahall validate` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report<'a> {
    /// The version of this shape.
    pub schema_version: u32,
    /// The subject's name.
    pub subject: &'a str,
    /// Every row, in the file's order.
    pub rows: Vec<Row<'a>>,
    /// All of them, or each block of them.
    pub summary: Judged,
    /// The same of the rows of each source; a block that has none of them is left out.
    pub sources: BTreeMap<&'a str, Judged>,
}

/// The report of `validation`.
pub fn report<'a>(subject: &'a str, validation: &'a Validation) -> Report<'a> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, outcome) in validation.outcomes.iter().enumerate() {
        places.entry(outcome.source.as_str()).or_default().push(at);
    }
    let blocks = with_rest(validation);
    let block_of = block_of(&blocks, validation.outcomes.len());
    let sources = places.into_iter().map(|(source, places)| {
        if blocks.is_empty() {
            return (source, Judged::Whole(figures(validation, &places)));
        }
        let of_block = |block: usize| -> Vec<usize> {
            places.iter().copied().filter(|at| block_of.get(*at) == Some(&block)).collect()
        };
        let each = blocks.iter().enumerate().map(|(block, (name, _))| (*name, of_block(block)));
        let some = each.filter(|(_, places)| !places.is_empty());
        (source, Judged::Blocks(some.map(|(name, places)| (name, figures(validation, &places))).collect()))
    });
    Report {
        schema_version: SCHEMA_VERSION,
        subject,
        rows: validation.outcomes.iter().map(Row::from).collect(),
        summary: judged(validation),
        sources: sources.collect(),
    }
}

/// The figures of `validation`, by block where it has blocks.
pub fn judged(validation: &Validation) -> Judged {
    let blocks = with_rest(validation);
    if blocks.is_empty() {
        return Judged::Whole(summarise(&validation.outcomes).into());
    }
    Judged::Blocks(blocks.iter().map(|(name, places)| (*name, figures(validation, places))).collect())
}

fn figures(validation: &Validation, places: &[usize]) -> Figures {
    let outcomes: Vec<Outcome> = places.iter().filter_map(|at| validation.outcomes.get(*at)).cloned().collect();
    summarise(&outcomes).into()
}

/// The blocks, and one of the outcomes that none of them has: nothing is left out of the figures.
fn with_rest(validation: &Validation) -> Vec<(&'static str, Vec<usize>)> {
    let mut blocks = validation.blocks.clone();
    if blocks.is_empty() {
        return blocks;
    }
    let mut seen = vec![false; validation.outcomes.len()];
    for at in blocks.iter().flat_map(|(_, places)| places) {
        if let Some(seen) = seen.get_mut(*at) {
            *seen = true;
        }
    }
    let rest: Vec<usize> = seen.iter().enumerate().filter(|(_, seen)| !**seen).map(|(at, _)| at).collect();
    if !rest.is_empty() {
        blocks.push(("other", rest));
    }
    blocks
}

/// The block of each outcome.
fn block_of(blocks: &[(&'static str, Vec<usize>)], outcomes: usize) -> Vec<usize> {
    let mut of = vec![usize::MAX; outcomes];
    for (block, (_, places)) in blocks.iter().enumerate() {
        for at in places {
            if let Some(of) = of.get_mut(*at) {
                *of = block;
            }
        }
    }
    of
}

/// The answered rows that are furthest off, the worst first; a factor of two too much and too little are alike. A wrong
/// verdict, which has no factor, counts as a factor of e.
pub fn worst(outcomes: &[Outcome], most: usize) -> Vec<&Outcome> {
    let off =
        |outcome: &Outcome| outcome.factor().map(f64::ln).or(outcome.error_pct().map(|error| error.abs() / 100.0));
    let mut answered: Vec<(f64, &Outcome)> =
        outcomes.iter().filter_map(|outcome| Some((off(outcome)?, outcome))).filter(|(off, _)| *off > 0.0).collect();
    answered.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.id.cmp(&b.1.id)));
    answered.into_iter().take(most).map(|(_, outcome)| outcome).collect()
}

/// How many rows have no prediction, by reason; the most frequent first.
pub fn unanswered(outcomes: &[Outcome]) -> Vec<(&str, usize)> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.error_pct().is_none()) {
        *reasons.entry(if outcome.note.is_empty() { "no reason given" } else { &outcome.note }).or_default() += 1;
    }
    let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    reasons
}

/// Who published: the first word of a source, without page and path.
pub fn family(source: &str) -> &str {
    let word = source.split([' ', ':', ',']).next().unwrap_or(source);
    if word.is_empty() { "unnamed" } else { word }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn outcome(id: &str, source: &str, measured: f64, predicted: Option<f64>) -> Outcome {
        Outcome {
            id: id.to_owned(),
            source: source.to_owned(),
            quantity: "time_us".to_owned(),
            measured,
            predicted,
            low: predicted.map(|value| value * 0.8),
            high: predicted.map(|value| value * 1.2),
            note: if predicted.is_some() { String::new() } else { "no shape".to_owned() },
        }
    }

    pub(crate) fn four() -> Validation {
        Validation {
            outcomes: vec![
                outcome("a", "one paper", 100.0, Some(110.0)),
                outcome("b", "one paper", 100.0, Some(50.0)),
                outcome("c", "two:page", 10.0, Some(10.0)),
                outcome("d", "two:page", 10.0, None),
            ],
            blocks: vec![("small", vec![2, 3]), ("large", vec![0])],
        }
    }

    #[test]
    fn a_row_that_no_block_has_is_judged_all_the_same() {
        let validation = four();
        let report = report("memory", &validation);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["schema_version"], 1);
        assert_eq!(json["summary"]["small"]["rows"], 2);
        assert_eq!(json["summary"]["small"]["answered"], 1);
        assert_eq!(json["summary"]["other"]["max_factor"], 2.0);
        assert_eq!(json["sources"]["one paper"]["large"]["rows"], 1);
        assert_eq!(json["sources"]["one paper"]["small"], serde_json::Value::Null);
        assert_eq!(json["rows"][3]["note"], "no shape");
        assert_eq!(json["rows"][3]["predicted"], serde_json::Value::Null);
        assert_eq!(json["rows"][0]["within"], true);
        let whole = Validation { blocks: Vec::new(), ..validation };
        let json = serde_json::to_value(super::report("memory", &whole)).unwrap();
        assert_eq!((&json["summary"]["rows"], &json["sources"]["two:page"]["rows"]), (&4.into(), &2.into()));
    }

    #[test]
    fn the_worst_come_first_and_what_has_no_answer_is_counted() {
        let validation = four();
        let ids: Vec<&str> = worst(&validation.outcomes, 2).iter().map(|outcome| outcome.id.as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
        assert_eq!(unanswered(&validation.outcomes), [("no shape", 1)]);
        assert_eq!(
            (family("MaxText docs/x"), family("pytorch/torchtune:README"), family("")),
            ("MaxText", "pytorch/torchtune", "unnamed")
        );
    }
}
