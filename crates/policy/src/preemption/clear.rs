//! One domain cleared for a gang, as cheaply as greed can.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use dh_core::NodeId;

use super::gather::before;
use super::{Place, Rule, Victim, by_node};
use crate::fleet::{Domain, Fleet, Holding, Trial, View};
use crate::placement::Need;

/// With so many victims in a domain or fewer, sending all away and taking back whom one can is compared too.
const FEW: usize = 512;

/// What all of `chosen` cost together.
pub(super) fn price(victims: &[Victim<'_>], chosen: &[usize]) -> u64 {
    chosen.iter().filter_map(|at| victims.get(*at)).fold(0, |sum, victim| sum.saturating_add(victim.price))
}

/// What one victim holds on one node.
#[derive(Debug, Clone)]
struct Tenant {
    node: u32,
    victim: usize,
    held: Range<usize>,
    /// Its share of the price.
    share: u64,
    milli: u64,
}

/// The cheapest way to more ranks on one node.
#[derive(Debug, Clone)]
struct Step {
    victims: Vec<usize>,
}

pub(super) struct Clearing<'f, 'v, 'a> {
    need: &'f Need,
    view: View,
    rule: Rule,
    nodes: Range<u32>,
    victims: &'v [Victim<'a>],
    trial: Trial<'f>,
    /// Ranks that fit in the domain.
    have: u64,
    gone: Vec<bool>,
}

