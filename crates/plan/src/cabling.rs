//! Cables: which kinds of the catalogue a network may use, how many of each it takes, what they cost and draw.
//!
//! Invariant: every cable is of a kind that reaches; where several do, the one whose reach is shortest is taken, and no kind is
//! offered that another one reaches further than for less money.

use std::collections::{BTreeMap, BTreeSet};

use dh_blueprint::{CableItem, CableKind as Material, Catalog, Settings};
use dh_fabric::cables::{self, CableKind, Route, Summary};
use dh_fabric::{Segment, SegmentKind};
use dh_units::{BitsPerSec, Meters, Usd, Watts, real, whole};
use serde::Serialize;

use crate::book::Book;
use crate::error::Error;
use crate::floors::Floors;
use crate::networks::NetworkPlan;
use crate::pools::PoolPlan;

/// Fibre up to here is multimode: OM4 at 100 Gb/s and more (IEEE 802.3).
const MULTIMODE: Meters = Meters(100.0);

/// Cables of one kind between two tiers of a network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CableRow {
    /// The network.
    pub network: String,
    /// Between which tiers.
    pub segment: SegmentKind,
    /// The kind.
    pub kind: String,
    /// How many.
    pub cables: u64,
    /// Metres of all.
    #[serde(rename = "length_metres")]
    pub length: Meters,
    /// Price of all, if known.
    #[serde(rename = "price_usd")]
    pub price: Option<Usd>,
    /// Power of what is plugged in at their ends.
    #[serde(rename = "power_watts")]
    pub power: Watts,
}

/// The cables of one network.
#[derive(Debug, Clone, PartialEq)]
pub struct Cabling {
    /// Kinds that its cables are of, segment after segment, those of each ascending by reach.
    pub kinds: Vec<CableKind>,
    /// Sums by segment and kind.
    pub summary: Summary,
}

/// The kinds of the catalogue that carry `speed`, ascending by reach: of the slowest class that is fast enough, and of faster
/// ones beyond its reach.
pub(crate) fn kinds(catalog: &Catalog, speed: BitsPerSec) -> Vec<CableKind> {
    let all: Vec<&CableItem> = catalog.cables().collect();
    let mut classes: BTreeMap<u64, Vec<CableKind>> = BTreeMap::new();
    for item in all {
        let (Some(reach), true) = (&item.reach, item.kind.value != Material::Fiber && item.ports.value == 1) else {
            continue;
        };
        // A part in 10^6 is a rounding error of a port divided over planes.
        if item.speed.value.0 < speed.0 * (1.0 - 1e-6) {
            continue;
        }
        let own = item.price.as_ref().map(|price| price.value);
        let price = match item.kind.value {
            Material::Optic => {
                let fiber = fiber(catalog, reach.value).and_then(|item| item.price.as_ref());
                own.zip(fiber).map(|(optic, fiber)| optic * 2.0 + fiber.value)
            }
            Material::Dac | Material::Aec | Material::Copper | Material::Aoc | Material::Fiber => own,
        };
        let power_each_end = item.power.as_ref().map_or(Watts(0.0), |power| power.value);
        let kind = CableKind { name: item.name.clone(), reach: reach.value, price, power_each_end, only: None };
        classes.entry(mega(item.speed.value)).or_default().push(kind);
    }
    let mut kinds: Vec<CableKind> = Vec::new();
    for class in classes.values_mut() {
        let known = |kind: &CableKind| kind.price.map_or(f64::INFINITY, |price| price.0);
        class.sort_by(|a, b| {
            a.reach.0.total_cmp(&b.reach.0).then(known(a).total_cmp(&known(b))).then(a.name.cmp(&b.name))
        });
        let so_far = kinds.last().map_or(0.0, |kind| kind.reach.0);
        // From the longest down: a kind that costs more than one that reaches further is never bought.
        let mut best = f64::INFINITY;
        let mut kept: Vec<CableKind> = Vec::new();
        for kind in class.iter().rev().filter(|kind| kind.reach.0 > so_far) {
            if known(kind) < best || kept.is_empty() {
                best = known(kind);
                kept.push(kind.clone());
            }
        }
        kept.reverse();
        // Two of one reach: the cheaper was kept last.
        kept.dedup_by(|later, earlier| (later.reach.0 - earlier.reach.0).abs() < 1e-9);
        kinds.extend(kept);
    }
    kinds
}

/// What one cable of a segment carries: in a network of several planes the links of all of them.
fn carried(segment: &Segment) -> BitsPerSec {
    segment.speed * (real(segment.links) / real(segment.cables.max(1)))
}

/// The fibre between optics that reach this far.
fn fiber(catalog: &Catalog, reach: Meters) -> Option<&CableItem> {
    catalog.cable(if reach.0 <= MULTIMODE.0 { "fiber-mpo-mm" } else { "fiber-mpo-sm" })
}

/// Whole megabits per second, to sort by.
fn mega(speed: BitsPerSec) -> u64 {
    whole((speed.0 / 1e6).round())
}

