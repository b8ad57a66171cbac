//! Lengths that nobody told.

use dh_policy::prediction::{self, Statistic};

use super::*;

fn predicting(good_for: GoodFor) -> Settings {
    let history = prediction::Settings { samples_min: 2, ..prediction::Settings::default() };
    let predict = Some(Predict { history, statistic: Statistic::PerMille(500), good_for, learn: Learn::Lengths });
    Settings { order: "expected-service".to_owned(), predict, ..settings(1, 1, 8) }
}

fn of(kind: u32, job: u64) -> Event {
    Event::Submitted(Submission { kind, ..submission(job, gang(1, 8)) })
}

fn ended(job: u64) -> Event {
    Event::Ended { job: JobId(job), run: PRESENT }
}

/// Two jobs of kind 1 that ran 100 s, two of kind 2 that ran 10,000 s.
fn experienced(good_for: GoodFor) -> Scheduler {
    let mut scheduler = Scheduler::new(predicting(good_for)).unwrap();
    let mut now = 0;
    for job in 1..=4 {
        let (kind, length) = if job <= 2 { (1, 100) } else { (2, 10_000) };
        step(&mut scheduler, now, &of(kind, job));
        now += length;
        step(&mut scheduler, now, &ended(job));
    }
    scheduler
}

fn job(scheduler: &Scheduler, id: u64) -> &job::Job {
    scheduler.state.jobs.get(scheduler.state.jobs.slot(JobId(id)).unwrap()).unwrap()
}

#[test]
fn jobs_like_short_ones_go_first() {
    let mut scheduler = experienced(GoodFor::Order);
    step(&mut scheduler, 30_000, &of(0, 10));
    step(&mut scheduler, 30_001, &of(2, 11));
    step(&mut scheduler, 30_002, &of(1, 12));
    assert_eq!(started(&step(&mut scheduler, 30_010, &ended(10))), [12]);
    assert_eq!(started(&step(&mut scheduler, 30_110, &ended(12))), [11]);
}

#[test]
fn a_prediction_for_the_order_is_no_length_to_plan_on() {
    let mut scheduler = experienced(GoodFor::Order);
    step(&mut scheduler, 30_000, &of(1, 10));
    step(&mut scheduler, 30_001, &of(1, 11));
    assert_eq!(job(&scheduler, 10).run().unwrap().ends, None);
    assert!(job(&scheduler, 11).length().is_some());
    assert_eq!(job(&scheduler, 11).remaining(), None);
    assert_eq!((scheduler.prediction_wakeup(), scheduler.overruns()), (None, 0));
}

#[test]
fn a_job_that_outlives_its_prediction_is_predicted_anew_and_counted() {
    let mut scheduler = experienced(GoodFor::Plans);
    step(&mut scheduler, 30_000, &of(1, 10));
    let first = job(&scheduler, 10).run().unwrap().ends.unwrap();
    assert!(first > SimTime(30_100_000_000_000) && first < SimTime(30_130_000_000_000));
    assert_eq!(scheduler.wakeup(), Some(first));
    step(&mut scheduler, first.0 / 1_000_000_000 + 1, &Event::Tick);
    assert_eq!(scheduler.overruns(), 1);
    assert!(job(&scheduler, 10).run().unwrap().ends.unwrap() > first.after(Span::from_secs(60)));
    step(&mut scheduler, 31_000, &ended(10));
    assert_eq!(scheduler.prediction_wakeup(), None);
}

#[test]
fn a_length_that_was_told_is_never_replaced() {
    let mut scheduler = experienced(GoodFor::Plans);
    let told = Some(Span::from_secs(7));
    step(&mut scheduler, 30_000, &Event::Submitted(Submission { kind: 1, length: told, ..submission(10, gang(1, 8)) }));
    step(&mut scheduler, 30_100, &Event::Tick);
    assert_eq!((job(&scheduler, 10).length(), scheduler.overruns()), (told, 0));
    step(&mut scheduler, 30_200, &Event::Stopped { job: JobId(10), run: PRESENT, attained: Span::from_secs(5) });
    assert_eq!(job(&scheduler, 10).length(), told);
    // Whoever takes it back leaves it to history.
    step(&mut scheduler, 30_300, &Event::Predicted { job: JobId(10), length: None });
    assert!(job(&scheduler, 10).length().unwrap() > Span::from_secs(100));
}

#[test]
fn what_was_cancelled_teaches_nothing() {
    let mut scheduler = Scheduler::new(predicting(GoodFor::Order)).unwrap();
    for job in 1..=4 {
        step(&mut scheduler, 10 * job, &of(1, job));
        step(&mut scheduler, 10 * job + 1, &Event::Cancelled { job: JobId(job) });
        step(&mut scheduler, 10 * job + 2, &ended(job));
    }
    step(&mut scheduler, 100, &of(1, 10));
    assert_eq!(job(&scheduler, 10).length(), None);
}
