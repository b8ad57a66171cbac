//! Writes a page from synthetic data: `cargo run --release -p dh-twin --example page_demo -- page.html [nodes] [jobs]`.
//!
//! A toy stands in for the twin: jobs of powers of two accelerators arrive at random, nodes fail, three orders of the line are
//! compared on the same arrivals. It is here to look at pages, not to learn about schedulers.
#![expect(
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a toy whose places come from its own lists, told from top to bottom"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use dh_core::JobId;
use dh_core::time::{SimTime, Span};
use dh_twin::comparison::{Comparison, Runs};
use dh_twin::measure::{
    Cause, Curve, End, Fate, JobFacts, Measures, NodeChange, NodeState, Outcome, Pending, Piece, Power, Setup, Start,
    Stop, Tariff, Window,
};
use dh_twin::page::{Page, html};
use dh_twin::timeline::{Chart, Colour, Mark, Nodes, Series, Stay, Timeline, What};
use dh_units::{UsdPerHour, Watts, real, whole};

const SECOND: u64 = 1_000_000_000;
const PER_NODE: u64 = 8;
const QUEUES: [&str; 4] = ["research", "production", "students & guests", "evaluation <nightly>"];

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (real(self.next() >> 11) + 0.5) / real(1 << 53)
    }
}

/// Electricity that is dear in the evening.
struct Day {
    base: f64,
    evening: f64,
}

impl Curve for Day {
    fn at(&self, moment: SimTime) -> Piece {
        let hour = 3_600 * SECOND;
        let now = moment.0 / hour;
        let value = if (17..22).contains(&(now % 24)) { self.evening } else { self.base };
        Piece { value, until: SimTime((now + 1) * hour) }
    }
}

#[derive(Clone)]
struct Running {
    facts: JobFacts,
    from: u64,
    left: u64,
    places: Vec<(u32, u64)>,
}

struct Waiting {
    facts: JobFacts,
    since: u64,
    left: u64,
    attempt: u32,
    first: Option<u64>,
}

