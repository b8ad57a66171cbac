//! The whole file: which sections there are, in which order they are read, and what holds between them.
//!
//! A new section is one file in `read/` and one line in [`settings`].

pub(crate) mod cluster;
pub(crate) mod edge;
pub(crate) mod fabric;
pub(crate) mod gateway;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod service;
pub(crate) mod service_facts;
pub(crate) mod site;
mod sources;
pub(crate) mod store;
mod syntax;
pub(crate) mod target;
pub(crate) mod tier;
pub(crate) mod workload;
pub(crate) mod zone;

pub(crate) use sources::Load;

use std::collections::BTreeMap;

use dh_core::limits::BLUEPRINT_BYTES_MAX;
use dh_units::Bytes;
use toml_edit::Document;

use crate::catalog::{Catalog, Kind};
use crate::codes::Code;
use crate::docs::Doc;
use crate::names::{nearest, suggestion};
use crate::problem::{Problems, Report, quoted};
use crate::section::{Section, Spot};
use crate::settings::{Service, ServiceSource, Settings};
use crate::write::{Origins, Writer};

/// The one schema this version reads.
const SCHEMA: i64 = 1;

/// Names of what is there when the file names none.
const DEFAULT_SITE: &str = "main";
const DEFAULT_STORE: &str = "main";
const DEFAULT_QUEUE: &str = "default";

pub(crate) const DOC: Doc = Doc {
    pattern: "",
    about: "A blueprint: one file that describes an AI data center.",
    keys: &[
        ("schema", "The version of this format; write schema = 1."),
        ("name", "The hall's name: lower case letters, digits and hyphens."),
        (
            "base",
            "Another blueprint, beside this one, that this one lies over: what is written here goes before what is written there.",
        ),
        ("site", "Buildings: [site.NAME]."),
        ("pool", "Groups of equal nodes: [pool.NAME]."),
        ("fabric", "Networks: [fabric.NAME]."),
        ("store", "Object stores: [store.NAME]."),
        ("queue", "Where jobs wait: [queue.NAME]."),
        ("zone", "Security zones: [zone.NAME]."),
        ("workload", "Jobs by name: [workload.NAME]."),
        ("service", "Models that are served: [service.NAME]."),
        ("gateway", "How requests to models go through the hall: [gateway]."),
        ("policy", "Limits and rules of the whole hall: [policy]."),
        ("edge", "Small sites far away: [edge.NAME]."),
        ("target", "How and where the hall runs: [target]."),
        ("catalog", "Items that this blueprint adds to the catalogue or changes: [catalog.KIND.NAME]."),
    ],
};

/// What readers of one section may know about the others.
struct Facts<'a> {
    catalog: &'a Catalog,
    sites: Vec<String>,
    pools: Vec<String>,
    /// Pools whose nodes have accelerators, as far as they could be read.
    accelerated: Vec<String>,
    fabrics: Vec<String>,
    stores: Vec<String>,
    /// Directories of drives that stores have named so far.
    drives: std::cell::RefCell<Vec<store::Named>>,
    queues: Vec<String>,
    zones: Vec<String>,
    workloads: Vec<String>,
    services: Vec<String>,
    edges: Vec<String>,
    /// Slots of the hall and of its largest node; `None` where a pool could not be read.
    slots: Option<Slots>,
}

#[derive(Clone, Copy)]
struct Slots {
    total: u64,
    largest_node: u32,
}

/// The settings of a file read as `text`, and of the bases it names, which `load` reads.
pub(crate) fn blueprint(file: &str, text: &str, load: &mut Load<'_>) -> Result<Settings, Report> {
    with_origins(file, text, load).map(|(settings, _)| settings)
}

/// The same, and where each key is written.
pub(crate) fn with_origins(file: &str, text: &str, load: &mut Load<'_>) -> Result<(Settings, Origins), Report> {
    let problems = Problems::default();
    let (texts, settings) = sources::with_bases(file, text, load, &problems, settings);
    match (problems.into_report_on(&sources::places(&texts)), settings) {
        (None, Some(settings)) => Ok((settings, sources::origins(&texts))),
        (Some(report), _) => Err(report),
        (None, None) => unreachable!("what could not be read was reported"),
    }
}

