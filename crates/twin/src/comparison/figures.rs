//! The figures that policies are compared by. To add one: a line here.

use dh_units::{Seconds, significant};
use serde::Serialize;

use crate::measure::Outcome;

/// Which of two figures is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The smaller.
    Lower,
    /// The larger.
    Higher,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// A ratio that is shown in percent.
    Share,
    /// A ratio that is shown as it is.
    Ratio,
    /// Things.
    Count,
    /// Megawatt-hours.
    Mwh,
    /// Kilograms.
    Kilograms,
    /// US dollars.
    Usd,
}

impl Unit {
    /// `value` with its unit, short.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => Seconds(value).to_string(),
            Self::Share => format!("{} %", significant(value * 100.0)),
            Self::Ratio => significant(value),
            Self::Count => grouped(&significant(value)),
            Self::Mwh => format!("{} MWh", grouped(&significant(value))),
            Self::Kilograms => dh_units::Grams(value * 1_000.0).to_string(),
            Self::Usd => grouped(&dh_units::Usd(value).to_string()),
        }
    }

    /// `mean ± half`, both in the unit that suits the mean.
    pub fn show_with(self, mean: f64, half: f64) -> String {
        let scaled = |unit: f64, name: &str| format!("{} {name}", together(mean / unit, half / unit));
        match self {
            Self::Seconds => match mean.abs() {
                size if size < 119.95 => scaled(1.0, "s"),
                size if size < 119.95 * 60.0 => scaled(60.0, "min"),
                size if size < 47.95 * 3_600.0 => scaled(3_600.0, "h"),
                _ => scaled(86_400.0, "d"),
            },
            Self::Share => scaled(0.01, "%"),
            Self::Ratio | Self::Count => scaled(1.0, "").trim_end().to_owned(),
            Self::Mwh => scaled(1.0, "MWh"),
            Self::Kilograms if mean.abs() >= 1_000.0 => scaled(1_000.0, "t"),
            Self::Kilograms => scaled(1.0, "kg"),
            Self::Usd => format!("{} ± {}", self.show(mean), self.show(half)),
        }
    }
}

/// `mean ± half` with two digits of `half`, and the mean to the same place.
fn together(mean: f64, half: f64) -> String {
    let places: usize = match half.abs() {
        half if half >= 9.95 => 0,
        half if half >= 0.995 => 1,
        half if half >= 0.099_5 => 2,
        half if half >= 0.009_95 => 3,
        half if half >= 0.000_995 => 4,
        _ => 5,
    };
    format!("{} ± {}", grouped(&format!("{mean:.places$}")), grouped(&format!("{half:.places$}")))
}

/// `78,085`, `$1,250.50`: digits before the point in groups of three; any other text as it is.
pub(crate) fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find(['.', ' ']).unwrap_or(number.len()));
    let digits = whole.trim_start_matches(['-', '$']);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut text = whole.strip_suffix(digits).unwrap_or_default().to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// A figure of a run.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its place in [`Outcome`].
    pub name: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Which is better.
    pub better: Better,
    /// The figure; none where the run has none.
    pub of: fn(&Outcome) -> Option<f64>,
}

macro_rules! figure {
    ($name:literal, $title:literal, $unit:ident, $better:ident, $of:expr) => {
        Figure { name: $name, title: $title, unit: Unit::$unit, better: Better::$better, of: $of }
    };
}

