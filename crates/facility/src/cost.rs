//! Total cost of ownership: what a hall costs to build and, per year and accelerator-hour, to own.
//!
//! ```text
//! build   = IT + network + storage + building
//! a year  = sum of (count x price / years) + energy + space + maintenance x IT capital + staff + network share
//! an hour = a year / (accelerators x 8,760 x utilisation)
//! ```
//!
//! Invariant: an item without a price is listed as missing and the sums say so; it is never counted as free in silence.
//! Straight-line amortisation, no interest. Capital dominates: an accelerator draws hundreds of dollars of power a year and costs tens of
//! thousands to buy.

use std::fmt;

use dh_units::{Based, Ledger, Usd, UsdPerHour, Value, Watts, real, significant};
use serde::{Deserialize, Serialize};

use crate::chain::YEAR_HOURS;
use crate::range::{OutOfRange, distinct, within};

/// What an item belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Nodes.
    Compute,
    /// Switches, transceivers, cables.
    Network,
    /// Drives and storage nodes.
    Storage,
    /// Building, power and cooling.
    Facility,
}

impl Part {
    const ALL: [Self; 4] = [Self::Compute, Self::Network, Self::Storage, Self::Facility];

    const fn word(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::Facility => "facility",
        }
    }
}

/// Something that is bought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// A word for its id: `dgx-h100`; unique in a request.
    pub name: String,
    /// What it belongs to.
    pub part: Part,
    /// How many.
    pub count: u64,
    /// The price of one, if known.
    pub price: Option<Based<Usd>>,
    /// Over how many years it is written off.
    pub years: Based<f64>,
}

/// Where the hall stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a building of its own, bought per kilowatt of supply; it becomes an item of [`Part::Facility`].
    Built {
        /// The supply that it has.
        supply: Watts,
        /// Price of one kilowatt of it.
        per_kw: Based<Usd>,
        /// Over how many years it is written off.
        years: Based<f64>,
    },
    /// In rented space, paid per rack.
    RentedRacks {
        /// How many racks.
        racks: u64,
        /// A year's rent of one.
        per_rack: Based<Usd>,
    },
    /// In rented space, paid per kilowatt of supply.
    RentedPower {
        /// The supply.
        supply: Watts,
        /// A year's rent of one kilowatt.
        per_kw: Based<Usd>,
    },
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What is bought beside the building.
    pub items: Vec<Item>,
    /// Where it stands.
    pub place: Place,
    /// Energy of a year, cooling and losses included.
    pub energy: Based<Usd>,
    /// Maintenance of a year as a share of the capital in compute, network and storage.
    pub maintenance: Based<f64>,
    /// People.
    pub staff: Based<f64>,
    /// What one costs in a year.
    pub staff_each: Based<Usd>,
    /// A year's share of the lines to the world outside.
    pub network_share: Based<Usd>,
    /// Accelerators that are let or used.
    pub accelerators: u64,
    /// The share of hours in which they are.
    pub utilisation: Based<f64>,
}

/// Years over which IT is written off.
pub fn default_it_years() -> Based<f64> {
    Based::new(5.0, "stated assumption: large operators write servers off over 4 to 6 years")
}

/// Years over which a building is written off.
pub fn default_building_years() -> Based<f64> {
    Based::new(20.0, "stated assumption: power and cooling plant lasts 15 to 25 years")
}

/// Price of a building per kilowatt of supply.
pub fn default_building_per_kw() -> Based<Usd> {
    Based::new(Usd(12_000.0), "stated assumption: $10 to $14 per watt is the usual order of magnitude")
}

/// Maintenance of a year as a share of IT capital.
pub fn default_maintenance() -> Based<f64> {
    Based::new(0.03, "stated assumption: spare parts and support contracts of 2 to 5 % a year")
}

/// The share of hours in which accelerators are used.
pub fn default_utilisation() -> Based<f64> {
    Based::new(0.8, "stated assumption: a well-filled shared hall")
}

/// What it costs to build, as far as prices are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Nodes.
    pub compute: Usd,
    /// Switches, transceivers, cables.
    pub network: Usd,
    /// Drives and storage nodes.
    pub storage: Usd,
    /// Building, power and cooling; 0 if space is rented.
    pub facility: Usd,
}

