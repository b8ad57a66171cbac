//! Consolidation: which jobs would have to move for a waiting gang to start, or for nodes to come free, and at what price.
//!
//! A plan is an answer, not an act: nothing moves until somebody says [`super::Event::Apply`] with the plan's number, and a plan that
//! the scheduler would not make at that moment is stale, which is said, and changes nothing. The number follows from who goes where, so a log
//! of events replays it.
//!
//! Invariants: each job that moves has its new place before it is told to stop, on what is free and not kept for others: it is
//! its own from then on. If a node of it has left service by the time the job comes back, the job waits like any other. A job
//! that moves is preemptible, runs whole, and goes whole.
//!
//! Price: accelerator-seconds: what each job did since its work was last safe, and a restart. Cost: a copy of the nodes that
//! shares what does not change, the running jobs once, and a placement for each job of a plan that is tried; at most
//! [`TRIES`] plans.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use dh_core::{JobId, NodeId};
use dh_policy::fleet::{Domain, Fleet, Holding, Level, Service, View};
use dh_policy::packing::WHOLE;
use dh_policy::placement::{Context, Need, Share, Wake};
use dh_policy::preemption::{Victim, search};
use serde::{Deserialize, Serialize};

use super::Scheduler;
use super::displace;
use super::event::{Action, Cause, Gang, Grace, Stale};
use super::job::{Job, Mix, Phase, Run, Slot};
use super::run::smallest;

/// What a stop and a start cost, seconds of each accelerator.
const RESTART: u64 = 60;

/// Plans that are tried until one can be carried out.
const TRIES: usize = 16;

/// Domains that are looked at beyond those that come free.
const LOOKED_AT: usize = 64;

/// What a consolidation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "goal")]
pub enum Goal {
    /// A waiting job starts. It must be the first of those of its queue that ask for the same.
    Start {
        /// The job.
        job: JobId,
    },
    /// Nodes on which something runs come free, for instance to sleep: the cheapest, at most so many.
    FreeNodes {
        /// How many.
        nodes: u32,
    },
    /// Domains of a level come free, such as racks: the cheapest, at most so many.
    FreeDomains {
        /// The level.
        level: Level,
        /// How many.
        domains: u32,
    },
}

/// A running job goes from some nodes to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The job.
    pub job: JobId,
    /// What each rank holds.
    pub from: Vec<Holding>,
    /// What each rank will hold; free at this moment.
    pub to: Vec<Holding>,
    /// What it costs, accelerator-seconds: work since the last checkpoint, and a restart.
    pub price: u64,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "gain")]
pub enum Gain {
    /// A job starts.
    Starts {
        /// The job.
        job: JobId,
        /// What each of its ranks will hold.
        ranks: Vec<Holding>,
    },
    /// Nodes come free.
    Frees {
        /// Them, ascending.
        nodes: Vec<NodeId>,
    },
}

/// Moves, what they cost and what comes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Its number: who goes where. The same plan has the same number.
    pub id: u64,
    /// What it is for.
    pub goal: Goal,
    /// The moves.
    pub moves: Vec<Move>,
    /// What they cost together, accelerator-seconds.
    pub price: u64,
    /// What comes of them.
    pub gain: Gain,
}

/// What jobs that were told to move will hold.
pub(super) type Moving = BTreeMap<Slot, Vec<Holding>>;

impl Scheduler {
    /// The cheapest moves found that reach `goal`; `None` if there is none, or nothing has to move. Nothing is changed.
    pub fn consolidate(&self, goal: Goal) -> Option<Plan> {
        let (moves, gain) = match goal {
            Goal::Start { job } => self.moves_to_start(job)?,
            Goal::FreeNodes { nodes } => self.moves_to_free(self.state.fleet.tree().last() + 1, nodes)?,
            Goal::FreeDomains { level, domains } => {
                self.moves_to_free(level.min(self.state.fleet.tree().last()), domains)?
            }
        };
        let mut mix = Mix::default();
        goal.hash(&mut mix);
        for each in &moves {
            (each.job, &each.from, &each.to).hash(&mut mix);
        }
        if let Gain::Starts { ranks, .. } = &gain {
            ranks.hash(&mut mix);
        }
        let price = moves.iter().fold(0, |sum: u64, each| sum.saturating_add(each.price));
        Some(Plan { id: mix.finish(), goal, moves, price, gain })
    }

