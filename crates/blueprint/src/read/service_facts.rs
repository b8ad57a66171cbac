//! The keys of `[service.NAME]` that say how a service is reached and what it costs, and within what its replicas follow the load.

use dh_core::DataClass;
use dh_units::Seconds;
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::section::Section;
use crate::write::Writer;

/// The part of a request that an engine does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceRole {
    /// Whole requests.
    #[default]
    Both,
    /// Prompts.
    Prefill,
    /// Answers to prompts that another engine read.
    Decode,
}

impl ServiceRole {
    /// All of them with their words in blueprints.
    pub const ALL: [(&str, Self); 3] = [("both", Self::Both), ("prefill", Self::Prefill), ("decode", Self::Decode)];

    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, role)| *role == self).map_or("", |(word, _)| word)
    }
}

/// How the engines of a service are reached, and what they cost and may read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// The model that requests ask for; the service's own name if not given. Services of one model share its requests.
    pub serves: Option<String>,
    /// The place that an engine at a URL stands in.
    pub region: Option<String>,
    /// To it and back, where known.
    pub round_trip: Option<Seconds>,
    /// Dollars for a thousand million bytes to or from it.
    pub egress: Option<f64>,
    /// The data that its engines may read.
    pub data_class: DataClass,
    /// Dollars for a million tokens of prompts, where known.
    pub usd_prompt: Option<f64>,
    /// Dollars for a million tokens of answers, where known.
    pub usd_answer: Option<f64>,
    /// Joules for a token of a prompt, where known.
    pub joules_prompt: Option<f64>,
    /// Joules for a token of an answer, where known.
    pub joules_answer: Option<f64>,
    /// The part of a request that it does.
    pub role: ServiceRole,
    /// Where the engine at a URL publishes what happens in its cache, as `tcp://host:port`.
    #[serde(default)]
    pub kv_events: Option<String>,
    /// Where it repeats what was missed of that.
    #[serde(default)]
    pub kv_replay: Option<String>,
    /// Services that are asked in its place when none of its engines answers, in order.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// The service of embeddings by which a question is answered like an earlier one that means the same.
    #[serde(default)]
    pub similar_by: Option<String>,
    /// From which cosine on two questions mean the same; above 0 and at most 1.
    #[serde(default)]
    pub similar_at: Option<f64>,
}

/// Replicas that follow the load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ServiceScale {
    /// The fewest; with 0 requests wait for the first replica.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// The time to the first token that is to be kept.
    pub ttft: Seconds,
    /// A service that nobody asks for so long has the fewest replicas.
    pub idle_after: Seconds,
}

/// Stated assumptions: what people who chat still call immediate, and longer than a pause between two questions.
const TTFT: Seconds = Seconds(2.0);
const IDLE: Seconds = Seconds(600.0);
/// No replica takes part in scaling beyond what one hall can run.
const SCALED_MAX: u32 = 1_024;

/// Keys that say what is outside the hall.
const OUTSIDE: [&str; 7] = ["serves", "region", "round_trip", "egress", "role", "kv_events", "kv_replay"];
const SCALING: [&str; 4] = ["replicas_min", "replicas_max", "ttft_target", "idle_after"];

/// Where the engines of a service run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// In the hall, which starts them.
    Here,
    /// At a URL.
    Elsewhere,
    /// Nobody says where, which is reported by itself.
    Nowhere,
}

/// The services in `fallback`, each once and none the service itself.
fn fallback(section: &Section<'_>, services: &[String]) -> Vec<String> {
    let Some(list) = section.spots("fallback") else { return Vec::new() };
    super::once(section, "fallback", &list.value);
    let mut named = Vec::new();
    for found in list.value {
        let at = found.at.clone();
        let Some(name) = super::existing(section, "service", found, services) else { continue };
        if section.path == format!("service.{name}") {
            let hint = Some("name another one".to_owned());
            section.problems.add(Code::OUT_OF_RANGE, &at, "a service does not stand in for itself", hint);
            continue;
        }
        named.push(name);
    }
    named
}

pub(super) fn read(section: &Section<'_>, runs: Runs, services: &[String]) -> ServiceFacts {
    let price = |key| section.real(key, "a number from 0 to 1e6", |value| (0.0..=1e6).contains(&value));
    let value = |found: Option<crate::section::Spot<f64>>| found.map(|found| found.value);
    let facts = ServiceFacts {
        serves: section.text("serves").and_then(|found| short(section, "serves", found)),
        region: section.text("region").and_then(|found| short(section, "region", found)),
        round_trip: section.positive("round_trip", Seconds(0.0)).map(|found| found.value),
        egress: value(price("egress")),
        data_class: section.word("data_class", &DataClass::ALL).map(|found| found.value).unwrap_or_default(),
        usd_prompt: value(price("usd_prompt")),
        usd_answer: value(price("usd_answer")),
        joules_prompt: value(price("joules_prompt")),
        joules_answer: value(price("joules_answer")),
        role: section.word("role", &ServiceRole::ALL).map(|found| found.value).unwrap_or_default(),
        kv_events: endpoint(section, "kv_events"),
        kv_replay: endpoint(section, "kv_replay"),
        fallback: fallback(section, services),
        similar_by: section.text("similar_by").and_then(|found| super::existing(section, "service", found, services)),
        similar_at: value(section.real("similar_at", "above 0 and at most 1", |cosine| cosine > 0.0 && cosine <= 1.0)),
    };
    if facts.similar_at.is_some() && !section.has("similar_by") {
        let message = "`similar_at` says nothing without `similar_by`".to_owned();
        let hint = Some("add `similar_by`, a service of embeddings".to_owned());
        section.problems.add(Code::ELSEWHERE, &section.key_at("similar_at"), message, hint);
    }
    if section.has("kv_replay") && !section.has("kv_events") {
        let message = "`kv_replay` says nothing without `kv_events`".to_owned();
        let hint = Some("add `kv_events`, where the engine publishes".to_owned());
        section.problems.add(Code::ELSEWHERE, &section.key_at("kv_replay"), message, hint);
    }
    if runs == Runs::Here {
        for key in OUTSIDE {
            if section.has(key) {
                let message = format!("`{key}` is said of an engine at a URL, and the hall runs this one");
                section.problems.add(
                    Code::OUT_OF_RANGE,
                    &section.key_at(key),
                    message,
                    Some(format!("remove `{key}`")),
                );
            }
        }
    }
    facts
}

