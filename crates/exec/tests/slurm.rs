//! Gangs on a real Slurm: controller and eight `slurmd` of Debian's packages on this machine, in a folder of their own.
//!
//! Needs root, because `slurmd` starts tasks for others. The cluster is started once for the file; its daemons are ended by their
//! process ids. `cargo xtask servers` installs what is needed; `DATAHALL_TEST_SERVERS=skip` leaves these tests out.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "slurm/cluster.rs"]
mod cluster;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, NodeId, Rank, Secret, TaskId};
use dh_exec::{
    Devices, Executor, ExitReason, Fate, GangSpec, Open, Outcome, RankSpec, SlurmExecutor, Stop, TaskEvent, TaskLimits,
    What,
};

use cluster::{Cluster, jobs, run};

const PATIENCE: Duration = Duration::from_secs(90);

fn attempt(job: u64, attempt: u32) -> AttemptId {
    AttemptId { job: JobId(job), attempt }
}

/// A gang whose rank `n` is on the node that stands at place `n` of `nodes`, with two devices each.
fn gang(attempt: AttemptId, nodes: &[u32], script: &str) -> GangSpec {
    let rank = |(rank, node): (u32, &u32)| RankSpec {
        rank: Rank(rank),
        cores: vec![],
        node: NodeId(*node),
        devices: vec![0, 1],
        real: vec![],
        part: None,
    };
    GangSpec {
        attempt,
        name: "a test's gang".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("TEXT".to_owned(), "it's a \"text\" with $signs".to_owned())]),
        secret_env: BTreeMap::from([("KEY".to_owned(), Secret::new("open sesame".to_owned()))]),
        ranks: (0..).zip(nodes).map(rank).collect(),
        devices: Devices::Cores,
        limits: TaskLimits::default(),
        workdir: std::env::temp_dir(),
    }
}

/// A server of the hall `lab`.
fn open(state: &Path) -> (SlurmExecutor, Receiver<TaskEvent>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let with = Open {
        warden_command: Vec::new(),
        state_dir: state.to_owned(),
        // A test that is over listens no more.
        events: Arc::new(move |event| sender.lock().unwrap().send(event).unwrap_or_default()),
        node_events: Arc::new(|_| ()),
        cluster: dh_exec::Cluster::default(),
        term: 1,
        hall: "lab".to_owned(),
        nodes: 8,
        hosts: Some("node[0-7]".to_owned()),
        partition: Some("batch".to_owned()),
        beats: None,
        leads: Arc::new(|| true),
    };
    (SlurmExecutor::new(with).unwrap(), events)
}

/// The ends by rank, and how many ranks were said to have started.
fn ends(events: &Receiver<TaskEvent>, ranks: usize) -> (BTreeMap<Rank, Outcome>, usize) {
    let (mut started, mut ended) = (0, BTreeMap::new());
    while ended.len() < ranks {
        let event = events.recv_timeout(PATIENCE).unwrap();
        match event.what {
            What::Started { .. } => started += 1,
            What::Exited(outcome) => assert!(ended.insert(event.task.rank, outcome).is_none(), "it ended twice"),
        }
    }
    (ended, started)
}

