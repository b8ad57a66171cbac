//! Power of each site and of the hall, from the nodes to what is ordered from the supplier.

use dh_blueprint::Site;
use dh_facility::chain::{Beside, Chain, Computers, Group, Overhead};
use dh_units::{Based, Grams, Watts};

use crate::book::Book;
use crate::error::Error;
use crate::pools::PoolPlan;

/// Power of one site.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SitePower {
    pub(crate) name: String,
    pub(crate) power: dh_facility::chain::Site,
}

/// Power of a site's network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// Of its switches.
    pub(crate) switches: Watts,
    /// Of optics and whatever else is plugged into them and into the nodes.
    pub(crate) plugged: Watts,
    /// Of its managers.
    pub(crate) managers: Watts,
    /// The numbers that these come from.
    pub(crate) ids: Vec<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self { switches: Watts(0.0), plugged: Watts(0.0), managers: Watts(0.0), ids: Vec::new() }
    }
}

const LOAD_SOURCE: &str =
    "0.76 to 0.83 of rated was measured on eight-GPU nodes (arXiv 2506.14551, IEEE Access 13 (2025) 61740)";

/// Power of every site under `power.SITE`, and the sums `power.it.rated`, `power.it.expected`, `power.rated`, `power.expected`,
/// `power.supply`, `power.energy`, `power.cost`, `power.carbon`. `network` says what the network of a site draws.
pub(crate) fn sites(
    book: &mut Book<'_>,
    pools: &[PoolPlan],
    network: impl Fn(&str) -> Network,
) -> Result<Vec<SitePower>, Error> {
    let settings = book.settings;
    let mut powers = Vec::new();
    for (name, site) in &settings.sites {
        let power = one(book, name, site, pools, &network(name))?;
        powers.push(SitePower { name: name.clone(), power });
    }
    total(book, &powers, "it.rated", "rated power of computers and network", |site| site.it_rated);
    total(book, &powers, "it.expected", "expected power of computers and network", |site| site.it_expected);
    total(book, &powers, "site.rated", "rated power with cooling and losses", |site| site.rated);
    total(book, &powers, "site.expected", "expected power with cooling and losses", |site| site.expected);
    total(book, &powers, "supply", "supply to order", |site| site.supply);
    total(book, &powers, "energy", "energy of a year", |site| site.energy);
    total(book, &powers, "cost", "cost of a year's energy", |site| site.cost);
    if powers.iter().all(|site| site.power.carbon.is_some()) {
        total(book, &powers, "carbon", "carbon of a year", |site| site.carbon.unwrap_or(Grams(0.0)));
    }
    Ok(powers)
}

fn total<T: Copy + Into<dh_units::Value> + std::iter::Sum>(
    book: &mut Book<'_>,
    sites: &[SitePower],
    key: &str,
    title: &str,
    of: impl Fn(&dh_facility::chain::Site) -> T,
) {
    let ids: Vec<String> = sites.iter().map(|site| format!("power.{}.{key}", site.name)).collect();
    let sum: T = sites.iter().map(|site| of(&site.power)).sum();
    book.sum(&format!("power.{}", key.trim_start_matches("site.")), title, sum, "sum over all sites", &ids);
}

