//! A state directory with an executor on it, its events, and a look at what still runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, NodeId, Rank, TaskId};
use dh_exec::{Enforcement, Executor, GangSpec, LocalExecutor, Outcome, RankSpec, TaskEvent, TaskLimits, What, logs};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn attempt(job: u64, attempt: u32) -> AttemptId {
    AttemptId { job: JobId(job), attempt }
}

pub(crate) fn task(attempt: AttemptId, rank: u32) -> TaskId {
    TaskId { attempt, rank: Rank(rank) }
}

pub(crate) fn gang(attempt: AttemptId, ranks: u32, command: &[&str]) -> GangSpec {
    GangSpec {
        attempt,
        name: "test".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        ranks: (0..ranks)
            .map(|rank| RankSpec {
                rank: Rank(rank),
                cores: vec![],
                node: NodeId(0),
                devices: vec![],
                real: vec![],
                part: None,
            })
            .collect(),
        devices: dh_exec::Devices::Cores,
        limits: TaskLimits::default(),
        workdir: std::env::temp_dir(),
    }
}

pub(crate) fn sh(id: AttemptId, ranks: u32, script: &str) -> GangSpec {
    gang(id, ranks, &["sh", "-c", script])
}

pub(crate) fn warden_command() -> Vec<OsString> {
    vec![std::env::current_exe().unwrap().into(), "warden".into()]
}

pub(crate) struct Rig {
    pub(crate) executor: Option<LocalExecutor>,
    events: Receiver<TaskEvent>,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// A new server on an old state directory.
    pub(crate) fn on(folder: tempfile::TempDir) -> Self {
        let (sender, events) = channel();
        let sink = Arc::new(move |event| sender.send(event).unwrap_or(()));
        let executor = LocalExecutor::new(warden_command(), folder.path(), sink).unwrap();
        Self { executor: Some(executor), events, folder }
    }

    pub(crate) fn exec(&self) -> &LocalExecutor {
        self.executor.as_ref().unwrap()
    }

    pub(crate) fn event(&self) -> TaskEvent {
        self.events.recv_timeout(PATIENCE).expect("no event came in time")
    }

    pub(crate) fn no_event(&self) {
        assert_eq!(self.events.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    }

    pub(crate) fn started(&self, count: usize) -> Vec<(TaskId, u32, Enforcement)> {
        let event = |_| match self.event() {
            TaskEvent { task, what: What::Started { pid, enforcement } } => (task, pid, enforcement),
            other => panic!("expected a start, got {other:?}"),
        };
        (0..count).map(event).collect()
    }

    pub(crate) fn exited(&self, count: usize) -> BTreeMap<TaskId, Outcome> {
        let event = |_| match self.event() {
            TaskEvent { task, what: What::Exited(outcome) } => (task, outcome),
            other => panic!("expected an end, got {other:?}"),
        };
        (0..count).map(event).collect()
    }

    /// Starts and runs to the end.
    pub(crate) fn run(&self, gang: GangSpec) -> BTreeMap<TaskId, Outcome> {
        let ranks = gang.ranks.len();
        self.exec().start(gang).unwrap();
        self.started(ranks);
        self.exited(ranks)
    }

    pub(crate) fn log(&self, task: TaskId) -> String {
        let (bytes, _) = logs::read_from(&self.exec().log_path(task), 0, 1 << 20).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn await_log(&self, task: TaskId, text: &str) {
        eventually(PATIENCE, || self.log(task).contains(text));
    }

    pub(crate) fn assert_nothing_runs(&self) {
        let left = traces(self.folder.path());
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

pub(crate) fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "it did not become true within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// Every living process that belongs to this state directory: wardens by their arguments, tasks by the marks in the
/// gang records.
pub(crate) fn traces(state: &Path) -> Vec<(u32, String)> {
    let state = state.canonicalize().unwrap();
    let mut needles = vec![state.to_str().unwrap().to_owned()];
    for record in files(&state).iter().filter(|path| path.ends_with("gang.json")) {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        needles.push(format!("DH_MARK={}.", record["mark"].as_str().unwrap()));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        if pid != std::process::id() && needles.iter().any(|needle| text.contains(needle)) && alive(pid) {
            found.push((pid, text.chars().take(120).collect()));
        }
    }
    found
}

/// Zombies count as gone.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// All files below `folder`.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// The pid in the process record of a rank.
pub(crate) fn recorded_pid(exec: &LocalExecutor, task: TaskId, of: &str) -> u32 {
    let path = exec.log_path(task).with_extension("processes.json");
    // The last line counts.
    let text = fs::read_to_string(path).unwrap();
    let record: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    u32::try_from(record[of]["pid"].as_u64().unwrap()).unwrap()
}

pub(crate) fn kill_9(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