/// Reads `text` only for what the readers ask for; the observer of `problems` has it afterwards.
pub(crate) fn observe(text: &str, problems: &Problems) -> Option<Settings> {
    let nothing = &mut |_: &str, _: &str| Err(String::new());
    sources::with_bases("", text, nothing, problems, settings).1
}

/// The text as a TOML document; `offset` is where it starts among all texts.
pub(crate) fn document<'t>(text: &'t str, offset: usize, problems: &Problems) -> Option<Document<&'t str>> {
    if text.len() > BLUEPRINT_BYTES_MAX {
        let (is, most) = (bytes(text.len()), bytes(BLUEPRINT_BYTES_MAX));
        let message = format!("the file has {is}, a blueprint may have {most}");
        problems.add(Code::TOO_LARGE, &(offset..offset), message, None);
        return None;
    }
    Document::parse(text).map_err(|error| syntax::report(&error, text, offset, problems)).ok()
}

fn bytes(count: usize) -> Bytes {
    Bytes(u64::try_from(count).unwrap_or(u64::MAX))
}

/// The settings that `root` says, the whole file with its bases below it.
pub(crate) fn settings(root: &Section<'_>) -> Option<Settings> {
    let schema = root.need("schema", root.integer("schema", i64::MIN..=i64::MAX));
    if let Some(schema) = schema
        && schema.value != SCHEMA
    {
        let message = format!("schema {} is not known to this version", schema.value);
        root.problems.add(Code::SCHEMA, &schema.at, message, Some(format!("write schema = {SCHEMA}")));
    }
    let name = root.need("name", root.name("name"));
    root.text("base");
    let catalog = root.table("catalog").map_or_else(Catalog::default, |section| crate::catalog::read_own(&section));
    let mut facts = Facts {
        catalog: &catalog,
        sites: or_default(root.names("site"), DEFAULT_SITE),
        pools: root.names("pool"),
        accelerated: Vec::new(),
        fabrics: root.names("fabric"),
        stores: or_default(root.names("store"), DEFAULT_STORE),
        drives: std::cell::RefCell::default(),
        queues: or_default(root.names("queue"), DEFAULT_QUEUE),
        zones: root.names("zone"),
        workloads: root.names("workload"),
        services: root.names("service"),
        edges: root.names("edge"),
        slots: None,
    };
    let mut sites = each(root, "site", site::read);
    let before = root.problems.count();
    let pools = each(root, "pool", |section| pool::read(section, &facts));
    if root.names("pool").is_empty() && !root.has("pool") {
        let hint = Some("add a section [pool.local] with nodes = 1".to_owned());
        root.problems.add(Code::NO_POOL, &(0..0), "the blueprint has no pool, so the hall has no nodes", hint);
    } else if root.problems.count() == before {
        let total = pools.values().map(|pool| u64::from(pool.nodes) * u64::from(pool.slots)).sum();
        let largest_node = pools.values().map(|pool| pool.slots).max().unwrap_or(0);
        facts.slots = Some(Slots { total, largest_node });
    }
    facts.accelerated =
        pools.iter().filter(|(_, pool)| accelerators(pool, &catalog)).map(|(name, _)| name.clone()).collect();
    let fabrics = named(root, "fabric", |name, section| fabric::read(name, section, &facts));
    let mut stores = each(root, "store", |section| store::read(section, &facts));
    let mut queues = each(root, "queue", |section| queue::read(section, &facts));
    queue::together(root, &queues, facts.slots.map(|slots| slots.total));
    let zones = each(root, "zone", |section| zone::read(section, &facts));
    zone::one_zone_each(root, &zones);
    let workloads = each(root, "workload", |section| workload::read(section, &facts));
    let services = services(root, &facts);
    let gateway = gateway::read(root);
    let policy = policy::read(root);
    let edges = each(root, "edge", |section| edge::read(section, &facts));
    let target = target::read(root);
    sections(root);
    if sites.is_empty() {
        sites.insert(DEFAULT_SITE.to_owned(), site::ordinary());
    }
    if stores.is_empty() {
        stores.insert(DEFAULT_STORE.to_owned(), store::ordinary());
    }
    if queues.is_empty() {
        queues.insert(DEFAULT_QUEUE.to_owned(), crate::settings::Queue::default());
    }
    Some(Settings {
        name: name?.value,
        sites,
        pools,
        fabrics,
        stores,
        queues,
        zones,
        workloads,
        services,
        gateway,
        policy: policy?,
        edges,
        target: target?,
        catalog,
    })
}

