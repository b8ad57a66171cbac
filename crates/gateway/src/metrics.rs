//! Counters, in the text format of Prometheus.
//!
//! Invariant: labels come from the sets of known models, known engines and fixed words, never from a request, so the number
//! of series is bounded. Counting takes a few relaxed atomic additions; only a scrape or a new engine takes the lock.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bill::Bill;
use crate::config::{ENGINE_SERIES_MAX, MODEL_SERIES_MAX};
use crate::engines::EngineStatus;
use crate::usage::Usage;

/// Status codes with a series of their own; others count as `other`. 499 means that the client went away.
const CODES: [u16; 17] = [200, 400, 401, 403, 404, 405, 408, 409, 413, 422, 429, 499, 500, 502, 503, 504, 507];

/// What went wrong with an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Connect,
    Lost,
    Timeout,
    Busy,
    Unavailable,
    Refused,
    MidStream,
}

const TROUBLES: [(Trouble, &str); 7] = [
    (Trouble::Connect, "connect"),
    (Trouble::Lost, "lost"),
    (Trouble::Timeout, "timeout"),
    (Trouble::Busy, "busy"),
    (Trouble::Unavailable, "unavailable"),
    (Trouble::Refused, "refused"),
    (Trouble::MidStream, "mid_stream"),
];

/// Upper edges in microseconds: whole requests.
const DURATION_EDGES: &[u64] = &[
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
];
/// Upper edges in microseconds: first tokens.
pub(crate) const FIRST_EDGES: &[u64] = &[
    1_000,
    5_000,
    10_000,
    20_000,
    40_000,
    60_000,
    80_000,
    100_000,
    250_000,
    500_000,
    750_000,
    1_000_000,
    2_500_000,
    5_000_000,
    7_500_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
/// Upper edges in microseconds: the chunks after the first.
const CHUNK_EDGES: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 25_000, 30_000, 40_000, 50_000, 75_000, 100_000, 150_000, 200_000,
    300_000, 500_000, 750_000, 1_000_000, 2_500_000,
];

/// Upper edges in microseconds that OpenTelemetry's conventions for generative AI prescribe: whole requests.
const SEMCONV_DURATION: &[u64] = &[
    10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000, 10_240_000, 20_480_000,
    40_960_000, 81_920_000,
];
/// The same for the first token.
const SEMCONV_FIRST: &[u64] = &[
    1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];
/// The same for each token after the first.
const SEMCONV_TOKEN: &[u64] = &[
    10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 2_500_000,
];
/// The same for tokens of a request: powers of four. The histogram counts millionths, so that it prints whole tokens.
const SEMCONV_USAGE: &[u64] = &[
    1_000_000,
    4_000_000,
    16_000_000,
    64_000_000,
    256_000_000,
    1_024_000_000,
    4_096_000_000,
    16_384_000_000,
    65_536_000_000,
    262_144_000_000,
    1_048_576_000_000,
    4_194_304_000_000,
    16_777_216_000_000,
    67_108_864_000_000,
];

pub(crate) struct Histogram {
    edges: &'static [u64],
    counts: Vec<AtomicU64>,
    sum_micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn new(edges: &'static [u64]) -> Self {
        let counts = (0..=edges.len()).map(|_| AtomicU64::new(0)).collect();
        Self { edges, counts, sum_micros: AtomicU64::new(0) }
    }

    /// Counts `times` observations of `each`.
    pub(crate) fn observe(&self, each: Duration, times: u64) {
        let micros = u64::try_from(each.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.edges.partition_point(|edge| *edge < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(times, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros.saturating_mul(times), Ordering::Relaxed);
    }

    fn tokens(&self, tokens: u64) {
        self.observe(Duration::from_micros(tokens.saturating_mul(1_000_000)), 1);
    }

    /// Writes it with `labels`, which are `key="value"` pairs with commas between.
    pub(crate) fn write_with(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0_u64;
        let edges = self.edges.iter().map(|edge| seconds(*edge)).chain(["+Inf".to_owned()]);
        for (count, edge) in self.counts.iter().zip(edges) {
            total = total.saturating_add(count.load(Ordering::Relaxed));
            line(out, &format!("{name}_bucket{{{labels},le=\"{edge}\"}}"), total);
        }
        line(out, &format!("{name}_sum{{{labels}}}"), seconds(self.sum_micros.load(Ordering::Relaxed)));
        line(out, &format!("{name}_count{{{labels}}}"), total);
    }

    fn write(&self, out: &mut String, name: &str, model: &str) {
        self.write_with(out, name, &format!("model=\"{model}\""));
    }
}

pub(crate) struct ModelMetrics {
    codes: [AtomicU64; CODES.len()],
    other_codes: AtomicU64,
    duration: Histogram,
    first_token: Histogram,
    per_chunk: Histogram,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    micro_usd: AtomicU64,
    micro_joules: AtomicU64,
    semconv: Semconv,
}

/// The same events under the names of OpenTelemetry's conventions, in their buckets.
struct Semconv {
    duration: Histogram,
    first: Histogram,
    token: Histogram,
    input: Histogram,
    output: Histogram,
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            codes: [const { AtomicU64::new(0) }; CODES.len()],
            other_codes: AtomicU64::new(0),
            duration: Histogram::new(DURATION_EDGES),
            first_token: Histogram::new(FIRST_EDGES),
            per_chunk: Histogram::new(CHUNK_EDGES),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            micro_usd: AtomicU64::new(0),
            micro_joules: AtomicU64::new(0),
            semconv: Semconv {
                duration: Histogram::new(SEMCONV_DURATION),
                first: Histogram::new(SEMCONV_FIRST),
                token: Histogram::new(SEMCONV_TOKEN),
                input: Histogram::new(SEMCONV_USAGE),
                output: Histogram::new(SEMCONV_USAGE),
            },
        }
    }
}

