//! The blueprint's own work: trainings with the lengths that the plan predicts, services as gangs that stay.
//!
//! Invariant: jobs are numbered from 1, services first, each kind in the order of names. A training gets whole nodes of the
//! pool that the plan put it on, as many as services and the reserve leave it; on fewer it is longer in proportion.

use std::collections::BTreeMap;

use dh_blueprint::{Pretrain, Settings, Workload, WorkloadKind};
use dh_core::time::{SimTime, Span};
use dh_core::{JobId, NodeId};
use dh_hall::scheduler::{Gang, Grace, Submission};
use dh_plan::{Plan, TrainingPlan};
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};
use dh_units::{real, whole};

use super::{Site, shared, span};
use crate::kernel::{Arrival, Costs, Demand, Fate, Profile, Sharing, Work};

/// Priority of a service's replicas over batch work.
const SERVICE: i32 = 1_000;

/// What stops and starts cost jobs of which nothing is known. Stated assumptions: containers start in half a minute, loading
/// takes two, saving one, and work is saved every hour.
const COSTS: Costs = Costs {
    launch: Span::from_secs(30),
    restart: Span::from_secs(120),
    save: Span::from_secs(60),
    checkpoint_every: Span::from_secs(3_600),
};

/// The blueprint's own work.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Own {
    /// Its jobs, all at moment 0.
    pub arrivals: Vec<Arrival>,
    /// Their names.
    pub names: BTreeMap<JobId, String>,
    /// Replicas of each service.
    pub services: BTreeMap<String, Vec<JobId>>,
    /// Profiles; the first is that of jobs of which nothing is known.
    pub profiles: Vec<Profile>,
    /// What jobs of each profile ask of [`Site::resources`].
    pub demands: Vec<Vec<Demand>>,
    /// Thousandths of busy power that replicas draw, by job.
    pub loads: BTreeMap<u64, u32>,
    /// Names and bytes of data sets, by their number.
    pub datasets: Vec<(String, u64)>,
    /// What was left out and why.
    pub notes: Vec<String>,
}

impl Own {
    /// What jobs share, for the kernel.
    pub fn sharing(&self, site: &Site) -> Sharing {
        Sharing { resources: site.resources.clone(), demands: self.demands.clone() }
    }

    /// Accelerators that it holds in the mean of a time from the start, if it all starts at once.
    pub fn mean(&self, horizon: Span) -> u64 {
        let held = |arrival: &Arrival| {
            let need = arrival.submission.gang.need;
            let milli = u128::from(need.ranks) * u128::from(need.rank.demand());
            milli * u128::from(arrival.work.length.min(horizon).0)
        };
        let held: u128 = self.arrivals.iter().map(held).sum();
        u64::try_from(held / 1000 / u128::from(horizon.0.max(1))).unwrap_or(u64::MAX)
    }

    /// Services alone: a training may want the whole hall for months.
    #[must_use]
    pub fn only_services(mut self) -> Self {
        let Self { arrivals, names, loads, .. } = &mut self;
        arrivals.retain(|arrival| loads.contains_key(&arrival.submission.job.0));
        names.retain(|job, _| loads.contains_key(&job.0));
        self
    }

    /// The number of the first job that is not the blueprint's own.
    pub fn next(&self) -> u64 {
        u64::try_from(self.arrivals.len()).unwrap_or(u64::MAX) + 1
    }
}

/// Whole nodes of each pool that are still to be had.
struct Room(BTreeMap<usize, u64>);

impl Site {
    /// The blueprint's own work; services stay for `horizon`.
    pub fn own(&self, settings: &Settings, plan: &Plan, horizon: Span) -> Own {
        let general = Profile { speeds: self.speeds(&[]), costs: COSTS, ..Profile::default() };
        let mut own =
            Own { profiles: vec![general, Profile::default()], demands: vec![Vec::new(); 2], ..Own::default() };
        if self.classes.len() < 2 {
            own.profiles.iter_mut().for_each(|profile| profile.speeds.clear());
        }
        let mut room = Room(BTreeMap::new());
        for (place, pool) in plan.pools.iter().enumerate() {
            let first = self.first(plan, place);
            let here = first.map(|first| first..first.saturating_add(pool.nodes)).unwrap_or_default();
            let reserved = self.spares.iter().filter(|node| here.contains(&node.0)).count();
            let left = u64::from(pool.nodes).saturating_sub(u64::try_from(reserved).unwrap_or(u64::MAX));
            room.0.insert(place, if first.is_some() { left } else { 0 });
        }
        self.services(settings, plan, horizon, &mut room, &mut own);
        self.trainings(settings, plan, &mut room, &mut own);
        for (name, workload) in &settings.workloads {
            match workload.kind {
                WorkloadKind::Pretrain(_) => {}
                WorkloadKind::Train(_) | WorkloadKind::Command(_) => {
                    own.notes.push(format!("workload `{name}`: how long it runs is not known before it did"));
                }
            }
        }
        own
    }

