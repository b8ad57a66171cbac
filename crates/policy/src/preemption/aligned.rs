//! Gangs whose ranks get the same accelerators on every node: the placement itself says whether they fit.
//!
//! The search by domains counts one rank for each node and windows of neighbouring rails. Where the gang fits in other ways
//! too (several ranks to a node, rails that are no neighbours), its answer may miss, or name more than are needed. So what it
//! names is tried with the placement, and every victim without whom the gang is placed too stays, dearest first.
//!
//! Cost: twice a copy of the fleet, a placement for each doubling of the victims until one fits, and one for each victim on the
//! nodes of the place that was found. Who holds nothing there stays without a try; should the placement miss that place
//! afterwards, all are tried.

use std::cmp::Reverse;

use dh_core::NodeId;

use super::Victim;
use crate::fleet::{Domain, Fleet, View};
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
    let place = |fleet: &Fleet| {
        let domains = (0..fleet.tree().domains(need.within)).map(|number| Domain { level: need.within, number });
        let mut rooms = domains.map(|domain| fleet.room(domain, &need.rank, view));
        // To be told why it does not fit costs more than to count.
        if !rooms.any(|room| room >= need.ranks) {
            return None;
        }
        let shares = policy.place(fleet, need, &Context::plain(view)).ok()?;
        let mut nodes: Vec<NodeId> = shares.iter().map(|share| share.node).collect();
        nodes.sort_unstable();
        Some(nodes)
    };
    for at in &chosen {
        free(&mut fleet, victims, *at);
    }
    let rest: Vec<usize> = (0..victims.len()).filter(|at| !chosen.contains(at)).collect();
    let mut rest = rest.as_slice();
    // Cheapest first, in doubling steps, until there is a place.
    let mut step = 1;
    let found = loop {
        if let Some(nodes) = place(&fleet) {
            break nodes;
        }
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
    };
    chosen.sort_by_key(|at| victims.get(*at).map(|victim| (Reverse(victim.price), victim.job)));
    let mut tried = fleet.clone();
    let mut witness = Some(found);
    let few = stay(&mut tried, victims, &chosen, &mut witness, &place);
    if place(&tried).is_some() {
        return Some(few);
    }
    Some(stay(&mut fleet, victims, &chosen, &mut None, &place))
}

/// Those of `chosen` who cannot stay, tried in order. Where a place is known (`witness`), who holds nothing there can.
fn stay(
    fleet: &mut Fleet,
    victims: &[Victim<'_>],
    chosen: &[usize],
    witness: &mut Option<Vec<NodeId>>,
    place: &impl Fn(&Fleet) -> Option<Vec<NodeId>>,
) -> Vec<usize> {
    let mut needed = Vec::new();
    for at in chosen {
        let held = victims.get(*at).map_or(&[][..], |victim| victim.held);
        for held in held {
            fleet.occupy(held);
        }
        let beside = |nodes: &Vec<NodeId>| held.iter().all(|held| nodes.binary_search(&held.node).is_err());
        if witness.as_ref().is_some_and(beside) {
            continue;
        }
        if let Some(nodes) = place(fleet) {
            if let Some(known) = witness {
                *known = nodes;
            }
        } else {
            free(fleet, victims, *at);
            needed.push(*at);
        }
    }
    needed
}

fn free(fleet: &mut Fleet, victims: &[Victim<'_>], at: usize) {
    for held in victims.get(at).into_iter().flat_map(|victim| victim.held) {
        fleet.release(held);
    }
}