impl ModelMetrics {
    pub(crate) fn answered(&self, code: u16) {
        let place = CODES.iter().position(|known| *known == code);
        let counter = place.and_then(|place| self.codes.get(place)).unwrap_or(&self.other_codes);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn used(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens.unwrap_or(0), Ordering::Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens.unwrap_or(0), Ordering::Relaxed);
        self.completion_tokens.fetch_add(usage.completion_tokens.unwrap_or(0), Ordering::Relaxed);
        for (histogram, tokens) in
            [(&self.semconv.input, usage.prompt_tokens), (&self.semconv.output, usage.completion_tokens)]
        {
            if let Some(tokens) = tokens {
                histogram.tokens(tokens);
            }
        }
    }

    /// A request has cost so much.
    pub(crate) fn billed(&self, bill: Bill) {
        self.micro_usd.fetch_add(bill.micro_usd.unwrap_or(0), Ordering::Relaxed);
        self.micro_joules.fetch_add(bill.micro_joules.unwrap_or(0), Ordering::Relaxed);
    }

    /// A request has ended after `took`.
    pub(crate) fn took(&self, took: Duration) {
        self.duration.observe(took, 1);
        self.semconv.duration.observe(took, 1);
    }

    /// The first token came after `waited`.
    pub(crate) fn first_token(&self, waited: Duration) {
        self.first_token.observe(waited, 1);
        self.semconv.first.observe(waited, 1);
    }

    /// `times` tokens came, `each` apart.
    pub(crate) fn tokens(&self, each: Duration, times: u64) {
        self.per_chunk.observe(each, times);
        self.semconv.token.observe(each, times);
    }
}

#[derive(Default)]
pub(crate) struct EngineMetrics {
    troubles: [AtomicU64; TROUBLES.len()],
}

