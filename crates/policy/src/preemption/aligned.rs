//! Gangs whose ranks get the same accelerators on every node: the placement itself says whether they fit.
//!
//! The search by domains counts one rank for each node and windows of neighbouring rails. Where the gang fits in other ways
//! too (several ranks to a node, rails that are no neighbours), its answer may miss, or name more than are needed. So what it
//! names is tried with the placement, and every victim without whom the gang is placed too stays, dearest first.
//!
//! Cost: twice a copy of the fleet, a placement for each doubling of the victims until one fits, and one for each victim that is
//! tried.

use std::cmp::Reverse;

use super::Victim;
use crate::fleet::{Fleet, View};
use crate::placement::{Context, Need, by_name};

/// Whom an aligned gang displaces, by place in `victims`; `first` is what the search by domains named. What is found without
/// it, cheapest first, is taken where that costs less.
pub(super) fn settle(
    fleet: &Fleet,
    need: &Need,
    view: View,
    victims: &[Victim<'_>],
    first: Option<Vec<usize>>,
) -> Option<Vec<usize>> {
    let named = first.and_then(|chosen| settle_from(fleet, need, view, victims, chosen));
    let plain = settle_from(fleet, need, view, victims, Vec::new());
    [named, plain].into_iter().flatten().min_by_key(|chosen| super::clear::price(victims, chosen))
}

fn settle_from(
    fleet: &Fleet,
    need: &Need,
    view: View,
    victims: &[Victim<'_>],
    mut chosen: Vec<usize>,
) -> Option<Vec<usize>> {
    let policy = by_name("topology")?;
    let mut fleet = fleet.clone();
    let fits = |fleet: &Fleet| policy.place(fleet, need, &Context::plain(view)).is_ok();
    for at in &chosen {
        free(&mut fleet, victims, *at);
    }
    let rest: Vec<usize> = (0..victims.len()).filter(|at| !chosen.contains(at)).collect();
    let mut rest = rest.as_slice();
    // Cheapest first, in doubling steps, until there is a place.
    let mut step = 1;
    while !fits(&fleet) {
        if rest.is_empty() {
            return None;
        }
        let (more, left) = rest.split_at(step.min(rest.len()));
        for at in more {
            free(&mut fleet, victims, *at);
        }
        chosen.extend(more);
        rest = left;
        step *= 2;
    }
    chosen.sort_by_key(|at| victims.get(*at).map(|victim| (Reverse(victim.price), victim.job)));
    chosen.retain(|at| {
        let held = || victims.get(*at).into_iter().flat_map(|victim| victim.held);
        for held in held() {
            fleet.occupy(held);
        }
        let needed = !fits(&fleet);
        if needed {
            free(&mut fleet, victims, *at);
        }
        needed
    });
    Some(chosen)
}

fn free(fleet: &mut Fleet, victims: &[Victim<'_>], at: usize) {
    for held in victims.get(at).into_iter().flat_map(|victim| victim.held) {
        fleet.release(held);
    }
}
