//! `[service.NAME]`: a model that is served, by the built-in engine or by one that runs already.

use dh_units::{Seconds, Tokens};
use serde::{Deserialize, Serialize};

use super::Facts;
use crate::catalog::Kind;
use crate::codes::Code;
use crate::docs::Doc;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::write::Writer;

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Where answers come from.
    pub source: ServiceSource,
    /// Copies that run at once; one for an engine at a URL.
    pub replicas: u32,
    /// Slots that one replica holds.
    pub slots_per_replica: u32,
    /// Requests that arrive in a second, where known.
    pub requests_per_second: Option<f64>,
    /// Tokens of an ordinary prompt.
    pub input: Tokens,
    /// Tokens of an ordinary answer.
    pub output: Tokens,
    /// The time to the first token that 99 of 100 requests must keep.
    pub ttft_p99: Option<Seconds>,
    /// The time for each further token that 99 of 100 requests must keep.
    pub tpot_p99: Option<Seconds>,
}

/// Where a service's answers come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceSource {
    /// A model of the catalogue, run by the built-in engine.
    Model(String),
    /// The newest checkpoint of a training workload.
    Workload(String),
    /// An engine that runs already.
    Url(String),
}

/// Mean lengths of conversations in published request traces are of this order (Azure 2023: 1,155 in, 211 out); stated assumption.
const INPUT: Tokens = Tokens(1_024);
const OUTPUT: Tokens = Tokens(256);

pub(crate) const DOC: Doc = Doc {
    pattern: "service.*",
    about: "A model that is served.",
    keys: &[
        ("model", "A model of the catalogue, or \"workload:NAME\" for the newest checkpoint of a training workload."),
        ("url", "The address of an engine that runs already and speaks the OpenAI protocol."),
        ("replicas", "Copies that run at once."),
        ("slots_per_replica", "Slots that one replica holds."),
        ("requests_per_second", "Requests that arrive in a second, above 0 and at most 1e9."),
        ("input_tokens", "Tokens of an ordinary prompt."),
        ("output_tokens", "Tokens of an ordinary answer."),
        ("ttft_p99", "The time to the first token that 99 of 100 requests must keep."),
        ("tpot_p99", "The time for each further token that 99 of 100 requests must keep."),
    ],
};

/// Replicas of one service; more than a hall of this version can run.
const REPLICAS_MAX: u32 = 65_536;

const URL_MAX: usize = 2_048;

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Service> {
    let model = section.text("model");
    let url = section.text("url");
    let replicas = section.integer("replicas", 1..=REPLICAS_MAX);
    let slots = section.integer("slots_per_replica", 1..=1_024);
    let rate = section.real("requests_per_second", "a number above 0, at most 1e9", |rate| rate > 0.0 && rate <= 1e9);
    let input = section.positive("input_tokens", Tokens(0));
    let output = section.positive("output_tokens", Tokens(0));
    let ttft = section.positive("ttft_p99", Seconds(0.0));
    let tpot = section.positive("tpot_p99", Seconds(0.0));
    let source = match (section.has("model"), section.has("url")) {
        (true, false) => model.and_then(|model| model_source(section, &model, facts)),
        (false, true) => url.and_then(|url| url_source(section, &url)),
        (both, _) => {
            let message =
                if both { "`model` and `url` exclude each other" } else { "the service needs `model` or `url`" };
            let at = if both { section.key_at("url") } else { section.at.clone() };
            let hint = super::of_base(section, ["model", "url"])
                .or_else(|| Some("`model` runs an engine, `url` stands in front of one that runs already".to_owned()));
            section.problems.add(Code::ONE_OF, &at, message, hint);
            None
        }
    };
    if let (Some(ServiceSource::Url(_)), Some(replicas)) = (&source, &replicas)
        && replicas.value != 1
    {
        let message = "the replicas of an engine at a URL are not ours to start";
        let hint = Some("remove `replicas`, or write one service for each URL".to_owned());
        section.problems.add(Code::OUT_OF_RANGE, &replicas.at, message, hint);
    }
    if let (Some(ServiceSource::Url(_)), Some(slots)) = (&source, &slots)
        && slots.value != 1
    {
        let message = "an engine at a URL holds no slots of the hall";
        section.problems.add(Code::OUT_OF_RANGE, &slots.at, message, Some("remove `slots_per_replica`".to_owned()));
    }
    section.finish();
    Some(Service {
        source: source?,
        replicas: replicas.map_or(1, |replicas| replicas.value),
        slots_per_replica: slots.map_or(1, |slots| slots.value),
        requests_per_second: rate.map(|rate| rate.value),
        input: input.map_or(INPUT, |tokens| tokens.value),
        output: output.map_or(OUTPUT, |tokens| tokens.value),
        ttft_p99: ttft.map(|time| time.value),
        tpot_p99: tpot.map(|time| time.value),
    })
}

