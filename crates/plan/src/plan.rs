//! The whole plan, put together in the order in which one part needs another.

use std::collections::BTreeSet;
use std::fmt;

use dh_blueprint::{Origins, Settings};
use dh_fabric::cables::{self, Route};
use dh_facility::failures::Outlook;
use dh_units::{Ledger, Watts};

use crate::book::Book;
use crate::cabling::{self, CableRow, Cabling, cabling};
use crate::costs::{self, Bought};
use crate::error::Error;
use crate::findings::{self, Bottleneck, Facts, Finding};
use crate::floors::{Floors, MANAGER_POWER, floors};
use crate::networks::{NetworkPlan, networks};
use crate::pools::{PoolPlan, pools};
use crate::power;
use crate::reliability;
use crate::services::{self, PoolDemand, ServicePlan};
use crate::storage::{StorePlan, stores};
use crate::trainings::{Hall, Searcher, TrainingPlan, Unfit, trainings};

/// A hall in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The hall's name.
    pub name: String,
    /// Every number, with its basis.
    pub ledger: Ledger,
    /// Nodes and accelerators.
    pub pools: Vec<PoolPlan>,
    /// Networks, compute first.
    pub networks: Vec<NetworkPlan>,
    /// Racks and places.
    pub floors: Floors,
    /// Kinds and sums of cables, network by network.
    pub cabling: Vec<Cabling>,
    /// The same as rows.
    pub cables: Vec<CableRow>,
    /// Stores on pools of nodes.
    pub stores: Vec<StorePlan>,
    /// What breaks, for a job on the whole hall for a year.
    pub failures: Option<Outlook>,
    /// Pretrainings.
    pub trainings: Vec<TrainingPlan>,
    /// Pretrainings that cannot run.
    pub unfit: Vec<Unfit>,
    /// Model services.
    pub services: Vec<ServicePlan>,
    /// What services and trainings together want of pools.
    pub demands: Vec<PoolDemand>,
    /// What cannot be, then what somebody should know.
    pub findings: Vec<Finding>,
    /// Needs over supplies, the tightest first.
    pub bottlenecks: Vec<Bottleneck>,
}

/// Pools and where their nodes stand.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Nodes and accelerators.
    pub pools: &'a [PoolPlan],
    /// Racks and places.
    pub floors: &'a Floors,
}

impl Plan {
    /// Its pools and where their nodes stand.
    pub fn standing(&self) -> Standing<'_> {
        Standing { pools: &self.pools, floors: &self.floors }
    }
}

/// A plan as far as its racks: what must be known before a hall runs, and cheap, since no layout of a training is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Nodes and accelerators.
    pub pools: Vec<PoolPlan>,
    /// Racks and places.
    pub floors: Floors,
}

impl Outline {
    /// Its pools and where their nodes stand.
    pub fn standing(&self) -> Standing<'_> {
        Standing { pools: &self.pools, floors: &self.floors }
    }
}

/// Plans the hall that `settings` describe as far as its racks; they are those of [`plan`].
/// # Errors
/// [`Error`] if a network cannot be built, or a node fits no rack.
pub fn outline(settings: &Settings) -> Result<Outline, Error> {
    let origins = Origins::default();
    let mut book = Book::new(settings, &origins);
    let pools = pools(&mut book)?;
    let networks = networks(&mut book, &pools)?;
    let floors = floors(settings, &pools, &networks)?;
    Ok(Outline { pools, floors })
}

/// Plans the hall that `settings` describe; `origins` say where each of them is written.
/// # Errors
/// [`Error`] if a network cannot be built, a node fits no rack, a cable would be too long, or a number makes no sense.
/// What can be built and does not do what is asked is a [`Finding`], not an error.
pub fn plan(settings: &Settings, origins: &Origins) -> Result<Plan, Error> {
    plan_with(settings, origins, &mut |_, search| search.run(&mut |_| {}))
}

