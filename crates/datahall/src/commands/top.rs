//! `datahall top`: a hall at a glance, again and again: slots, queue, rates, what runs and what it uses.
//!
//! Everything comes from the job API, a few requests a frame. Nothing of the terminal is changed, so an interrupt leaves the last
//! frame where it is.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use dh_core::{SimTime, time::Span};
use dh_server::wire::{JobList, JobUsage, JobView, Status};
use dh_units::{Bytes, real};
use serde::Serialize;

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::Failure;
use crate::output;
use crate::ui::table::{Side, Table};

/// Between the two looks of a single frame, from which its rates come.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Running jobs that are looked at.
const RUNNING_MAX: usize = 20;

/// Nodes with a line of their own; of more, only the sums are shown.
const NODES_MAX: usize = 8;

/// Lines that a screen has where it does not say.
const LINES: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two frames
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    interval: f64,
    /// One frame, and that is all
    #[arg(long)]
    once: bool,
}

/// What was seen at one moment.
struct Look {
    at: SimTime,
    status: Status,
    running: Vec<JobView>,
    next: Vec<JobView>,
    usage: BTreeMap<u64, JobUsage>,
}

/// What is shown.
#[derive(Serialize)]
struct Frame {
    name: String,
    at_ns: u64,
    uptime_seconds: u64,
    nodes: usize,
    nodes_drained: usize,
    slots: u64,
    slots_taken: u64,
    jobs: BTreeMap<String, u64>,
    events_per_second: f64,
    finished_per_second: f64,
    running: Vec<Row>,
    next: Vec<Row>,
    services: BTreeMap<String, u64>,
}

/// A job in a frame.
#[derive(Serialize)]
struct Row {
    job: u64,
    name: String,
    state: String,
    queue: String,
    ranks: u32,
    ranks_running: u32,
    seconds: f64,
    /// How much of its time limit is over, 0 to 1.
    progress: Option<f64>,
    /// Cores that its processes keep busy.
    cores: Option<f64>,
    resident_bytes: Option<u64>,
    because: Option<String>,
}

impl Verb for Top {
    const NAME: &'static str = "top";
    const ABOUT: &'static str = "Watch a running hall: slots, queue, rates, what runs and what it uses";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        let once = self.once || globals.output.is_data() || !std::io::stdout().is_terminal();
        let pause = if once { FIRST_LOOK } else { Duration::from_secs_f64(self.interval.clamp(0.1, 3600.0)) };
        let mut before = look(&api)?;
        let mut first = true;
        loop {
            std::thread::sleep(if first { FIRST_LOOK } else { pause });
            first = false;
            let seen = look(&api)?;
            let frame = frame(&before, &seen);
            if globals.output.is_data() {
                output::versioned(&frame)?;
            } else {
                draw(&frame, &seen, !once);
            }
            if once {
                return Ok(0);
            }
            before = seen;
        }
    }
}

fn look(api: &Api) -> Result<Look, Failure> {
    let status: Status = api.get("/v1/status")?;
    let listed = |query: &str| api.get::<JobList>(&format!("/v1/jobs?{query}")).map(|list| list.jobs);
    let mut running = Vec::new();
    for state in ["running", "starting", "loading", "stopping"] {
        if status.jobs.contains_key(state) && running.len() < RUNNING_MAX {
            running.extend(listed(&format!("before=0&state={state}&limit={}", RUNNING_MAX - running.len()))?);
        }
    }
    let next = if status.jobs.contains_key("waiting") { listed("after=0&state=waiting&limit=5")? } else { Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut usage = BTreeMap::new();
    for job in &running {
        // One that has ended meanwhile uses nothing.
        if let Ok(used) = api.get(&format!("/v1/jobs/{}/usage", job.id.0)) {
            usage.insert(job.id.0, used);
        }
    }
    Ok(Look { at: SimTime(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)), status, running, next, usage })
}

fn seconds(span: Span) -> f64 {
    real(span.0) / 1e9
}

fn frame(before: &Look, now: &Look) -> Frame {
    let passed = seconds(now.at.since(before.at)).max(1e-3);
    let finished = |status: &Status| -> u64 {
        ["succeeded", "failed", "cancelled"].iter().filter_map(|state| status.jobs.get(*state)).sum()
    };
    let rate = |from: u64, to: u64| real(to.saturating_sub(from)) / passed;
    let mut services = BTreeMap::new();
    for service in &now.status.services {
        *services.entry(format!("{} {}", service.service, service.state)).or_insert(0) += 1;
    }
    let nodes = &now.status.nodes;
    Frame {
        name: now.status.name.clone(),
        at_ns: now.at.0,
        uptime_seconds: now.status.uptime_seconds,
        nodes: nodes.len(),
        nodes_drained: nodes.iter().filter(|node| node.health != "up").count(),
        slots: nodes.iter().map(|node| u64::from(node.slots)).sum(),
        slots_taken: nodes.iter().map(|node| u64::from(node.busy)).sum(),
        jobs: now.status.jobs.clone(),
        events_per_second: rate(before.status.events, now.status.events),
        finished_per_second: rate(finished(&before.status), finished(&now.status)),
        running: now.running.iter().map(|job| row(job, before, now, passed)).collect(),
        next: now.next.iter().map(|job| row(job, before, now, passed)).collect(),
        services,
    }
}