fn one(
    book: &mut Book<'_>,
    name: &str,
    site: &Site,
    pools: &[PoolPlan],
    network: &Network,
) -> Result<dh_facility::chain::Site, Error> {
    let prefix = format!("power.{name}");
    let mut computers = Vec::new();
    for pool in pools.iter().filter(|pool| pool.site == name) {
        computers.push(group(book, &prefix, pool));
    }
    let mut beside = Vec::new();
    if !network.ids.is_empty() {
        let drawn = network.switches + network.plugged + network.managers;
        let formula = format!(
            "switches {} + what is plugged in {} + managers {}; they hardly draw less when idle",
            network.switches, network.plugged, network.managers
        );
        for side in ["rated", "expected"] {
            let title = format!("{side} power, network");
            book.sum(&format!("{prefix}.network.{side}"), &title, drawn, formula.clone(), &network.ids);
        }
        let power = Based::new(drawn, formula);
        beside.push(Beside { name: "network".to_owned(), rated: power.clone(), expected: power });
    }
    let path = |key: &str| format!("site.{name}.{key}");
    let chain = Chain {
        computers,
        beside,
        overhead: overhead(book, name, site),
        margin: Based::new(site.margin, book.origin(&path("margin"))),
        price: Based::new(site.price, book.origin(&path("price"))),
        carbon: site.carbon.map(|carbon| Based::new(carbon, book.origin(&path("carbon")))),
    };
    chain.site(&prefix, &mut book.ledger).map_err(|error| Error::Range { site: name.to_owned(), error })
}

/// One pool's computers, with their count and rating followed down to blueprint and catalogue.
fn group(book: &mut Book<'_>, prefix: &str, pool: &PoolPlan) -> Group {
    // A name of its own kind, so that a pool may be called as a part of the site is: `site`, `network`.
    let name = format!("pool.{}", pool.name);
    let id = |field: &str| format!("{prefix}.{name}.{field}");
    let settings = book.settings.pools.get(&pool.name);
    let load = settings.map_or(1.0, |settings| settings.load);
    let path = format!("pool.{}.load", pool.name);
    let origin = book.origin(&path);
    let basis = if origin.starts_with("default") { format!("{origin}: {LOAD_SOURCE}") } else { origin };
    if let Some(own) = settings.and_then(|settings| settings.own.as_ref())
        && settings.is_some_and(|settings| settings.rated.is_none())
        && let Some(tdp) = pool.accelerator_item(book).and_then(|item| item.tdp.clone())
    {
        let count = format!("count.pool.{}.accelerators", pool.name);
        book.sum(&id("count"), "accelerators", pool.accelerators, "accelerators of the pool", &[count]);
        let tdp_id = book.fact(dh_blueprint::Kind::Accelerator, &own.accelerator, "tdp", "thermal design power", &tdp);
        book.sum(&id("each"), "thermal design power", tdp.value, "of the catalogue", &[tdp_id]);
        let factor_path = format!("pool.{}.server_factor", pool.name);
        let title = "power of a node over that of its accelerators";
        let factor = book.says(&factor_path, title, own.server_factor);
        let origin = book.origin(&factor_path);
        let formula = if origin.starts_with("default") {
            "default: DGX H100 is rated 10.2 kW over 5.6 kW of accelerators (1.82), DGX B200 14.3 kW over 8 kW (1.79)"
        } else {
            "as the blueprint says"
        };
        book.sum(&id("server_factor"), title, own.server_factor, formula, &[factor]);
        return Group {
            name,
            computers: Computers::Accelerators {
                count: pool.accelerators,
                tdp: Based::new(tdp.value, tdp.source),
                server_factor: Based::new(own.server_factor, ""),
            },
            load: Based::new(load, basis),
        };
    }
    let nodes = u64::from(pool.nodes);
    book.sum(&id("count"), "nodes", nodes, "nodes of the pool", std::slice::from_ref(&pool.nodes_id));
    let title = "rated power of a node";
    book.sum(&id("each"), title, pool.rated, "rated power of one node", std::slice::from_ref(&pool.rated_id));
    Group {
        name,
        computers: Computers::Nodes { count: nodes, rated: Based::new(pool.rated, "") },
        load: Based::new(load, basis),
    }
}

fn overhead(book: &Book<'_>, name: &str, site: &Site) -> Overhead {
    match &site.pue_split {
        Some(split) => Overhead {
            cooling: split.cooling,
            conversion: split.conversion,
            rest: split.other,
            basis: book.origin(&format!("site.{name}.pue_split")),
        },
        None => Overhead::split(&Based::new(site.pue, book.origin(&format!("site.{name}.pue")))),
    }
}
