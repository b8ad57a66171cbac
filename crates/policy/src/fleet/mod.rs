//! The nodes as placement sees them: what is free on each, in a tree of domains that know how much fits.
//!
//! Two views: `All` is everything free; `Open` leaves out what is reserved for a job that is to start later.
//!
//! Invariant: a domain's counts are those of its nodes in service; whole numbers only. Cost: a change of a node moves it from
//! one count to another in each domain around it; the room of a domain is a sum over at most 17 counts for each class; a copy
//! shares the nodes that do not change.

mod layout;
mod node;
mod room;
mod shared;
mod slots;
mod trial;

pub use layout::{Domain, LEVELS_MAX, Level, Tree};
pub use node::{ACCELERATORS_MAX, CLASSES_MAX, Holding, Mask, NodeFacts, Service};
pub use room::View;
pub use slots::{SLOTS, Slice};
pub use trial::Trial;

use std::sync::Arc;

use dh_core::NodeId;
use node::State;
use room::Rooms;
use serde::{Deserialize, Serialize};
use shared::Shared;

use crate::packing::{Request, WHOLE};
use crate::pages::Pages;
use crate::placement::{Need, Rails};
use crate::torus::{Bad, Chips, Wiring};

/// All nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    #[serde(with = "crate::pages::shared")]
    tree: Arc<Tree>,
    nodes: Pages<State>,
    rooms: Rooms,
    /// Nodes that sleep.
    asleep: u32,
    /// Nodes that take no new work.
    absent: u32,
    /// The tori that nodes make.
    #[serde(default)]
    tori: Vec<Chips>,
    /// Accelerators that are in use in part.
    #[serde(default)]
    shared: Shared,
}

impl Fleet {
    /// The fleet of `facts`, all free and in service.
    /// # Errors
    /// The number of the first node that the tree or the bounds of [`NodeFacts`] do not allow.
    pub fn new(levels: &[String], facts: &[NodeFacts]) -> Result<Self, usize> {
        let paths: Vec<Vec<u32>> = facts.iter().map(|facts| facts.path.clone()).collect();
        let tree = Tree::new(levels, &paths)?;
        if let Some(wrong) = facts
            .iter()
            .position(|facts| facts.accelerators > ACCELERATORS_MAX || usize::from(facts.class) >= CLASSES_MAX)
        {
            return Err(wrong);
        }
        let most = facts.iter().map(|facts| facts.accelerators).max().unwrap_or(0);
        let classes = facts.iter().map(|facts| facts.class).max().unwrap_or(0);
        let mut rooms = Rooms::new(&tree, most, classes);
        let nodes: Pages<State> = facts.iter().map(State::new).collect();
        for (number, node) in (0_u32..).zip(nodes.iter()) {
            rooms.enter(&tree, number, node);
        }
        let (tree, tori, shared) = (Arc::new(tree), Vec::new(), Shared::default());
        Ok(Self { tree, nodes, rooms, asleep: 0, absent: 0, tori, shared })
    }

    /// No node at all.
    pub fn empty() -> Self {
        let tree = Tree::flat(0);
        let rooms = Rooms::new(&tree, 0, 0);
        let (tree, tori, shared) = (Arc::new(tree), Vec::new(), Shared::default());
        Self { tree, nodes: Pages::default(), rooms, asleep: 0, absent: 0, tori, shared }
    }

