//! The cable list: for every cable its two ends, the racks they stand in, how long it must be and which kind reaches.
//!
//! Invariant: one row for each [`Wire`]; legs of a split cable share its number and are of one kind, which reaches the
//! longest. Rows are computed as they are asked for; writing them allocates nothing for each row.

use std::collections::BTreeMap;
use std::fmt;

use dh_core::{HasKind, Kind};
use dh_units::{Meters, Usd, Watts, real};
use serde::{Deserialize, Serialize};

pub use crate::csv::write_number;
pub use crate::csv::{CSV_HEADER, write_csv, write_label};
use crate::design::Design;
use crate::wire::{Device, Port, SegmentKind, Wire};

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The row of racks.
    pub row: u32,
    /// The rack, counted over the whole hall.
    pub rack: u32,
    /// Its lowest rack unit, from 1.
    pub u: u32,
    /// Along the row, from the hall's corner.
    pub x: Meters,
    /// Across the rows.
    pub y: Meters,
}

/// A hall in which devices have places and names.
pub trait Hall {
    /// Where `device` stands.
    fn place(&self, device: Device) -> Place;

    /// What is written on rack `rack`.
    fn rack_name(&self, rack: u32) -> &str;

    /// The number, from 0, of `port` on its device, where the design counts ends in another way than the hall.
    fn port(&self, port: Port) -> u32 {
        port.port
    }

    /// Writes what is written on `device` of network `network`: `node-0017`, `compute-leaf-0003`.
    /// # Errors
    /// Those of `out`.
    fn write_name<W: fmt::Write>(&self, network: &str, device: Device, out: &mut W) -> fmt::Result {
        let index = match device {
            Device::Node(node) => {
                out.write_str("node-")?;
                node
            }
            Device::Manager(manager) => {
                out.write_str(network)?;
                out.write_str("-manager-")?;
                manager
            }
            Device::Switch(role, index) => {
                out.write_str(network)?;
                out.write_str("-")?;
                out.write_str(role.name())?;
                out.write_str("-")?;
                index
            }
            Device::Ocs(index) => {
                out.write_str(network)?;
                out.write_str("-ocs-")?;
                index
            }
        };
        write_number(out, u64::from(index) + 1, 4)
    }
}

/// A kind of cable that can be bought, with its transceivers if it needs any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CableKind {
    /// Its name: `copper`, `multimode`.
    pub name: String,
    /// The longest it is sold in.
    pub reach: Meters,
    /// Price of one with its transceivers, where known.
    pub price: Option<Usd>,
    /// Power of what is plugged in at one end.
    pub power_each_end: Watts,
    /// The only tiers between which it runs; any where not given. Links of a network may differ in speed and plug.
    pub only: Option<SegmentKind>,
}

impl CableKind {
    fn runs(&self, segment: SegmentKind) -> bool {
        self.only.is_none_or(|only| only == segment)
    }
}

/// How cables run: up to a tray, along and across the rows, down again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Height of the tray above the lowest rack unit.
    pub tray: Meters,
    /// Height of one rack unit.
    pub unit: Meters,
    /// Spare at each end, for dressing and for pulling the plug.
    pub slack: Meters,
}

impl Default for Route {
    /// Rack units of 44.45 mm (EIA-310). Stated assumptions: a tray 2.5 m above the lowest unit, which clears a rack of 48
    /// units (2.13 m and its frame); half a metre of slack at each end, enough to draw a switch out of its rack.
    fn default() -> Self {
        Self { tray: Meters(2.5), unit: Meters(0.044_45), slack: Meters(0.5) }
    }
}

/// Lengths that cables are sold in, in metres; beyond them every 50 m. Stated assumption: the usual steps of vendors'
/// lists of copper (to 5 m) and fibre.
const SOLD: [f64; 13] = [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0];

impl Route {
    /// Length between two places before rounding.
    pub fn length(&self, from: Place, to: Place) -> Meters {
        let slack = self.slack.0 * 2.0;
        if from.rack == to.rack {
            return Meters(f64::from(from.u.abs_diff(to.u)) * self.unit.0 + slack);
        }
        let up = |place: Place| (self.tray.0 - f64::from(place.u) * self.unit.0).max(0.0);
        Meters(up(from) + up(to) + (from.x.0 - to.x.0).abs() + (from.y.0 - to.y.0).abs() + slack)
    }

    /// The shortest length sold that is at least `length`.
    pub fn sold(length: Meters) -> Meters {
        // A thousandth below a step is a rounding error, not a longer cable.
        let least = length.0 - 1e-3;
        Meters(SOLD.into_iter().find(|sold| *sold >= least).unwrap_or_else(|| (least / 50.0).ceil() * 50.0))
    }
}

/// Why there is no cable list.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No kind is long enough.
    #[error("cable {number} of `{network}` must be {length} long; the longest kind reaches {reach}")]
    TooFar {
        /// The network.
        network: String,
        /// The cable's number.
        number: u64,
        /// Its length as sold.
        length: Meters,
        /// The longest reach of the kinds given; 0 without kinds.
        reach: Meters,
    },
    /// The text could not be written.
    #[error("the cable list could not be written")]
    Write,
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::TooFar { .. } => Kind::Infeasible,
            Self::Write => Kind::Internal,
        }
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        Self::Write
    }
}

/// One end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CableEnd {
    /// The device and its first port, from 0.
    pub port: Port,
    /// Where it stands.
    pub place: Place,
}

/// One row of the list: a cable, or a leg of a split one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cable {
    /// Its number within the network, from 1; legs of one cable share it.
    pub number: u64,
    /// Which leg, from 0.
    pub leg: u32,
    /// Legs of the cable.
    pub legs: u32,
    /// Between which tiers.
    pub segment: SegmentKind,
    /// Links in this leg.
    pub links: u32,
    /// The lower end.
    pub from: CableEnd,
    /// The upper end.
    pub to: CableEnd,
    /// Which of the kinds given.
    pub kind: usize,
    /// Length as sold.
    pub length: Meters,
}

