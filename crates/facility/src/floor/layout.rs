//! The layout of one block: for each group, where its first device stands and how the others follow.

use dh_units::{Watts, whole};

use super::{Error, Form, Group, Limits, Role};

/// Where the devices of a group stand, racks counted from the block's first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Run {
    /// How many there are.
    pub(super) count: u32,
    /// The rack of the first.
    pub(super) rack: u32,
    /// Its bottom unit, from 1.
    pub(super) u: u32,
    /// How many stand in that rack.
    pub(super) lead: u32,
    /// How many stand in each rack after it.
    pub(super) per_rack: u32,
    /// The bottom unit of the first in each rack after it.
    pub(super) base: u32,
    /// Height of each.
    pub(super) height: u32,
}

impl Run {
    /// Rack and bottom unit of device `index`.
    pub(super) const fn place(&self, index: u32) -> (u32, u32) {
        match index.checked_sub(self.lead) {
            None => (self.rack, self.u + index * self.height),
            Some(after) => (self.rack + 1 + after / self.per_rack, self.base + after % self.per_rack * self.height),
        }
    }

    /// The devices in `rack`: the first's index, how many, and the bottom unit of the first.
    pub(super) fn within(&self, rack: u32) -> Option<(u32, u32, u32)> {
        let (start, count, u) = match rack.checked_sub(self.rack)? {
            0 => (0, self.lead, self.u),
            after => {
                let start = (after - 1).checked_mul(self.per_rack)?.checked_add(self.lead)?;
                (start, self.count.checked_sub(start)?.min(self.per_rack), self.base)
            }
        };
        (count > 0).then_some((start, count, u))
    }
}

/// The layout of one block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) racks: u32,
    pub(super) node_racks: u32,
    runs: Vec<Run>,
}

/// The rack of network devices that is being filled.
struct Open {
    /// Its number in the block.
    rack: u32,
    /// The next free unit.
    u: u32,
    power_left: u64,
}

impl Layout {
    /// The layout of `groups`, each lacking as many devices as `missing` says.
    pub(super) fn of(groups: &[Group], missing: &[u32], limits: &Limits) -> Result<Self, Error> {
        let fits: Vec<Fit> = groups.iter().map(|group| Fit::of(group, limits)).collect::<Result<_, _>>()?;
        let each = || groups.iter().zip(&fits).zip(missing);
        let mut runs = vec![None; groups.len()];
        let mut racks = 0_u32;
        for (run, ((group, fit), missing)) in runs.iter_mut().zip(each()) {
            if matches!(group.role, Role::Nodes { .. }) {
                let count = group.per_block - missing;
                *run = Some(fit.run(count, racks, fit.base, count.min(fit.per_rack)));
                racks = racks.checked_add(count.div_ceil(fit.per_rack)).ok_or(Error::TooMany)?;
            }
        }
        let node_racks = racks;
        let mut open: Option<Open> = None;
        for (run, ((group, fit), missing)) in runs.iter_mut().zip(each()) {
            if group.role == Role::Network {
                *run = Some(fit.fill(group.per_block - missing, &mut open, &mut racks, limits)?);
            }
        }
        Ok(Self { racks, node_racks, runs: runs.into_iter().flatten().collect() })
    }

    pub(super) const fn groups(&self) -> usize {
        self.runs.len()
    }

    /// How many devices the group at `place` has.
    pub(super) fn count(&self, place: usize) -> u32 {
        self.runs.get(place).map_or(0, |run| run.count)
    }

    /// The run of the group at `place`.
    pub(super) fn run(&self, place: usize) -> Option<&Run> {
        self.runs.get(place)
    }

    /// All runs, in the order of the groups.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }
}

/// How a device fits an empty rack.
struct Fit {
    height: u32,
    power: u64,
    base: u32,
    per_rack: u32,
    per_rack_max: u32,
}

