//! A plan for other programs: what it counts, as JSON or YAML. Quantities carry their unit in the key.

use dh_fabric::{Loss, SegmentKind};
use dh_units::Number;
use serde::{Serialize, Serializer};

use crate::cabling::CableRow;
use crate::findings::{Bottleneck, Finding};
use crate::networks::NetworkPlan;
use crate::plan::Plan;
use crate::pools::PoolPlan;
use crate::services::{PoolDemand, ServicePlan};
use crate::storage::StorePlan;
use crate::trainings::{TrainingPlan, Unfit};

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    pools: &'a [PoolPlan],
    networks: Vec<Network<'a>>,
    sites: Vec<Standing<'a>>,
    cables: &'a [CableRow],
    stores: &'a [StorePlan],
    failures: Option<&'a dh_facility::failures::Outlook>,
    trainings: &'a [TrainingPlan],
    unfit: &'a [Unfit],
    services: &'a [ServicePlan],
    demands: &'a [PoolDemand],
    findings: &'a [Finding],
    bottlenecks: &'a [Bottleneck],
    numbers: &'a [Number],
}

#[derive(Serialize)]
struct Network<'a> {
    name: &'a str,
    role: &'static str,
    site: &'a str,
    leaf: u64,
    spine: u64,
    core: u64,
    tiers: Vec<Tier<'a>>,
    segments: Vec<Segment>,
    cables: u64,
    bisection_bits_per_second: f64,
    bisection_ratio: f64,
    hops_worst: u32,
    hops_mean: Option<f64>,
    losses: Vec<Loss>,
}

#[derive(Serialize)]
struct Tier<'a> {
    role: &'static str,
    switch: &'a str,
    count: u64,
    ports_used: u64,
    ports_free: u64,
    power_watts: f64,
    price_usd: Option<f64>,
}

#[derive(Serialize)]
struct Segment {
    between: SegmentKind,
    links: u64,
    cables: u64,
    link_bits_per_second: f64,
}

#[derive(Serialize)]
struct Standing<'a> {
    site: &'a str,
    racks: u32,
    node_racks: u32,
    rows: u32,
    area_square_metres: f64,
}

fn network(plan: &NetworkPlan) -> Network<'_> {
    let (bisection, hops) = (plan.design.bisection(), plan.design.hops());
    Network {
        name: &plan.name,
        role: plan.role.word(),
        site: &plan.site,
        leaf: plan.design.count(dh_fabric::Role::Leaf),
        spine: plan.design.count(dh_fabric::Role::Spine),
        core: plan.design.count(dh_fabric::Role::Core),
        tiers: plan
            .design
            .tiers
            .iter()
            .map(|tier| Tier {
                role: tier.role.name(),
                switch: &tier.switch.name,
                count: tier.count,
                ports_used: tier.ports_used,
                ports_free: tier.ports_free,
                power_watts: tier.power.0,
                price_usd: tier.price.map(|price| price.0),
            })
            .collect(),
        segments: plan
            .design
            .segments
            .iter()
            .map(|segment| Segment {
                between: segment.kind,
                links: segment.links,
                cables: segment.cables,
                link_bits_per_second: segment.speed.0,
            })
            .collect(),
        cables: plan.design.segments.iter().map(|segment| segment.cables).sum(),
        bisection_bits_per_second: bisection.bandwidth.0,
        bisection_ratio: bisection.ratio,
        hops_worst: hops.worst,
        hops_mean: hops.mean,
        losses: plan.design.losses(),
    }
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let racks = self.floors.sites.iter().map(|site| Standing {
            site: &site.site,
            racks: site.floor.racks(),
            node_racks: site.floor.node_racks(),
            rows: site.floor.rows(),
            area_square_metres: site.floor.area_m2(),
        });
        Shown {
            name: &self.name,
            pools: &self.pools,
            networks: self.networks.iter().map(network).collect(),
            sites: racks.collect(),
            cables: &self.cables,
            stores: &self.stores,
            failures: self.failures.as_ref(),
            trainings: &self.trainings,
            unfit: &self.unfit,
            services: &self.services,
            demands: &self.demands,
            findings: &self.findings,
            bottlenecks: &self.bottlenecks,
            numbers: self.ledger.numbers(),
        }
        .serialize(serializer)
    }
}
