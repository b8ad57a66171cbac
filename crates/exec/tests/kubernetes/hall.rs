//! What both tests of the executor need: gangs, an executor that is opened, and what is heard from it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file is a program of its own and uses a part of this"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, NodeId, Rank, Secret, TaskId};
use dh_exec::{
    Cluster, Devices, GangSpec, KubernetesExecutor, NodeEvent, Open, Outcome, RankSpec, TaskEvent, TaskLimits, What,
};
use dh_units::Bytes;

/// How long anything may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn attempt(job: u64, attempt: u32) -> AttemptId {
    AttemptId { job: JobId(job), attempt }
}

/// A gang whose rank `n` is on the node that stands at place `n` of `nodes`, with two devices each.
pub fn gang(attempt: AttemptId, nodes: &[u32]) -> GangSpec {
    let rank = |(rank, node): (u32, &u32)| RankSpec {
        rank: Rank(rank),
        cores: vec![],
        node: NodeId(*node),
        devices: vec![4, 5],
        real: vec![],
        part: None,
    };
    GangSpec {
        attempt,
        name: "a test's gang".to_owned(),
        command: ["train", "$(HOME)"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("TEXT".to_owned(), "a b".to_owned())]),
        secret_env: BTreeMap::from([("KEY".to_owned(), Secret::new("open sesame".to_owned()))]),
        ranks: (0..).zip(nodes).map(rank).collect(),
        devices: Devices::Cuda,
        limits: TaskLimits { memory: Some(Bytes(1 << 30)), ..TaskLimits::default() },
        workdir: std::env::temp_dir(),
    }
}

pub fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !until() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What an executor tells the hall, and whether the hall says that this server leads.
pub struct Ears {
    pub events: Receiver<TaskEvent>,
    pub nodes: Receiver<NodeEvent>,
    pub leads: Arc<AtomicBool>,
}

impl Ears {
    /// Opens the executor of the hall `lab` with three nodes, whose state is below `state` and whose gangs run in time or fail.
    pub fn open(kubeconfig: &Path, state: &Path, term: u64, start_within: Duration) -> (KubernetesExecutor, Self) {
        let (events, nodes, leads) = (channel(), channel(), Arc::new(AtomicBool::new(true)));
        let (of_events, of_nodes, of_leads) = (Mutex::new(events.0), Mutex::new(nodes.0), Arc::clone(&leads));
        let with = Open {
            warden_command: vec!["/bin/datahall".into(), "warden".into()],
            state_dir: state.join("tasks"),
            // A test that is over listens no more.
            events: Arc::new(move |event| of_events.lock().unwrap().send(event).unwrap_or_default()),
            node_events: Arc::new(move |event| of_nodes.lock().unwrap().send(event).unwrap_or_default()),
            hall: "lab".to_owned(),
            nodes: 3,
            hosts: None,
            partition: None,
            cluster: Cluster {
                kubeconfig: Some(kubeconfig.to_owned()),
                image: Some("trainer:1".to_owned()),
                start_within,
                lost_after: Duration::from_secs(1),
                ..Cluster::default()
            },
            term,
            beats: None,
            leads: Arc::new(move || of_leads.load(Ordering::SeqCst)),
        };
        (KubernetesExecutor::new(with).unwrap(), Self { events: events.1, nodes: nodes.1, leads })
    }

    /// Waits until so many ranks are said to have started, with nothing else said.
    pub fn started(&self, ranks: usize) {
        let tasks: Vec<TaskId> = (0..ranks)
            .map(|_| {
                let event = self.events.recv_timeout(PATIENCE).unwrap();
                assert!(matches!(event.what, What::Started { .. }), "{event:?}");
                event.task
            })
            .collect();
        let mut different = tasks.clone();
        different.sort();
        different.dedup();
        assert_eq!(tasks.len(), different.len(), "a rank started twice: {tasks:?}");
    }

    /// The ends of so many ranks by rank, each told once.
    pub fn ends(&self, ranks: usize) -> BTreeMap<Rank, Outcome> {
        let mut ends = BTreeMap::new();
        while ends.len() < ranks {
            let event = self.events.recv_timeout(PATIENCE).unwrap();
            if let What::Exited(outcome) = event.what {
                assert!(ends.insert(event.task.rank, outcome).is_none(), "it ended twice");
            }
        }
        ends
    }
}