    /// The first node of a pool, if it has any here.
    fn first(&self, plan: &Plan, pool: usize) -> Option<u32> {
        let pool = plan.pools.get(pool)?;
        let name = format!("{}-1", pool.name);
        self.nodes.iter().position(|node| *node == name).and_then(|at| u32::try_from(at).ok())
    }

    fn services(&self, settings: &Settings, plan: &Plan, horizon: Span, room: &mut Room, own: &mut Own) {
        for service in &plan.services {
            let Some(said) = settings.services.get(&service.name) else { continue };
            let pool = match &service.pool {
                Some(named) => plan.pools.iter().position(|pool| pool.name == *named),
                None => largest(settings, plan),
            };
            let Some((pool, first)) = pool.and_then(|pool| Some((pool, self.first(plan, pool)?))) else {
                own.notes.push(format!("service `{}`: no pool of the hall runs it", service.name));
                continue;
            };
            let (replicas, each, load) = match &service.best {
                Some(way) => {
                    let replicas = way.replicas.saturating_add(way.prefill_replicas).max(1);
                    let load = way.requests_per_second / way.capacity_per_second.max(f64::MIN_POSITIVE);
                    (replicas, way.accelerators.div_ceil(replicas), load)
                }
                None => (u64::from(said.replicas), u64::from(said.slots_per_replica), 1.0),
            };
            let slots = self.slots(NodeId(first)).max(1);
            let load = u32::try_from(whole((load.clamp(0.0, 1.0) * 1000.0).round())).unwrap_or(1000);
            for replica in 1..=replicas {
                let (ranks, per_rank) = (each.div_ceil(slots).max(1), each.min(slots));
                let job = JobId(own.next());
                let class = self.class_of(NodeId(first));
                let gang = self.gang(ranks, per_rank, class, Grace::Protected);
                let submission = Submission {
                    job,
                    gang,
                    queue: 0,
                    priority: SERVICE,
                    length: None,
                    attained: Span(0),
                    kind: 0,
                    since: SimTime(0),
                    deadline: None,
                };
                let work = Work { length: horizon, profile: 1, fate: Fate::Completed };
                own.arrivals.push(Arrival { at: SimTime(0), submission, work });
                own.names.insert(job, format!("{}-{replica}", service.name));
                own.loads.insert(job.0, load);
                own.services.entry(service.name.clone()).or_default().push(job);
            }
            // Replicas smaller than a node share one: so many nodes are not whole any more.
            let nodes = (replicas * each).div_ceil(slots);
            if let Some(left) = room.0.get_mut(&pool) {
                *left = left.saturating_sub(nodes);
            }
        }
    }

    fn trainings(&self, settings: &Settings, plan: &Plan, room: &mut Room, own: &mut Own) {
        for training in &plan.trainings {
            let Some(workload) = settings.workloads.get(&training.name) else { continue };
            let WorkloadKind::Pretrain(pretrain) = &workload.kind else { continue };
            let found = largest(settings, plan).and_then(|pool| Some((pool, self.first(plan, pool)?)));
            let Some((pool, first)) = found else { continue };
            let slots = self.slots(NodeId(first)).max(1);
            let per_rank = training.accelerators.min(slots).max(1);
            let wanted = training.accelerators.div_ceil(slots).max(1);
            let left = room.0.entry(pool).or_default();
            let ranks = wanted.min(*left);
            if ranks == 0 {
                own.notes
                    .push(format!("workload `{}`: services and the reserve leave it no whole node", training.name));
                continue;
            }
            if ranks < wanted {
                own.notes.push(format!(
                    "workload `{}`: it gets {ranks} of the {wanted} nodes it was planned on, and takes longer in proportion",
                    training.name
                ));
            }
            *left -= ranks;
            let run = Run { name: &training.name, training, pretrain, workload, ranks, wanted, per_rank };
            self.training(settings, plan, &run, self.class_of(NodeId(first)), own);
        }
        for unfit in &plan.unfit {
            own.notes.push(format!("workload `{}` cannot run: {}", unfit.name, unfit.why));
        }
    }

