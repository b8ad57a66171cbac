//! Site power from the accelerators up, as one chain of factors.
//!
//! ```text
//! accelerators x TDP x server factor, or nodes x rated power   -> rated power of the computers
//! x load ratio (expected / rated)                              -> expected power of the computers
//! + switches and storage                                       -> IT, rated and expected
//! x PUE = 1 + cooling + conversion + rest                      -> site, rated and expected
//! rated x margin                                               -> supply to order
//! expected x 8,760 h                                           -> energy of a year, its cost and carbon
//! ```
//!
//! Invariant: supplies come from the rated side, bills from the expected side; a worked sizing that knows only one side has
//! load ratio 1. Every factor carries its source.

use dh_units::{Based, Grams, GramsPerKwh, Joules, Ledger, Seconds, Usd, UsdPerKwh, Watts, real, significant};
use serde::{Deserialize, Serialize};

use crate::range::{OutOfRange, distinct, within};

/// Hours in a year of 365 days.
pub const YEAR_HOURS: f64 = 8_760.0;

/// Computers whose rated power is summed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Computers {
    /// Accelerators, of whose nodes only a factor is known.
    Accelerators {
        /// How many.
        count: u64,
        /// Thermal design power of each.
        tdp: Based<Watts>,
        /// Power of a node over that of its accelerators.
        server_factor: Based<f64>,
    },
    /// Nodes of known rated power.
    Nodes {
        /// How many.
        count: u64,
        /// Rated power of each.
        rated: Based<Watts>,
    },
}

/// Computers that work alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// A word for its id: `train`.
    pub name: String,
    /// What they are.
    pub computers: Computers,
    /// Expected over rated power; 1 where rated is meant.
    pub load: Based<f64>,
}

/// What draws power beside the computers: switches, storage. Stated assumption where only one is known: expected is rated,
/// because a switch's draw hardly depends on its traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// A word for its id: `network`, `storage`.
    pub name: String,
    /// The most it draws.
    pub rated: Based<Watts>,
    /// What it draws at work.
    pub expected: Based<Watts>,
}

/// What a site draws beside its IT, each as a share of the IT's power; PUE is 1 and their sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// Chillers, pumps, fans of the building.
    pub cooling: f64,
    /// Losses of transformers, uninterruptible supplies and busbars.
    pub conversion: f64,
    /// Light, offices, whatever is left.
    pub rest: f64,
    /// Where these come from.
    pub basis: String,
}

impl Overhead {
    /// Splits a PUE of which only the whole is known.
    ///
    /// Stated assumption: 75 % cooling, 20 % conversion, 5 % rest, the order of magnitude of surveys; it moves no total.
    pub fn split(pue: &Based<f64>) -> Self {
        let over = pue.value - 1.0;
        Self {
            cooling: over * 0.75,
            conversion: over * 0.2,
            rest: over * 0.05,
            basis: format!("{}; split 75/20/5 (stated assumption)", pue.basis),
        }
    }

    /// Power usage effectiveness.
    pub fn pue(&self) -> f64 {
        1.0 + self.cooling + self.conversion + self.rest
    }
}

/// The expected share of the rated power of computers at work.
///
/// Published eight-GPU nodes drew 0.76 of their rating in compute-bound training (arXiv 2506.14551) and at most 0.82 to 0.83
/// (IEEE Access 13 (2025) 61740: 8.4 of 10.2 kW); plans use 0.8.
pub fn default_load() -> Based<f64> {
    let basis = "0.76 to 0.83 of rated was measured on eight-GPU nodes (arXiv 2506.14551, IEEE Access 13 (2025) 61740)";
    Based::new(crate::power::PLANNING_RATIO, basis)
}

/// A site whose power is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Its computers.
    pub computers: Vec<Group>,
    /// What else draws power.
    pub beside: Vec<Beside>,
    /// What the site adds.
    pub overhead: Overhead,
    /// Supply over rated power.
    pub margin: Based<f64>,
    /// Price of electricity.
    pub price: Based<UsdPerKwh>,
    /// Carbon of electricity, if known.
    pub carbon: Option<Based<GramsPerKwh>>,
}

/// The power of a site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The most that computers, switches and storage can draw.
    pub it_rated: Watts,
    /// What they draw at work.
    pub it_expected: Watts,
    /// The most that the site can draw.
    pub rated: Watts,
    /// What it draws at work.
    pub expected: Watts,
    /// Of the expected power: cooling.
    pub cooling: Watts,
    /// Of the expected power: conversion losses.
    pub conversion: Watts,
    /// Of the expected power: the rest.
    pub rest: Watts,
    /// The supply to order.
    pub supply: Watts,
    /// Energy of a year at expected power.
    pub energy: Joules,
    /// What it costs.
    pub cost: Usd,
    /// What it emits, if known.
    pub carbon: Option<Grams>,
}