fn run(order: &str, seed: u64, nodes: u32, jobs: u64) -> (Outcome, Chart) {
    let mut dice = Dice(seed);
    let capacity = u64::from(nodes) * PER_NODE;
    let price = Day { base: 0.08, evening: 0.21 };
    let carbon = Day { base: 250.0, evening: 420.0 };
    let tariff = Tariff { price: Some(&price), carbon: Some(&carbon), capital: Some(UsdPerHour(real(capacity) * 1.9)) };
    let queues: Vec<String> = QUEUES.iter().map(|name| (*name).to_owned()).collect();
    let mut measures = Measures::new(Setup { queues, window: Window::default(), tariff });
    let strips = Nodes { nodes, nodes_per_rack: 4, milli: PER_NODE * 1_000, colour: Colour::Queue };
    let mut timeline = Timeline::new(SimTime(0), Some(strips));
    // Arrivals with days and nights, at about 85 % of what the nodes can do.
    let mut at = 0.0;
    let lengths: Vec<(u64, u64)> = (0..jobs)
        .map(|_| {
            let size = 1 << (dice.next() % 7).min(dice.next() % 9);
            let minutes = (dice.unit().ln() * -1.4).exp() * 14.0;
            (size, whole(minutes.min(6_000.0) * 60.0) + 20)
        })
        .collect();
    let work: u64 = lengths.iter().map(|(size, length)| size * length).sum();
    let gap = real(work) / real(jobs) / (real(capacity) * 0.86);
    let mut arrivals = Vec::new();
    for (number, (size, length)) in lengths.iter().enumerate() {
        let day = 1.0 + 0.6 * (at / 86_400.0 * std::f64::consts::TAU).sin();
        at += -dice.unit().ln() * gap / day;
        let submit = SimTime(whole(at * 1e9));
        let queue = usize::try_from((dice.next() % 4).min(dice.next() % 4)).unwrap_or(0);
        let size = (*size).min(capacity / 2).max(1);
        let job = JobId(real_place(number) + 1);
        arrivals.push(JobFacts { job, queue, milli: size * 1_000, length: Span::from_secs(*length), submit });
    }
    let mut failures = Vec::new();
    let mut when = 0.0;
    while when < at {
        when += -dice.unit().ln() * 3.0e7 / f64::from(nodes);
        failures.push((whole(when * 1e9), u32::try_from(dice.next() % u64::from(nodes)).unwrap_or(0)));
    }

    let mut free = vec![PER_NODE; usize::try_from(nodes).unwrap_or(0)];
    let mut down: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..nodes {
        let change = NodeChange { milli: PER_NODE * 1_000, from: NodeState::Absent, to: NodeState::Up };
        measures.node_changed(SimTime(0), change);
    }
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut running: BTreeMap<u64, (Running, u32, Option<u64>)> = BTreeMap::new();
    let mut ends: BTreeSet<(u64, u64)> = BTreeSet::new();
    let (mut next_job, mut next_failure) = (0, 0);
    let mut now = 0;
    loop {
        let candidates = [
            arrivals.get(next_job).map(|facts| facts.submit.0),
            ends.first().map(|(at, _)| *at),
            failures.get(next_failure).map(|(at, _)| *at).filter(|_| next_job < arrivals.len()),
            down.values().min().copied(),
        ];
        let Some(next) = candidates.into_iter().flatten().min() else { break };
        now = next;
        let time = SimTime(now);
        while let Some(facts) = arrivals.get(next_job).filter(|facts| facts.submit.0 <= now) {
            measures.submitted(time, facts);
            waiting.push(Waiting { facts: *facts, since: now, left: facts.length.0, attempt: 1, first: None });
            next_job += 1;
        }
        let mut stop: Vec<(u64, Cause)> = Vec::new();
        while let Some((at, job)) = ends.first().copied() {
            if at > now {
                break;
            }
            ends.remove(&(at, job));
            stop.push((job, Cause::Ended));
        }
        while let Some((_, node)) = failures.get(next_failure).copied().filter(|(at, _)| *at <= now) {
            next_failure += 1;
            if down.contains_key(&node) {
                continue;
            }
            timeline.mark(time, Mark::Failure);
            down.insert(node, now + 7_200 * SECOND);
            let change = NodeChange { milli: PER_NODE * 1_000, from: NodeState::Up, to: NodeState::Down };
            measures.node_changed(time, change);
            let until = SimTime(now + 7_200 * SECOND);
            timeline.stayed(Stay { node, what: What::Down, milli: PER_NODE * 1_000, from: time, to: until });
            let hit = |entry: &(Running, u32, Option<u64>)| entry.0.places.iter().any(|(place, _)| *place == node);
            stop.extend(running.iter().filter(|(_, entry)| hit(entry)).map(|(job, _)| (*job, Cause::Evicted)));
        }
        let back: Vec<u32> = down.iter().filter(|(_, until)| **until <= now).map(|(node, _)| *node).collect();
        for node in back {
            down.remove(&node);
            let change = NodeChange { milli: PER_NODE * 1_000, from: NodeState::Down, to: NodeState::Up };
            measures.node_changed(time, change);
        }
        for (job, cause) in stop {
            let Some((entry, attempt, first)) = running.remove(&job) else { continue };
            let held = now - entry.from;
            // A checkpoint every ten minutes; two minutes to start.
            let worked = held.saturating_sub(120 * SECOND);
            let saving = worked / 50;
            let worked = worked - saving;
            let kept = if cause == Cause::Ended { worked } else { worked / (600 * SECOND) * 600 * SECOND };
            let lost = worked - kept;
            let told = Stop {
                cause,
                since: SimTime(entry.from),
                kept: Span(kept),
                lost: Span(lost),
                checkpoints: Span(saving),
            };
            measures.stopped(time, &entry.facts, told);
            for (node, count) in &entry.places {
                free[usize::try_from(*node).unwrap_or(0)] += count;
                let what = What::Work(real_place(entry.facts.queue));
                timeline.stayed(Stay { node: *node, what, milli: count * 1_000, from: SimTime(entry.from), to: time });
            }
            if cause == Cause::Ended {
                let share = real(entry.facts.milli) / 1_000.0 / (real(capacity) / 6.0);
                let alone = Some(Span(whole(real(entry.facts.length.0) * share.max(1.0)) + 120 * SECOND));
                let fate = if job.is_multiple_of(23) { Fate::Failed } else { Fate::Completed };
                measures.ended(time, &entry.facts, End { fate, first_start: first.map(SimTime), alone });
            } else {
                ends.remove(&(entry.from + 120 * SECOND + entry.left, job));
                let left = entry.left.saturating_sub(kept).max(SECOND);
                waiting.push(Waiting { facts: entry.facts, since: now, left, attempt: attempt + 1, first });
            }
        }
        match order {
            "sjf" => waiting.sort_by_key(|job| (job.left, job.facts.job)),
            "largest" => waiting.sort_by_key(|job| (u64::MAX - job.facts.milli, job.facts.job)),
            _ => waiting.sort_by_key(|job| job.facts.job),
        }
        let mut place = 0;
        while place < waiting.len().min(60) {
            let want = waiting[place].facts.milli / 1_000;
            let mut rest = want;
            let mut places = Vec::new();
            for (node, room) in free.iter().enumerate() {
                let node = u32::try_from(node).unwrap_or(0);
                if rest == 0 {
                    break;
                }
                let take = (*room).min(rest);
                if take > 0 && !down.contains_key(&node) && (want >= PER_NODE || take == want) {
                    places.push((node, take));
                    rest -= take;
                }
            }
            if rest > 0 {
                if order == "fifo" {
                    break;
                }
                place += 1;
                continue;
            }
            let job = waiting.remove(place);
            for (node, count) in &places {
                free[usize::try_from(*node).unwrap_or(0)] -= count;
            }
            measures.started(time, &job.facts, Start { attempt: job.attempt, waited: Span(now - job.since) });
            ends.insert((now + 120 * SECOND + job.left, job.facts.job.0));
            let entry = Running { facts: job.facts, from: now, left: job.left, places };
            running.insert(job.facts.job.0, (entry, job.attempt, job.first.or(Some(now))));
        }
        let off = real_place(down.len()) * PER_NODE;
        let room: u64 = free.iter().sum();
        let held = capacity - room;
        let idle = room.saturating_sub(off);
        let it = real(held) * 950.0 + real(idle) * 250.0;
        measures.power(
            time,
            Power { it: Watts(it), facility: Watts(it * 1.18 + real(capacity) * 30.0), ..Power::default() },
        );
        let wanted = waiting.iter().map(|job| job.facts.milli).sum();
        measures.pending(time, Pending { jobs: real_place(waiting.len()), milli: wanted });
        timeline.set(time, Series::HeldMilli, held * 1_000);
        timeline.set(time, Series::FreeMilli, idle * 1_000);
        timeline.set(time, Series::DownMilli, off * 1_000);
        timeline.set(time, Series::RunningJobs, real_place(running.len()));
        timeline.set(time, Series::PendingJobs, real_place(waiting.len()));
        timeline.set(time, Series::ItWatts, whole(it));
        timeline.set(time, Series::FacilityWatts, whole(it * 1.18 + real(capacity) * 30.0));
    }
    (measures.finish(SimTime(now)), timeline.finish(SimTime(now)))
}

