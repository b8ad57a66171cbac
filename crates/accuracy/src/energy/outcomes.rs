//! From jobs and profiles to outcomes, and which of them are judged together.
//!
//! Invariant: every row has at least one outcome; what is derived from a row's power has the same relative error, and is
//! judged in a block of its own so that no error counts twice.

use std::collections::BTreeMap;

use dh_perf::power::{self, Profile};
use dh_perf::validation::Outcome;

use super::job::Job;
use super::row::Row;
use crate::Validation;

/// Which way of holding out outcomes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// By source: task or accelerator. Also what is not held out.
    First,
    /// By what sources share: model or workload.
    Second,
}

/// The outcomes of `rows`, each predicted by its profile.
pub(super) fn of(rows: &[Row], jobs: &[Job], profiles: &[Profile], hold: Hold) -> Validation {
    let mut outcomes = Vec::new();
    let mut blocks: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
    for ((row, job), profile) in rows.iter().zip(jobs).zip(profiles) {
        for (outcome, names) in of_row(row, job, profile, hold) {
            for name in names {
                blocks.entry(name).or_default().push(outcomes.len());
            }
            outcomes.push(outcome);
        }
    }
    Validation { outcomes, blocks: blocks.into_iter().collect() }
}

type Judged = (Outcome, Vec<&'static str>);

fn of_row(row: &Row, job: &Job, profile: &Profile, hold: Hold) -> Vec<Judged> {
    match job {
        Job::Serving { .. } | Job::Denoising { .. } => of_leaderboard(row, job, profile, hold),
        Job::Capped { uncapped, cap, limit, .. } => {
            let Ok(slow) = power::slowdown(*uncapped, *cap, *limit, profile) else {
                return vec![unanswered(row, "a power that is not above zero")];
            };
            let note = if slow.outside_calibrated_range { "outside the calibrated range" } else { "" };
            let interval = Interval { middle: slow.factor, low: slow.low, high: slow.high };
            let mut judged = Vec::new();
            if let Some(measured) = row.slowdown_vs_uncapped {
                let names = match hold {
                    Hold::First => ["cap_slowdown", "cap_slowdown_where_it_bites"],
                    Hold::Second => ["cap_slowdown_by_workload", "cap_slowdown_where_it_bites_by_workload"],
                };
                // Told by what the model gets, not by what was measured.
                let judged_in = if cap.0 < uncapped.0 { names.to_vec() } else { vec![names[0]] };
                judged.push((outcome(row, "slowdown_vs_uncapped", measured, interval, note), judged_in));
            }
            if let (Some(measured), Hold::First) = (row.avg_power_w_per_accel, hold) {
                // Traces end near their caps: an interval of 5 % is that of their power meters and their regulators.
                let power = slow.power.0;
                let interval = Interval { middle: power, low: power * 0.95, high: power * 1.05 };
                let told = "the lesser of the cap and the power without it, where they meet softened";
                judged.push((outcome(row, "avg_power_w_per_accel", measured, interval, told), vec!["cap_power"]));
            }
            judged
        }
        Job::None(reason) => match hold {
            Hold::First => vec![unanswered(row, reason)],
            Hold::Second => Vec::new(),
        },
    }
}

fn of_leaderboard(row: &Row, job: &Job, profile: &Profile, hold: Hold) -> Vec<Judged> {
    let Some(watts) = job.watts(profile) else { return vec![unanswered(row, "the accelerator's power is not known")] };
    let third = row.source.contains("v3");
    let (low, high, power_blocks): (f64, f64, Vec<&'static str>) = match (job, hold) {
        (Job::Denoising { .. }, Hold::First) => {
            (profile.denoise_low, profile.denoise_high, vec!["mlenergy_v3_power", "mlenergy_v3_power_pictures"])
        }
        (Job::Denoising { .. }, Hold::Second) => {
            (profile.denoise_low, profile.denoise_high, vec!["mlenergy_v3_power_by_model"])
        }
        (_, Hold::First) if third => {
            (profile.spread_low, profile.spread_high, vec!["mlenergy_v3_power", "mlenergy_v3_power_text"])
        }
        (_, Hold::Second) if third => (profile.spread_low, profile.spread_high, vec!["mlenergy_v3_power_by_model"]),
        (_, Hold::First) => {
            let name = if row.source.contains("v2") { "mlenergy_v2_power" } else { "mlenergy_v1_power" };
            (DERIVED_LOW, DERIVED_HIGH, vec![name])
        }
        (_, Hold::Second) => return Vec::new(),
    };
    let limit = match job {
        Job::Serving { accelerator, .. } | Job::Denoising { accelerator, .. } => accelerator.tdp.map(|tdp| tdp.0),
        Job::Capped { .. } | Job::None(_) => None,
    };
    let power = Interval { middle: watts, low: watts * low, high: (watts * high).min(limit.unwrap_or(f64::MAX)) };
    let note = if third { "" } else { "the source's power is derived, and over different windows" };
    let mut judged = Vec::new();
    if let Some(measured) = row.avg_power_w_per_accel {
        judged.push((outcome(row, "avg_power_w_per_accel", measured, power, note), power_blocks));
    }
    if hold == Hold::Second {
        return judged;
    }
    let joules = match (third, row.joules_per_token) {
        (true, _) => "mlenergy_v3_joules",
        (false, _) if row.source.contains("v2") => "mlenergy_v2_joules",
        (false, _) => "mlenergy_v1_joules",
    };
    let accelerators = f64::from(row.n_accel.unwrap_or(1));
    if let (Some(measured), Some(throughput)) = (row.joules_per_token, row.throughput_tokens_s) {
        let energy = power.times(accelerators / throughput);
        judged
            .push((outcome(row, "joules_per_token", measured, energy, "power by the row's throughput"), vec![joules]));
        if let (Some(measured), Some(tokens)) = (row.joules_per_request, row.output_len) {
            // The same again times the tokens of an answer: answered, and judged nowhere.
            let request = energy.times(tokens);
            judged.push((
                outcome(row, "joules_per_request", measured, request, "energy of a token by its tokens"),
                vec![],
            ));
        }
    } else if let (Some(measured), Some(time), Some(batch)) =
        (row.joules_per_request, row.noted("batch latency s"), row.batch_or_concurrency)
    {
        let energy = power.times(accelerators * time / batch);
        judged.push((outcome(row, "joules_per_request", measured, energy, "power by the row's latency"), vec![joules]));
    }
    judged
}

/// The interval of derived powers of the older leaderboards: how their rows lie about the model, nothing of theirs fitted.
const DERIVED_LOW: f64 = 0.75;
/// Its high end.
const DERIVED_HIGH: f64 = 1.3;

#[derive(Debug, Clone, Copy)]
struct Interval {
    middle: f64,
    low: f64,
    high: f64,
}

impl Interval {
    fn times(self, factor: f64) -> Self {
        Self { middle: self.middle * factor, low: self.low * factor, high: self.high * factor }
    }
}

fn outcome(row: &Row, quantity: &str, measured: f64, interval: Interval, note: &str) -> Outcome {
    Outcome {
        id: row.id.clone(),
        source: format!("{}: {}", row.source, row.url_or_repo),
        quantity: quantity.to_owned(),
        measured,
        predicted: Some(interval.middle),
        low: Some(interval.low),
        high: Some(interval.high),
        note: note.to_owned(),
    }
}

fn unanswered(row: &Row, reason: &str) -> Judged {
    let (quantity, measured) = [
        ("slowdown_vs_uncapped", row.slowdown_vs_uncapped),
        ("avg_power_w_per_accel", row.avg_power_w_per_accel),
        ("joules_per_request", row.joules_per_request),
        ("total_mwh", row.total_mwh),
    ]
    .into_iter()
    .find_map(|(quantity, measured)| measured.map(|measured| (quantity, measured)))
    .unwrap_or(("nothing measured", 0.0));
    let outcome = Outcome {
        id: row.id.clone(),
        source: format!("{}: {}", row.source, row.url_or_repo),
        quantity: quantity.to_owned(),
        measured,
        predicted: None,
        low: None,
        high: None,
        note: reason.to_owned(),
    };
    (outcome, vec!["without_prediction"])
}
