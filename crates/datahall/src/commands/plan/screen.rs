//! The plan as one screen for people.

use dh_blueprint::{Role, Settings, Topology};
use dh_plan::{Counting, NetworkPlan, Plan, TrainingPlan, Weight};
use dh_units::significant;

use super::layouts::{self, Detail};
use crate::output;
use crate::ui::table::{Side, Table};

/// Bottlenecks that are shown.
const TIGHTEST: usize = 3;

/// One screen.
pub(super) fn print(plan: &Plan, settings: &Settings, detail: Detail) {
    head(plan);
    power(plan, settings);
    networks(plan, settings);
    money(plan);
    failures(plan);
    trainings(plan);
    layouts::print(plan, detail);
    super::services::print(plan);
    stores(plan);
    tightest(plan);
    findings(plan);
}

/// The text of a number, or a dash where the plan has none.
fn text(plan: &Plan, id: &str) -> String {
    plan.ledger.get(id).map_or_else(|| "-".to_owned(), |number| number.value.to_string())
}

/// The same, or nothing.
fn known(plan: &Plan, id: &str) -> Option<String> {
    plan.ledger.get(id).map(|number| number.value.to_string())
}

fn head(plan: &Plan) {
    let racks = text(plan, "floor.racks");
    let racks = if racks == "1" { "1 rack".to_owned() } else { format!("{racks} racks") };
    output::line(format!(
        "{}: {} nodes, {} accelerators, {racks}",
        output::bold(&plan.name),
        text(plan, "count.nodes"),
        text(plan, "count.accelerators")
    ));
    for pool in &plan.pools {
        let accelerators = if pool.accelerators > 0 {
            let name = pool.accelerator.as_deref().unwrap_or("accelerators");
            format!(", {} x {name}", dh_units::Value::from(pool.accelerators))
        } else {
            String::new()
        };
        output::line(format!("  {:<12} {} x {}{accelerators}", pool.name, pool.nodes, pool.title));
    }
}

fn power(plan: &Plan, settings: &Settings) {
    output::line("");
    let mut table =
        Table::new(&[("POWER", Side::Left), ("RATED", Side::Right), ("EXPECTED", Side::Right), ("", Side::Left)]);
    let mut row = |name: &str, rated: &str, expected: &str, more: String| {
        table.row([name.to_owned(), text(plan, rated), text(plan, expected), more]);
    };
    row("computers and network", "power.it.rated", "power.it.expected", String::new());
    let pue: Vec<String> = settings.sites.values().map(|site| significant(site.pue)).collect();
    let order = format!("PUE {}; order {}", pue.join(", "), text(plan, "power.supply"));
    row("with cooling and losses", "power.rated", "power.expected", order);
    table.lines().iter().for_each(output::line);
    let carbon = known(plan, "power.carbon").map(|carbon| format!(", {carbon} CO2")).unwrap_or_default();
    output::line(format!("a year: {}, {}{carbon}", text(plan, "power.energy"), text(plan, "power.cost")));
}

fn networks(plan: &Plan, settings: &Settings) {
    if plan.networks.is_empty() {
        return;
    }
    output::line("");
    let mut table = Table::new(&[
        ("NETWORK", Side::Left),
        ("TOPOLOGY", Side::Left),
        ("SWITCHES", Side::Left),
        ("CABLES", Side::Right),
        ("PORT", Side::Right),
        ("BISECTION", Side::Right),
        ("POWER", Side::Right),
        ("PRICE", Side::Right),
    ]);
    for network in &plan.networks {
        table.row(network_row(plan, settings, network));
    }
    table.lines().iter().for_each(output::line);
    let compute = plan.networks.iter().find(|network| network.role == Role::Compute);
    let lost = compute.map(|network| network.design.losses());
    let of = match compute.map(|network| network.ends.count) {
        Some(Counting::Ports) => "ports",
        Some(Counting::Chips { .. }) => "accelerators",
        Some(Counting::Nodes) | None => "nodes",
    };
    let words: Vec<String> = lost
        .iter()
        .flatten()
        .map(|loss| {
            let part = loss.part.name().replace("cable-", "cable ");
            let hit = dh_units::Value::from(loss.nodes);
            format!("a {part} {hit} {of} {} %", significant(loss.bandwidth_lost * 100.0))
        })
        .collect();
    if !words.is_empty() {
        output::line(output::dim(format!("losing one costs, of their bandwidth: {}", words.join(", "))));
    }
}

fn network_row(plan: &Plan, settings: &Settings, network: &NetworkPlan) -> [String; 8] {
    let topology = settings.fabrics.get(&network.name).map_or("", |fabric| fabric.topology.word());
    let planes =
        if network.request.planes > 1 { format!(" x {} planes", network.request.planes) } else { String::new() };
    let over = settings.fabrics.get(&network.name).filter(|fabric| {
        fabric.oversubscription > 1.0 && !matches!(fabric.topology, Topology::Torus { .. } | Topology::KAry { .. })
    });
    let over = over.map(|fabric| format!(" {}:1", significant(fabric.oversubscription))).unwrap_or_default();
    let tiers =
        network.design.tiers.iter().map(|tier| format!("{} {}", dh_units::Value::from(tier.count), tier.role.name()));
    let id = |key: &str| format!("network.{}.{key}", network.name);
    let sum = |a: &str, b: &str| {
        let value = |key: &str| plan.ledger.get(&id(key)).and_then(|number| number.value.number());
        Some(value(a)? + value(b)?)
    };
    let power = sum("power", "cables.power").map_or_else(|| "-".to_owned(), |watts| dh_units::Watts(watts).to_string());
    let price = sum("price", "cables.price").map_or_else(|| "unknown".to_owned(), |usd| dh_units::Usd(usd).to_string());
    [
        network.name.clone(),
        format!("{topology}{planes}{over}"),
        tiers.collect::<Vec<_>>().join(" + "),
        text(plan, &id("cables")),
        network.request.port_speed.to_string(),
        format!("{:.0} %", network.design.bisection().ratio * 100.0),
        power,
        price,
    ]
}

