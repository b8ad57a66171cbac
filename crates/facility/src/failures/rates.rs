//! How often parts fail: published tables, and what they mean for another hall.
//!
//! A rate is kept as what was counted (events in so many unit-days), never as a rounded quotient, so that the table
//! applied to the hall that it was counted on gives back exactly its counts. What a rate belongs to decides how it grows
//! with a hall: twice the accelerators have twice the memory errors, but the hall's operators plan no more interruptions.

use std::fmt;

use dh_units::{Seconds, real};
use serde::{Deserialize, Serialize};

/// Seconds in a day.
const DAY: f64 = 86_400.0;

/// What a component belongs to, and so what its failures are counted per.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Parts of an accelerator.
    Accelerator,
    /// Parts of a node.
    Node,
    /// Switches and cables. Stated assumption: per accelerator, because a network without oversubscription has a constant
    /// number of links and switch ports for each.
    Network,
    /// Software of the job. Stated assumption: per accelerator, because a wedged collective or a race needs a process to
    /// happen in and every accelerator has one.
    Job,
    /// What people decide. Stated assumption: by the calendar alone, because a planned stop concerns the whole hall at once.
    Calendar,
}

impl Scope {
    /// How many units of this scope a hall has.
    pub const fn units(self, hall: Population) -> u64 {
        match self {
            Self::Accelerator | Self::Network | Self::Job => hall.accelerators,
            Self::Node => hall.nodes,
            Self::Calendar => 1,
        }
    }

    /// Whether a failure of this scope takes a node away until it is repaired.
    pub const fn takes_a_node(self) -> bool {
        match self {
            Self::Accelerator | Self::Node => true,
            Self::Network | Self::Job | Self::Calendar => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accelerator => "accelerator",
            Self::Node => "node",
            Self::Network => "accelerator (network)",
            Self::Job => "accelerator (software)",
            Self::Calendar => "hall",
        })
    }
}

/// Whether anybody meant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It broke.
    Unexpected,
    /// Somebody stopped the job to change something.
    Planned,
}

/// What interrupts a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Only what breaks.
    Unexpected,
    /// What breaks and what is planned.
    All,
}

/// How many devices may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// Accelerators.
    pub accelerators: u64,
    /// Nodes.
    pub nodes: u64,
}

/// The failures of one component: `events` in `unit_days` days of one unit of `scope`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// A stable word for it: `gpu_sram`.
    pub component: String,
    /// What it belongs to.
    pub scope: Scope,
    /// Whether anybody meant it.
    pub cause: Cause,
    /// How many were counted.
    pub events: u64,
    /// Over how many days of one unit.
    pub unit_days: u64,
}

impl Rate {
    /// Events per unit and second.
    pub fn per_unit_second(&self) -> f64 {
        real(self.events) / (real(self.unit_days) * DAY)
    }

    /// Events per 1,000 unit-days, as reliability reports print it.
    pub fn per_thousand_unit_days(&self) -> f64 {
        real(self.events) * 1_000.0 / real(self.unit_days)
    }

    /// Events to be expected in `hall` within `duration`. Exact where the hall's unit-days are those of the table.
    pub fn expected(&self, hall: Population, duration: Seconds) -> f64 {
        real(self.events) * (real(self.scope.units(hall)) * (duration.0 / DAY) / real(self.unit_days))
    }
}

/// How well a table is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Its counts were read and their sum was checked.
    Read,
    /// Written down from memory and not read again.
    Remembered,
}

/// A table of rates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Its name: `llama-3-405b`.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// How well it is known.
    pub reading: Reading,
    /// Its rates, most frequent first.
    pub rates: Vec<Rate>,
}

/// What is to be expected of one component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// The component.
    pub component: String,
    /// What it belongs to.
    pub scope: Scope,
    /// Whether anybody means it.
    pub cause: Cause,
    /// The mean number of interruptions.
    pub interruptions: f64,
}

/// Interruptions to be expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// By component, the one that breaks most often first; equal ones in the order of their names.
    pub by_component: Vec<Expectation>,
    /// The sum of what breaks.
    pub unexpected: f64,
    /// The sum of what is planned.
    pub planned: f64,
}

impl Expected {
    /// What would break first: the unexpected component with the most interruptions; `None` if nothing breaks.
    pub fn first(&self) -> Option<&Expectation> {
        self.by_component.iter().find(|each| each.cause == Cause::Unexpected && each.interruptions > 0.0)
    }
}

impl Rates {
    /// The names of [`Rates::published`].
    pub const PUBLISHED: [&str; 3] = ["llama-3-405b", "rsc-1", "rsc-2"];

    /// A published table, or `None` if there is none of that name.
    pub fn published(name: &str) -> Option<Self> {
        match name {
            "llama-3-405b" => Some(Self::llama_3_405b()),
            "rsc-1" => Some(cluster("rsc-1", 650)),
            "rsc-2" => Some(cluster("rsc-2", 234)),
            _ => None,
        }
    }

