//! The page of a plan: complete for every template, whole by itself, and safe whatever its texts hold.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;

use dh_blueprint::{Blueprint, Settings, TEMPLATES, template};
use dh_plan::{Bottleneck, Finding, Plan, Weight, page, plan};

fn read(text: &str) -> (Plan, Settings) {
    let (settings, origins) = Blueprint::read("hall.toml", text, |_, _| Err(String::new())).unwrap();
    let plan = plan(&settings, &origins).unwrap();
    (plan, settings)
}

fn of_template(name: &str) -> String {
    let (plan, settings) = read(template(name).unwrap());
    page::html(&plan, &settings)
}

/// Values of an attribute, as they are written.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    page.split(start.as_str()).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Tags in their order, closing ones with their slash; not those inside of style and script.
fn tags(page: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("a tag that is never closed");
        tags.push(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some(raw) = ["style", "script"].into_iter().find(|raw| tags.last() == Some(raw)) {
            rest = &rest[rest.find(&format!("</{raw}>")).unwrap()..];
        }
    }
    tags
}

/// Every element is closed, in the order in which it must be.
fn assert_nested(page: &str, whose: &str) {
    const VOID: [&str; 3] = ["meta", "input", "br"];
    let mut open: Vec<&str> = Vec::new();
    for tag in tags(page).into_iter().filter(|tag| !tag.starts_with('!') && !tag.ends_with('/')) {
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "{whose}"),
            None if VOID.contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{whose}: {open:?}");
}

#[test]
fn every_template_has_a_page_that_is_whole() {
    for (name, _) in TEMPLATES {
        let page = of_template(name);
        assert_nested(&page, name);
        let ids = values(&page, "id");
        let known: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(known.len(), ids.len(), "{name}: an id is there twice");
        for target in values(&page, "href") {
            let anchor = target.strip_prefix('#').unwrap_or_else(|| panic!("{name}: a link leaves the page: {target}"));
            assert!(known.contains(anchor), "{name}: nothing is called {anchor}");
        }
        for labels in values(&page, "aria-labelledby") {
            assert!(labels.split(' ').all(|label| known.contains(label)), "{name}: {labels}");
        }
    }
}

#[test]
fn a_page_needs_nothing_from_outside() {
    for (name, _) in TEMPLATES {
        let page = of_template(name);
        for word in [" src=", "<link", "@import", "<iframe", "url(http", "fetch("] {
            assert!(!page.contains(word), "{name}: {word}");
        }
        // Stripes of this page are the only thing that a style refers to.
        assert_eq!(page.matches("url(").count(), page.matches("url(#hatch)").count(), "{name}");
    }
}

#[test]
fn every_picture_has_a_name_and_says_what_it_shows() {
    for (name, _) in TEMPLATES {
        let page = of_template(name);
        let pictures: Vec<&str> = page.split("<svg viewBox").skip(1).collect();
        assert!(!pictures.is_empty(), "{name}");
        for picture in pictures {
            let picture = picture.split("</svg>").next().unwrap();
            let content = |element: &str| {
                let from = picture.split(&format!("<{element} id=\"")).nth(1).unwrap();
                from.split('>').nth(1).unwrap().split('<').next().unwrap()
            };
            let (title, alternative) = (content("title"), content("desc"));
            assert!(picture.contains("role=\"img\"") && title.len() > 3 && alternative.len() > 3, "{name}: {title}");
            assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{name}: {title}");
        }
    }
}

#[test]
fn every_number_of_the_ledger_has_its_row() {
    let (plan, settings) = read(template("su127").unwrap());
    let page = page::html(&plan, &settings);
    for number in plan.ledger.numbers() {
        assert!(page.contains(&format!("<tr id=\"{}\">", number.id)), "{}", number.id);
    }
}

#[test]
fn equal_plans_give_equal_pages() {
    for name in ["su127", "tpu-pod", "reference"] {
        assert_eq!(of_template(name), of_template(name), "{name}");
    }
}

#[test]
fn pages_stay_small() {
    for (name, most) in [("su127", 400_000), ("pod16k", 1_000_000), ("tpu-pod", 400_000), ("laptop", 100_000)] {
        let size = of_template(name).len();
        assert!(size < most, "{name}: {size} bytes");
    }
}

/// What would run, or break out of an attribute, if it were written as it is.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='y'>&";

