//! Starting a gang: every warden is spawned and made ready, then all tasks go, then all are seen to run; or none stays.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use dh_core::{AttemptId, Secret, TaskId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use super::{Gang, Shared, Task, try_lock};
use crate::executor::{TaskEvent, What};
use crate::launch::{Launch, inherited};
use crate::layout::{Durability, make_folder_once, make_folders, open_append, sync_folder, write_json};
use crate::lifeline::{Request, write_header};
use crate::limits::{START_TIMEOUT_MS, STOP_WAIT_MS, TENSORFLOW_RANKS_MAX};
use crate::process::MARK;
use crate::record::{Enforcement, ExitReason, GangRecord, Report, TaskRecord};
use crate::{Error, GangSpec, Ports, free_ports};

/// All tasks are processes of this machine, so they meet here.
const MASTER_ADDR: &str = "127.0.0.1";

/// A warden that was spawned, before the watcher has it.
pub(super) struct Warden {
    pub(super) task: TaskId,
    pub(super) mark: String,
    pub(super) child: Child,
    pub(super) reports: ChildStdout,
    unread: Vec<u8>,
}

impl Shared {
    pub(super) fn start(&self, gang: &GangSpec) -> Result<(), Error> {
        gang.check()?;
        let attempt = gang.attempt;
        if !gang.workdir.is_dir() {
            let why = format!("`workdir` {} is not a folder", gang.workdir.display());
            return Err(Error::Invalid { attempt, why });
        }
        {
            let mut gangs = self.gangs();
            if gangs.contains_key(&attempt) {
                return Err(Error::AlreadyStarted(attempt));
            }
            // In the table before the folder exists: a stop that finds the folder alone takes the attempt for ended.
            gangs.insert(attempt, Gang::default());
        }
        let claimed = self.claim(attempt);
        if claimed.is_err() {
            self.gangs().remove(&attempt);
        }
        claimed?;
        let mut wardens = Vec::with_capacity(gang.ranks.len());
        let brought_up = self.bring_up(gang, &mut wardens).and_then(|started| {
            let events = wardens.iter().zip(started).map(|(warden, (pid, enforcement))| TaskEvent {
                task: warden.task,
                what: What::Started { pid, enforcement },
            });
            let events = events.collect();
            self.hand_over(&mut wardens, events)
        });
        brought_up.map_err(|error| self.take_down(gang, wardens, error))
    }

    /// Makes the attempt's folder, by which it is used up whatever happens next, also for a later server.
    fn claim(&self, attempt: AttemptId) -> Result<(), Error> {
        let folder = self.layout.attempt(attempt);
        let job = folder.parent().unwrap_or(&folder);
        make_folders(job)?;
        if !make_folder_once(&folder)? {
            return Err(Error::AlreadyStarted(attempt));
        }
        sync_folder(job)
    }

