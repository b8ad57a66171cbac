//! What a hall draws at every moment: idle nodes, busy ranks, sleeping nodes, storage and networks, and the building on top.
//!
//! Invariant: what is added when a rank starts is taken away when it stops, in whole microwatts, so that sums do not drift
//! however long a run is. Cost: a few additions for each rank that starts or stops, one for each node that changes.

use std::collections::BTreeMap;

use dh_blueprint::Settings;
use dh_core::SimTime;
use dh_hall::scheduler::Scheduler;
use dh_plan::Plan;
use dh_policy::fleet::{Holding, Service};
use dh_units::{Watts, real, whole};

use crate::kernel::{Happening, Observer};
use crate::measure::Power;
use dh_hall::layout::Layout;

/// Share of its rating that a node with accelerators draws doing nothing, where neither blueprint nor catalogue says. Stated
/// assumption: fans, processors and switches of an eight-accelerator node at rest.
const IDLE: f64 = 0.2;

/// What a sleeping node draws: its management controller. Stated assumption.
const ASLEEP: Watts = Watts(20.0);

/// Power of one kind of node, microwatts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    idle: u64,
    busy: u64,
    asleep: u64,
    slots: u64,
    building: usize,
}

/// What is drawn when.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerModel {
    kinds: Vec<Kind>,
    /// The kind of each node.
    of: Vec<u16>,
    /// Each building: what it draws whatever runs (microwatts), and its power usage effectiveness.
    buildings: Vec<(u64, f64)>,
}

fn micro(watts: Watts) -> u64 {
    whole((watts.0.max(0.0) * 1e6).round())
}

fn watts(micro: u64) -> Watts {
    Watts(real(micro) / 1e6)
}

/// The power of a plan's hall.
pub(super) fn model(settings: &Settings, plan: &Plan, drafted: &Layout, notes: &mut Vec<String>) -> PowerModel {
    let names: Vec<&String> = settings.sites.keys().collect();
    let building = |name: &str| names.iter().position(|known| *known == name).unwrap_or(0);
    let mut buildings: Vec<(u64, f64)> = settings.sites.values().map(|site| (0, site.pue)).collect();
    let mut add = |site: &str, power: Watts| {
        if let Some((base, _)) = buildings.get_mut(building(site)) {
            *base += micro(power);
        }
    };
    let mut kinds = Vec::new();
    for pool in &plan.pools {
        let Some(said) = settings.pools.get(&pool.name) else { continue };
        if said.slots == 0 {
            add(&pool.site, pool.expected * f64::from(pool.nodes));
        }
        let item = said.item(&settings.catalog);
        let known = said.idle.or_else(|| item.as_ref().and_then(|item| item.idle.as_ref()).map(|idle| idle.value));
        if known.is_none() && said.slots > 0 {
            notes.push(format!("idle power of pool `{}` is not known; {IDLE} of its rating is assumed", pool.name));
        }
        let idle = known.unwrap_or(pool.rated * IDLE);
        let busy = Watts(pool.expected.0.max(idle.0));
        let asleep = Watts(ASLEEP.0.min(idle.0));
        kinds.push(Kind {
            idle: micro(idle),
            busy: micro(busy),
            asleep: micro(asleep),
            slots: u64::from(said.slots.max(1)),
            building: building(&pool.site),
        });
    }
    for network in &plan.networks {
        let number = |end: &str| {
            let number = plan.ledger.get(&format!("network.{}.{end}", network.name));
            Watts(number.and_then(|number| number.value.number()).unwrap_or(0.0))
        };
        for end in ["power", "cables.power", "managers.power"] {
            add(&network.site, number(end));
        }
    }
    let of = drafted.pools.iter().map(|pool| u16::try_from(*pool).unwrap_or(u16::MAX)).collect();
    PowerModel { kinds, of, buildings }
}

impl PowerModel {
    fn kind(&self, node: usize) -> Option<&Kind> {
        self.kinds.get(usize::from(*self.of.get(node)?))
    }

    /// What is left for gangs under a cap on all computers, when all nodes are idle, watts.
    pub(super) fn left_under(&self, cap: Watts, notes: &mut Vec<String>) -> u64 {
        let idle: u64 = (0..self.of.len()).filter_map(|node| self.kind(node)).map(|kind| kind.idle).sum();
        let base: u64 = self.buildings.iter().map(|(base, _)| *base).sum();
        let left = micro(cap).saturating_sub(idle.saturating_add(base));
        if left == 0 {
            notes.push("the power cap is below what the hall draws when nothing runs: no job can start".to_owned());
        }
        left / 1_000_000
    }

    /// What a rank draws on top of an idle node, on the kind that draws most, in whole watts rounded up.
    pub(super) fn rank_watts(&self, accelerators: u8, milli: u16) -> u32 {
        let held = u64::from(accelerators) * u64::from(milli);
        let used = self.of.iter().copied().fold(0_u64, |most, kind| most.max(u64::from(kind)));
        let kinds = self.kinds.iter().take(usize::try_from(used).unwrap_or(0) + 1);
        let most = kinds.map(|kind| kind.on_top(held)).max().unwrap_or(0);
        u32::try_from(most.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }

    /// What the hall draws when all nodes are up and nothing runs.
    pub fn idle(&self) -> Power {
        Drawn::new(self, BTreeMap::new()).power()
    }

    /// What it draws when all accelerators are busy.
    pub fn full(&self) -> Power {
        let mut drawn = Drawn::new(self, BTreeMap::new());
        for node in 0..self.of.len() {
            if let (Some(kind), Some(at)) =
                (self.kind(node), self.kind(node).and_then(|kind| drawn.now.get_mut(kind.building)))
            {
                *at += kind.busy - kind.idle;
            }
        }
        drawn.power()
    }
}

impl Kind {
    /// What `held` thousandths of accelerators draw on top of the idle node.
    fn on_top(&self, held: u64) -> u64 {
        (self.busy - self.idle).saturating_mul(held) / (self.slots * 1000)
    }

