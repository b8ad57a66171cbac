//! The nodes as placement sees them: what is free on each, in a tree of domains that know how much fits.
//!
//! Two views: `All` is everything free; `Open` leaves out what is reserved for a job that is to start later.
//!
//! Invariant: a domain's counts are those of its nodes in service; whole numbers only. Cost: a change of a node touches one
//! count of each domain around it; the room of a domain is a sum over at most 17 counts for each class.

mod layout;
mod node;
mod room;
mod trial;

pub use layout::{Domain, LEVELS_MAX, Level, Tree};
pub use node::{ACCELERATORS_MAX, CLASSES_MAX, Holding, Mask, NodeFacts, Service};
pub use room::View;
pub use trial::Trial;

use dh_core::NodeId;
use node::State;
use room::Rooms;
use serde::{Deserialize, Serialize};

use crate::packing::{Request, WHOLE};

/// All nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    tree: Tree,
    nodes: Vec<State>,
    rooms: Rooms,
    /// Nodes that sleep.
    asleep: u32,
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
        let nodes: Vec<State> = facts.iter().map(State::new).collect();
        for (number, node) in (0_u32..).zip(&nodes) {
            rooms.enter(&tree, number, node);
        }
        Ok(Self { tree, nodes, rooms, asleep: 0 })
    }

    /// No node at all.
    pub fn empty() -> Self {
        let tree = Tree::flat(0);
        let rooms = Rooms::new(&tree, 0, 0);
        Self { tree, nodes: Vec::new(), rooms, asleep: 0 }
    }

    /// The same nodes with nothing on them, all of them up.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut rooms = Rooms::new(&self.tree, self.rooms.most(), self.rooms.classes());
        let nodes: Vec<State> = self.nodes.iter().map(State::emptied).collect();
        for (number, node) in (0_u32..).zip(&nodes) {
            rooms.enter(&self.tree, number, node);
        }
        Self { tree: self.tree.clone(), nodes, rooms, asleep: 0 }
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
        self.rooms.leave(&self.tree, node.0, state);
        state.take(rank, mask);
        self.rooms.enter(&self.tree, node.0, state);
        let milli = if rank.accelerators == 0 { 0 } else { rank.milli.min(WHOLE) };
        Some(Holding { node, mask, milli, cpu_milli: rank.cpu_milli, memory_mib: rank.memory_mib })
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
        self.asleep -= u32::from(self.service(node) == Service::Asleep);
        self.asleep += u32::from(service == Service::Asleep && usize::try_from(node.0).is_ok_and(|at| at < self.len()));
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
        self.rooms.leave(&self.tree, node.0, state);
        change(state);
        self.rooms.enter(&self.tree, node.0, state);
    }
}

#[cfg(test)]
mod tests;