/// Whether nodes of this pool have accelerators: by the catalogue, or because the machine itself is asked.
fn accelerators(pool: &crate::settings::Pool, catalog: &Catalog) -> bool {
    pool.item(catalog).is_some_and(|item| item.accelerators.as_ref().is_none_or(|count| count.value > 0))
}

fn or_default(names: Vec<String>, default: &str) -> Vec<String> {
    if names.is_empty() { vec![default.to_owned()] } else { names }
}

fn each<'a, T>(root: &Section<'a>, key: &'a str, read: impl Fn(&Section<'a>) -> Option<T>) -> BTreeMap<String, T> {
    named(root, key, |_, section| read(section))
}

fn named<'a, T>(
    root: &Section<'a>,
    key: &'a str,
    read: impl Fn(&str, &Section<'a>) -> Option<T>,
) -> BTreeMap<String, T> {
    let group = root.group(key).into_iter();
    group.filter_map(|(name, section)| read(&name, &section).map(|value| (name, value))).collect()
}

/// Services one by one, so that the first that no slot is left for is the one pointed at.
fn services(root: &Section<'_>, facts: &Facts<'_>) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    let mut used: u64 = 0;
    for (name, section) in root.group("service") {
        let Some(service) = service::read(&section, facts) else { continue };
        if !matches!(service.source, ServiceSource::Url(_)) {
            let held = used;
            used = used.saturating_add(u64::from(service.replicas) * u64::from(service.slots_per_replica));
            if let Some(slots) = facts.slots
                && held <= slots.total
                && used > slots.total
            {
                let message = format!(
                    "service `{name}` ({} x {} slots) brings the services to {used} slots, the hall has {}",
                    service.replicas, service.slots_per_replica, slots.total
                );
                let hint = Some("fewer or smaller replicas, or more nodes or slots in a pool".to_owned());
                section.problems.add(Code::SERVICES_TOO_LARGE, &section.at, message, hint);
            }
        }
        services.insert(name, service);
    }
    services
}

/// Reports sections and keys at the top that nothing reads.
fn sections(root: &Section<'_>) {
    const SECTIONS: [&str; 13] = [
        "site", "pool", "fabric", "store", "queue", "zone", "workload", "service", "gateway", "policy", "edge",
        "target", "catalog",
    ];
    for (key, item, at) in root.unknown() {
        if item.is_table_like() || item.is_array_of_tables() {
            let meant = if key == "storage" {
                "did you mean `store`?".to_owned()
            } else {
                suggestion(key, SECTIONS, "section")
            };
            root.problems.add(Code::UNKNOWN_SECTION, &at, format!("unknown section {}", quoted(key)), Some(meant));
        } else {
            let hint = match nearest(key, ["schema", "name", "base"]) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "only `schema`, `name` and `base` stand before the first section".to_owned(),
            };
            root.problems.add(Code::UNKNOWN_KEY, &at, format!("unknown key {}", quoted(key)), Some(hint));
        }
    }
}

