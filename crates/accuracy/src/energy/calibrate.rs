//! Fits what the model of power has learned to the rows of a file, and holds rows out.
//!
//! Two fits that share nothing: what activity draws, to the leaderboard whose power is metered; and what a cap costs, to
//! traces, once to all of them for an accelerator that nobody traced, and once to each accelerator's own. Intervals hold four
//! fifths of held-out errors; a group's own errors never enter the interval it is judged by.

use std::collections::{BTreeMap, BTreeSet};

use dh_blueprint::Catalog;
use dh_perf::power::{self, Profile};
use dh_units::{real, significant};

use super::job::{Job, workload};
use super::outcomes::{self, Hold};
use super::row::Row;
use crate::fit::{self, Parameter, Problem, Scale};
use crate::{Calibration, Error, Moved, Profile as Fitted};

/// What activity draws: name, prior, pull. Priors are stated assumptions: H100 at rest draws 70 to 130 W of 700; DRAM and
/// its interface cost 4 to 7 pJ/bit; kernels for experts reach half of what dense ones do; collectives of one layer take
/// 20 to 50 us.
const DRAWN: [(&str, f64, f64); 12] = [
    ("idle", 0.17, 0.5),
    ("busy", 0.4, 0.1),
    ("memory", 0.1, 2.0),
    ("compute", 0.5, 0.1),
    ("rescaling", 0.5, 0.1),
    ("expert_bandwidth", 0.4, 0.1),
    ("matrix_rate", 0.2, 0.1),
    ("token_work", 2.0, 0.1),
    ("layer_us", 8.0, 0.5),
    ("exchange_us", 50.0, 0.5),
    ("prefill_compute", 0.4, 0.1),
    ("preprocessing_busy", 0.5, 0.1),
];

/// What a cap costs.
const CAPPED: [(&str, f64, f64); 4] =
    [("cap_static", 0.2, 0.5), ("cap_knee", 0.8, 0.5), ("cap_held", 0.97, 0.5), ("cap_bound", 0.3, 0.5)];

/// Intervals, by what they are of.
const SPREADS: [(&str, &str); 4] = [
    ("spread_low", "spread_high"),
    ("denoise_low", "denoise_high"),
    ("bite_low", "bite_high"),
    ("free_low", "free_high"),
];

fn parameters(names: &[(&str, f64, f64)]) -> Vec<Parameter> {
    let known = |name: &str| Profile::NUMBERS.iter().find(|number| number.0 == name);
    names
        .iter()
        .filter_map(|(name, prior, pull)| {
            let (_, meaning, low, high) = *known(name)?;
            let (name, meaning) = ((*name).to_owned(), meaning.to_owned());
            Some(Parameter { name, meaning, low, high, prior: *prior, pull: *pull, scale: Scale::Linear })
        })
        .collect()
}

/// Rows to fit, grouped by what is held out together.
struct Rows<'a> {
    parameters: Vec<Parameter>,
    /// Each with what was measured and its group.
    rows: Vec<(usize, &'a Job, f64, String)>,
}

impl<'a> Rows<'a> {
    fn drawn(rows: &'a [Row], jobs: &'a [Job], group: impl Fn(&Row) -> String) -> Self {
        let metered = rows.iter().zip(jobs).enumerate().filter(|(_, (row, _))| row.source.contains("v3"));
        let rows = metered
            .filter(|(_, (_, job))| matches!(job, Job::Serving { .. } | Job::Denoising { .. }))
            .filter_map(|(at, (row, job))| Some((at, job, row.avg_power_w_per_accel?, group(row))))
            .collect();
        Self { parameters: parameters(&DRAWN), rows }
    }

    fn capped(rows: &'a [Row], jobs: &'a [Job], of: Option<&str>, group: impl Fn(&Row) -> String) -> Self {
        let rows = rows
            .iter()
            .zip(jobs)
            .enumerate()
            .filter(|(_, (_, job))| matches!(job, Job::Capped { .. }))
            .filter(|(_, (_, job))| of.is_none_or(|name| job.accelerator() == name))
            .filter_map(|(at, (row, job))| Some((at, job, row.slowdown_vs_uncapped?, group(row))))
            .collect();
        Self { parameters: parameters(&CAPPED), rows }
    }

