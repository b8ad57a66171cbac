//! Racks and places: where each device stands, by arithmetic.
//!
//! A floor is a list of *blocks*; a block is repeated (a scalable unit) or stands once (spines, cores, managers). In a block,
//! each group of nodes has racks of its own, each filled to the limit of power, height or count before the next; then all
//! groups of network devices share the racks that follow, in the order in which they are listed, a rack closed when the next
//! device does not fit. Only the last repeat of a block may lack nodes; its network devices are all there, as designs of
//! partial scalable units have it. Racks are numbered block by block and stand row by row.
//!
//! Invariant: nothing is stored per device or rack; a lookup costs O(groups of one block) and a plan O(groups). No rack is
//! above its limits, by construction. Power is compared in whole milliwatts, so that 3 x 0.1 kW fit 0.3 kW.

mod layout;
mod lookup;

use dh_units::{Ledger, Meters, Watts};
use serde::{Deserialize, Serialize};

use layout::Layout;
pub use lookup::{RackPower, Shelf, Slot};

/// What a rack of the site can hold, and where racks stand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The rated power that a rack may hold.
    pub power: Watts,
    /// Height of a rack in rack units (44.45 mm).
    pub height_u: u32,
    /// Units kept free at the bottom.
    pub reserved_bottom_u: u32,
    /// Units kept free at the top.
    pub reserved_top_u: u32,
    /// Racks in a row.
    pub racks_per_row: u32,
    /// Width of a rack.
    pub width: Meters,
    /// Depth of a rack.
    pub depth: Meters,
    /// Width of the aisle between two rows.
    pub aisle: Meters,
}

impl Default for Limits {
    /// A rack of 42 U, 0.6 m wide and 1.2 m deep, one unit kept free at each end, 42 kW, 16 in a row, aisles of 1.2 m.
    ///
    /// Stated assumptions: width and depth are the common cabinet; 42 kW hold four nodes of 10.2 kW, as the densest published
    /// layout of such nodes has it; a row of 16 is 9.6 m, short enough for in-row cables; 1.2 m is two floor tiles.
    fn default() -> Self {
        Self {
            power: Watts(42_000.0),
            height_u: 42,
            reserved_bottom_u: 1,
            reserved_top_u: 1,
            racks_per_row: 16,
            width: Meters(0.6),
            depth: Meters(1.2),
            aisle: Meters(1.2),
        }
    }
}

/// The highest rack that is believed; the highest built have about 60 U.
const HEIGHT_MAX_U: u32 = 1_000;

/// How much of a rack a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// So many rack units.
    Units(u32),
    /// It is a rack by itself.
    Rack,
}

/// What a group is made of, and so how it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nodes: racks of their own; `total` over all repeats, so that the last repeat may lack some.
    Nodes {
        /// How many there are in all repeats of the block together.
        total: u32,
    },
    /// Switches and managers: racks shared by all such groups of the block; every repeat has them all.
    Network,
}

/// Devices of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, for messages.
    pub name: String,
    /// How many a whole block has.
    pub per_block: u32,
    /// How they are packed.
    pub role: Role,
    /// Their size.
    pub form: Form,
    /// The most one draws.
    pub rated: Watts,
    /// What one draws at work; at most rated.
    pub expected: Watts,
    /// The most that a rack may hold of them beside its other limits.
    pub per_rack_max: Option<u32>,
}

/// Groups that stand together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its name, for messages.
    pub name: String,
    /// How often it is repeated; at least 1.
    pub repeats: u32,
    /// What it holds.
    pub groups: Vec<Group>,
}

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The site's racks.
    pub limits: Limits,
    /// Blocks in the order in which they stand.
    pub blocks: Vec<Block>,
}

/// A group of the request: groups are numbered from 0 through all blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// Why a floor cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A device is too high.
    #[error(
        "one of `{group}` is {needed_u} U high, {over_u} U more than the {available_u} U that a rack has for devices; \
         a rack of {fits_u} U would hold it"
    )]
    TooTall {
        /// The group.
        group: String,
        /// Its height.
        needed_u: u32,
        /// What a rack has.
        available_u: u32,
        /// The difference.
        over_u: u32,
        /// The height of a rack that would hold one.
        fits_u: u32,
    },
    /// A device draws too much.
    #[error(
        "one of `{group}` is rated {needed}, {over} more than the {limit} of a rack; \
         allow {needed} per rack, or choose a smaller node"
    )]
    TooHungry {
        /// The group.
        group: String,
        /// Its rated power.
        needed: String,
        /// What a rack may hold.
        limit: String,
        /// The difference.
        over: String,
    },
    /// A number that is none.
    #[error("{what} cannot be {value}")]
    BadNumber {
        /// What it is.
        what: String,
        /// What it was.
        value: String,
    },
    /// More than the last repeat of a block would lack nodes.
    #[error(
        "{total} of `{group}` do not fill {repeats} repeats of {per_block}: they need {needed}, and only the last may \
         lack some"
    )]
    Uneven {
        /// The group.
        group: String,
        /// How many there are.
        total: u32,
        /// Repeats of its block.
        repeats: u32,
        /// How many a whole block has.
        per_block: u32,
        /// Repeats that they need.
        needed: u32,
    },
    /// More than is counted in 32 bits.
    #[error("the floor has more than 4,294,967,295 racks, or devices of one kind")]
    TooMany,
}

