//! `[site.NAME]`: a building, its electricity and its racks.

use dh_units::{GramsPerKwh, Usd, UsdPerKwh, Watts};
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// A round figure between the average prices for industry and for households; a stated assumption, not a measurement.
const PRICE: UsdPerKwh = UsdPerKwh(0.15);

/// Power of one rack with air cooling that takes four eight-GPU nodes of 10.2 kW; a stated assumption. Published designs
/// have 41 kW (four DGX H100) to 132 kW (one GB200 NVL72) in a rack.
const RACK_POWER: Watts = Watts(45_000.0);

/// Units of an ordinary tall rack (EIA-310); 42 and 52 are sold too.
const RACK_HEIGHT: u32 = 48;

/// A stated assumption: two rows of twenty racks share one cold aisle.
const RACKS_PER_ROW: u32 = 20;

/// What is ordered from the supplier above the rated power; the worked sizing of a 10,000-accelerator site uses the same.
const MARGIN: f64 = 1.1;

/// Years over which computers are written off; a stated assumption in the middle of the three to six years companies report.
const AMORTISATION_YEARS: f64 = 4.0;

/// A building.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Power usage effectiveness, the ratio of the building's power to that of its computers; at least 1.
    pub pue: f64,
    /// What the part of the PUE above 1 is spent on, where known.
    pub pue_split: Option<PueSplit>,
    /// What electricity costs.
    pub price: UsdPerKwh,
    /// What electricity emits, where known.
    pub carbon: Option<GramsPerKwh>,
    /// The most power the supply delivers, where known.
    pub power_limit: Option<Watts>,
    /// Ratio of ordered to rated power.
    pub margin: f64,
    /// The most power of one rack.
    pub rack_power: Watts,
    /// Units (44.45 mm) of one rack.
    pub rack_height: u32,
    /// Racks side by side.
    pub racks_per_row: u32,
    /// What the building costs for each kilowatt of computers, where known; otherwise an assumption of the cost model.
    pub build_per_kw: Option<Usd>,
    /// Years over which what is bought is written off.
    pub amortisation_years: f64,
    /// What people cost in a year.
    pub staff: Usd,
}

/// Shares of the computers' power that the building takes on top; their sum is the PUE minus 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PueSplit {
    /// Cooling.
    pub cooling: f64,
    /// Transformers, uninterruptible supplies, distribution.
    pub conversion: f64,
    /// Light, offices, everything else.
    pub other: f64,
}

impl PueSplit {
    /// The PUE that the shares add up to.
    pub fn pue(&self) -> f64 {
        1.0 + self.cooling + self.conversion + self.other
    }
}

pub(crate) const DOC: Doc = Doc {
    pattern: "site.*",
    about: "A building: its electricity, its racks, what it costs.",
    keys: &[
        (
            "pue",
            "Power usage effectiveness: the building's power over that of its computers, from 1 to 10. 1 is a desk; surveys find 1.58 on average, the largest operators 1.08 to 1.18.",
        ),
        ("pue_split", "What the PUE above 1 is spent on; `pue` may then be left out."),
        ("price", "What electricity costs."),
        ("carbon", "What electricity emits; without it no carbon is computed."),
        ("power_limit", "The most power the supply delivers; a plan above it is infeasible."),
        ("margin", "Ratio of ordered to rated power, 1 to 2."),
        ("rack_power", "The most power of one rack."),
        ("rack_height", "Units (44.45 mm) of one rack."),
        ("racks_per_row", "Racks side by side in one row."),
        (
            "build_per_kw",
            "What the building costs for each kilowatt of computers; an assumption of the cost model if left out.",
        ),
        ("amortisation_years", "Years over which what is bought is written off."),
        ("staff", "What people cost in a year."),
    ],
};

pub(crate) const SPLIT_DOC: Doc = Doc {
    pattern: "site.*.pue_split",
    about: "Shares of the computers' power that the building takes on top.",
    keys: &[
        ("cooling", "Cooling."),
        ("conversion", "Losses of transformers, uninterruptible supplies and distribution."),
        ("other", "Light, offices and the rest."),
    ],
};