impl Build {
    /// All of it.
    pub fn total(&self) -> Usd {
        self.it() + self.facility
    }

    /// All but the building.
    pub fn it(&self) -> Usd {
        self.compute + self.network + self.storage
    }

    const fn of(&mut self, part: Part) -> &mut Usd {
        match part {
            Part::Compute => &mut self.compute,
            Part::Network => &mut self.network,
            Part::Storage => &mut self.storage,
            Part::Facility => &mut self.facility,
        }
    }
}

/// What it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// To build.
    pub build: Build,
    /// Capital of a year.
    pub capital: Usd,
    /// Energy of a year.
    pub energy: Usd,
    /// Rent of a year; 0 in a building of its own.
    pub space: Usd,
    /// Maintenance of a year.
    pub maintenance: Usd,
    /// Staff of a year.
    pub staff: Usd,
    /// Lines to the outside, a year.
    pub network_share: Usd,
    /// All of a year.
    pub per_year: Usd,
    /// For one used hour of one accelerator; `None` if there is none.
    pub per_accelerator_hour: Option<UsdPerHour>,
    /// Items whose price is not known; if there are any, every sum that holds capital is too low.
    pub missing: Vec<String>,
}

impl Request {
    /// Computes the cost, and enters it into `ledger` under `prefix`. An input that the caller has entered
    /// under its id with the same value, such as `energy` computed from a site's, stays as it is; computed numbers must not be
    /// there yet.
    /// # Errors
    /// [`OutOfRange`] if a price is negative or years or utilisation are not above zero; nothing is entered then.
    pub fn cost(&self, prefix: &str, ledger: &mut Ledger) -> Result<Cost, OutOfRange> {
        self.check()?;
        let id = |name: &str| format!("{prefix}.{name}");
        let mut sums = Sums { prefix, ledger, build: Build::default(), written_off: Vec::new(), missing: Vec::new() };
        let mut capital: Usd = self.items.iter().map(|item| sums.item(item)).sum();
        let mut space = Usd(0.0);
        let space_id = id("space");
        match &self.place {
            Place::Built { supply, per_kw, years } => capital += sums.building(*supply, per_kw, years),
            Place::RentedRacks { racks, per_rack } => {
                space = sums.rent("racks", *racks, per_rack, per_rack.value * real(*racks));
            }
            Place::RentedPower { supply, per_kw } => {
                space = sums.rent("supply", *supply, per_kw, per_kw.value * (supply.0 / 1_000.0));
            }
        }
        let Sums { ledger, mut build, written_off, missing, .. } = sums;
        let short = without(missing.iter().map(String::as_str));
        for part in Part::ALL {
            let parts: Vec<String> = self
                .items
                .iter()
                .filter(|item| item.part == part && item.price.is_some())
                .map(|item| id(&format!("item.{}", item.name)))
                .collect();
            let mut inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
            let building = id("item.building");
            if part == Part::Facility && matches!(self.place, Place::Built { .. }) {
                inputs.push(&building);
            }
            let name = id(&format!("build.{}", part.word()));
            let title = format!("cost to build, {}", part.word());
            ledger.derived(&name, &title, *build.of(part), format!("sum of its items{}", self.missing(part)), &inputs);
        }
        let builds = Part::ALL.map(|part| id(&format!("build.{}", part.word())));
        let [compute, network, storage, facility] = builds.each_ref().map(String::as_str);
        let formula = format!("compute + network + storage + facility{short}");
        let inputs = [compute, network, storage, facility];
        ledger.derived(&id("build"), "cost to build", build.total(), formula, &inputs);
        let [capital_id, energy_id, share_id, maintenance_id, people, each, staff_id, line_id] = [
            "capital",
            "energy",
            "maintenance.share",
            "maintenance",
            "staff.people",
            "staff.each",
            "staff",
            "network_share",
        ]
        .map(id);
        let inputs: Vec<&str> = written_off.iter().map(String::as_str).collect();
        let formula = format!("sum of count x price / years{short}");
        ledger.derived(&capital_id, "capital of a year", capital, formula, &inputs);
        let energy = ledger.given(&energy_id, "energy of a year", self.energy.value, &self.energy.basis);
        let title = "maintenance of a year over IT capital";
        let share = ledger.given(&share_id, title, self.maintenance.value, &self.maintenance.basis);
        let maintenance = build.it() * share;
        let formula = format!("{} x {}{short}", build.it(), significant(share));
        let inputs = [compute, network, storage, share_id.as_str()];
        ledger.derived(&maintenance_id, "maintenance of a year", maintenance, formula, &inputs);
        ledger.given(&people, "staff", self.staff.value, &self.staff.basis);
        ledger.given(&each, "a year of one of the staff", self.staff_each.value, &self.staff_each.basis);
        let staff = self.staff_each.value * self.staff.value;
        let formula = format!("{} x {}", significant(self.staff.value), self.staff_each.value);
        ledger.derived(&staff_id, "staff of a year", staff, formula, &[&people, &each]);
        let title = "a year's share of outside lines";
        let network_share = ledger.given(&line_id, title, self.network_share.value, &self.network_share.basis);
        let per_year = capital + energy + space + maintenance + staff + network_share;
        let mut inputs = vec![&*capital_id, &energy_id, &maintenance_id, &staff_id, &line_id];
        if !matches!(self.place, Place::Built { .. }) {
            inputs.push(&space_id);
        }
        let formula = format!(
            "{capital} + {energy} + {space} + {maintenance} + {staff} + {network_share}: capital, energy, space, \
                     maintenance, staff, network share{short}"
        );
        let year_id = id("year");
        ledger.derived(&year_id, "cost of a year", per_year, formula, &inputs);
        let per_accelerator_hour = self.hour(per_year, &year_id, prefix, ledger);
        Ok(Cost {
            build,
            capital,
            energy,
            space,
            maintenance,
            staff,
            network_share,
            per_year,
            per_accelerator_hour,
            missing,
        })
    }