    fn profile(&self, values: &[f64]) -> Profile {
        let mut profile = Profile::default();
        for (parameter, value) in self.parameters.iter().zip(values) {
            profile.set(&parameter.name, *value);
        }
        profile
    }

    fn groups(&self) -> BTreeSet<&str> {
        self.rows.iter().map(|(.., group)| group.as_str()).collect()
    }

    /// The values without each group.
    fn held_out(&self, progress: &dyn Fn(&str)) -> BTreeMap<String, Vec<f64>> {
        let without = |group: &str| fit::fit(self, &|row| self.rows[row].3 != group);
        self.groups()
            .into_iter()
            .map(|group| {
                progress(group);
                (group.to_owned(), without(group))
            })
            .collect()
    }
}

impl Problem for Rows<'_> {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn source(&self, row: usize) -> &str {
        &self.rows[row].3
    }

    fn touches(&self, parameter: usize, row: usize) -> bool {
        let own = ["idle", "busy", "compute", "matrix_rate"];
        match self.rows[row].1 {
            Job::Denoising { .. } => own.contains(&self.parameters[parameter].name.as_str()),
            Job::Serving { .. } | Job::Capped { .. } | Job::None(_) => true,
        }
    }

    fn log_ratio(&self, row: usize, values: &[f64]) -> Option<f64> {
        let (_, job, measured, _) = &self.rows[row];
        let profile = self.profile(values);
        let predicted = match job {
            Job::Capped { uncapped, cap, limit, .. } => power::slowdown(*uncapped, *cap, *limit, &profile).ok()?.factor,
            Job::Serving { .. } | Job::Denoising { .. } | Job::None(_) => job.watts(&profile)?,
        };
        Some((predicted / measured).ln())
    }
}

/// Which of [`SPREADS`] a row's interval is.
fn spread_of(job: &Job, profile: &Profile) -> usize {
    match job {
        Job::Serving { .. } | Job::None(_) => 0,
        Job::Denoising { .. } => 1,
        Job::Capped { uncapped, cap, .. } => {
            if uncapped.0 > cap.0 * profile.cap_held {
                2
            } else {
                3
            }
        }
    }
}