    /// What the node would draw on top if it were idle.
    fn kept(&self, service: Service) -> u64 {
        match service {
            Service::Asleep => self.idle.saturating_sub(self.asleep),
            Service::Up | Service::Spare | Service::Drained | Service::Quarantined | Service::Down => 0,
        }
    }

    fn standing(&self, service: Service) -> u64 {
        match service {
            Service::Up | Service::Spare | Service::Drained | Service::Quarantined => self.idle,
            Service::Asleep => self.asleep,
            Service::Down => 0,
        }
    }
}

/// What is drawn at this moment, kept up to date with what happens.
#[derive(Debug, Clone)]
pub struct Drawn<'a> {
    model: &'a PowerModel,
    /// Of each building, microwatts.
    now: Vec<u64>,
    services: Vec<Service>,
    /// Of each building, what its sleeping nodes would draw on top if they were idle, microwatts.
    saved: Vec<u64>,
    /// Thousandths of busy power that a job draws, where that is not all of it, by job.
    loads: BTreeMap<u64, u32>,
    /// Millionths of the accelerators' time, of those that share them.
    shares: BTreeMap<u64, u64>,
}

impl<'a> Drawn<'a> {
    /// All nodes up, nothing runs. `loads` are thousandths of busy power of jobs that are not as busy as others: services.
    pub fn new(model: &'a PowerModel, loads: BTreeMap<u64, u32>) -> Self {
        let mut now: Vec<u64> = model.buildings.iter().map(|(base, _)| *base).collect();
        for node in 0..model.of.len() {
            let Some(kind) = model.kind(node) else { continue };
            if let Some(at) = now.get_mut(kind.building) {
                *at += kind.idle;
            }
        }
        Self {
            model,
            now,
            services: vec![Service::Up; model.of.len()],
            saved: vec![0; model.buildings.len()],
            loads,
            shares: BTreeMap::new(),
        }
    }

    /// Something happened.
    pub fn happened(&mut self, what: &Happening<'_>) {
        match what {
            Happening::Started { job, ranks, .. } => self.ranks(job.job.0, ranks, |now, by| *now += by),
            Happening::Stopped { job, ranks, .. } | Happening::Ended { job, ranks, .. } => {
                self.ranks(job.job.0, ranks, |now, by| *now = now.saturating_sub(by));
                self.shares.remove(&job.job.0);
            }
            // Accelerators that several jobs keep busy draw what one draws that does.
            Happening::Shares { job, ranks, share, .. } => {
                self.ranks(job.job.0, ranks, |now, by| *now = now.saturating_sub(by));
                self.shares.insert(job.job.0, *share);
                self.ranks(job.job.0, ranks, |now, by| *now += by);
            }
            Happening::Node { node, service } => {
                let Ok(node) = usize::try_from(node.0) else { return };
                let (Some(kind), Some(before)) = (self.model.kind(node), self.services.get_mut(node)) else { return };
                if let Some(now) = self.now.get_mut(kind.building) {
                    *now = (*now + kind.standing(*service)).saturating_sub(kind.standing(*before));
                }
                if let Some(saved) = self.saved.get_mut(kind.building) {
                    *saved = (*saved + kind.kept(*service)).saturating_sub(kind.kept(*before));
                }
                *before = *service;
            }
            Happening::Submitted(_) | Happening::Refused(..) | Happening::Unfinished { .. } => {}
        }
    }

    fn ranks(&mut self, job: u64, ranks: &[Holding], change: impl Fn(&mut u64, u64)) {
        let load = u64::from(self.loads.get(&job).copied().unwrap_or(1000));
        let share = self.shares.get(&job).copied().unwrap_or(1_000_000);
        for held in ranks {
            let kind = usize::try_from(held.node.0).ok().and_then(|node| self.model.kind(node));
            let Some(kind) = kind else { continue };
            let milli = u64::from(held.mask.count_ones()) * u64::from(held.milli);
            if let Some(now) = self.now.get_mut(kind.building) {
                change(now, kind.on_top(milli) * load / 1000 * share / 1_000_000);
            }
        }
    }

    /// What is drawn.
    pub fn power(&self) -> Power {
        let mut power = Power::default();
        for ((now, saved), (_, pue)) in self.now.iter().zip(&self.saved).zip(&self.model.buildings) {
            power.it += watts(*now);
            power.facility += watts(*now) * *pue;
            power.saved += watts(*saved) * *pue;
        }
        power
    }
}

/// Tells somebody what is drawn, at moment 0 and whenever it changes.
#[derive(Debug)]
pub struct Metered<'a, F: FnMut(SimTime, Power)> {
    drawn: Drawn<'a>,
    told: Power,
    tell: F,
}

impl<'a, F: FnMut(SimTime, Power)> Metered<'a, F> {
    /// Tells `tell` what `drawn` comes to, from now on.
    pub fn new(drawn: Drawn<'a>, mut tell: F) -> Self {
        let told = drawn.power();
        tell(SimTime(0), told);
        Self { drawn, told, tell }
    }
}

impl<F: FnMut(SimTime, Power)> Observer for Metered<'_, F> {
    fn happened(&mut self, _: SimTime, what: Happening<'_>, _: &Scheduler) {
        self.drawn.happened(&what);
    }

    fn settled(&mut self, now: SimTime, _: &Scheduler) {
        let power = self.drawn.power();
        if self.told != power {
            self.told = power;
            (self.tell)(now, power);
        }
    }
}