    /// Carries a plan out, unless it is stale.
    pub(super) fn apply_plan(&mut self, goal: Goal, id: u64, actions: &mut Vec<Action>) {
        let plan = match self.consolidate(goal) {
            Some(plan) if plan.id == id => plan,
            present => {
                let because = self.stale(goal, present.map(|plan| plan.id));
                actions.push(Action::NotApplied { goal, plan: id, because });
                return;
            }
        };
        let victims: Vec<JobId> = plan.moves.iter().map(|each| each.job).collect();
        for each in plan.moves {
            let Some(slot) = self.state.jobs.slot(each.job) else { continue };
            for held in &each.to {
                self.state.fleet.occupy(held);
                self.settle(held.node);
            }
            self.state.moving.insert(slot, each.to);
            if let Goal::FreeNodes { .. } | Goal::FreeDomains { .. } = goal {
                self.stop(slot, Cause::Moved, actions);
            }
        }
        if let Gain::Starts { job, ranks } = plan.gain
            && let Some(slot) = self.state.jobs.slot(job)
            && let Some(Phase::Waiting { group }) = self.state.jobs.get(slot).map(|job| &job.phase)
        {
            let group = *group;
            self.state.displacing.take_hope(group);
            self.state.lines.pop(&mut self.state.jobs, group);
            self.claim(slot, displace::Plan { ranks, victims, keeps: Vec::new() }, actions);
            self.new_head(group);
        }
    }

    /// Why a plan is not carried out, where `present` would be made now.
    fn stale(&self, goal: Goal, present: Option<u64>) -> Stale {
        if let Some(by) = present {
            return Stale::Replaced { by };
        }
        let Goal::Start { job } = goal else { return Stale::NoPlan };
        let slot = self.state.jobs.slot(job);
        let waits =
            |slot: &Slot| self.state.jobs.get(*slot).is_some_and(|job| matches!(job.phase, Phase::Waiting { .. }));
        let Some(slot) = slot.filter(waits) else { return Stale::NotWaiting };
        let kept = self.state.reservations.nodes_of_others(job);
        match self.gang(slot).map(|gang| self.find_off(gang, View::All, &kept)) {
            Some(Ok(_)) => Stale::Fits,
            Some(Err(_)) | None => Stale::NoPlan,
        }
    }

    /// A job that was told to move is gone from where it was: whether it goes on in its new place.
    pub(super) fn arrive(&mut self, slot: Slot, to: Vec<Holding>, actions: &mut Vec<Action>) -> Arrived {
        let serves = |held: &Holding| matches!(self.state.fleet.service(held.node), Service::Up | Service::Asleep);
        if !to.iter().all(serves) {
            self.give_back(slot, &to);
            return Arrived::Nowhere;
        }
        self.guess(slot);
        self.charge(slot, to.len());
        self.run(slot, to, actions);
        Arrived::There
    }

    fn moves_to_start(&self, id: JobId) -> Option<(Vec<Move>, Gain)> {
        let slot = self.state.jobs.slot(id)?;
        let Phase::Waiting { group } = self.state.jobs.get(slot)?.phase else { return None };
        if self.state.lines.top(group) != Some(slot) {
            return None;
        }
        let gang = *self.gang(slot)?;
        self.admits(slot, &gang).ok()?;
        let kept: Vec<NodeId> = self.state.reservations.nodes_of_others(id);
        if self.find_off(&gang, View::All, &kept).is_ok() {
            return None;
        }
        let need = smallest(&gang);
        let movable = self.movable();
        let mut stays: BTreeSet<JobId> = BTreeSet::new();
        // Whoever turns out to have no other place stays, and the next best are looked for.
        for _ in 0..TRIES {
            let offered = movable.iter().filter(|(.., job, _)| !stays.contains(job));
            let offered = offered.map(|(seconds, _, job, run)| Victim {
                job: *job,
                price: seconds.saturating_mul(accelerators(&run.ranks).max(1)),
                held: &run.ranks,
            });
            let victims = search(&self.state.fleet, &need, View::All, offered).victims?;
            // What the gang will hold once they are gone, on a copy.
            let mut after = self.state.fleet.clone();
            for held in victims.iter().filter_map(|job| self.ranks(*job)).flatten() {
                after.release(held);
            }
            let (warm, speeds) = (self.warm_nodes(&gang), self.speeds(&gang));
            let context = Context { view: View::All, warm, never: &kept, wake: Wake::Last, speeds };
            let shares = self.placement.place(&after, &need, &context).ok()?;
            let ranks = take(&mut after, &gang, &shares)?;
            // Places for the victims, on what is free while they are still there.
            let mut present = self.state.fleet.clone();
            for piece in ranks.iter().flat_map(|rank| present.free_of(rank)).collect::<Vec<_>>() {
                present.occupy(&piece);
            }
            match self.places(&mut present, &victims, &[]) {
                Ok(moves) => return Some((moves, Gain::Starts { job: id, ranks })),
                Err(stuck) => stays.insert(stuck),
            };
        }
        None
    }