/// All of them, the most asked for first.
pub const FIGURES: &[Figure] = &[
    figure!("jct.mean_s", "JCT, mean", Seconds, Lower, |run| run.jct.map(|jct| jct.mean_s)),
    figure!("jct.p50_s", "JCT, median", Seconds, Lower, |run| run.jct.map(|jct| jct.p50_s)),
    figure!("jct.p99_s", "JCT, p99", Seconds, Lower, |run| run.jct.map(|jct| jct.p99_s)),
    figure!("queueing.mean_s", "Queueing, mean", Seconds, Lower, |run| run.queueing.map(|queueing| queueing.mean_s)),
    figure!("queueing.p50_s", "Queueing, median", Seconds, Lower, |run| run.queueing.map(|queueing| queueing.p50_s)),
    figure!("queueing.p99_s", "Queueing, p99", Seconds, Lower, |run| run.queueing.map(|queueing| queueing.p99_s)),
    figure!("waiting_mean_s", "All waiting, mean", Seconds, Lower, |run| run.waiting_mean_s),
    figure!("makespan_s", "Makespan", Seconds, Lower, |run| run.jct.map(|_| run.makespan_s)),
    figure!("slowdown.mean", "Bounded slowdown, mean", Ratio, Lower, |run| run.slowdown.map(|slowdown| slowdown.mean)),
    figure!("fairness.ratio.max", "Finish-time fairness, worst", Ratio, Lower, |run| {
        run.fairness.map(|fairness| fairness.ratio.max)
    }),
    figure!("fairness.ratio.p99", "Finish-time fairness, p99", Ratio, Lower, |run| {
        run.fairness.map(|fairness| fairness.ratio.p99)
    }),
    figure!("fairness.unfair_share", "Jobs slower than on their share", Share, Lower, |run| {
        run.fairness.map(|fairness| fairness.unfair_share)
    }),
    figure!("utilisation", "Utilisation", Share, Higher, |run| run.utilisation),
    figure!("allocation", "Allocation", Share, Higher, |run| run.allocation),
    figure!("fragmentation", "Fragmentation", Share, Lower, |run| run.fragmentation),
    figure!("goodput", "Goodput", Share, Higher, |run| run.goodput),
    figure!("ettr", "ETTR", Share, Higher, |run| run.ettr),
    figure!("stops.preemptions", "Preemptions", Count, Lower, |run| Some(dh_units::real(run.stops.preemptions))),
    figure!("stops.evictions", "Evictions", Count, Lower, |run| Some(dh_units::real(run.stops.evictions))),
    figure!("locality.share", "Gangs in one rack or group where possible", Share, Higher, |run| {
        run.locality.last().and_then(|found| found.gangs.share())
    }),
    figure!("jobs.unfinished", "Unfinished jobs", Count, Lower, |run| Some(dh_units::real(run.jobs.unfinished))),
    figure!("energy.facility_mwh", "Energy", Mwh, Lower, |run| run.energy.map(|energy| energy.facility_mwh)),
    figure!("energy.saved_mwh", "Energy saved by sleep", Mwh, Higher, |run| {
        run.sleep.and(run.energy).map(|energy| energy.saved_mwh)
    }),
    figure!("sleep.node_hours", "Node-hours asleep", Count, Higher, |run| run.sleep.map(|sleep| sleep.node_hours)),
    figure!("sleep.share", "Nodes asleep", Share, Higher, |run| run.sleep.map(|sleep| sleep.share)),
    figure!("sleep.woken", "Nodes woken", Count, Lower, |run| run.sleep.map(|sleep| dh_units::real(sleep.woken))),
    figure!("sleep.starts", "Starts that waited for a node to wake", Count, Lower, |run| {
        run.sleep.map(|sleep| dh_units::real(sleep.starts))
    }),
    figure!("sleep.waited_s", "Waiting for nodes to wake, in all", Seconds, Lower, |run| {
        run.sleep.map(|sleep| sleep.waited_s)
    }),
    figure!("energy.pue", "PUE", Ratio, Lower, |run| run.energy.and_then(|energy| energy.pue)),
    figure!("energy.carbon_kg", "Carbon", Kilograms, Lower, |run| run.energy.and_then(|energy| energy.carbon_kg)),
    figure!("cost.total_usd", "Cost", Usd, Lower, |run| run.cost.map(|cost| cost.total_usd)),
    figure!("cost.usd_per_useful_accelerator_hour", "Cost of a useful accelerator-hour", Usd, Lower, |run| {
        run.cost.and_then(|cost| cost.usd_per_useful_accelerator_hour)
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_the_digits_that_they_have() {
        assert_eq!(Unit::Seconds.show(5_400.0), "90 min");
        assert_eq!(Unit::Share.show(0.8734), "87.3 %");
        assert_eq!(Unit::Seconds.show_with(36_000.0, 1_800.0), "10.00 ± 0.50 h");
        assert_eq!(Unit::Share.show_with(0.5, 0.0123), "50.0 ± 1.2 %");
        assert_eq!(Unit::Count.show(78_085.0), "78,085");
        assert_eq!(
            ["-1234.5", "1e9", "999", "$12345", "$3.87 M"].map(grouped),
            ["-1,234.5", "1e9", "999", "$12,345", "$3.87 M"]
        );
    }

    #[test]
    fn names_are_there_once() {
        let mut names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