    /// The same nodes with nothing on them, all of them up.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut rooms = Rooms::new(&self.tree, self.rooms.most(), self.rooms.classes());
        let nodes: Pages<State> = self.nodes.iter().map(State::emptied).collect();
        for (number, node) in (0_u32..).zip(nodes.iter()) {
            rooms.enter(&self.tree, number, node);
        }
        let (tree, tori, shared) = (Arc::clone(&self.tree), self.tori.clone(), Shared::default());
        let mut fleet = Self { tree, nodes, rooms, asleep: 0, absent: 0, tori, shared };
        for node in fleet.tori.iter().flat_map(|chips| chips.wiring().nodes()).collect::<Vec<_>>() {
            fleet.lay(NodeId(node));
        }
        fleet
    }

    /// Some of the nodes make a torus.
    /// # Errors
    /// If its sides cannot be, or a node is not there, has another number of accelerators or is in a torus already.
    pub fn wire(&mut self, wiring: Wiring) -> Result<(), Bad> {
        let chips = Chips::new(wiring)?;
        for node in wiring.nodes() {
            if u32::from(self.accelerators(NodeId(node))) != wiring.per_node() || self.torus_of(NodeId(node)).is_some()
            {
                return Err(Bad::Taken(node));
            }
        }
        self.tori.push(chips);
        for node in wiring.nodes() {
            self.lay(NodeId(node));
        }
        Ok(())
    }

    /// The tori that nodes make.
    pub fn tori(&self) -> &[Chips] {
        &self.tori
    }

    /// The torus that a node is part of.
    pub fn torus_of(&self, node: NodeId) -> Option<&Chips> {
        self.tori.iter().find(|chips| chips.wiring().nodes().contains(&node.0))
    }

    /// The torus of a node follows it.
    fn lay(&mut self, node: NodeId) {
        let Some(chips) = self.tori.iter_mut().find(|chips| chips.wiring().nodes().contains(&node.0)) else { return };
        let Some(state) = usize::try_from(node.0).ok().and_then(|at| self.nodes.get(at)) else { return };
        let free = if state.works() { state.whole } else { 0 };
        chips.set(node.0, free, if state.reserved == 0 { free } else { 0 });
    }

    /// Whether every torus is as its nodes are: for checks.
    pub fn tori_agree(&self) -> bool {
        self.tori.iter().all(|chips| {
            let free = |state: &State| if state.works() { state.whole } else { 0 };
            let state = |node: u32| self.state(NodeId(node));
            chips.wiring().nodes().all(|node| chips.agrees(node, state(node).map_or(0, free)))
        })
    }

    /// Accelerators of `class` in use in part that have at least `milli` free on nodes in service, those with least first:
    /// thousandths free, node, number.
    pub fn parts(&self, class: u8, milli: u16) -> impl Iterator<Item = (u16, NodeId, u8)> {
        self.shared.parts(class, milli)
    }

    /// Sets of slots that are taken on accelerators of `class` that are cut, each once.
    pub fn cuts(&self, class: u8) -> impl Iterator<Item = u8> {
        self.shared.busy(class)
    }

    /// Accelerators of `class` on which exactly these slots are taken: node, number.
    pub fn cut_so(&self, class: u8, busy: u8) -> impl Iterator<Item = (NodeId, u8)> {
        self.shared.with(class, busy)
    }

    /// The last class.
    pub fn classes(&self) -> u8 {
        self.rooms.classes()
    }

    /// Ranks for which a node has cores and memory.
    pub fn beside(&self, node: NodeId, rank: &Request) -> u32 {
        self.state(node).map_or(0, |state| state.beside(rank))
    }

    /// Ranks of `need` that fit on a node at this moment, slices at their places.
    pub fn ranks_of(&self, node: NodeId, need: &Need, view: View) -> u32 {
        match need.rails {
            Rails::Slice(slice) => self.state(node).map_or(0, |state| state.ranks_sliced(slice, &need.rank, view)),
            Rails::Any | Rails::Aligned | Rails::Box(_) => self.ranks(node, &need.rank, view),
        }
    }

    /// Takes one rank of `need` on `node`, on the accelerators of `wanted` if they will do.
    pub fn take_rank(&mut self, node: NodeId, need: &Need, wanted: Mask) -> Option<Holding> {
        let Rails::Slice(slice) = need.rails else { return self.take(node, &need.rank, wanted) };
        let (number, slots) = self.state(node)?.choose_slice(slice, &need.rank, wanted)?;
        let held = Holding {
            node,
            mask: 1 << number,
            milli: need.rank.milli.min(WHOLE),
            cpu_milli: need.rank.cpu_milli,
            memory_mib: need.rank.memory_mib,
            slots,
        };
        self.occupy(&held);
        Some(held)
    }

    /// Takes what somebody holds who runs already, if it is all free.
    pub fn adopt(&mut self, held: &Holding, need: &Need) -> bool {
        let able = held.slots == 0 || matches!(need.rails, Rails::Slice(_));
        if able && held.slots != 0 {
            let free = self.free_of(held) == [*held];
            if free {
                self.occupy(held);
            }
            return free;
        }
        match self.take(held.node, &need.rank, held.mask) {
            Some(taken) if taken.mask == held.mask && able => true,
            Some(other) => {
                self.release(&other);
                false
            }
            None => false,
        }
    }

    /// The tree in which the nodes stand.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Accelerators of the largest node.
    pub fn widest(&self) -> u8 {
        self.rooms.most()
    }

    /// The class of a node's accelerators.
    pub fn class(&self, node: NodeId) -> u8 {
        self.state(node).map_or(0, |state| state.class)
    }

    /// Accelerators of a node.
    pub fn accelerators(&self, node: NodeId) -> u8 {
        self.state(node).map_or(0, |state| state.accelerators)
    }

    /// Whole accelerators free on a node in service.
    pub fn free(&self, node: NodeId, view: View) -> u8 {
        self.state(node).map_or(0, |state| state.free(view))
    }

    /// Which accelerators of a node are wholly free, a bit each.
    pub fn free_mask(&self, node: NodeId) -> Mask {
        self.state(node).map_or(0, |state| state.whole)
    }

    /// Whether a node takes work.
    pub fn service(&self, node: NodeId) -> Service {
        self.state(node).map_or(Service::Down, |state| state.service)
    }

    /// Whether nothing at all runs on a node.
    pub fn idle(&self, node: NodeId) -> bool {
        self.state(node).is_some_and(State::idle)
    }

    /// Ranks that fit on a node at this moment.
    pub fn ranks(&self, node: NodeId, rank: &Request, view: View) -> u32 {
        self.state(node).map_or(0, |state| state.ranks(rank, view))
    }

    /// Ranks that fit on a node when nothing else runs there.
    pub fn ranks_empty(&self, node: NodeId, rank: &Request) -> u32 {
        self.state(node).map_or(0, |state| state.ranks_empty(rank))
    }

    /// Ranks for which a domain has accelerators, by counting alone: memory and cores may allow fewer.
    pub fn room(&self, domain: Domain, rank: &Request, view: View) -> u32 {
        self.rooms.ranks(domain, rank, view)
    }

    /// Domains of a level with room for at least `least` ranks, and that room, by number.
    pub fn roomy(&self, level: Level, rank: &Request, view: View, least: u32) -> Vec<(u32, Domain)> {
        self.rooms.roomy(&self.tree, level, rank, view, least)
    }

    /// Whole accelerators free in a domain.
    pub fn free_in(&self, domain: Domain, view: View) -> u64 {
        self.rooms.free(domain, view)
    }

    /// Of nodes in a domain with at least `wanted` whole accelerators free, of a class that `rank` accepts: the class and the
    /// number of free ones of those with least.
    pub fn least_free(&self, domain: Domain, rank: &Request, wanted: u8, view: View) -> Option<(u8, u8)> {
        self.rooms.least(domain, rank, wanted, view)
    }

    /// How many nodes of `class` in a domain have exactly `free` accelerators free.
    pub fn nodes_with(&self, domain: Domain, class: u8, free: u8, view: View) -> u32 {
        self.rooms.nodes(domain, class, free, view)
    }

    /// Whether every node takes work, asleep or awake.
    pub fn all_serve(&self) -> bool {
        self.absent == 0
    }

    /// Whether no node sleeps.
    pub fn all_awake(&self) -> bool {
        self.asleep == 0
    }

    /// Takes `rank` on `node`, on the accelerators of `wanted` if they are free (a bit each; 0 leaves the choice), else on
    /// those with least free that will do.
    pub fn take(&mut self, node: NodeId, rank: &Request, wanted: Mask) -> Option<Holding> {
        let at = usize::try_from(node.0).ok()?;
        let state = self.nodes.get_mut(at)?;
        let mask = state.choose(rank, wanted)?;
        let before = room::Counted::of(state);
        self.shared.leave(node, state);
        state.take(rank, mask);
        self.rooms.moved(&self.tree, node.0, before, room::Counted::of(state));
        self.shared.enter(node, state);
        if !self.tori.is_empty() {
            self.lay(node);
        }
        let milli = if rank.accelerators == 0 { 0 } else { rank.milli.min(WHOLE) };
        Some(Holding { node, mask, milli, cpu_milli: rank.cpu_milli, memory_mib: rank.memory_mib, slots: 0 })
    }

    /// Gives back what [`Self::take`] gave.
    pub fn release(&mut self, holding: &Holding) {
        self.change(holding.node, |state| state.release(holding));
    }

    /// Takes exactly `holding`, all of which must be free: the opposite of [`Self::release`].
    pub fn occupy(&mut self, holding: &Holding) {
        self.change(holding.node, |state| state.occupy(holding));
    }

    /// What is free of `wanted` at this moment, whatever the node's service, in pieces: first all that is free as wanted, then
    /// each accelerator of which less is free.
    pub fn free_of(&self, wanted: &Holding) -> Vec<Holding> {
        self.state(wanted.node).map_or_else(Vec::new, |state| state.free_of(wanted))
    }

    /// Changes whether a node takes work.
    pub fn set_service(&mut self, node: NodeId, service: Service) {
        if usize::try_from(node.0).map_or(true, |at| at >= self.len()) {
            return;
        }
        let absent = |service| !matches!(service, Service::Up | Service::Asleep);
        let before = self.service(node);
        self.asleep -= u32::from(before == Service::Asleep);
        self.asleep += u32::from(service == Service::Asleep);
        self.absent -= u32::from(absent(before));
        self.absent += u32::from(absent(service));
        self.change(node, |state| state.service = service);
    }

    /// Sets how many of a node's accelerators are kept from the `Open` view.
    pub fn reserve(&mut self, node: NodeId, accelerators: u8) {
        self.change(node, |state| state.reserved = accelerators);
    }

    /// How many of a node's accelerators are kept from the `Open` view.
    pub fn reserved(&self, node: NodeId) -> u8 {
        self.state(node).map_or(0, |state| state.reserved)
    }

    fn state(&self, node: NodeId) -> Option<&State> {
        usize::try_from(node.0).ok().and_then(|at| self.nodes.get(at))
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut State)) {
        let Some(state) = usize::try_from(node.0).ok().and_then(|at| self.nodes.get_mut(at)) else { return };
        let before = room::Counted::of(state);
        self.shared.leave(node, state);
        change(state);
        self.rooms.moved(&self.tree, node.0, before, room::Counted::of(state));
        self.shared.enter(node, state);
        if !self.tori.is_empty() {
            self.lay(node);
        }
    }
}

#[cfg(test)]
mod tests;