/// What a site is when nothing is said: no building around the computers, as on a desk.
pub(super) const fn ordinary() -> Site {
    Site {
        pue: 1.0,
        pue_split: None,
        price: PRICE,
        carbon: None,
        power_limit: None,
        margin: MARGIN,
        rack_power: RACK_POWER,
        rack_height: RACK_HEIGHT,
        racks_per_row: RACKS_PER_ROW,
        build_per_kw: None,
        amortisation_years: AMORTISATION_YEARS,
        staff: Usd(0.0),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>) -> Option<Site> {
    // The upper bound only catches percent signs that were left out; the worst published values are near 3.
    let pue = section.real("pue", "a ratio from 1 to 10", |pue| (1.0..=10.0).contains(&pue));
    let pue_split = section.table("pue_split").and_then(|table| split(&table));
    if let (Some(pue), Some(split)) = (&pue, &pue_split)
        && (pue.value - split.pue()).abs() > 1e-6
    {
        let of_base = section.inherits("pue_split") && !section.inherits("pue");
        let hint =
            if of_base { "`pue_split` comes from the base; write its shares here too" } else { "leave `pue` out" };
        let message = format!("`pue` is {}, but 1 plus the shares of `pue_split` is {:.4}", pue.value, split.pue());
        section.problems.add(Code::PUE_SPLIT, &pue.at, message, Some(hint.to_owned()));
    }
    let price = section.quantity("price");
    let carbon = section.quantity("carbon");
    let power_limit = section.bound("power_limit", Watts(0.0));
    let margin = section.real("margin", "a ratio from 1 to 2", |margin| (1.0..=2.0).contains(&margin));
    let rack_power = section.positive("rack_power", Watts(0.0));
    let rack_height = section.integer("rack_height", 4..=60);
    let racks_per_row = section.integer("racks_per_row", 1..=1_000);
    let build_per_kw = section.quantity("build_per_kw");
    let years = section.real("amortisation_years", "years from 0.5 to 30", |years| (0.5..=30.0).contains(&years));
    let staff = section.quantity("staff");
    section.finish();
    let ordinary = ordinary();
    Some(Site {
        pue: pue_split.map(|split| split.pue()).or(pue.map(|pue| pue.value)).unwrap_or(ordinary.pue),
        pue_split,
        price: price.map_or(ordinary.price, |price| price.value),
        carbon: carbon.map(|carbon| carbon.value),
        power_limit: power_limit.map(|limit| limit.value),
        margin: margin.map_or(ordinary.margin, |margin| margin.value),
        rack_power: rack_power.map_or(ordinary.rack_power, |power| power.value),
        rack_height: rack_height.map_or(ordinary.rack_height, |height| height.value),
        racks_per_row: racks_per_row.map_or(ordinary.racks_per_row, |racks| racks.value),
        build_per_kw: build_per_kw.map(|cost| cost.value),
        amortisation_years: years.map_or(ordinary.amortisation_years, |years| years.value),
        staff: staff.map_or(ordinary.staff, |staff| staff.value),
    })
}

fn split(section: &Section<'_>) -> Option<PueSplit> {
    let [cooling, conversion, other] = ["cooling", "conversion", "other"].map(|key| {
        let share = section.real(key, "a share from 0 to 3", |share| (0.0..=3.0).contains(&share));
        // A share that is written and wrong was reported; one that is left out is none.
        if share.is_none() && section.has(key) { None } else { Some(share.map_or(0.0, |share| share.value)) }
    });
    section.finish();
    Some(PueSplit { cooling: cooling?, conversion: conversion?, other: other? })
}

pub(crate) fn write(out: &mut Writer<'_>, site: &Site) {
    match &site.pue_split {
        Some(split) => out.raw(
            "pue_split",
            &format!(
                "{{ cooling = {:?}, conversion = {:?}, other = {:?} }}",
                split.cooling, split.conversion, split.other
            ),
        ),
        None => out.real("pue", site.pue),
    }
    out.quantity("price", site.price);
    out.maybe_quantity("carbon", site.carbon);
    out.maybe_quantity("power_limit", site.power_limit);
    out.real("margin", site.margin);
    out.quantity("rack_power", site.rack_power);
    out.integer("rack_height", site.rack_height);
    out.integer("racks_per_row", site.racks_per_row);
    out.maybe_quantity("build_per_kw", site.build_per_kw);
    out.real("amortisation_years", site.amortisation_years);
    out.quantity("staff", site.staff);
}
