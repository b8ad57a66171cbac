//! Behaviour that could be broken without any other test's notice.

use dh_policy::fleet::Service;

use super::*;

fn submit(scheduler: &mut Scheduler, at: u64, job: u64, gang: Gang) -> Vec<u64> {
    let since = SimTime(at * 1_000_000_000);
    started(&step(scheduler, at, &Event::Submitted(Submission { since, ..submission(job, gang) })))
}

fn end(scheduler: &mut Scheduler, at: u64, job: u64) -> Vec<Action> {
    step(scheduler, at, &Event::Ended { job: JobId(job), run: PRESENT })
}

fn down(scheduler: &mut Scheduler, at: u64, node: u32) -> Vec<Action> {
    step(scheduler, at, &Event::Node { node: NodeId(node), service: Service::Down })
}

#[test]
fn room_that_comes_free_repairs_a_gang_before_anybody_starts_there() {
    let mut scheduler = Scheduler::new(settings(1, 3, 8)).unwrap();
    submit(&mut scheduler, 1, 1, gang(2, 8));
    submit(&mut scheduler, 2, 2, gang(1, 8));
    assert_eq!(submit(&mut scheduler, 3, 3, gang(1, 1)), [0; 0]);
    assert_eq!(down(&mut scheduler, 4, 0), []);
    let actions = end(&mut scheduler, 5, 2);
    assert!(matches!(actions.as_slice(), [Action::Repair { job: JobId(1), ranks }] if ranks.len() == 1), "{actions:?}");
}

#[test]
fn without_backfill_nobody_goes_before_one_that_does_not_fit_in_this_pass_or_a_later_one() {
    let mut scheduler = Scheduler::new(Settings { backfill: Backfill::None, ..settings(1, 2, 8) }).unwrap();
    submit(&mut scheduler, 1, 1, gang(1, 8));
    assert_eq!(submit(&mut scheduler, 2, 2, gang(2, 8)), [0; 0]);
    assert_eq!(submit(&mut scheduler, 3, 3, gang(1, 4)), [0; 0], "it comes when the line stands");
    // All are tried in one pass: after the first that does not fit, none.
    assert_eq!(started(&end(&mut scheduler, 4, 1)), [2]);
    assert_eq!(submit(&mut scheduler, 5, 4, gang(2, 8)), [0; 0]);
    assert_eq!(submit(&mut scheduler, 6, 5, gang(1, 2)), [0; 0]);
    assert_eq!(started(&end(&mut scheduler, 7, 2)), [3]);
    assert_eq!(step(&mut scheduler, 8, &Event::Tick), []);
    assert_eq!(started(&end(&mut scheduler, 9, 3)), [4]);
    assert_eq!(started(&end(&mut scheduler, 10, 4)), [5]);
}

#[test]
fn without_backfill_nobody_who_may_have_others_stopped_goes_before_one_that_does_not_fit() {
    let queues = vec![QueueRules { preempts: true, ..QueueRules::default() }];
    let mut scheduler = Scheduler::new(Settings { queues, backfill: Backfill::None, ..settings(1, 2, 8) }).unwrap();
    submit(&mut scheduler, 1, 1, Gang { grace: Grace::Protected, ..gang(1, 4) });
    submit(&mut scheduler, 2, 2, gang(1, 2));
    for (job, priority, gang) in [(3, 2, gang(2, 8)), (4, 1, gang(1, 2))] {
        let submission = Submission { priority, ..submission(job, gang) };
        assert_eq!(step(&mut scheduler, job, &Event::Submitted(submission)), [], "{job}");
    }
    assert_eq!(stopped(&end(&mut scheduler, 5, 1)), [(2, 3)]);
}

#[test]
fn what_a_claim_that_failed_gives_back_starts_others_at_that_moment() {
    let queues = vec![QueueRules { preempts: true, ..QueueRules::default() }];
    let mut scheduler = Scheduler::new(Settings { queues, backfill: Backfill::Any, ..settings(1, 2, 8) }).unwrap();
    submit(&mut scheduler, 1, 1, gang(1, 8));
    // It owns the node that is free, and has the other cleared.
    let urgent = Submission { priority: 1, ..submission(2, gang(2, 8)) };
    assert_eq!(stopped(&step(&mut scheduler, 2, &Event::Submitted(urgent))), [(1, 2)]);
    assert_eq!(submit(&mut scheduler, 3, 3, gang(1, 5)), [0; 0]);
    assert_eq!(submit(&mut scheduler, 4, 4, gang(1, 3)), [0; 0]);
    assert_eq!(started(&step(&mut scheduler, 602, &Event::Tick)), [3, 4]);
    // The same where there is no other place for it.
    let mut scheduler = Scheduler::new(scheduler.settings().clone()).unwrap();
    submit(&mut scheduler, 1, 1, gang(1, 8));
    step(&mut scheduler, 2, &Event::Submitted(urgent));
    submit(&mut scheduler, 3, 3, gang(1, 5));
    let node = scheduler.ranks(JobId(1)).unwrap()[0].node;
    assert_eq!(started(&down(&mut scheduler, 4, node.0)), [3]);
}