    /// The counts of the Llama 3 405B training report.
    pub fn llama_3_405b() -> Self {
        let rate = |(component, scope, cause, events): (&str, Scope, Cause, u64)| Rate {
            component: component.to_owned(),
            scope,
            cause,
            events,
            unit_days: scope.units(LLAMA_POPULATION) * LLAMA_DAYS,
        };
        Self {
            name: "llama-3-405b".to_owned(),
            source:
                "Llama 3 training report (arXiv 2407.21783): counts of 419 unexpected and 47 planned interruptions in \
                     54 days on 16,384 H100 in 2,048 nodes"
                    .to_owned(),
            reading: Reading::Read,
            rates: LLAMA.map(rate).to_vec(),
        }
    }

    /// Interruptions of a job on all of `hall` within `duration`, by component.
    pub fn expected(&self, hall: Population, duration: Seconds) -> Expected {
        let mut by_component: Vec<Expectation> = self
            .rates
            .iter()
            .map(|rate| Expectation {
                component: rate.component.clone(),
                scope: rate.scope,
                cause: rate.cause,
                interruptions: rate.expected(hall, duration),
            })
            .collect();
        by_component
            .sort_by(|a, b| b.interruptions.total_cmp(&a.interruptions).then_with(|| a.component.cmp(&b.component)));
        let sum = |cause| by_component.iter().filter(|each| each.cause == cause).map(|each| each.interruptions).sum();
        Expected { unexpected: sum(Cause::Unexpected), planned: sum(Cause::Planned), by_component }
    }

    /// Interruptions per second of a job on all of `hall`.
    pub fn per_second(&self, hall: Population, counting: Counting) -> f64 {
        self.rates
            .iter()
            .filter(|rate| counting == Counting::All || rate.cause == Cause::Unexpected)
            .map(|rate| rate.per_unit_second() * real(rate.scope.units(hall)))
            .sum()
    }

    /// Mean time between interruptions of a job on all of `hall`; `None` if nothing fails.
    pub fn mtbf(&self, hall: Population, counting: Counting) -> Option<Seconds> {
        let rate = self.per_second(hall, counting);
        (rate > 0.0).then(|| Seconds(1.0 / rate))
    }

    /// Nodes lost to a failure of theirs or of an accelerator in them, per second.
    pub fn node_losses_per_second(&self, hall: Population) -> f64 {
        self.rates
            .iter()
            .filter(|rate| rate.scope.takes_a_node() && rate.cause == Cause::Unexpected)
            .map(|rate| rate.per_unit_second() * real(rate.scope.units(hall)))
            .sum()
    }
}

/// The accelerators that the Llama 3 table was counted on: 16,384 H100 in 2,048 nodes.
pub const LLAMA_POPULATION: Population = Population { accelerators: 16_384, nodes: 2_048 };
/// The days that it was counted over.
pub const LLAMA_DAYS: u64 = 54;
/// The unexpected interruptions that the report states; the counts sum to it.
pub const LLAMA_UNEXPECTED: u64 = 419;

/// The counts of the report, not its percentages: 148 of 419 are 35.3 %, and the printed share is 30.1 %.
const LLAMA: [(&str, Scope, Cause, u64); 19] = [
    ("faulty_gpu", Scope::Accelerator, Cause::Unexpected, 148),
    ("hbm3", Scope::Accelerator, Cause::Unexpected, 72),
    ("software_bug", Scope::Job, Cause::Unexpected, 54),
    ("planned_interruptions", Scope::Calendar, Cause::Planned, 47),
    ("network_switch_or_cable", Scope::Network, Cause::Unexpected, 35),
    ("host_maintenance", Scope::Node, Cause::Unexpected, 32),
    ("gpu_sram", Scope::Accelerator, Cause::Unexpected, 19),
    ("gpu_system_processor", Scope::Accelerator, Cause::Unexpected, 17),
    ("nic", Scope::Node, Cause::Unexpected, 7),
    ("nccl_watchdog", Scope::Job, Cause::Unexpected, 7),
    ("silent_data_corruption", Scope::Accelerator, Cause::Unexpected, 6),
    ("gpu_thermal_or_sensor", Scope::Accelerator, Cause::Unexpected, 6),
    ("ssd", Scope::Node, Cause::Unexpected, 3),
    ("power_supply", Scope::Node, Cause::Unexpected, 3),
    ("server_chassis", Scope::Node, Cause::Unexpected, 2),
    ("io_board", Scope::Node, Cause::Unexpected, 2),
    ("dependency", Scope::Job, Cause::Unexpected, 2),
    ("cpu", Scope::Node, Cause::Unexpected, 2),
    ("system_memory", Scope::Node, Cause::Unexpected, 2),
];