    fn moves_to_free(&self, level: Level, wanted: u32) -> Option<(Vec<Move>, Gain)> {
        let tree = self.state.fleet.tree();
        let nodes_of = |number: u32| {
            if level > tree.last() { number..number.saturating_add(1) } else { tree.nodes_of(Domain { level, number }) }
        };
        let domains =
            if level > tree.last() { u32::try_from(tree.nodes()).unwrap_or(u32::MAX) } else { tree.domains(level) };
        let mut cheapest: Vec<(u64, u32)> = (0..domains)
            .filter_map(|number| {
                let owners = self.owners_of(nodes_of(number));
                let price = owners.iter().try_fold(0_u64, |sum, slot| {
                    let (seconds, run) = self.may_move(*slot)?;
                    Some(sum.saturating_add(seconds.saturating_mul(accelerators(&run.ranks).max(1))))
                })?;
                (!owners.is_empty()).then_some((price, number))
            })
            .collect();
        cheapest.sort_unstable();
        let mut present = self.state.fleet.clone();
        let (mut moves, mut freed): (Vec<Move>, Vec<NodeId>) = (Vec::new(), Vec::new());
        let mut moved: BTreeSet<Slot> = BTreeSet::new();
        let (mut count, wanted) = (0, usize::try_from(wanted).unwrap_or(usize::MAX));
        for (_, number) in cheapest.into_iter().take(wanted.saturating_add(LOOKED_AT)) {
            if count >= wanted {
                break;
            }
            let nodes: Vec<NodeId> = nodes_of(number).map(NodeId).collect();
            // Nobody may come to stand on nodes that are to be free, and nobody who moved here may have to go on.
            if moves.iter().flat_map(|each: &Move| &each.to).any(|held| nodes.contains(&held.node)) {
                continue;
            }
            let owners = self.owners_of(nodes_of(number));
            let goes: Vec<JobId> = owners
                .iter()
                .filter(|slot| !moved.contains(slot))
                .filter_map(|slot| self.state.jobs.get(*slot))
                .map(|job| job.id)
                .collect();
            let mut never: Vec<NodeId> = freed.iter().chain(&nodes).copied().collect();
            never.sort_unstable();
            let mut trial = present.clone();
            let Ok(more) = self.places(&mut trial, &goes, &never) else { continue };
            let mut left = self.state.fleet.clone();
            for held in owners.iter().filter_map(|slot| self.state.jobs.get(*slot)?.run()).flat_map(|run| &run.ranks) {
                left.release(held);
            }
            if !nodes.iter().all(|node| left.idle(*node)) {
                continue;
            }
            present = trial;
            moves.extend(more);
            moved.extend(owners);
            freed.extend(nodes);
            count += 1;
        }
        freed.sort_unstable();
        (!moves.is_empty()).then_some((moves, Gain::Frees { nodes: freed }))
    }

