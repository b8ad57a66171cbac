//! Counters and histograms of one engine, in the text format of Prometheus.
//!
//! Cost: a few atomic additions per answer; nothing per token.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::language::Usage;

/// Upper bounds of the buckets, in seconds: from a warm small model to a long prompt behind a queue.
const FIRST_TOKEN_BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];
const PER_TOKEN_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered.
    Ok,
    /// Refused as wrong.
    Invalid,
    /// Refused because the queue was full.
    Busy,
    /// The client went away, or the engine stopped.
    Cancelled,
    /// Our fault.
    Failed,
}

const OUTCOMES: [(Outcome, &str); 5] = [
    (Outcome::Ok, "ok"),
    (Outcome::Invalid, "invalid"),
    (Outcome::Busy, "busy"),
    (Outcome::Cancelled, "cancelled"),
    (Outcome::Failed, "failed"),
];

#[derive(Debug, Default)]
struct Histogram {
    /// One per bound; what is above the last is only in `count`.
    buckets: [AtomicU64; 12],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    fn observe(&self, bounds: &[f64; 12], value: Duration) {
        let seconds = value.as_secs_f64();
        if let Some((bucket, _)) = self.buckets.iter().zip(bounds).find(|(_, bound)| seconds <= **bound) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(u64::try_from(value.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn render(&self, page: &mut String, name: &str, help: &str, bounds: &[f64; 12], model: &str) {
        heading(page, name, "histogram", help);
        let mut below = 0;
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            below += bucket.load(Ordering::Relaxed);
            line(page, &format!("{name}_bucket{{model=\"{model}\",le=\"{bound}\"}} {below}"));
        }
        let count = self.count.load(Ordering::Relaxed);
        let seconds = Duration::from_micros(self.microseconds.load(Ordering::Relaxed)).as_secs_f64();
        line(page, &format!("{name}_bucket{{model=\"{model}\",le=\"+Inf\"}} {count}"));
        line(page, &format!("{name}_sum{{model=\"{model}\"}} {seconds}"));
        line(page, &format!("{name}_count{{model=\"{model}\"}} {count}"));
    }
}

/// All numbers of an engine.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: [AtomicU64; 5],
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    rows: AtomicU64,
    first_token: Histogram,
    per_token: Histogram,
}

impl Metrics {
    /// Counts the end of a request.
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some((counter, _)) = self.requests.iter().zip(OUTCOMES).find(|(_, (known, _))| *known == outcome) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an answer that waited for `waited` before its work began.
    pub(super) fn answered(&self, usage: &Usage, waited: Duration) {
        self.count(Outcome::Ok);
        add(&self.prompt_tokens, usage.prompt_tokens);
        add(&self.cached_tokens, usage.cached_tokens);
        add(&self.generated_tokens, usage.completion_tokens);
        self.first_token.observe(&FIRST_TOKEN_BOUNDS, waited + usage.prefill);
        if let Some(gaps) = u32::try_from(usage.completion_tokens - 1).ok().filter(|gaps| *gaps > 0) {
            self.per_token.observe(&PER_TOKEN_BOUNDS, usage.decode / gaps);
        }
    }

    /// Counts classified rows.
    pub(super) fn classified(&self, rows: usize) {
        self.count(Outcome::Ok);
        add(&self.rows, rows);
    }

    /// The page for Prometheus.
    pub(super) fn render(&self, model: &str, waiting: usize, running: usize) -> String {
        let model = &model.replace('\\', "\\\\").replace('"', "\\\"");
        let mut page = String::new();
        let name = "datahall_engine_requests_total";
        heading(&mut page, name, "counter", "Requests by how they ended.");
        for (counter, (_, outcome)) in self.requests.iter().zip(OUTCOMES) {
            let value = counter.load(Ordering::Relaxed);
            line(&mut page, &format!("{name}{{model=\"{model}\",outcome=\"{outcome}\"}} {value}"));
        }
        for (name, help, counter) in [
            ("datahall_engine_prompt_tokens_total", "Tokens of prompts.", &self.prompt_tokens),
            (
                "datahall_engine_cached_tokens_total",
                "Tokens of prompts that were not computed again.",
                &self.cached_tokens,
            ),
            ("datahall_engine_generated_tokens_total", "Tokens made.", &self.generated_tokens),
            ("datahall_engine_rows_total", "Rows classified.", &self.rows),
        ] {
            heading(&mut page, name, "counter", help);
            line(&mut page, &format!("{name}{{model=\"{model}\"}} {}", counter.load(Ordering::Relaxed)));
        }
        for (name, help, value) in [
            ("datahall_engine_queue_depth", "Requests that wait for a slot.", waiting),
            ("datahall_engine_running", "Requests being answered.", running),
        ] {
            heading(&mut page, name, "gauge", help);
            line(&mut page, &format!("{name}{{model=\"{model}\"}} {value}"));
        }
        let name = "datahall_engine_time_to_first_token_seconds";
        let help = "From acceptance to the first token, waiting included.";
        self.first_token.render(&mut page, name, help, &FIRST_TOKEN_BOUNDS, model);
        let name = "datahall_engine_time_per_output_token_seconds";
        self.per_token.render(&mut page, name, "Mean gap between the tokens of an answer.", &PER_TOKEN_BOUNDS, model);
        page
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

fn heading(page: &mut String, name: &str, kind: &str, help: &str) {
    line(page, &format!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(page: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _written = writeln!(page, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Finish;

    #[test]
    fn buckets_are_cumulative_and_names_escaped() {
        let metrics = Metrics::default();
        let usage = Usage {
            prompt_tokens: 10,
            cached_tokens: 0,
            completion_tokens: 5,
            prefill: Duration::from_millis(30),
            decode: Duration::from_millis(80),
            finish: Finish::Stop,
        };
        metrics.answered(&usage, Duration::from_millis(10));
        metrics.answered(&Usage { completion_tokens: 1, ..usage }, Duration::from_secs(500));
        metrics.count(Outcome::Busy);
        let page = metrics.render("a\"b", 3, 1);
        for want in [
            "datahall_engine_requests_total{model=\"a\\\"b\",outcome=\"ok\"} 2",
            "datahall_engine_requests_total{model=\"a\\\"b\",outcome=\"busy\"} 1",
            "datahall_engine_generated_tokens_total{model=\"a\\\"b\"} 6",
            "datahall_engine_time_to_first_token_seconds_bucket{model=\"a\\\"b\",le=\"0.025\"} 0",
            "datahall_engine_time_to_first_token_seconds_bucket{model=\"a\\\"b\",le=\"0.05\"} 1",
            "datahall_engine_time_to_first_token_seconds_bucket{model=\"a\\\"b\",le=\"120\"} 1",
            "datahall_engine_time_to_first_token_seconds_bucket{model=\"a\\\"b\",le=\"+Inf\"} 2",
            "datahall_engine_time_per_output_token_seconds_bucket{model=\"a\\\"b\",le=\"0.02\"} 1",
            "datahall_engine_time_per_output_token_seconds_count{model=\"a\\\"b\"} 1",
            "datahall_engine_queue_depth{model=\"a\\\"b\"} 3",
        ] {
            assert!(page.lines().any(|line| line == want), "{want} is not in\n{page}");
        }
    }
}
