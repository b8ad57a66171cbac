//! Fits many parameters by least squares of the logarithm that forgive outliers, and again without each group at little cost.
//!
//! `fit` tries one parameter at a time, which is slow where fifty of them trade against each other. Here all move at once
//! (Gauss and Newton, damped as Levenberg 1944 and Marquardt 1963 do): the rows' slopes are taken by differences, and each row
//! weighs by its distance so that the sum is of absolute errors, as in `fit`. Without a group the slopes at the fit of all rows
//! are kept, so that only sums are formed again. Invariant: deterministic; no parameter leaves its bounds.

use std::collections::BTreeMap;

use dh_units::real;

use crate::fit::{Parameter, Problem, Scale};

/// Errors below this factor's logarithm count quadratically.
const NOISE: f64 = 0.03;
/// Beyond this a row's pull stops growing.
const MOST: f64 = 0.7;
/// Steps of places by which slopes are taken.
const STEP: f64 = 0.02;
const ROUNDS: usize = 14;

fn place(parameter: &Parameter, value: f64) -> f64 {
    match parameter.scale {
        Scale::Linear => (value - parameter.low) / (parameter.high - parameter.low),
        Scale::Logarithmic => value.ln(),
    }
}

fn value(parameter: &Parameter, place: f64) -> f64 {
    let value = match parameter.scale {
        Scale::Linear => parameter.low + place * (parameter.high - parameter.low),
        Scale::Logarithmic => place.exp(),
    };
    value.clamp(parameter.low, parameter.high)
}

/// Errors and slopes of rows at some values.
pub(super) struct Linear {
    places: Vec<f64>,
    errors: Vec<Option<f64>>,
    /// By row: the parameters that move it, with the slope of its error.
    slopes: Vec<Vec<(usize, f64)>>,
}

/// What a row counts, with the square of its distance: one over the distance, so that the sum is of distances.
fn weight(error: f64) -> f64 {
    let distance = error.abs();
    let forgiven = if distance > MOST { MOST / distance } else { 1.0 };
    forgiven / (distance * distance + NOISE * NOISE).sqrt()
}

/// What a row costs: the distance, capped.
fn cost(error: f64) -> f64 {
    let distance = error.abs();
    let capped = if distance > MOST { MOST * (1.0 + (distance / MOST).ln()) } else { distance };
    (capped * capped + NOISE * NOISE).sqrt()
}

/// Each source weighs as the square root of its rows.
fn shares(problem: &dyn Problem, include: &dyn Fn(usize) -> bool) -> Vec<f64> {
    let mut of_source: BTreeMap<&str, u64> = BTreeMap::new();
    for row in (0..problem.rows()).filter(|row| include(*row)) {
        *of_source.entry(problem.source(row)).or_default() += 1;
    }
    (0..problem.rows())
        .map(|row| {
            let rows = of_source.get(problem.source(row)).copied().filter(|_| include(row));
            rows.map_or(0.0, |rows| 1.0 / real(rows).sqrt())
        })
        .collect()
}

impl Linear {
    fn at(problem: &dyn Problem, values: &[f64]) -> Self {
        let parameters = problem.parameters();
        let places: Vec<f64> =
            parameters.iter().zip(values).map(|(parameter, value)| place(parameter, *value)).collect();
        let errors: Vec<Option<f64>> = (0..problem.rows()).map(|row| problem.log_ratio(row, values)).collect();
        let mut slopes = vec![Vec::new(); problem.rows()];
        let mut moved = values.to_vec();
        for (at, parameter) in parameters.iter().enumerate() {
            let (here, there) = (values[at], value(parameter, places[at] + STEP));
            let back = value(parameter, places[at] - STEP);
            let to = if (there - here).abs() >= (back - here).abs() { there } else { back };
            let by = place(parameter, to) - places[at];
            if by.abs() < 1e-9 {
                continue;
            }
            moved[at] = to;
            for row in (0..problem.rows()).filter(|row| problem.touches(at, *row)) {
                if let (Some(before), Some(after)) = (errors[row], problem.log_ratio(row, &moved)) {
                    let slope = (after - before) / by;
                    if slope.abs() > 1e-6 {
                        slopes[row].push((at, slope));
                    }
                }
            }
            moved[at] = here;
        }
        Self { places, errors, slopes }
    }

