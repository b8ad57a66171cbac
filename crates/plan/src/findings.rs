//! What a plan says aloud: what cannot be, what is tight, what breaks first.

use dh_blueprint::Settings;
use dh_facility::failures::Outlook;
use dh_units::significant;
use serde::Serialize;

use crate::floors::Floors;
use crate::pools::PoolPlan;
use crate::power::SitePower;
use crate::reliability;
use crate::services::{PoolDemand, ServicePlan};
use crate::storage::StorePlan;
use crate::trainings::{TrainingPlan, Unfit};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// What the blueprint asks for cannot be had.
    Infeasible,
    /// It works and somebody should know.
    Warning,
}

/// One thing that a plan says aloud.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How serious it is.
    pub weight: Weight,
    /// In one sentence.
    pub text: String,
    /// The number that says so, for `--why`.
    pub number: String,
}

/// A need beside what there is to meet it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bottleneck {
    /// What is needed, of what.
    pub what: String,
    /// Need over supply; above 1 it is not met.
    pub demand: f64,
    /// The number that says so, for `--why`.
    pub number: String,
}

/// What there is to say things about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) powers: &'a [SitePower],
    pub(crate) floors: &'a Floors,
    pub(crate) stores: &'a [StorePlan],
    pub(crate) trainings: &'a [TrainingPlan],
    pub(crate) unfit: &'a [Unfit],
    pub(crate) services: &'a [ServicePlan],
    pub(crate) demands: &'a [PoolDemand],
    pub(crate) hall: Option<&'a Outlook>,
    pub(crate) missing_prices: &'a [String],
    pub(crate) missing_powers: &'a [String],
    /// Fabric, number and kind of cables between ports of twisted pair that twisted pair does not reach.
    pub(crate) long_copper: &'a [(String, u64, String)],
}

/// What cannot be, then what somebody should know.
pub(crate) fn findings(facts: Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |weight, text: String, number: String| found.push(Finding { weight, text, number });
    sites(facts, &mut say);
    if let Some(cap) = facts.settings.policy.power_cap {
        let drawn: dh_units::Watts = facts.powers.iter().map(|site| site.power.expected).sum();
        let it: dh_units::Watts = facts.powers.iter().map(|site| site.power.it_expected).sum();
        if it > cap {
            let text = format!(
                "computers draw {it} at work, the policy caps them at {cap}: {} of the hall stands still ({} with the buildings)",
                percent(1.0 - cap / it),
                drawn
            );
            say(Weight::Warning, text, "power.it.expected".to_owned());
        }
    }
    for unfit in facts.unfit {
        say(
            Weight::Infeasible,
            format!("workload `{}` cannot run: {}", unfit.name, unfit.why),
            "count.accelerators".to_owned(),
        );
    }
    for training in facts.trainings {
        if let Some(deadline) = training.deadline
            && training.effective_time > deadline
        {
            let text = format!(
                "workload `{}` takes {} with interruptions and must be done in {deadline}; about {} times the accelerators would do",
                training.name,
                training.effective_time,
                significant(training.effective_time / deadline)
            );
            say(Weight::Infeasible, text, format!("training.{}.effective_time", training.name));
        }
        if let (Some(budget), Some(cost)) = (training.budget, training.cost)
            && cost > budget
        {
            let text = format!("workload `{}` costs {cost} with interruptions and may cost {budget}", training.name);
            say(Weight::Infeasible, text, format!("training.{}.cost", training.name));
        }
        if let Some(why) = &training.unpredicted {
            let text = format!(
                "the layout of workload `{}` is not predicted: {why}; its time is that of a usual utilisation",
                training.name
            );
            say(Weight::Warning, text, format!("training.{}.time", training.name));
        }
        if let Some(least) = facts.settings.policy.ettr_min
            && training.ettr < least
        {
            let text = format!(
                "workload `{}` keeps {} of its time, the policy wants {}: checkpoints of {} every {}; a store that writes faster or `checkpoint_blocks` raises it, as far as failures and restarts leave room",
                training.name,
                percent(training.ettr),
                percent(least),
                training.checkpoint,
                training.interval.map_or_else(|| "never".to_owned(), |interval| interval.to_string())
            );
            say(Weight::Infeasible, text, format!("training.{}.failures.ettr", training.name));
        }
    }
    stores(facts, &mut say);
    services(facts, &mut say);
    if let (Some(hall), Some(kept)) = (facts.hall, reliability::spares_written(facts.settings))
        && u64::from(kept) < hall.spares
    {
        let text =
            format!("{kept} spare nodes are kept, {} are needed so that a lost node hardly ever waits", hall.spares);
        say(Weight::Warning, text, "failures.spares".to_owned());
    }
    if !facts.missing_prices.is_empty() {
        let text =
            format!("no price is known of {}; every sum that holds them is too low", facts.missing_prices.join(", "));
        say(Weight::Warning, text, "cost.build".to_owned());
    }
    for (network, count, kind) in facts.long_copper {
        let text = format!(
            "{count} cables of fabric `{network}` join ports of twisted pair and are longer than it reaches; they are counted as {kind} and need a switch nearer by, or converters at both ends"
        );
        say(Weight::Warning, text, format!("network.{network}.cables"));
    }
    if !facts.missing_powers.is_empty() {
        let text = format!(
            "the power of {} is not known; every sum of power, energy and their cost that holds them is too low",
            facts.missing_powers.join(", ")
        );
        say(Weight::Warning, text, "power.rated".to_owned());
    }
    found.sort_by_key(|finding| finding.weight);
    found
}

