//! Services of a plan for people: what each is served by, what it answers in and costs, and what else there is.

use dh_plan::{Interval, Plan, PoolDemand, ServicePlan, ServiceWay as Way};
use dh_units::{Value, significant};

use crate::output;
use crate::ui::table::{Side, Table};

/// Ways of a front that are shown.
const WAYS: usize = 6;

pub(super) fn print(plan: &Plan) {
    let planned = || plan.services.iter().filter(|service| service.best.is_some());
    if planned().next().is_some() {
        output::line("");
        let mut table = Table::new(&[
            ("SERVICE", Side::Left),
            ("MODEL", Side::Left),
            ("REPLICAS", Side::Left),
            ("ON", Side::Right),
            ("TTFT p99", Side::Right),
            ("TPOT p99", Side::Right),
            ("TOKENS/S", Side::Right),
            ("$/M TOKENS", Side::Right),
            ("kWh/M", Side::Right),
        ]);
        for service in planned() {
            if let Some(best) = &service.best {
                table.row(row(service, best));
            }
        }
        table.lines().iter().for_each(output::line);
    }
    for service in &plan.services {
        say(service);
    }
    for PoolDemand { pool, accelerators, services, trainings } in &plan.demands {
        let others =
            if *trainings > 0 { format!("; trainings want {}", Value::from(*trainings)) } else { String::new() };
        let [services, all] = [*services, *accelerators].map(Value::from);
        output::line(output::dim(format!("services want {services} of the {all} accelerators of pool {pool}{others}")));
    }
}

fn row(service: &ServicePlan, best: &Way) -> [String; 9] {
    [
        service.name.clone(),
        service.model.clone(),
        best.replicas_and_layout(),
        format!("{} of {}", Value::from(best.accelerators), Value::from(service.available)),
        best.ttft_p99.to_string(),
        best.tpot_p99.to_string(),
        significant(best.tokens_per_second),
        cost(best),
        energy(best),
    ]
}

fn cost(way: &Way) -> String {
    way.cost.map_or_else(|| "-".to_owned(), |cost| cost.to_string())
}

fn energy(way: &Way) -> String {
    way.energy.map_or_else(|| "-".to_owned(), |energy| significant(energy.kwh()))
}

/// Intervals, what lost, what would save, and the front.
fn say(service: &ServicePlan) {
    let name = &service.name;
    if let Some(why) = &service.unpredicted {
        output::line("");
        output::line(format!("{} {name}: not predicted; {why}", output::bold("SERVICE")));
    }
    let Some(best) = &service.best else { return };
    let within = |time: Interval| format!("{} ({} to {})", time.value, time.low, time.high);
    output::line(format!(
        "{name}: in the mean {} to the first token, {} per further one; {} requests at once on each replica",
        within(best.ttft),
        within(best.tpot),
        significant(best.concurrency)
    ));
    if !best.outside_calibrated_range.is_empty() {
        let why = best.outside_calibrated_range.join(", ");
        output::line(format!("  {} {why}", output::yellow("outside the calibrated range:")));
    }
    if let Some(other) = &service.runner_up {
        output::line(format!("  runner-up: {other}"));
    }
    if let Some(hint) = &service.hint {
        output::line(format!("  {hint}"));
    }
    front(service);
}

/// A few of the ways that no other beats, ends included.
fn front(service: &ServicePlan) {
    let all = &service.front;
    if all.len() < 2 {
        return;
    }
    let mut table = Table::new(&[
        ("  no other way beats", Side::Left),
        ("ON", Side::Right),
        ("TTFT p99", Side::Right),
        ("TPOT p99", Side::Right),
        ("$/M", Side::Right),
        ("kWh/M", Side::Right),
        ("TARGETS", Side::Left),
    ]);
    let shown = WAYS.min(all.len());
    for way in (0..shown).filter_map(|place| all.get((all.len() - 1) * place / (shown - 1))) {
        table.row([
            format!("  {}", way.replicas_and_layout()),
            Value::from(way.accelerators).to_string(),
            way.ttft_p99.to_string(),
            way.tpot_p99.to_string(),
            cost(way),
            energy(way),
            if way.keeps { "kept" } else { "missed" }.to_owned(),
        ]);
    }
    table.lines().iter().for_each(|line| output::line(output::dim(line)));
}