pub(crate) fn write(out: &mut Writer<'_>, service: &Service) {
    match &service.source {
        ServiceSource::Model(model) => out.text("model", model),
        ServiceSource::Workload(workload) => out.text("model", &format!("workload:{workload}")),
        ServiceSource::Url(url) => out.text("url", url),
    }
    out.integer("replicas", service.replicas);
    out.integer("slots_per_replica", service.slots_per_replica);
    out.maybe_real("requests_per_second", service.requests_per_second);
    out.quantity("input_tokens", service.input);
    out.quantity("output_tokens", service.output);
    out.maybe_quantity("ttft_p99", service.ttft_p99);
    out.maybe_quantity("tpot_p99", service.tpot_p99);
}

fn model_source(section: &Section<'_>, model: &Spot<String>, facts: &Facts<'_>) -> Option<ServiceSource> {
    if let Some(workload) = model.value.strip_prefix("workload:") {
        if facts.workloads.iter().any(|name| name == workload) {
            return Some(ServiceSource::Workload(workload.to_owned()));
        }
        let hint = suggestion(workload, facts.workloads.iter().map(String::as_str), "workload");
        let message = format!("there is no workload {}", quoted(workload));
        section.problems.add(Code::DANGLING, &model.at, message, Some(hint));
        return None;
    }
    if facts.catalog.names(Kind::Model).contains(&model.value.as_str()) {
        return Some(ServiceSource::Model(model.value.clone()));
    }
    let hint = if facts.workloads.contains(&model.value) {
        format!("for the model that the workload trains, write \"workload:{}\"", model.value)
    } else {
        suggestion(&model.value, facts.catalog.names(Kind::Model), "model")
    };
    let message = format!("the catalogue has no model {}", quoted(&model.value));
    section.problems.add(Code::NOT_IN_CATALOG, &model.at, message, Some(hint));
    None
}

fn url_source(section: &Section<'_>, url: &Spot<String>) -> Option<ServiceSource> {
    if let Err(why) = check_url(&url.value) {
        let hint = Some("for example \"http://127.0.0.1:8080\"".to_owned());
        section.problems.add(Code::BAD_URL, &url.at, format!("{} {why}", quoted(&url.value)), hint);
        return None;
    }
    Some(ServiceSource::Url(url.value.clone()))
}

/// Whether an HTTP client can be pointed at `url`. RFC 3986 without user names, which would be secrets in the blueprint.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or("does not start with http:// or https://")?;
    if url.len() > URL_MAX {
        return Err("is too long for an address");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("contains a space or a character that is not ASCII");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("contains a user name or key, which does not belong into a blueprint");
    }
    // An IPv6 address stands in brackets and contains colons.
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, port)) => (host, port),
        None => authority
            .split_once(':')
            .map_or((authority, ""), |(host, _)| (host, authority.get(host.len()..).unwrap_or_default())),
    };
    let port_good =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host.is_empty() {
        return Err("names no host");
    }
    if !port_good {
        return Err("has a port that is not a number from 1 to 65535");
    }
    if rest.contains(['?', '#']) {
        return Err("has a query or a fragment, which an engine's address does not have");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn addresses_of_engines_are_checked() {
        for good in ["http://127.0.0.1:8080", "https://host/v1", "http://[::1]:9", "http://a"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:80",
            "ftp://a",
            "http://",
            "http:///v1",
            "http://:80",
            "http://a:0",
            "http://a:x",
            "http://a:70000",
            "http://key@a",
            "http://a b",
            "http://a?x=1",
            "http://[::1",
            "http://é",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
