//! The whole file: which sections there are, in which order they are read, and what holds between them.
//!
//! A new section is one file in `read/` and one line in [`settings`].

mod pool;
mod queue;
mod service;
mod site;
mod store;
mod target;
mod workload;

use std::collections::BTreeMap;

use dh_core::limits::BLUEPRINT_BYTES_MAX;
use dh_units::Bytes;
use toml_edit::{Document, TomlError};

use crate::catalog::Catalog;
use crate::codes::Code;
use crate::names::{nearest, suggestion};
use crate::problem::{Problems, Report, quoted};
use crate::section::{Section, Spot};
use crate::settings::{Service, ServiceSource, Settings};

/// The one schema this version reads.
const SCHEMA: i64 = 1;

/// Names of what is there when the file names none.
const DEFAULT_SITE: &str = "main";
const DEFAULT_STORE: &str = "main";
const DEFAULT_QUEUE: &str = "default";

/// Sections of the design that this version does not act on.
const NOT_YET: [&str; 5] = ["fabric", "zone", "policy", "edge", "catalog"];

/// What readers of one section may know about the others.
struct Facts<'a> {
    catalog: &'a Catalog,
    sites: Vec<String>,
    stores: Vec<String>,
    queues: Vec<String>,
    workloads: Vec<String>,
    /// Slots of the hall and of its largest node; `None` where a pool could not be read.
    slots: Option<Slots>,
}

#[derive(Clone, Copy)]
struct Slots {
    total: u64,
    largest_node: u32,
}

pub(crate) fn blueprint(file: &str, text: &str, catalog: &Catalog) -> Result<Settings, Report> {
    let problems = Problems::default();
    let read = document(text, &problems).and_then(|document| {
        let root = Section::new(String::new(), 0..0, document.as_table(), &problems);
        settings(&root, catalog)
    });
    match (problems.into_report(file, text), read) {
        (None, Some(settings)) => Ok(settings),
        (Some(report), _) => Err(report),
        (None, None) => unreachable!("what could not be read was reported"),
    }
}

/// The text as a TOML document.
pub(crate) fn document<'t>(text: &'t str, problems: &Problems) -> Option<Document<&'t str>> {
    if text.len() > BLUEPRINT_BYTES_MAX {
        let (is, most) = (bytes(text.len()), bytes(BLUEPRINT_BYTES_MAX));
        problems.add(Code::TOO_LARGE, &(0..0), format!("the file has {is}, a blueprint may have {most}"), None);
        return None;
    }
    Document::parse(text).map_err(|error| syntax(&error, text, problems)).ok()
}

fn bytes(count: usize) -> Bytes {
    Bytes(u64::try_from(count).unwrap_or(u64::MAX))
}

fn syntax(error: &TomlError, text: &str, problems: &Problems) {
    let at = error.span().unwrap_or(text.len()..text.len());
    let message = error.message().trim();
    if message.starts_with("duplicate key") {
        let key = quoted(text.get(at.clone()).unwrap_or_default());
        let hint = Some("rename one of the two, or delete one".to_owned());
        problems.add(Code::DUPLICATE, &at, format!("{key} was written before"), hint);
    } else {
        let hint = Some("texts stand in quotes: name = \"lab\"; sections in brackets: [pool.local]".to_owned());
        problems.add(Code::SYNTAX, &at, format!("this is not TOML: {message}"), hint);
    }
}

fn settings(root: &Section<'_>, catalog: &Catalog) -> Option<Settings> {
    let schema = root.need("schema", root.integer("schema", i64::MIN..=i64::MAX));
    if let Some(schema) = schema
        && schema.value != SCHEMA
    {
        let message = format!("schema {} is not known to this version", schema.value);
        root.problems.add(Code::SCHEMA, &schema.at, message, Some(format!("write schema = {SCHEMA}")));
    }
    let name = root.need("name", root.name("name"));
    let mut facts = Facts {
        catalog,
        sites: or_default(root.names("site"), DEFAULT_SITE),
        stores: or_default(root.names("store"), DEFAULT_STORE),
        queues: or_default(root.names("queue"), DEFAULT_QUEUE),
        workloads: root.names("workload"),
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
    let mut stores = each(root, "store", store::read);
    let mut queues = each(root, "queue", queue::read);
    let workloads = each(root, "workload", |section| workload::read(section, &facts));
    let services = services(root, &facts);
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
    Some(Settings { name: name?.value, sites, pools, stores, queues, workloads, services, target: target? })
}

fn or_default(names: Vec<String>, default: &str) -> Vec<String> {
    if names.is_empty() { vec![default.to_owned()] } else { names }
}

fn each<'a, T>(root: &Section<'a>, key: &'a str, read: impl Fn(&Section<'a>) -> Option<T>) -> BTreeMap<String, T> {
    let group = root.group(key).into_iter();
    group.filter_map(|(name, section)| read(&section).map(|value| (name, value))).collect()
}

/// Services one by one, so that the first that no slot is left for is the one pointed at.
fn services(root: &Section<'_>, facts: &Facts<'_>) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    let mut used: u64 = 0;
    for (name, section) in root.group("service") {
        let Some(service) = service::read(&section, facts) else { continue };
        if !matches!(service.source, ServiceSource::Url(_)) {
            let held = used;
            used = used.saturating_add(service.replicas.into());
            if let Some(slots) = facts.slots
                && held <= slots.total
                && used > slots.total
            {
                let message = format!(
                    "service `{name}` brings the services to {used} slots (one for each replica), the hall has {}",
                    slots.total
                );
                let hint = Some("fewer replicas, or more nodes or slots in a pool".to_owned());
                section.problems.add(Code::SERVICES_TOO_LARGE, &section.at, message, hint);
            }
        }
        services.insert(name, service);
    }
    services
}

/// Reports sections and keys at the top that nothing reads.
fn sections(root: &Section<'_>) {
    const SECTIONS: [&str; 7] = ["site", "pool", "store", "queue", "workload", "service", "target"];
    for (key, item, at) in root.unknown() {
        if NOT_YET.contains(&key) {
            let message = format!("section `{key}` is not supported yet by this version");
            root.problems.add(Code::NOT_SUPPORTED_YET, &at, message, Some("remove it".to_owned()));
        } else if item.is_table() || item.is_array_of_tables() {
            let meant = if key == "storage" {
                "did you mean `store`?".to_owned()
            } else {
                suggestion(key, SECTIONS, "section")
            };
            root.problems.add(Code::UNKNOWN_SECTION, &at, format!("unknown section {}", quoted(key)), Some(meant));
        } else {
            let hint = match nearest(key, ["schema", "name"]) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "only `schema` and `name` stand before the first section".to_owned(),
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
            let message = format!("there is no `[{key}.{}]`", crate::problem::plain(&found.value));
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
