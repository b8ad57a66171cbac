//! How long the scheduler takes to clear a place for a gang of 512 accelerators in a hall of 100,000 that is full of jobs of
//! lower priority: 12,500 nodes of 8, 10 blocks of 10 pods of 5 racks.
//!
//! `cargo run --release -p dh-hall --example preempt_speed`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints, and stops where it is wrong")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use dh_core::time::Span;
use dh_core::{JobId, SimTime};
use dh_hall::scheduler::{Action, Backfill, Event, Gang, Grace, QueueRules, Scheduler, Settings, Submission};
use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

const NODES: u32 = 12_500;

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn submission(job: u64, ranks: u32, accelerators: u8, priority: i32) -> Submission {
    let rank = Request {
        cpu_milli: 4000 * u32::from(accelerators),
        memory_mib: 32_000 * u32::from(accelerators),
        accelerators,
        milli: WHOLE,
        models: 0,
    };
    let need = Need { ranks, rank, within: 0, rails: Rails::Any };
    let gang = Gang { need, least_ranks: ranks, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
    Submission {
        job: JobId(job),
        gang,
        queue: 0,
        priority,
        length: None,
        attained: Span(0),
        kind: 0,
        since: SimTime(0),
        deadline: None,
    }
}

fn full(seed: u64) -> (Scheduler, u64, u64) {
    let nodes = (0..NODES).map(|node| NodeFacts {
        class: 0,
        accelerators: 8,
        cpu_milli: 64_000,
        memory_mib: 512_000,
        path: vec![node / 1250, node / 125 % 10, node / 25 % 5],
    });
    let mut hall = Scheduler::new(Settings {
        levels: ["block", "pod", "rack"].map(str::to_owned).to_vec(),
        nodes: nodes.collect(),
        queues: vec![QueueRules::default(), QueueRules { preempts: true, ..QueueRules::default() }],
        backfill: Backfill::Any,
        ..Settings::default()
    })
    .unwrap();
    let mut dice = seed;
    let mut actions = Vec::new();
    let (mut job, mut now) = (0, 0);
    while hall.waiting() < 200 {
        job += 1;
        now += splitmix(&mut dice) % 2_000_000_000;
        let roll = splitmix(&mut dice);
        let (ranks, accelerators) = match roll % 20 {
            0..=5 => (1, 1),
            6..=8 => (1, 2),
            9..=11 => (1, 4),
            12..=15 => (1, 8),
            16 | 17 => (2, 8),
            18 => (8, 8),
            _ => (32, 8),
        };
        let priority = i32::try_from(roll >> 32 & 3).unwrap();
        let event = Event::Submitted(submission(job, ranks, accelerators, priority - 4));
        hall.step(SimTime(now), &event, &mut actions);
        // Each job's work became safe at some moment.
        let safe = JobId(splitmix(&mut dice) % job + 1);
        hall.step(
            SimTime(now),
            &Event::Checkpointed { job: safe, run: hall.run_of(safe).unwrap_or_default() },
            &mut actions,
        );
        actions.clear();
    }
    (hall, job, now)
}

fn main() {
    let (base, jobs, now) = full(1);
    println!(
        "{} jobs run, {} accelerators are free",
        base.running(),
        base.fleet().free_in(dh_policy::fleet::Domain::HALL, dh_policy::fleet::View::All)
    );
    let cases =
        [("anywhere", 0, 64, 8, Rails::Any), ("in a block", 1, 64, 8, Rails::Any), ("in a pod", 2, 64, 8, Rails::Any)];
    let more = [
        ("in a pod, on rails", 2, 64, 8, Rails::Aligned),
        ("in a pod, half nodes on rails", 2, 64, 4, Rails::Aligned),
        ("one accelerator", 0, 1, 1, Rails::Any),
    ];
    for (name, within, ranks, accelerators, rails) in cases.into_iter().chain(more) {
        let mut took = Vec::new();
        let mut victims = 0;
        let runs = 100;
        // Each step is taken in three equal copies and the fastest counts: what others do on the machine is left out. All
        // copies live until the case is over: giving one back is the allocator's work and not the scheduler's.
        let mut copies: Vec<[Scheduler; 3]> =
            (0..runs / 10).map(|_| [base.clone(), base.clone(), base.clone()]).collect();
        for run in 0..runs {
            // Every tenth try in fresh copies; the others while the places of the last ones are being cleared.
            let halls = copies.get_mut(usize::try_from(run / 10).unwrap()).unwrap();
            let mut submission = submission(jobs + 1 + run, ranks, accelerators, 10);
            submission.gang.need.within = within;
            submission.gang.need.rails = rails;
            let at = SimTime(now + run * 1_000_000_000);
            let mut least = None;
            for hall in halls {
                let mut actions = Vec::new();
                if run % 10 == 0 {
                    // Whether an empty hall takes such a gang is asked once.
                    let known = JobId(jobs + 1000);
                    hall.step(at, &Event::Submitted(Submission { job: known, ..submission }), &mut actions);
                    hall.step(at, &Event::Cancelled { job: known }, &mut actions);
                }
                let event = Event::Submitted(Submission { queue: 1, ..submission });
                let clock = Instant::now();
                hall.step(at, &event, &mut actions);
                let step = clock.elapsed();
                least = Some(least.map_or(step, |least: std::time::Duration| least.min(step)));
                let stops = actions.iter().filter(|action| matches!(action, Action::Stop { .. })).count();
                assert!(stops > 0, "nobody was displaced: {actions:?}");
                victims += stops;
            }
            took.extend(least);
        }
        took.sort_unstable();
        let at = |percent: usize| took.get(took.len() * percent / 100).or(took.last()).unwrap().as_micros();
        println!(
            "{name}: p50 {} us, p99 {} us, max {} us, {} victims in {runs} runs",
            at(50),
            at(99),
            at(100),
            victims / 3
        );
    }
}
