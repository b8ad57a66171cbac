//! The head of the page: what the hall is in one line, and its main numbers.

use super::frame::{Subject, count, counted, percent, shown};
use super::hall;
use super::svg::escape;
use crate::findings::Weight;
use crate::pools::PoolPlan;

/// Main numbers: id, what stands below.
const TILES: &[(&str, &str)] = &[
    ("count.accelerators", "accelerators"),
    ("count.nodes", "nodes"),
    ("floor.racks", "racks"),
    ("power.rated", "power, rated"),
    ("power.expected", "power, expected"),
    ("cost.build", "to build"),
    ("cost.year", "a year"),
    ("cost.accelerator_hour", "an accelerator-hour"),
    ("failures.mtbf", "MTBF"),
    ("failures.ettr", "kept work (ETTR)"),
];

pub(crate) fn head(subject: Subject<'_>) -> String {
    let plan = subject.plan;
    let mut text = format!(
        "<header class=\"top\"><p class=\"kind\">Plan of an AI data center</p><h1>{}</h1><p class=\"lead\">{}</p>{}<ul class=\"tiles\">",
        escape(&plan.name),
        escape(line(subject)),
        verdict(subject)
    );
    for (id, name) in TILES {
        let Some(number) = plan.ledger.get(id) else { continue };
        let value = match subject.value(id) {
            Some(ratio) if *id == "failures.ettr" => percent(ratio),
            Some(_) | None => shown(&number.value),
        };
        put!(text, "<li><a href=\"#{}\"><b>{}</b><span>{name}</span></a></li>", escape(id), escape(value));
    }
    put!(text, "</ul>{}</header>\n", hall::view(subject));
    text
}

/// What the hall is, in one line.
fn line(subject: Subject<'_>) -> String {
    let plan = subject.plan;
    // What computes is named first.
    let mut order: Vec<&PoolPlan> = plan.pools.iter().collect();
    order.sort_by_key(|pool| pool.accelerators == 0);
    let name = |pool: &&PoolPlan| {
        // "2 × 4 x L40S" would read as a product.
        let times = if pool.title.starts_with(|letter: char| letter.is_ascii_digit()) { "nodes of" } else { "×" };
        format!("{} {times} {} ({})", count(pool.nodes.into()), pool.title, pool.name)
    };
    let pools: Vec<String> = order.iter().map(name).collect();
    let switches: u64 = plan.networks.iter().flat_map(|network| &network.design.tiers).map(|tier| tier.count).sum();
    let mut line = pools.join(", ");
    if !plan.networks.is_empty() {
        put!(
            line,
            "; {} of {} and {}",
            counted(plan.networks.len().try_into().unwrap_or(u64::MAX), "network", "networks"),
            counted(switches, "switch", "switches"),
            counted(plan.cable_count(), "cable", "cables")
        );
    }
    let sites = plan.floors.sites.iter().filter(|site| site.floor.racks() > 0).count();
    put!(
        line,
        "; {} at {}.",
        counted(plan.floors.racks(), "rack", "racks"),
        counted(sites.try_into().unwrap_or(u64::MAX), "site", "sites")
    );
    line
}

/// Whether it can be, in words and colour.
fn verdict(subject: Subject<'_>) -> String {
    let of = |weight: Weight| {
        let found = subject.plan.findings.iter().filter(|finding| finding.weight == weight).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let (wrong, known) = (of(Weight::Infeasible), of(Weight::Warning));
    let (class, mark, words) = match (wrong, known) {
        (0, 0) => ("good", "✓", "It can be built as it is written".to_owned()),
        (0, known) => ("warn", "!", format!("It can be built; {} to know", counted(known, "thing", "things"))),
        (wrong, _) => ("bad", "✕", format!("{} cannot be as written", counted(wrong, "thing", "things"))),
    };
    format!("<p class=\"verdict {class}\"><span aria-hidden=\"true\">{mark}</span> {words}</p>")
}