fn real_place(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the file to write")?;
    let nodes: u32 = arguments.next().map_or(Ok(48), |text| text.parse())?;
    let jobs: u64 = arguments.next().map_or(Ok(6_000), |text| text.parse())?;
    let mut chart = None;
    let mut all = Vec::new();
    for order in ["fifo", "sjf", "largest"] {
        let mut outcomes = Vec::new();
        for seed in 0..5 {
            let (outcome, picture) = run(order, seed, nodes, jobs);
            if order == "sjf" && seed == 0 {
                chart = Some((outcome.clone(), picture));
            }
            outcomes.push((seed, outcome));
        }
        all.push(Runs { policy: order.to_owned(), outcomes });
    }
    let comparison = Comparison::of(&all);
    let (outcome, picture) = chart.ok_or("there was no run")?;
    let facts = [
        ("cluster", format!("{nodes} nodes of {PER_NODE} accelerators")),
        ("trace", format!("{jobs} synthetic jobs")),
        ("policy", "sjf".to_owned()),
        ("seed", "0 of 0 to 4".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let facts = facts.map(|(term, what)| (term.to_owned(), what));
    let queues = QUEUES.map(str::to_owned);
    let page = html(&Page {
        title: "A toy hall",
        lead: "Synthetic jobs with days and nights, nodes that fail and come back after two hours, three orders of the line.",
        facts: &facts,
        outcome: &outcome,
        chart: Some(&picture),
        queues: &queues,
        comparison: Some(&comparison),
        services: &[],
    });
    std::fs::File::create(&path)?.write_all(page.as_bytes())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{path}: {} bytes", page.len())?;
    for table in [comparison.figures_table(), comparison.differences_table()] {
        writeln!(out, "{}", table.columns.join(" | "))?;
        for row in table.rows {
            writeln!(out, "{}", row.join(" | "))?;
        }
    }
    Ok(())
}
