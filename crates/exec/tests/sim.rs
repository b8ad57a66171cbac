//! The simulated executor keeps the promises of every executor: a gang's ends come once, after its starts, and as they were asked for.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, NodeId, Rank, TaskId};
use dh_exec::{
    Devices, Executor, ExitReason, Fate, GangSpec, Outcome, RankSpec, SimExecutor, Stop, TaskEvent, TaskLimits, What,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn attempt(job: u64, attempt: u32) -> AttemptId {
    AttemptId { job: JobId(job), attempt }
}

fn gang(attempt: AttemptId, ranks: u32, command: &[&str], env: &[(&str, &str)]) -> GangSpec {
    GangSpec {
        attempt,
        name: "sim".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        secret_env: BTreeMap::new(),
        ranks: (0..ranks)
            .map(|rank| RankSpec {
                rank: Rank(rank),
                cores: vec![],
                node: NodeId(rank),
                devices: vec![],
                real: vec![],
                part: None,
            })
            .collect(),
        devices: Devices::Cores,
        limits: TaskLimits::default(),
        workdir: PathBuf::from("/"),
    }
}

fn open() -> (SimExecutor, Receiver<TaskEvent>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let sink = Arc::new(move |event| sender.lock().unwrap().send(event).unwrap());
    (SimExecutor::new(&std::env::temp_dir(), sink).unwrap(), events)
}

/// The ends of a gang by rank; every rank must have started before.
fn ends(events: &Receiver<TaskEvent>, ranks: u32) -> BTreeMap<Rank, Outcome> {
    let (mut started, mut ended) = (Vec::new(), BTreeMap::new());
    while ended.len() < usize::try_from(ranks).unwrap() {
        let event = events.recv_timeout(PATIENCE).unwrap();
        match event.what {
            What::Started { .. } => started.push(event.task.rank),
            What::Exited(outcome) => {
                assert!(started.contains(&event.task.rank), "{:?} ended before it started", event.task);
                assert!(ended.insert(event.task.rank, outcome).is_none(), "{:?} ended twice", event.task);
            }
        }
    }
    ended
}

#[test]
fn tasks_last_and_end_as_they_say() {
    let (executor, events) = open();
    let begin = Instant::now();
    executor.start(gang(attempt(1, 1), 3, &["sleep", "0.2"], &[("DH_SIM_EXIT", "7")])).unwrap();
    let ends = ends(&events, 3);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert!(ends.values().all(|end| end.code == Some(7) && end.reason == ExitReason::Exited), "{ends:?}");
    assert!(executor.running().is_empty());
    let again = executor.start(gang(attempt(1, 1), 1, &["sleep", "0"], &[]));
    assert!(again.is_err(), "an attempt starts at most once");
}

#[test]
fn a_fault_takes_one_rank_in_the_attempts_that_it_names() {
    let (executor, events) = open();
    let env = [("DH_SIM_TIME", "60 ms"), ("DH_SIM_FAULT", "1@20 ms")];
    executor.start(gang(attempt(1, 1), 2, &["x"], &env)).unwrap();
    let first = ends(&events, 2);
    assert_eq!((first[&Rank(0)].code, first[&Rank(1)].signal), (Some(0), Some(9)));
    executor.start(gang(attempt(1, 2), 2, &["x"], &env)).unwrap();
    assert!(ends(&events, 2).values().all(|end| end.code == Some(0)));
}

#[test]
fn a_stop_ends_what_is_left_and_a_kill_one_rank() {
    let (executor, events) = open();
    let id = attempt(4, 1);
    executor.start(gang(id, 2, &["sleep", "1000"], &[])).unwrap();
    let first = [events.recv_timeout(PATIENCE).unwrap(), events.recv_timeout(PATIENCE).unwrap()];
    assert!(first.iter().all(|event| matches!(event.what, What::Started { .. })));
    executor.kill_rank(TaskId { attempt: id, rank: Rank(1) }).unwrap();
    let killed = events.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(&killed.what, What::Exited(end) if end.reason == ExitReason::Exited && end.signal == Some(9)));
    executor.stop(id, Stop::Polite).unwrap();
    let stopped = events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(stopped.task.rank, Rank(0));
    assert!(matches!(&stopped.what, What::Exited(end) if end.reason == ExitReason::Killed));
    assert!(executor.stop(attempt(9, 9), Stop::Now).is_err());
}

#[test]
fn after_a_restart_nothing_of_before_is_left_or_started_again() {
    let (executor, _events) = open();
    let recovered = executor.recover(&[attempt(1, 1)]).unwrap();
    assert!(matches!(&recovered[0].fate, Fate::Gone(outcomes) if outcomes.is_empty()));
    assert!(executor.start(gang(attempt(1, 1), 1, &["x"], &[])).is_err());
}

#[test]
fn a_thousand_gangs_at_once_all_end() {
    let (executor, events) = open();
    for job in 1..=1_000 {
        executor.start(gang(attempt(job, 1), 4, &["x"], &[("DH_SIM_TIME", "10 ms")])).unwrap();
    }
    let mut ended = 0;
    while ended < 4_000 {
        if matches!(events.recv_timeout(PATIENCE).unwrap().what, What::Exited(_)) {
            ended += 1;
        }
    }
    assert!(executor.running().is_empty());
}
