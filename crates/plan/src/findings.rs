//! What a plan says aloud: what cannot be, what is tight, what breaks first.

use dh_blueprint::{ServiceSource, Settings};
use dh_facility::failures::Outlook;
use dh_units::{Bytes, significant};
use serde::Serialize;

use crate::floors::Floors;
use crate::pools::PoolPlan;
use crate::power::SitePower;
use crate::reliability;
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

/// Bytes of a weight as it is served: 16 bits.
const WEIGHT_BYTES: u64 = 2;

fn services(facts: Facts<'_>, say: &mut impl FnMut(Weight, String, String)) {
    for (name, service) in &facts.settings.services {
        let ServiceSource::Model(model) = &service.source else { continue };
        let Some(model) = facts.settings.catalog.model(model) else { continue };
        let largest = facts.pools.iter().filter_map(|pool| {
            facts.settings.catalog.accelerator(pool.accelerator.as_deref()?)?.memory.as_ref().map(|memory| memory.value)
        });
        let Some(memory) = largest.max() else { continue };
        let weights = Bytes(model.parameters.value.saturating_mul(WEIGHT_BYTES));
        let has = memory * u64::from(service.slots_per_replica);
        if weights > has {
            let text = format!(
                "service `{name}`: the weights of {} take {weights} in 16 bits, the {} accelerators of a replica have {has}",
                model.name, service.slots_per_replica
            );
            say(Weight::Infeasible, text, "count.accelerators".to_owned());
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
        add(
            format!("accelerators that hold one copy of {} over those it runs on", training.name),
            training.memory_demand,
            number("spread"),
        );
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

/// `0.925` as `92.5 %`; with more digits where it is nearly all, so that 99.99 % is not told as 100.
fn percent(ratio: f64) -> String {
    let digits = if (0.9995..1.0).contains(&ratio) { 3 } else { 1 };
    format!("{:.digits$} %", ratio * 100.0)
}
