//! `datahall store bench`: measures any S3 endpoint, with the same tool for all of them.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dh_core::Kind;
use dh_s3::load::{self, Afterwards, Op, Plan, Progress, Report};
use dh_s3::{Client, Payload, Settings, Signing};
use dh_units::{Bytes, Seconds};

use super::remote::Key;
use crate::commands::Globals;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OpName {
    /// Write new objects
    Put,
    /// Read objects at random, and compare them
    Get,
    /// 45 % reads, 30 % heads, 15 % writes, 10 % deletes
    Mixed,
    /// Pages of a thousand keys
    List,
    /// Delete objects one by one
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PayloadName {
    /// The SHA-256 of a body is part of the signature
    Signed,
    /// Nothing
    Unsigned,
    /// A CRC-64/NVME in a header
    Checksum,
    /// A CRC-64/NVME behind the body, as new SDKs send it
    Trailer,
}

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The store's address
    #[arg(value_name = "ENDPOINT", env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    #[command(flatten)]
    key: Key,
    /// What to do
    #[arg(long, value_enum, default_value_t = OpName::Get)]
    op: OpName,
    /// The size of objects
    #[arg(long, value_name = "BYTES", default_value = "64KiB")]
    size: Bytes,
    /// Requests at once
    #[arg(long, short, value_name = "N", default_value_t = 16)]
    concurrency: u32,
    /// How long to measure; a number alone is seconds
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = seconds)]
    duration: Seconds,
    /// How long to work before it is measured
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = seconds)]
    warm_up: Seconds,
    /// Objects to prepare; with `--op put`, objects after which to end
    #[arg(long, value_name = "N")]
    objects: Option<u64>,
    /// The bucket; it is made, and removed afterwards, if it is not there
    #[arg(long, default_value = "datahall-bench")]
    bucket: String,
    /// Sign addresses instead of headers
    #[arg(long)]
    presigned: bool,
    /// What vouches for bodies on their way in
    #[arg(long, value_enum, default_value_t = PayloadName::Signed)]
    payload: PayloadName,
    /// The share of bodies that compression can take away, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    compressibility: u8,
    /// A process of the server, whose CPU and memory are counted with those of its children
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// The most bytes that `--op put` writes before it ends
    #[arg(long, value_name = "BYTES", default_value = "16GiB")]
    bytes_max: Bytes,
    /// Leave the objects in the store
    #[arg(long)]
    keep: bool,
}

/// A line about what goes on: drawn anew on a terminal, one after another elsewhere.
pub(super) struct Line {
    quiet: bool,
    drawn: bool,
}

impl Line {
    pub(super) const fn new(quiet: bool) -> Self {
        Self { quiet, drawn: false }
    }

    pub(super) fn show(&mut self, text: impl std::fmt::Display) {
        if self.quiet {
            return;
        }
        if output::interactive() {
            // Nobody may read stderr; the work goes on all the same.
            drop(write!(std::io::stderr().lock(), "\r\x1b[2K  {text}"));
            self.drawn = true;
        } else {
            output::note(format!("  {text}"));
        }
    }

    pub(super) fn end(&mut self) {
        if self.drawn {
            drop(write!(std::io::stderr().lock(), "\r\x1b[2K"));
            self.drawn = false;
        }
    }
}

/// A length of time; nobody measures a store for five of anything else, so a number alone is seconds.
fn seconds(text: &str) -> Result<Seconds, dh_units::Error> {
    let alone = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if alone { format!("{text}s").parse() } else { text.parse() }
}

fn duration(time: Seconds, what: &str) -> Result<Duration, Failure> {
    let wrong = |_error| Failure::new(Kind::Invalid, format!("{what}: {time} is no length of time"));
    let time = Duration::try_from_secs_f64(time.0).map_err(wrong)?;
    if time > Duration::from_hours(24) {
        return Err(Failure::new(Kind::TooLarge, format!("{what}: a run lasts at most a day")));
    }
    Ok(time)
}