/// A place of `ZeroMQ`, `tcp://host:port`.
fn endpoint(section: &Section<'_>, key: &'static str) -> Option<String> {
    let found = section.text(key)?;
    let place = found.value.strip_prefix("tcp://").and_then(|place| place.rsplit_once(':'));
    let named =
        |host: &str| !host.is_empty() && !host.chars().any(|letter| letter.is_whitespace() || "*/".contains(letter));
    if place.is_some_and(|(host, port)| named(host) && port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Some(found.value);
    }
    let message = format!("`{key}`: `{}` is no tcp://host:port", found.value);
    section.problems.add(Code::OUT_OF_RANGE, &found.at, message, Some("such as \"tcp://10.0.0.1:5557\"".to_owned()));
    None
}

/// A name of 1 to 128 characters that is safe in labels.
fn short(section: &Section<'_>, key: &str, found: crate::section::Spot<String>) -> Option<String> {
    if (1..=128).contains(&found.value.len()) && !found.value.chars().any(char::is_control) {
        return Some(found.value);
    }
    let message = format!("`{key}` has to be 1 to 128 bytes without control characters");
    section.problems.add(Code::OUT_OF_RANGE, &found.at, message, None);
    None
}

pub(super) fn scale(section: &Section<'_>, runs: Runs, ttft_p99: Option<Seconds>) -> Option<ServiceScale> {
    let min = section.integer("replicas_min", 0..=SCALED_MAX);
    let max = section.integer("replicas_max", 1..=SCALED_MAX);
    let ttft = section.positive("ttft_target", Seconds(0.0));
    let idle = section.positive("idle_after", Seconds(0.0));
    if runs == Runs::Elsewhere {
        for key in SCALING {
            if section.has(key) {
                let message =
                    format!("`{key}` says how replicas follow the load, and those at a URL are not ours to start");
                section.problems.add(
                    Code::OUT_OF_RANGE,
                    &section.key_at(key),
                    message,
                    Some(format!("remove `{key}`")),
                );
            }
        }
        return None;
    }
    if !section.has("replicas_max")
        && let Some(key) = SCALING.into_iter().find(|key| section.has(key))
    {
        section.problems.missing(&section.at, format!("`[{}]`, which has `{key}`,", section.path), "replicas_max");
    }
    let max = max?;
    if let Some(min) = &min
        && min.value > max.value
    {
        let message = format!("`replicas_min` is {}, above `replicas_max`, which is {}", min.value, max.value);
        section.problems.add(Code::OUT_OF_RANGE, &min.at, message, None);
        return None;
    }
    Some(ServiceScale {
        min: min.map_or(0, |min| min.value),
        max: max.value,
        ttft: ttft.map(|time| time.value).or(ttft_p99).unwrap_or(TTFT),
        idle_after: idle.map_or(IDLE, |time| time.value),
    })
}

pub(super) fn write(out: &mut Writer<'_>, facts: &ServiceFacts, scale: Option<ServiceScale>) {
    out.maybe_text("serves", facts.serves.as_deref());
    out.maybe_text("region", facts.region.as_deref());
    out.maybe_quantity("round_trip", facts.round_trip);
    out.maybe_real("egress", facts.egress);
    out.text("data_class", facts.data_class.word());
    out.maybe_real("usd_prompt", facts.usd_prompt);
    out.maybe_real("usd_answer", facts.usd_answer);
    out.maybe_real("joules_prompt", facts.joules_prompt);
    out.maybe_real("joules_answer", facts.joules_answer);
    out.maybe_text("role", (facts.role != ServiceRole::Both).then_some(facts.role.word()));
    out.maybe_text("kv_events", facts.kv_events.as_deref());
    out.maybe_text("kv_replay", facts.kv_replay.as_deref());
    if !facts.fallback.is_empty() {
        out.texts("fallback", &facts.fallback);
    }
    out.maybe_text("similar_by", facts.similar_by.as_deref());
    out.maybe_real("similar_at", facts.similar_at);
    if let Some(ServiceScale { min, max, ttft, idle_after }) = scale {
        out.integer("replicas_min", min);
        out.integer("replicas_max", max);
        out.quantity("ttft_target", ttft);
        out.quantity("idle_after", idle_after);
    }
}