    /// What the sum over `part` does without.
    fn missing(&self, part: Part) -> String {
        let missing = self.items.iter().filter(|item| item.part == part && item.price.is_none());
        without(missing.map(|item| item.name.as_str()))
    }

    fn hour(&self, per_year: Usd, year_id: &str, prefix: &str, ledger: &mut Ledger) -> Option<UsdPerHour> {
        if self.accelerators == 0 {
            return None;
        }
        let [count, used, hour] =
            ["accelerators", "utilisation", "accelerator_hour"].map(|name| format!("{prefix}.{name}"));
        let accelerators = ledger.given(&count, "accelerators", self.accelerators, "what is planned");
        let title = "share of hours in which accelerators are used";
        let utilisation = ledger.given(&used, title, self.utilisation.value, &self.utilisation.basis);
        let cost = UsdPerHour(per_year.0 / (real(accelerators) * YEAR_HOURS * utilisation));
        let formula = format!("{per_year} / ({accelerators} x 8,760 h x {})", significant(utilisation));
        Some(ledger.derived(&hour, "cost of a used accelerator-hour", cost, formula, &[year_id, &count, &used]))
    }

    fn check(&self) -> Result<(), OutOfRange> {
        distinct("the name of an item", self.items.iter().map(|item| item.name.as_str()), &["building"])?;
        let price = |what: &str, price: Usd| within(what, price.0, 0.0..=1e15, "it must not be negative");
        let years = |what: &str, years: f64| within(what, years, 0.1..=100.0, "it must be 0.1 to 100");
        for item in &self.items {
            price(&format!("the price of {}", item.name), item.price.as_ref().map_or(Usd(0.0), |price| price.value))?;
            years(&format!("the years of {}", item.name), item.years.value)?;
        }
        match &self.place {
            Place::Built { supply, per_kw, years: over } => {
                within("the supply", supply.0, 0.0..=1e12, "it must not be negative")?;
                price("the price of a kilowatt of building", per_kw.value)?;
                years("the years of the building", over.value)?;
            }
            Place::RentedRacks { per_rack, .. } => price("the rent of a rack", per_rack.value)?,
            Place::RentedPower { supply, per_kw } => {
                within("the supply", supply.0, 0.0..=1e12, "it must not be negative")?;
                price("the rent of a kilowatt", per_kw.value)?;
            }
        }
        price("the energy of a year", self.energy.value)?;
        price("a year of one of the staff", self.staff_each.value)?;
        price("the share of outside lines", self.network_share.value)?;
        within("the number of staff", self.staff.value, 0.0..=1e6, "it must be 0 to 1,000,000")?;
        within("maintenance", self.maintenance.value, 0.0..=1.0, "it must be 0 to 1 of capital")?;
        within("utilisation", self.utilisation.value, 0.001..=1.0, "it must be 0.001 to 1")
    }
}