/// As [`plan`], with `searcher` to carry out the search for the best layout of each training: what it answers must be what
/// [`dh_perf::search::Search::run`] would.
/// # Errors
/// As [`plan`].
pub fn plan_with(settings: &Settings, origins: &Origins, searcher: &mut Searcher<'_>) -> Result<Plan, Error> {
    let mut book = Book::new(settings, origins);
    let pools = pools(&mut book)?;
    let networks = networks(&mut book, &pools)?;
    let floors = floors(settings, &pools, &networks)?;
    for site in &floors.sites {
        for (key, value) in
            [("rack_power", Limit::Power), ("rack_height", Limit::Height), ("racks_per_row", Limit::Row)]
        {
            enter_limit(&mut book, settings, &site.site, key, value);
        }
        let nodes = pools.iter().filter(|pool| pool.site == site.site).map(|pool| pool.nodes_id.as_str());
        let here = networks.iter().filter(|network| network.site == site.site);
        let switches: Vec<String> = here
            .flat_map(|network| {
                network.design.tiers.iter().map(|tier| format!("network.{}.{}", network.name, tier.role.name()))
            })
            .filter(|id| book.ledger.get(id).is_some())
            .collect();
        let switches: Vec<&str> = switches.iter().map(String::as_str).collect();
        let nodes: Vec<&str> = nodes.collect();
        site.floor.enter(&format!("floor.{}", site.site), &nodes, &switches, &mut book.ledger);
    }
    let ids: Vec<String> = floors.sites.iter().map(|site| format!("floor.{}.racks", site.site)).collect();
    book.sum("floor.racks", "racks", floors.racks(), "sum over all sites", &ids);
    let (cabling, cables) = cabling(&mut book, &pools, &networks, &floors)?;
    for network in &networks {
        enter_managers(&mut book, network);
    }
    let powers = power::sites(&mut book, &pools, |site| network_power(&networks, &cabling, site))?;
    let stores = stores(&mut book, &pools);
    let bought = Bought { pools: &pools, networks: &networks, cables: &cables, stores: &stores };
    let costs = costs::sites(&mut book, bought, &powers)?;
    let failures = reliability::hall(&mut book, &pools, &stores)?;
    let hall = Hall { pools: &pools, networks: &networks, stores: &stores };
    let (trainings, unfit) = trainings(&mut book, hall, searcher)?;
    let hall = services::Hall { pools: &pools, networks: &networks, trainings: &trainings };
    let (services, demands) = services::services(&mut book, hall);
    let mut missing: Vec<String> = costs.iter().flat_map(|site| site.cost.missing.clone()).collect();
    missing.sort();
    missing.dedup();
    let long_copper = cabling::long_copper(settings, &networks, &cables);
    let missing_powers = unknown_powers(settings, &networks);
    let facts = Facts {
        settings,
        pools: &pools,
        powers: &powers,
        floors: &floors,
        stores: &stores,
        trainings: &trainings,
        unfit: &unfit,
        services: &services,
        demands: &demands,
        hall: failures.as_ref(),
        missing_prices: &missing,
        missing_powers: &missing_powers,
        long_copper: &long_copper,
    };
    let (findings, bottlenecks) = (findings::findings(facts), findings::bottlenecks(facts));
    Ok(Plan {
        name: settings.name.clone(),
        ledger: book.ledger,
        pools,
        networks,
        floors,
        cabling,
        cables,
        stores,
        failures,
        trainings,
        unfit,
        services,
        demands,
        findings,
        bottlenecks,
    })
}

/// A limit of a site's racks.
#[derive(Clone, Copy)]
enum Limit {
    Power,
    Height,
    Row,
}

