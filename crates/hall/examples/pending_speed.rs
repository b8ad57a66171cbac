//! A million waiting jobs: how long an event takes until all that follows from it is decided, what a waiting job weighs, and
//! how long a restart takes. `pending_speed [PENDING] [EVENTS] [CASE]`
//!
//! 12,500 nodes of 8 in blocks, rows and racks, full; 1,000 shapes in 4 queues; each end is answered by a new job.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example prints, and measures time and memory")]

use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Action, Backfill, Event, Gang, Grace, QueueRules, Scheduler, Settings, Submission};
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

/// Bytes that the process holds, by the system's count.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Whether jobs say how long they run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lengths {
    Known,
    Unknown,
}

fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn length(job: u64) -> u64 {
    600 + mix(job ^ 0xABCD) % 100_000
}

/// A job of one of 1,000 shapes: mostly small, some of hundreds of nodes.
fn job(id: u64, lengths: Lengths) -> Submission {
    let shape = mix(id) % 1000;
    let (ranks, accelerators) = match shape {
        0..700 => (1, [1, 1, 1, 2, 2, 4, 8][usize::try_from(shape % 7).unwrap_or(0)]),
        700..960 => (u32::try_from(2 + shape % 7).unwrap_or(2), 8),
        _ => (u32::try_from(16 + shape % 48).unwrap_or(16), 8),
    };
    let gang = Gang {
        need: Need {
            ranks,
            rank: Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 },
            within: if ranks > 1 && ranks <= 8 { 2 } else { 0 },
            rails: Rails::Any,
        },
        least_ranks: ranks,
        speeds: 0,
        dataset: None,
        // What makes shapes of the same size differ.
        rank_watts: u32::try_from(shape).unwrap_or(0),
        grace: Grace::Preemptible,
    };
    Submission {
        job: JobId(id),
        gang,
        queue: u16::try_from(mix(id ^ 0x4d) % 4).unwrap_or(0),
        priority: 0,
        length: (lengths == Lengths::Known).then(|| Span::from_secs(length(id))),
        attained: Span(0),
        kind: 0,
        since: SimTime(0),
        deadline: None,
    }
}

