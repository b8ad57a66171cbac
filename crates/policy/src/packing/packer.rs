//! The engine: nodes that come, go and fail, and requests that are placed on them and end.
//!
//! Invariant: every node in service is a member of exactly one state, the one it is in. Of equal scores the lesser state wins,
//! and of the nodes of a state that of the fullest rack: what is decided follows from what is free, the mix and the policy,
//! not from how it came about, so that a packer restored from [`super::Saved`] goes on as the one that was saved.
//! Cost: a heap's first state and its first node; `examples/packing_speed.rs` has the figures.

use std::cmp::Reverse;

use super::fleet::{Fleet, Machine, OUT};
use super::histogram::Histogram;
use super::prices::Prices;
use super::table::{Kept, Next, Table};
use super::{Choice, Detail, Mix, Node, Place, Potential, Refused, Request};

/// Nodes, packed by a policy.
pub struct Packer {
    pub(super) table: Table,
    pub(super) fleet: Fleet,
    prices: Prices,
    pub(super) histogram: Histogram,
    /// How often something was given back or came into service.
    grown: u64,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("policy", &self.table.policy.name())
            .field("nodes", &self.nodes())
            .field("states", &self.states())
            .finish_non_exhaustive()
    }
}

/// What counts as more and less: at most 2^16 for each node.
fn signed(milli: u64) -> i64 {
    i64::try_from(milli).unwrap_or(i64::MAX)
}

impl Packer {
    /// No nodes yet, told apart exactly. The mix is what to expect; it changes if [`Self::arrived`] is told what comes.
    pub fn new(policy: &'static dyn Potential, mix: Mix) -> Self {
        Self::seen(policy, mix, Detail::Exact)
    }

    /// No nodes yet, told apart as `detail` says.
    pub fn seen(policy: &'static dyn Potential, mix: Mix, detail: Detail) -> Self {
        let mut prices = Prices::default();
        prices.expect(&mix);
        Self {
            table: Table::new(policy, mix, detail),
            fleet: Fleet::default(),
            prices,
            histogram: Histogram::default(),
            grown: 0,
        }
    }

    /// A rack, to add nodes to. Among equal nodes that of the fullest rack is taken.
    pub fn open_rack(&mut self) -> u32 {
        self.fleet.racks.open()
    }

    /// Adds an empty node that stands in no rack; it is called by how many there were before.
    pub fn add(&mut self, node: Node) -> usize {
        let rack = self.fleet.racks.block();
        self.add_in(node, rack)
    }

    /// Adds an empty node that stands in `rack`, which [`Self::open_rack`] gave.
    pub fn add_in(&mut self, node: Node, rack: u32) -> usize {
        let name = self.fleet.machines.len();
        let number = self.stand(Machine::new(node, rack));
        self.serve(number);
        name
    }

    /// A node that is not in service yet.
    pub(super) fn stand(&mut self, machine: Machine) -> u32 {
        let number = u32::try_from(self.fleet.machines.len()).unwrap_or(u32::MAX);
        self.fleet.racks.stand(machine.rack, number);
        self.table.scale.learn(&machine.whole);
        self.fleet.machines.push(machine);
        number
    }

    /// Nodes, those out of service too.
    pub fn nodes(&self) -> usize {
        self.fleet.machines.len()
    }

    /// What is free on `node`, whether it is in service or not.
    pub fn node(&self, node: usize) -> Option<Node> {
        self.fleet.machines.get(node).map(Machine::node)
    }

    /// Whether `node` is in service.
    pub fn serves(&self, node: usize) -> bool {
        self.fleet.machines.get(node).is_some_and(|machine| machine.state != OUT)
    }

    /// Thousandths of accelerators free on all nodes in service.
    pub fn free_milli(&self) -> u64 {
        self.prices.free()
    }

    /// States that are remembered.
    pub fn states(&self) -> usize {
        self.table.len()
    }

