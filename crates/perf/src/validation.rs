//! Predictions held against published measurements: one row each, and the statistics of many.
//!
//! Invariant: deterministic; the order of rows does not change a figure. Rows without a prediction are counted, never
//! dropped: a model that refuses what is hard would look good otherwise.

use std::collections::BTreeMap;

/// One published measurement and what the model says.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The row's name.
    pub id: String,
    /// Where it was published.
    pub source: String,
    /// What was measured.
    pub quantity: String,
    /// The published value, in the row's unit.
    pub measured: f64,
    /// The model's value in that unit; `None` where it refuses.
    pub predicted: Option<f64>,
    /// The low end of the interval that should hold 80 % of values.
    pub low: Option<f64>,
    /// The high end.
    pub high: Option<f64>,
    /// Why there is no prediction, or what it rests on.
    pub note: String,
}

impl Outcome {
    /// The error in percent of the measured value; positive where the model says too much. `None` without a prediction, or
    /// where the measured value is zero or not a number.
    pub fn error_pct(&self) -> Option<f64> {
        let predicted = self.predicted?;
        let error = (predicted / self.measured - 1.0) * 100.0;
        error.is_finite().then_some(error)
    }

    /// How many times too much or too little: at least 1. `None` where either value is not above zero.
    pub fn factor(&self) -> Option<f64> {
        let predicted = self.predicted?;
        let ratio = predicted / self.measured;
        (ratio.is_finite() && ratio > 0.0).then(|| ratio.max(1.0 / ratio))
    }

    /// Whether the measured value is in the interval; `None` without one.
    pub fn within(&self) -> Option<bool> {
        Some((self.low?..=self.high?).contains(&self.measured))
    }
}

/// Statistics of many outcomes. Errors are of the answered rows, in percent of the measured value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// Rows.
    pub rows: usize,
    /// Rows with a prediction whose error can be computed.
    pub answered: usize,
    /// The middle absolute error; the mean of the two middle ones of an even number.
    pub median_abs_pct_err: Option<f64>,
    /// The mean absolute error.
    pub mean_abs_pct_err: Option<f64>,
    /// The absolute error that nine of ten rows stay within (nearest rank).
    pub p90_abs_pct_err: Option<f64>,
    /// The mean error with its sign.
    pub bias_pct: Option<f64>,
    /// The largest factor between prediction and measurement.
    pub max_factor: Option<f64>,
    /// The share of rows with an interval whose interval holds the measured value.
    pub within_80: Option<f64>,
}

/// The statistics of `outcomes`.
pub fn summarise(outcomes: &[Outcome]) -> Summary {
    of(&outcomes.iter().collect::<Vec<_>>())
}

/// The statistics of `outcomes` by what `key` gives, in the order of keys.
pub fn summarise_by<K: Ord>(outcomes: &[Outcome], key: impl Fn(&Outcome) -> K) -> BTreeMap<K, Summary> {
    let mut groups: BTreeMap<K, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        groups.entry(key(outcome)).or_default().push(outcome);
    }
    groups.into_iter().map(|(key, group)| (key, of(&group))).collect()
}

fn of(outcomes: &[&Outcome]) -> Summary {
    let mut signed: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.error_pct()).collect();
    // Sums run over sorted values, so that the order of rows cannot change the last digit.
    signed.sort_by(f64::total_cmp);
    let mut errors: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
    errors.sort_by(f64::total_cmp);
    let held: Vec<bool> = outcomes.iter().filter_map(|outcome| outcome.within()).collect();
    Summary {
        rows: outcomes.len(),
        answered: errors.len(),
        median_abs_pct_err: median(&errors),
        mean_abs_pct_err: mean(&errors),
        p90_abs_pct_err: nearest_rank(&errors, 9, 10),
        bias_pct: mean(&signed),
        max_factor: outcomes.iter().filter_map(|outcome| outcome.factor()).reduce(f64::max),
        within_80: ratio(held.iter().filter(|within| **within).count(), held.len()),
    }
}

fn ratio(part: usize, all: usize) -> Option<f64> {
    let count = |n: usize| u64::try_from(n).map_or(f64::INFINITY, dh_units::real);
    (all > 0).then(|| count(part) / count(all))
}

fn mean(values: &[f64]) -> Option<f64> {
    let count = u64::try_from(values.len()).ok().filter(|count| *count > 0)?;
    Some(values.iter().sum::<f64>() / dh_units::real(count))
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get((sorted.len() - 1) / 2)?);
    Some(f64::midpoint(*upper, *lower))
}

/// The smallest value that at least `part` of `all` values do not exceed.
fn nearest_rank(sorted: &[f64], part: usize, all: usize) -> Option<f64> {
    sorted.get((sorted.len() * part).div_ceil(all).saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(measured: f64, predicted: Option<f64>) -> Outcome {
        Outcome {
            id: String::new(),
            source: if measured < 50.0 { "small" } else { "large" }.to_owned(),
            quantity: "peak".to_owned(),
            measured,
            predicted,
            low: predicted.map(|value| value * 0.9),
            high: predicted.map(|value| value * 1.1),
            note: String::new(),
        }
    }

    #[test]
    fn statistics_of_four_rows_by_hand() {
        let rows = [row(100.0, Some(110.0)), row(100.0, Some(80.0)), row(10.0, Some(10.0)), row(10.0, None)];
        let summary = summarise(&rows);
        assert_eq!((summary.rows, summary.answered), (4, 3));
        assert!((summary.median_abs_pct_err.unwrap() - 10.0).abs() < 1e-9);
        assert!((summary.mean_abs_pct_err.unwrap() - 10.0).abs() < 1e-9);
        assert!((summary.p90_abs_pct_err.unwrap() - 20.0).abs() < 1e-9);
        assert!((summary.bias_pct.unwrap() + 10.0 / 3.0).abs() < 1e-9);
        assert!((summary.max_factor.unwrap() - 1.25).abs() < 1e-9);
        assert!((summary.within_80.unwrap() - 2.0 / 3.0).abs() < 1e-9);
        let by = summarise_by(&rows, |outcome| outcome.source.clone());
        assert_eq!(
            by.into_iter().map(|(source, s)| (source, s.answered)).collect::<Vec<_>>(),
            [("large".to_owned(), 2), ("small".to_owned(), 1)]
        );
    }

    #[test]
    fn nothing_answered_has_no_statistics() {
        assert_eq!(summarise(&[]), Summary::default());
        let refused = summarise(&[row(1.0, None), row(0.0, Some(1.0))]);
        assert_eq!(
            (refused.rows, refused.answered, refused.median_abs_pct_err, refused.max_factor),
            (2, 0, None, None)
        );
    }

    #[test]
    fn an_even_number_of_rows_has_its_median_between_the_middle_two() {
        let rows: Vec<Outcome> = (1..=10).map(|error| row(100.0, Some(100.0 + f64::from(error)))).collect();
        let summary = summarise(&rows);
        assert!((summary.median_abs_pct_err.unwrap() - 5.5).abs() < 1e-9);
        assert!((summary.p90_abs_pct_err.unwrap() - 9.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_order_of_rows_changes_nothing(values in proptest::collection::vec((1.0..1e3, 1.0..1e3), 1..40), turn in 0_usize..40) {
            let mut rows: Vec<Outcome> = values.iter().map(|(m, p)| row(*m, Some(*p))).collect();
            let straight = summarise(&rows);
            let by = turn % rows.len();
            rows.rotate_left(by);
            prop_assert_eq!(straight, summarise(&rows));
        }
    }
}
