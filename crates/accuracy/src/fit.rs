//! Fits a few parameters to many rows by robust least deviation of the logarithm.
//!
//! Pattern search along each parameter, steps that grow where they help and shrink where they do not; only rows that a
//! parameter touches are predicted again. A source weighs as the square root of its rows, and each parameter is pulled a
//! little towards its prior, so that one that no row says anything about stays where physics put it.
//!
//! Invariant: deterministic; no parameter leaves its bounds. Cost: rows touched x steps tried. Source: Hooke and Jeeves 1961.

use std::collections::BTreeMap;

use dh_units::real;

/// One number that is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in the profile.
    pub name: String,
    /// What it means, with its unit.
    pub meaning: String,
    /// The least it can be; above 0 for [`Scale::Logarithmic`].
    pub low: f64,
    /// The most it can be.
    pub high: f64,
    /// What it is held to be without any row.
    pub prior: f64,
    /// How strongly it is pulled there: what one unit of scale away costs, in rows of one source off by a factor of e.
    pub pull: f64,
    /// How it is stepped through.
    pub scale: Scale,
}

/// How a parameter is stepped through, and in which unit its distance from the prior counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// By differences; a unit is the width of its bounds.
    Linear,
    /// By factors; a unit is a factor of e.
    Logarithmic,
}

impl Parameter {
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => value.ln(),
        }
    }

    fn value(&self, place: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => self.low + place * (self.high - self.low),
            Scale::Logarithmic => place.exp(),
        };
        value.clamp(self.low, self.high)
    }
}

/// Rows and parameters.
pub trait Problem {
    /// What is fitted.
    fn parameters(&self) -> &[Parameter];

    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Who published a row.
    fn source(&self, row: usize) -> &str;

    /// Whether a row's prediction can depend on a parameter.
    fn touches(&self, parameter: usize, row: usize) -> bool;

    /// The natural logarithm of predicted over measured; `None` where the row is not answered.
    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64>;
}

/// Errors below this factor's logarithm count quadratically: nobody measures better.
const NOISE: f64 = 0.02;
/// Beyond this errors count by their logarithm only: such a row is wrong in a way that no parameter mends.
const MOST: f64 = 0.7;
/// Steps below this end the search.
const LEAST_STEP: f64 = 0.002;
const SWEEPS: usize = 200;

fn cost(log_ratio: f64) -> f64 {
    let error = log_ratio.abs();
    let capped = if error > MOST { MOST * (1.0 + (error / MOST).ln()) } else { error };
    (capped * capped + NOISE * NOISE).sqrt() - NOISE
}

/// The values that fit the rows for which `include` holds, starting from the priors.
pub fn fit(problem: &dyn Problem, include: &dyn Fn(usize) -> bool) -> Vec<f64> {
    let start: Vec<f64> = problem.parameters().iter().map(|parameter| parameter.prior).collect();
    fit_from(problem, include, &start)
}

