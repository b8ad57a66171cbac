//! What will break, how often, and what that leaves of a run's time.
//!
//! `rates` knows how often parts fail, `interval` when to checkpoint, `spares` how many nodes to keep in reserve, `simulate` plays
//! a run through. This file puts their numbers into a ledger. Invariant: pure; the same seed gives the same run.

mod interval;
mod random;
mod rates;
mod simulate;
mod spares;

use std::collections::BTreeSet;

use dh_units::{Bytes, BytesPerSec, Ledger, Seconds, significant};
use serde::{Deserialize, Serialize};

pub use interval::{Costs, Model, checkpoint_max, restart_max, write_time};
pub use rates::{
    Cause, Counting, Expectation, Expected, LLAMA_DAYS, LLAMA_POPULATION, LLAMA_UNEXPECTED, Population, Rate, Rates,
    Reading, Scope,
};
pub use simulate::{INTERRUPTIONS_MAX, Lemons, Outcome, RackLoss, Reserve, Run};
pub use spares::{in_repair, poisson_quantile};

/// Why failures cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A time that is none.
    #[error("{name} cannot be {seconds} s")]
    BadTime {
        /// Which time.
        name: &'static str,
        /// What it was.
        seconds: String,
    },
    /// A probability outside of what can be had.
    #[error("a reserve cannot be enough with probability {0}; it must be at least 0 and below 1")]
    BadProbability(String),
    /// A mean that is none, or beyond any hall.
    #[error("{0} nodes in repair at a time is no mean of a hall; it must be 0 to 1e9")]
    BadMean(String),
    /// A shape of a Weibull distribution that is none.
    #[error("a Weibull distribution cannot have shape {0}; it must be at least 0.1")]
    BadShape(String),
    /// Parts that do not fit the whole.
    #[error("{0}")]
    BadPopulation(&'static str),
    /// Two rates of one component.
    #[error("the table has `{0}` twice")]
    Repeated(String),
    /// A simulation without end.
    #[error("{0} interruptions are to be expected, too many to simulate; shorten the run or the hall")]
    TooManyInterruptions(String),
}

impl dh_core::HasKind for Error {
    fn kind(&self) -> dh_core::Kind {
        match self {
            Self::TooManyInterruptions(_) => dh_core::Kind::TooLarge,
            Self::BadTime { .. }
            | Self::BadProbability(_)
            | Self::BadMean(_)
            | Self::BadShape(_)
            | Self::BadPopulation(_)
            | Self::Repeated(_) => dh_core::Kind::Invalid,
        }
    }
}

/// What is asked about a job that uses a whole hall.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// How often parts fail.
    pub rates: &'a Rates,
    /// On how many.
    pub hall: Population,
    /// How long the job runs.
    pub duration: Seconds,
    /// The state that a checkpoint writes.
    pub state: Bytes,
    /// How fast it is written.
    pub bandwidth: BytesPerSec,
    /// From an interruption until the work goes on.
    pub restart: Seconds,
    /// How long a lost node is away.
    pub repair: Seconds,
    /// How surely a lost node must find a spare.
    pub certainty: f64,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Interruptions by component.
    pub expected: Expected,
    /// Mean time between unexpected interruptions; `None` if nothing fails.
    pub mtbf: Option<Seconds>,
    /// How long a checkpoint takes.
    pub checkpoint: Seconds,
    /// Work between two checkpoints; `None` if nothing fails: then none is needed.
    pub interval: Option<Seconds>,
    /// The share of time that is kept work.
    pub ettr: f64,
    /// Nodes to keep in reserve.
    pub spares: u64,
}

/// Answers `question`, and enters the numbers into `ledger` under `prefix` (`failures` gives `failures.mtbf`). An input that
/// the caller has entered under its id with the same value stays as it is.
/// # Errors
/// [`Error::BadTime`], [`Error::BadProbability`] and [`Error::Repeated`] for what makes no sense; nothing is entered then.
pub fn outlook(question: &Question<'_>, prefix: &str, ledger: &mut Ledger) -> Result<Outlook, Error> {
    let checkpoint = question.state / question.bandwidth;
    let Question { rates, hall, duration, restart, .. } = *question;
    if !(duration.0.is_finite() && duration.0 > 0.0) {
        return Err(Error::BadTime { name: "the duration", seconds: duration.0.to_string() });
    }
    let mut seen = BTreeSet::new();
    if let Some(rate) = rates.rates.iter().find(|rate| !seen.insert(&rate.component)) {
        return Err(Error::Repeated(rate.component.clone()));
    }
    let expected = rates.expected(hall, duration);
    let mtbf = rates.mtbf(hall, Counting::Unexpected);
    let costs = Costs::checked(mtbf.unwrap_or(Seconds(1.0)), checkpoint, restart)?;
    let losses = rates.node_losses_per_second(hall);
    let repairing = in_repair(losses, question.repair)?;
    let spares = poisson_quantile(repairing, question.certainty)?;
    let interval = mtbf.map(|_| costs.best());
    let ettr = mtbf.map_or(1.0, |_| costs.best_ettr(Model::Exact));
    let outlook = Outlook { expected, mtbf, checkpoint, interval, ettr, spares };
    enter(question, &outlook, repairing, prefix, ledger);
    Ok(outlook)
}

