//! Fewest nodes awake: nodes at work are filled first, then those that idle, and sleepers are woken last.
//!
//! The cost of a place is the sleepers that it wakes, then the idle nodes that it starts on, then the nodes that it uses: whole
//! nodes stay free, fall asleep, and stay so. Of domains in which that costs the same, the smallest is taken, then the
//! tightest. What a gang draws is the same everywhere; a power cap is kept before a place is looked for.
//!
//! Invariant: no place wakes fewer nodes, and none of those that wake no more starts on fewer idle ones; with ranks on the same
//! rails, first nodes at work are tried, then all that are awake, then all. Cost: a look at every node for each level.

use std::cmp::Reverse;

use dh_core::NodeId;

use super::topology::Topology;
use super::{Context, Misfit, Need, Placement, Rails, Share, Wake, misfit, rails, ranks_on};
use crate::fleet::{Domain, Fleet, Service};

#[derive(Debug)]
pub(super) struct Energy;

/// What a node is, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    AtWork,
    Idle,
    Asleep,
}

/// Sleepers that are woken, idle nodes that are started on, nodes at work that are used.
type Cost = (usize, usize, usize);

/// Which of two places is taken: the cheaper, then that in the smaller domain, then in the tighter.
type Rank = (Cost, Reverse<u8>, u64, Domain);

/// A node's room, by what the node is; the roomiest first.
type Rooms = [Vec<(u32, NodeId)>; 3];

impl Placement for Energy {
    fn name(&self) -> &'static str {
        "energy"
    }

    fn about(&self) -> &'static str {
        "fewest nodes awake: those at work first, then idle ones, and sleepers last"
    }

    fn place(&self, fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
        if need.rails == Rails::Aligned && rails::matter(need) {
            return aligned(fleet, need, context);
        }
        let mut best: Option<(Rank, Vec<Share>)> = None;
        for level in (need.within..=fleet.tree().last()).rev() {
            for domain in (0..fleet.tree().domains(level)).map(|number| Domain { level, number }) {
                if fleet.room(domain, &need.rank, context.view) < need.ranks {
                    continue;
                }
                let rooms = rooms(fleet, need, context, domain);
                let room = rooms.iter().flatten().map(|(ranks, _)| u64::from(*ranks)).sum();
                let Some((cost, shares)) = cheapest(&rooms, need.ranks) else { continue };
                let key = (cost, Reverse(level), room, domain);
                if best.as_ref().is_none_or(|(before, _)| key < *before) {
                    best = Some((key, shares));
                }
            }
        }
        let Some((_, mut shares)) = best else {
            return Err(misfit(fleet, need, context).unwrap_or(Misfit::Occupied {
                places: 0,
                ranks: need.ranks,
                level: need.within,
            }));
        };
        shares.sort_unstable_by_key(|share| share.node);
        Ok(shares)
    }
}

fn state(fleet: &Fleet, node: NodeId, context: &Context<'_>) -> State {
    match fleet.service(node) {
        Service::Asleep if context.wake == Wake::Last => State::Asleep,
        Service::Asleep | Service::Up | Service::Spare | Service::Drained | Service::Quarantined | Service::Down => {
            if fleet.idle(node) {
                State::Idle
            } else {
                State::AtWork
            }
        }
    }
}

fn rooms(fleet: &Fleet, need: &Need, context: &Context<'_>, domain: Domain) -> Rooms {
    let mut rooms: Rooms = Default::default();
    for node in fleet.tree().nodes_of(domain).map(NodeId) {
        let ranks = ranks_on(fleet, node, need, context);
        let of = match state(fleet, node, context) {
            State::AtWork => 0,
            State::Idle => 1,
            State::Asleep => 2,
        };
        if let Some(rooms) = rooms.get_mut(of).filter(|_| ranks > 0) {
            rooms.push((ranks, node));
        }
    }
    for rooms in &mut rooms {
        rooms.sort_unstable_by_key(|(ranks, node)| (Reverse(*ranks), *node));
    }
    rooms
}

/// The cheapest place for `ranks`: from the dearest nodes down, as many of each kind as are needed if all of the cheaper kinds
/// are used, the roomiest; then what is left over of them is given back by the cheapest.
fn cheapest(rooms: &Rooms, ranks: u32) -> Option<(Cost, Vec<Share>)> {
    let [at_work, idle, asleep] = rooms;
    let sum = |rooms: &[(u32, NodeId)]| rooms.iter().map(|(ranks, _)| u64::from(*ranks)).sum::<u64>();
    let wanted = u64::from(ranks);
    let woken = roomiest(asleep, wanted.saturating_sub(sum(at_work) + sum(idle)))?;
    let started = roomiest(idle, wanted.saturating_sub(sum(at_work) + sum(woken)))?;
    let used = roomiest(at_work, wanted.saturating_sub(sum(started) + sum(woken)))?;
    let mut left = ranks;
    let mut shares = Vec::new();
    // The dearest are filled; of the last kind the last piece goes where it fits tightest.
    for chosen in [woken, started] {
        for (room, node) in chosen {
            take(&mut shares, &mut left, *room, *node);
        }
    }
    for (at, (room, node)) in used.iter().enumerate() {
        if at + 1 == used.len() {
            let rest = at_work.get(at..).unwrap_or_default().iter();
            let tightest = rest.filter(|(room, _)| *room >= left).min();
            let (room, node) = tightest.copied().unwrap_or((*room, *node));
            take(&mut shares, &mut left, room, node);
        } else {
            take(&mut shares, &mut left, *room, *node);
        }
    }
    (left == 0).then_some(((woken.len(), started.len(), used.len()), shares))
}

fn take(shares: &mut Vec<Share>, left: &mut u32, room: u32, node: NodeId) {
    let ranks = room.min(*left);
    if ranks > 0 {
        shares.push(Share { node, ranks, accelerators: 0 });
        *left -= ranks;
    }
}

/// The fewest of `rooms`, which are sorted, that hold `wanted`.
fn roomiest(rooms: &[(u32, NodeId)], wanted: u64) -> Option<&[(u32, NodeId)]> {
    let (mut held, mut count) = (0, 0);
    while held < wanted {
        held += u64::from(rooms.get(count)?.0);
        count += 1;
    }
    rooms.get(..count)
}

/// On the same rails: among nodes at work, then among all that are awake, then among all.
fn aligned(fleet: &Fleet, need: &Need, context: &Context<'_>) -> Result<Vec<Share>, Misfit> {
    let nodes = || (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(NodeId);
    for most in [State::AtWork, State::Idle] {
        let dearer = |node: &NodeId| state(fleet, *node, context) > most || context.never.binary_search(node).is_ok();
        let never: Vec<NodeId> = nodes().filter(dearer).collect();
        if let Ok(shares) = Topology.place(fleet, need, &Context { never: &never, ..*context }) {
            return Ok(shares);
        }
    }
    Topology.place(fleet, need, context)
}