    /// The requests that are expected.
    pub fn mix(&self) -> &Mix {
        &self.table.mix
    }

    /// A request has arrived, whether it can be placed or not. When an eighth of the mix has changed, worths are computed anew.
    pub fn arrived(&mut self, request: &Request) {
        if let Some(mix) = self.histogram.arrived(request, &self.table.mix) {
            self.prices.expect(&mix);
            let names = self.table.expect(mix);
            self.rename(&names);
        }
    }

    /// Places `request`; `None` if it fits nowhere.
    pub fn place(&mut self, request: &Request) -> Option<Place> {
        self.tidy();
        let kind = self.table.kind(request);
        let prices = self.prices.of(request, self.table.policy.price());
        let Some(best) = self.table.best(kind, &prices) else { return self.squeeze(kind, request, &|_: usize| true) };
        let node = self.first(best.state)?;
        let next = self.table.next(best.state, kind)?;
        self.commit(node, request, next)
    }

    /// Places `request` where `choice` allows. Cost: the nodes of the states that are looked at.
    pub fn place_by(&mut self, request: &Request, choice: &dyn Choice) -> Option<Place> {
        self.tidy();
        let kind = self.table.kind(request);
        let prices = self.prices.of(request, self.table.policy.price());
        let mut aside = Vec::new();
        let mut found = None;
        while let Some(best) = self.table.best(kind, &prices) {
            if let Some(node) = self.chosen(best.state, choice) {
                found = Some((node, best.state));
                break;
            }
            aside.extend(self.table.set_aside(kind, best));
        }
        self.table.put_back(kind, aside);
        let Some((node, state)) = found else { return self.squeeze(kind, request, choice) };
        let next = self.table.next(state, kind)?;
        self.commit(node, request, next)
    }

    /// Places `request` on the best of `nodes`: quicker than [`Self::place_by`] when they are few. Cost: a look at each.
    pub fn place_among(&mut self, request: &Request, nodes: &[usize]) -> Option<Place> {
        self.tidy();
        let kind = self.table.kind(request);
        let prices = self.prices.of(request, self.table.policy.price());
        let mut found = Vec::with_capacity(nodes.len());
        for node in nodes {
            let Some(number) = u32::try_from(*node).ok() else { continue };
            let Some(machine) = self.fleet.machine(number).copied().filter(|machine| machine.state != OUT) else {
                continue;
            };
            let Some(next) = self.table.next(machine.state, kind) else { continue };
            let price = prices.get(usize::from(machine.whole.model)).copied().unwrap_or(0);
            let state = self.table.get(machine.state).map(|state| state.node);
            let first = Reverse((state, self.fleet.racks.order(&machine, number)));
            found.push((next.gain.saturating_sub(price), first, number, next));
        }
        let (_, _, node, next) = found.into_iter().max_by_key(|(gain, first, ..)| (*gain, *first))?;
        self.commit(node, request, next)
    }

    /// Takes exactly `place`: what another has placed.
    /// # Errors
    /// The node is not there or not in service, or something of it is not free.
    pub fn put(&mut self, place: &Place) -> Result<(), Refused> {
        let machine = self.fleet.machines.get(place.node).ok_or(Refused::NoNode)?;
        if machine.state == OUT {
            return Err(Refused::Service);
        }
        if !machine.has(place) {
            return Err(Refused::Taken);
        }
        let mut after = *machine;
        after.take(place);
        let state = self.table.state(self.sight(&after));
        self.shift(place, after, state);
        Ok(())
    }

    /// Gives back `place`: it has ended. The node may be out of service.
    /// # Errors
    /// It cannot have been there.
    pub fn release(&mut self, place: &Place) -> Result<(), Refused> {
        let machine = self.fleet.machines.get(place.node).ok_or(Refused::NoNode)?;
        if !machine.holds(place) {
            return Err(Refused::NotHeld);
        }
        let mut after = *machine;
        after.give(place);
        if machine.state == OUT {
            if let Some(machine) = self.fleet.machines.get_mut(place.node) {
                *machine = after;
            }
            return Ok(());
        }
        self.grown += 1;
        let before = self.table.get(machine.state).map_or(machine.whole, |state| state.node);
        let node = before.without(&place.request, machine.free_of(place.accelerators));
        let state = self.table.state(self.table.scale.see(&node, after.cpu_milli, after.memory_mib));
        self.shift(place, after, state);
        Ok(())
    }

