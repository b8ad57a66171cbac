//! Nodes grouped by state, and the table of what a request makes of each state.
//!
//! Invariant: every node is a member of exactly one state, the one it is in. A table entry, once computed, stays: worth
//! depends on the state and the mix alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mix, Node, Potential, Request};

/// A request and where it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The node, by the order in which nodes were added.
    pub node: usize,
    /// The state it is in now.
    pub state: Node,
}

/// What a request makes of a state.
#[derive(Debug, Clone, Copy)]
enum Entry {
    Unknown,
    Misfit,
    /// What the state keeps of its worth and how good what it leaves is, and the state that follows.
    Next(i64, usize),
}

#[derive(Debug)]
struct State {
    node: Node,
    worth: i64,
    members: BTreeSet<usize>,
    /// By request of the mix; empty until a node is here.
    entries: Vec<Entry>,
}

/// Nodes, packed by a policy.
pub struct Packer<'a> {
    policy: &'a dyn Potential,
    mix: &'a Mix,
    states: Vec<State>,
    /// The states by what they are.
    known: BTreeMap<Node, usize>,
    /// States with members, in no order that matters: of equal scores the node that was added first wins.
    active: Vec<usize>,
    nodes: usize,
    /// Thousandths free by model.
    free: [u64; 32],
    /// Thousandths that the mix needs in the mean, times its count.
    demand: u64,
}

impl std::fmt::Debug for Packer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (nodes, states) = (self.nodes, self.states.len());
        f.debug_struct("Packer")
            .field("policy", &self.policy.name())
            .field("nodes", &nodes)
            .field("states", &states)
            .finish()
    }
}

impl<'a> Packer<'a> {
    /// No nodes yet. Requests that are not in `mix` are not placed.
    pub fn new(policy: &'a dyn Potential, mix: &'a Mix) -> Self {
        let demand = mix.requests().iter().map(|(request, count)| request.demand() * count).sum();
        Self {
            policy,
            mix,
            states: Vec::new(),
            known: BTreeMap::new(),
            active: Vec::new(),
            nodes: 0,
            free: [0; 32],
            demand,
        }
    }

    /// Adds a node; it is called by how many there were before.
    pub fn add(&mut self, node: Node) -> usize {
        let name = self.nodes;
        self.nodes += 1;
        if let Some(free) = self.free.get_mut(usize::from(node.model)) {
            *free += node.free_milli();
        }
        let state = self.state(node);
        self.enter(state, name);
        name
    }

    /// Thousandths of accelerators free on all nodes.
    pub fn free_milli(&self) -> u64 {
        self.free.iter().sum()
    }

    /// States that nodes are or were in, or could have come into.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Places `request`; `None` if it fits nowhere.
    pub fn place(&mut self, request: &Request) -> Option<Place> {
        let kind = self.mix.requests().binary_search_by(|(known, _)| known.cmp(request)).ok()?;
        let prices = self.prices(request);
        // Score, the first node of the state, the state, what follows.
        let mut best: Option<(i64, usize, usize, usize)> = None;
        for at in 0..self.active.len() {
            let state = *self.active.get(at)?;
            let Entry::Next(gain, next) = self.entry(state, kind, request) else { continue };
            let here = self.states.get(state)?;
            let first = *here.members.first()?;
            let score = gain.saturating_sub(prices.get(usize::from(here.node.model)).copied().unwrap_or(0));
            if best.is_none_or(|(most, held, ..)| score > most || (score == most && first < held)) {
                best = Some((score, first, state, next));
            }
        }
        let (_, _, state, next) = best?;
        let node = self.leave(state)?;
        if let (Some(before), Some(after)) = (self.states.get(state), self.states.get(next)) {
            let used = before.node.free_milli() - after.node.free_milli();
            if let Some(free) = self.free.get_mut(usize::from(before.node.model)) {
                *free -= used;
            }
        }
        self.enter(next, node);
        self.states.get(next).map(|state| Place { node, state: state.node })
    }

    /// What `request` costs on each model: its accelerators times how much the mix wants the model, over the mean of all.
    /// A request of the mix is shared out over what is free of the models that it accepts.
    fn prices(&self, request: &Request) -> [i64; 32] {
        let mut prices = [0; 32];
        let weight = self.policy.price();
        if weight == 0 || request.accelerators == 0 || self.demand == 0 {
            return prices;
        }
        let all = u128::from(self.free_milli());
        let mut wanted = [0_u128; 32];
        for (expected, count) in self.mix.requests().iter().filter(|(expected, _)| expected.accelerators > 0) {
            let accepts = |model: usize| u8::try_from(model).is_ok_and(|model| expected.accepts(model));
            let open: u128 = self
                .free
                .iter()
                .enumerate()
                .filter(|(model, _)| accepts(*model))
                .map(|(_, free)| u128::from(*free))
                .sum();
            if open == 0 {
                continue;
            }
            // Millionths of the mean.
            let share = u128::from(expected.demand() * count) * all * 1_000_000 / open / u128::from(self.demand);
            wanted.iter_mut().enumerate().filter(|(model, _)| accepts(*model)).for_each(|(_, wanted)| *wanted += share);
        }
        let demand = i128::from(request.demand());
        for (price, wanted) in prices.iter_mut().zip(wanted) {
            let cost =
                i128::try_from(wanted).unwrap_or(i128::MAX / 1_000_000_000) * demand * i128::from(weight) / 1_000_000;
            *price = i64::try_from(cost).unwrap_or(i64::MAX / 4);
        }
        prices
    }

    fn entry(&mut self, state: usize, kind: usize, request: &Request) -> Entry {
        let Some(known) = self.states.get(state) else { return Entry::Misfit };
        let entry = known.entries.get(kind).copied().unwrap_or(Entry::Unknown);
        let Entry::Unknown = entry else { return entry };
        let (node, worth) = (known.node, known.worth);
        let mut found = Entry::Misfit;
        if node.fits(request) {
            let mut least: Option<(i64, Node)> = None;
            let mut next = Vec::new();
            node.after(request, |after| next.push(after));
            for after in next {
                let at = self.state(after);
                let kept = self.states.get(at).map_or(i64::MIN, |state| state.worth.saturating_sub(worth));
                let gain = kept.saturating_add(self.policy.leaves(&after));
                if least.is_none_or(|(most, held)| gain > most || (gain == most && after < held)) {
                    least = Some((gain, after));
                    found = Entry::Next(gain, at);
                }
            }
        }
        let kinds = self.mix.requests().len();
        if let Some(known) = self.states.get_mut(state) {
            if known.entries.is_empty() {
                known.entries = vec![Entry::Unknown; kinds];
            }
            if let Some(entry) = known.entries.get_mut(kind) {
                *entry = found;
            }
        }
        found
    }

    /// The state that is `node`.
    fn state(&mut self, node: Node) -> usize {
        if let Some(state) = self.known.get(&node) {
            return *state;
        }
        let at = self.states.len();
        let worth = self.policy.worth(&node, self.mix);
        self.states.push(State { node, worth, members: BTreeSet::new(), entries: Vec::new() });
        self.known.insert(node, at);
        at
    }

    fn enter(&mut self, state: usize, node: usize) {
        let Some(entered) = self.states.get_mut(state) else { return };
        if entered.members.is_empty() {
            self.active.push(state);
        }
        entered.members.insert(node);
    }

    /// Takes the node that was added first out of `state`.
    fn leave(&mut self, state: usize) -> Option<usize> {
        let left = self.states.get_mut(state)?;
        let node = left.members.pop_first();
        if left.members.is_empty() {
            self.active.retain(|active| *active != state);
        }
        node
    }
}