impl dh_core::HasKind for Error {
    fn kind(&self) -> dh_core::Kind {
        match self {
            Self::TooTall { .. } | Self::TooHungry { .. } => dh_core::Kind::Infeasible,
            Self::BadNumber { .. } | Self::Uneven { .. } => dh_core::Kind::Invalid,
            Self::TooMany => dh_core::Kind::TooLarge,
        }
    }
}

/// A block with its racks: all repeats but the last are `whole`.
#[derive(Debug, Clone, PartialEq)]
struct Placed {
    /// The first group's number.
    group: u32,
    /// The first rack's number.
    rack: u32,
    repeats: u32,
    whole: Layout,
    last: Layout,
}

/// A planned floor.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor {
    limits: Limits,
    groups: Vec<Group>,
    blocks: Vec<Placed>,
    racks: u32,
    node_racks: u32,
}

impl Floor {
    /// Plans the floor.
    /// # Errors
    /// [`Error::TooTall`] and [`Error::TooHungry`] if a device does not fit an empty rack, and by how much;
    /// [`Error::Uneven`] if more than the last repeat of a block would lack nodes; [`Error::BadNumber`] for limits and
    /// devices that make no sense.
    pub fn plan(request: &Request) -> Result<Self, Error> {
        let Limits { power, width, depth, aisle, .. } = request.limits;
        let bad = |what: &str, value: String| Err(Error::BadNumber { what: what.to_owned(), value });
        for (what, value) in [("width", width.0), ("depth", depth.0), ("power", power.0)] {
            if !(value.is_finite() && value > 0.0) {
                return bad(&format!("the {what} of a rack"), value.to_string());
            }
        }
        if !(aisle.0.is_finite() && aisle.0 >= 0.0) {
            return bad("the width of an aisle", aisle.0.to_string());
        }
        if request.limits.racks_per_row == 0 {
            return bad("the number of racks in a row", 0.to_string());
        }
        if !(1..=HEIGHT_MAX_U).contains(&request.limits.height_u) {
            return bad("the height of a rack in U", request.limits.height_u.to_string());
        }
        let mut floor =
            Self { limits: request.limits, groups: Vec::new(), blocks: Vec::new(), racks: 0, node_racks: 0 };
        for block in &request.blocks {
            floor.add(block)?;
        }
        Ok(floor)
    }

    fn add(&mut self, block: &Block) -> Result<(), Error> {
        if block.repeats == 0 {
            return Err(Error::BadNumber { what: format!("the repeats of block `{}`", block.name), value: "0".into() });
        }
        for group in &block.groups {
            group.per_block.checked_mul(block.repeats).ok_or(Error::TooMany)?;
        }
        let missing = block.groups.iter().map(|group| group.missing(block.repeats)).collect::<Result<Vec<_>, _>>()?;
        let whole = Layout::of(&block.groups, &vec![0; missing.len()], &self.limits)?;
        let last = Layout::of(&block.groups, &missing, &self.limits)?;
        let repeats = |of: u32| of.checked_mul(block.repeats - 1).ok_or(Error::TooMany);
        let racks = repeats(whole.racks)?.checked_add(last.racks).ok_or(Error::TooMany)?;
        let node_racks = repeats(whole.node_racks)?.checked_add(last.node_racks).ok_or(Error::TooMany)?;
        let group = u32::try_from(self.groups.len()).map_err(|_| Error::TooMany)?;
        self.blocks.push(Placed { group, rack: self.racks, repeats: block.repeats, whole, last });
        self.groups.extend(block.groups.iter().cloned());
        self.racks = self.racks.checked_add(racks).ok_or(Error::TooMany)?;
        self.node_racks += node_racks;
        Ok(())
    }

    /// How many racks there are.
    pub const fn racks(&self) -> u32 {
        self.racks
    }