/// Sets the intervals of `profile` so that four fifths of `errors` are in them: group, kind of spread, log of measured over
/// predicted.
///
/// They reach as far up as down, since the next group's own bias can have either sign; and where errors are of `n` groups,
/// `1 + 1/2n` times as far, since few groups say little of how far the next is off (stated assumption, of the form of
/// Student's factor).
fn spread(profile: &mut Profile, errors: &[&(String, usize, f64)]) {
    for (kind, (low, high)) in SPREADS.iter().enumerate() {
        let of_kind = || errors.iter().filter(|error| error.1 == kind);
        let mut sizes: Vec<f64> = of_kind().map(|error| error.2.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let groups = of_kind().map(|error| error.0.as_str()).collect::<BTreeSet<_>>().len();
        // Fewer say nothing of a fifth.
        if let (true, Some(reach)) = (sizes.len() >= 10, sizes.get(sizes.len() * 4 / 5)) {
            let reach = reach * (1.0 + 0.5 / real(u64::try_from(groups).unwrap_or(1)));
            profile.set(low, (-reach).exp());
            profile.set(high, reach.exp());
        }
    }
}

/// A fit, and each of its rows as predicted without its group.
struct Held {
    /// By row of the file.
    profiles: BTreeMap<usize, Profile>,
    /// Group, kind of spread, log of measured over predicted.
    errors: Vec<(String, usize, f64)>,
}

fn hold_out(rows: &Rows<'_>, progress: &dyn Fn(&str)) -> Held {
    let values = rows.held_out(progress);
    let mut held = Held { profiles: BTreeMap::new(), errors: Vec::new() };
    let of = |group: &str| values.get(group).map(|values| rows.profile(values)).unwrap_or_default();
    for (row, (_, job, _, group)) in rows.rows.iter().enumerate() {
        if let Some(ratio) = values.get(group).and_then(|values| rows.log_ratio(row, values)) {
            held.errors.push((group.clone(), spread_of(job, &of(group)), -ratio));
        }
    }
    for group in rows.groups() {
        let mut profile = of(group);
        spread(&mut profile, &held.errors.iter().filter(|error| error.0 != group).collect::<Vec<_>>());
        for (at, ..) in rows.rows.iter().filter(|row| row.3 == group) {
            held.profiles.insert(*at, profile);
        }
    }
    held
}

/// The fit to all of `rows`, with intervals from `held`.
fn fit_all(rows: &Rows<'_>, held: &Held) -> Profile {
    let mut profile = rows.profile(&fit::fit(rows, &|_| true));
    spread(&mut profile, &held.errors.iter().collect::<Vec<_>>());
    profile
}

/// Copies `names` and the intervals `kinds` from one profile to another.
fn take(profile: &mut Profile, from: &Profile, names: &[(&str, f64, f64)], kinds: std::ops::Range<usize>) {
    let spreads = SPREADS[kinds].iter().flat_map(|(low, high)| [*low, *high]);
    for name in names.iter().map(|(name, ..)| *name).chain(spreads) {
        if let Some(value) = from.get(name) {
            profile.set(name, value);
        }
    }
}

pub(super) fn calibrate(
    catalog: &Catalog,
    rows: &[Row],
    jobs: &[Job],
    progress: &dyn Fn(&str),
) -> Result<Calibration, Error> {
    let task = |row: &Row| row.url_or_repo.clone();
    let drawn = Rows::drawn(rows, jobs, task);
    let capped = Rows::capped(rows, jobs, None, task);
    if drawn.rows.is_empty() || capped.rows.is_empty() {
        return Err(Error::Nothing(
            "a fit of power needs rows of the third ML.ENERGY leaderboard and of Zeus's traces",
        ));
    }
    progress("what activity draws, without each task");
    let by_task = hold_out(&drawn, progress);
    progress("what activity draws, without each model");
    let by_model = hold_out(&Rows::drawn(rows, jobs, |row| row.model.clone()), progress);
    progress("what a cap costs, without each accelerator");
    let by_accelerator = hold_out(&capped, progress);
    // Intervals are those of models that were held out: the next server's task is mostly a known one, its model mostly not.
    let mut any = fit_all(&drawn, &by_model);
    take(&mut any, &fit_all(&capped, &by_accelerator), &CAPPED, 2..4);

    let mut own = BTreeMap::new();
    let mut by_workload = BTreeMap::new();
    for name in capped.rows.iter().map(|row| row.1.accelerator()).collect::<BTreeSet<_>>() {
        progress(name);
        let of_one = Rows::capped(rows, jobs, Some(name), workload);
        let held = hold_out(&of_one, &|_| ());
        let mut profile = any;
        take(&mut profile, &fit_all(&of_one, &held), &CAPPED, 2..4);
        own.insert(name.to_owned(), profile);
        by_workload.extend(held.profiles);
    }

    let fitted: Vec<Profile> = jobs.iter().map(|job| own.get(job.accelerator()).copied().unwrap_or(any)).collect();
    // Rows of the older leaderboards and of no job are of no fit: they are held out of all of them.
    let first: Vec<Profile> = (0..rows.len())
        .map(|at| by_task.profiles.get(&at).or_else(|| by_accelerator.profiles.get(&at)).copied().unwrap_or(any))
        .collect();
    let second: Vec<Profile> = (0..rows.len())
        .map(|at| by_model.profiles.get(&at).or_else(|| by_workload.get(&at)).copied().unwrap_or(any))
        .collect();
    let mut held_out = outcomes::of(rows, jobs, &first, Hold::First);
    let again = outcomes::of(rows, jobs, &second, Hold::Second);
    let offset = held_out.outcomes.len();
    held_out.outcomes.extend(again.outcomes);
    held_out
        .blocks
        .extend(again.blocks.into_iter().map(|(name, at)| (name, at.into_iter().map(|at| at + offset).collect())));

    let mut profiles = vec![written(catalog, "power", &any, Written::Any)];
    for (name, profile) in &own {
        profiles.push(written(catalog, name, profile, Written::Caps));
    }
    Ok(Calibration { profiles, fitted: outcomes::of(rows, jobs, &fitted, Hold::First), held_out })
}

/// What a file of the catalogue is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Of any accelerator: everything.
    Any,
    /// Of one accelerator: what a cap costs.
    Caps,
}

