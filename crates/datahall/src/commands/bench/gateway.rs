//! `datahall bench gateway`: so many connections that ask as fast as they are answered, or a trace played at its own times.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dh_core::{Kind, Secret};
use dh_rig::load::{BLOCK_TOKENS, Closed, Dress, Histogram, Open, Report, Shape, closed, fresh, open};
use dh_twin::trace::Requests;
use dh_units::{Seconds, real};

use crate::commands::Globals;
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::trace_file;

/// Requests that a closed loop takes in turn.
const ROTATION: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct Load {
    /// Where the gateway or the engine listens, `HOST:PORT`
    #[arg(value_name = "ADDRESS", default_value = "127.0.0.1:4600")]
    address: String,
    /// The model
    #[arg(long, default_value = "stub")]
    model: String,
    /// The key
    #[arg(long, env = "DATAHALL_BENCH_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The path
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    /// Stream the answers
    #[arg(long)]
    stream: bool,
    /// Connections at once; with a trace, at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// How long to ask
    #[arg(long, value_name = "TIME", default_value = "10s", conflicts_with = "trace")]
    duration: Seconds,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 40, conflicts_with = "trace")]
    prompt: u32,
    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "trace")]
    answer: u32,
    /// How many beginnings of 512 tokens the prompts share
    #[arg(long, value_name = "N", default_value_t = 16, conflicts_with = "trace")]
    prefixes: u64,
    /// Begin each prompt with a number of its own, so that no two share anything
    #[arg(long, conflicts_with = "trace")]
    fresh: bool,
    /// A published trace of requests, which is played at its own times; may be gzipped
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many times as fast
    #[arg(long, value_name = "FACTOR", default_value_t = 1, requires = "trace", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    speed: u64,
}

impl Load {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let place = self.address.trim_start_matches("http://").trim_end_matches('/');
        let address: SocketAddr = place
            .to_socket_addrs()
            .or_fail_as(Kind::Invalid, format!("read `{place}` as HOST:PORT"))?
            .next()
            .ok_or_else(|| Failure::new(Kind::NotFound, format!("{place} has no address")))?;
        let dress = Dress {
            host: place.to_owned(),
            path: self.path.clone(),
            model: self.model.clone(),
            key: self.key.clone().map(Secret::new),
            stream: self.stream,
        };
        let unreachable = |error: dh_rig::load::Error| Failure::new(Kind::Unreachable, error);
        let report = if let Some(path) = &self.trace {
            let how = Open { connections: self.connections, speed: self.speed };
            open(address, Arc::new(dress), self.shapes(path)?, how).await.map_err(unreachable)?
        } else {
            let count = self.prefixes.clamp(1, ROTATION);
            let of = |number: u64| {
                let shape = Shape { at: 0, prompt: self.prompt, answer: self.answer, blocks: vec![number % count] };
                dress.request(&shape, number)
            };
            let time = Duration::try_from_secs_f64(self.duration.0)
                .map_err(|error| Failure::new(Kind::Invalid, format!("--duration: {error}")))?;
            let how = Closed { connections: self.connections, time, requests: self.requests.unwrap_or(u64::MAX) };
            let requests = Arc::new((0..ROTATION).map(of).collect());
            let report =
                if self.fresh { fresh(address, requests, how).await } else { closed(address, requests, how).await };
            report.map_err(unreachable)?
        };
        if globals.output.is_data() {
            output::versioned(&data(&report))?;
        } else {
            print(&report);
        }
        Ok(u8::from(report.good == 0))
    }

    fn shapes(&self, path: &std::path::Path) -> Result<Vec<Shape>, Failure> {
        let text = trace_file::read(path)?;
        let file = path.display().to_string();
        let wrong = |error: dh_twin::trace::Error| Failure::new(Kind::Invalid, error);
        let most = usize::try_from(self.requests.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let shape = |request: Result<dh_twin::trace::Request<'_>, _>| {
            request.map(|request| Shape {
                at: request.at.0,
                prompt: request.input,
                answer: request.output,
                blocks: request
                    .blocks()
                    .take(usize::try_from(request.input).unwrap_or(0).div_ceil(BLOCK_TOKENS))
                    .collect(),
            })
        };
        Requests::new(&text, &file).map_err(wrong)?.take(most).map(shape).collect::<Result<_, _>>().map_err(wrong)
    }
}

fn micros(histogram: &Histogram) -> serde_json::Value {
    let at = |of| histogram.quantile(of) / 1_000;
    serde_json::json!({
        "mean": histogram.mean() / 1_000, "p50": at(5_000), "p90": at(9_000), "p99": at(9_900), "p999": at(9_990),
        "max": histogram.max() / 1_000,
    })
}

fn data(report: &Report) -> serde_json::Value {
    serde_json::json!({
        "seconds": report.took.as_secs_f64(),
        "requests_per_second": real(report.per_kilosecond()) / 1_000.0,
        "good": report.good, "limited": report.limited, "refused": report.refused, "broken": report.broken,
        "events": report.events, "bytes": report.bytes,
        "prompt_tokens": report.tokens.prompt, "cached_tokens": report.tokens.cached, "answer_tokens": report.tokens.answer,
        "latency_us": micros(&report.latency), "first_us": micros(&report.first),
    })
}

fn print(report: &Report) {
    let rate = report.per_kilosecond() / 1_000;
    output::line(format!(
        "{} requests/s: {} good, {} limited (429), {} refused, {} broken in {:.1} s",
        output::bold(rate),
        report.good,
        report.limited,
        report.refused,
        report.broken,
        report.took.as_secs_f64()
    ));
    for (name, histogram) in [("whole answer", &report.latency), ("first piece", &report.first)] {
        let at = |of: u64| histogram.quantile(of) / 1_000;
        output::line(format!(
            "{name:<13} p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
            at(5_000),
            at(9_000),
            at(9_900),
            at(9_990),
            histogram.max() / 1_000
        ));
    }
    let tokens = report.tokens;
    if tokens.prompt > 0 {
        let share = 100.0 * real(tokens.cached) / real(tokens.prompt);
        output::line(format!(
            "prompts       {} tokens, {share:.1} % of them cached; answers {}",
            tokens.prompt, tokens.answer
        ));
    }
}