fn settings(backfill: Backfill) -> Settings {
    let facts = |node: u32| NodeFacts {
        class: 0,
        accelerators: 8,
        cpu_milli: 128_000,
        memory_mib: 2_000_000,
        path: vec![node / 2500, node / 500, node / 20],
    };
    Settings {
        levels: ["block", "row", "rack"].map(str::to_owned).to_vec(),
        nodes: (0..12_500).map(facts).collect(),
        queues: vec![QueueRules::default(); 4],
        backfill,
        ..Settings::default()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let pending = arguments.next().unwrap_or(1_000_000_u64);
    let events = arguments.next().unwrap_or(20_000_u64);
    let only = arguments.next();
    for (at, (backfill, lengths)) in (0..).zip([
        (Backfill::Easy, Lengths::Known),
        (Backfill::Easy, Lengths::Unknown),
        (Backfill::Any, Lengths::Unknown),
        (Backfill::None, Lengths::Unknown),
        (Backfill::Conservative { reservations: 8 }, Lengths::Known),
    ]) {
        if only.is_some_and(|only| only != at) {
            continue;
        }
        println!("{backfill:?}, lengths {lengths:?}");
        run(backfill, lengths, pending, events);
    }
}

fn run(backfill: Backfill, lengths: Lengths, pending: u64, events: u64) {
    let Ok(mut scheduler) = Scheduler::new(settings(backfill)) else { return };
    let mut actions = Vec::new();
    let mut ends: BinaryHeap<std::cmp::Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut now = 0;
    let mut next = 0;
    let before = resident();
    let begun = Instant::now();
    let mut filled = (before, 0);
    while u64::try_from(scheduler.waiting()).unwrap_or(0) < pending {
        now += 1000;
        scheduler.step(SimTime(now), &Event::Submitted(job(next, lengths)), &mut actions);
        next += 1;
        collect(&mut actions, now, &mut ends);
        if scheduler.waiting() == 1000 {
            filled = (resident(), 1000);
        }
    }
    let rebuilt = begun.elapsed();
    let weight = resident().saturating_sub(filled.0) / (scheduler.waiting() - filled.1).max(1);
    println!("  {next} submitted in {rebuilt:.2?}: {} run, {weight} bytes for each that waits", scheduler.running());
    let (mut ended, mut submitted) = (Vec::new(), Vec::new());
    // What an end costs for each decision that follows from it.
    let mut each = Vec::new();
    let (mut started, mut plans) = (0, 0);
    let mut promised = None;
    for _ in 0..events / 2 {
        let Some(std::cmp::Reverse((at, id))) = ends.pop() else { break };
        now = now.max(at);
        let event = Event::Ended { job: JobId(id), run: scheduler.run_of(JobId(id)).unwrap_or_default() };
        let took = end(&mut scheduler, now, &event, &mut actions);
        ended.push(took);
        let decided = collect(&mut actions, now, &mut ends);
        started += decided;
        each.push(took / u32::try_from(decided.max(1)).unwrap_or(1));
        let event = Event::Submitted(job(next, lengths));
        next += 1;
        let begun = Instant::now();
        scheduler.step(SimTime(now), &event, &mut actions);
        submitted.push(begun.elapsed());
        started += collect(&mut actions, now, &mut ends);
        let wakeup = scheduler.wakeup();
        plans += u32::from(wakeup != promised);
        promised = wakeup;
    }
    println!("  {started} started, {plans} plans, digest {:016x}", scheduler.digest());
    show("end", &mut ended);
    show("each", &mut each);
    show("submit", &mut submitted);
    let both = &mut [ended, submitted].concat();
    show("both", both);
    let mut whys = Vec::new();
    for at in 0..100 {
        let id = JobId(next - 1 - mix(at) % (next / 2));
        let begun = Instant::now();
        let why = scheduler.why(id);
        whys.push(begun.elapsed());
        if at < 3
            && let Some(why) = why
        {
            let blockers: Vec<String> = why.blockers.iter().map(ToString::to_string).collect();
            println!("  {} waits: {}; earliest {:?}", why.job, blockers.join("; "), why.earliest);
        }
    }
    show("why", &mut whys);
    readers(&mut scheduler, &mut ends, &mut next, lengths, now);
    if backfill == Backfill::Easy && lengths == Lengths::Known {
        let mut saved = Vec::new();
        let begun = Instant::now();
        if serde_json::to_writer(&mut saved, &scheduler).is_ok() {
            let wrote = begun.elapsed();
            let begun = Instant::now();
            let same =
                serde_json::from_slice::<Scheduler>(&saved).is_ok_and(|other| other.digest() == scheduler.digest());
            println!(
                "  saved in {wrote:.2?}, {} MB; restored in {:.2?}, same {same}",
                saved.len() / 1_000_000,
                begun.elapsed()
            );
        }
    }
}

/// One end with all that follows; a function of its own, so that a profiler can be told to look at nothing else.
#[inline(never)]
fn end(scheduler: &mut Scheduler, now: u64, event: &Event, actions: &mut Vec<Action>) -> Duration {
    let begun = Instant::now();
    scheduler.step(SimTime(now), event, actions);
    begun.elapsed()
}

/// What a snapshot costs, the steps after it, and what its readers ask first.
fn readers(
    scheduler: &mut Scheduler,
    ends: &mut BinaryHeap<std::cmp::Reverse<(u64, u64)>>,
    next: &mut u64,
    lengths: Lengths,
    mut now: u64,
) {
    let mut actions = Vec::new();
    let (mut taken, mut after, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..200 {
        let begun = Instant::now();
        let snapshot = scheduler.snapshot();
        taken.push(begun.elapsed());
        for _ in 0..10 {
            let Some(std::cmp::Reverse((at, id))) = ends.pop() else { break };
            now = now.max(at);
            let run = scheduler.run_of(JobId(id)).unwrap_or_default();
            for event in [Event::Ended { job: JobId(id), run }, Event::Submitted(job(*next, lengths))] {
                let begun = Instant::now();
                scheduler.step(SimTime(now), &event, &mut actions);
                after.push(begun.elapsed());
                collect(&mut actions, now, ends);
            }
            *next += 1;
        }
        let begun = Instant::now();
        let why = snapshot.why(JobId(*next - 100));
        first.push(begun.elapsed());
        assert!(why.is_some(), "a job that waits has no reason");
    }
    show("snapshot", &mut taken);
    show("after", &mut after);
    show("its why", &mut first);
}

fn collect(actions: &mut Vec<Action>, now: u64, ends: &mut BinaryHeap<std::cmp::Reverse<(u64, u64)>>) -> u64 {
    let mut started = 0;
    for action in actions.drain(..) {
        if let Action::Start { job, .. } = action {
            started += 1;
            ends.push(std::cmp::Reverse((now + length(job.0) * 1_000_000_000, job.0)));
        }
    }
    started
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |of: usize, all: usize| {
        times.get((times.len() * of / all).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let most = times.last().copied().unwrap_or_default();
    println!(
        "  {what:>8}: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, max {most:.1?}",
        at(1, 2),
        at(9, 10),
        at(99, 100),
        at(999, 1000)
    );
}
