//! Jobs that share accelerators.

use dh_policy::fleet::{Domain, View};
use dh_policy::sharing::{Contention, Iteration, Stages};

use super::*;

fn sharing(accelerators: u8) -> Scheduler {
    let order = "shortest-remaining-service".to_owned();
    let (backfill, rounds, interleave) = (Backfill::Any, Some(Span::from_secs(1)), Some(Contention::NONE));
    let settings = Settings { order, backfill, rounds, interleave, ..settings(1, 2, accelerators) };
    let mut scheduler = Scheduler::new(settings).unwrap();
    for (id, input, compute) in [(1, 100, 10), (2, 10, 100)] {
        let stages = Stages { input: Span(input), compute: Span(compute), network: Span(0) };
        let iteration = Some(Iteration { stages, alone: Span(110), memory_milli: 0 });
        step(&mut scheduler, 0, &Event::Iteration { id, iteration });
    }
    scheduler
}

fn submit(job: u64, speeds: SpeedsId, seconds: u64) -> Event {
    let length = Some(Span::from_secs(seconds));
    Event::Submitted(Submission { length, ..submission(job, Gang { speeds, ..gang(2, 4) }) })
}

#[test]
fn a_job_joins_one_with_another_bottleneck_and_each_ends_by_itself() {
    let mut scheduler = sharing(4);
    assert_eq!(started(&step(&mut scheduler, 0, &submit(1, 1, 1_000))), [1]);
    let told = step(&mut scheduler, 10, &submit(2, 2, 1_000));
    assert_eq!((started(&told), stopped(&told)), (vec![2], vec![]), "{told:?}");
    assert_eq!(scheduler.ranks(JobId(1)), scheduler.ranks(JobId(2)));
    assert_eq!(scheduler.beside(JobId(1)), [JobId(2)]);
    assert_eq!((scheduler.running(), scheduler.fleet().free_in(Domain::HALL, View::All)), (2, 0));
    assert_eq!(started(&step(&mut scheduler, 20, &submit(3, 1, 2_000))), [3]);
    // Nothing frees the accelerators but the last.
    step(&mut scheduler, 30, &Event::Ended { job: JobId(1), run: PRESENT });
    assert_eq!(scheduler.beside(JobId(2)), [JobId(3)]);
    step(&mut scheduler, 40, &Event::Stopped { job: JobId(2), run: PRESENT, attained: Span(0) });
    step(&mut scheduler, 50, &Event::Cancelled { job: JobId(2) });
    step(&mut scheduler, 50, &Event::Stopped { job: JobId(2), run: PRESENT, attained: Span(0) });
    assert_eq!(scheduler.beside(JobId(3)), [JobId(0); 0]);
    step(&mut scheduler, 60, &Event::Ended { job: JobId(3), run: PRESENT });
    assert_eq!((scheduler.len(), scheduler.fleet().free_in(Domain::HALL, View::All)), (0, 8));
}

#[test]
fn whoever_nothing_is_known_of_or_has_the_same_bottleneck_waits() {
    let mut scheduler = sharing(4);
    step(&mut scheduler, 0, &submit(1, 1, 100));
    assert_eq!(started(&step(&mut scheduler, 10, &submit(2, 0, 1_000))), [0; 0]);
    let crowd = Contention { millionths: [1_400_000; 3] };
    let settings = Settings { interleave: Some(crowd), ..scheduler.settings().clone() };
    let mut scheduler = Scheduler::new(settings).unwrap();
    step(&mut scheduler, 0, &submit(1, 1, 100));
    assert_eq!(started(&step(&mut scheduler, 10, &submit(2, 1, 1_000))), [0; 0]);
}

#[test]
fn cores_and_memory_are_each_members_own() {
    let mut scheduler = sharing(4);
    let wide = |job: u64, speeds: SpeedsId, memory_mib: u32| {
        let mut gang = Gang { speeds, ..gang(2, 4) };
        gang.need.rank.memory_mib = memory_mib;
        Event::Submitted(Submission { length: Some(Span::from_secs(500)), ..submission(job, gang) })
    };
    step(&mut scheduler, 0, &wide(1, 1, 300_000));
    assert_eq!(started(&step(&mut scheduler, 10, &wide(2, 2, 300_000))), [0; 0], "512,000 MiB are there");
    step(&mut scheduler, 20, &Event::Ended { job: JobId(1), run: PRESENT });
    step(&mut scheduler, 30, &Event::Ended { job: JobId(2), run: PRESENT });
    step(&mut scheduler, 40, &wide(3, 1, 200_000));
    assert_eq!(started(&step(&mut scheduler, 50, &wide(4, 2, 200_000))), [4]);
}

#[test]
fn a_group_that_loses_a_node_is_stopped_whole_and_comes_back_together() {
    let mut scheduler = sharing(4);
    step(&mut scheduler, 0, &submit(1, 1, 1_000));
    step(&mut scheduler, 10, &submit(2, 2, 1_000));
    let down = Event::Node { node: NodeId(0), service: dh_policy::fleet::Service::Down };
    let told = step(&mut scheduler, 20, &down);
    let broken = |job: u64| told.contains(&Action::Stop { job: JobId(job), cause: Cause::Broken });
    assert!(broken(1) && broken(2), "{told:?}");
    for job in [1, 2] {
        step(&mut scheduler, 21, &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span(0) });
    }
    assert_eq!((scheduler.running(), scheduler.waiting()), (0, 2));
    step(&mut scheduler, 5_000, &Event::Node { node: NodeId(0), service: dh_policy::fleet::Service::Up });
    step(&mut scheduler, 5_010, &Event::Tick);
    let at = scheduler.wakeup().map_or(5_020, |at| at.0.div_ceil(1_000_000_000));
    step(&mut scheduler, at, &Event::Tick);
    assert_eq!(scheduler.beside(JobId(1)), [JobId(2)]);
}

#[test]
fn a_hall_at_work_is_taken_over_with_who_shares() {
    let mut scheduler = sharing(4);
    step(&mut scheduler, 0, &submit(1, 1, 1_000));
    step(&mut scheduler, 10, &submit(2, 2, 1_000));
    let saved = serde_json::to_vec(&scheduler).unwrap();
    let mut restored: Scheduler = serde_json::from_slice(&saved).unwrap();
    assert_eq!(restored.beside(JobId(2)), [JobId(1)]);
    let mut other = sharing(4);
    for (job, event) in [(1, submit(1, 1, 1_000)), (2, submit(2, 2, 1_000))] {
        let Event::Submitted(submission) = event else { panic!("a submission") };
        let ranks = scheduler.ranks(JobId(job)).unwrap().to_vec();
        step(&mut other, 20, &Event::Adopted { submission, ranks });
    }
    assert_eq!((other.running(), other.beside(JobId(1))), (2, vec![JobId(2)]));
    let next = Event::Ended { job: JobId(1), run: PRESENT };
    assert_eq!(step(&mut scheduler, 30, &next), step(&mut restored, 30, &next));
    assert_eq!(scheduler.digest(), restored.digest());
}