impl Fit {
    fn of(group: &Group, limits: &Limits) -> Result<Self, Error> {
        let reserved = limits.reserved_bottom_u.saturating_add(limits.reserved_top_u);
        let usable = limits.height_u.saturating_sub(reserved);
        let (height, room, base) = match group.form {
            Form::Units(height) => (height, usable, limits.reserved_bottom_u.saturating_add(1)),
            Form::Rack => (limits.height_u, limits.height_u, 1),
        };
        let bad = |what: String, value: String| Err(Error::BadNumber { what, value });
        if height == 0 {
            return bad(format!("the height of `{}`", group.name), "0 U".to_owned());
        }
        if group.per_rack_max == Some(0) {
            return bad(format!("the most of `{}` in a rack", group.name), "0".to_owned());
        }
        let (rated, expected) = (group.rated.0, group.expected.0);
        if !(rated.is_finite() && rated >= 0.0 && (0.0..=rated).contains(&expected)) {
            return bad(format!("the power of `{}`", group.name), format!("{expected} of {rated} W"));
        }
        if height > room {
            return Err(Error::TooTall {
                group: group.name.clone(),
                needed_u: height,
                available_u: room,
                over_u: height - room,
                fits_u: height.saturating_add(reserved),
            });
        }
        let (power, limit) = (milliwatts(group.rated), milliwatts(limits.power));
        if power > limit {
            return Err(Error::TooHungry {
                group: group.name.clone(),
                needed: group.rated.to_string(),
                limit: limits.power.to_string(),
                over: (group.rated - limits.power).to_string(),
            });
        }
        let per_rack_max = group.per_rack_max.unwrap_or(u32::MAX);
        let by_power = fitting(limit, power);
        let per_rack = (room / height).min(by_power).min(per_rack_max);
        Ok(Self { height, power, base, per_rack, per_rack_max })
    }

    const fn run(&self, count: u32, rack: u32, u: u32, lead: u32) -> Run {
        Run { count, rack, u, lead, per_rack: self.per_rack, base: self.base, height: self.height }
    }

    /// Puts `count` devices into the open rack and racks after it.
    fn fill(&self, count: u32, open: &mut Option<Open>, racks: &mut u32, limits: &Limits) -> Result<Run, Error> {
        if count == 0 {
            return Ok(self.run(0, *racks, self.base, 0));
        }
        let top = limits.height_u.saturating_sub(limits.reserved_top_u);
        let room = open.as_ref().map_or(0, |open| {
            // An open rack holds a device, so that one that is a rack by itself never fits.
            let free = (top + 1).saturating_sub(open.u) / self.height;
            free.min(fitting(open.power_left, self.power)).min(self.per_rack_max)
        });
        // They need at most a rack each; so no sum below exceeds 32 bits.
        racks.checked_add(count).ok_or(Error::TooMany)?;
        let run = match open.as_ref() {
            Some(open) if room > 0 => self.run(count, open.rack, open.u, count.min(room)),
            Some(_) | None => self.run(count, *racks, self.base, count.min(self.per_rack)),
        };
        let (rack, u) = run.place(count - 1);
        let after = count - run.lead;
        let alone = if after == 0 { run.lead } else { (after - 1) % self.per_rack + 1 };
        let before = match open.as_ref() {
            Some(open) if open.rack == rack => open.power_left,
            Some(_) | None => milliwatts(limits.power),
        };
        *open = Some(Open { rack, u: u + self.height, power_left: before - u64::from(alone) * self.power });
        *racks = (*racks).max(rack + 1);
        Ok(run)
    }
}

/// How many devices of `power` fit into `limit`, both in milliwatts.
fn fitting(limit: u64, power: u64) -> u32 {
    limit.checked_div(power).map_or(u32::MAX, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// Whole milliwatts; what is beyond 64 bits is as much as 64 bits hold.
fn milliwatts(power: Watts) -> u64 {
    whole((power.0 * 1_000.0).round())
}
