//! What the hall costs to build and to own, site by site.

use std::collections::BTreeMap;

use dh_blueprint::Site;
use dh_facility::cost::{self, Item, Part, Place, Request};
use dh_units::{Based, Usd, UsdPerHour, real};

use crate::book::Book;
use crate::cabling::CableRow;
use crate::error::Error;
use crate::networks::NetworkPlan;
use crate::pools::PoolPlan;
use crate::power::SitePower;
use crate::storage::StorePlan;

/// The catalogue's word for the machine that the program runs on.
const THIS_MACHINE: &str = "this-machine";

/// What one site costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SiteCost {
    pub(crate) name: String,
    pub(crate) cost: cost::Cost,
}

/// Everything that has a price.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bought<'a> {
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) networks: &'a [NetworkPlan],
    pub(crate) cables: &'a [CableRow],
    pub(crate) stores: &'a [StorePlan],
}

/// Costs of every site under `cost.SITE`, and the sums `cost.build`, `cost.year`, `cost.accelerator_hour`.
pub(crate) fn sites(book: &mut Book<'_>, bought: Bought<'_>, powers: &[SitePower]) -> Result<Vec<SiteCost>, Error> {
    let settings = book.settings;
    let mut costs = Vec::new();
    for (name, site) in &settings.sites {
        let Some(power) = powers.iter().find(|power| power.name == *name) else { continue };
        let request = request(book, name, site, bought, power);
        follow(book, name, bought, &request);
        let energy = format!("power.{name}.cost");
        book.sum(
            &format!("cost.{name}.energy"),
            "energy of a year",
            power.power.cost,
            "cost of the site's energy",
            &[energy],
        );
        let cost = request
            .cost(&format!("cost.{name}"), &mut book.ledger)
            .map_err(|error| Error::Range { site: name.clone(), error })?;
        costs.push(SiteCost { name: name.clone(), cost });
    }
    let total = |book: &mut Book<'_>, key: &str, title: &str, of: &dyn Fn(&cost::Cost) -> Usd| {
        let ids: Vec<String> = costs.iter().map(|site| format!("cost.{}.{key}", site.name)).collect();
        let sum: Usd = costs.iter().map(|site| of(&site.cost)).sum();
        book.sum(&format!("cost.{key}"), title, sum, "sum over all sites", &ids);
        sum
    };
    for (key, title, of) in [
        (
            "build.compute",
            "cost to build, compute",
            &(|cost: &cost::Cost| cost.build.compute) as &dyn Fn(&cost::Cost) -> Usd,
        ),
        ("build.network", "cost to build, network", &|cost| cost.build.network),
        ("build.storage", "cost to build, storage", &|cost| cost.build.storage),
        ("build.facility", "cost to build, building and power", &|cost| cost.build.facility),
        ("build", "cost to build", &|cost| cost.build.total()),
        ("capital", "capital of a year", &|cost| cost.capital),
        ("maintenance", "maintenance of a year", &|cost| cost.maintenance),
        ("energy", "energy of a year", &|cost| cost.energy),
        ("staff", "staff of a year", &|cost| cost.staff),
    ] {
        total(book, key, title, of);
    }
    let year = total(book, "year", "cost of a year", &|cost| cost.per_year);
    let accelerators: u64 = bought.pools.iter().map(|pool| pool.accelerators).sum();
    if accelerators > 0 {
        let used = cost::default_utilisation();
        book.ledger.given("cost.utilisation", "share of hours in which accelerators are used", used.value, &used.basis);
        let hours = real(accelerators) * 8_760.0 * used.value;
        book.sum(
            "cost.accelerator_hour",
            "cost of a used accelerator-hour",
            UsdPerHour(year.0 / hours),
            format!("{year} / ({accelerators} x 8,760 h x {})", used.value),
            &["cost.year".to_owned(), "count.accelerators".to_owned(), "cost.utilisation".to_owned()],
        );
    }
    Ok(costs)
}

/// Enters counts and prices as computed from the plan's other numbers, before the model of costs enters them as given.
fn follow(book: &mut Book<'_>, site: &str, bought: Bought<'_>, request: &Request) {
    let id = |item: &Item, key: &str| format!("cost.{site}.item.{}.{key}", item.name);
    for item in &request.items {
        let (counts, price): (Vec<String>, Option<String>) = match item.name.split_once('-') {
            Some(("pool", name)) => {
                let pool = bought.pools.iter().find(|pool| pool.name == name);
                (vec![format!("pool.{name}.nodes")], pool.and_then(|pool| pool.price_id.clone()))
            }
            Some(("switch", model)) => {
                let here = bought.networks.iter().filter(|network| network.site == site);
                let counts = here.flat_map(|network| {
                    let of = network.design.tiers.iter().filter(|tier| tier.switch.name == model);
                    of.map(|tier| format!("network.{}.{}", network.name, tier.role.name())).collect::<Vec<_>>()
                });
                (counts.collect(), Some(format!("catalog.switch.{model}.price")))
            }
            Some(("cable", kind)) => {
                let rows = bought.cables.iter().filter(|row| row.kind == kind);
                let mut counts: Vec<String> = rows.map(|row| format!("network.{}.cables", row.network)).collect();
                counts.dedup();
                (counts, Some(format!("catalog.cable.{kind}.price")))
            }
            _ => continue,
        };
        let known = |ids: Vec<String>| ids.into_iter().filter(|id| book.ledger.get(id).is_some()).collect::<Vec<_>>();
        let (counts, price_ids) = (known(counts), known(price.into_iter().collect()));
        if !counts.is_empty() {
            book.sum(&id(item, "count"), "how many", item.count, "sum of the plan's counts", &counts);
        }
        if let (Some(price), false) = (&item.price, price_ids.is_empty()) {
            let formula = if item.name.starts_with("cable-") {
                "of the catalogue; of optics, both ends and the fibre"
            } else {
                "of blueprint or catalogue"
            };
            book.sum(&id(item, "price"), "price of one", price.value, formula, &price_ids);
        }
    }
    if let Place::Built { supply, .. } | Place::RentedPower { supply, .. } = &request.place {
        let from = format!("power.{site}.supply");
        book.sum(&format!("cost.{site}.supply"), "supply of the site", *supply, "what is ordered", &[from]);
    }
    let pools = bought.pools.iter().filter(|pool| pool.site == site && pool.accelerators > 0);
    let ids: Vec<String> = pools.map(|pool| format!("count.pool.{}.accelerators", pool.name)).collect();
    if !ids.is_empty() {
        let title = "accelerators";
        book.sum(&format!("cost.{site}.accelerators"), title, request.accelerators, "sum over the site's pools", &ids);
    }
}