    /// The step of places that mends the errors of the rows that count, each of its own weight, damped by `damping`.
    fn step(&self, problem: &dyn Problem, shares: &[f64], moved: &[f64], damping: f64) -> Vec<f64> {
        let parameters = problem.parameters();
        let n = parameters.len();
        let (mut matrix, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
        for (row, slopes) in self.slopes.iter().enumerate() {
            let Some(error) = self.errors[row] else { continue };
            let error = error + slopes.iter().map(|(at, slope)| slope * moved[*at]).sum::<f64>();
            let weight = shares[row] * weight(error);
            for (i, slope) in slopes {
                right[*i] -= weight * slope * error;
                for (j, other) in slopes {
                    matrix[*i][*j] += weight * slope * other;
                }
            }
        }
        for (at, parameter) in parameters.iter().enumerate() {
            let off = self.places[at] + moved[at] - place(parameter, parameter.prior);
            right[at] -= 2.0 * parameter.pull * off;
            matrix[at][at] += 2.0 * parameter.pull;
            matrix[at][at] *= 1.0 + damping;
        }
        solve(matrix, right)
    }

    /// The values that the slopes hold to be best for the rows that `include` holds for.
    pub(super) fn without(&self, problem: &dyn Problem, include: &dyn Fn(usize) -> bool) -> Vec<f64> {
        let shares = shares(problem, include);
        let parameters = problem.parameters();
        let mut moved = vec![0.0; parameters.len()];
        for _ in 0..8 {
            let step = self.step(problem, &shares, &moved, 0.1);
            for (at, parameter) in parameters.iter().enumerate() {
                // A slope holds near its place only.
                let next = (moved[at] + step[at]).clamp(-0.7, 0.7);
                moved[at] = place(parameter, value(parameter, self.places[at] + next)) - self.places[at];
            }
        }
        parameters.iter().enumerate().map(|(at, parameter)| value(parameter, self.places[at] + moved[at])).collect()
    }
}

/// The values that fit all rows, and the slopes there.
pub(super) fn fit(problem: &dyn Problem, start: &[f64]) -> (Vec<f64>, Linear) {
    let parameters = problem.parameters();
    let shares = shares(problem, &|_| true);
    let total = |values: &[f64]| {
        let rows: f64 =
            (0..problem.rows()).filter_map(|row| Some(shares[row] * cost(problem.log_ratio(row, values)?))).sum();
        let pulled: f64 = parameters
            .iter()
            .zip(values)
            .map(|(parameter, value)| {
                parameter.pull * (place(parameter, *value) - place(parameter, parameter.prior)).powi(2)
            })
            .sum();
        rows + pulled
    };
    let mut values = start.to_vec();
    let mut best = total(&values);
    let mut damping = 0.3;
    let mut linear = Linear::at(problem, &values);
    for _ in 0..ROUNDS {
        let step = linear.step(problem, &shares, &vec![0.0; parameters.len()], damping);
        let tried: Vec<f64> = parameters
            .iter()
            .enumerate()
            .map(|(at, parameter)| value(parameter, linear.places[at] + step[at].clamp(-0.5, 0.5)))
            .collect();
        let after = total(&tried);
        if after < best {
            let gained = best - after;
            values = tried;
            linear = Linear::at(problem, &values);
            damping = (damping * 0.4_f64).max(0.01);
            let little = gained < best * 1e-3;
            best = after;
            if little {
                break;
            }
        } else {
            damping *= 5.0;
            if damping > 100.0 {
                break;
            }
        }
    }
    (values, linear)
}

/// Solves `matrix x = right` for a symmetric matrix that is positive definite (Cholesky); what it has no hold on stays 0.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let left = matrix[i][j] - sum;
            matrix[i][j] = if i == j { left.max(1e-12).sqrt() } else { left / matrix[j][j] };
        }
        let sum: f64 = (0..i).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| matrix[k][i] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i][i];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `y = a x^b`, the second source with a factor of its own.
    struct Powers {
        parameters: Vec<Parameter>,
        rows: Vec<(&'static str, f64, f64)>,
    }

    impl Problem for Powers {
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
            parameter < 2 || self.rows[row].0 == "second"
        }

        fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
            let (source, x, y) = self.rows[row];
            let factor = if source == "second" { values[2] } else { 1.0 };
            Some((values[0] * x.powf(values[1]) * factor / y).ln())
        }
    }

    fn powers() -> Powers {
        let parameter = |name: &str, scale: Scale| Parameter {
            name: name.to_owned(),
            meaning: String::new(),
            low: 0.1,
            high: 10.0,
            prior: 1.0,
            pull: 0.001,
            scale,
        };
        let mut rows: Vec<(&'static str, f64, f64)> =
            (1..12).map(f64::from).map(|x| ("first", x, 3.0 * x.powf(0.5))).collect();
        rows.extend((1..6).map(f64::from).map(|x| ("second", x, 6.0 * x.powf(0.5))));
        // Nobody's model mends this one.
        rows.push(("first", 2.0, 4000.0));
        let parameters = vec![
            parameter("a", Scale::Logarithmic),
            parameter("b", Scale::Linear),
            parameter("factor", Scale::Logarithmic),
        ];
        Powers { parameters, rows }
    }

    #[test]
    fn parameters_that_trade_against_each_other_are_found_in_spite_of_an_outlier() {
        let problem = powers();
        let (values, _) = fit(&problem, &[1.0; 3]);
        for (found, expected) in values.iter().zip([3.0, 0.5, 2.0]) {
            assert!((found / expected - 1.0).abs() < 0.03, "{values:?}");
        }
    }

    #[test]
    fn without_a_group_its_own_number_goes_back_to_its_prior() {
        let problem = powers();
        let (_, linear) = fit(&problem, &[1.0; 3]);
        let values = linear.without(&problem, &|row| problem.source(row) != "second");
        assert!((values[0] / 3.0 - 1.0).abs() < 0.05 && (values[2] - 1.0).abs() < 0.05, "{values:?}");
    }

    #[test]
    fn a_small_system_is_solved() {
        let solved = solve(vec![vec![4.0, 2.0], vec![2.0, 3.0]], vec![10.0, 8.0]);
        assert!((solved[0] - 1.75).abs() < 1e-12 && (solved[1] - 1.5).abs() < 1e-12, "{solved:?}");
    }
}