impl Bench {
    pub(super) async fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let signing = if self.presigned { Signing::Presigned } else { Signing::Header };
        let connections = usize::try_from(self.concurrency).unwrap_or(usize::MAX);
        let settings = self.key.settings(&self.endpoint)?;
        let client = Client::new(Settings { signing, idle_connections: connections, ..settings })?;
        let op = match self.op {
            OpName::Put => Op::Put,
            OpName::Get => Op::Get,
            OpName::Mixed => Op::Mixed,
            OpName::List => Op::List,
            OpName::Delete => Op::Delete,
        };
        let plan = Plan {
            duration: duration(self.duration, "--duration")?,
            warm_up: duration(self.warm_up, "--warm-up")?,
            objects: self.objects,
            bucket: self.bucket,
            payload: match self.payload {
                PayloadName::Signed => Payload::Signed,
                PayloadName::Unsigned => Payload::Unsigned,
                PayloadName::Checksum => Payload::Checksum,
                PayloadName::Trailer => Payload::Trailer,
            },
            compressible_percent: self.compressibility,
            bytes_max: self.bytes_max.0,
            server: self.server_pid,
            afterwards: if self.keep { Afterwards::Kept } else { Afterwards::Removed },
            ..Plan::new(op, self.size.0, self.concurrency)
        };
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let interrupt = tokio::spawn(async move {
            // Without signals the run just goes on to its end.
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.send_replace(true);
            }
        });
        let mut line = Line::new(globals.quiet);
        let report = load::run(&client, plan, |progress| line.show(words(progress)), stopped).await;
        interrupt.abort();
        line.end();
        let report = report?;
        if globals.output.is_data() {
            output::versioned(&report)?;
        } else {
            print(&report);
        }
        // What was measured is printed either way; a script sees that not all went well.
        Ok(u8::from(!report.errors.is_empty()))
    }
}

fn words(progress: Progress) -> String {
    match progress {
        Progress::Preparing { done, of } => format!("preparing: {done} of {of} objects"),
        Progress::Measuring { elapsed, operations, bytes, failures } => {
            let failed = if failures == 0 { String::new() } else { format!(", {failures} failed") };
            format!("{:>4} s: {operations}/s, {}/s{failed}", elapsed.as_secs(), Bytes(bytes))
        }
        Progress::Removing => "removing what was written".to_owned(),
    }
}

fn print(report: &Report) {
    output::line(format!(
        "{} of {} against {}, {} at once, {} s",
        output::bold(report.op),
        Bytes(report.size),
        report.endpoint,
        report.concurrency,
        report.seconds
    ));
    output::line("");
    let right = ["COUNT", "ERRORS", "PER SECOND", "MIB/S", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS"];
    let head: Vec<(&str, Side)> =
        [("OPERATION", Side::Left)].into_iter().chain(right.map(|name| (name, Side::Right))).collect();
    let mut table = Table::new(&head);
    for one in &report.operations {
        let times =
            [one.latency_ms.p50, one.latency_ms.p90, one.latency_ms.p99, one.latency_ms.p999, one.latency_ms.max];
        let cells = [
            one.kind.to_owned(),
            one.count.to_string(),
            one.errors.to_string(),
            format!("{:.1}", one.per_second),
            format!("{:.1}", one.mib_per_second),
        ];
        table.row(cells.into_iter().chain(times.map(|time| format!("{time:.2}"))));
    }
    table.lines().iter().for_each(output::line);
    output::line("");
    if let Some(seconds) = report.by_second {
        output::line(format!(
            "by second  fastest {}, median {}, slowest {}",
            seconds.fastest, seconds.median, seconds.slowest
        ));
    }
    if report.verified > 0 {
        output::line(format!("verified   {} bodies are what was written", report.verified));
    }
    if let Some(server) = &report.server {
        let per_gb = server.cpu_seconds_per_gb.map(|cost| format!(", {cost:.2} s per GB")).unwrap_or_default();
        output::line(format!(
            "server     {:.0} us of CPU per operation{per_gb}; {:.0} MiB of memory",
            server.cpu_us_per_operation, server.resident_mib
        ));
    }
    output::line(format!("client     {:.0} us of CPU per operation", report.client_cpu_us_per_operation));
    if let (Some(before), Some(after)) = report.load_average {
        output::line(format!("load       {before:.1} before, {after:.1} after"));
    }
    for (word, count) in &report.errors {
        output::line(output::red(format!("{count} x {word}")));
    }
    if let Some(why) = &report.ended_early {
        output::line(format!("ended early: {why}"));
    }
    if let Some(why) = &report.left_behind {
        output::line(output::yellow(format!("left behind: {why}")));
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_duration_without_a_unit_is_seconds() {
        for (text, want) in [("5", 5.0), ("0.5", 0.5), ("5s", 5.0), ("2 min", 120.0), ("250ms", 0.25)] {
            assert!(seconds(text).is_ok_and(|time| (time.0 - want).abs() < 1e-9), "{text}");
        }
        for wrong in ["", "-5", "5 apples", ".", "1.2.3"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
