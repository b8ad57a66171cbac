//! Boxes of a torus: what a gang that holds one does when it loses a node, and what keeps one from a place.
//!
//! A box cannot be mended with another node: it goes on with the same nodes once they are back, or its gang is stopped as soon
//! as another whole box is free, and starts there. Invariant: accelerators of a box that are still at work are never given to
//! anybody before the gang is gone from them. Cost: a search for a box each time something came free.

use dh_core::NodeId;
use dh_policy::fleet::{Fleet, Holding, Service, View};
use dh_policy::placement::{Context, Need, Rails, Speeds, Wake, nearest_box};
use serde::Serialize;

use super::Scheduler;
use super::event::{Action, Cause, Gang};
use super::job::{Job, Lost, Phase, Slot};
use super::run::smallest;
use super::why::Holder;

/// The box that is nearest to free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearBox {
    /// Its nodes, in the order of the box.
    pub nodes: Vec<NodeId>,
    /// Accelerators of it that are not free.
    pub busy: u32,
}

impl Scheduler {
    /// A gang that lost part of its box gets the same accelerators back, or is stopped if there is another box. Whether that
    /// settles it.
    pub(super) fn mend(&mut self, slot: Slot, gang: &Gang, actions: &mut Vec<Action>) -> bool {
        let run = self.state.jobs.get(slot).and_then(Job::run);
        let Some((Lost { ranks: lost, mut found, .. }, ranks)) =
            run.and_then(|run| Some((run.lost.clone()?, run.ranks.clone())))
        else {
            return false;
        };
        for rank in &lost {
            let old = usize::try_from(*rank).ok().and_then(|rank| ranks.get(rank)).copied();
            let Some(old) = old.filter(|_| found.iter().all(|(other, _)| other != rank)) else { continue };
            let serves = matches!(self.state.fleet.service(old.node), Service::Up | Service::Asleep);
            if serves && self.state.fleet.free_of(&old) == [old] {
                self.state.fleet.occupy(&old);
                found.push((*rank, old));
                self.own(old.node, slot);
                self.settle(old.node);
            }
        }
        found.sort_unstable_by_key(|(rank, _)| *rank);
        let whole = found.len() == lost.len();
        let Some(job) = self.state.jobs.get_mut(slot) else { return false };
        let id = job.id;
        let Some(run) = job.run_mut() else { return false };
        if whole {
            run.lost = None;
            actions.push(Action::Repair { job: id, ranks: found.clone() });
        } else if let Some(lost) = &mut run.lost {
            lost.found.clone_from(&found);
        }
        for (_, held) in &found {
            self.keep(held.node);
        }
        if whole {
            self.stands_anew(slot);
            return true;
        }
        let alive = (0_u32..).zip(ranks).filter(|(rank, _)| lost.binary_search(rank).is_err());
        let held: Vec<Holding> = alive.chain(found).map(|(_, held)| held).collect();
        for held in &held {
            self.state.fleet.release(held);
        }
        let other = self.find(gang, View::Open).is_ok();
        for held in &held {
            self.state.fleet.occupy(held);
        }
        if other {
            self.stop(slot, Cause::Broken, actions);
        }
        other
    }

    /// Whether some of `nodes` are part of a torus and have accelerators that are wholly free.
    pub(super) fn chips_came_free(&self, nodes: &[NodeId]) -> bool {
        let fleet = &self.state.fleet;
        !fleet.tori().is_empty()
            && nodes.iter().any(|node| fleet.free_mask(*node) != 0 && fleet.torus_of(*node).is_some())
    }

    /// The box that is nearest to free for a gang, and who stands in it.
    pub(super) fn near_box(&self, gang: &Gang) -> Option<(NearBox, Vec<Holder>)> {
        let (busy, nodes) = nearest_box(&self.state.fleet, &smallest(gang))?;
        let mut slots: Vec<Slot> = nodes
            .iter()
            .filter_map(|node| self.state.owners.get(usize::try_from(node.0).ok()?))
            .flatten()
            .copied()
            .collect();
        slots.sort_unstable();
        slots.dedup();
        let mut holders: Vec<Holder> = Vec::new();
        for slot in slots {
            let Some(job) = self.state.jobs.get(slot) else { continue };
            let Phase::Running(run) = &job.phase else { continue };
            let here = run.ranks.iter().filter(|held| nodes.contains(&held.node));
            let accelerators = here.map(|held| held.mask.count_ones()).sum();
            holders.push(Holder { job: job.id, accelerators, ends: run.ends });
        }
        holders.sort_by_key(|holder| (std::cmp::Reverse(holder.accelerators), holder.job));
        Some((NearBox { nodes, busy }, holders))
    }

    /// Whether there is a place on the nodes in service once nothing runs, off those of `never`: for shapes of which counting
    /// does not tell.
    pub(super) fn shape_fits_empty(&self, gang: &Gang, never: &[NodeId]) -> bool {
        let mut fleet = self.state.fleet.emptied();
        for node in (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId) {
            let service = self.state.fleet.service(node);
            if !matches!(service, Service::Up | Service::Asleep) {
                fleet.set_service(node, service);
            }
        }
        let context = Context { view: View::All, warm: &[], never, wake: Wake::Freely, speeds: Speeds::UNKNOWN };
        self.placement.place(&fleet, &smallest(gang), &context).is_ok()
    }
}

/// Whether counting accelerators does not tell if a gang fits.
pub(super) const fn is_shaped(gang: &Gang) -> bool {
    matches!(gang.need.rails, Rails::Box(_) | Rails::Slice(_))
}

/// A box is all or nothing: it has no fewer ranks and no domain but its torus.
pub(super) fn rigid(gang: &Gang) -> Gang {
    match gang.need.rails {
        Rails::Box(_) => Gang { least_ranks: gang.need.ranks, need: Need { within: 0, ..gang.need }, ..*gang },
        Rails::Any | Rails::Aligned | Rails::Slice(_) => *gang,
    }
}

/// What must hold of the tori.
///
/// # Panics
/// If it does not.
pub(super) fn check_tori(fleet: &Fleet) {
    assert!(fleet.tori_agree(), "a torus is not as its nodes are");
}