#[test]
fn whatever_texts_hold_is_text() {
    let (mut plan, mut settings) = read(template("su127").unwrap());
    plan.name = HOSTILE.to_owned();
    plan.ledger.given("hostile.number", HOSTILE, 1_u64, HOSTILE);
    plan.ledger.derived("hostile.sum", HOSTILE, 2_u64, HOSTILE, &["hostile.number"]);
    plan.findings.push(Finding { weight: Weight::Infeasible, text: HOSTILE.to_owned(), number: HOSTILE.to_owned() });
    plan.bottlenecks.insert(0, Bottleneck { what: HOSTILE.to_owned(), demand: 1.5, number: HOSTILE.to_owned() });
    for pool in &mut plan.pools {
        pool.title = HOSTILE.to_owned();
        pool.name = HOSTILE.to_owned();
    }
    for network in &mut plan.networks {
        network.name = HOSTILE.to_owned();
        network.design.name = HOSTILE.to_owned();
        for tier in &mut network.design.tiers {
            tier.switch.name = HOSTILE.to_owned();
        }
    }
    for row in &mut plan.cables {
        row.network = HOSTILE.to_owned();
        row.kind = HOSTILE.to_owned();
    }
    for store in &mut plan.stores {
        store.name = HOSTILE.to_owned();
        store.pool = HOSTILE.to_owned();
    }
    for training in &mut plan.trainings {
        training.name = HOSTILE.to_owned();
        training.model = HOSTILE.to_owned();
    }
    if let Some(failures) = &mut plan.failures {
        failures.expected.by_component[1].component = HOSTILE.to_owned();
    }
    for site in &mut plan.floors.sites {
        site.site = HOSTILE.to_owned();
    }
    let site = settings.sites.remove("main").unwrap();
    settings.sites.insert(HOSTILE.to_owned(), site);
    let page = page::html(&plan, &settings);
    assert!(!page.contains("<script>alert") && !page.contains("<img"), "a text became markup");
    assert!(!page.contains("\"><script"), "a text left its attribute");
    assert_eq!(page.matches("<script>").count(), 1);
    assert_nested(&page, "hostile");
}

#[test]
fn what_is_not_met_is_said_in_words_and_stripes() {
    let (mut plan, settings) = read(template("su127").unwrap());
    let before = page::html(&plan, &settings);
    assert!(before.contains("It can be built as it is written"));
    plan.bottlenecks.insert(0, Bottleneck { what: "a need".to_owned(), demand: 1.5, number: String::new() });
    plan.findings.push(Finding {
        weight: Weight::Infeasible,
        text: "it is too small".to_owned(),
        number: String::new(),
    });
    let after = page::html(&plan, &settings);
    assert!(after.contains("150 % ✕ not met") && after.contains("1 thing cannot be as written"));
    assert!(after.matches("class=\"hatch\"").count() > before.matches("class=\"hatch\"").count());
}

#[test]
fn a_hall_of_thousands_of_racks_is_drawn_in_sums() {
    let racks_of = |nodes: u32| {
        let text = format!(
            "schema = 1\nname = \"large\"\n[site.main]\npue = 1.2\n[pool.train]\nnodes = {nodes}\nnode = \"dgx-h100\"\n\
             nodes_per_rack = 4\n[store.main]\n[queue.default]\n"
        );
        let (plan, settings) = read(&text);
        (plan.floors.racks(), page::html(&plan, &settings))
    };
    let (racks, one_by_one) = racks_of(4_000);
    assert_eq!(racks, 1_000);
    assert!(!one_by_one.contains("too many to draw") && one_by_one.matches("<rect class=\"p0 lit\"").count() == 1_000);
    let (racks, in_sums) = racks_of(180_000);
    assert_eq!(racks, 45_000);
    assert!(in_sums.contains("45,000 are too many to draw one by one"));
    assert!(in_sums.matches("<rect class=\"p0 lit\"").count() <= 2_000);
    assert!(in_sums.len() < 400_000, "{} bytes", in_sums.len());
}

#[test]
fn the_lines_of_a_network_hold_all_its_links() {
    for name in ["su127", "pod16k", "lab"] {
        let (plan, settings) = read(template(name).unwrap());
        let page = page::html(&plan, &settings);
        for (place, network) in plan.networks.iter().enumerate() {
            let picture = page.split(&format!("id=\"net-{place}-t\"")).nth(1).unwrap().split("</svg>").next().unwrap();
            let lines = picture.split("<path class=\"link\"").skip(1);
            let drawn: u64 = lines
                .map(|line| {
                    let tip = line.split("<title>").nth(1).unwrap().split("</title>").next().unwrap();
                    let links = tip.rsplit(": ").next().unwrap().split(' ').next().unwrap();
                    links.replace(',', "").parse::<u64>().unwrap()
                })
                .sum();
            let links: u64 = network.design.segments.iter().map(|segment| segment.links).sum();
            assert_eq!(drawn, links, "{name}: {}", network.name);
        }
    }
}
