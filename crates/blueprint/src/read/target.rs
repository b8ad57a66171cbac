//! `[target]`: how and where the hall runs.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::cluster::{self, Cluster};
use crate::codes::Code;
use crate::docs::Doc;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::Writer;

/// What starts processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// Processes of this machine.
    #[default]
    Local,
    /// Nothing: tasks that last as long as they say, on nodes that exist in the hall only.
    Sim,
    /// Jobs of a Slurm cluster, on the nodes that the hall chooses.
    Slurm,
    /// Pods of a Kubernetes cluster, on the nodes that the hall chooses.
    Kubernetes,
}

impl Executor {
    /// Its name in a blueprint and among executors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Sim => "sim",
            Self::Slurm => "slurm",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// Every executor by its name.
const EXECUTORS: &[(&str, Executor)] = &[
    ("local", Executor::Local),
    ("sim", Executor::Sim),
    ("slurm", Executor::Slurm),
    ("kubernetes", Executor::Kubernetes),
];

/// Where the hall keeps its event log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In a file of the data directory; one server.
    #[default]
    Sqlite,
    /// In a `PostgreSQL` database, by its address without a password; of several servers one leads.
    Postgres(String),
}

/// How and where the hall runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The address every listener binds.
    pub listen: IpAddr,
    /// Whether an address beyond this machine was asked for knowingly.
    pub expose: bool,
    /// Port of the hall's API and pages; 0 is any free one.
    pub api_port: u16,
    /// Port of the model gateway; 0 is any free one.
    pub gateway_port: u16,
    /// Port of the object store; 0 is any free one.
    pub store_port: u16,
    /// What starts processes.
    pub executor: Executor,
    /// The names that the executor's own system has for the hall's nodes, such as `gpu[001-128]`; all that it has if absent.
    pub hosts: Option<String>,
    /// The partition of a Slurm cluster; its default one if absent.
    pub partition: Option<String>,
    /// The host name or address by which tasks reach the hall's store; the one it listens on if absent.
    pub reached_at: Option<String>,
    /// How a Kubernetes cluster is reached, and what its pods are made of.
    #[serde(default)]
    pub cluster: Cluster,
    /// Where the event log is.
    pub state: State,
}

pub(crate) const DOC: Doc = Doc {
    pattern: "target",
    about: "How and where the hall runs.",
    keys: &[
        ("listen", "The address every listener binds; 127.0.0.1 is this machine only."),
        ("expose", "Whether an address beyond this machine is wanted."),
        ("api_port", "Port of the hall's API and pages; 0 is any free one."),
        ("gateway_port", "Port of the model gateway; 0 is any free one."),
        ("store_port", "Port of the object store; 0 is any free one."),
        ("executor", "What starts processes."),
        (
            "hosts",
            "What the executor's own system calls the hall's nodes, in their order: \"gpu[001-128]\". All that it has if left out.",
        ),
        ("partition", "The partition of a Slurm cluster; its default one if left out."),
        (
            "reached_at",
            "The host name or address by which tasks reach the hall's store; the address it listens on if left out.",
        ),
        cluster::KUBECONFIG,
        cluster::CONTEXT,
        cluster::NAMESPACE,
        cluster::IMAGE,
        cluster::ACCOUNT,
        cluster::PULL,
        cluster::TOLERATIONS,
        cluster::CPUS,
        cluster::WITHIN,
        cluster::LOST,
        (
            "state",
            "Where the event log is: \"sqlite\" in the data directory, or \"postgres://USER@HOST/DATABASE\" where several servers share a hall. The password is taken from PGPASSWORD.",
        ),
    ],
};

/// Ports next to each other and outside of the range that Linux hands out itself (32768 and above).
const API_PORT: u16 = 4600;
const GATEWAY_PORT: u16 = 4601;
const STORE_PORT: u16 = 4602;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn ordinary() -> Target {
    Target {
        listen: LOOPBACK,
        expose: false,
        api_port: API_PORT,
        gateway_port: GATEWAY_PORT,
        store_port: STORE_PORT,
        executor: Executor::Local,
        hosts: None,
        partition: None,
        reached_at: None,
        cluster: Cluster::default(),
        state: State::Sqlite,
    }
}

/// The target of the file, or the ordinary one if it has none.
pub(super) fn read(root: &Section<'_>) -> Option<Target> {
    if !root.has("target") {
        root.know(&["target"]);
        return Some(ordinary());
    }
    root.table("target").map(|section| target(&section))
}

