//! Fits the model of loading, and where submitters stop, to the published utilisations and samples.
//!
//! Invariant: a submitter's rows are predicted, and their intervals set, by rows of the others alone.

use std::collections::{BTreeMap, BTreeSet};

use dh_blueprint::Catalog;
use dh_perf::loading::Profile as Loading;
use dh_units::{BytesPerSec, Seconds};

use super::emulated::{Stopping, Widths, number, predict};
use super::rows::{Emulation, Row};
use super::validation;
use crate::fit::{self, Parameter, Problem, Scale};
use crate::{Calibration, Error, Moved, Profile};

/// Stands in the profile as it is: no row of a store whose limit is known is left to fit it to.
const STORE_SHARPNESS: f64 = Loading::PRIOR.store_sharpness;

struct Rows {
    parameters: Vec<Parameter>,
    rows: Vec<(Emulation, Measured)>,
}

#[derive(Clone, Copy)]
enum Measured {
    /// 0 to 1.
    Utilisation(f64),
    /// Samples a second over those of accelerators that never wait.
    Samples(f64),
}

fn parameters() -> Vec<Parameter> {
    let parameter = |name: &str, meaning: &str, (low, high), prior| Parameter {
        name: name.to_owned(),
        meaning: meaning.to_owned(),
        low,
        high,
        prior,
        pull: 0.01,
        scale: Scale::Logarithmic,
    };
    vec![
        parameter("handover_ms", "stall of every batch, ms", (0.1, 5.0), 0.9),
        parameter("copy_gbps", "copy of a batch while its accelerator waits, GB/s", (10.0, 1000.0), 170.0),
        parameter("host_sharpness", "how sharply a host's limit bends", (1.0, 8.0), 2.0),
        parameter("start_s", "start of an epoch's readers, s", (0.02, 5.0), 0.2),
        parameter("fill_gbps", "filling of one accelerator's first buffers, GB/s", (0.05, 10.0), 0.6),
        parameter(
            "headroom",
            "of the way from the threshold to an accelerator alone, where submitters stop",
            (0.02, 0.9),
            0.1,
        ),
        parameter(
            "granularity",
            "of what one accelerator a host more takes, left where submitters stop",
            (0.02, 1.0),
            0.25,
        ),
    ]
}

fn stopping(values: &[f64]) -> Option<Stopping> {
    let &[handover, copy, host_sharpness, start, fill, headroom, granularity] = values else { return None };
    let loading = Loading {
        handover: Seconds(handover * 1e-3),
        copy: BytesPerSec(copy * 1e9),
        host_sharpness,
        store_sharpness: STORE_SHARPNESS,
        start: Seconds(start),
        fill: BytesPerSec(fill * 1e9),
    };
    Some(Stopping { loading, headroom, granularity })
}

impl Problem for Rows {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn source(&self, row: usize) -> &str {
        &self.rows[row].0.vendor
    }

    fn touches(&self, parameter: usize, row: usize) -> bool {
        let of_an_epoch = parameter == 3 || parameter == 4;
        !of_an_epoch || matches!(self.rows[row].1, Measured::Samples(_))
    }

    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        let (emulation, measured) = &self.rows[row];
        let predicted = predict(emulation, &stopping(values)?)?;
        Some(match measured {
            Measured::Utilisation(measured) => (predicted.utilisation / measured).ln(),
            Measured::Samples(measured) => (predicted.overall / measured).ln(),
        })
    }
}