/// Enters a limit as the blueprint has it, under the id that the floor knows it by.
fn enter_limit(book: &mut Book<'_>, settings: &Settings, name: &str, key: &str, limit: Limit) {
    let Some(site) = settings.sites.get(name) else { return };
    let path = format!("site.{name}.{key}");
    let id = |end: &str| format!("floor.{name}.{end}");
    match limit {
        Limit::Power => {
            let said = book.says(&path, "rated power that a rack may hold", site.rack_power);
            let title = "rated power that a rack may hold";
            book.sum(&id("rack.power"), title, site.rack_power, "limit of the site", &[said]);
        }
        Limit::Height => {
            let said = book.says(&path, "height of a rack in U", site.rack_height);
            book.sum(&id("rack.height_u"), "height of a rack in U", site.rack_height, "limit of the site", &[said]);
        }
        Limit::Row => {
            let said = book.says(&path, "racks in a row", site.racks_per_row);
            book.sum(&id("racks_per_row"), "racks in a row", site.racks_per_row, "limit of the site", &[said]);
        }
    }
}

/// Power of the servers that manage a network: one on each of its ports for them, as the floor has it.
fn managers_power(network: &NetworkPlan) -> Watts {
    MANAGER_POWER * f64::from(network.request.extra_ports)
}

/// Enters the power of managers, where a network has any.
fn enter_managers(book: &mut Book<'_>, network: &NetworkPlan) {
    let ports = network.request.extra_ports;
    if ports == 0 {
        return;
    }
    let id = |key: &str| format!("network.{}.{key}", network.name);
    let source = "stated assumption: a server of one unit";
    book.ledger.given(&id("managers.each"), "power of a fabric manager", MANAGER_POWER, source);
    let inputs = [id("manager-ports"), id("managers.each")];
    let formula = format!("{ports} x {MANAGER_POWER}");
    book.sum(&id("managers.power"), "power of fabric managers", managers_power(network), formula, &inputs);
}

/// Models of switches whose power the catalogue does not know.
fn unknown_powers(settings: &Settings, networks: &[NetworkPlan]) -> Vec<String> {
    let tiers = networks.iter().flat_map(|network| &network.design.tiers).filter(|tier| tier.count > 0);
    let unknown =
        tiers.filter(|tier| settings.catalog.switch(&tier.switch.name).is_none_or(|item| item.power.is_none()));
    let names: BTreeSet<&String> = unknown.map(|tier| &tier.switch.name).collect();
    names.into_iter().cloned().collect()
}

/// Power of a site's switches and of what is plugged into them.
fn network_power(networks: &[NetworkPlan], cabling: &[Cabling], site: &str) -> power::Network {
    let mut network = power::Network::default();
    for (plan, cabling) in networks.iter().zip(cabling).filter(|(network, _)| network.site == site) {
        network.switches += plan.power();
        network.plugged += cabling.summary.power(&cabling.kinds);
        network.ids.push(format!("network.{}.power", plan.name));
        network.ids.push(format!("network.{}.cables.power", plan.name));
        if plan.request.extra_ports > 0 {
            network.managers += managers_power(plan);
            network.ids.push(format!("network.{}.managers.power", plan.name));
        }
    }
    network
}

impl Plan {
    /// Writes the complete cable list of all networks as CSV, with its head.
    /// # Errors
    /// [`Error::Cables`] if `out` cannot be written.
    pub fn write_cables<W: fmt::Write>(&self, out: &mut W) -> Result<(), Error> {
        let failed = |name: &str| {
            let name = name.to_owned();
            move |error| Error::Cables { name, error }
        };
        out.write_str(cables::CSV_HEADER).map_err(|_| failed(&self.name)(cables::Error::Write))?;
        for (place, (network, cabling)) in self.networks.iter().zip(&self.cabling).enumerate() {
            let hall = self.floors.hall(place, &self.pools, &self.networks);
            cables::write_csv(&network.design, &hall, &cabling.kinds, &Route::default(), out)
                .map_err(failed(&network.name))?;
        }
        Ok(())
    }

    /// Cables of all networks together; how many rows [`Self::write_cables`] writes at least.
    pub fn cable_count(&self) -> u64 {
        self.cables.iter().map(|row| row.cables).sum()
    }
}