fn written(catalog: &Catalog, accelerator: &str, profile: &Profile, what: Written) -> Fitted {
    let (file, title, hardware, source, stack) = match what {
        Written::Any => (
            "power".to_owned(),
            "Power, any accelerator".to_owned(),
            "\"b200-sxm\", \"h100-80gb-sxm\"".to_owned(),
            "fitted by `datahall calibrate energy` to the ML.ENERGY leaderboard v3 and the power traces of Zeus (NSDI 2023)",
            "vLLM and xDiT of 2025; caps: PyTorch of 2022",
        ),
        Written::Caps => (
            format!("power-{accelerator}"),
            format!("Power under a cap, {accelerator}"),
            format!("\"{accelerator}\""),
            "fitted by `datahall calibrate energy` to the power traces of Zeus (NSDI 2023)",
            "PyTorch of 2022",
        ),
    };
    let kinds = if what == Written::Any { 0..SPREADS.len() } else { 2..SPREADS.len() };
    let fitted: Vec<&str> = match what {
        Written::Any => DRAWN.iter().chain(&CAPPED).map(|number| number.0).collect(),
        Written::Caps => CAPPED.iter().map(|number| number.0).collect(),
    };
    let names: Vec<&str> =
        fitted.into_iter().chain(SPREADS[kinds].iter().flat_map(|(low, high)| [*low, *high])).collect();
    let before = catalog.efficiency(&file);
    let meaning = |name: &str| Profile::NUMBERS.iter().find(|number| number.0 == name).map_or("", |number| number.1);
    let moved: Vec<Moved> = names
        .iter()
        .filter_map(|name| {
            let before = before.and_then(|item| item.numbers.value.0.get(*name)).copied();
            Some(Moved {
                name: (*name).to_owned(),
                meaning: meaning(name).to_owned(),
                before,
                after: rounded(profile.get(name)?),
            })
        })
        .collect();
    let date = before.map_or("2026-11-25", |item| item.date.value.as_str());
    let mut toml = format!(
        "title = \"{title}\"\nsource = \"{source}\"\nsubject = \"power\"\nstack = \"{stack}\"\n\
         date = \"{date}\"\nhardware = [{hardware}]\n\n[numbers]\nsource = \"{source}\"\n\n[numbers.value]\n"
    );
    for number in &moved {
        for part in ["# ", &number.meaning, "\n", &number.name, " = ", &format!("{:?}", number.after), "\n"] {
            toml.push_str(part);
        }
    }
    Fitted { name: file, toml, moved }
}

/// Four digits say more than any fit knows.
fn rounded(value: f64) -> f64 {
    significant(value).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fitted_number_is_one_of_the_profile() {
        for names in [&DRAWN[..], &CAPPED[..]] {
            let parameters = parameters(names);
            assert_eq!(parameters.len(), names.len());
            for parameter in parameters {
                assert!((parameter.low..=parameter.high).contains(&parameter.prior), "{}", parameter.name);
            }
        }
        for name in SPREADS.iter().flat_map(|(low, high)| [low, high]) {
            assert!(Profile::default().get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_interval_holds_four_fifths_and_more_where_groups_are_few() {
        let errors = |groups: u64| -> Vec<(String, usize, f64)> {
            (0..100_u64).map(|at| (format!("{}", at % groups), 0, real(at) / 500.0)).collect()
        };
        for (groups, reach) in [(1, 0.24), (2, 0.2), (10, 0.168)] {
            let mut profile = Profile::default();
            spread(&mut profile, &errors(groups).iter().collect::<Vec<_>>());
            assert!((profile.spread_low.ln() + reach).abs() < 1e-9, "{groups}: {}", profile.spread_low.ln());
            assert!((profile.spread_high.ln() - reach).abs() < 1e-9);
            assert!((profile.bite_low - Profile::default().bite_low).abs() < 1e-12, "nothing was said of it");
        }
    }
}