impl Chain {
    /// Computes the site's power, and enters it into `ledger` under `prefix`. An input that the caller has entered
    /// under its id with the same value stays as it is; computed numbers must not be there yet.
    /// # Errors
    /// [`OutOfRange`] if a factor is not a number in its range; nothing is entered then.
    pub fn site(&self, prefix: &str, ledger: &mut Ledger) -> Result<Site, OutOfRange> {
        self.check()?;
        let id = |name: &str| format!("{prefix}.{name}");
        let (mut rated_ids, mut expected_ids) = (Vec::new(), Vec::new());
        let [rated, expected] = [id("it.rated"), id("it.expected")];
        let (mut it_rated, mut it_expected) = (Watts(0.0), Watts(0.0));
        for Group { name, computers, load: ratio } in &self.computers {
            let (power, rated_id) = computers.enter(&id(name), ledger);
            let [load, name] = ["load", "expected"].map(|field| id(&format!("{name}.{field}")));
            ledger.given(&load, "expected over rated power of computers", ratio.value, &ratio.basis);
            let drawn = power * ratio.value;
            let formula = format!("{power} x {}", significant(ratio.value));
            ledger.derived(&name, "expected power", drawn, formula, &[&rated_id, &load]);
            it_rated += power;
            it_expected += drawn;
            rated_ids.push(rated_id);
            expected_ids.push(name);
        }
        for beside in &self.beside {
            let [most, drawn] = ["rated", "expected"].map(|side| id(&format!("{}.{side}", beside.name)));
            ledger.given(&most, &format!("rated power, {}", beside.name), beside.rated.value, &beside.rated.basis);
            let title = format!("expected power, {}", beside.name);
            ledger.given(&drawn, &title, beside.expected.value, &beside.expected.basis);
            it_rated += beside.rated.value;
            it_expected += beside.expected.value;
            rated_ids.push(most);
            expected_ids.push(drawn);
        }
        let all = |ids: &[String]| format!("sum of {}", ids.join(", "));
        sum(ledger, &rated, "rated power of IT", it_rated, all(&rated_ids), &rated_ids);
        sum(ledger, &expected, "expected power of IT", it_expected, all(&expected_ids), &expected_ids);
        Ok(self.enter_site(prefix, it_rated, it_expected, ledger))
    }

    fn enter_site(&self, prefix: &str, it_rated: Watts, it_expected: Watts, ledger: &mut Ledger) -> Site {
        let id = |name: &str| format!("{prefix}.{name}");
        let [it_r, it_e, pue_id] = [id("it.rated"), id("it.expected"), id("pue")];
        let pue = self.overhead.pue();
        let parts = [
            ("cooling", self.overhead.cooling),
            ("conversion", self.overhead.conversion),
            ("rest", self.overhead.rest),
        ];
        let mut shares = Vec::new();
        for (name, share) in parts {
            let share_id = id(&format!("share.{name}"));
            ledger.given(&share_id, &format!("{name} over IT power"), share, &self.overhead.basis);
            let formula = format!("{it_expected} x {}", significant(share));
            let title = format!("expected power, {name}");
            ledger.derived(&id(name), &title, it_expected * share, formula, &[&it_e, &share_id]);
            shares.push(share_id);
        }
        sum(ledger, &pue_id, "power usage effectiveness", pue, "1 + cooling + conversion + rest".to_owned(), &shares);
        let [rated_id, expected_id, margin_id, supply_id] =
            [id("site.rated"), id("site.expected"), id("margin"), id("supply")];
        let (rated, expected) = (it_rated * pue, it_expected * pue);
        let times = |power: Watts, factor: f64| format!("{power} x {}", significant(factor));
        ledger.derived(&rated_id, "rated power of the site", rated, times(it_rated, pue), &[&it_r, &pue_id]);
        let title = "expected power of the site";
        ledger.derived(&expected_id, title, expected, times(it_expected, pue), &[&it_e, &pue_id]);
        let margin = ledger.given(&margin_id, "supply over rated power", self.margin.value, &self.margin.basis);
        let supply = rated * margin;
        ledger.derived(&supply_id, "supply to order", supply, times(rated, margin), &[&rated_id, &margin_id]);
        let [energy_id, price_id] = [id("energy"), id("price")];
        let energy = expected * Seconds(YEAR_HOURS * 3_600.0);
        ledger.derived(&energy_id, "energy of a year", energy, format!("{expected} x 8,760 h"), &[&expected_id]);
        let price = ledger.given(&price_id, "price of electricity", self.price.value, &self.price.basis);
        let cost = energy * price;
        let title = "cost of a year's energy";
        ledger.derived(&id("cost"), title, cost, format!("{energy} x {price}"), &[&energy_id, &price_id]);
        let carbon = self.carbon.as_ref().map(|intensity| {
            let carbon_id = id("carbon_intensity");
            let value = ledger.given(&carbon_id, "carbon of electricity", intensity.value, &intensity.basis);
            let formula = format!("{energy} x {value}");
            ledger.derived(&id("carbon"), "carbon of a year", energy * value, formula, &[&energy_id, &carbon_id])
        });
        Site {
            it_rated,
            it_expected,
            rated,
            expected,
            cooling: it_expected * self.overhead.cooling,
            conversion: it_expected * self.overhead.conversion,
            rest: it_expected * self.overhead.rest,
            supply,
            energy,
            cost,
            carbon,
        }
    }

