//! Counts and power of pools, sites and the hall.
//!
//! A node's expected draw is not its rated draw: published eight-GPU nodes drew 76 % of their rating in compute-bound
//! training (arXiv 2506.14551) and 82 to 83 % at most (IEEE Access 13 (2025) 61740: 8.4 of 10.2 kW; 8.48 kW in the
//! preprint). Plans use 0.8, the middle.

use std::collections::BTreeMap;

use dh_blueprint::{Catalog, NodeItem, Pool, Settings};
use dh_units::{Based, Watts, significant};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The ratio of expected to rated power; see the module header.
pub(crate) const PLANNING_RATIO: f64 = 0.8;

const PLANNING_SOURCE: &str =
    "0.76 to 0.83 of rated was measured on eight-GPU nodes (arXiv 2506.14551, IEEE Access 13 (2025) 61740)";

/// Counts and power of one pool, computers only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolPower {
    /// The pool.
    pub name: String,
    /// Where it stands.
    pub site: String,
    /// Its nodes.
    pub nodes: Based<u64>,
    /// Its slots.
    pub slots: Based<u64>,
    /// The most it can draw.
    pub rated: Based<Watts>,
    /// What it draws at work.
    pub expected: Based<Watts>,
    /// What it draws doing nothing, where known.
    pub idle: Option<Based<Watts>>,
}

/// Power of one site, with cooling and losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SitePower {
    /// The site.
    pub name: String,
    /// Power usage effectiveness.
    pub pue: f64,
    /// Expected power of its computers.
    pub computers: Based<Watts>,
    /// Expected power of the site.
    pub expected: Based<Watts>,
    /// What its supply must be able to deliver.
    pub rated: Based<Watts>,
}

/// Counts and power of a whole hall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HallPower {
    /// Nodes of all pools.
    pub nodes: Based<u64>,
    /// Slots of all pools.
    pub slots: Based<u64>,
    /// The most its computers can draw.
    pub rated: Based<Watts>,
    /// What its computers draw at work.
    pub expected: Based<Watts>,
    /// What its computers draw doing nothing, where all nodes say so.
    pub idle: Option<Based<Watts>>,
    /// Expected power with cooling and losses.
    pub facility_expected: Based<Watts>,
    /// What the supplies must be able to deliver.
    pub facility_rated: Based<Watts>,
    /// By pool, in the order of names.
    pub pools: Vec<PoolPower>,
    /// By site, in the order of names.
    pub sites: Vec<SitePower>,
}

/// Counts and power of the hall that `settings` describe.
/// # Errors
/// [`Error::UnknownNode`] or [`Error::UnknownSite`] if settings and catalogue do not belong together.
pub fn hall(settings: &Settings, catalog: &Catalog) -> Result<HallPower, Error> {
    let pools: Vec<PoolPower> =
        settings.pools.iter().map(|(name, pool)| pool_power(name, pool, catalog)).collect::<Result<_, _>>()?;
    let sites = site_powers(settings, &pools)?;
    let sum = |of: &dyn Fn(&PoolPower) -> Watts| pools.iter().map(of).sum::<Watts>();
    let over = |what: &str| format!("sum of {what} over {} pools", pools.len());
    let idle = pools.iter().map(|pool| pool.idle.as_ref().map(|idle| idle.value)).sum::<Option<Watts>>();
    Ok(HallPower {
        nodes: Based::new(settings.nodes(), over("nodes")),
        slots: Based::new(settings.slots(), over("slots")),
        rated: Based::new(sum(&|pool| pool.rated.value), over("rated power")),
        expected: Based::new(sum(&|pool| pool.expected.value), over("expected power")),
        idle: idle.map(|idle| Based::new(idle, over("idle power"))),
        facility_expected: total(&sites, |site| site.expected.value, "expected power x PUE"),
        facility_rated: total(&sites, |site| site.rated.value, "rated power x PUE"),
        pools,
        sites,
    })
}

fn total(sites: &[SitePower], of: impl Fn(&SitePower) -> Watts, what: &str) -> Based<Watts> {
    Based::new(sites.iter().map(of).sum(), format!("sum of {what} over {} sites", sites.len()))
}

fn pool_power(name: &str, pool: &Pool, catalog: &Catalog) -> Result<PoolPower, Error> {
    let node =
        pool.item(catalog).ok_or_else(|| Error::UnknownNode { pool: name.to_owned(), node: pool.node.clone() })?;
    let (nodes, count) = (u64::from(pool.nodes), f64::from(pool.nodes));
    let each = rated(pool, &node);
    let idle = idle(pool, &node);
    let all = each.value * count;
    Ok(PoolPower {
        name: name.to_owned(),
        site: pool.site.clone(),
        nodes: Based::new(nodes, format!("blueprint: pool `{name}`")),
        slots: Based::new(nodes * u64::from(pool.slots), format!("{nodes} nodes x {} slots", pool.slots)),
        expected: Based::new(all * pool.load, format!("{} x rated {all}; {PLANNING_SOURCE}", significant(pool.load))),
        rated: Based::new(all, format!("{nodes} nodes x {each}")),
        idle: idle.map(|idle| Based::new(idle.value * count, format!("{nodes} nodes x {idle}"))),
    })
}

/// One node's rating: the blueprint's word, else the catalogue's.
fn rated(pool: &Pool, node: &NodeItem) -> Based<Watts> {
    match pool.rated {
        Some(rated) => Based::new(rated, "blueprint"),
        None => Based::new(node.rated.value, node.rated.source.clone()),
    }
}

fn idle(pool: &Pool, node: &NodeItem) -> Option<Based<Watts>> {
    match (pool.idle, &node.idle) {
        (Some(idle), _) => Some(Based::new(idle, "blueprint")),
        (None, Some(idle)) => Some(Based::new(idle.value, idle.source.clone())),
        (None, None) => None,
    }
}

fn site_powers(settings: &Settings, pools: &[PoolPower]) -> Result<Vec<SitePower>, Error> {
    let mut by_site: BTreeMap<&str, (Watts, Watts)> =
        settings.sites.keys().map(|name| (name.as_str(), Default::default())).collect();
    for pool in pools {
        let unknown = || Error::UnknownSite { pool: pool.name.clone(), site: pool.site.clone() };
        let (expected, rated) = by_site.get_mut(pool.site.as_str()).ok_or_else(unknown)?;
        *expected += pool.expected.value;
        *rated += pool.rated.value;
    }
    let power = by_site.into_iter().map(|(name, (expected, rated))| {
        let pue = settings.sites.get(name).map_or(1.0, |site| site.pue);
        let times = |power: Watts| format!("{power} x PUE {}", significant(pue));
        SitePower {
            name: name.to_owned(),
            pue,
            computers: Based::new(expected, "expected power of the pools at this site"),
            expected: Based::new(expected * pue, times(expected)),
            rated: Based::new(rated * pue, times(rated)),
        }
    });
    Ok(power.collect())
}