    /// New places for jobs on what `present` has free, off what is kept and off `never`, which is sorted. Those that are hardest
    /// to place go first; if one has none, that one is the error.
    fn places(&self, present: &mut Fleet, jobs: &[JobId], never: &[NodeId]) -> Result<Vec<Move>, JobId> {
        let mut never: Vec<NodeId> =
            self.state.reservations.kept.iter().map(|kept| kept.node).chain(never.iter().copied()).collect();
        never.sort_unstable();
        never.dedup();
        let mut hardest: Vec<(std::cmp::Reverse<u64>, JobId)> =
            jobs.iter().map(|job| (std::cmp::Reverse(self.ranks(*job).map_or(0, accelerators)), *job)).collect();
        hardest.sort_unstable();
        let mut moves = Vec::with_capacity(jobs.len());
        for (_, id) in hardest {
            let mut place = || {
                let slot = self.state.jobs.slot(id)?;
                let (seconds, run) = self.may_move(slot)?;
                let gang = self.gang(slot)?;
                let need = Need { ranks: u32::try_from(run.ranks.len()).ok()?, ..gang.need };
                let (warm, speeds) = (self.warm_nodes(gang), self.speeds(gang));
                let context = Context { view: View::All, warm, never: &never, wake: Wake::Last, speeds };
                let shares = self.placement.place(present, &need, &context).ok()?;
                let to = take(present, gang, &shares)?;
                let price = seconds.saturating_mul(accelerators(&run.ranks));
                Some(Move { job: id, from: run.ranks.clone(), to, price })
            };
            moves.push(place().ok_or(id)?);
        }
        Ok(moves)
    }

    /// Jobs with something on some nodes, ascending.
    fn owners_of(&self, nodes: std::ops::Range<u32>) -> BTreeSet<Slot> {
        let owners = nodes.filter_map(|node| self.state.owners.get(usize::try_from(node).ok()?));
        owners.flatten().copied().collect()
    }

    /// Running jobs that may move, cheapest for each accelerator first, with the seconds that each of those loses.
    fn movable(&self) -> Vec<(u64, Slot, JobId, &Run)> {
        let end = u32::try_from(self.state.fleet.len()).unwrap_or(u32::MAX);
        let mut able: Vec<(u64, Slot, JobId, &Run)> = self
            .owners_of(0..end)
            .into_iter()
            .filter_map(|slot| {
                let (seconds, run) = self.may_move(slot)?;
                Some((seconds, slot, self.state.jobs.get(slot)?.id, run))
            })
            .collect();
        able.sort_unstable_by_key(|(seconds, slot, ..)| (*seconds, *slot));
        able
    }

    /// What a running job would lose for each accelerator if it moved, seconds; `None` if it must not.
    fn may_move(&self, slot: Slot) -> Option<(u64, &Run)> {
        let job: &Job = self.state.jobs.get(slot)?;
        let run = job.run()?;
        let whole = !run.stopping && run.lost.is_none() && !job.cancelled;
        let may = self.gang(slot)?.grace == Grace::Preemptible && !self.shares(slot);
        (whole && may).then(|| (self.since(run.safe).as_secs().saturating_add(RESTART), run))
    }

    /// What must hold of jobs that move.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check_moving(&self) {
        for slot in self.state.moving.keys() {
            let run = self.state.jobs.get(*slot).and_then(Job::run);
            assert!(run.is_some_and(|run| run.stopping), "slot {slot} moves and does not stop");
        }
    }

    /// What a job that moves will hold, which is its own already.
    pub(super) fn will_hold(&self, slot: Slot) -> impl Iterator<Item = Holding> {
        self.state.moving.get(&slot).into_iter().flatten().copied()
    }
}

/// Whether a job that moved is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    There,
    Nowhere,
}

/// Accelerators that ranks hold, parts as the parts that they are, rounded up.
fn accelerators(ranks: &[Holding]) -> u64 {
    let milli = |held: &Holding| u64::from(held.mask.count_ones()) * u64::from(held.milli);
    ranks.iter().map(milli).sum::<u64>().div_ceil(u64::from(WHOLE))
}

/// Takes what the ranks of a gang need, on a copy of the fleet.
fn take(fleet: &mut Fleet, gang: &Gang, shares: &[Share]) -> Option<Vec<Holding>> {
    let mut ranks = Vec::new();
    for share in shares {
        for rank in 0..share.ranks {
            let wanted = share.of_rank(rank, gang.need.rank.accelerators);
            ranks.push(fleet.take(share.node, &gang.need.rank, wanted)?);
        }
    }
    Some(ranks)
}