fn target(section: &Section<'_>) -> Target {
    let listen = section.text("listen").and_then(|found| address(section, &found));
    let expose = section.boolean("expose").is_some_and(|expose| expose.value);
    let ports = [("api_port", API_PORT), ("gateway_port", GATEWAY_PORT), ("store_port", STORE_PORT)];
    let [api_port, gateway_port, store_port] = ports.map(|(key, default)| {
        let port = section.integer(key, 0..=u16::MAX);
        (key, port.map_or(default, |port| port.value))
    });
    different(section, [api_port, gateway_port, store_port]);
    let executor = section.word("executor", EXECUTORS);
    let (hosts, partition) = (section.text("hosts"), section.text("partition"));
    let reached_at = section.text("reached_at").map(|found| found.value);
    let cluster = cluster::read(section, executor.as_ref().map_or(Executor::Local, |executor| executor.value));
    let state = section.text("state").and_then(|found| state(section, &found));
    if let Some(listen) = &listen
        && !listen.value.is_loopback()
        && !expose
    {
        let message = format!("{} can be reached from other machines", listen.value);
        let hint = "keep listen = \"127.0.0.1\", or write expose = true beside it if this is wanted".to_owned();
        section.problems.add(Code::EXPOSED, &listen.at, message, Some(hint));
    }
    section.finish();
    Target {
        listen: listen.map_or(LOOPBACK, |listen| listen.value),
        expose,
        api_port: api_port.1,
        gateway_port: gateway_port.1,
        store_port: store_port.1,
        executor: executor.map_or(Executor::Local, |executor| executor.value),
        hosts: hosts.map(|hosts| hosts.value),
        partition: partition.map(|partition| partition.value),
        reached_at,
        cluster,
        state: state.unwrap_or_default(),
    }
}

/// Where the log is; a password in the address would be in every copy of the blueprint.
fn state(section: &Section<'_>, found: &Spot<String>) -> Option<State> {
    let text = found.value.as_str();
    if text == "sqlite" {
        return Some(State::Sqlite);
    }
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let who = rest.and_then(|rest| rest.split(['/', '?']).next()).and_then(|host| host.rsplit_once('@'));
    let secret = who.is_some_and(|(user, _)| user.contains(':')) || text.contains("password=");
    if rest.is_some_and(|rest| !rest.is_empty()) && !secret {
        return Some(State::Postgres(found.value.clone()));
    }
    let (message, hint) = if secret {
        ("`state` holds a password".to_owned(), "leave it out of the blueprint, and set PGPASSWORD for the server")
    } else {
        let message = format!("`state` is {}, expected \"sqlite\" or the address of a database", quoted(text));
        (message, "for example state = \"postgres://hall@db.example/hall\"")
    };
    section.problems.add(Code::BAD_STATE, &found.at, message, Some(hint.to_owned()));
    None
}

fn address(section: &Section<'_>, found: &Spot<String>) -> Option<Spot<IpAddr>> {
    if let Ok(value) = found.value.parse() {
        return Some(Spot { value, at: found.at.clone() });
    }
    let hint = match found.value.as_str() {
        "localhost" => "write listen = \"127.0.0.1\"".to_owned(),
        text if text.parse::<std::net::SocketAddr>().is_ok() => {
            "write the address alone; ports have keys of their own: api_port, gateway_port, store_port".to_owned()
        }
        _ => "for example \"127.0.0.1\" or \"::1\"".to_owned(),
    };
    section.problems.add(
        Code::BAD_ADDRESS,
        &found.at,
        format!("{} is not an IP address", quoted(&found.value)),
        Some(hint),
    );
    None
}

/// Each listener needs a port of its own; 0 is any free one.
fn different(section: &Section<'_>, ports: [(&str, u16); 3]) {
    for (place, (key, port)) in ports.iter().enumerate() {
        let same = ports.iter().take(place).find(|(_, other)| other == port && *port != 0);
        if let Some((other, _)) = same {
            // Point at the key that is written; the other may be a default.
            let at = if section.has(key) { section.key_at(key) } else { section.key_at(other) };
            let message = format!("`{other}` and `{key}` are both {port}");
            section.problems.add(
                Code::SAME_PORT,
                &at,
                message,
                Some("give each its own, or 0 for any free port".to_owned()),
            );
        }
    }
}

pub(crate) fn write(out: &mut Writer<'_>, target: &Target) {
    out.text("listen", &target.listen.to_string());
    out.boolean("expose", target.expose);
    out.integer("api_port", target.api_port);
    out.integer("gateway_port", target.gateway_port);
    out.integer("store_port", target.store_port);
    out.text("executor", target.executor.name());
    out.maybe_text("hosts", target.hosts.as_deref());
    out.maybe_text("partition", target.partition.as_deref());
    out.maybe_text("reached_at", target.reached_at.as_deref());
    cluster::write(out, &target.cluster);
    let state = match &target.state {
        State::Sqlite => "sqlite",
        State::Postgres(address) => address.as_str(),
    };
    out.text("state", state);
}