    /// Takes `node` out of service: nothing is placed there. What is there stays until it is released.
    /// # Errors
    /// There is no such node, or it is out of service.
    pub fn take_out(&mut self, node: usize) -> Result<(), Refused> {
        let machine = *self.fleet.machines.get(node).ok_or(Refused::NoNode)?;
        if machine.state == OUT {
            return Err(Refused::Service);
        }
        self.leave(&machine);
        if let Some(machine) = self.fleet.machines.get_mut(node) {
            machine.state = OUT;
        }
        let (free, whole) = (signed(machine.node().free_milli()), signed(machine.whole.free_milli()));
        self.prices.change(&machine.whole, -free);
        self.fleet.racks.change(machine.rack, -free, -whole);
        Ok(())
    }

    /// Brings `node` back into service, with what is still there.
    /// # Errors
    /// There is no such node, or it is in service.
    pub fn bring_back(&mut self, node: usize) -> Result<(), Refused> {
        let machine = self.fleet.machines.get(node).ok_or(Refused::NoNode)?;
        if machine.state != OUT {
            return Err(Refused::Service);
        }
        self.serve(u32::try_from(node).unwrap_or(u32::MAX));
        Ok(())
    }

    /// What all nodes in service are worth to the mix, more or less, if `before` becomes `after`.
    pub(super) fn change(&mut self, before: Node, after: Node) -> i64 {
        self.table.worth(after).saturating_sub(self.table.worth(before))
    }

    /// What is left of the best place's worth for `request`, without placing it; `None` if it fits nowhere.
    pub(super) fn score(&mut self, request: &Request) -> Option<i64> {
        let kind = self.table.kind(request);
        let prices = self.prices.of(request, self.table.policy.price());
        self.table.best(kind, &prices).map(|best| best.gain)
    }

    /// Drops what is old, when there is much of it.
    pub(super) fn tidy(&mut self) {
        if self.table.is_full() {
            let names = self.table.sweep(Kept::Used);
            self.rename(&names);
        }
    }

    fn rename(&mut self, names: &[u32]) {
        for machine in self.fleet.machines.iter_mut().filter(|machine| machine.state != OUT) {
            let name = usize::try_from(machine.state).ok().and_then(|state| names.get(state));
            machine.state = name.copied().unwrap_or(OUT);
        }
    }

    /// The state that a node is seen in.
    pub(super) fn sight(&self, machine: &Machine) -> Node {
        self.table.scale.see(&machine.node(), machine.cpu_milli, machine.memory_mib)
    }

    /// The first node of a state, by rack.
    fn first(&self, state: u32) -> Option<u32> {
        let here = self.table.get(state)?;
        if let Some(spread) = &here.spread {
            return self.fleet.racks.first(spread, &self.fleet.machines, state);
        }
        if let [one] = here.members.as_slice() {
            return Some(*one);
        }
        let order = |node: &u32| self.fleet.machine(*node).map(|machine| self.fleet.racks.order(machine, *node));
        here.members.iter().copied().min_by_key(order)
    }

    /// The first node of a state that `choice` allows, by its rank and then by rack.
    fn chosen(&self, state: u32, choice: &dyn Choice) -> Option<u32> {
        let members = self.table.get(state)?.members.iter().copied();
        let named = members.filter_map(|node| Some((node, usize::try_from(node).ok()?)));
        let allowed = named.filter(|(_, name)| choice.allows(*name));
        let order = |(node, name): &(u32, usize)| {
            (choice.rank(*name), self.fleet.machine(*node).map(|machine| self.fleet.racks.order(machine, *node)))
        };
        allowed.min_by_key(order).map(|(node, _)| node)
    }

