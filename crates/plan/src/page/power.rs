//! Where the power goes: computers, network, and what the building takes for itself.

use super::charts::{Names, Part, Stack, flow, stacks};
use super::frame::{Column, Subject, facts, figure, table};
use super::style;
use super::svg::escape;
use dh_units::Watts;

pub(crate) fn section(subject: Subject<'_>) -> String {
    let mut text = String::new();
    let several = subject.settings.sites.len() > 1;
    for name in subject.settings.sites.keys() {
        if subject.value(&format!("power.{name}.it.rated")).unwrap_or(0.0) > 0.0 {
            if several {
                put!(text, "<h3>Site {}</h3>", escape(name));
            }
            text.push_str(&site(subject, name));
        }
    }
    text
}

/// What takes power at a site, at rating or at work.
fn parts(subject: Subject<'_>, site: &str, side: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |label: String, watts: f64, class: &'static str| {
        parts.push(Part { label, value: watts, text: Watts(watts).to_string(), class });
    };
    for (place, pool) in subject.plan.pools.iter().enumerate().filter(|(_, pool)| pool.site == site) {
        let watts = subject.value(&format!("power.{site}.{}.{side}", pool.name)).unwrap_or(0.0);
        add(pool.name.clone(), watts, style::pool(place));
    }
    add("network".to_owned(), subject.value(&format!("power.{site}.network.{side}")).unwrap_or(0.0), style::network(0));
    let it = subject.value(&format!("power.{site}.it.{side}")).unwrap_or(0.0);
    for (key, name, class) in
        [("cooling", "cooling", "cool"), ("conversion", "conversion", "conv"), ("rest", "rest", "rest")]
    {
        let share = subject.value(&format!("power.{site}.share.{key}")).unwrap_or(0.0);
        add(name.to_owned(), it * share, class);
    }
    parts
}

fn site(subject: Subject<'_>, site: &str) -> String {
    let id = |key: &str| format!("power.{site}.{key}");
    let (rated, expected) = (parts(subject, site, "rated"), parts(subject, site, "expected"));
    let mut text = facts(&[
        ("rated", subject.number(&id("site.rated"))),
        ("expected at work", subject.number(&id("site.expected"))),
        ("to order from the supplier", subject.number(&id("supply"))),
        ("PUE", subject.number(&id("pue"))),
        ("energy of a year", subject.number(&id("energy"))),
        ("price of a year's energy", subject.number(&id("cost"))),
        ("carbon of a year", subject.number(&id("carbon"))),
        ("price of electricity", subject.number(&id("price"))),
        ("carbon of electricity", subject.number(&id("carbon_intensity"))),
        ("ordered over rated", subject.number(&id("margin"))),
    ]);
    let words: Vec<String> = expected.iter().map(|part| format!("{} {}", part.label, part.text)).collect();
    let at_work = subject.text(&id("site.expected"));
    let picture = flow(
        Names {
            id: &format!("flow-{site}"),
            title: &format!("Where the expected power of {site} goes"),
            alternative: &format!("{at_work} at work go to {}", words.join(", ")),
        },
        &format!("at work: {at_work}"),
        &expected,
    );
    text.push_str(&figure(&picture, "Expected power at work. Bands are as wide as what flows in them.", ""));
    let mut marks = Vec::new();
    if let Some(supply) = subject.value(&id("supply")) {
        marks.push((supply, format!("to order: {}", Watts(supply))));
    }
    if let Some(limit) = subject.settings.sites.get(site).and_then(|site| site.power_limit) {
        // A supply that is far larger than the hall would leave a sliver of it to be seen.
        let drawn: f64 = rated.iter().map(|part| part.value).sum();
        if limit.0 < drawn * 3.0 {
            marks.push((limit.0, format!("the supply delivers {limit}")));
        }
    }
    let stack = |label: &str, key: &str, parts: &[Part]| Stack {
        label: label.to_owned(),
        text: subject.text(&id(key)),
        parts: parts.to_vec(),
    };
    let picture = stacks(
        Names {
            id: &format!("power-{site}"),
            title: &format!("Rated and expected power of {site}, by what takes it"),
            alternative: &format!("Rated {}, expected {at_work}", subject.text(&id("site.rated"))),
        },
        &[stack("Rated", "site.rated", &rated), stack("Expected", "site.expected", &expected)],
        &marks,
    );
    let rows: Vec<Vec<String>> = rated
        .iter()
        .zip(&expected)
        .map(|(rated, expected)| {
            let link =
                |side: &str, part: &Part| subject.link(&id(&format!("{}.{side}", part.label)), &escape(&part.text));
            let below = subject.link(&id(&expected.label), &escape(&expected.text));
            let works = if subject.plan.ledger.get(&id(&format!("{}.expected", expected.label))).is_some() {
                link("expected", expected)
            } else {
                below
            };
            vec![escape(&rated.label), link("rated", rated), works]
        })
        .collect();
    let behind = table(
        &format!("Power of {site}"),
        &[Column::Words("What"), Column::Numbers("Rated"), Column::Numbers("Expected")],
        &rows,
    );
    let caption = "Breakers and feeds are sized by the rated power, bills by the expected.";
    text.push_str(&figure(&picture, caption, &behind));
    text
}
