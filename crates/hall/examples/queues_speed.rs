//! How long an event takes with one queue and with a thousand, in one line and by shares: percentiles of ends and submissions
//! in a full hall. `cargo run --release -p dh-hall --example queues_speed [EVENTS]`.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement for people")]

use std::collections::VecDeque;
use std::time::Instant;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Action, Event, Gang, Grace, QueueRules, RunId, Scheduler, Settings, Sharing, Submission};
use dh_policy::fairness::Stretch;
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

const NODES: u32 = 1250;

fn settings(queues: u16, parents: u16, sharing: Sharing) -> Settings {
    let node = |node: u32| NodeFacts {
        class: 0,
        accelerators: 8,
        cpu_milli: 64_000,
        memory_mib: 512_000,
        path: vec![node / 500, node / 25],
    };
    let of = |queue: u16| QueueRules {
        share: 1 + u32::from(queue % 7),
        parent: (parents > 0 && queue >= parents).then(|| queue % parents),
        ..QueueRules::default()
    };
    Settings {
        levels: vec!["row".to_owned(), "rack".to_owned()],
        nodes: (0..NODES).map(node).collect(),
        queues: (0..queues).map(of).collect(),
        sharing,
        ..Settings::default()
    }
}

fn submission(job: u64, queue: u16, now: u64) -> Submission {
    let rank = Request { cpu_milli: 1000, memory_mib: 1000, accelerators: 8, milli: WHOLE, models: 0 };
    let gang = Gang {
        need: Need { ranks: 1, rank, within: 0, rails: Rails::Any },
        least_ranks: 1,
        speeds: 0,
        dataset: None,
        rank_watts: 0,
        grace: Grace::Preemptible,
    };
    Submission {
        job: JobId(job),
        gang,
        queue,
        priority: 0,
        length: None,
        attained: Span(0),
        since: SimTime(now),
        deadline: None,
        kind: 0,
    }
}

/// Tells an event; nanoseconds that it took. Jobs that start join `running`.
fn tell(scheduler: &mut Scheduler, now: u64, event: &Event, running: &mut VecDeque<(JobId, RunId)>) -> u128 {
    let mut actions = Vec::new();
    let begun = Instant::now();
    scheduler.step(SimTime(now), event, &mut actions);
    let took = begun.elapsed().as_nanos();
    for action in actions {
        if let Action::Start { job, run, .. } = action {
            running.push_back((job, run));
        }
    }
    took
}

fn main() {
    let events: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let fair = Sharing::Fair { half_life: Span::from_secs(7 * 86_400) };
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "full hall, 20,000 waiting", "mean ns", "p50 ns", "p99 ns", "max ns");
    for (name, queues, parents, sharing, stretch) in [
        ("one line, one queue", 1, 0, Sharing::OneLine, None),
        ("one line, 1,000 queues", 1000, 0, Sharing::OneLine, None),
        ("shares, 2 queues", 2, 0, fair, None),
        ("shares, 1,000 queues", 1000, 0, fair, None),
        ("shares, 1,000 queues below 30", 1000, 30, fair, None),
        ("one line, one queue, bound", 1, 0, Sharing::OneLine, Some(Stretch::default())),
        ("shares, 1,000 queues below 30, bound", 1000, 30, fair, Some(Stretch::default())),
    ] {
        let settings = Settings { stretch, ..settings(queues, parents, sharing) };
        let Ok(mut scheduler) = Scheduler::new(settings) else { continue };
        let (mut running, mut job, mut now, mut seed) = (VecDeque::new(), 0_u64, 0_u64, 7_u64);
        let mut submit = |scheduler: &mut Scheduler, now: u64, running: &mut VecDeque<(JobId, RunId)>| {
            job += 1;
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let queue = u16::try_from((seed >> 33) % u64::from(queues)).unwrap_or(0);
            tell(scheduler, now, &Event::Submitted(submission(job, queue, now)), running)
        };
        for _ in 0..u64::from(NODES) + 20_000 {
            now += 1_000_000;
            submit(&mut scheduler, now, &mut running);
        }
        let mut took: Vec<u128> = Vec::new();
        for _ in 0..events / 2 {
            now += 1_000_000_000;
            let Some((ends, run)) = running.pop_front() else { break };
            took.push(tell(&mut scheduler, now, &Event::Ended { job: ends, run }, &mut running));
            took.push(submit(&mut scheduler, now, &mut running));
        }
        took.sort_unstable();
        let at = |per_mille: usize| took.get(took.len().saturating_sub(1) * per_mille / 1000).copied().unwrap_or(0);
        let mean = took.iter().sum::<u128>() / u128::try_from(took.len().max(1)).unwrap_or(1);
        println!("{name:<44} {mean:>9} {:>9} {:>9} {:>9}", at(500), at(990), at(1000));
    }
}
