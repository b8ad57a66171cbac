//! A published mix of torus slices, played on a torus: boxes come at published gaps.
//!
//! Invariant: the same mix and seed give the same jobs. What the mix does not say, how long they run, is drawn from a list of
//! lengths. Slices that the torus does not hold are left out, and said.

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Gang, Grace, Submission};
use dh_policy::packing::{self, WHOLE};
use dh_policy::placement::{Need, Rails};
use dh_policy::torus::{Asked, Request, Rings, Shaping, Twist};

use super::scene::{Scene, SceneError};
use crate::kernel::{Arrival, Costs, Fate, Work};
use crate::random::Stream;
use crate::site::{Site, box_of};
use crate::trace::{Joined, Slice};

/// A mix of slices.
#[derive(Debug, Clone, Copy)]
pub struct Slices<'a> {
    /// Shapes with their weights.
    pub shapes: &'a [(Slice, u64)],
    /// Gaps between arrivals with their weights.
    pub gaps: &'a [(Span, u64)],
    /// How long jobs run: each as likely as any other.
    pub lengths: &'a [Span],
    /// How many jobs come.
    pub jobs: u32,
    /// Where chance comes from.
    pub seed: u64,
}

impl Scene {
    /// Boxes of a mix on the first torus of a site.
    /// # Errors
    /// [`SceneError::NoTorus`] if there is none, [`SceneError::NoJobs`] if it holds no shape of the mix.
    pub fn of_slices(site: &Site, mix: &Slices<'_>, costs: Costs) -> Result<Self, SceneError> {
        let mut scene = Self::empty(site, costs);
        scene.add_slices(site, mix)?;
        Ok(scene)
    }

    fn add_slices(&mut self, site: &Site, mix: &Slices<'_>) -> Result<(), SceneError> {
        let wiring = *self.base.tori.first().ok_or(SceneError::NoTorus)?;
        let mut left_out = 0;
        let mut shapes: Vec<(Gang, u64)> = Vec::new();
        for (slice, weight) in mix.shapes {
            let shape = slice.sides.map(|side| u16::try_from(side).unwrap_or(u16::MAX));
            let twist = match slice.joined {
                Joined::Torus => Twist::None,
                Joined::Twisted => Twist::Twisted,
            };
            let asked = Asked::Sides(Request { shape, twist, rings: Rings::Open, shaping: Shaping::Folded });
            let gang = box_of(&wiring, PLAIN, asked).map(|gang| {
                let rank_watts = site.rank_watts(gang.need.rank.accelerators, WHOLE);
                (Gang { rank_watts, ..gang }, *weight)
            });
            match gang {
                Some(shape) => shapes.push(shape),
                None => left_out += weight,
            }
        }
        if shapes.is_empty() || mix.lengths.is_empty() || mix.jobs == 0 {
            return Err(SceneError::NoJobs);
        }
        if left_out > 0 {
            let all: u64 = mix.shapes.iter().map(|(_, weight)| weight).sum();
            self.notes
                .push(format!("the torus does not hold {} % of the slices of the mix", left_out * 100 / all.max(1)));
        }
        let mut chance = Stream::new(mix.seed);
        let first = self.jobs.iter().map(|job| job.submission.job.0).max().unwrap_or(0) + 1;
        let mut at = SimTime(0);
        for number in first..first + u64::from(mix.jobs) {
            let gang = drawn(&shapes, &mut chance).copied().unwrap_or(PLAIN);
            at = at.after(drawn(mix.gaps, &mut chance).copied().unwrap_or_default());
            let length = mix.lengths.get(chance.below(mix.lengths.len())).copied().unwrap_or_default();
            let submission = Submission {
                job: JobId(number),
                gang,
                queue: 0,
                priority: 0,
                length: None,
                attained: Span(0),
                since: at,
                deadline: None,
                kind: 0,
            };
            self.jobs.push(Arrival { at, submission, work: Work { length, profile: 0, fate: Fate::Completed } });
        }
        self.jobs.sort_by_key(|job| job.at);
        Ok(())
    }
}

const PLAIN: Gang = Gang {
    need: Need {
        ranks: 1,
        rank: packing::Request { cpu_milli: 0, memory_mib: 0, accelerators: 1, milli: WHOLE, models: 0 },
        within: 0,
        rails: Rails::Any,
    },
    least_ranks: 1,
    dataset: None,
    speeds: 0,
    rank_watts: 0,
    grace: Grace::Preemptible,
};

/// One of `items`, as likely as its weight says.
fn drawn<'a, T>(items: &'a [(T, u64)], chance: &mut Stream) -> Option<&'a T> {
    let all: u64 = items.iter().map(|(_, weight)| weight).sum();
    let mut left = chance.next().checked_rem(all)?;
    items.iter().find_map(|(item, weight)| {
        let here = left < *weight;
        left = left.saturating_sub(*weight);
        here.then_some(item)
    })
}