fn request(book: &mut Book<'_>, name: &str, site: &Site, bought: Bought<'_>, power: &SitePower) -> Request {
    let years = Based::new(site.amortisation_years, book.origin(&format!("site.{name}.amortisation_years")));
    let mut items = Vec::new();
    // Nobody buys the machine that the program runs on.
    let bought_here = |pool: &&PoolPlan| pool.site == name && pool.item.name != THIS_MACHINE;
    for pool in bought.pools.iter().filter(bought_here) {
        let holds = bought.stores.iter().any(|store| store.pool == pool.name);
        let source = |id: &String| book.ledger.get(id).and_then(|number| number.source.clone()).unwrap_or_default();
        items.push(Item {
            name: format!("pool-{}", pool.name),
            part: if holds && pool.accelerators == 0 { Part::Storage } else { Part::Compute },
            count: pool.nodes.into(),
            price: pool.price.map(|price| Based::new(price, pool.price_id.as_ref().map(source).unwrap_or_default())),
            years: years.clone(),
        });
    }
    let networks: Vec<&NetworkPlan> = bought.networks.iter().filter(|network| network.site == name).collect();
    items.extend(switches(book, &networks, &years));
    let here = |row: &&CableRow| networks.iter().any(|network| network.name == row.network);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for row in bought.cables.iter().filter(here) {
        *kinds.entry(&row.kind).or_default() += row.cables;
    }
    for (kind, count) in kinds {
        let mut rows = bought.cables.iter().filter(|row| row.kind == kind && row.cables > 0);
        let price = rows.find_map(|row| Some(row.price? / real(row.cables)));
        items.push(Item {
            name: format!("cable-{kind}"),
            part: Part::Network,
            count,
            price: price
                .map(|price| Based::new(price, format!("catalogue: cable {kind}; of optics, both ends and the fibre"))),
            years: years.clone(),
        });
    }
    let accelerators = bought.pools.iter().filter(|pool| pool.site == name).map(|pool| pool.accelerators).sum();
    Request {
        items,
        place: place(book, name, site, power),
        energy: Based::new(power.power.cost, "energy of the site"),
        maintenance: cost::default_maintenance(),
        staff: Based::new(1.0, "all of the site's staff as one sum"),
        staff_each: Based::new(site.staff, book.origin(&format!("site.{name}.staff"))),
        network_share: Based::new(Usd(0.0), "lines to the outside are not planned"),
        accelerators,
        utilisation: cost::default_utilisation(),
    }
}

/// Switches by model.
fn switches(book: &Book<'_>, networks: &[&NetworkPlan], years: &Based<f64>) -> Vec<Item> {
    let mut models: BTreeMap<&str, (u64, Option<Usd>)> = BTreeMap::new();
    for tier in networks.iter().flat_map(|network| &network.design.tiers) {
        let entry = models.entry(&tier.switch.name).or_insert((0, tier.switch.price));
        entry.0 += tier.count;
    }
    let item = |(model, (count, price)): (&str, (u64, Option<Usd>))| {
        let source = book.settings.catalog.switch(model).and_then(|item| Some(item.price.as_ref()?.source.clone()));
        Item {
            name: format!("switch-{model}"),
            part: Part::Network,
            count,
            price: price.map(|price| Based::new(price, source.unwrap_or_default())),
            years: years.clone(),
        }
    };
    models.into_iter().filter(|(_, (count, _))| *count > 0).map(item).collect()
}

/// A building, unless the computers stand on a desk: no building is bought for those.
fn place(book: &Book<'_>, name: &str, site: &Site, power: &SitePower) -> Place {
    let mut own = book.settings.pools.values().filter(|pool| pool.site == name);
    let desk = own.all(|pool| pool.node == THIS_MACHINE);
    match site.build_per_kw {
        None if desk => Place::RentedPower {
            supply: power.power.supply,
            per_kw: Based::new(Usd(0.0), "the machine stands where it stands"),
        },
        written => Place::Built {
            supply: power.power.supply,
            per_kw: written.map_or_else(cost::default_building_per_kw, |price| {
                Based::new(price, book.origin(&format!("site.{name}.build_per_kw")))
            }),
            years: cost::default_building_years(),
        },
    }
}
