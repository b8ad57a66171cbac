//! What it costs to build and to own, with the formula.

use dh_units::{Usd, significant};

use super::charts::{Bar, Look, Names, Part, Stack, bars, stacks};
use super::frame::{Column, Subject, figure, money, percent, shown, table};
use super::style;
use super::svg::escape;

/// Parts of the cost to build, and of a year, with the colours they have in all pictures.
const BUILD: [(&str, &str, &str); 4] = [
    ("compute", "compute", "p0"),
    ("network", "network", "n0"),
    ("storage", "storage", "p1"),
    ("facility", "building", "rest"),
];
const YEAR: [(&str, &str, &str); 6] = [
    ("capital", "capital", "p0"),
    ("energy", "energy", "n1"),
    ("space", "space", "rest"),
    ("maintenance", "maintenance", "p2"),
    ("staff", "staff", "p4"),
    ("network_share", "outside lines", "conv"),
];

pub(crate) fn section(subject: Subject<'_>) -> String {
    let mut text = String::new();
    let build = sums(subject, &BUILD, "build.");
    let year = sums(subject, &YEAR, "");
    let stack = |label: &str, id: &str, parts: &[Part]| Stack {
        label: label.to_owned(),
        text: subject.text(id),
        parts: parts.to_vec(),
    };
    for (label, id, parts, caption) in [
        ("To build", "cost.build", build, "What is bought once."),
        (
            "A year",
            "cost.year",
            year,
            "What a year costs: what was bought is written off over its years, the rest is paid as it comes.",
        ),
    ] {
        let words: Vec<String> = parts.iter().map(|part| format!("{} {}", part.label, part.text)).collect();
        let alternative = format!("{} {}: {}", label, subject.text(id), words.join(", "));
        let name = id.replace('.', "-");
        let names = Names { id: &name, title: &format!("{label}, by part"), alternative: &alternative };
        let picture = stacks(names, &[stack(label, id, &parts)], &[]);
        let sum: f64 = parts.iter().map(|part| part.value).sum();
        let rows: Vec<Vec<String>> = parts
            .iter()
            .map(|part| {
                let share = if sum > 0.0 { percent(part.value / sum) } else { "–".to_owned() };
                vec![format!("<i class=\"tag {}\"></i>{}", part.class, escape(&part.label)), escape(&part.text), share]
            })
            .collect();
        text.push_str(&figure(&picture, caption, ""));
        text.push_str(&table(
            &format!("{label}: {}", subject.text(id)),
            &[Column::Words("Part"), Column::Numbers("Sum"), Column::Numbers("Share")],
            &rows,
        ));
    }
    text.push_str(&formula(subject));
    for name in subject.settings.sites.keys() {
        text.push_str(&items(subject, name));
    }
    text
}

/// A part summed over all sites.
fn sums(subject: Subject<'_>, parts: &[(&str, &str, &'static str)], under: &str) -> Vec<Part> {
    let part = |(key, label, class): &(&str, &str, &'static str)| {
        let of = |site: &String| subject.value(&format!("cost.{site}.{under}{key}")).unwrap_or(0.0);
        let value: f64 = subject.settings.sites.keys().map(of).sum();
        Part { label: (*label).to_owned(), value, text: money(Usd(value)), class }
    };
    parts.iter().map(part).filter(|part| part.value > 0.0).collect()
}

/// Total cost of ownership as it is computed, with the hall's own numbers.
fn formula(subject: Subject<'_>) -> String {
    let mut terms: Vec<String> = Vec::new();
    for (key, name, _) in YEAR {
        let sum: f64 =
            subject.settings.sites.keys().filter_map(|site| subject.value(&format!("cost.{site}.{key}"))).sum();
        if sum > 0.0 {
            let id = format!("cost.{key}");
            let site =
                subject.settings.sites.keys().next().map_or_else(String::new, |site| format!("cost.{site}.{key}"));
            let id = if subject.plan.ledger.get(&id).is_some() { id } else { site };
            terms.push(format!("{} {name}", subject.link(&id, &escape(money(Usd(sum))))));
        }
    }
    let mut text = format!(
        "<h3>Total cost of ownership</h3><p>Capital of a year is the sum over all items of count × price / years until written off.</p>\
         <p class=\"formula\">{} a year = {}</p>",
        subject.number("cost.year"),
        if terms.is_empty() { "nothing that has a price".to_owned() } else { terms.join(" + ") }
    );
    if subject.plan.ledger.get("cost.accelerator_hour").is_some() {
        put!(
            text,
            "<p class=\"formula\">{} an accelerator-hour = {} / ({} accelerators × 8,760 h × {} used)</p>",
            subject.number("cost.accelerator_hour"),
            subject.number("cost.year"),
            subject.number("count.accelerators"),
            subject.link("cost.utilisation", &subject.value("cost.utilisation").map_or_else(String::new, percent)),
        );
    }
    text
}

/// Everything that a site buys.
fn items(subject: Subject<'_>, site: &str) -> String {
    let prefix = format!("cost.{site}.item.");
    let known = subject.plan.ledger.numbers().iter().filter_map(|number| {
        let name = number.id.strip_prefix(&prefix)?;
        (!name.contains('.')).then_some((name, number))
    });
    let mut known: Vec<_> = known.collect();
    known.sort_by(|(a_name, a), (b_name, b)| {
        let value = |number: &dh_units::Number| number.value.number().unwrap_or(0.0);
        value(b).total_cmp(&value(a)).then_with(|| a_name.cmp(b_name))
    });
    if known.is_empty() {
        return String::new();
    }
    let drawn: Vec<Bar> = known
        .iter()
        .take(12)
        .map(|(name, number)| Bar {
            label: name.replacen('-', " ", 1),
            value: number.value.number().unwrap_or(0.0),
            text: shown(&number.value),
            class: colour(subject, name),
            look: Look::Plain,
        })
        .collect();
    let most = drawn.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let words: Vec<String> = drawn.iter().take(5).map(|bar| format!("{} {}", bar.label, bar.text)).collect();
    let names = Names {
        id: &format!("items-{site}"),
        title: &format!("What is bought for {site}, the dearest first"),
        alternative: &words.join(", "),
    };
    let picture = bars(names, &drawn, most, None);
    let rows: Vec<Vec<String>> = known
        .iter()
        .map(|(name, number)| {
            let id = |key: &str| format!("{prefix}{name}.{key}");
            let years = subject.value(&id("years")).map_or_else(|| "–".to_owned(), significant);
            vec![
                escape(name.replacen('-', " ", 1)),
                subject.number(&id("count")),
                subject.number(&id("price")),
                subject.link(&number.id, &escape(shown(&number.value))),
                subject.link(&id("years"), &years),
                subject.number(&id("per_year")),
            ]
        })
        .collect();
    let columns = [
        Column::Words("Item"),
        Column::Numbers("Count"),
        Column::Numbers("Price of one"),
        Column::Numbers("Sum"),
        Column::Numbers("Years"),
        Column::Numbers("A year"),
    ];
    let behind = table(&format!("What is bought for {site}"), &columns, &rows);
    format!(
        "<h3>What is bought for {}</h3>{}",
        escape(site),
        figure(&picture, "Items by price, the dearest first.", &behind)
    )
}

fn colour(subject: Subject<'_>, item: &str) -> &'static str {
    match item.split_once('-') {
        Some(("pool", name)) => {
            let place = subject.plan.pools.iter().position(|pool| pool.name == name);
            place.map_or("p0", style::pool)
        }
        Some(("switch" | "cable", _)) => "n0",
        _ => "rest",
    }
}