    fn training(&self, settings: &Settings, plan: &Plan, run: &Run<'_>, class: u8, own: &mut Own) {
        let job = JobId(own.next());
        let pause = run.training.interval.map_or(0.0, |every| run.training.checkpoint.0 / every.0.max(1e-9));
        let slower = real(run.wanted) / real(run.ranks);
        let length = span(run.training.time * ((1.0 + pause) * slower));
        let profile = u16::try_from(own.profiles.len()).unwrap_or(0);
        let restart = span(run.pretrain.restart);
        own.profiles.push(Profile {
            speeds: Vec::new(),
            costs: Costs {
                launch: restart,
                restart,
                save: span(run.training.checkpoint),
                checkpoint_every: run.training.interval.map_or(Span(0), |every| {
                    // The clock of checkpoints counts their own time too.
                    span(every * (1.0 + pause))
                }),
            },
            ..Profile::default()
        });
        own.demands.push(self.demands(settings, plan, run, pause));
        let dataset = own.dataset(run.pretrain);
        let gang = Gang { dataset, ..self.gang(run.ranks, run.per_rank, class, Grace::Preemptible) };
        let submission = Submission {
            job,
            gang: self.boxed(gang, run.workload, own),
            queue: self.queue(&run.workload.queue).unwrap_or(0),
            priority: 0,
            length: Some(length),
            attained: Span(0),
            kind: 0,
            since: SimTime(0),
            deadline: run.pretrain.deadline.map(|deadline| SimTime(0).after(span(deadline))),
        };
        own.arrivals.push(Arrival {
            at: SimTime(0),
            submission,
            work: Work { length, profile, fate: Fate::Completed },
        });
        own.names.insert(job, run.name.to_owned());
    }

    /// What a training asks of stores and networks: its checkpoints, spread over the time between them, and its exchange.
    fn demands(&self, settings: &Settings, plan: &Plan, run: &Run<'_>, pause: f64) -> Vec<Demand> {
        let at = |name: &str| {
            let place = self.resources.iter().position(|resource| resource.name == name);
            place.and_then(|place| u16::try_from(place).ok())
        };
        let mut demands = Vec::new();
        let state = plan.ledger.get(&format!("training.{}.failures.state", run.name));
        let state = state.and_then(|number| number.value.number()).unwrap_or(0.0);
        if let (Some(resource), Some(every)) = (at(&shared::write_of(&run.workload.store)), run.training.interval) {
            let per_second = state / (every.0 * (1.0 + pause)).max(1.0) / real(run.ranks);
            demands.push(Demand { resource, per_rank: whole(per_second), exposed: millionths(pause / (1.0 + pause)) });
        }
        let pool = largest(settings, plan).and_then(|pool| plan.pools.get(pool));
        for (name, fabric) in &settings.fabrics {
            let Some(resource) = at(&shared::uplinks_of(name)) else { continue };
            let node = pool
                .filter(|pool| fabric.pools.contains(&pool.name))
                .and_then(|pool| shared::node_bytes(settings, name, &pool.name));
            // What it needs of the network over what it has is taken as the part of its time in which it talks.
            if let (Some(node), Some(demand)) = (node, run.training.network_demand) {
                let per_rank = whole(node * demand.clamp(0.0, 1.0));
                demands.push(Demand { resource, per_rank, exposed: millionths(demand) });
            }
        }
        demands
    }

    fn class_of(&self, node: NodeId) -> u8 {
        let facts = usize::try_from(node.0).ok().and_then(|at| self.settings.nodes.get(at));
        facts.map_or(0, |facts| facts.class)
    }

    fn gang(&self, ranks: u64, per_rank: u64, class: u8, grace: Grace) -> Gang {
        let accelerators = u8::try_from(per_rank).unwrap_or(u8::MAX);
        let ranks = u32::try_from(ranks).unwrap_or(u32::MAX);
        // In a hall of one class, any will do.
        let models = if self.classes.len() > 1 { 1_u32 << class.min(31) } else { 0 };
        let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models };
        let need = Need { ranks, rank, within: 0, rails: Rails::Any };
        let rank_watts = self.rank_watts(accelerators, WHOLE);
        Gang { need, least_ranks: ranks, dataset: None, speeds: 0, rank_watts, grace }
    }
}

/// A training and what it gets.
struct Run<'a> {
    name: &'a str,
    training: &'a TrainingPlan,
    pretrain: &'a Pretrain,
    workload: &'a Workload,
    ranks: u64,
    wanted: u64,
    per_rank: u64,
}

/// A share in millionths.
fn millionths(share: f64) -> u32 {
    u32::try_from(whole((share.clamp(0.0, 1.0) * 1e6).round())).unwrap_or(1_000_000)
}

/// The pool that trainings run on, as the plan chooses it: that with the most accelerators, of equal ones the first by name;
/// where there is none, that with the most slots.
fn largest(settings: &Settings, plan: &Plan) -> Option<usize> {
    let slots = |name: &str| settings.pools.get(name).map_or(0, |pool| u64::from(pool.slots) * u64::from(pool.nodes));
    let size = |place: &usize| plan.pools.get(*place).map_or((0, 0), |pool| (pool.accelerators, slots(&pool.name)));
    (0..plan.pools.len()).reduce(|best, place| if size(&place) > size(&best) { place } else { best })
}