impl EngineMetrics {
    pub(crate) fn trouble(&self, trouble: Trouble) {
        let place = TROUBLES.iter().position(|(known, _)| *known == trouble);
        if let Some(counter) = place.and_then(|place| self.troubles.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All counters. `unknown` counts requests that never got as far as a known model.
#[derive(Default)]
pub(crate) struct Registry {
    series: Mutex<Series>,
    pub(crate) unknown: Arc<ModelMetrics>,
}

#[derive(Default)]
struct Series {
    models: BTreeMap<String, Arc<ModelMetrics>>,
    engines: BTreeMap<String, Arc<EngineMetrics>>,
}

impl Registry {
    pub(crate) fn model(&self, name: &str) -> Arc<ModelMetrics> {
        Arc::clone(self.lock().models.entry(name.to_owned()).or_default())
    }

    pub(crate) fn engine(&self, id: &str) -> Arc<EngineMetrics> {
        Arc::clone(self.lock().engines.entry(id.to_owned()).or_default())
    }

    /// Keeps the history of those that left while there is room for it.
    pub(crate) fn forget_all_but<'a>(
        &self,
        models: impl Iterator<Item = &'a str>,
        engines: impl Iterator<Item = &'a str>,
    ) {
        let mut series = self.lock();
        if series.models.len() > MODEL_SERIES_MAX {
            let kept: HashSet<_> = models.collect();
            series.models.retain(|name, _| kept.contains(name.as_str()));
        }
        if series.engines.len() > ENGINE_SERIES_MAX {
            let kept: HashSet<_> = engines.collect();
            series.engines.retain(|id, _| kept.contains(id.as_str()));
        }
    }

    /// Everything, as text.
    pub(crate) fn render(&self, in_flight: usize, engines: &[EngineStatus]) -> String {
        let series = self.lock();
        let mut models: Vec<(String, &ModelMetrics)> =
            series.models.iter().map(|(name, metrics)| (escaped(name), &**metrics)).collect();
        models.push((String::new(), &self.unknown));
        let mut out = String::with_capacity(4_096);

        family(
            &mut out,
            "requests_total",
            "counter",
            "Requests by model and status; no model: refused before one was known.",
        );
        for (model, metrics) in &models {
            let codes = CODES.iter().map(ToString::to_string).zip(&metrics.codes);
            for (code, count) in codes.chain([("other".to_owned(), &metrics.other_codes)]) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let name = format!("datahall_gateway_requests_total{{model=\"{model}\",code=\"{code}\"}}");
                    line(&mut out, &name, count);
                }
            }
        }
        models.pop();

        family(&mut out, "in_flight", "gauge", "Requests under way.");
        line(&mut out, "datahall_gateway_in_flight", in_flight);

        family(&mut out, "engine_in_flight", "gauge", "Requests under way by engine.");
        for EngineStatus { id, model, in_flight, .. } in engines {
            let labels = format!("{{engine=\"{}\",model=\"{}\"}}", escaped(id), escaped(model));
            line(&mut out, &format!("datahall_gateway_engine_in_flight{labels}"), in_flight);
        }
        family(
            &mut out,
            "engine_tokens",
            "gauge",
            "Tokens still to compute for requests under way by engine, as estimated.",
        );
        for EngineStatus { id, model, tokens, .. } in engines {
            let labels = format!("{{engine=\"{}\",model=\"{}\"}}", escaped(id), escaped(model));
            line(&mut out, &format!("datahall_gateway_engine_tokens{labels}"), tokens);
        }
        family(&mut out, "engine_healthy", "gauge", "1 if the engine's breaker is closed.");
        for EngineStatus { id, model, healthy, .. } in engines {
            let labels = format!("{{engine=\"{}\",model=\"{}\"}}", escaped(id), escaped(model));
            line(&mut out, &format!("datahall_gateway_engine_healthy{labels}"), u8::from(*healthy));
        }

        family(&mut out, "upstream_errors_total", "counter", "Failures of engines by kind.");
        for (id, metrics) in &series.engines {
            for ((_, kind), count) in TROUBLES.iter().zip(&metrics.troubles) {
                let name =
                    format!("datahall_gateway_upstream_errors_total{{engine=\"{}\",kind=\"{kind}\"}}", escaped(id));
                line(&mut out, &name, count.load(Ordering::Relaxed));
            }
        }

        for (name, about, histogram) in [
            (
                "request_duration_seconds",
                "From the request head to the end of the answer.",
                (|metrics| &metrics.duration) as fn(&ModelMetrics) -> &Histogram,
            ),
            ("time_to_first_token_seconds", "From the request head to the first event.", |metrics| {
                &metrics.first_token
            }),
            ("time_per_output_chunk_seconds", "Between events of a stream.", |metrics| &metrics.per_chunk),
        ] {
            family(&mut out, name, "histogram", about);
            for (model, metrics) in &models {
                histogram(metrics).write(&mut out, &format!("datahall_gateway_{name}"), model);
            }
        }
        for (name, about, counter) in [
            (
                "prompt_tokens_total",
                "Tokens read, as engines counted them.",
                (|metrics| &metrics.prompt_tokens) as fn(&ModelMetrics) -> &AtomicU64,
            ),
            ("cached_tokens_total", "Tokens read that an engine had cached, as it said.", |metrics| {
                &metrics.cached_tokens
            }),
            ("completion_tokens_total", "Tokens written, as engines counted them.", |metrics| {
                &metrics.completion_tokens
            }),
        ] {
            family(&mut out, name, "counter", about);
            for (model, metrics) in &models {
                let count = counter(metrics).load(Ordering::Relaxed);
                line(&mut out, &format!("datahall_gateway_{name}{{model=\"{model}\"}}"), count);
            }
        }
        bills(&mut out, &models);
        semconv(&mut out, &models);
        out
    }