    fn check(&self) -> Result<(), OutOfRange> {
        let names = self.computers.iter().map(|group| group.name.as_str());
        let names = names.chain(self.beside.iter().map(|beside| beside.name.as_str()));
        distinct("the name of a part", names, &["it", "site", "share"])?;
        let above_zero = |what: &str, value: f64, max: f64, range| within(what, value, 0.0..=max, range);
        for (what, share) in [
            ("the share of cooling", self.overhead.cooling),
            ("the share of conversion losses", self.overhead.conversion),
            ("the share of the rest", self.overhead.rest),
        ] {
            above_zero(what, share, 10.0, "it must be 0 to 10 (PUE is 1 and the sum of the shares)")?;
        }
        within("the margin", self.margin.value, 1.0..=10.0, "it must be 1 to 10")?;
        above_zero("the price of electricity", self.price.value.0, 1e6, "it must not be negative")?;
        for Group { name, computers, load } in &self.computers {
            above_zero("the load ratio", load.value, 1.0, "it must be 0 to 1")?;
            let power = match computers {
                Computers::Accelerators { tdp, server_factor, .. } => {
                    let what = format!("the server factor of {name}");
                    within(&what, server_factor.value, 1.0..=100.0, "it must be 1 to 100")?;
                    tdp.value
                }
                Computers::Nodes { rated, .. } => rated.value,
            };
            above_zero(&format!("the power of {name}"), power.0, 1e12, "it must not be negative")?;
        }
        for beside in &self.beside {
            let what = format!("the power of {}", beside.name);
            above_zero(&what, beside.rated.value.0, 1e12, "it must not be negative")?;
            above_zero(&what, beside.expected.value.0, beside.rated.value.0, "expected must be 0 to rated")?;
        }
        Ok(())
    }
}

impl Computers {
    /// Enters their rated power; returns it and its id.
    fn enter(&self, name: &str, ledger: &mut Ledger) -> (Watts, String) {
        let [count_id, each_id, factor_id, rated_id] =
            ["count", "each", "server_factor", "rated"].map(|field| format!("{name}.{field}"));
        let power = match self {
            Self::Accelerators { count, tdp, server_factor } => {
                let accelerators = ledger.given(&count_id, "accelerators", *count, "what is planned");
                ledger.given(&each_id, "thermal design power", tdp.value, &tdp.basis);
                let title = "power of a node over that of its accelerators";
                let factor = ledger.given(&factor_id, title, server_factor.value, &server_factor.basis);
                let formula = format!("{accelerators} x {} x {}", tdp.value, significant(factor));
                let power = tdp.value * real(accelerators) * factor;
                ledger.derived(&rated_id, "rated power", power, formula, &[&count_id, &each_id, &factor_id])
            }
            Self::Nodes { count, rated } => {
                let nodes = ledger.given(&count_id, "nodes", *count, "what is planned");
                ledger.given(&each_id, "rated power of a node", rated.value, &rated.basis);
                let formula = format!("{nodes} x {}", rated.value);
                ledger.derived(&rated_id, "rated power", rated.value * real(nodes), formula, &[&count_id, &each_id])
            }
        };
        (power, rated_id)
    }
}

fn sum<T: Copy + Into<dh_units::Value>>(
    ledger: &mut Ledger,
    id: &str,
    title: &str,
    value: T,
    formula: String,
    inputs: &[String],
) {
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    ledger.derived(id, title, value, formula, &inputs);
}

/// The worked sizing of 10,000 H100 that many guides repeat: 700 W, x1.3 server, PUE 1.30, x1.1 margin, $0.08/kWh.
pub fn worked_sizing() -> Chain {
    let source = "worked sizing of 10,000 H100 (aiinframap.com power calculator)";
    Chain {
        computers: vec![Group {
            name: "computers".to_owned(),
            computers: Computers::Accelerators {
                count: 10_000,
                tdp: Based::new(Watts(700.0), "H100 SXM data sheet"),
                server_factor: Based::new(1.3, source),
            },
            load: Based::new(1.0, "the sizing means rated power"),
        }],
        beside: Vec::new(),
        overhead: Overhead::split(&Based::new(1.3, source)),
        margin: Based::new(1.1, source),
        price: Based::new(UsdPerKwh(0.08), source),
        carbon: None,
    }
}

#[cfg(test)]
mod tests;
