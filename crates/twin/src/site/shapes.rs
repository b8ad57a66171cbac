//! What blueprints ask for beyond whole accelerators, as the scheduler takes it: boxes, shares, slices.
//!
//! A training on a torus is a box even if nobody says so: chips that are no box do not train together.

use dh_blueprint::{Settings, Shape, Workload};
use dh_hall::scheduler::Gang;
use dh_policy::fleet::Slice;
use dh_policy::packing::WHOLE;
use dh_policy::placement::{Need, Rails};
use dh_policy::torus::{Asked, Request, Split, Wiring};
use dh_units::{Bytes, real, whole};

use super::{Own, Site};

impl Site {
    /// A training of whole nodes as a box, of the sides that it asks for or of any, if its nodes make a torus.
    pub(super) fn boxed(&self, gang: Gang, workload: &Workload, own: &mut Own) -> Gang {
        let split = Split { nodes: gang.need.ranks, each: u32::from(gang.need.rank.accelerators) };
        let fits = |asked: &Asked| self.settings.tori.iter().any(|wiring| wiring.split(asked) == Some(split));
        if let Some(Shape::Box(sides)) = &workload.shape {
            let asked = Asked::Sides(Request::new(sides.map(|side| u16::try_from(side).unwrap_or(u16::MAX))));
            if fits(&asked) {
                return with(gang, Rails::Box(asked));
            }
            own.notes.push(format!("a box of {sides:?} is not what the training was planned on: any box will do"));
        }
        let chips = split.nodes.checked_mul(split.each).map(Asked::Chips);
        match chips.filter(fits) {
            Some(asked) => with(gang, Rails::Box(asked)),
            None => gang,
        }
    }

    /// `gang` as one of `shape`: its ranks and what each needs follow from a box; a share or a slice is what each rank needs.
    /// `None` if the hall has no torus that holds the box, or no accelerator with such slices.
    pub fn shaped(&self, settings: &Settings, gang: Gang, shape: &Shape) -> Option<Gang> {
        match shape {
            Shape::Box(sides) => {
                let sides = sides.map(|side| u16::try_from(side).unwrap_or(u16::MAX));
                let asked = Asked::Sides(Request::new(sides));
                self.settings.tori.iter().find_map(|wiring| box_of(wiring, gang, asked))
            }
            Shape::Share { milli, memory } => {
                let least = memory.map_or(0, |memory| self.milli_of(settings, memory));
                let milli = (*milli).max(least);
                let rank = dh_policy::packing::Request { accelerators: 1, milli, ..gang.need.rank };
                (milli <= WHOLE).then_some(Gang { need: Need { rank, ..gang.need }, ..gang })
            }
            Shape::Slice(name) => self.sliced(settings, gang, name),
        }
    }

    /// The part of the smallest accelerator here that has so much memory, thousandths, rounded up: a share of an accelerator is
    /// that part of its memory too, so that jobs that share one never need more than it has.
    fn milli_of(&self, settings: &Settings, memory: Bytes) -> u16 {
        let items = self.classes.iter().filter_map(|class| settings.catalog.accelerator(&class.name)?.memory.as_ref());
        let Some(least) = items.map(|memory| memory.value.0).min().filter(|least| *least > 0) else { return 0 };
        u16::try_from(whole((real(memory.0) * 1000.0 / real(least)).ceil())).unwrap_or(u16::MAX)
    }

    /// Slices of one profile, on every class that has it at the same places.
    fn sliced(&self, settings: &Settings, gang: Gang, name: &str) -> Option<Gang> {
        let mut found: Option<(Slice, u16, u32)> = None;
        for (class, known) in (0_u32..).zip(&self.classes) {
            let item = settings.catalog.accelerator(&known.name);
            let Some(slices) = item.and_then(|item| item.slices.as_ref()).map(|slices| &slices.value) else { continue };
            let Some(profile) = slices.profile(name) else { continue };
            let slice = Slice { size: profile.slots, starts: profile.starts };
            let milli = slices.milli(profile);
            match &mut found {
                None => found = Some((slice, milli, 1 << class.min(31))),
                Some((first, of, classes)) if (*first, *of) == (slice, milli) => *classes |= 1 << class.min(31),
                Some(_) => {}
            }
        }
        let (slice, milli, models) = found?;
        let rank = dh_policy::packing::Request { accelerators: 1, milli, models, ..gang.need.rank };
        // All slots are a whole accelerator.
        let rails = if milli < WHOLE { Rails::Slice(slice) } else { Rails::Any };
        Some(Gang { need: Need { rank, rails, ..gang.need }, ..gang })
    }
}

/// `gang` as a box of a torus: ranks and accelerators of each follow.
pub(crate) fn box_of(wiring: &Wiring, gang: Gang, asked: Asked) -> Option<Gang> {
    let split = wiring.split(&asked)?;
    let accelerators = u8::try_from(split.each).ok()?;
    let rank = dh_policy::packing::Request { accelerators, milli: WHOLE, ..gang.need.rank };
    let need = Need { ranks: split.nodes, rank, within: 0, rails: Rails::Box(asked) };
    Some(Gang { need, least_ranks: split.nodes, ..gang })
}

fn with(gang: Gang, rails: Rails) -> Gang {
    Gang { need: Need { rails, ..gang.need }, least_ranks: gang.need.ranks, ..gang }
}
