//! Classes of accelerators by what they give this gang and keep from others.
//!
//! A gang that runs at speed `s` on a class keeps its accelerators from others for a time of `1/s`, in which they would have
//! done work at the speed `v` that gangs have there on average. What the place costs is its own time and what it keeps from
//! others, `(1 + p v) / s`, where `p` is the share of the class that is busy: in an empty hall the fastest class is taken, in
//! a full one that on which the gang has most of an advantage over the others. Inside a class it is [`super::topology`]; a gang
//! that no class holds alone is spread over all.
//!
//! With `p` three or eight times as large, jobs of three kinds on two classes end as soon within 8 % (the work of
//! `dh-hall`'s `tests/placements.rs`); with `p = 0`, the fastest class always, up to 35 % later, and blind to classes by 28 to 41 %.
//!
//! Speeds are told by the context, in millionths of the fastest; where they are not, this is `topology`. Invariant: whole
//! numbers; a tie is won by the lower class. Cost: a look at every node, and a placement for each class until one holds.
//! Source: that speeds differ by job and class, and allocations should follow them, is Gavel's (Narayanan et al. 2020); the rule
//! is our own.

use super::topology::Topology;
use super::{Context, Misfit, Need, Placement, Share, Speed};
use crate::fleet::{CLASSES_MAX, Fleet, View};
use crate::packing::Request;

/// How fast gangs run on each class of accelerators, millionths; empty where that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speeds<'a> {
    /// This one.
    pub own: &'a [u32],
    /// All that came lately, on average.
    pub others: &'a [u32],
}

impl Speeds<'_> {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { own: &[], others: &[] };
}

#[derive(Debug)]
pub(super) struct Heterogeneity;

impl Placement for Heterogeneity {
    fn name(&self) -> &'static str {
        "heterogeneity"
    }

    fn about(&self) -> &'static str {
        "the class of accelerators that gives the gang most for what it keeps from others"
    }

    fn asks_speeds(&self) -> Speed {
        Speed::Asked
    }

    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        for class in ranked(fleet, &need.rank, context) {
            let rank = Request { models: 1 << class, ..need.rank };
            if let Ok(shares) = Topology.place(fleet, &Need { rank, ..*need }, context) {
                return Ok(shares);
            }
        }
        Topology.place(fleet, need, context)
    }
}

/// Classes that the gang accepts, the cheapest first; none where speeds are not known.
fn ranked(fleet: &Fleet, rank: &Request, context: &Context<'_>) -> Vec<u8> {
    let Speeds { own, others } = context.speeds;
    if own.is_empty() || rank.accelerators == 0 {
        return Vec::new();
    }
    let busy = busy(fleet);
    let mut classes: Vec<(u64, u8)> = (0_u8..)
        .zip(own)
        .take(CLASSES_MAX)
        .filter(|(class, _)| rank.accepts(*class))
        .map(|(class, speed)| {
            let at = usize::from(class);
            let others = others.get(at).copied().unwrap_or(1_000_000);
            (cost(*speed, others, busy.get(at).copied().unwrap_or(0)), class)
        })
        .collect();
    classes.sort_unstable();
    classes.into_iter().map(|(_, class)| class).collect()
}

/// `(1 + p v) / s` in thousandths; `own` and `others` in millionths, `busy` in thousandths.
fn cost(own: u32, others: u32, busy: u64) -> u64 {
    let kept = busy * u64::from(others) / 1_000;
    (1_000_000 + kept) * 1_000 / u64::from(own.max(1))
}

/// Thousandths of each class's accelerators that are not free.
fn busy(fleet: &Fleet) -> [u64; CLASSES_MAX] {
    let (mut all, mut free) = ([0_u64; CLASSES_MAX], [0_u64; CLASSES_MAX]);
    for node in (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(dh_core::NodeId) {
        let class = usize::from(fleet.class(node));
        if let (Some(all), Some(free)) = (all.get_mut(class), free.get_mut(class)) {
            *all += u64::from(fleet.accelerators(node));
            *free += u64::from(fleet.free(node, View::All));
        }
    }
    std::array::from_fn(|class| {
        let (all, free) = (all.get(class).copied().unwrap_or(0), free.get(class).copied().unwrap_or(0));
        ((all - free.min(all)) * 1_000).checked_div(all).unwrap_or(0)
    })
}