/// The end of a formula that does without `missing`.
fn without<'a>(missing: impl Iterator<Item = &'a str>) -> String {
    let missing: Vec<&str> = missing.collect();
    if missing.is_empty() { String::new() } else { format!("; without {}", missing.join(", ")) }
}

/// Sums over items while they are entered.
struct Sums<'a> {
    prefix: &'a str,
    ledger: &'a mut Ledger,
    build: Build,
    written_off: Vec<String>,
    missing: Vec<String>,
}

impl Sums<'_> {
    /// Enters an item; returns its capital of a year.
    fn item(&mut self, item: &Item) -> Usd {
        let id = |field: &str| format!("{}.item.{}{field}", self.prefix, item.name);
        let Some(price) = &item.price else {
            self.missing.push(item.name.clone());
            self.ledger.given(&id(".count"), "how many", item.count, "what is planned");
            self.ledger.given(&id(".price"), "price of one", "not known", "no price is given");
            return Usd(0.0);
        };
        let [count_id, price_id, all_id] = [id(".count"), id(".price"), id("")];
        let count = self.ledger.given(&count_id, "how many", item.count, "what is planned");
        let each = self.ledger.given(&price_id, "price of one", price.value, &price.basis);
        let all = each * real(count);
        self.ledger.derived(&all_id, "price of all", all, format!("{count} x {each}"), &[&count_id, &price_id]);
        *self.build.of(item.part) += all;
        self.write_off(&all_id, all, &item.years)
    }

    fn building(&mut self, supply: Watts, per_kw: &Based<Usd>, years: &Based<f64>) -> Usd {
        let [supply_id, price_id, all_id] =
            ["supply", "item.building.per_kw", "item.building"].map(|name| format!("{}.{name}", self.prefix));
        self.ledger.given(&supply_id, "supply", supply, "power of the site");
        let each = self.ledger.given(&price_id, "building for a kilowatt", per_kw.value, &per_kw.basis);
        let all = each * (supply.0 / 1_000.0);
        self.ledger.derived(&all_id, "building", all, format!("{supply} x {each} per kW"), &[&supply_id, &price_id]);
        self.build.facility += all;
        self.write_off(&all_id, all, years)
    }

    fn write_off(&mut self, all_id: &str, all: Usd, years: &Based<f64>) -> Usd {
        let [years_id, year_id] = ["years", "per_year"].map(|field| format!("{all_id}.{field}"));
        let over = self.ledger.given(&years_id, "years until written off", years.value, &years.basis);
        let formula = format!("{all} / {}", significant(over));
        self.ledger.derived(&year_id, "capital of a year", all / over, formula, &[all_id, &years_id]);
        self.written_off.push(year_id);
        all / over
    }

    /// Enters a rent paid for `units`, which go by `name`.
    fn rent<T: Copy + Into<Value> + fmt::Display>(
        &mut self,
        name: &str,
        units: T,
        each: &Based<Usd>,
        rent: Usd,
    ) -> Usd {
        let [units_id, each_id, rent_id] = [name, "space.each", "space"].map(|name| format!("{}.{name}", self.prefix));
        self.ledger.given(&units_id, "what rent is paid for", units, "what is planned");
        let price = self.ledger.given(&each_id, "a year's rent of one", each.value, &each.basis);
        let formula = format!("{units} x {price}");
        self.ledger.derived(&rent_id, "rent of a year", rent, formula, &[&units_id, &each_id])
    }
}

#[cfg(test)]
mod tests;