    /// Spawns all wardens, waits for all, lets all go, waits for all; stops at the first failure.
    fn bring_up(&self, gang: &GangSpec, wardens: &mut Vec<Warden>) -> Result<Vec<(u32, Enforcement)>, Error> {
        let attempt = gang.attempt;
        let mark = random_hex::<8>()?;
        let ranks = u32::try_from(gang.ranks.len()).unwrap_or(u32::MAX);
        let record = GangRecord { ranks, mark: mark.clone() };
        write_json(&self.layout.gang_record(attempt), &record, Durability::Power)?;
        let ports = self.reserve_ports(gang)?;
        let launch = Launch::new(gang, &ports, MASTER_ADDR);
        let mut secrets = gang.secret_env.clone();
        secrets.insert("DH_GANG_TOKEN".to_owned(), Secret::new(random_hex::<16>()?));
        for (index, spec) in gang.ranks.iter().enumerate() {
            let task = TaskId { attempt, rank: spec.rank };
            let rank_mark = format!("{mark}.{}", spec.rank);
            let record = TaskRecord {
                task,
                command: gang.command.clone(),
                env: self.environment(launch.environment(index), &rank_mark),
                workdir: gang.workdir.clone(),
                cores: spec.cores.clone(),
                memory_bytes: gang.limits.memory.map(|memory| memory.0),
                time_ms: gang.limits.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
                open_files: gang.limits.open_files,
                processes: gang.limits.processes,
                beat_ms: self.beats.as_ref().map(|beats| u64::try_from(beats.patience.as_millis()).unwrap_or(u64::MAX)),
                mark: rank_mark,
            };
            wardens.push(self.spawn(&record, &secrets)?);
        }
        let deadline = Instant::now() + Duration::from_millis(START_TIMEOUT_MS);
        for warden in wardens.iter_mut() {
            match warden.next_report(deadline)? {
                Report::Ready => {}
                Report::Started { .. } => {
                    return Err(warden.garbled("it reports a start before its go"));
                }
            }
        }
        // Whoever was stopped meanwhile may have a successor, which starts the same.
        let leads = self.beats.as_ref().is_none_or(|beats| (beats.leads)());
        match self.gangs().get_mut(&attempt) {
            Some(entry) if leads && !entry.stopped => entry.send_all(Request::Go),
            _ => return Err(Error::StoppedWhileStarting(attempt)),
        }
        let started = wardens.iter_mut().map(|warden| match warden.next_report(deadline)? {
            Report::Started { pid, enforcement } => Ok((pid, enforcement)),
            Report::Ready => Err(warden.garbled("it is ready twice")),
        });
        started.collect()
    }