/// The section that `written` names, or the one that is meant when nothing is written: the only one, or `default`.
fn reference(
    section: &Section<'_>,
    key: &str,
    written: Option<Spot<String>>,
    known: &[String],
    default: &str,
) -> Option<String> {
    let names = || known.iter().map(String::as_str);
    match written {
        Some(found) if known.contains(&found.value) => Some(found.value),
        Some(found) => {
            let message = format!("there is no `[{key}.{}]`", crate::problem::short(&found.value));
            section.problems.add(Code::DANGLING, &found.at, message, Some(suggestion(&found.value, names(), key)));
            None
        }
        // Written and not a text: reported already.
        None if section.has(key) => None,
        None => match known {
            [only] => Some(only.clone()),
            several if several.iter().any(|name| name == default) => Some(default.to_owned()),
            _ => {
                let message = format!("there are several sections `{key}` and none is called `{default}`; name one");
                let hint = Some(format!("known: {}", names().collect::<Vec<_>>().join(", ")));
                section.problems.add(Code::AMBIGUOUS, &section.at, message, hint);
                None
            }
        },
    }
}

/// What to say of two keys that exclude each other if one of them comes from a base, which the file cannot take away.
fn of_base(section: &Section<'_>, keys: [&str; 2]) -> Option<String> {
    let [one, other] = keys.map(|key| section.inherits(key));
    let key = match (one, other) {
        (true, false) => keys[0],
        (false, true) => keys[1],
        (true, true) | (false, false) => return None,
    };
    Some(format!("`{key}` comes from the base, which can be changed and not taken away; use another name"))
}

/// Reports names that stand in a list more than once.
fn once(section: &Section<'_>, key: &str, list: &[Spot<String>]) {
    let mut seen = std::collections::BTreeSet::new();
    for found in list.iter().filter(|found| !seen.insert(found.value.as_str())) {
        let message = format!("{} stands in `{key}` more than once", quoted(&found.value));
        section.problems.add(Code::DUPLICATE, &found.at, message, Some("delete one".to_owned()));
    }
}

/// The section of `kind` that `found` names, if there is one.
fn existing(section: &Section<'_>, kind: &str, found: Spot<String>, known: &[String]) -> Option<String> {
    if known.contains(&found.value) {
        return Some(found.value);
    }
    let message = format!("there is no `[{kind}.{}]`", crate::problem::short(&found.value));
    let hint = suggestion(&found.value, known.iter().map(String::as_str), kind);
    section.problems.add(Code::DANGLING, &found.at, message, Some(hint));
    None
}

/// The item of the catalogue that `found` names, if there is one.
fn in_catalog(section: &Section<'_>, facts: &Facts<'_>, kind: Kind, found: Spot<String>) -> Option<Spot<String>> {
    let names = facts.catalog.names(kind);
    if names.contains(&found.value.as_str()) {
        return Some(found);
    }
    let word = kind.word();
    let hint = suggestion(&found.value, names, word);
    let message = format!("the catalogue has no {word} {}", quoted(&found.value));
    section.problems.add(Code::NOT_IN_CATALOG, &found.at, message, Some(hint));
    None
}

/// `settings` as a blueprint again, every default written out.
pub(crate) fn write(out: &mut Writer<'_>, settings: &Settings) {
    out.integer("schema", SCHEMA);
    out.text("name", &settings.name);
    each_written(out, "site", &settings.sites, site::write);
    each_written(out, "pool", &settings.pools, pool::write);
    each_written(out, "fabric", &settings.fabrics, fabric::write);
    each_written(out, "store", &settings.stores, store::write);
    each_written(out, "queue", &settings.queues, queue::write);
    each_written(out, "zone", &settings.zones, zone::write);
    each_written(out, "workload", &settings.workloads, workload::write);
    each_written(out, "service", &settings.services, service::write);
    out.section("gateway", "");
    gateway::write(out, &settings.gateway);
    out.section("policy", "");
    policy::write(out, &settings.policy);
    each_written(out, "edge", &settings.edges, edge::write);
    out.section("target", "");
    target::write(out, &settings.target);
    out.sections(&settings.catalog.toml());
}

fn each_written<'w, T>(
    out: &mut Writer<'w>,
    kind: &str,
    all: &BTreeMap<String, T>,
    write: impl Fn(&mut Writer<'w>, &T),
) {
    for (name, one) in all {
        out.section(kind, name);
        write(out, one);
    }
}
