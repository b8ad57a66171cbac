//! `[service.NAME]`: a model that is served, by the built-in engine or by one that runs already.

use super::Facts;
use crate::codes::Code;
use crate::names::suggestion;
use crate::problem::quoted;
use crate::section::{Section, Spot};
use crate::settings::{Service, ServiceSource};

/// Replicas of one service; more than a hall of this version can run.
const REPLICAS_MAX: u32 = 65_536;

const URL_MAX: usize = 2_048;

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Service> {
    let model = section.text("model");
    let url = section.text("url");
    let replicas = section.integer("replicas", 1..=REPLICAS_MAX);
    let source = match (section.has("model"), section.has("url")) {
        (true, false) => model.and_then(|model| model_source(section, &model, facts)),
        (false, true) => url.and_then(|url| url_source(section, &url)),
        (both, _) => {
            let message =
                if both { "`model` and `url` exclude each other" } else { "the service needs `model` or `url`" };
            let at = if both { section.key_at("url") } else { section.at.clone() };
            let hint = Some("`model` runs an engine, `url` stands in front of one that runs already".to_owned());
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
    section.finish();
    Some(Service { source: source?, replicas: replicas.map_or(1, |replicas| replicas.value) })
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
    if facts.catalog.model(&model.value).is_some() {
        return Some(ServiceSource::Model(model.value.clone()));
    }
    let hint = if facts.workloads.contains(&model.value) {
        format!("for the model that the workload trains, write \"workload:{}\"", model.value)
    } else {
        suggestion(&model.value, facts.catalog.models().map(|model| model.name.as_str()), "model")
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
