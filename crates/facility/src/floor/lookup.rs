//! Where a device stands, and what stands in a rack.

use dh_units::{Meters, Watts};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Floor, GroupId, Placed, rack_name};

/// Where a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// The rack, from 0.
    pub rack: u32,
    /// The rack's row, from 0.
    pub row: u32,
    /// The rack's place in its row, from 0.
    pub column: u32,
    /// The device's bottom unit, from 1.
    pub u: u32,
    /// From the first rack of a row to the left edge of this one.
    pub x: Meters,
    /// From the front of the first row to the front of this one.
    pub y: Meters,
}

/// Devices that stand in a rack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// Its bottom unit, from 1.
    pub u: u32,
    /// Its height in units.
    pub height_u: u32,
    /// Its group.
    pub group: GroupId,
    /// Its number in the group, from 0.
    pub index: u32,
}

/// The power of a rack.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RackPower {
    /// The most that its devices draw.
    pub rated: Watts,
    /// What they draw at work.
    pub expected: Watts,
    /// What they may be rated together.
    pub limit: Watts,
}

impl Placed {
    /// The layout of repeat `repeat`.
    const fn layout(&self, repeat: u32) -> &Layout {
        if repeat + 1 == self.repeats { &self.last } else { &self.whole }
    }
}

impl Floor {
    /// Where device `index` of `group` stands; `None` if there is no such device.
    pub fn place(&self, group: GroupId, index: u32) -> Option<Slot> {
        let (placed, place) = self.block_of(group)?;
        let repeat = index.checked_div(placed.whole.count(place))?;
        if repeat >= placed.repeats {
            return None;
        }
        let run = placed.layout(repeat).run(place)?;
        let within = index % placed.whole.count(place);
        if within >= run.count {
            return None;
        }
        let (rack, u) = run.place(within);
        let rack = placed.rack + repeat * placed.whole.racks + rack;
        let (row, column) = self.row_and_column(rack);
        let x = self.limits.width * f64::from(column);
        let y = self.row_pitch() * f64::from(row);
        Some(Slot { rack, row, column, u, x, y })
    }

    /// The devices of `rack`, from the bottom up; empty for a rack that there is not.
    pub fn elevation(&self, rack: u32) -> Vec<Shelf> {
        let Some((placed, repeat, within)) = self.locate(rack) else { return Vec::new() };
        let mut shelves = Vec::new();
        for ((group, run), place) in (placed.group..).zip(placed.layout(repeat).runs()).zip(0_usize..) {
            let Some((start, count, u)) = run.within(within) else { continue };
            let first = repeat * placed.whole.count(place) + start;
            shelves.extend((0..count).map(|more| Shelf {
                u: u + more * run.height,
                height_u: run.height,
                group: GroupId(group),
                index: first + more,
            }));
        }
        shelves
    }

    /// The power of `rack`: zero, within the limit, for a rack that there is not.
    pub fn rack_power(&self, rack: u32) -> RackPower {
        let mut power = RackPower { rated: Watts(0.0), expected: Watts(0.0), limit: self.limits.power };
        let Some((placed, repeat, within)) = self.locate(rack) else { return power };
        let groups = usize::try_from(placed.group).ok().and_then(|first| self.groups.get(first..));
        for (group, run) in groups.unwrap_or_default().iter().zip(placed.layout(repeat).runs()) {
            let count = run.within(within).map_or(0, |(_, count, _)| count);
            power.rated += group.rated * f64::from(count);
            power.expected += group.expected * f64::from(count);
        }
        power
    }

    /// The name of `rack`: `A07`.
    pub fn rack_name(&self, rack: u32) -> String {
        let (row, column) = self.row_and_column(rack);
        rack_name(row, column)
    }

    const fn row_and_column(&self, rack: u32) -> (u32, u32) {
        (rack / self.limits.racks_per_row, rack % self.limits.racks_per_row)
    }

    /// The block of `rack`, which repeat of it, and the rack's number within that.
    fn locate(&self, rack: u32) -> Option<(&Placed, u32, u32)> {
        if rack >= self.racks {
            return None;
        }
        // Blocks without racks share their first rack's number with the next block: the last one has it.
        let after = self.blocks.partition_point(|placed| placed.rack <= rack);
        let placed = self.blocks.get(after.checked_sub(1)?)?;
        let from = rack - placed.rack;
        let repeat = from.checked_div(placed.whole.racks).unwrap_or(0).min(placed.repeats - 1);
        Some((placed, repeat, from - repeat * placed.whole.racks))
    }
}