impl<'f, 'v, 'a> Clearing<'f, 'v, 'a> {
    pub(super) fn new(fleet: &'f Fleet, need: &'f Need, view: View, place: Place, victims: &'v [Victim<'a>]) -> Self {
        let (rule, number) = place;
        let nodes = fleet.tree().nodes_of(Domain { level: need.within, number });
        let (trial, gone) = (Trial::new(fleet), vec![false; victims.len()]);
        Self { need, view, rule, nodes, victims, trial, have: before(fleet, need, view, place), gone }
    }

    fn ranks(&self, node: NodeId) -> u32 {
        let ranks = self.trial.ranks(node, &self.need.rank, self.view);
        self.rule.ranks(ranks, if self.rule == Rule::Room { 0 } else { self.trial.free_mask(node) })
    }

    fn enough(&self) -> bool {
        self.have >= u64::from(self.need.ranks)
    }

    /// The cheapest set of those `present` in the domain that greed finds, none of whom could stay.
    pub(super) fn cheapest(mut self, present: &[usize]) -> Option<Vec<usize>> {
        let tenants = self.tenants(present);
        let greedy = self.by_node(&tenants);
        let fewest = if present.len() <= FEW || greedy.is_none() { self.needed(present) } else { None };
        match (greedy, fewest) {
            (Some(greedy), Some(fewest)) => {
                Some(if price(self.victims, &fewest) < price(self.victims, &greedy) { fewest } else { greedy })
            }
            (found, None) | (None, found) => found,
        }
    }

    /// Those of `chosen` who cannot stay if the gang goes here, all others being here: `None` if all together are not enough.
    pub(super) fn needed(&mut self, chosen: &[usize]) -> Option<Vec<usize>> {
        for victim in 0..self.victims.len() {
            if self.gone.get(victim) == Some(&true) && !chosen.contains(&victim) {
                self.back(victim);
            }
        }
        for victim in chosen {
            self.send(*victim);
        }
        if !self.enough() {
            return None;
        }
        let mut dearest: Vec<(Reverse<u64>, Reverse<u64>, usize)> = chosen
            .iter()
            .filter_map(|at| self.victims.get(*at).map(|victim| (Reverse(victim.price), Reverse(victim.job.0), *at)))
            .collect();
        dearest.sort_unstable();
        let mut needed = Vec::new();
        for (.., victim) in dearest {
            self.back(victim);
            if !self.enough() {
                self.send(victim);
                needed.push(victim);
            }
        }
        needed.sort_unstable();
        Some(needed)
    }

    fn send(&mut self, victim: usize) {
        if self.gone.get(victim) != Some(&false) {
            return;
        }
        self.turn(victim, Trial::vacate);
    }

    fn back(&mut self, victim: usize) {
        if self.gone.get(victim) != Some(&true) {
            return;
        }
        self.turn(victim, Trial::occupy);
    }

    fn turn(&mut self, victim: usize, change: impl Fn(&mut Trial<'f>, &Holding)) {
        if let Some(gone) = self.gone.get_mut(victim) {
            *gone = !*gone;
        }
        let Some(victim) = self.victims.get(victim) else { return };
        for held in by_node(victim.held) {
            let Some(node) = held.first().map(|held| held.node).filter(|node| self.nodes.contains(&node.0)) else {
                continue;
            };
            let before = self.ranks(node);
            for held in held {
                change(&mut self.trial, held);
            }
            self.have = (self.have + u64::from(self.ranks(node))).saturating_sub(u64::from(before));
        }
    }

    /// Who holds what on the nodes of the domain, by node. A victim's price is spread over what it holds here, as far as the
    /// gang can use it.
    fn tenants(&self, present: &[usize]) -> Vec<Tenant> {
        let wanted = u64::from(self.need.ranks) * self.need.rank.demand();
        let mut tenants: Vec<Tenant> = Vec::new();
        for (number, victim) in present.iter().filter_map(|at| Some((*at, self.victims.get(*at)?))) {
            let first = tenants.len();
            let mut at = 0;
            for held in by_node(victim.held) {
                let begin = at;
                at += held.len();
                let Some(node) = held.first().map(|held| held.node.0).filter(|node| self.nodes.contains(node)) else {
                    continue;
                };
                let milli = held.iter().map(|held| u64::from(held.mask.count_ones()) * u64::from(held.milli)).sum();
                tenants.push(Tenant { node, victim: number, held: begin..at, share: victim.price, milli });
            }
            let useful = tenants.iter().skip(first).map(|tenant| tenant.milli).sum::<u64>().min(wanted).max(1);
            for tenant in tenants.iter_mut().skip(first).filter(|tenant| tenant.milli > 0) {
                let share = u128::from(victim.price) * u128::from(tenant.milli) / u128::from(useful);
                tenant.share = u64::try_from(share).unwrap_or(u64::MAX).min(victim.price);
            }
        }
        tenants.sort_by_key(|tenant| (tenant.node, tenant.victim));
        tenants
    }

    /// Clears the node whose next ranks cost least for each, until there is room.
    fn by_node(&mut self, tenants: &[Tenant]) -> Option<Vec<usize>> {
        let mut begins: BTreeMap<u32, &[Tenant]> = BTreeMap::new();
        for group in tenants.chunk_by(|a, b| a.node == b.node) {
            if let Some(first) = group.first() {
                begins.insert(first.node, group);
            }
        }
        let mut steps: BTreeMap<u32, (u128, Step)> = BTreeMap::new();
        let mut queue: BTreeSet<(u128, u32)> = BTreeSet::new();
        for (node, group) in &begins {
            if let Some((score, step)) = self.step(NodeId(*node), group) {
                queue.insert((score, *node));
                steps.insert(*node, (score, step));
            }
        }
        let mut chosen = Vec::new();
        while !self.enough() {
            let (_, node) = queue.pop_first()?;
            let Some((_, step)) = steps.remove(&node) else { continue };
            let mut touched = BTreeSet::from([node]);
            for victim in step.victims {
                self.send(victim);
                chosen.push(victim);
                let held = self.victims.get(victim).map_or(&[][..], |victim| victim.held);
                touched.extend(held.iter().map(|held| held.node.0).filter(|node| self.nodes.contains(node)));
            }
            if self.enough() {
                break;
            }
            for node in touched {
                if let Some((score, _)) = steps.remove(&node) {
                    queue.remove(&(score, node));
                }
                let Some(group) = begins.get(&node) else { continue };
                if let Some((score, step)) = self.step(NodeId(node), group) {
                    queue.insert((score, node));
                    steps.insert(node, (score, step));
                }
            }
        }
        self.needed(&chosen)
    }

    /// The cheaper of two ways to more ranks on a node, with its price for each rank: cheapest victims first, or those first
    /// who are cheapest for what they hold.
    fn step(&mut self, node: NodeId, group: &[Tenant]) -> Option<(u128, Step)> {
        let mut here: Vec<&Tenant> =
            group.iter().filter(|tenant| self.gone.get(tenant.victim) == Some(&false)).collect();
        here.sort_by_key(|tenant| (tenant.share, tenant.victim));
        let cheap = self.try_order(node, &here);
        if here.len() < 2 {
            return cheap;
        }
        here.sort_by_key(|tenant| {
            (u128::from(tenant.share) * 1_000_000 / u128::from(tenant.milli.max(1)), tenant.victim)
        });
        let dense = self.try_order(node, &here);
        match (cheap, dense) {
            (Some(cheap), Some(dense)) => Some(if dense.0 < cheap.0 { dense } else { cheap }),
            (found, None) | (None, found) => found,
        }
    }

    fn try_order(&mut self, node: NodeId, order: &[&Tenant]) -> Option<(u128, Step)> {
        let before = self.ranks(node);
        let missing = u64::from(self.need.ranks).saturating_sub(self.have);
        let mut sent: Vec<&Tenant> = Vec::new();
        let mut after = before;
        for tenant in order {
            self.vacate(tenant);
            sent.push(tenant);
            after = self.ranks(node);
            if after > before {
                break;
            }
        }
        let mut kept = Vec::new();
        if after > before {
            // The last one made the difference; of the others, the dearest stay if they can.
            let last = sent.pop();
            kept.extend(last);
            sent.sort_by_key(|tenant| Reverse((tenant.share, tenant.victim)));
            for tenant in std::mem::take(&mut sent) {
                self.occupy(tenant);
                if self.ranks(node) < after {
                    self.vacate(tenant);
                    kept.push(tenant);
                }
            }
        }
        for tenant in kept.iter().chain(&sent) {
            self.occupy(tenant);
        }
        // In the open view a part that becomes whole may be one that is kept, so there can be less than before.
        let gain = u128::from(u64::from(after.saturating_sub(before)).min(missing));
        let cost: u128 = kept.iter().map(|tenant| u128::from(tenant.share)).sum();
        let victims = kept.iter().map(|tenant| tenant.victim).collect();
        (gain > 0).then(|| ((cost << 16) / gain, Step { victims }))
    }

    fn held(&self, tenant: &Tenant) -> &'a [Holding] {
        let held = self.victims.get(tenant.victim).map_or(&[][..], |victim| victim.held);
        held.get(tenant.held.clone()).unwrap_or(&[])
    }

    fn vacate(&mut self, tenant: &Tenant) {
        for held in self.held(tenant) {
            self.trial.vacate(held);
        }
    }

    fn occupy(&mut self, tenant: &Tenant) {
        for held in self.held(tenant) {
            self.trial.occupy(held);
        }
    }
}