/// A cluster of which only the failures per node are known, as `hundredths` per 1,000 node-days.
fn cluster(name: &str, hundredths: u64) -> Rates {
    Rates {
        name: name.to_owned(),
        source: format!(
            "{} of arXiv 2410.21680: {}.{:02} failures per 1,000 node-days; written from memory, not read again",
            name.to_uppercase(),
            hundredths / 100,
            hundredths % 100
        ),
        reading: Reading::Remembered,
        rates: vec![Rate {
            component: "node".to_owned(),
            scope: Scope::Node,
            cause: Cause::Unexpected,
            events: hundredths,
            unit_days: 100_000,
        }],
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a table applied to what it was counted on gives back its counts exactly")]
mod tests {
    use super::*;

    const RUN: Seconds = Seconds(54.0 * DAY);

    fn llama() -> Rates {
        Rates::published("llama-3-405b").unwrap()
    }

    #[test]
    fn the_table_gives_back_its_own_counts_exactly() {
        let expected = llama().expected(LLAMA_POPULATION, RUN);
        assert_eq!((expected.unexpected, expected.planned), (419.0, 47.0));
        for each in &expected.by_component {
            let counted = LLAMA.iter().find(|row| row.0 == each.component).unwrap().3;
            assert_eq!(each.interruptions, real(counted), "{}", each.component);
        }
    }

    #[test]
    fn the_run_is_interrupted_every_three_hours() {
        let rates = llama();
        let hours = |counting| rates.mtbf(LLAMA_POPULATION, counting).unwrap().0 / 3_600.0;
        assert!((hours(Counting::Unexpected) - 54.0 * 24.0 / 419.0).abs() < 1e-12);
        assert_eq!(format!("{:.2}", hours(Counting::Unexpected)), "3.09");
        assert_eq!(format!("{:.2}", hours(Counting::All)), "2.78");
        let device_hours = hours(Counting::Unexpected) * real(LLAMA_POPULATION.accelerators);
        assert_eq!(format!("{device_hours:.0}"), "50677");
        let node_days = 54.0 * real(LLAMA_POPULATION.nodes);
        assert_eq!(format!("{:.2}", 419.0 * 1_000.0 / node_days), "3.79");
    }

    #[test]
    fn an_accelerator_is_what_would_break_first() {
        let expected = llama().expected(LLAMA_POPULATION, RUN);
        let first = expected.first().unwrap();
        assert_eq!((first.component.as_str(), first.interruptions), ("faulty_gpu", 148.0));
        // Nodes without accelerators lose none, and nothing of their software's.
        let plain = llama().expected(Population { accelerators: 0, nodes: 2_048 }, RUN);
        assert_eq!(plain.first().unwrap().component, "host_maintenance");
        let nothing = llama().expected(Population { accelerators: 0, nodes: 0 }, RUN);
        assert!(nothing.first().is_none());
        assert_eq!(nothing.planned, 47.0);
    }

    #[test]
    fn interruptions_grow_with_what_they_belong_to() {
        let rates = llama();
        let twice = Population { accelerators: 32_768, nodes: 4_096 };
        let half_nodes = Population { accelerators: 16_384, nodes: 1_024 };
        assert_eq!(rates.expected(twice, RUN).unexpected, 838.0);
        assert_eq!(rates.expected(twice, RUN).planned, 47.0);
        // 53 of the 419 belong to nodes.
        assert_eq!(rates.expected(half_nodes, RUN).unexpected, 419.0 - 26.5);
        assert_eq!(rates.expected(LLAMA_POPULATION, RUN * 0.5).unexpected, 209.5);
    }

    #[test]
    fn remembered_tables_say_so_and_project_what_was_published() {
        let rsc = Rates::published("rsc-1").unwrap();
        assert_eq!(rsc.reading, Reading::Remembered);
        assert!((rsc.rates[0].per_thousand_unit_days() - 6.5).abs() < 1e-12);
        let hours = |nodes| {
            let hall = Population { accelerators: nodes * 8, nodes };
            rsc.mtbf(hall, Counting::Unexpected).unwrap().0 / 3_600.0
        };
        assert_eq!(format!("{:.2} {:.3} {:.1}", hours(2_048), hours(16_384), hours(128)), "1.80 0.225 28.8");
        let other = Rates::published("rsc-2").unwrap();
        assert!((other.rates[0].per_thousand_unit_days() - 2.34).abs() < 1e-12);
    }

    #[test]
    fn every_published_name_is_a_table() {
        for name in Rates::PUBLISHED {
            let rates = Rates::published(name).unwrap();
            assert_eq!(rates.name, name);
            assert!(!rates.source.is_empty() && !rates.rates.is_empty());
        }
        assert!(Rates::published("nobody").is_none());
    }
}