/// Sites that draw more than they may, or that leave out what every building has.
fn sites(facts: Facts<'_>, say: &mut impl FnMut(Weight, String, String)) {
    for (name, site) in &facts.settings.sites {
        let Some(power) = facts.powers.iter().find(|power| power.name == *name).map(|power| &power.power) else {
            continue;
        };
        let desk = |pool: &PoolPlan| pool.item.name == "this-machine";
        let others = facts.pools.iter().any(|pool| pool.site == *name && !desk(pool));
        if others && site.pue_split.is_none() && site.pue <= 1.0 {
            let text = format!(
                "site `{name}` is planned with a PUE of 1, as a desk has it: without cooling and losses; surveys find 1.58 on average, the largest operators 1.08 to 1.18"
            );
            say(Weight::Warning, text, format!("power.{name}.pue"));
        }
        if let Some(limit) = site.power_limit {
            let number = || format!("power.{name}.site.rated");
            if power.expected > limit {
                let text = format!(
                    "site `{name}` draws {} at work, {} more than its `power_limit` of {limit}; {} of it would fit",
                    power.expected,
                    power.expected - limit,
                    percent(limit / power.expected)
                );
                say(Weight::Infeasible, text, format!("power.{name}.site.expected"));
            } else if power.rated > limit {
                let text = format!(
                    "site `{name}` may draw {} when everything draws its rating; its supply of {limit} bears the expected {} and needs a `power_cap` in [policy]",
                    power.rated, power.expected
                );
                say(Weight::Warning, text, number());
            }
        }
    }
}

fn stores(facts: Facts<'_>, say: &mut impl FnMut(Weight, String, String)) {
    for store in facts.stores {
        let number = |key: &str| format!("storage.{}.{key}", store.name);
        if let Some(wanted) = store.capacity_wanted
            && wanted > store.usable
        {
            let text = format!(
                "store `{}` must hold {wanted} and has room for {}{}",
                store.name,
                store.usable,
                nodes_for(facts, store, wanted.as_f64() / store.usable.as_f64())
            );
            say(Weight::Infeasible, text, number("usable"));
        }
        for (what, wanted, has) in [("write", store.write_wanted, store.write), ("read", store.read_wanted, store.read)]
        {
            if let Some(wanted) = wanted
                && wanted > has
            {
                let more = nodes_for(facts, store, wanted / has);
                let text = format!("store `{}` must {what} {wanted} and does {has}{more}", store.name);
                say(Weight::Infeasible, text, number(what));
            }
        }
    }
}

/// How many nodes of the store's pool would do, if `times` as many are needed.
fn nodes_for(facts: Facts<'_>, store: &StorePlan, times: f64) -> String {
    let pool = facts.pools.iter().find(|pool| pool.name == store.pool);
    pool.map_or_else(String::new, |pool| {
        format!(
            "; {} nodes of pool `{}` in place of {} would do",
            (times * f64::from(pool.nodes)).ceil(),
            pool.name,
            pool.nodes
        )
    })
}