fn enter(question: &Question<'_>, outlook: &Outlook, repairing: f64, prefix: &str, ledger: &mut Ledger) {
    let id = |name: &str| format!("{prefix}.{name}");
    let Question { rates, hall, duration, .. } = question;
    let [accelerators, nodes, time] = [id("accelerators"), id("nodes"), id("duration")];
    ledger.given(&accelerators, "accelerators that may fail", hall.accelerators, "what the job uses");
    ledger.given(&nodes, "nodes that may fail", hall.nodes, "what the job uses");
    ledger.given(&time, "duration of the job", *duration, "what is asked");
    let mut parts = Vec::new();
    for rate in &rates.rates {
        let of = id(&format!("rate.{}", rate.component));
        let text = format!("{} per 1,000 {}-days of one {}", rate.component, rate.scope, rate.scope);
        let source = format!("{} events in {} {}-days: {}", rate.events, rate.unit_days, rate.scope, rates.source);
        ledger.given(&of, &text, rate.per_thousand_unit_days(), &source);
        let name = id(&format!("expected.{}", rate.component));
        let units = rate.scope.units(*hall);
        let formula = format!("{} / {} x {units} units x {duration}", rate.events, rate.unit_days);
        let title = format!("interruptions by {}", rate.component);
        ledger.derived(&name, &title, rate.expected(*hall, *duration), formula, &[&of, &accelerators, &nodes, &time]);
        if rate.cause == Cause::Unexpected {
            parts.push(name);
        }
    }
    let inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
    let sum = id("expected");
    let what = "sum over the components that break";
    ledger.derived(&sum, "unexpected interruptions", outlook.expected.unexpected, what, &inputs);
    let [state, speed, write, restart] = [id("state"), id("bandwidth"), id("checkpoint"), id("restart")];
    ledger.given(&state, "state that a checkpoint writes", question.state, "bytes per parameter x parameters");
    ledger.given(&speed, "bandwidth of checkpoints", question.bandwidth, "what the store sustains");
    let formula = format!("{} / {}; the work stands meanwhile", question.state, question.bandwidth);
    ledger.derived(&write, "time of a checkpoint, C", outlook.checkpoint, formula, &[&state, &speed]);
    ledger.given(&restart, "time of a restart, R", question.restart, "from an interruption until the work goes on");
    let ettr = id("ettr");
    if let (Some(mtbf), Some(interval)) = (outlook.mtbf, outlook.interval) {
        let [between, best] = [id("mtbf"), id("interval")];
        let formula = format!("{duration} / {}", significant(outlook.expected.unexpected));
        ledger.derived(&between, "mean time between interruptions, M", mtbf, formula, &[&sum, &time]);
        let formula = "t with t/M = 1 - e^(-(t+C)/M), by bisection (exponential interruptions, Daly 2006)";
        ledger.derived(&best, "work between checkpoints, t", interval, formula, &[&between, &write]);
        let formula = "t / (M e^(R/M) (e^((t+C)/M) - 1))";
        ledger.derived(
            &ettr,
            "share of time that is kept work",
            outlook.ettr,
            formula,
            &[&best, &between, &write, &restart],
        );
    } else {
        ledger.derived(&ettr, "share of time that is kept work", outlook.ettr, "nothing fails", &[&sum]);
    }
    let [repair, certainty, away, spares] = [id("repair"), id("certainty"), id("in_repair"), id("spares")];
    ledger.given(&repair, "time of a repair", question.repair, "what is asked");
    ledger.given(&certainty, "how surely a lost node finds a spare", question.certainty, "what is asked");
    let formula = "failures per second of nodes and what is in them x time of a repair";
    ledger.derived(&away, "nodes in repair at a time", repairing, formula, &[&accelerators, &nodes, &repair]);
    let formula = format!("smallest k with Poisson(k; {}) >= {}", significant(repairing), question.certainty);
    ledger.derived(&spares, "nodes in reserve", outlook.spares, formula, &[&away, &certainty]);
}

#[cfg(test)]
mod simulate_tests;
#[cfg(test)]
mod tests;