    /// Places what fits no state on a node that has more than its state says, where least is left.
    fn squeeze(&mut self, kind: u32, request: &Request, choice: &dyn Choice) -> Option<Place> {
        if self.table.scale.detail() == Detail::Exact || self.table.is_misfit(kind, self.grown) {
            return None;
        }
        let (mut fits, mut best): (usize, Option<(i64, Reverse<u32>)>) = (0, None);
        for node in self.table.doubtful(request) {
            let Some(machine) = self.fleet.machine(node).filter(|machine| machine.fits(request)) else { continue };
            fits += 1;
            if usize::try_from(node).is_ok_and(|name| choice.allows(name)) {
                let left = self.table.policy.leaves(&machine.node().tightest(request));
                best = best.max(Some((left, Reverse(node))));
            }
        }
        if fits == 0 {
            self.table.misfit(kind, self.grown);
        }
        let (_, Reverse(node)) = best?;
        let machine = self.fleet.machine(node)?;
        let from = machine.free.iter().copied().filter(|free| *free >= request.milli.max(1)).min().unwrap_or(0);
        let place =
            Place { node: usize::try_from(node).ok()?, accelerators: machine.choose(request, from), request: *request };
        self.put(&place).ok()?;
        Some(place)
    }

    fn commit(&mut self, node: u32, request: &Request, next: Next) -> Option<Place> {
        let machine = self.fleet.machine(node)?;
        let accelerators = machine.choose(request, next.from);
        let place = Place { node: usize::try_from(node).ok()?, accelerators, request: *request };
        let mut after = *machine;
        after.take(&place);
        // The state that follows has the accelerators; processor and memory may be more than its own.
        let mut state = next.state;
        if let Some(expected) = self.table.get(state).map(|state| state.node) {
            let node = self.table.scale.see(&expected, after.cpu_milli, after.memory_mib);
            if node != expected {
                state = self.table.state(node);
            }
        }
        self.shift(&place, after, state);
        Some(place)
    }

    /// The node of `place` becomes `after`, which is `state`.
    fn shift(&mut self, place: &Place, after: Machine, state: u32) {
        let Some(before) = self.fleet.machines.get(place.node).copied() else { return };
        self.leave(&before);
        let sum = |machine: &Machine| machine.free.iter().map(|free| i64::from(*free)).sum::<i64>();
        let free = sum(&after) - sum(&before);
        if free != 0 {
            self.prices.change(&before.whole, free);
            self.fleet.racks.change(before.rack, free, 0);
        }
        if let Some(machine) = self.fleet.machines.get_mut(place.node) {
            *machine = after;
        }
        self.enter(u32::try_from(place.node).unwrap_or(u32::MAX), state);
    }

    /// `node` comes into service as it is.
    pub(super) fn serve(&mut self, node: u32) {
        let Some(machine) = self.fleet.machine(node).copied() else { return };
        let (free, whole) = (signed(machine.node().free_milli()), signed(machine.whole.free_milli()));
        self.prices.change(&machine.whole, free);
        self.fleet.racks.change(machine.rack, free, whole);
        self.grown += 1;
        let state = self.table.state(self.sight(&machine));
        self.enter(node, state);
    }

    fn enter(&mut self, node: u32, state: u32) {
        let racks = |node: u32| self.fleet.machine(node).map_or(0, |machine| machine.rack);
        let at = self.table.enter(state, node, racks);
        if let Some(machine) = self.fleet.machine_mut(node) {
            (machine.state, machine.at) = (state, at);
        }
    }

    fn leave(&mut self, machine: &Machine) {
        if let Some(moved) = self.table.leave(machine.state, machine.at, machine.rack)
            && let Some(other) = self.fleet.machine_mut(moved)
        {
            other.at = machine.at;
        }
    }
}