    /// How many of them hold nodes.
    pub const fn node_racks(&self) -> u32 {
        self.node_racks
    }

    /// How many rows they stand in.
    pub const fn rows(&self) -> u32 {
        self.racks.div_ceil(self.limits.racks_per_row)
    }

    /// The groups, in the order of their numbers.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How many devices a group has in all blocks; 0 for a group that there is not.
    pub fn count(&self, group: GroupId) -> u64 {
        let Some((placed, place)) = self.block_of(group) else { return 0 };
        let [whole, last] = [&placed.whole, &placed.last].map(|layout| u64::from(layout.count(place)));
        whole * u64::from(placed.repeats - 1) + last
    }

    /// From the front of one row to the front of the next.
    pub fn row_pitch(&self) -> Meters {
        self.limits.depth + self.limits.aisle
    }

    /// The area that rows and aisles take, in square metres.
    pub fn area_m2(&self) -> f64 {
        let columns = self.racks.min(self.limits.racks_per_row);
        f64::from(columns) * self.limits.width.0 * f64::from(self.rows()) * self.row_pitch().0
    }

    /// Enters counts and area into `ledger` under `prefix`: `floor` gives `floor.racks`.
    ///
    /// `nodes_of` and `network_of` are ids, in the ledger already, of the counts of nodes and of network devices that stand here.
    pub fn enter(&self, prefix: &str, nodes_of: &[&str], network_of: &[&str], ledger: &mut Ledger) {
        let id = |name: &str| format!("{prefix}.{name}");
        let [power, height, row] = [id("rack.power"), id("rack.height_u"), id("racks_per_row")];
        ledger.given(&power, "rated power that a rack may hold", self.limits.power, "limit of the site");
        ledger.given(&height, "height of a rack in U", self.limits.height_u, "limit of the site");
        ledger.given(&row, "racks in a row", self.limits.racks_per_row, "limit of the site");
        let [nodes, network, racks] = [id("racks.nodes"), id("racks.network"), id("racks")];
        let formula = "per block and kind of node: nodes / min(power, height, most per rack), rounded up";
        let limits = [power.as_str(), &height];
        let inputs = [nodes_of, &limits].concat();
        ledger.derived(&nodes, "racks of nodes", self.node_racks, formula, &inputs);
        let formula = "per block: network devices in order, a rack closed when the next does not fit";
        let inputs = [network_of, &limits].concat();
        ledger.derived(&network, "racks of network", self.racks - self.node_racks, formula, &inputs);
        let formula = format!("{} + {}", self.node_racks, self.racks - self.node_racks);
        ledger.derived(&racks, "racks", self.racks, formula, &[&nodes, &network]);
        let formula = format!("{} / {}, rounded up", self.racks, self.limits.racks_per_row);
        ledger.derived(&id("rows"), "rows", self.rows(), formula, &[&racks, &row]);
    }

    /// The block of `group`, and the group's place in it.
    fn block_of(&self, group: GroupId) -> Option<(&Placed, usize)> {
        let after = self.blocks.partition_point(|placed| placed.group <= group.0);
        let placed = self.blocks.get(after.checked_sub(1)?)?;
        let place = usize::try_from(group.0 - placed.group).ok()?;
        (place < placed.whole.groups()).then_some((placed, place))
    }
}

impl Group {
    /// How many the last of `repeats` lacks.
    fn missing(&self, repeats: u32) -> Result<u32, Error> {
        let Role::Nodes { total } = self.role else { return Ok(0) };
        let full = u64::from(self.per_block) * u64::from(repeats);
        let missing = full.checked_sub(total.into()).and_then(|missing| u32::try_from(missing).ok());
        missing.filter(|missing| *missing < self.per_block.max(1)).ok_or_else(|| Error::Uneven {
            group: self.name.clone(),
            total,
            repeats,
            per_block: self.per_block,
            needed: total.checked_div(self.per_block).map_or(0, |_| total.div_ceil(self.per_block.max(1))),
        })
    }
}

/// The name of a rack: its row in letters (A to Z, then AA), its place in the row in two digits or more, from 1: `A07`.
pub fn rack_name(row: u32, column: u32) -> String {
    let mut letters = Vec::new();
    let mut left = u64::from(row) + 1;
    while left > 0 {
        let digit = u8::try_from((left - 1) % 26).unwrap_or_default();
        letters.push(char::from(b'A' + digit));
        left = (left - 1) / 26;
    }
    let row: String = letters.into_iter().rev().collect();
    format!("{row}{:02}", u64::from(column) + 1)
}

#[cfg(test)]
mod tests;