fn money(plan: &Plan) {
    output::line("");
    let parts = [("compute", "compute"), ("network", "network"), ("storage", "storage"), ("building", "facility")];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(word, key)| {
            let number = plan.ledger.get(&format!("cost.build.{key}"))?;
            number.value.number().filter(|cost| *cost > 0.0).map(|_| format!("{word} {}", number.value))
        })
        .collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    output::line(format!("{} build {}{parts}", output::bold("COST"), output::bold(text(plan, "cost.build"))));
    let hour = known(plan, "cost.accelerator_hour")
        .map(|hour| format!("; {hour} for a used accelerator-hour"))
        .unwrap_or_default();
    let paid = plan.ledger.get("cost.staff").is_some_and(|staff| staff.value.number().is_some_and(|cost| cost > 0.0));
    let staff = if paid { format!(", staff {}", text(plan, "cost.staff")) } else { String::new() };
    output::line(format!(
        "     a year {}: capital {}, energy {}, maintenance {}{staff}{hour}",
        output::bold(text(plan, "cost.year")),
        text(plan, "cost.capital"),
        text(plan, "cost.energy"),
        text(plan, "cost.maintenance")
    ));
}

fn failures(plan: &Plan) {
    let Some(outlook) = &plan.failures else { return };
    output::line("");
    let between = outlook.mtbf.map(|mtbf| format!(", one every {mtbf}")).unwrap_or_default();
    output::line(format!(
        "{} a job on the whole hall is interrupted {} times a year{between}; keeps {:.1} % of its time (ETTR); {} spare nodes",
        output::bold("FAILURES"),
        significant(outlook.expected.unexpected),
        outlook.ettr * 100.0,
        outlook.spares
    ));
    let first: Vec<String> = outlook
        .expected
        .by_component
        .iter()
        .filter(|one| one.cause == dh_facility::failures::Cause::Unexpected)
        .take(TIGHTEST)
        .map(|one| format!("{} {} times", one.component.replace('_', " "), significant(one.interruptions)))
        .collect();
    output::line(format!("     breaks first: {}", first.join(", ")));
}

fn trainings(plan: &Plan) {
    if plan.trainings.is_empty() {
        return;
    }
    output::line("");
    let mut table = Table::new(&[
        ("TRAINING", Side::Left),
        ("MODEL", Side::Left),
        ("ON", Side::Right),
        ("TIME", Side::Right),
        ("ETTR", Side::Right),
        ("CHECKPOINT", Side::Left),
        ("COST", Side::Right),
    ]);
    for TrainingPlan { name, model, accelerators, effective_time, ettr, checkpoint, interval, cost, .. } in
        &plan.trainings
    {
        table.row([
            name.clone(),
            model.clone(),
            dh_units::Value::from(*accelerators).to_string(),
            effective_time.to_string(),
            format!("{:.1} %", ettr * 100.0),
            interval.map_or_else(String::new, |interval| format!("{checkpoint} every {interval}")),
            cost.map_or_else(|| "-".to_owned(), |cost| cost.to_string()),
        ]);
    }
    table.lines().iter().for_each(output::line);
}

fn stores(plan: &Plan) {
    for store in &plan.stores {
        output::line(format!(
            "{} {}: {} usable of {} on {} drives; reads {}, writes {}",
            output::bold("STORE"),
            store.name,
            store.usable,
            store.raw,
            store.drives,
            store.read,
            store.write
        ));
    }
}

fn tightest(plan: &Plan) {
    if plan.bottlenecks.is_empty() {
        return;
    }
    output::line("");
    output::line(output::bold("TIGHTEST"));
    for bottleneck in plan.bottlenecks.iter().take(TIGHTEST) {
        let percent = format!("{:>5.0} %", bottleneck.demand * 100.0);
        let percent = if bottleneck.demand > 1.0 { output::red(percent) } else { percent };
        output::line(format!("{percent}  {}  {}", bottleneck.what, output::dim(&bottleneck.number)));
    }
}

fn findings(plan: &Plan) {
    for finding in &plan.findings {
        let word = match finding.weight {
            Weight::Infeasible => output::red("cannot be:"),
            Weight::Warning => output::yellow("note:"),
        };
        output::line(format!("{word} {}  {}", finding.text, output::dim(&finding.number)));
    }
}

/// Numbers, each with its formula or source.
pub(super) fn numbers<'a>(numbers: impl Iterator<Item = &'a dh_units::Number>) {
    let mut table = Table::new(&[("NUMBER", Side::Left), ("", Side::Right), ("", Side::Left)]);
    for number in numbers {
        let because = number.source.as_deref().unwrap_or(&number.formula);
        table.row([number.id.clone(), number.value.to_string(), output::dim(because)]);
    }
    table.lines().iter().for_each(output::line);
}
