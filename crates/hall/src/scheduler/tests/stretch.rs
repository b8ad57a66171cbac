//! The bound on how far an order may set a job back. Nobody is displaced here: room comes as jobs end.

use dh_policy::fairness::Stretch;

use super::*;

const SETTINGS: Stretch = Stretch { due_milli: 1800, released_milli: 1000, floor: Span(60_000_000_000) };

fn protected() -> Gang {
    Gang { grace: Grace::Protected, ..gang(1, 8) }
}

fn bounded(stretch: Option<Stretch>, queues: usize) -> Scheduler {
    let sharing = if queues > 1 { Sharing::Fair { half_life: Span::from_secs(3600) } } else { Sharing::OneLine };
    let queues = vec![QueueRules::default(); queues];
    let settings = Settings { order: "expected-service".to_owned(), stretch, sharing, queues, ..settings(1, 1, 8) };
    Scheduler::new(settings).unwrap()
}

/// A job that has run 1,000 s, against a stream of new ones of 50 s, of which two always wait; when it starts.
fn starts(stretch: Option<Stretch>, queues: usize) -> Option<u64> {
    let mut scheduler = bounded(stretch, queues);
    let last = QueueId::try_from(queues - 1).unwrap();
    let new = |job, at: u64| {
        Event::Submitted(Submission { since: SimTime(at * 1_000_000_000), ..submission(job, protected()) })
    };
    let old = Submission { attained: Span::from_secs(1000), queue: last, ..submission(1, protected()) };
    let mut at = 1000;
    let mut begun = started(&step(&mut scheduler, at, &new(2, at)));
    step(&mut scheduler, at, &new(3, at));
    step(&mut scheduler, at, &Event::Submitted(Submission { since: SimTime(0), ..old }));
    for job in 4..2000 {
        at += 50;
        step(&mut scheduler, at, &new(job, at));
        begun = started(&step(&mut scheduler, at, &Event::Ended { job: JobId(begun[0]), run: PRESENT }));
        if begun[0] == 1 {
            return Some(at);
        }
    }
    None
}

#[test]
fn an_order_that_would_starve_a_job_does_not_beyond_the_bound() {
    assert_eq!(starts(None, 1), None);
    // Three gangs share one place: a second of fair time is up to three of time. It had its fair share up to 1,000 s, and is
    // due 1,800 s of fair time later.
    let at = starts(Some(SETTINGS), 1).unwrap();
    assert!((1000 + 2 * 1800..=1000 + 4 * 1800 + 100).contains(&at), "at {at}");
}

#[test]
fn who_is_due_goes_before_the_line_whose_turn_it_is() {
    let mut scheduler = bounded(Some(SETTINGS), 2);
    let in_queue = |job, queue, at: u64| {
        let since = SimTime(at * 1_000_000_000);
        Event::Submitted(Submission { queue, since, ..submission(job, protected()) })
    };
    step(&mut scheduler, 1, &in_queue(1, 0, 1));
    step(&mut scheduler, 2, &in_queue(2, 0, 2));
    step(&mut scheduler, 3000, &in_queue(3, 1, 3000));
    // By share it is queue 1's turn; the job of queue 0 has waited for an hour.
    assert_eq!(started(&step(&mut scheduler, 3010, &Event::Ended { job: JobId(1), run: PRESENT })), [2]);
}

#[test]
fn a_due_job_is_released_once_it_has_run_as_long_as_it_waited() {
    let mut scheduler = bounded(Some(SETTINGS), 1);
    let slot = |scheduler: &Scheduler| scheduler.state.jobs.slot(JobId(2)).unwrap();
    step(&mut scheduler, 1, &Event::Submitted(submission(1, protected())));
    step(
        &mut scheduler,
        2,
        &Event::Submitted(Submission { since: SimTime(2_000_000_000), ..submission(2, protected()) }),
    );
    let due = scheduler.wakeup().unwrap();
    // Two gangs for one place: fair time runs at half the speed of time from the second on; the floor is a minute.
    assert_eq!(due, SimTime(2_000_000_000 + 2 * 108_000_000_000));
    step(&mut scheduler, due.0 / 1_000_000_000, &Event::Tick);
    assert!(scheduler.due_key(slot(&scheduler)).is_some());
    assert_eq!(started(&step(&mut scheduler, 1002, &Event::Ended { job: JobId(1), run: PRESENT })), [2]);
    let released = scheduler.wakeup().unwrap();
    assert_eq!(released, SimTime((1002 + 500) * 1_000_000_000));
    // It fails and is tried again: it is still due.
    step(&mut scheduler, 1100, &Event::Stopped { job: JobId(2), run: PRESENT, attained: Span::from_secs(90) });
    assert!(scheduler.due_key(slot(&scheduler)).is_some());
    step(&mut scheduler, 1700, &Event::Tick);
    assert!(scheduler.due_key(slot(&scheduler)).is_none());
}