/// Sums up the cables of every network, and enters counts, price and power under `network.NAME.cables.*`.
pub(crate) fn cabling(
    book: &mut Book<'_>,
    pools: &[PoolPlan],
    networks: &[NetworkPlan],
    floors: &Floors,
) -> Result<(Vec<Cabling>, Vec<CableRow>), Error> {
    let mut all = Vec::new();
    let mut rows = Vec::new();
    for (place, network) in networks.iter().enumerate() {
        let kinds = of_segments(&book.settings.catalog, network);
        let hall = floors.hall(place, pools, networks);
        let route = Route::default();
        let mut summary = Summary::default();
        for cable in cables::list(&network.design, &hall, &kinds, &route) {
            summary.add(&cable.map_err(|error| Error::Cables { name: network.name.clone(), error })?);
        }
        enter(book, network, &kinds, &summary);
        for (segment, kind, sum) in summary.sums() {
            let Some(kind) = kinds.get(kind) else { continue };
            rows.push(CableRow {
                network: network.name.clone(),
                segment,
                kind: kind.name.clone(),
                cables: sum.cables,
                length: sum.length,
                price: kind.price.map(|price| price * real(sum.cables)),
                power: kind.power_each_end * real(sum.ends),
            });
        }
        all.push(Cabling { kinds, summary });
    }
    Ok((all, rows))
}

/// The kinds of each segment in turn: management ports do not take the optics of the links above their leaves.
fn of_segments(catalog: &Catalog, network: &NetworkPlan) -> Vec<CableKind> {
    let of = |segment: &Segment| {
        let only = Some(segment.kind);
        kinds(catalog, carried(segment)).into_iter().map(move |kind| CableKind { only, ..kind })
    };
    network.design.segments.iter().flat_map(of).collect()
}

fn enter(book: &mut Book<'_>, network: &NetworkPlan, kinds: &[CableKind], summary: &Summary) {
    let id = |key: &str| format!("network.{}.{key}", network.name);
    let mut words = Vec::new();
    let (mut powers, mut prices) = (vec![id("cables")], vec![id("cables")]);
    for (segment, kind, sum) in summary.sums() {
        let Some(kind) = kinds.get(kind) else { continue };
        words.push(format!("{} {} {} ({} in all)", sum.cables, segment.name(), kind.name, sum.length));
        let Some(item) = book.settings.catalog.cable(&kind.name) else { continue };
        let fiber = (item.kind.value == Material::Optic).then(|| fiber(&book.settings.catalog, kind.reach)).flatten();
        for item in [Some(item), fiber].into_iter().flatten() {
            let fact = |key: &str| format!("catalog.cable.{}.{key}", item.name);
            if let Some(price) = &item.price {
                let title = "price; of optics that of one end";
                book.ledger.given(&fact("price"), title, price.value, &price.source);
                prices.push(fact("price"));
            }
            if let Some(power) = &item.power {
                book.ledger.given(&fact("power"), "power at each end", power.value, &power.source);
                powers.push(fact("power"));
            }
        }
    }
    for inputs in [&mut powers, &mut prices] {
        let mut seen = BTreeSet::new();
        inputs.retain(|input| seen.insert(input.clone()));
    }
    let words = words.join(" + ");
    let counts: Vec<String> = network
        .design
        .segments
        .iter()
        .map(|segment| id(&format!("cables.{}", segment.kind.name())))
        .filter(|id| book.ledger.get(id).is_some())
        .collect();
    book.sum(&id("cables"), "cables", summary.cables(), words.clone(), &counts);
    book.sum(
        &id("cables.length"),
        "length of all cables",
        summary.length(),
        "places of both ends, up to the tray, along and across, down; rounded up to lengths sold",
        &[id("cables")],
    );
    book.sum(&id("cables.power"), "power of what is plugged in", summary.power(kinds), words.clone(), &powers);
    if let Some(price) = summary.price(kinds) {
        book.sum(&id("cables.price"), "price of all cables", price, words, &prices);
    }
}

/// The fastest port that is one of twisted pair: faster ones have cages (IEEE 802.3an).
const TWISTED_PAIR: BitsPerSec = BitsPerSec(1e10);

/// Fabric, number and kind of cables that join ports of twisted pair and are of something else, because none is long enough.
pub(crate) fn long_copper(
    settings: &Settings,
    networks: &[NetworkPlan],
    cables: &[CableRow],
) -> Vec<(String, u64, String)> {
    let too_long = |row: &&CableRow| {
        let network = networks.iter().find(|network| network.name == row.network);
        let segment = network.and_then(|network| network.design.segment(row.segment));
        let copper = settings.catalog.cable(&row.kind).is_some_and(|item| item.kind.value == Material::Copper);
        segment.is_some_and(|segment| segment.speed.0 <= TWISTED_PAIR.0 * (1.0 + 1e-6)) && !copper
    };
    cables.iter().filter(too_long).map(|row| (row.network.clone(), row.cables, row.kind.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(speed: f64) -> Vec<(String, f64)> {
        kinds(Catalog::builtin(), BitsPerSec(speed)).into_iter().map(|kind| (kind.name, kind.reach.0)).collect()
    }

    #[test]
    fn kinds_ascend_by_reach_and_dearer_ones_reach_further() {
        for speed in [1e9, 1e10, 1e11, 2e11, 4e11, 8e11] {
            let kinds = kinds(Catalog::builtin(), BitsPerSec(speed));
            assert!(kinds.windows(2).all(|pair| pair[0].reach.0 < pair[1].reach.0), "{speed}");
            assert!(kinds.last().unwrap().reach.0 >= 500.0, "{speed}");
        }
    }

    #[test]
    fn short_links_are_copper_and_long_ones_are_light() {
        let at_400 = names(4e11);
        assert_eq!(at_400[0], ("dac-400g".to_owned(), 3.0));
        assert!(at_400.iter().any(|(name, reach)| name == "dr-400g" && *reach >= 500.0));
        assert_eq!(names(1e9)[0].0, "cat6-1g");
        // A speed that no cable is sold for takes the next faster class.
        assert_eq!(names(3e11)[0].0, "dac-400g");
    }
}