    fn lock(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Money and energy.
fn bills(out: &mut String, models: &[(String, &ModelMetrics)]) {
    for (name, about, counter) in [
        (
            "cost_usd_total",
            "What requests cost by the prices of models and engines, in dollars.",
            (|metrics| &metrics.micro_usd) as fn(&ModelMetrics) -> &AtomicU64,
        ),
        ("joules_total", "What requests took by the figures of engines, in joules.", |metrics| &metrics.micro_joules),
    ] {
        family(out, name, "counter", about);
        for (model, metrics) in models {
            let count = seconds(counter(metrics).load(Ordering::Relaxed));
            line(out, &format!("datahall_gateway_{name}{{model=\"{model}\"}}"), count);
        }
    }
}

/// The names of OpenTelemetry's conventions for generative AI as Prometheus writes them: points become underscores, and the
/// unit ends the name.
fn semconv(out: &mut String, models: &[(String, &ModelMetrics)]) {
    type Pick = fn(&Semconv) -> &Histogram;
    let times: [(&str, &str, Pick); 3] = [
        ("gen_ai_server_request_duration_seconds", "Whole requests.", |all| &all.duration),
        ("gen_ai_server_time_to_first_token_seconds", "To the first token of streams.", |all| &all.first),
        ("gen_ai_server_time_per_output_token_seconds", "Between tokens of streams.", |all| &all.token),
    ];
    let labels = |model: &str| {
        format!("gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"datahall\",gen_ai_request_model=\"{model}\"")
    };
    for (name, about, pick) in times {
        line(out, &format!("# HELP {name}"), about);
        line(out, &format!("# TYPE {name}"), "histogram");
        for (model, metrics) in models {
            pick(&metrics.semconv).write_with(out, name, &labels(model));
        }
    }
    let name = "gen_ai_client_token_usage";
    line(out, &format!("# HELP {name}"), "Tokens of requests by direction.");
    line(out, &format!("# TYPE {name}"), "histogram");
    for (model, metrics) in models {
        for (direction, histogram) in [("input", &metrics.semconv.input), ("output", &metrics.semconv.output)] {
            histogram.write_with(out, name, &format!("{},gen_ai_token_type=\"{direction}\"", labels(model)));
        }
    }
}

pub(crate) fn family(out: &mut String, name: &str, kind: &str, about: &str) {
    line(out, &format!("# HELP datahall_gateway_{name}"), about);
    line(out, &format!("# TYPE datahall_gateway_{name}"), kind);
}

pub(crate) fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(out, "{name} {value}");
}

/// Millionths as decimal seconds or others, without needless zeros.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(crate) fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_bucket_of_their_upper_edge() {
        let registry = Registry::default();
        let model = registry.model("m");
        model.used(Usage { prompt_tokens: Some(5), completion_tokens: Some(4), cached_tokens: None });
        model.duration.observe(Duration::from_millis(1), 1);
        model.duration.observe(Duration::from_micros(1_001), 2);
        model.duration.observe(Duration::from_secs(9_999), 1);
        let text = registry.render(0, &[]);
        for expected in [
            "datahall_gateway_request_duration_seconds_bucket{model=\"m\",le=\"0.001\"} 1\n",
            "datahall_gateway_request_duration_seconds_bucket{model=\"m\",le=\"0.0025\"} 3\n",
            "datahall_gateway_request_duration_seconds_bucket{model=\"m\",le=\"300\"} 3\n",
            "datahall_gateway_request_duration_seconds_bucket{model=\"m\",le=\"+Inf\"} 4\n",
            "datahall_gateway_request_duration_seconds_count{model=\"m\"} 4\n",
            "datahall_gateway_request_duration_seconds_sum{model=\"m\"} 9999.003002\n",
            "gen_ai_request_model=\"m\",gen_ai_token_type=\"input\",le=\"4\"} 0\n",
            "gen_ai_request_model=\"m\",gen_ai_token_type=\"input\",le=\"16\"} 1\n",
            "gen_ai_request_model=\"m\",gen_ai_token_type=\"output\",le=\"4\"} 1\n",
        ] {
            assert!(text.contains(expected), "{expected} not in\n{text}");
        }
    }

    #[test]
    fn labels_are_escaped_and_codes_bounded() {
        let registry = Registry::default();
        let model = registry.model("a\"b\\c");
        for code in 100..1_000 {
            model.answered(code);
        }
        registry.unknown.answered(401);
        let text = registry.render(3, &[]);
        assert!(text.contains("requests_total{model=\"a\\\"b\\\\c\",code=\"200\"} 1\n"), "{text}");
        assert!(text.contains("code=\"other\"} 883\n"));
        assert!(text.contains("requests_total{model=\"\",code=\"401\"} 1\n"));
        assert!(text.contains("datahall_gateway_in_flight 3\n"));
        assert_eq!(text.lines().filter(|line| line.starts_with("datahall_gateway_requests_total")).count(), 19);
    }

    #[test]
    fn series_of_the_gone_are_forgotten_when_there_are_too_many() {
        let registry = Registry::default();
        for number in 0..=MODEL_SERIES_MAX {
            registry.model(&format!("m{number}")).answered(200);
        }
        registry.forget_all_but(["m3"].into_iter(), std::iter::empty());
        let text = registry.render(0, &[]);
        assert!(text.contains("model=\"m3\",code") && !text.contains("model=\"m4\",code"));
    }
}
