//! Runs tasks as processes of this machine, one warden each. See [`crate::warden`] for the other end of the lifelines.
//!
//! Invariants: no signal leaves this process for a task, all go through its warden, except to strays of a warden that
//! was killed; one watching thread serves all tasks. Cost per rank: two file descriptors, five small files.

mod recover;
mod start;
mod usage;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use dh_core::{AttemptId, TaskId};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::executor::{Beats, EventSink, Executor, RankUsage, Recovered, Stop};
use crate::layout::{Durability, Layout, make_folders, open_append, read_json, write_json};
use crate::lifeline::Request;
use crate::limits::VANISH_MS;
use crate::process::{kill_all, marked};
use crate::record::{ExitReason, ExitRecord};
use crate::{Error, GangSpec, cgroup};

use watch::Watch;

/// Runs tasks as local processes.
pub struct LocalExecutor {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
    /// Held as long as this executor lives; the kernel lets go of it even if we are killed.
    _lock: File,
}

struct Shared {
    layout: Layout,
    warden_command: Vec<OsString>,
    /// Of our own program: first in every task's PATH, so that a blueprint can name `datahall` as a task's program.
    own_folder: Option<PathBuf>,
    events: EventSink,
    gangs: Mutex<BTreeMap<AttemptId, Gang>>,
    watch: Watch,
    beats: Option<Beats>,
}

/// A gang that starts or runs.
#[derive(Default)]
struct Gang {
    /// By rank; `None` once the task is gone.
    tasks: Vec<Option<Task>>,
    /// Set by a stop that came while the gang was starting.
    stopped: bool,
    ports: Vec<u16>,
}

struct Task {
    lifeline: ChildStdin,
    warden: u32,
}

impl LocalExecutor {
    /// Opens the executor on `state_dir`, which is made if it does not exist. `warden_command` with the path of a
    /// task record as its last argument must end up in [`crate::warden::main`].
    /// # Errors
    /// [`Error::InUse`] if another process has it open.
    pub fn new(warden_command: Vec<OsString>, state_dir: &Path, events: EventSink) -> Result<Self, Error> {
        Self::with_beats(warden_command, state_dir, events, None)
    }

    /// The same for a server that may be deposed.
    /// # Errors
    /// Those of [`LocalExecutor::new`].
    pub fn with_beats(
        warden_command: Vec<OsString>,
        state_dir: &Path,
        events: EventSink,
        beats: Option<Beats>,
    ) -> Result<Self, Error> {
        if warden_command.is_empty() {
            return Err(Error::doing("start wardens", std::io::Error::other("the warden command is empty")));
        }
        make_folders(state_dir)?;
        let state_dir = state_dir.canonicalize().map_err(|error| Error::os("find", state_dir, error))?;
        let layout = Layout::new(state_dir);
        let lock = open_append(&layout.server_lock())?;
        if !try_lock(&lock, &layout.server_lock())? {
            return Err(Error::InUse(layout.state().to_owned()));
        }
        let own = std::env::current_exe().ok();
        let shared = Arc::new(Shared {
            layout,
            warden_command,
            own_folder: own.as_deref().and_then(Path::parent).map(Path::to_owned),
            events,
            gangs: Mutex::new(BTreeMap::new()),
            watch: Watch::new()?,
            beats,
        });
        let watched = Arc::clone(&shared);
        let watcher = std::thread::Builder::new()
            .name("dh-exec-watch".to_owned())
            .spawn(move || watched.watch_tasks())
            .map_err(|error| Error::doing("start a thread", error))?;
        if shared.beats.is_some() {
            let beating = Arc::downgrade(&shared);
            std::thread::Builder::new()
                .name("dh-exec-beat".to_owned())
                .spawn(move || beat(&beating))
                .map_err(|error| Error::doing("start a thread", error))?;
        }
        Ok(Self { shared, watcher: Some(watcher), _lock: lock })
    }
}

/// Tells the wardens that their server leads, for as long as it does and the executor lives.
fn beat(shared: &Weak<Shared>) {
    while let Some(Beats { every, .. }) = shared.upgrade().and_then(|shared| {
        let beats = shared.beats.clone()?;
        if (beats.leads)() {
            shared.gangs().values_mut().for_each(|gang| gang.send_all(Request::Beat));
        }
        Some(beats)
    }) {
        std::thread::sleep(every);
    }
}

impl Executor for LocalExecutor {
    fn start(&self, gang: GangSpec) -> Result<(), Error> {
        self.shared.start(&gang)
    }

