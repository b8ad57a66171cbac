//! Pods that may be moved to let others in: how many, and what they are worth.
//!
//! A pod that fits nowhere is let in if a plan of one or two moves makes room. Each move of each pod counts, and at no time
//! are there more of them than the share of the pods that were placed by then.

use std::collections::BTreeMap;

use dh_policy::packing::{Packer, Place, Request, Running};

/// How many moves there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moves {
    /// For a million pods that were placed.
    pub per_million: u64,
    /// What a move costs, in thousandths of accelerators.
    pub price: u64,
}

impl Moves {
    /// None.
    pub const NONE: Self = Self { per_million: 0, price: 0 };
    /// What a move costs by default: with a budget of one move for a hundred pods half an accelerator is not worth one.
    pub const PRICE: u64 = 500;
}

/// The pods on each node.
#[derive(Debug)]
pub(super) struct Pods {
    on: Vec<Vec<Place>>,
    moves: Moves,
    placed: u64,
    moved: u64,
    /// When no plan was found for a request: pods placed by then.
    failed: BTreeMap<Request, u64>,
}

/// Pods that must be placed before a plan is sought again for a request for which there was none.
const PATIENCE: u64 = 50;

impl Running for Pods {
    fn on(&self, node: usize) -> &[Place] {
        self.on.get(node).map_or(&[], Vec::as_slice)
    }

    fn price(&self, _place: &Place) -> Option<u64> {
        Some(self.moves.price)
    }
}

impl Pods {
    pub(super) fn new(nodes: usize, moves: Moves) -> Self {
        Self { on: vec![Vec::new(); nodes], moves, placed: 0, moved: 0, failed: BTreeMap::new() }
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Places `pod`, if need be by moving others; whether it was.
    pub(super) fn place(&mut self, packer: &mut Packer, pod: &Request) -> bool {
        if let Some(place) = packer.place(pod).or_else(|| self.squeeze(packer, pod)) {
            self.enter(place);
            self.placed += 1;
            return true;
        }
        false
    }

    fn squeeze(&mut self, packer: &mut Packer, pod: &Request) -> Option<Place> {
        let budget = u128::from(self.placed) * u128::from(self.moves.per_million) / 1_000_000;
        let left = budget.saturating_sub(u128::from(self.moved));
        if left == 0 || pod.demand() <= self.moves.price {
            return None;
        }
        if self.failed.get(pod).is_some_and(|placed| self.placed < placed + PATIENCE) {
            return None;
        }
        let moves_max = usize::try_from(left).unwrap_or(usize::MAX);
        let Some(plan) = packer.plan_moves(pod, self, moves_max) else {
            self.failed.insert(*pod, self.placed);
            return None;
        };
        packer.carry_out(&plan).ok()?;
        for step in &plan.moves {
            self.leave(&step.from);
            self.enter(step.to);
            self.moved += 1;
        }
        Some(plan.place)
    }

    fn enter(&mut self, place: Place) {
        if let Some(on) = self.on.get_mut(place.node) {
            on.push(place);
        }
    }

    fn leave(&mut self, place: &Place) {
        if let Some(on) = self.on.get_mut(place.node)
            && let Some(at) = on.iter().position(|other| other == place)
        {
            on.remove(at);
        }
    }
}
