//! `[zone.NAME]`: a security zone: who is in it, and what may pass from it to others. What is not allowed is refused.

use serde::{Deserialize, Serialize};

use super::Facts;
use crate::codes::Code;
use crate::docs::Doc;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::{Writer, list, quoted as toml};

/// What a zone may hold: a kind of section and a name, or the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Member {
    /// All nodes of a pool.
    Pool(String),
    /// The switches of a fabric.
    Fabric(String),
    /// A store.
    Store(String),
    /// A service.
    Service(String),
    /// A small site.
    Edge(String),
    /// Everything that is not described.
    Internet,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(name) => write!(f, "pool.{name}"),
            Self::Fabric(name) => write!(f, "fabric.{name}"),
            Self::Store(name) => write!(f, "store.{name}"),
            Self::Service(name) => write!(f, "service.{name}"),
            Self::Edge(name) => write!(f, "edge.{name}"),
            Self::Internet => f.write_str("internet"),
        }
    }
}

/// Ports that may be reached, and over which protocol: `443/tcp`, `30000-32767/tcp`, `any`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// The zone that may be reached.
    pub to: String,
    /// Ports as they are written; each was checked.
    pub ports: Vec<String>,
    /// Why, for whoever asks later.
    pub why: String,
}

/// A security zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Who is in it.
    pub members: Vec<Member>,
    /// What may pass from it.
    pub allow: Vec<Allow>,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "zone.*",
    about: "A security zone. Nothing passes between zones but what is allowed.",
    keys: &[
        (
            "members",
            "Who is in it: \"pool.NAME\", \"fabric.NAME\", \"store.NAME\", \"service.NAME\", \"edge.NAME\" or \"internet\". Each may be in one zone.",
        ),
        ("allow", "What may pass from this zone to others: a list of tables."),
    ],
};

pub(crate) const ALLOW_DOC: Doc = Doc {
    pattern: "zone.*.allow",
    about: "One thing that may pass.",
    keys: &[
        ("to", "The zone that may be reached."),
        ("ports", "Ports and protocol: \"443/tcp\", \"30000-32767/udp\", or \"any\"."),
        ("why", "Why, for whoever asks later."),
    ],
};

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Zone> {
    let members = section.need("members", section.spots("members"));
    if let Some(members) = &members {
        super::once(section, "members", &members.value);
    }
    // Every member is looked at before the first wrong one ends it, so that all are reported.
    let members = members.map(|list| list.value.iter().map(|found| member(section, found, facts)).collect::<Vec<_>>());
    let members: Option<Vec<Member>> = members.and_then(|members| members.into_iter().collect());
    let rules = section.list("allow");
    let count = rules.len();
    let allow: Vec<Allow> = rules.iter().filter_map(|rule| allow(rule, facts)).collect();
    section.finish();
    let members = members?;
    (allow.len() == count).then_some(Zone { members, allow })
}

/// A kind of section, the names there are, and the member that one of them is.
type MemberKind<'f> = (&'static str, &'f [String], fn(String) -> Member);

fn member(section: &Section<'_>, found: &Spot<String>, facts: &Facts<'_>) -> Option<Member> {
    if found.value == "internet" {
        return Some(Member::Internet);
    }
    let kinds: [MemberKind<'_>; 5] = [
        ("pool", &facts.pools, Member::Pool),
        ("fabric", &facts.fabrics, Member::Fabric),
        ("store", &facts.stores, Member::Store),
        ("service", &facts.services, Member::Service),
        ("edge", &facts.edges, Member::Edge),
    ];
    let (kind, name) = found.value.split_once('.').unwrap_or((&found.value, ""));
    if let Some((kind, known, make)) = kinds.into_iter().find(|(known, _, _)| *known == kind && !name.is_empty()) {
        if known.iter().any(|one| one == name) {
            return Some(make(name.to_owned()));
        }
        let message = format!("there is no `[{kind}.{}]`", crate::problem::short(name));
        let hint = suggestion(name, known.iter().map(String::as_str), kind);
        section.problems.add(Code::DANGLING, &found.at, message, Some(hint));
        return None;
    }
    let message = format!("{} cannot be a member of a zone", quoted(&found.value));
    let hint = Some("pool.NAME, fabric.NAME, store.NAME, service.NAME, edge.NAME or internet".to_owned());
    section.problems.add(Code::UNKNOWN_WORD, &found.at, message, hint);
    None
}

fn allow(rule: &Section<'_>, facts: &Facts<'_>) -> Option<Allow> {
    let to = rule.need("to", rule.text("to"));
    let to = to.and_then(|found| super::existing(rule, "zone", found, &facts.zones));
    let ports = rule.need("ports", rule.spots("ports"));
    if let Some(none) = ports.as_ref().filter(|ports| ports.value.is_empty()) {
        let hint = Some("\"443/tcp\", \"30000-32767/udp\" or \"any\"".to_owned());
        rule.problems.add(Code::BAD_PORTS, &none.at, "`ports` is empty, so nothing may pass", hint);
    }
    let good = ports.as_ref().is_some_and(|ports| {
        // Every port is looked at, so that all wrong ones are reported.
        ports.value.iter().filter(|found| !port(rule, found)).count() == 0
    });
    let why = rule.need("why", rule.text("why"));
    rule.finish();
    let ports = ports.filter(|_| good)?.value.into_iter().map(|found| found.value).collect();
    Some(Allow { to: to?, ports, why: why?.value })
}

/// `443/tcp`, `30000-32767/udp` or `any`.
fn port(section: &Section<'_>, found: &Spot<String>) -> bool {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    let good = found.value == "any"
        || found.value.split_once('/').is_some_and(|(ports, protocol)| {
            let range = match ports.split_once('-') {
                Some((low, high)) => number(low).zip(number(high)).is_some_and(|(low, high)| low <= high),
                None => number(ports).is_some(),
            };
            range && (protocol == "tcp" || protocol == "udp")
        });
    if !good {
        let message = format!("{} does not name ports", quoted(&found.value));
        let hint = Some("\"443/tcp\", \"30000-32767/udp\" or \"any\"".to_owned());
        section.problems.add(Code::BAD_PORTS, &found.at, message, hint);
    }
    good
}

/// Reports what is a member of more than one zone: what would be allowed for it is not clear then.
pub(super) fn one_zone_each(root: &Section<'_>, zones: &std::collections::BTreeMap<String, Zone>) {
    let mut seen: std::collections::BTreeMap<String, &str> = std::collections::BTreeMap::new();
    for (name, zone) in zones {
        for member in &zone.members {
            let member = member.to_string();
            if let Some(first) = seen.get(member.as_str()).filter(|first| *first != name) {
                let message = format!("`{member}` is a member of zone `{first}` and of zone `{name}`");
                let hint = Some("each may be in one zone".to_owned());
                root.problems.add(Code::TWO_ZONES, &root.name_at("zone", name), message, hint);
            }
            seen.entry(member).or_insert(name);
        }
    }
}

pub(crate) fn write(out: &mut Writer<'_>, zone: &Zone) {
    out.texts("members", &zone.members.iter().map(ToString::to_string).collect::<Vec<_>>());
    let rules = zone.allow.iter().map(|rule| {
        let ports = list(rule.ports.iter().map(|port| toml(port)));
        format!("{{ to = {}, ports = {ports}, why = {} }}", toml(&rule.to), toml(&rule.why))
    });
    let rules: Vec<String> = rules.collect();
    if !rules.is_empty() {
        out.raw("allow", &format!("[\n  {},\n]", rules.join(",\n  ")));
    }
}