pub(super) fn calibrate(catalog: &Catalog, all: &[Row], progress: &dyn Fn(&str)) -> Result<Calibration, Error> {
    let rows: Vec<(Emulation, Measured)> = all
        .iter()
        .filter_map(|row| {
            let emulation = row.emulation(all)?;
            let most = emulation.consumer.most().0 / emulation.consumer.sample;
            match row.metric.as_str() {
                "accelerator_utilisation" => Some((emulation, Measured::Utilisation(row.value / 100.0))),
                "train_throughput" => Some((emulation, Measured::Samples(row.value / most))),
                _ => None,
            }
        })
        .collect();
    if rows.is_empty() {
        return Err(Error::Nothing("no row of the file is an emulated training"));
    }
    let problem = Rows { parameters: parameters(), rows };
    progress("all submitters");
    let values = fit::fit(&problem, &|_| true);
    let fitted = stopping(&values).ok_or(Error::Nothing("the fit has another number of parameters"))?;
    let vendors: BTreeSet<String> = problem.rows.iter().map(|(emulation, _)| emulation.vendor.clone()).collect();
    let mut without: BTreeMap<String, Stopping> = BTreeMap::new();
    for vendor in vendors {
        progress(&vendor);
        let values = fit::fit_from(&problem, &|row| problem.source(row) != vendor, &values);
        without.extend(stopping(&values).map(|stopping| (vendor, stopping)));
    }
    let held = |vendor: &str| without.get(vendor).copied().unwrap_or(fitted);
    let errors: Vec<(&str, bool, f64)> = problem
        .rows
        .iter()
        .filter_map(|(emulation, measured)| {
            let predicted = predict(emulation, &held(&emulation.vendor))?;
            Some(match measured {
                Measured::Utilisation(au) => (emulation.vendor.as_str(), true, (au - predicted.utilisation) * 100.0),
                Measured::Samples(share) => {
                    (emulation.vendor.as_str(), false, (share / predicted.overall - 1.0) * 100.0)
                }
            })
        })
        .collect();
    let widths = |but: &str| widths(&errors, but);
    let all_widths = widths("");
    Ok(Calibration {
        profiles: vec![profile(catalog, &problem.parameters, &values, &all_widths)],
        fitted: validation(all, &|_| fitted, &|_| all_widths),
        held_out: validation(all, &held, &widths),
    })
}

/// One in ten errors of the rows of all submitters `but` one lie below, one in ten above.
fn widths(errors: &[(&str, bool, f64)], but: &str) -> Widths {
    let edge = |of_utilisation: bool, tenths: usize| {
        let mut errors: Vec<f64> =
            errors.iter().filter(|error| error.0 != but && error.1 == of_utilisation).map(|error| error.2).collect();
        errors.sort_by(f64::total_cmp);
        errors.get((errors.len() * tenths / 10).min(errors.len().saturating_sub(1))).copied().unwrap_or(4.0)
    };
    Widths {
        au_below: (-edge(true, 1)).max(0.5),
        au_above: edge(true, 9).max(0.5),
        samples_below: (-edge(false, 1)).max(0.5),
        samples_above: edge(false, 9).max(0.5),
    }
}

fn profile(catalog: &Catalog, parameters: &[Parameter], values: &[f64], widths: &Widths) -> Profile {
    let known = |name: &str| Some(number(catalog, name, f64::NAN)).filter(|value| value.is_finite());
    let rounded = |value: f64| format!("{value:.4}").parse().unwrap_or(value);
    let mut moved: Vec<Moved> = parameters
        .iter()
        .zip(values)
        .map(|(parameter, value)| Moved {
            name: parameter.name.clone(),
            meaning: parameter.meaning.clone(),
            before: known(&parameter.name),
            after: rounded(*value),
        })
        .collect();
    moved.push(Moved {
        name: "store_sharpness".to_owned(),
        meaning: "how sharply a store's limit bends; not fitted".to_owned(),
        before: known("store_sharpness"),
        after: STORE_SHARPNESS,
    });
    let values = [widths.au_below, widths.au_above, widths.samples_below, widths.samples_above];
    moved.extend(Widths::NAMES.iter().zip(values).map(|(name, value)| Moved {
        name: (*name).to_owned(),
        meaning: "end of the 80 % interval, from held-out errors".to_owned(),
        before: known(name),
        after: rounded(value),
    }));
    let source =
        "fitted to 132 results of MLPerf Storage v1.0 and 3 of v0.5; intervals from errors of submitters held out";
    let mut toml = format!(
        "# How a host takes in training data; fitted by `datahall calibrate storage`.\n\
         title = \"Loading of training data, any host\"\nsource = \"{source}\"\nsubject = \"loading\"\n\
         stack = \"DLIO of MLPerf Storage v0.5 and v1.0\"\ndate = \"2026-11-26\"\nhardware = [\"any\"]\n\n\
         [numbers]\nsource = \"{source}\"\n\n[numbers.value]\n"
    );
    toml.extend(moved.iter().map(|number| format!("{} = {:?} # {}\n", number.name, number.after, number.meaning)));
    Profile { name: "loading".to_owned(), toml, moved }
}
