//! `[service.NAME]`: a model that is served, by the built-in engine or by one that runs already.

use dh_units::{Seconds, Tokens};
use serde::{Deserialize, Serialize};

use super::service_facts::{self, Runs, ServiceFacts, ServiceScale};
use super::{Facts, existing};
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
    /// The pool it runs on; that with the most accelerators if not given.
    pub pool: Option<String>,
    /// What weights and products are kept and computed in; 16 bits if not given.
    pub precision: Option<WeightFormat>,
    /// What keys and values are kept in; 16 bits if not given.
    pub cache_precision: Option<CacheFormat>,
    /// Share of a prompt's tokens whose keys and values are cached from before, 0 to below 1.
    pub prefix_hit: f64,
    /// Tokens that a step of speculative decoding yields on average; 1 without it.
    pub accepted_tokens: f64,
    /// Whether prompts are read on replicas of their own; where that needs fewer accelerators if not given.
    pub disaggregated: Option<bool>,
    /// The engine whose measured efficiency is planned with; that of any if not given.
    pub engine: Option<ServingEngine>,
    /// How one replica is laid out; searched if not given.
    pub layout: Option<ServiceLayout>,
    /// The most accelerators of all replicas; those of the pool if not given.
    pub max_accelerators: Option<u32>,
    /// How its engines are reached, and what they cost and may read.
    pub facts: ServiceFacts,
    /// Within what its replicas follow the load; their number stays if not given.
    pub scale: Option<ServiceScale>,
}

/// What the weights of a served model are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// Brain floating point of 16 bits.
    Bf16,
    /// Floating point of 8 bits.
    Fp8,
    /// Floating point of 4 bits with shared scales.
    Fp4,
    /// Whole numbers of 8 bits.
    Int8,
}

impl WeightFormat {
    /// All of them with their words in blueprints, the widest first.
    pub const ALL: [(&str, Self); 4] =
        [("bf16", Self::Bf16), ("fp8", Self::Fp8), ("int8", Self::Int8), ("fp4", Self::Fp4)];

    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(word, _)| word)
    }
}

/// What keys and values of a served model are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheFormat {
    /// Brain floating point of 16 bits.
    Bf16,
    /// Floating point of 8 bits.
    Fp8,
}

impl CacheFormat {
    /// All of them with their words in blueprints.
    pub const ALL: [(&str, Self); 2] = [("bf16", Self::Bf16), ("fp8", Self::Fp8)];

    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(word, _)| word)
    }
}

/// The engine that a service is planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServingEngine {
    /// vLLM.
    Vllm,
    /// `SGLang`.
    Sglang,
    /// TensorRT-LLM.
    Trtllm,
    /// The built-in engine.
    Builtin,
}

impl ServingEngine {
    /// All of them with their words in blueprints.
    pub const ALL: [(&str, Self); 4] =
        [("vllm", Self::Vllm), ("sglang", Self::Sglang), ("trtllm", Self::Trtllm), ("builtin", Self::Builtin)];

    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, engine)| *engine == self).map_or("", |(word, _)| word)
    }
}

/// How one replica of a service is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLayout {
    /// Tensor parallelism.
    pub tp: u32,
    /// Pipeline stages.
    pub pp: u32,
    /// Accelerators of a stage that experts are dealt to; 1 splits each expert as attention is. Above `tp` it is a multiple
    /// of that, and attention is there `ep / tp` times.
    pub ep: u32,
}