fn logs(executor: &SlurmExecutor, id: AttemptId, ranks: u32) -> Vec<String> {
    let read = |rank| std::fs::read_to_string(executor.log_path(TaskId { attempt: id, rank: Rank(rank) })).unwrap();
    (0..ranks).map(|rank| read(rank).trim().to_owned()).collect()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn gangs_run_where_the_hall_says_and_are_found_again() {
    if let Some(cluster) = Cluster::start() {
        cluster.run_test("on_the_cluster");
    }
}

/// All in one: the cluster is one, and so are its nodes.
#[test]
#[ignore = "needs the cluster that the other test starts"]
fn on_the_cluster() {
    let state = PathBuf::from(std::env::var_os("DH_SLURM_STATE").unwrap());
    let (executor, events) = open(&state);
    executor.recover(&[]).unwrap();

    // The nodes that the hall chose, uneven on purpose; every rank knows itself, its part of the devices and its secret.
    let id = attempt(1, 1);
    let script = "echo $SLURMD_NODENAME $DH_RANK/$DH_RANKS $RANK $DH_LOCAL_RANK $DH_NODE_RANK \"$TEXT\" $KEY $CUDA_VISIBLE_DEVICES";
    executor.start(gang(id, &[5, 2, 2], script)).unwrap();
    let (ended, started) = ends(&events, 3);
    assert!(ended.values().all(|end| end.code == Some(0)) && started == 3, "{ended:?}");
    let text = "it's a \"text\" with $signs open sesame";
    let expected = [
        format!("node5 0/3 0 0 0 {text} 0,1"),
        format!("node2 1/3 1 0 1 {text} 0,1"),
        format!("node2 2/3 2 1 1 {text} 2,3"),
    ];
    assert_eq!(logs(&executor, id, 3), expected);
    let secret = std::fs::read_dir(state.join("tasks/job-1/attempt-1")).unwrap().flatten();
    for file in secret.filter(|file| !file.file_name().to_string_lossy().contains(".log")) {
        assert!(!std::fs::read_to_string(file.path()).unwrap().contains("sesame"), "{:?}", file.path());
    }
    assert!(executor.start(gang(id, &[0], "true")).is_err(), "an attempt starts at most once");

    // Exit codes and faults are those of the ranks.
    let id = attempt(2, 1);
    executor.start(gang(id, &[0, 1], "[ $DH_RANK = 1 ] && exit 7; kill -9 $$")).unwrap();
    let (ended, _) = ends(&events, 2);
    assert_eq!((ended[&Rank(0)].signal, ended[&Rank(1)].code), (Some(9), Some(7)), "{ended:?}");

    // A stop reaches every rank, and says that it was one.
    let id = attempt(3, 1);
    executor.start(gang(id, &[0, 7], "exec sleep 1000")).unwrap();
    until("the start", || matches!(events.recv_timeout(PATIENCE).unwrap().what, What::Started { .. }));
    until("the pid", || state.join("tasks/job-3/attempt-1/rank-1.pid").exists());
    // A program beside a rank is on its node, has its variables, and returns its own code.
    let words = ["sh", "-c", "echo $SLURMD_NODENAME $DH_RANK \"$TEXT\" ${KEY:-none}; exit 6"].map(str::to_owned);
    let words = executor.beside(TaskId { attempt: id, rank: Rank(1) }, &words).unwrap().unwrap();
    let beside = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&beside.stdout);
    assert_eq!(
        (said.trim(), beside.status.code()),
        ("node7 1 it's a \"text\" with $signs none", Some(6)),
        "{beside:?}"
    );
    executor.kill_rank(TaskId { attempt: id, rank: Rank(1) }).unwrap();
    let killed = events.iter().find(|event| matches!(event.what, What::Exited(_))).unwrap();
    assert_eq!(killed.task.rank, Rank(1));
    executor.stop(id, Stop::Polite).unwrap();
    let stopped = events.iter().find_map(|event| match event.what {
        What::Exited(outcome) => Some(outcome),
        What::Started { .. } => None,
    });
    assert_eq!(stopped.unwrap().reason, ExitReason::Killed);

    // A new server adopts what runs, and its end is told once; what was never submitted is gone.
    let id = attempt(4, 1);
    let flag = state.join("go");
    executor.start(gang(id, &[3], &format!("while ! [ -e {} ]; do sleep 0.05; done; exit 5", flag.display()))).unwrap();
    until("the start", || matches!(events.recv_timeout(PATIENCE).unwrap().what, What::Started { .. }));
    drop(executor);
    let (executor, events) = open(&state);
    let recovered = executor.recover(&[id, attempt(4, 2)]).unwrap();
    assert_eq!(recovered[0].fate, Fate::Alive);
    assert!(matches!(&recovered[1].fate, Fate::Gone(outcomes) if outcomes.is_empty()));
    std::fs::write(&flag, "").unwrap();
    let (ended, _) = ends(&events, 1);
    assert_eq!(ended[&Rank(0)].code, Some(5));
    drop(executor);
    // What ended while nobody looked is told by its records.
    let (executor, _events) = open(&state);
    let recovered = executor.recover(&[id]).unwrap();
    assert!(matches!(&recovered[0].fate, Fate::Gone(outcomes) if outcomes[0].1.code == Some(5)), "{recovered:?}");
    drop(executor);

    // What the hall does not know was started by a server that had been deposed: it is cancelled.
    let (executor, _events) = open(&state);
    executor.start(gang(attempt(6, 1), &[4], "sleep 1000")).unwrap();
    drop(executor);
    assert!(jobs().contains("dh-lab-6.1"));
    let (executor, _events) = open(&state);
    executor.recover(&[]).unwrap();
    until("the end of the stranger", || !jobs().contains("dh-lab-6.1"));
    assert!(executor.running().is_empty());

    // Slurm takes a node down: the job is lost, not failed.
    let (executor, events) = {
        drop(executor);
        open(&state)
    };
    executor.recover(&[]).unwrap();
    let id = attempt(7, 1);
    executor.start(gang(id, &[6], "sleep 1000")).unwrap();
    until("the start", || matches!(events.recv_timeout(PATIENCE).unwrap().what, What::Started { .. }));
    run("scontrol", &["update", "nodename=node6", "state=down", "reason=test"]);
    let (ended, _) = ends(&events, 1);
    assert_eq!(ended[&Rank(0)].reason, ExitReason::WardenLost, "{ended:?}");
}
