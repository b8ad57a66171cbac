//! Profiles of jobs whose lengths on several classes are known: a trace has thousands of them, and few different ratios.
//!
//! Invariant: speeds are rounded to thousandths of the fastest, so that jobs share profiles; a job that finds no place any
//! more counts as one of which nothing is known.

use std::collections::BTreeMap;

use dh_core::time::Span;

use super::Site;
use crate::kernel::{Costs, Profile};
use crate::trace::OnClass;

/// Thousandths, in millionths.
const STEP: u32 = 1_000;

/// Profiles by their speeds.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    list: Vec<Profile>,
    places: BTreeMap<Vec<u32>, u16>,
    /// For each class of the trace, that of the hall.
    classes: Vec<Option<u8>>,
    costs: Costs,
}

impl Profiles {
    /// `list` and what is added to it: jobs of a trace whose classes are called `classes`, which cost what the first of the
    /// list costs.
    pub fn new(site: &Site, list: Vec<Profile>, classes: &[String]) -> Self {
        let costs = list.first().map_or_else(Costs::default, |first| first.costs);
        let classes = classes.iter().map(|name| site.class(name)).collect();
        Self { list, places: BTreeMap::new(), classes, costs }
    }

    /// The profile of a job with these lengths, and its length on the fastest of the hall's classes that they name; none if
    /// they name none of them.
    pub fn of(&mut self, site: &Site, lengths: &[OnClass]) -> Option<(u16, Span)> {
        let mut here = vec![None; site.classes.len()];
        for one in lengths {
            let class = self.classes.get(usize::from(one.class)).copied().flatten();
            if let Some(place) = class.and_then(|class| here.get_mut(usize::from(class))) {
                *place = Some(one.length);
            }
        }
        let fastest = here.iter().flatten().copied().filter(|length| length.0 > 0).min()?;
        let round = |speed: u32| (speed.saturating_add(STEP / 2) / STEP * STEP).clamp(STEP, 1_000_000);
        let speeds: Vec<u32> = site.speeds(&here).into_iter().map(round).collect();
        let next = u16::try_from(self.list.len()).ok();
        let (list, costs) = (&mut self.list, self.costs);
        let place = self.places.get(&speeds).copied().or_else(|| {
            let next = next?;
            list.push(Profile { speeds: speeds.clone(), costs, ..Profile::default() });
            self.places.insert(speeds, next);
            Some(next)
        });
        Some((place.unwrap_or(0), fastest))
    }

    /// Classes of the trace, a bit each, as classes of the hall; bit 31 stands for those that the hall does not have.
    pub fn models(&self, classes: u32) -> u32 {
        let of = |place: u32| {
            let class = usize::try_from(place).ok().and_then(|place| self.classes.get(place)).copied().flatten();
            1_u32 << class.unwrap_or(31).min(31)
        };
        (0..32).filter(|place| classes & (1 << place) != 0).fold(0, |models, place| models | of(place))
    }

    /// All of them, for the kernel.
    pub fn list(self) -> Vec<Profile> {
        self.list
    }
}
