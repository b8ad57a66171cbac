//! Who runs next, by counting accelerators alone.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Entrant;
use crate::order::knapsack::{Item, knapsack};

/// How the set is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// In the order, each that still fits.
    InOrder,
    /// Within each class of the order the set of the greatest worth, where a job is worth its accelerators over the value of its
    /// key: for orders whose value is service to come, what ends the most jobs per hour.
    Worth,
}

/// Positions of those that run next on `capacity` accelerators, the first in the order first. Among equals those that run go
/// on.
pub fn choose(entrants: &[Entrant<'_>], capacity: u32, choice: Choice) -> Vec<usize> {
    let mut line: Vec<(usize, &Entrant<'_>)> = entrants.iter().enumerate().collect();
    line.sort_by_key(|(_, entrant)| (entrant.key, Reverse(entrant.runs()), entrant.job));
    let mut free = capacity;
    match choice {
        Choice::InOrder => line
            .into_iter()
            .filter(|(_, entrant)| match free.checked_sub(entrant.width()) {
                Some(rest) => {
                    free = rest;
                    true
                }
                None => false,
            })
            .map(|(at, _)| at)
            .collect(),
        Choice::Worth => {
            let mut classes: BTreeMap<i64, Vec<(usize, &Entrant<'_>)>> = BTreeMap::new();
            for (at, entrant) in line {
                classes.entry(entrant.key.class).or_default().push((at, entrant));
            }
            let mut chosen = Vec::new();
            for members in classes.values() {
                let items: Vec<Item> = members.iter().map(|(_, entrant)| item(entrant)).collect();
                let mut taken = knapsack(&items, free);
                taken.sort_unstable();
                for (at, entrant) in taken.into_iter().filter_map(|at| members.get(at)) {
                    free = free.saturating_sub(entrant.width());
                    chosen.push(*at);
                }
            }
            chosen
        }
    }
}

fn item(entrant: &Entrant<'_>) -> Item {
    let width = entrant.width().max(1);
    Item { width, worth: (u128::from(width) << 64) / u128::from(entrant.key.value.max(1)) }
}