impl ServiceLayout {
    /// Accelerators of a replica.
    pub fn accelerators(self) -> u32 {
        self.pp.saturating_mul(self.tp.max(self.ep))
    }
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
        ("slots_per_replica", "Slots that one replica holds; those of its `layout`, or 1, if left out."),
        ("requests_per_second", "Requests that arrive in a second, above 0 and at most 1e9."),
        ("input_tokens", "Tokens of an ordinary prompt."),
        ("output_tokens", "Tokens of an ordinary answer."),
        ("ttft_p99", "The time to the first token that 99 of 100 requests must keep."),
        ("tpot_p99", "The time for each further token that 99 of 100 requests must keep."),
        ("pool", "The pool it runs on; the one with the most accelerators if left out."),
        (
            "precision",
            "What weights are kept in, where the accelerator computes in it; bf16 if left out, and the plan says what a smaller one would save.",
        ),
        ("cache_precision", "What keys and values are kept in; bf16 if left out."),
        (
            "prefix_hit",
            "Share of a prompt's tokens whose keys and values are cached from before, from 0 to below 1; 0 if left out.",
        ),
        (
            "accepted_tokens",
            "Tokens that a step of speculative decoding yields on average, 1 to 16; 1, which is none, if left out.",
        ),
        (
            "disaggregated",
            "Whether prompts are read on replicas of their own; if left out, where that needs fewer accelerators.",
        ),
        ("engine", "The engine whose measured efficiency is planned with; that of any if left out."),
        ("layout", "How one replica is laid out; the plan searches if left out."),
        ("max_accelerators", "The most accelerators of all replicas together; those of the pool if left out."),
        ("serves", "The model name that requests ask for, for an engine at a URL; the service's own name if left out."),
        ("region", "The place that an engine at a URL stands in."),
        ("round_trip", "To an engine at a URL and back."),
        ("egress", "Dollars for a thousand million bytes to or from an engine at a URL."),
        ("data_class", "The data that its engines may read, and what is less than that."),
        ("usd_prompt", "Dollars for a million tokens of prompts."),
        ("usd_answer", "Dollars for a million tokens of answers."),
        ("joules_prompt", "Joules for a token of a prompt."),
        ("joules_answer", "Joules for a token of an answer."),
        ("role", "The part of a request that an engine at a URL does."),
        ("kv_events", "Where an engine at a URL publishes what happens in its cache, `tcp://host:port`: vLLM, SGLang."),
        ("kv_replay", "Where it repeats events that were missed, `tcp://host:port`."),
        ("fallback", "Services that are asked in its place when none of its engines answers, in order."),
        (
            "similar_by",
            "The service of embeddings by which a question of the same caller is answered like an earlier one that means the same; left out, none is.",
        ),
        ("similar_at", "From which cosine on two questions mean the same; 0.95 if left out."),
        (
            "replicas_min",
            "The fewest replicas that run; with 0, the value if left out, requests wait for the first one.",
        ),
        ("replicas_max", "The most replicas that run; with it, their number follows the load."),
        ("ttft_target", "The time to the first token that scaling keeps; `ttft_p99` or 2 s if left out."),
        ("idle_after", "After so long without a request the fewest replicas run; 10 min if left out."),
    ],
};

pub(crate) const LAYOUT_DOC: Doc = Doc {
    pattern: "service.*.layout",
    about: "How one replica of a service is laid out over accelerators.",
    keys: &[
        ("tp", "Tensor parallelism: accelerators that share each layer; 1 if left out."),
        ("pp", "Pipeline stages; 1 if left out."),
        (
            "ep",
            "Accelerators of a stage that whole experts are dealt to; 1, which splits each expert instead, if left out. Above `tp` a multiple of it: attention is then there `ep / tp` times.",
        ),
    ],
};

/// Replicas of one service; more than a hall of this version can run.
const REPLICAS_MAX: u32 = 65_536;

/// Degrees of one replica: as many as the accelerators of the largest scale-up domain, several times over.
const DEGREE_MAX: u32 = 1_024;