/// Lists the cables of `design` in `hall`; `kinds` ascend by reach, those of each pair of tiers on their
/// own, and the first that runs there and reaches is taken.
///
/// Each item is a row or [`Error::TooFar`], after which the list goes on.
pub fn list<'a, H: Hall>(
    design: &'a Design,
    hall: &'a H,
    kinds: &'a [CableKind],
    route: &'a Route,
) -> impl Iterator<Item = Result<Cable, Error>> + 'a {
    let mut wires = design.wires().peekable();
    // The legs of the cable at hand; used again for the next one.
    let mut legs: Vec<Cable> = Vec::new();
    let mut given = 0;
    std::iter::from_fn(move || {
        if given == legs.len() {
            legs.clear();
            given = 0;
            let first = wires.next()?;
            legs.push(leg(&first, hall, route));
            while let Some(next) = wires.next_if(|wire| wire.cable == first.cable) {
                legs.push(leg(&next, hall, route));
            }
            let longest = legs.iter().map(|leg| leg.length.0).fold(0.0, f64::max);
            let fits = |kind: &CableKind| kind.runs(first.segment) && kind.reach.0 >= longest;
            let Some(kind) = kinds.iter().position(fits) else {
                legs.clear();
                return Some(Err(Error::TooFar {
                    network: design.name.clone(),
                    number: first.cable + 1,
                    length: Meters(longest),
                    reach: kinds.iter().rfind(|kind| kind.runs(first.segment)).map_or(Meters(0.0), |kind| kind.reach),
                }));
            };
            let count = u32::try_from(legs.len()).unwrap_or(u32::MAX);
            for leg in &mut legs {
                leg.kind = kind;
                leg.legs = count;
            }
        }
        given += 1;
        legs.get(given - 1).copied().map(Ok)
    })
}

fn leg<H: Hall>(wire: &Wire, hall: &H, route: &Route) -> Cable {
    let end = |port: Port| CableEnd { port, place: hall.place(port.device) };
    let (from, to) = (end(wire.from), end(wire.to));
    Cable {
        number: wire.cable + 1,
        leg: wire.leg,
        legs: 1,
        segment: wire.segment,
        links: wire.links,
        from,
        to,
        kind: 0,
        length: Route::sold(route.length(from.place, to.place)),
    }
}

/// Cables of one kind in one segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sum {
    /// Cables; a split one counts once.
    pub cables: u64,
    /// Metres of all legs.
    pub length: Meters,
    /// What is plugged in at the ends: two, and one more for each further leg.
    pub ends: u64,
}

/// Sums over a list, by segment and kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    sums: BTreeMap<(SegmentKind, usize), Sum>,
}

impl Summary {
    /// Adds one row.
    pub fn add(&mut self, cable: &Cable) {
        let sum = self.sums.entry((cable.segment, cable.kind)).or_default();
        sum.length += cable.length;
        sum.ends += 1;
        if cable.leg == 0 {
            sum.cables += 1;
            sum.ends += 1;
        }
    }

    /// Segment, place of the kind in the list given, and sums.
    pub fn sums(&self) -> impl Iterator<Item = (SegmentKind, usize, &Sum)> {
        self.sums.iter().map(|((segment, kind), sum)| (*segment, *kind, sum))
    }

    /// All cables.
    pub fn cables(&self) -> u64 {
        self.sums.values().map(|sum| sum.cables).sum()
    }

    /// Length of all legs.
    pub fn length(&self) -> Meters {
        self.sums.values().map(|sum| sum.length).sum()
    }

    /// Power of everything plugged in at cable ends.
    pub fn power(&self, kinds: &[CableKind]) -> Watts {
        let each = |kind: usize| kinds.get(kind).map_or(Watts(0.0), |kind| kind.power_each_end);
        self.sums.iter().map(|((_, kind), sum)| each(*kind) * real(sum.ends)).sum()
    }

    /// Price of all cables; `None` if that of a kind in use is not known.
    pub fn price(&self, kinds: &[CableKind]) -> Option<Usd> {
        self.sums
            .iter()
            .try_fold(Usd(0.0), |total, ((_, kind), sum)| Some(total + kinds.get(*kind)?.price? * real(sum.cables)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_rounded_up_to_what_is_sold() {
        for (length, sold) in [
            (0.2, 0.5),
            (0.5, 0.5),
            (1.1, 1.5),
            (2.0001, 2.0),
            (31.0, 50.0),
            (100.0, 100.0),
            (101.0, 150.0),
            (420.0, 450.0),
        ] {
            assert_eq!(Route::sold(Meters(length)), Meters(sold), "{length}");
        }
    }

    #[test]
    fn a_cable_goes_up_along_across_and_down() {
        let route = Route { tray: Meters(2.5), unit: Meters(0.05), slack: Meters(0.5) };
        let at = |rack, u, x, y| Place { row: 0, rack, u, x: Meters(x), y: Meters(y) };
        let close = |from, to, meters: f64| assert!((route.length(from, to).0 - meters).abs() < 1e-9);
        close(at(1, 10, 0.0, 0.0), at(1, 40, 0.0, 0.0), 1.5 + 1.0);
        close(at(1, 10, 0.0, 0.0), at(2, 40, 3.0, 4.0), 2.0 + 0.5 + 7.0 + 1.0);
        close(at(1, 60, 0.0, 0.0), at(2, 10, 1.0, 0.0), 0.0 + 2.0 + 1.0 + 1.0);
    }
}