fn row(job: &JobView, before: &Look, now: &Look, passed: f64) -> Row {
    let used = now.usage.get(&job.id.0);
    let earlier = before.usage.get(&job.id.0);
    let cpu = |usage: &JobUsage| usage.ranks.iter().map(|rank| rank.cpu_seconds).sum::<f64>();
    let same = earlier.zip(used).filter(|(earlier, used)| earlier.attempt == used.attempt);
    let since = if used.is_some() { job.started_ns.unwrap_or(job.submitted_ns) } else { job.submitted_ns };
    let progress = used.and_then(|used| {
        let (all, over) = (used.ends_ns?.checked_sub(used.started_ns)?, now.at.0.saturating_sub(used.started_ns));
        Some((real(over) / real(all.max(1))).min(1.0))
    });
    Row {
        job: job.id.0,
        name: job.name.clone(),
        state: job.state.clone(),
        queue: job.queue.clone(),
        ranks: job.ranks,
        ranks_running: job.ranks_running,
        seconds: seconds(now.at.since(SimTime(since))),
        progress,
        cores: same.map(|(earlier, used)| ((cpu(used) - cpu(earlier)) / passed).max(0.0)),
        resident_bytes: used.map(|used| used.ranks.iter().map(|rank| rank.resident_bytes).sum()),
        because: job.because.clone(),
    }
}

/// A share as a bar of `width` characters.
fn bar(share: f64, width: u32) -> String {
    let full = dh_units::whole((share.clamp(0.0, 1.0) * f64::from(width)).round());
    let full = usize::try_from(full).unwrap_or(0);
    let width = usize::try_from(width).unwrap_or(0);
    format!("[{}{}]", "#".repeat(full), ".".repeat(width.saturating_sub(full)))
}

fn draw(frame: &Frame, seen: &Look, again: bool) {
    let lines = lines(frame, seen);
    if !again {
        lines.iter().for_each(output::line);
        return;
    }
    let height = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(LINES, |size| usize::from(size.ws_row));
    // Home, each line to its end, and what an earlier frame left below.
    let shown: Vec<String> =
        lines.into_iter().take(height.saturating_sub(1)).map(|line| format!("{line}\x1b[K\n")).collect();
    output::piece(format!("\x1b[H{}\x1b[J", shown.concat()));
}

fn lines(frame: &Frame, seen: &Look) -> Vec<String> {
    let share = if frame.slots == 0 { 0.0 } else { real(frame.slots_taken) / real(frame.slots) };
    let states: Vec<String> = frame.jobs.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut lines = vec![
        format!("{}  up {}", output::bold(&frame.name), Span::from_secs(frame.uptime_seconds)),
        format!("slots   {} {} of {}", bar(share, 40), frame.slots_taken, frame.slots),
        format!("nodes   {}, {} drained", frame.nodes, frame.nodes_drained),
        format!("jobs    {}", if states.is_empty() { "none yet".to_owned() } else { states.join(", ") }),
        format!("rates   {:.1} events/s, {:.1} jobs/s finished", frame.events_per_second, frame.finished_per_second),
    ];
    for (service, replicas) in &frame.services {
        lines.push(format!("service {service} x{replicas}"));
    }
    if seen.status.nodes.len() <= NODES_MAX {
        for node in &seen.status.nodes {
            let share = f64::from(node.busy) / f64::from(node.slots.max(1));
            let health =
                if node.health == "up" { String::new() } else { format!("  {}", output::yellow(&node.health)) };
            lines.push(format!("  {:<14} {} {}/{}{health}", node.name, bar(share, 16), node.busy, node.slots));
        }
    }
    lines.push(String::new());
    let mut table = Table::new(&[
        ("JOB", Side::Left),
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("QUEUE", Side::Left),
        ("RANKS", Side::Right),
        ("TIME", Side::Right),
        ("OF LIMIT", Side::Right),
        ("CORES", Side::Right),
        ("MEMORY", Side::Right),
    ]);
    let dash = || "-".to_owned();
    for row in frame.running.iter().chain(&frame.next) {
        let state = if row.state == "running" { output::green(&row.state) } else { row.state.clone() };
        table.row([
            row.job.to_string(),
            row.name.clone(),
            state,
            row.queue.clone(),
            format!("{}/{}", row.ranks_running, row.ranks),
            Span(dh_units::whole(row.seconds) * 1_000_000_000).to_string(),
            row.progress.map_or_else(dash, |share| format!("{:.0} %", share * 100.0)),
            row.cores.map_or_else(dash, |cores| format!("{cores:.1}")),
            row.resident_bytes.map_or_else(dash, |bytes| Bytes(bytes).to_string()),
        ]);
    }
    lines.extend(table.lines());
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_is_as_full_as_its_share() {
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(|share| super::bar(share, 4)), ["[....]", "[##..]", "[####]", "[####]"]);
    }
}
