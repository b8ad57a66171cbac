//! What a run showed.

use std::collections::BTreeMap;
use std::time::Duration;

use dh_units::real;
use serde::Serialize;

use super::histogram::Histogram;
use super::worker::{Kind, Tally};

/// Latencies in milliseconds, from the request's first byte to the answer's last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// The mean.
    pub mean: f64,
    /// Half of all took at most this.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// 99 of a hundred.
    pub p99: f64,
    /// 999 of a thousand.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// What one kind of operation showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// `put`, `get`, `head`, `delete` or `list`.
    pub kind: &'static str,
    /// How many succeeded.
    pub count: u64,
    /// How many did not.
    pub errors: u64,
    /// How many succeeded each second.
    pub per_second: f64,
    /// Bytes of bodies each second, in MiB.
    pub mib_per_second: f64,
    /// How long they took.
    pub latency_ms: Latency,
}

/// The best, the middle and the worst second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seconds {
    /// Operations of the fastest.
    pub fastest: u64,
    /// Of the middle one.
    pub median: u64,
    /// Of the slowest.
    pub slowest: u64,
}

/// What the server's processes took while it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Server {
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Processor time of each operation, in microseconds.
    pub cpu_us_per_operation: f64,
    /// Processor time of each GB (10^9) of bodies, in seconds; none if no bodies moved.
    pub cpu_seconds_per_gb: Option<f64>,
    /// Memory at the end, in MiB.
    pub resident_mib: f64,
}

/// What a run showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The store.
    pub endpoint: String,
    /// What was done.
    pub op: &'static str,
    /// Bytes of an object.
    pub size: u64,
    /// Requests at once.
    pub concurrency: u32,
    /// How requests were signed: `header` or `presigned`.
    pub signing: &'static str,
    /// How long it was measured.
    pub seconds: f64,
    /// Objects that were there before.
    pub prepared: u64,
    /// Bodies that were read and found to be what was written.
    pub verified: u64,
    /// By kind of operation.
    pub operations: Vec<Figures>,
    /// Whole seconds by the number of operations; none for a run of under three.
    pub by_second: Option<Seconds>,
    /// Failures by S3's code.
    pub errors: BTreeMap<String, u64>,
    /// The server's processes, if they were named.
    pub server: Option<Server>,
    /// Processor time of this client for each operation, in microseconds.
    pub client_cpu_us_per_operation: f64,
    /// The machine's load of the last minute, before and after.
    pub load_average: (Option<f64>, Option<f64>),
    /// Why it ended before its time, if it did.
    pub ended_early: Option<String>,
    /// Why what was written could not be removed afterwards, if so.
    pub left_behind: Option<String>,
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn ms(nanos: u64) -> f64 {
    rounded(real(nanos) / 1e6)
}

impl Latency {
    fn of(histogram: &Histogram) -> Self {
        Self {
            mean: ms(histogram.mean()),
            p50: ms(histogram.at(500)),
            p90: ms(histogram.at(900)),
            p99: ms(histogram.at(990)),
            p999: ms(histogram.at(999)),
            max: ms(histogram.max()),
        }
    }
}

impl Seconds {
    pub(super) fn of(series: &[u64]) -> Option<Self> {
        let mut sorted = series.to_vec();
        sorted.sort_unstable();
        let (slowest, fastest, median) = (*sorted.first()?, *sorted.last()?, *sorted.get(sorted.len() / 2)?);
        (sorted.len() >= 3).then_some(Self { fastest, median, slowest })
    }
}

pub(super) fn figures(tally: &Tally, elapsed: Duration) -> Vec<Figures> {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let one = tally.of(kind);
            (one.histogram.count() + one.errors > 0).then(|| Figures {
                kind: kind.name(),
                count: one.histogram.count(),
                errors: one.errors,
                per_second: rounded(real(one.histogram.count()) / seconds),
                mib_per_second: rounded(real(one.bytes) / seconds / 1_048_576.0),
                latency_ms: Latency::of(&one.histogram),
            })
        })
        .collect()
}

pub(super) fn server(cpu: Duration, resident_bytes: u64, tally: &Tally) -> Server {
    let (count, bytes) = tally.done();
    Server {
        cpu_seconds: rounded(cpu.as_secs_f64()),
        cpu_us_per_operation: rounded(cpu.as_secs_f64() * 1e6 / real(count.max(1))),
        cpu_seconds_per_gb: (bytes > 0).then(|| rounded(cpu.as_secs_f64() * 1e9 / real(bytes))),
        resident_mib: rounded(real(resident_bytes) / 1_048_576.0),
    }
}
