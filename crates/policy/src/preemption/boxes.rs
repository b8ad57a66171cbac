//! Whom a box displaces: the box whose victims cost least together.
//!
//! Victims are taken in the order in which they are offered until a box would be free, and some more so that there is a choice;
//! then boxes of what they leave are compared by the price of those who stand in them. Invariant: no victim is named without
//! whom there would be a box too. Cost: a search for a box each time the number of victims has doubled, and the boxes that are
//! compared, of which there are a bounded number.

use std::collections::BTreeMap;

use dh_core::NodeId;

use super::gather::MORE;
use super::{Found, Victim, by_node};
use crate::fleet::{Fleet, Service, Trial, View};
use crate::placement::{Need, accepts, split};
use crate::torus::{Asked, Chips, Part};

pub(super) fn search<'a>(
    fleet: &Fleet,
    need: &Need,
    asked: &Asked,
    view: View,
    offered: impl IntoIterator<Item = Victim<'a>>,
) -> Found {
    let tori: Vec<&Chips> = fleet.tori().iter().filter(|chips| accepts(fleet, need, chips.wiring().first)).collect();
    let mut trial = Trial::new(fleet);
    let mut victims: Vec<Victim<'a>> = Vec::new();
    let mut offered = offered.into_iter().filter(|victim| {
        victim.held.iter().any(|held| tori.iter().any(|chips| chips.wiring().nodes().contains(&held.node.0)))
    });
    let mut next = 1;
    let mut found = false;
    while !found {
        let before = victims.len();
        for victim in offered.by_ref().take(next) {
            victim.held.iter().for_each(|held| trial.vacate(held));
            victims.push(victim);
        }
        if victims.len() == before {
            break;
        }
        next = victims.len();
        found = holds(fleet, need, asked, view, &trial, &tori);
    }
    if found {
        for victim in offered.take(victims.len() / 4 + MORE) {
            victim.held.iter().for_each(|held| trial.vacate(held));
            victims.push(victim);
        }
    }
    let looked = u64::try_from(victims.len()).unwrap_or(u64::MAX);
    let none = Found { victims: None, looked };
    if !found {
        return none;
    }
    let on = on_nodes(&victims);
    let mut best: Option<(u64, Vec<Part>)> = None;
    for chips in &tori {
        let may = |node| may(fleet, need, view, &trial, node);
        let price = |parts: &[Part]| {
            let standing = standing(&victims, &on, parts);
            standing.iter().filter_map(|at| victims.get(*at)).map(|victim| victim.price).fold(0, u64::saturating_add)
        };
        let cheapest = chips.cheapest(asked, split(need), may, price);
        if let Some((cost, parts)) = cheapest
            && best.as_ref().is_none_or(|(least, _)| cost < *least)
        {
            best = Some((cost, parts));
        }
    }
    let Some((_, parts)) = best else { return none };
    let mut chosen = standing(&victims, &on, &parts);
    // Who stands in the box may still not be needed: with the others gone there may be another one. Dearest first.
    for (at, victim) in victims.iter().enumerate() {
        if !chosen.contains(&at) {
            victim.held.iter().for_each(|held| trial.occupy(held));
        }
    }
    let mut dearest = chosen.clone();
    dearest.sort_by_key(|at| std::cmp::Reverse((victims.get(*at).map(|victim| victim.price), *at)));
    for at in dearest {
        let Some(victim) = victims.get(at) else { continue };
        victim.held.iter().for_each(|held| trial.occupy(held));
        if holds(fleet, need, asked, view, &trial, &tori) {
            chosen.retain(|other| *other != at);
        } else {
            victim.held.iter().for_each(|held| trial.vacate(held));
        }
    }
    let mut jobs: Vec<_> = chosen.iter().filter_map(|at| victims.get(*at)).map(|victim| victim.job).collect();
    jobs.sort_unstable();
    Found { victims: Some(jobs), looked }
}

/// What of a node the box could have.
fn may(fleet: &Fleet, need: &Need, view: View, trial: &Trial<'_>, node: u32) -> u128 {
    let node = NodeId(node);
    let serves = matches!(fleet.service(node), Service::Up | Service::Asleep);
    let open = view == View::All || fleet.reserved(node) == 0;
    if serves && open && trial.ranks(node, &need.rank, View::All) > 0 { trial.free_mask(node) } else { 0 }
}

fn holds(fleet: &Fleet, need: &Need, asked: &Asked, view: View, trial: &Trial<'_>, tori: &[&Chips]) -> bool {
    tori.iter().any(|chips| chips.holds(asked, split(need), |node| may(fleet, need, view, trial, node)))
}

/// Who holds what of each node.
type OnNodes = BTreeMap<NodeId, Vec<(usize, u128)>>;

fn on_nodes(victims: &[Victim<'_>]) -> OnNodes {
    let mut on = OnNodes::new();
    for (at, victim) in victims.iter().enumerate() {
        for held in by_node(victim.held) {
            let Some(node) = held.first().map(|held| held.node) else { continue };
            on.entry(node).or_default().push((at, held.iter().fold(0, |mask, held| mask | held.mask)));
        }
    }
    on
}

/// Who stands in a box, ascending. Who holds cores and no accelerators of a node stands in its way too.
fn standing(victims: &[Victim<'_>], on: &OnNodes, parts: &[Part]) -> Vec<usize> {
    let here = parts.iter().flat_map(|part| {
        let there = on.get(&NodeId(part.node)).map_or(&[][..], Vec::as_slice);
        let stands = |mask: u128| mask == 0 || mask & part.accelerators != 0;
        there.iter().filter(move |(_, mask)| stands(*mask)).map(|(at, _)| *at)
    });
    let mut standing: Vec<usize> = here.filter(|at| *at < victims.len()).collect();
    standing.sort_unstable();
    standing.dedup();
    standing
}
