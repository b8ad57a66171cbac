//! A fleet as it would be if some jobs gave back what they hold. Nothing is changed; only nodes that differ are copied.

use dh_core::NodeId;

use super::node::State;
use super::{Fleet, Holding, Mask, View};
use crate::packing::Request;

/// A fleet with changes that nobody else sees.
#[derive(Debug)]
pub struct Trial<'a> {
    fleet: &'a Fleet,
    /// Of each node: 1 + its place among the changed ones, or 0.
    index: Vec<u32>,
    changed: Vec<State>,
}

impl<'a> Trial<'a> {
    /// The fleet as it is.
    pub fn new(fleet: &'a Fleet) -> Self {
        Self { fleet, index: vec![0; fleet.len()], changed: Vec::new() }
    }

    /// Somebody gives back `held`.
    pub fn vacate(&mut self, held: &Holding) {
        if let Some(state) = self.state_mut(held.node) {
            state.release(held);
        }
    }

    /// Undoes [`Self::vacate`].
    pub fn occupy(&mut self, held: &Holding) {
        if let Some(state) = self.state_mut(held.node) {
            state.occupy(held);
        }
    }

    /// Ranks that would fit on a node.
    pub fn ranks(&self, node: NodeId, rank: &Request, view: View) -> u32 {
        self.state(node).map_or(0, |state| state.ranks(rank, view))
    }

    /// Accelerators that would be wholly free on a node, a bit each.
    pub fn free_mask(&self, node: NodeId) -> Mask {
        self.state(node).map_or(0, |state| state.whole)
    }

    fn state(&self, node: NodeId) -> Option<&State> {
        let at = usize::try_from(node.0).ok()?;
        match self.index.get(at)?.checked_sub(1) {
            Some(copy) => self.changed.get(usize::try_from(copy).ok()?),
            None => self.fleet.nodes.get(at),
        }
    }

    fn state_mut(&mut self, node: NodeId) -> Option<&mut State> {
        let at = usize::try_from(node.0).ok()?;
        let place = self.index.get_mut(at)?;
        if *place == 0 {
            self.changed.push(self.fleet.nodes.get(at)?.clone());
            *place = u32::try_from(self.changed.len()).ok()?;
        }
        let copy = usize::try_from(place.checked_sub(1)?).ok()?;
        self.changed.get_mut(copy)
    }
}