/// The same, starting from `start`.
pub fn fit_from(problem: &dyn Problem, include: &dyn Fn(usize) -> bool, start: &[f64]) -> Vec<f64> {
    let parameters = problem.parameters();
    let rows: Vec<usize> = (0..problem.rows()).filter(|row| include(*row)).collect();
    let mut of_source: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows {
        *of_source.entry(problem.source(*row)).or_default() += 1;
    }
    let weights: Vec<f64> =
        rows.iter().map(|row| 1.0 / of_source.get(problem.source(*row)).map_or(1.0, |n| real(*n)).sqrt()).collect();
    let mut values: Vec<f64> = start.to_vec();
    let loss = |row: usize, values: &[f64]| problem.log_ratio(row, values).map_or(0.0, cost);
    let mut losses: Vec<f64> = rows.iter().map(|row| loss(*row, &values)).collect();
    let touched: Vec<Vec<usize>> = (0..parameters.len())
        .map(|parameter| (0..rows.len()).filter(|at| problem.touches(parameter, rows[*at])).collect())
        .collect();
    let mut steps = vec![0.1; parameters.len()];
    for _ in 0..SWEEPS {
        let mut moving = false;
        for (at, parameter) in parameters.iter().enumerate() {
            if steps[at] < LEAST_STEP || touched[at].is_empty() {
                continue;
            }
            moving = true;
            let (here, prior) = (values[at], parameter.place(parameter.prior));
            let pulled = |value: f64| parameter.pull * (parameter.place(value) - prior).powi(2);
            let before: f64 = touched[at].iter().map(|row| weights[*row] * losses[*row]).sum::<f64>() + pulled(here);
            let mut found = false;
            for direction in [1.0, -1.0] {
                let there = parameter.value(parameter.place(here) + direction * steps[at]);
                if (there - here).abs() <= f64::EPSILON * here.abs() {
                    continue;
                }
                values[at] = there;
                let tried: Vec<f64> = touched[at].iter().map(|row| loss(rows[*row], &values)).collect();
                let after: f64 =
                    touched[at].iter().zip(&tried).map(|(row, loss)| weights[*row] * loss).sum::<f64>() + pulled(there);
                if after < before - 1e-12 {
                    for (row, loss) in touched[at].iter().zip(tried) {
                        losses[*row] = loss;
                    }
                    found = true;
                    break;
                }
                values[at] = here;
            }
            steps[at] *= if found { 1.6 } else { 0.5 };
        }
        if !moving {
            break;
        }
    }
    values
}

/// The logarithm of predicted over measured of each row, by the fit to the rows of all other sources.
pub fn held_out(problem: &dyn Problem, progress: &dyn Fn(&str)) -> Vec<Option<f64>> {
    let sources: std::collections::BTreeSet<&str> = (0..problem.rows()).map(|row| problem.source(row)).collect();
    let mut ratios = vec![None; problem.rows()];
    for source in sources {
        progress(source);
        let values = fit(problem, &|row| problem.source(row) != source);
        for row in (0..problem.rows()).filter(|row| problem.source(*row) == source) {
            ratios[row] = problem.log_ratio(row, &values);
        }
    }
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = a x` for the first source, `y = a b x` for the second.
    struct Lines {
        parameters: Vec<Parameter>,
        rows: Vec<(&'static str, f64, f64)>,
    }

    impl Problem for Lines {
        fn parameters(&self) -> &[Parameter] {
            &self.parameters
        }

        fn rows(&self) -> usize {
            self.rows.len()
        }

        fn source(&self, row: usize) -> &str {
            self.rows[row].0
        }

        fn touches(&self, parameter: usize, row: usize) -> bool {
            parameter == 0 || self.rows[row].0 == "second"
        }

        fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
            let (source, x, y) = self.rows[row];
            let factor = if source == "second" { values[1] } else { 1.0 };
            Some((values[0] * factor * x / y).ln())
        }
    }

    fn lines() -> Lines {
        let parameter = |name: &str| Parameter {
            name: name.to_owned(),
            meaning: String::new(),
            low: 0.1,
            high: 10.0,
            prior: 1.0,
            pull: 0.001,
            scale: Scale::Logarithmic,
        };
        // One row of the first source is an outlier.
        let rows = vec![
            ("first", 1.0, 3.0),
            ("first", 2.0, 6.0),
            ("first", 4.0, 100.0),
            ("second", 1.0, 1.5),
            ("second", 3.0, 4.5),
        ];
        Lines { parameters: vec![parameter("a"), parameter("b")], rows }
    }

    #[test]
    fn factors_are_found_in_spite_of_an_outlier() {
        let values = fit(&lines(), &|_| true);
        assert!((values[0] / 3.0 - 1.0).abs() < 0.02 && (values[1] / 0.5 - 1.0).abs() < 0.02, "{values:?}");
    }

    #[test]
    fn a_source_that_is_held_out_says_nothing_of_itself() {
        let ratios = held_out(&lines(), &|_| ());
        // Without the second source its factor stays at the prior, so that it is predicted twice too high.
        assert!((ratios[3].unwrap() - 2.0_f64.ln()).abs() < 0.05, "{ratios:?}");
    }
}