/// Services that cannot be had, and pools of which more is wanted than there is.
fn services(facts: Facts<'_>, say: &mut impl FnMut(Weight, String, String)) {
    for service in facts.services {
        if let Some(missed) = &service.missed {
            let number = match &service.best {
                Some(_) => format!("service.{}.accelerators", service.name),
                None => "count.accelerators".to_owned(),
            };
            say(Weight::Infeasible, format!("service `{}`: {missed}", service.name), number);
        }
    }
    for PoolDemand { pool, accelerators, services, trainings } in facts.demands {
        let alone = facts.services.iter().filter(|service| service.pool.as_ref() == Some(pool));
        // One service that needs too many says so itself.
        if services > accelerators && alone.count() > 1 {
            let text = format!(
                "services want {services} accelerators of pool `{pool}`, which has {accelerators}: {} more would do",
                services - accelerators
            );
            say(Weight::Infeasible, text, format!("demand.{pool}.services"));
        } else if services <= accelerators && services + trainings > *accelerators {
            let text = format!(
                "services want {services} accelerators of pool `{pool}` and trainings {trainings}, {} more than its {accelerators}: trainings would have to wait, or to run on fewer",
                services + trainings - accelerators
            );
            say(Weight::Warning, text, format!("demand.{pool}.accelerators"));
        }
    }
}

/// Needs over supplies, the tightest first.
pub(crate) fn bottlenecks(facts: Facts<'_>) -> Vec<Bottleneck> {
    let mut found = Vec::new();
    let mut add = |what: String, demand: f64, number: String| {
        if demand.is_finite() {
            found.push(Bottleneck { what, demand, number });
        }
    };
    for (name, site) in &facts.settings.sites {
        if let (Some(limit), Some(power)) = (site.power_limit, facts.powers.iter().find(|power| power.name == *name)) {
            let what = format!("rated power of site `{name}` over its supply");
            add(what, power.power.rated / limit, format!("power.{name}.site.rated"));
        }
    }
    for site in &facts.floors.sites {
        let fullest = (0..site.floor.racks()).map(|rack| {
            let power = site.floor.rack_power(rack);
            power.rated / power.limit
        });
        let what = format!("power of the fullest rack of site `{}` over its limit", site.site);
        add(what, fullest.fold(0.0, f64::max), format!("floor.{}.racks", site.site));
    }
    for training in facts.trainings {
        let number = |key: &str| format!("training.{}.{key}", training.name);
        if let Some(demand) = training.network_demand {
            add(
                format!("network that {} needs over what its accelerators have", training.name),
                demand,
                number("network_demand"),
            );
        }
        if training.prediction.is_some() {
            let ids = ["memory_demand", "predicted.memory_demand"].map(number);
            // Below `predicted` where the blueprint says the utilisation.
            let [here, below] = ids;
            let id = if facts.settings.workloads.get(&training.name).is_some_and(says_mfu) { below } else { here };
            add(
                format!("memory that {} needs of an accelerator over what it has", training.name),
                training.memory_demand,
                id,
            );
        } else {
            add(
                format!("accelerators that hold one copy of {} over those it runs on", training.name),
                training.memory_demand,
                number("spread"),
            );
        }
        add(
            format!("time of {} lost to interruptions and checkpoints", training.name),
            1.0 - training.ettr,
            number("failures.ettr"),
        );
        if let Some(deadline) = training.deadline {
            add(
                format!("time of {} over its deadline", training.name),
                training.effective_time / deadline,
                number("effective_time"),
            );
        }
    }
    for PoolDemand { pool, accelerators, services, .. } in facts.demands {
        let demand = dh_units::real(*services) / dh_units::real(*accelerators);
        add(format!("accelerators that services want of pool `{pool}`"), demand, format!("demand.{pool}.services"));
    }
    for store in facts.stores {
        for (what, wanted, has) in
            [("writing", store.write_wanted, store.write), ("reading", store.read_wanted, store.read)]
        {
            if let Some(wanted) = wanted {
                let key = if what == "writing" { "write" } else { "read" };
                add(
                    format!("{what} asked of store `{}` over what it does", store.name),
                    wanted / has,
                    format!("storage.{}.{key}", store.name),
                );
            }
        }
    }
    found.sort_by(|a, b| b.demand.total_cmp(&a.demand).then_with(|| a.what.cmp(&b.what)));
    found
}

/// Whether the blueprint says the utilisation of a training.
fn says_mfu(workload: &dh_blueprint::Workload) -> bool {
    matches!(&workload.kind, dh_blueprint::WorkloadKind::Pretrain(training) if training.mfu.is_some())
}

/// `0.925` as `92.5 %`; with more digits where it is nearly all, so that 99.99 % is not told as 100.
fn percent(ratio: f64) -> String {
    let digits = if (0.9995..1.0).contains(&ratio) { 3 } else { 1 };
    format!("{:.digits$} %", ratio * 100.0)
}
