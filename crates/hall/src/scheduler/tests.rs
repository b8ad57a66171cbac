//! The core by itself, one short story each.

use dh_policy::fleet::NodeFacts;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};

use super::*;

mod complaints;
mod consolidate;
mod interleave;
mod pinned;
mod predict;
mod reclaim;
mod repair;
mod rounds;
mod shapes;
mod share;
mod stretch;

pub(super) fn nodes(racks: u32, per_rack: u32, accelerators: u8) -> Vec<NodeFacts> {
    (0..racks * per_rack)
        .map(|node| NodeFacts {
            class: 0,
            accelerators,
            cpu_milli: 64_000,
            memory_mib: 512_000,
            path: vec![node / per_rack],
        })
        .collect()
}

pub(super) fn settings(racks: u32, per_rack: u32, accelerators: u8) -> Settings {
    Settings { levels: vec!["rack".to_owned()], nodes: nodes(racks, per_rack, accelerators), ..Settings::default() }
}

pub(super) fn gang(ranks: u32, accelerators: u8) -> Gang {
    Gang {
        need: Need {
            ranks,
            rank: Request { cpu_milli: 0, memory_mib: 0, accelerators, milli: WHOLE, models: 0 },
            within: 0,
            rails: Rails::Any,
        },
        least_ranks: ranks,
        speeds: 0,
        dataset: None,
        rank_watts: 0,
        grace: Grace::Preemptible,
    }
}

pub(super) fn submission(job: u64, gang: Gang) -> Submission {
    Submission {
        job: JobId(job),
        gang,
        queue: 0,
        priority: 0,
        length: None,
        attained: Span(0),
        since: SimTime(0),
        deadline: None,
        kind: 0,
    }
}

/// In the stories' events: the run that the job is in.
pub(super) const PRESENT: RunId = 0;

/// An event of which the run is named.
pub(super) fn named(scheduler: &Scheduler, event: &Event) -> Event {
    let mut event = event.clone();
    if let Event::Ended { job, run } | Event::Stopped { job, run, .. } | Event::Checkpointed { job, run } = &mut event
        && *run == PRESENT
    {
        *run = scheduler.run_of(*job).unwrap_or(PRESENT);
    }
    event
}

pub(super) fn step(scheduler: &mut Scheduler, at: u64, event: &Event) -> Vec<Action> {
    let mut actions = Vec::new();
    let event = named(scheduler, event);
    scheduler.step(SimTime(at * 1_000_000_000), &event, &mut actions);
    scheduler.check();
    actions
}

pub(super) fn started(actions: &[Action]) -> Vec<u64> {
    let started = actions.iter().filter_map(|action| match action {
        Action::Start { job, .. } => Some(job.0),
        Action::Stop { .. }
        | Action::Repair { .. }
        | Action::Resize { .. }
        | Action::Wake { .. }
        | Action::Sleep { .. }
        | Action::Quarantined { .. }
        | Action::NotApplied { .. }
        | Action::Refused { .. } => None,
    });
    started.collect()
}

/// Who was stopped, and for whom.
pub(super) fn stopped(actions: &[Action]) -> Vec<(u64, u64)> {
    let stops = actions.iter().filter_map(|action| match action {
        Action::Stop { job, cause: Cause::Preempted { by } } => Some((job.0, by.0)),
        Action::Stop { .. }
        | Action::Start { .. }
        | Action::Repair { .. }
        | Action::Resize { .. }
        | Action::Wake { .. }
        | Action::Sleep { .. }
        | Action::Quarantined { .. }
        | Action::NotApplied { .. }
        | Action::Refused { .. } => None,
    });
    stops.collect()
}

#[test]
fn jobs_start_in_order_and_what_comes_free_goes_to_the_first() {
    let mut scheduler = Scheduler::new(settings(1, 2, 8)).unwrap();
    let mut at = 0;
    let mut submit = |scheduler: &mut Scheduler, job, ranks, accelerators| {
        at += 1;
        started(&step(scheduler, at, &Event::Submitted(submission(job, gang(ranks, accelerators)))))
    };
    assert_eq!(submit(&mut scheduler, 1, 1, 8), [1]);
    assert_eq!(submit(&mut scheduler, 2, 1, 6), [2]);
    assert_eq!(submit(&mut scheduler, 3, 1, 8), [0; 0]);
    assert_eq!(submit(&mut scheduler, 4, 1, 4), [0; 0]);
    assert_eq!((scheduler.running(), scheduler.waiting()), (2, 2));
    assert_eq!(started(&step(&mut scheduler, 10, &Event::Ended { job: JobId(2), run: PRESENT })), [3]);
    assert_eq!(started(&step(&mut scheduler, 11, &Event::Cancelled { job: JobId(4) })), [0; 0]);
    assert_eq!(started(&step(&mut scheduler, 12, &Event::Ended { job: JobId(1), run: PRESENT })), [0; 0]);
    assert_eq!((scheduler.running(), scheduler.waiting(), scheduler.len()), (1, 0, 1));
}

#[test]
fn a_saved_scheduler_decides_as_the_other_would_have() {
    let mut scheduler = Scheduler::new(settings(2, 2, 8)).unwrap();
    for job in 1..=9 {
        step(&mut scheduler, job, &Event::Submitted(submission(job, gang(1 + u32::try_from(job % 3).unwrap(), 4))));
    }
    let saved = serde_json::to_vec(&scheduler).unwrap();
    let mut other: Scheduler = serde_json::from_slice(&saved).unwrap();
    for job in 1..=9 {
        let event = Event::Ended { job: JobId(job), run: PRESENT };
        assert_eq!(step(&mut scheduler, 20 + job, &event), step(&mut other, 20 + job, &event));
    }
    assert_eq!(scheduler.digest(), other.digest());
}
