//! Victims in the order of what they cost, until some domain has room.

use std::collections::BTreeMap;

use dh_core::NodeId;

use super::{Place, Rule, Victim, by_node};
use crate::fleet::{Domain, Fleet, Trial, View};
use crate::packing::WHOLE;
use crate::placement::{Need, Rails};

/// Victims looked at beyond those that are enough, so that there is a choice: a quarter more, and these.
pub(super) const MORE: usize = 16;

pub(super) struct Gathered<'a> {
    pub(super) victims: Vec<Victim<'a>>,
    /// Where there is room if all of them go, those that had it first, first.
    pub(super) feasible: Vec<Place>,
    /// Who holds something in each domain, ascending.
    pub(super) present: BTreeMap<u32, Vec<usize>>,
}

/// Ranks that fit in a place.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Before anybody goes.
    before: u64,
    gained: u64,
    /// Whether every node was looked at, or accelerators counted.
    exact: bool,
    feasible: bool,
}

pub(super) fn gather<'a>(
    fleet: &Fleet,
    need: &Need,
    view: View,
    rules: &[Rule],
    offered: impl IntoIterator<Item = Victim<'a>>,
) -> Gathered<'a> {
    let mut gathering = Gathering {
        fleet,
        need,
        view,
        trial: Trial::new(fleet),
        rooms: BTreeMap::new(),
        feasible: Vec::new(),
        present: BTreeMap::new(),
    };
    let mut victims: Vec<Victim<'a>> = Vec::new();
    let mut enough = usize::MAX;
    for victim in offered {
        gathering.vacate(rules, victims.len(), &victim);
        victims.push(victim);
        if enough == usize::MAX && !gathering.feasible.is_empty() {
            enough = victims.len() + victims.len() / 4 + MORE;
        }
        if victims.len() >= enough {
            break;
        }
    }
    Gathered { victims, feasible: gathering.feasible, present: gathering.present }
}

struct Gathering<'f> {
    fleet: &'f Fleet,
    need: &'f Need,
    view: View,
    trial: Trial<'f>,
    rooms: BTreeMap<Place, Room>,
    feasible: Vec<Place>,
    present: BTreeMap<u32, Vec<usize>>,
}

impl Gathering<'_> {
    fn vacate(&mut self, rules: &[Rule], number: usize, victim: &Victim<'_>) {
        for held in by_node(victim.held) {
            let Some(node) = held.first().map(|held| held.node) else { continue };
            let domain = self.fleet.tree().domain(node.0, self.need.within).number;
            let present = self.present.entry(domain).or_default();
            if present.last() != Some(&number) {
                present.push(number);
            }
            let before = self.state(node);
            for held in held {
                self.trial.vacate(held);
            }
            let after = self.state(node);
            if after == before {
                continue;
            }
            for rule in rules {
                let gain = rule.ranks(after.0, after.1).saturating_sub(rule.ranks(before.0, before.1));
                if gain > 0 {
                    self.gain((*rule, domain), gain);
                }
            }
        }
    }

    fn state(&self, node: NodeId) -> (u32, u128) {
        let mask = if self.need.rails == Rails::Any { 0 } else { self.trial.free_mask(node) };
        (self.trial.ranks(node, &self.need.rank, self.view), mask)
    }

    fn gain(&mut self, place: Place, gain: u32) {
        // A domain's count of accelerators is too much by what cores, memory and rails forbid, and costs nothing.
        let (fleet, need, view) = (self.fleet, self.need, self.view);
        let domain = Domain { level: need.within, number: place.1 };
        let counted = countable(need);
        let room = self.rooms.entry(place).or_insert_with(|| Room {
            before: if counted { u64::from(fleet.room(domain, &need.rank, view)) } else { u64::MAX / 2 },
            gained: 0,
            exact: counted && place.0 == Rule::Room && need.rank.cpu_milli == 0 && need.rank.memory_mib == 0,
            feasible: false,
        });
        room.gained += u64::from(gain);
        let wanted = u64::from(need.ranks);
        if room.feasible || room.before + room.gained < wanted {
            return;
        }
        if !room.exact {
            room.before = before(fleet, need, view, place);
            room.exact = true;
        }
        if room.before + room.gained >= wanted {
            room.feasible = true;
            self.feasible.push(place);
        }
    }
}

/// Whether a count of free accelerators bounds the ranks that fit.
fn countable(need: &Need) -> bool {
    need.rank.accelerators > 0 && need.rank.milli >= WHOLE
}

/// Ranks that fit in a place as it is. Domains without accelerators for one are passed over.
pub(super) fn before(fleet: &Fleet, need: &Need, view: View, (rule, number): Place) -> u64 {
    let tree = fleet.tree();
    let place = Domain { level: need.within, number };
    if countable(need) && fleet.room(place, &need.rank, view) == 0 {
        return 0;
    }
    let nodes = tree.nodes_of(place);
    let (last, mut sum, mut node) = (tree.last(), 0, nodes.start);
    while node < nodes.end {
        let leaf = tree.domain(node, last);
        let end = tree.nodes_of(leaf).end.min(nodes.end).max(node + 1);
        if !countable(need) || fleet.room(leaf, &need.rank, view) > 0 {
            let ranks = |node| rule.ranks(fleet.ranks(node, &need.rank, view), fleet.free_mask(node));
            sum += (node..end).map(NodeId).map(ranks).map(u64::from).sum::<u64>();
        }
        node = end;
    }
    sum
}