#[test]
fn a_job_that_was_cancelled_in_the_middle_of_its_group_is_never_its_head() {
    let settings = Settings { order: "shortest-remaining".to_owned(), backfill: Backfill::Any, ..settings(1, 1, 8) };
    let mut scheduler = Scheduler::new(settings).unwrap();
    let protected = Gang { grace: Grace::Protected, ..gang(1, 8) };
    for job in 1..=5 {
        let length = Some(Span::from_secs(100 * job));
        step(&mut scheduler, job, &Event::Submitted(Submission { length, ..submission(job, protected) }));
    }
    assert_eq!(scheduler.running(), 1);
    step(&mut scheduler, 10, &Event::Cancelled { job: JobId(3) });
    // Its key is the least of the group once the head's has risen.
    step(&mut scheduler, 11, &Event::Predicted { job: JobId(2), length: Some(Span::from_secs(450)) });
    assert_eq!((scheduler.waiting(), scheduler.len()), (3, 4));
    assert_eq!(started(&end(&mut scheduler, 12, 1)), [4]);
    // Its place is used again, and it does not come back with it.
    for job in 6..=8 {
        submit(&mut scheduler, 13, job, protected);
    }
    assert_eq!(started(&end(&mut scheduler, 14, 4)), [2]);
    assert_eq!(started(&end(&mut scheduler, 15, 2)), [5]);
    assert_eq!((scheduler.waiting(), scheduler.len()), (3, 4));
}

#[test]
fn a_head_that_is_cancelled_leaves_its_place_to_the_next_of_its_group() {
    let mut scheduler = Scheduler::new(settings(1, 1, 8)).unwrap();
    for job in 1..=4 {
        submit(&mut scheduler, job, job, gang(1, 8));
    }
    // One in the middle, and then the head: both are gone when the next comes up.
    step(&mut scheduler, 5, &Event::Cancelled { job: JobId(3) });
    step(&mut scheduler, 6, &Event::Cancelled { job: JobId(2) });
    assert_eq!(started(&end(&mut scheduler, 7, 1)), [4]);
    assert_eq!((scheduler.waiting(), scheduler.len()), (0, 1));
}

/// Two claims end at one moment. The first took memory that the second lacks, and gives it back: the second owns all then.
#[test]
fn a_claim_that_is_whole_once_another_failed_starts_before_its_own_time_is_over() {
    let queues = vec![QueueRules { preempts: true, ..QueueRules::default() }];
    let mut scheduler = Scheduler::new(Settings { queues, backfill: Backfill::Any, ..settings(1, 1, 8) }).unwrap();
    let with = |job, memory_mib, priority, grace| {
        let mut gang = Gang { grace, ..gang(1, 4) };
        gang.need.rank.memory_mib = memory_mib;
        Event::Submitted(Submission { priority, ..submission(job, gang) })
    };
    step(&mut scheduler, 1, &with(1, 300_000, 0, Grace::Preemptible));
    step(&mut scheduler, 1, &with(2, 200_000, 0, Grace::Preemptible));
    assert_eq!(stopped(&step(&mut scheduler, 2, &with(3, 310_000, 1, Grace::Preemptible))), [(1, 3)]);
    assert_eq!(stopped(&step(&mut scheduler, 2, &with(4, 150_000, 1, Grace::Protected))), [(2, 4)]);
    let gone = Event::Stopped { job: JobId(2), run: PRESENT, attained: Span(0) };
    assert_eq!(step(&mut scheduler, 3, &gone), []);
    // One of higher priority finds nothing that is nobody's.
    assert_eq!(step(&mut scheduler, 4, &with(5, 100_000, 2, Grace::Preemptible)), []);
    assert_eq!(started(&step(&mut scheduler, 602, &Event::Tick)), [4]);
}
