//! All jobs at once are given what they hold next.

use super::*;

fn rounds() -> Settings {
    let order = "shortest-remaining-service".to_owned();
    let (backfill, rounds) = (Backfill::Any, Some(Span::from_secs(1)));
    Settings { order, backfill, rounds, ..settings(1, 4, 4) }
}

fn submit(job: u64, ranks: u32, accelerators: u8, seconds: u64) -> Event {
    let length = Some(Span::from_secs(seconds));
    Event::Submitted(Submission { length, ..submission(job, gang(ranks, accelerators)) })
}

fn stopped(actions: &[Action]) -> Vec<u64> {
    let stop = |action: &Action| if let Action::Stop { job, .. } = action { Some(job.0) } else { None };
    actions.iter().filter_map(stop).collect()
}

/// One accelerator of each node is held for long.
fn scattered() -> Scheduler {
    let mut scheduler = Scheduler::new(rounds()).unwrap();
    for job in 0..4 {
        step(&mut scheduler, 0, &submit(job, 1, 1, 10_000));
        step(&mut scheduler, 0, &submit(10 + job, 1, 3, 1));
    }
    for job in 0..4 {
        step(&mut scheduler, 5, &Event::Ended { job: JobId(10 + job), run: PRESENT });
    }
    assert_eq!(scheduler.running(), 4);
    scheduler
}

#[test]
fn narrow_jobs_move_out_of_the_way_of_a_wide_one_and_go_on() {
    let mut scheduler = scattered();
    let told = step(&mut scheduler, 10, &submit(20, 3, 4, 600));
    let moved = stopped(&told);
    assert_eq!(moved.len(), 3, "{told:?}");
    assert_eq!(started(&told), [0; 0], "nobody starts while others are still there");
    let mut all = Vec::new();
    for job in moved {
        all.extend(step(
            &mut scheduler,
            11,
            &Event::Stopped { job: JobId(job), run: PRESENT, attained: Span::from_secs(9) },
        ));
    }
    assert_eq!(started(&all).len(), 4, "the wide one and those that moved");
    assert_eq!((scheduler.running(), scheduler.waiting()), (5, 0));
}

#[test]
fn a_round_that_waits_is_saved_and_goes_on() {
    let mut scheduler = scattered();
    let moved = stopped(&step(&mut scheduler, 10, &submit(20, 3, 4, 600)));
    let saved = serde_json::to_vec(&scheduler).unwrap();
    let mut other: Scheduler = serde_json::from_slice(&saved).unwrap();
    for job in moved {
        let event = Event::Stopped { job: JobId(job), run: PRESENT, attained: Span::from_secs(9) };
        assert_eq!(step(&mut scheduler, 11, &event), step(&mut other, 11, &event));
    }
    assert_eq!(scheduler.digest(), other.digest());
}

#[test]
fn a_round_does_not_wait_for_ever() {
    let mut scheduler = scattered();
    let moved = stopped(&step(&mut scheduler, 10, &submit(20, 3, 4, 600)));
    assert_eq!(moved.len(), 3);
    // Another one that would fit on what is free waits, but no longer than a claim may last.
    assert_eq!(started(&step(&mut scheduler, 12, &submit(21, 1, 2, 5))), [0; 0]);
    let at = scheduler.wakeup().unwrap();
    assert_eq!(at, SimTime(610 * 1_000_000_000));
    assert_eq!(started(&step(&mut scheduler, 610, &Event::Tick)), [21]);
}

#[test]
fn nobody_is_arranged_where_a_queue_has_a_quota() {
    let rules = QueueRules { quota_milli: Some(16_000), ..QueueRules::default() };
    let scheduler = Scheduler::new(Settings { queues: vec![rules], ..rounds() }).unwrap();
    assert_eq!(scheduler.rounds(), None);
}