/// Accelerators of one service; as many as the largest halls have.
const ACCELERATORS_MAX: u32 = 1 << 20;

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
    let pool = section.text("pool").and_then(|found| existing(section, "pool", found, &facts.pools));
    let precision = section.word("precision", &WeightFormat::ALL);
    let cache_precision = section.word("cache_precision", &CacheFormat::ALL);
    let prefix_hit = section.real("prefix_hit", "a share from 0 to below 1", |share| (0.0..1.0).contains(&share));
    let accepted = section.real("accepted_tokens", "a number from 1 to 16", |tokens| (1.0..=16.0).contains(&tokens));
    let disaggregated = section.boolean("disaggregated");
    let engine = section.word("engine", &ServingEngine::ALL);
    let layout = section.table("layout").and_then(|table| layout(&table));
    let most = section.integer("max_accelerators", 1..=ACCELERATORS_MAX);
    if matches!(source, Some(ServiceSource::Url(_))) {
        not_at_url(section);
    }
    let runs = match (section.has("url"), section.has("model")) {
        (true, _) => Runs::Elsewhere,
        (false, true) => Runs::Here,
        (false, false) => Runs::Nowhere,
    };
    let engine_facts = service_facts::read(section, runs, &facts.services);
    let scale = service_facts::scale(section, runs, ttft.as_ref().map(|time| time.value));
    if let (Some(scale), Some(replicas)) = (scale, &replicas)
        && !(scale.min..=scale.max).contains(&replicas.value)
    {
        let message = format!("`replicas` is {}, outside of `replicas_min` to `replicas_max`", replicas.value);
        section.problems.add(Code::OUT_OF_RANGE, &replicas.at, message, Some("remove `replicas`".to_owned()));
    }
    if let (Some(layout), Some(slots)) = (layout, &slots)
        && layout.accelerators() != slots.value
    {
        let message = format!(
            "`slots_per_replica` is {}, but the `layout` of a replica takes {} accelerators",
            slots.value,
            layout.accelerators()
        );
        section.problems.add(Code::OUT_OF_RANGE, &slots.at, message, Some("leave one of them out".to_owned()));
    }
    section.finish();
    Some(Service {
        source: source?,
        // What is planned for is the most that may run.
        replicas: replicas.map_or_else(|| scale.map_or(1, |scale| scale.max), |replicas| replicas.value),
        // A layout says how many accelerators a replica has, and each is a slot.
        slots_per_replica: slots.map_or_else(|| layout.map_or(1, ServiceLayout::accelerators), |slots| slots.value),
        requests_per_second: rate.map(|rate| rate.value),
        input: input.map_or(INPUT, |tokens| tokens.value),
        output: output.map_or(OUTPUT, |tokens| tokens.value),
        ttft_p99: ttft.map(|time| time.value),
        tpot_p99: tpot.map(|time| time.value),
        pool,
        precision: precision.map(|format| format.value),
        cache_precision: cache_precision.map(|format| format.value),
        prefix_hit: prefix_hit.map_or(0.0, |share| share.value),
        accepted_tokens: accepted.map_or(1.0, |tokens| tokens.value),
        disaggregated: disaggregated.map(|answer| answer.value),
        engine: engine.map(|engine| engine.value),
        layout,
        max_accelerators: most.map(|most| most.value),
        facts: engine_facts,
        scale,
    })
}

/// Reports keys that say how the hall runs an engine, where it does not run it.
fn not_at_url(section: &Section<'_>) {
    for key in ["pool", "precision", "cache_precision", "disaggregated", "engine", "layout", "max_accelerators"] {
        if section.has(key) {
            let message = format!("`{key}` says how the hall runs an engine, and the one at a URL runs already");
            section.problems.add(Code::OUT_OF_RANGE, &section.key_at(key), message, Some(format!("remove `{key}`")));
        }
    }
}

/// The degrees of a replica, if each is one and the experts' is a multiple of attention's.
fn layout(section: &Section<'_>) -> Option<ServiceLayout> {
    let degrees = ["tp", "pp", "ep"].map(|key| (key, section.integer(key, 1..=DEGREE_MAX)));
    section.finish();
    let mut found = ServiceLayout { tp: 1, pp: 1, ep: 1 };
    for (key, degree) in degrees {
        match (degree, key) {
            (Some(degree), "tp") => found.tp = degree.value,
            (Some(degree), "pp") => found.pp = degree.value,
            (Some(degree), _) => found.ep = degree.value,
            // Written and wrong: reported already.
            (None, key) if section.has(key) => return None,
            (None, _) => {}
        }
    }
    if found.ep > 1 && !found.ep.is_multiple_of(found.tp) {
        let message = format!("`ep` is {}, expected 1 or a multiple of `tp`, which is {}", found.ep, found.tp);
        let hint = Some(format!("for example ep = {}", found.ep.next_multiple_of(found.tp)));
        section.problems.add(Code::OUT_OF_RANGE, &section.value_at("ep"), message, hint);
        return None;
    }
    Some(found)
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
    out.maybe_text("pool", service.pool.as_deref());
    out.maybe_text("precision", service.precision.map(WeightFormat::word));
    out.maybe_text("cache_precision", service.cache_precision.map(CacheFormat::word));
    out.real("prefix_hit", service.prefix_hit);
    out.real("accepted_tokens", service.accepted_tokens);
    if let Some(disaggregated) = service.disaggregated {
        out.boolean("disaggregated", disaggregated);
    }
    out.maybe_text("engine", service.engine.map(ServingEngine::word));
    if let Some(ServiceLayout { tp, pp, ep }) = service.layout {
        out.raw("layout", &format!("{{ tp = {tp}, pp = {pp}, ep = {ep} }}"));
    }
    out.maybe_integer("max_accelerators", service.max_accelerators);
    service_facts::write(out, &service.facts, service.scale);
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