    fn stop(&self, attempt: AttemptId, how: Stop) -> Result<(), Error> {
        let request = match how {
            Stop::Polite => Request::StopPolitely,
            Stop::Now => Request::StopNow,
        };
        let mut gangs = self.shared.gangs();
        match gangs.get_mut(&attempt) {
            Some(gang) => {
                gang.stopped = true;
                gang.send_all(request);
                Ok(())
            }
            None if self.shared.layout.attempt(attempt).is_dir() => Ok(()),
            None => Err(Error::UnknownAttempt(attempt)),
        }
    }

    fn kill_rank(&self, task: TaskId) -> Result<(), Error> {
        let mut gangs = self.shared.gangs();
        let index = usize::try_from(task.rank.0).unwrap_or(usize::MAX);
        let found = gangs.get_mut(&task.attempt).and_then(|gang| gang.tasks.get_mut(index));
        found.and_then(Option::as_mut).ok_or(Error::NotRunning(task))?.send(Request::Fault);
        Ok(())
    }

    fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        self.shared.recover(known)
    }

    fn usage(&self, attempt: AttemptId) -> Result<Vec<RankUsage>, Error> {
        let gangs = self.shared.gangs();
        let gang = gangs.get(&attempt).ok_or(Error::UnknownAttempt(attempt))?;
        let wardens = (0_u32..).zip(&gang.tasks).filter_map(|(rank, task)| Some((rank, task.as_ref()?.warden)));
        let wardens: Vec<(u32, u32)> = wardens.collect();
        // Reading `/proc` takes a while; nobody needs to wait for it.
        drop(gangs);
        Ok(wardens.into_iter().map(|(rank, warden)| usage::of(rank, warden)).collect())
    }

    fn log_path(&self, task: TaskId) -> PathBuf {
        self.shared.layout.task(task).log()
    }

    fn running(&self) -> Vec<AttemptId> {
        self.shared.gangs().keys().copied().collect()
    }
}

/// Lets go of all lifelines and waits until the wardens have ended their tasks.
impl Drop for LocalExecutor {
    fn drop(&mut self) {
        for gang in self.shared.gangs().values_mut() {
            gang.stopped = true;
            gang.send_all(Request::StopPolitely);
        }
        self.shared.watch.close();
        if let Some(watcher) = self.watcher.take()
            && watcher.join().is_err()
        {
            tracing::error!("the watching thread had panicked");
        }
    }
}

impl Gang {
    fn send_all(&mut self, request: Request) {
        for task in self.tasks.iter_mut().flatten() {
            task.send(request);
        }
    }
}

impl Task {
    /// A byte into a pipe that does not block. If the warden is gone the watcher learns it; if it has left thousands
    /// of requests unread, one more changes nothing.
    fn send(&mut self, request: Request) {
        self.lifeline.write_all(&[request.byte()]).unwrap_or(());
    }
}

impl Shared {
    fn gangs(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Gang>> {
        // A panic elsewhere leaves the table as it was between two entries.
        self.gangs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of a task whose warden has ended: its own record, or, if the warden was killed, what is left of it.
    fn end_of(&self, task: TaskId, mark: &str) -> ExitRecord {
        let files = self.layout.task(task);
        match read_json::<ExitRecord>(&files.exit()) {
            Ok(Some(record)) if record.task == task => return record,
            Ok(_) => {}
            Err(error) => tracing::error!(%task, %error, "the exit record cannot be read"),
        }
        let mut message = "its warden was killed or could not write".to_owned();
        if let Some(complaint) = last_line(&files.lock()) {
            message = format!("{message}; its last words: {complaint}");
        }
        let left = sweep(mark);
        if !left.is_empty() {
            message = format!("{message}; processes {left:?} do not end");
        }
        let record = ExitRecord::without_status(task, ExitReason::WardenLost, message);
        if let Err(error) = write_json(&files.exit(), &record, Durability::Power) {
            tracing::error!(%task, %error, "the exit record cannot be written");
        }
        record
    }
}

/// Kills what a killed warden left of the task marked `mark`; what cannot be killed.
fn sweep(mark: &str) -> Vec<u32> {
    let left = kill_all(
        || {
            let (mut members, _) = cgroup::left_behind(mark);
            members.extend(marked(mark));
            members.sort();
            members.dedup();
            members
        },
        Duration::from_millis(VANISH_MS),
    );
    for folder in cgroup::left_behind(mark).1 {
        if let Err(why) = cgroup::remove(&folder) {
            tracing::warn!(why, "a control group stays behind");
        }
    }
    left
}

/// Takes the lock on `file` if nobody has it.
fn try_lock(file: &File, path: &Path) -> Result<bool, Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::os("lock", path, error)),
    }
}

fn last_line(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(1 << 16).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
}
