//! Where groups of jobs stand that share accelerators.
//!
//! Jobs that hold the same accelerators are at one place. A group keeps the place where most of its members are, and the
//! others come there; whoever was not chosen and is in nobody's way goes on where it is, with whoever else does.
//!
//! Invariant: that of rounds; and members of a group are of one need, hold the same accelerators, and each its own cores and
//! memory. Cost: that of a round with a job for each group.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use dh_core::NodeId;

use super::places::Places;
use super::{Entrant, Round};
use crate::fleet::{Fleet, Holding, Mask};
use crate::placement::{Need, Placement};

/// The accelerators of each rank: who has the same ones is at one place.
type Spot = Vec<(NodeId, Mask)>;

/// The place of ranks.
pub fn spot(held: &[Holding]) -> Vec<(NodeId, Mask)> {
    held.iter().map(|held| (held.node, held.mask)).collect()
}

/// What one more job at a place holds of its own: cores and memory.
pub fn beside(held: &Holding) -> Holding {
    Holding { mask: 0, milli: 0, ..*held }
}

/// The next round, in which the groups are given by positions of entrants: a group of one shares with nobody.
pub fn round_of_groups(
    fleet: &Fleet,
    placement: &dyn Placement,
    entrants: &[Entrant<'_>],
    groups: &[Vec<usize>],
) -> Round {
    let mut hall = fleet.clone();
    let mut places: BTreeMap<Spot, Vec<usize>> = BTreeMap::new();
    for (at, entrant) in entrants.iter().enumerate().filter(|(_, entrant)| entrant.runs()) {
        let there = places.entry(spot(entrant.held)).or_default();
        for held in entrant.held {
            hall.release(&if there.is_empty() { *held } else { beside(held) });
        }
        there.push(at);
    }
    let places: Vec<Vec<usize>> = places.into_values().collect();
    let mut group_of: Vec<Option<usize>> = vec![None; entrants.len()];
    for (number, members) in groups.iter().enumerate() {
        for at in members {
            if let Some(group) = group_of.get_mut(*at) {
                *group = Some(number);
            }
        }
    }
    let of = |at: &usize| group_of.get(*at).copied().flatten();
    let keeps = assign(&places, groups.len(), of);
    // One entrant for each group, which holds what all members will.
    let members_of = |group: usize| groups.get(group).map_or(&[][..], Vec::as_slice);
    let held_at = |place: usize| -> &[Holding] {
        places.get(place).and_then(|there| entrants.get(*there.first()?)).map_or(&[], |entrant| entrant.held)
    };
    let holdings: Vec<Vec<Holding>> = (0..groups.len())
        .map(|group| keeps.get(&group).map_or_else(Vec::new, |place| all_of(held_at(*place), members_of(group).len())))
        .collect();
    let wholes: Vec<Entrant<'_>> = holdings
        .iter()
        .enumerate()
        .filter_map(|(group, held)| {
            let first = entrants.get(*members_of(group).first()?)?;
            Some(Entrant { need: need_of(&first.need, members_of(group).len()), held, ..*first })
        })
        .collect();
    let mut line: Vec<usize> = (0..wholes.len()).collect();
    line.sort_by_key(|at| wholes.get(*at).map(|whole| (Reverse(whole.width()), Reverse(whole.runs()))));
    let mut arranged = Places { hall, placement, entrants: &wholes, staying: BTreeSet::new() };
    for group in &line {
        arranged.keep(*group);
    }
    let mut round = Round::default();
    let mut placed: BTreeSet<usize> = BTreeSet::new();
    let mut stays: BTreeSet<usize> = BTreeSet::new();
    let mut elsewhere: Vec<(usize, Vec<Holding>)> = Vec::new();
    for (nth, group) in line.iter().enumerate() {
        if arranged.staying.contains(group) {
            placed.insert(*group);
        } else if let Some(ranks) = arranged.find(*group, line.get(nth + 1..).unwrap_or_default()) {
            placed.insert(*group);
            elsewhere.push((*group, ranks));
        }
    }
    for group in line.iter().filter(|group| arranged.staying.contains(group)) {
        let Some(place) = keeps.get(group) else { continue };
        let there = places.get(*place).map_or(&[][..], Vec::as_slice);
        for at in members_of(*group) {
            if there.contains(at) {
                stays.insert(*at);
            } else {
                round.starts.push((*at, held_at(*place).to_vec()));
            }
        }
    }
    for (group, ranks) in &elsewhere {
        for at in members_of(*group) {
            let Some(rank) = entrants.get(*at).map(|entrant| entrant.need.rank) else { continue };
            let own = |held: &Holding| Holding { cpu_milli: rank.cpu_milli, memory_mib: rank.memory_mib, ..*held };
            round.starts.push((*at, ranks.iter().map(own).collect()));
        }
    }
    // Whoever is in nobody's way goes on.
    for (place, there) in places.iter().enumerate() {
        let left = there.iter().copied().filter(|at| of(at).is_none_or(|group| !placed.contains(&group)));
        let left: Vec<usize> = left.collect();
        if !left.is_empty() && arranged.hold(&all_of(held_at(place), left.len())) {
            stays.extend(left);
        }
    }
    let runs = entrants.iter().enumerate().filter(|(_, entrant)| entrant.runs()).map(|(at, _)| at);
    round.stops = runs.filter(|at| !stays.contains(at)).collect();
    round
}

/// The place that each group keeps, if it keeps one: where most of its members are.
fn assign(places: &[Vec<usize>], groups: usize, of: impl Fn(&usize) -> Option<usize>) -> BTreeMap<usize, usize> {
    let mut shared: Vec<(Reverse<usize>, usize, usize)> = Vec::new();
    for (place, there) in places.iter().enumerate() {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for group in there.iter().filter_map(&of).filter(|group| *group < groups) {
            *counts.entry(group).or_default() += 1;
        }
        shared.extend(counts.into_iter().map(|(group, count)| (Reverse(count), group, place)));
    }
    shared.sort_unstable();
    let mut keeps: BTreeMap<usize, usize> = BTreeMap::new();
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    for (_, group, place) in shared {
        if !keeps.contains_key(&group) && kept.insert(place) {
            keeps.insert(group, place);
        }
    }
    keeps
}

/// What `members` jobs hold together that each hold `held`.
fn all_of(held: &[Holding], members: usize) -> Vec<Holding> {
    let times = u32::try_from(members).unwrap_or(u32::MAX);
    let all = |held: &Holding| Holding {
        cpu_milli: held.cpu_milli.saturating_mul(times),
        memory_mib: held.memory_mib.saturating_mul(times),
        ..*held
    };
    held.iter().map(all).collect()
}

/// What they need together that each have `need`.
fn need_of(need: &Need, members: usize) -> Need {
    let times = u32::try_from(members).unwrap_or(u32::MAX);
    let mut all = *need;
    all.rank.cpu_milli = need.rank.cpu_milli.saturating_mul(times);
    all.rank.memory_mib = need.rank.memory_mib.saturating_mul(times);
    all
}