    fn spawn(&self, record: &TaskRecord, secrets: &BTreeMap<String, Secret<String>>) -> Result<Warden, Error> {
        let task = record.task;
        let files = self.layout.task(task);
        write_json(&files.record(), record, Durability::Process)?;
        let lock = open_append(&files.lock())?;
        // The warden gets the open file as its standard error, and with it the lock, until its last moment.
        if !try_lock(&lock, &files.lock())? {
            return Err(Error::InUse(files.lock()));
        }
        let (program, arguments) = self.warden_command.split_first().ok_or(Error::NotRunning(task))?;
        let spawned = Command::new(program)
            .args(arguments)
            .arg(files.record())
            .env_clear()
            .env(MARK, &record.mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(lock)
            .spawn();
        let mut child =
            spawned.map_err(|error| Error::doing(format!("start the warden {}", program.to_string_lossy()), error))?;
        let warden = child.id();
        let (lifeline, reports) = (child.stdin.take(), child.stdout.take());
        let (Some(mut lifeline), Some(reports)) = (lifeline, reports) else {
            return Err(Error::doing("reach a warden", std::io::Error::other("it has no pipes")));
        };
        // A warden that is gone already says why in its own way; that is read next.
        write_header(&mut lifeline, secrets).unwrap_or(());
        fcntl_setfl(&lifeline, OFlags::NONBLOCK).map_err(|error| Error::doing("set up a lifeline", error))?;
        if let Some(gang) = self.gangs().get_mut(&task.attempt) {
            gang.tasks.push(Some(Task { lifeline, warden }));
        }
        Ok(Warden { task, mark: record.mark.clone(), child, reports, unread: Vec::new() })
    }

    /// The variables of `launch` over those inherited, with our own program first in PATH.
    fn environment(&self, launch: BTreeMap<String, String>, mark: &str) -> BTreeMap<String, String> {
        let server =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut env = inherited(server);
        env.extend(launch);
        env.insert(MARK.to_owned(), mark.to_owned());
        let path = env.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        let folders: Vec<PathBuf> = self.own_folder.iter().cloned().chain(std::env::split_paths(path)).collect();
        // A folder with a colon in its name cannot be in PATH; then the task's PATH stays as it was.
        if let Some(joined) = std::env::join_paths(folders).ok().and_then(|joined| joined.into_string().ok()) {
            env.insert("PATH".to_owned(), joined);
        }
        env
    }

    /// Ports that neither the machine nor another gang of ours uses.
    fn reserve_ports(&self, gang: &GangSpec) -> Result<Ports, Error> {
        const TRIES: u32 = 16;
        let workers = if gang.ranks.len() <= TENSORFLOW_RANKS_MAX { gang.ranks.len() } else { 0 };
        for _ in 0..TRIES {
            let ports = free_ports(workers + 2).map_err(|error| Error::doing("find free ports", error))?;
            let mut gangs = self.gangs();
            if gangs.values().any(|other| other.ports.iter().any(|port| ports.contains(port))) {
                continue;
            }
            if let Some(entry) = gangs.get_mut(&gang.attempt) {
                entry.ports.clone_from(&ports);
            }
            if let [master, jax, tensorflow @ ..] = ports.as_slice() {
                return Ok(Ports { master: *master, jax: *jax, tensorflow: tensorflow.to_vec() });
            }
        }
        Err(Error::doing("find free ports", std::io::Error::other("other gangs hold those that the system offers")))
    }

    /// Ends what was brought up and waits until it is gone; the error that says best why.
    fn take_down(&self, gang: &GangSpec, wardens: Vec<Warden>, error: Error) -> Error {
        let attempt = gang.attempt;
        if let Some(entry) = self.gangs().get_mut(&attempt) {
            entry.send_all(Request::StopNow);
        }
        let deadline = Instant::now() + Duration::from_millis(STOP_WAIT_MS);
        let mut failure = None;
        for mut warden in wardens {
            warden.wait_for_end(deadline);
            let end = self.end_of(warden.task, &warden.mark);
            if end.reason == ExitReason::SpawnFailed {
                failure.get_or_insert(Error::CannotRun { task: warden.task, why: end.message });
            } else if end.reason == ExitReason::WardenLost {
                failure
                    .get_or_insert(Error::doing(format!("start {}", warden.task), std::io::Error::other(end.message)));
            }
        }
        // It stays in the table until nothing of it is left.
        let stopped = self.gangs().remove(&attempt).is_some_and(|entry| entry.stopped);
        match failure {
            Some(Error::CannotRun { task, why }) => Error::CannotRun { task, why },
            _ if stopped => Error::StoppedWhileStarting(attempt),
            // Only a warden that ended by itself knows better than what was seen from here.
            Some(better) if matches!(error, Error::NotRunning(_)) => better,
            _ => error,
        }
    }
}

impl Warden {
    /// The next line from the warden. [`Error::NotRunning`] if it ended instead.
    fn next_report(&mut self, deadline: Instant) -> Result<Report, Error> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| self.garbled(&error.to_string()));
            }
            if !self.readable(deadline)? {
                return Err(Error::StartTimeout { task: self.task, waited_ms: START_TIMEOUT_MS });
            }
            if self.read()? == 0 {
                return Err(Error::NotRunning(self.task));
            }
        }
    }

    fn read(&mut self) -> Result<usize, Error> {
        let mut buffer = [0_u8; 4096];
        let read = self.reports.read(&mut buffer).map_err(|error| Error::doing("read from a warden", error))?;
        self.unread.extend(buffer.iter().take(read));
        Ok(read)
    }

    /// Waits until there is something to read; `false` at the deadline.
    fn readable(&self, deadline: Instant) -> Result<bool, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [PollFd::from_borrowed_fd(self.reports.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::doing("wait for a warden", error)),
            }
        }
    }

    /// Reads to the end, or kills the warden at the deadline; its strays are swept later.
    fn wait_for_end(&mut self, deadline: Instant) {
        let ended = loop {
            match self.readable(deadline) {
                Ok(true) => match self.read() {
                    Ok(0) => break true,
                    Ok(_) => self.unread.clear(),
                    Err(_) => break false,
                },
                Ok(false) | Err(_) => break false,
            }
        };
        if !ended && let Err(error) = self.child.kill() {
            tracing::error!(task = %self.task, %error, "a warden cannot be killed");
        }
        if let Err(error) = self.child.wait() {
            tracing::error!(task = %self.task, %error, "a warden cannot be waited for");
        }
    }

    fn garbled(&self, why: &str) -> Error {
        Error::doing(format!("understand the warden of {}", self.task), std::io::Error::other(why.to_owned()))
    }
}

fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::doing("get random bytes", std::io::Error::other(error)))?;
    Ok(hex::encode(bytes))
}
