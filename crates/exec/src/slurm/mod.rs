//! Runs gangs as jobs of a Slurm cluster. The hall chooses the nodes; Slurm starts, holds and cleans up there.
//!
//! An attempt is one Slurm job whose name says hall, job and attempt, so that any server of the hall finds it again: after a crash
//! what waits or runs is adopted, and nothing runs twice. A job of that hall that the hall does not know was started by a server
//! that had been deposed, or died between asking and noting: it is cancelled. Invariant: nothing is submitted or cancelled by a
//! server that does not lead. Cost: one `sbatch` per gang, one `squeue` per second for all of them, a small file per rank and end.

mod client;
mod script;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dh_core::{AttemptId, JobId, NodeId, Rank, TaskId};

use crate::executor::{Executor, Fate, Open, Outcome, RankUsage, Recovered, Stop, TaskEvent, What};
use crate::launch::Launch;
use crate::layout::{Layout, make_folder_once, make_folders, sync_folder};
use crate::record::{Bound, Enforcement, ExitReason, now};
use crate::{Error, GangSpec};

use client::{Host, Seen, State};

/// How often Slurm is asked. One question serves all gangs.
const ASK: Duration = Duration::from_secs(1);
/// How often the files of running gangs are looked at between.
const LOOK: Duration = Duration::from_millis(100);
/// A job that was submitted may be missing from an answer that was on its way already.
const MISSING: Duration = Duration::from_secs(10);
/// What the hall does not know is left alone until it is as old as this: its start may not have been noted yet.
const UNKNOWN: Duration = Duration::from_secs(5);

/// Runs tasks on a Slurm cluster.
pub struct SlurmExecutor {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

struct Shared {
    open: Open,
    layout: Layout,
    hosts: BTreeMap<NodeId, Host>,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    gangs: BTreeMap<AttemptId, Gang>,
    /// Jobs of this hall that no gang accounts for, with the moment at which they were first seen.
    unknown: BTreeMap<u64, Instant>,
    closed: bool,
    /// Nothing is unknown before the hall has said what it knows.
    recovered: bool,
}

struct Gang {
    ranks: u32,
    /// Slurm's number; none while it is being submitted.
    job: Option<u64>,
    /// Whether the ranks were reported as started.
    started: bool,
    /// Whether a stop was asked for.
    stopped: bool,
    since: Instant,
    /// Ranks that have been reported as ended.
    ended: Vec<Rank>,
}

impl SlurmExecutor {
    /// Opens it: asks Slurm for its nodes.
    /// # Errors
    /// If Slurm does not answer, or has fewer nodes than the hall.
    pub fn new(open: Open) -> Result<Self, Error> {
        make_folders(&open.state_dir)?;
        let state = open.state_dir.canonicalize().map_err(|error| Error::os("find", &open.state_dir, error))?;
        let listed = client::hosts(open.partition.as_deref(), open.hosts.as_deref())?;
        let wanted = usize::try_from(open.nodes).unwrap_or(usize::MAX);
        if listed.len() < wanted {
            let why = format!("the blueprint has {wanted} nodes, and Slurm has {}", listed.len());
            return Err(Error::doing("use Slurm", std::io::Error::other(why)));
        }
        let hosts = (0..open.nodes).map(NodeId).zip(listed).collect();
        let shared = Arc::new(Shared {
            open,
            layout: Layout::new(state),
            hosts,
            table: Mutex::default(),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let watcher = std::thread::Builder::new()
            .name("dh-exec-slurm".to_owned())
            .spawn(move || watched.watch())
            .map_err(|error| Error::doing("start a thread", error))?;
        Ok(Self { shared, watcher: Some(watcher) })
    }
}

impl Executor for SlurmExecutor {
    fn start(&self, gang: GangSpec) -> Result<(), Error> {
        gang.check()?;
        let attempt = gang.attempt;
        if self.shared.table().gangs.contains_key(&attempt) {
            return Err(Error::AlreadyStarted(attempt));
        }
        let folder = self.shared.layout.attempt(attempt);
        let job = folder.parent().unwrap_or(&folder);
        make_folders(job)?;
        if !make_folder_once(&folder)? {
            return Err(Error::AlreadyStarted(attempt));
        }
        sync_folder(job)?;
        self.shared.table().gangs.insert(attempt, Gang::new(u32::try_from(gang.ranks.len()).unwrap_or(u32::MAX)));
        let submitted = self.shared.submit(&gang, &folder);
        let mut table = self.shared.table();
        match submitted {
            Ok(number) => {
                let Some(entry) = table.gangs.get_mut(&attempt) else { return Ok(()) };
                (entry.job, entry.since) = (Some(number), Instant::now());
                let stopped = entry.stopped;
                drop(table);
                self.shared.changed.notify_one();
                // A stop that came meanwhile found no number to cancel.
                if stopped { client::cancel(number, None) } else { Ok(()) }
            }
            Err(error) => {
                table.gangs.remove(&attempt);
                Err(error)
            }
        }
    }

    fn stop(&self, attempt: AttemptId, how: Stop) -> Result<(), Error> {
        let mut table = self.shared.table();
        let Some(gang) = table.gangs.get_mut(&attempt) else {
            let was = self.shared.layout.attempt(attempt).is_dir();
            return if was { Ok(()) } else { Err(Error::UnknownAttempt(attempt)) };
        };
        gang.stopped = true;
        let (Some(job), started) = (gang.job, gang.started) else { return Ok(()) };
        drop(table);
        self.shared.may_act(attempt)?;
        match how {
            // A signal alone does not take a job out of the queue.
            Stop::Now if started => client::cancel(job, Some("KILL")),
            Stop::Now | Stop::Polite => client::cancel(job, None),
        }
    }

    fn kill_rank(&self, task: TaskId) -> Result<(), Error> {
        let (job, host) = self.shared.place_of(task)?;
        let place = self.shared.file(task, "pid");
        let text = fs::read_to_string(place).map_err(|_| Error::NotRunning(task))?;
        let pid = text.split_ascii_whitespace().nth(1).ok_or(Error::NotRunning(task))?;
        let step = [
            &format!("--jobid={job}"),
            "--overlap",
            "--nodes=1",
            "--ntasks=1",
            &format!("--nodelist={host}"),
            "kill",
            "-9",
            pid,
        ];
        client::run("srun", &step).map(drop)
    }

    fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        let jobs = client::jobs(&script::prefix(&self.shared.open.hall))?;
        let mut table = self.shared.table();
        let mut recovered = Vec::with_capacity(known.len());
        for attempt in known {
            let ranks = self.shared.ranks(*attempt);
            let fate = match jobs.get(&script::suffix(*attempt)) {
                Some(seen) if matches!(seen.state, State::Waits | State::Runs) => {
                    let gang = Gang { job: Some(seen.id), ..Gang::new(ranks) };
                    table.gangs.insert(*attempt, gang);
                    Fate::Alive
                }
                Some(seen) => Fate::Gone(self.shared.ends(*attempt, ranks, Some(seen), Asked::No)),
                None => Fate::Gone(self.shared.ends(*attempt, ranks, None, Asked::No)),
            };
            recovered.push(Recovered { attempt: *attempt, fate });
        }
        table.recovered = true;
        drop(table);
        self.shared.changed.notify_one();
        Ok(recovered)
    }

    fn usage(&self, attempt: AttemptId) -> Result<Vec<RankUsage>, Error> {
        // What Slurm knows of it is in its accounting; asking each node here would cost more than it tells.
        if self.shared.table().gangs.contains_key(&attempt) {
            Ok(Vec::new())
        } else {
            Err(Error::UnknownAttempt(attempt))
        }
    }

    fn beside(&self, task: TaskId, command: &[String]) -> Option<Result<Vec<OsString>, Error>> {
        Some(self.shared.place_of(task).map(|(job, host)| {
            let folder = self.shared.layout.attempt(task.attempt);
            script::beside(job, &host, &folder, task.rank, command).into_iter().map(OsString::from).collect()
        }))
    }

    fn log_path(&self, task: TaskId) -> PathBuf {
        self.shared.layout.task(task).log()
    }

    fn running(&self) -> Vec<AttemptId> {
        self.shared.table().gangs.keys().copied().collect()
    }
}

impl Drop for SlurmExecutor {
    fn drop(&mut self) {
        self.shared.table().closed = true;
        self.shared.changed.notify_one();
        if let Some(watcher) = self.watcher.take()
            && watcher.join().is_err()
        {
            tracing::error!("the thread that watches Slurm had panicked");
        }
    }
}

/// What the end of the nearest gang waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForTasks,
    /// All its tasks have ended, and Slurm has yet to say so.
    ForSlurm,
}

/// Whether an end was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

impl Gang {
    fn new(ranks: u32) -> Self {
        Self { ranks, job: None, started: false, stopped: false, since: Instant::now(), ended: Vec::new() }
    }

    fn asked(&self) -> Asked {
        if self.stopped { Asked::Yes } else { Asked::No }
    }
}

impl Shared {
    /// Slurm's number of a rank's job, and the host on which the rank is.
    fn place_of(&self, task: TaskId) -> Result<(u64, String), Error> {
        let job = self.table().gangs.get(&task.attempt).and_then(|gang| gang.job).ok_or(Error::NotRunning(task))?;
        let hosts = fs::read_to_string(self.layout.attempt(task.attempt).join("hosts")).unwrap_or_default();
        let rank = usize::try_from(task.rank.0).unwrap_or(usize::MAX);
        let host = hosts.lines().nth(rank).ok_or(Error::NotRunning(task))?;
        Ok((job, host.to_owned()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two entries.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_act(&self, attempt: AttemptId) -> Result<(), Error> {
        if (self.open.leads)() { Ok(()) } else { Err(Error::StoppedWhileStarting(attempt)) }
    }

    fn file(&self, task: TaskId, what: &str) -> PathBuf {
        self.layout.attempt(task.attempt).join(format!("rank-{}.{what}", task.rank))
    }

    /// Ranks of an attempt of an earlier server, by its list of hosts.
    fn ranks(&self, attempt: AttemptId) -> u32 {
        let hosts = fs::read_to_string(self.layout.attempt(attempt).join("hosts")).unwrap_or_default();
        u32::try_from(hosts.lines().count()).unwrap_or(u32::MAX)
    }

    fn submit(&self, gang: &GangSpec, folder: &Path) -> Result<u64, Error> {
        let unknown = gang.ranks.iter().find(|spec| !self.hosts.contains_key(&spec.node));
        if let Some(spec) = unknown {
            let why = format!("rank {} is on {}, which Slurm does not have", spec.rank, spec.node);
            return Err(Error::Invalid { attempt: gang.attempt, why });
        }
        let most = script::nodes_of(gang).values().copied().max().unwrap_or(1);
        let ports = script::ports(gang, most);
        let addresses: Vec<String> =
            gang.ranks.iter().filter_map(|spec| Some(self.hosts.get(&spec.node)?.address.clone())).collect();
        let launch = Launch::on_hosts(gang, &ports, &addresses);
        for (index, spec) in gang.ranks.iter().enumerate() {
            let text = script::variables(&launch.environment(index), spec.devices.len());
            write(&folder.join(format!("rank-{}.env.sh", spec.rank)), &text)?;
        }
        write(&folder.join("rank.sh"), &script::rank(gang, folder))?;
        let hosts = folder.join("hosts");
        write(&hosts, &script::host_list(gang, &self.hosts))?;
        let batch = folder.join("batch.sh");
        write(&batch, &script::batch(gang, folder))?;
        let options = script::options(gang, &self.open.hall, self.open.partition.as_deref(), &self.hosts, folder);
        let mut secrets: Vec<(&str, &str)> =
            gang.secret_env.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        let token = token()?;
        secrets.push(("DH_GANG_TOKEN", &token));
        self.may_act(gang.attempt)?;
        client::submit(&options, &batch, &secrets)
    }

    /// Looks at files often and at Slurm now and then, until the executor is closed.
    fn watch(&self) {
        let mut asked: Option<Instant> = None;
        loop {
            let table = self.table();
            let nap = if table.gangs.values().any(|gang| gang.started) { LOOK } else { ASK };
            let (table, _) = self.changed.wait_timeout(table, nap).unwrap_or_else(PoisonError::into_inner);
            if table.closed {
                return;
            }
            let idle = table.gangs.is_empty() && table.unknown.is_empty();
            drop(table);
            // An idle hall asks seldom: only for what should not be there.
            let every = match (idle, self.look()) {
                (true, _) => ASK * 10,
                (false, Waits::ForTasks) => ASK,
                (false, Waits::ForSlurm) => ASK / 4,
            };
            if asked.is_none_or(|asked| asked.elapsed() >= every) {
                asked = Some(Instant::now());
                match client::jobs(&script::prefix(&self.open.hall)) {
                    Ok(jobs) => self.compare(&jobs),
                    Err(error) => tracing::warn!(%error, "Slurm does not answer; asking again"),
                }
            }
        }
    }

    /// Tells of ranks whose end is on record.
    fn look(&self) -> Waits {
        let mut events = Vec::new();
        let mut waits = Waits::ForTasks;
        let mut table = self.table();
        for (attempt, gang) in table.gangs.iter_mut().filter(|(_, gang)| gang.started) {
            for rank in (0..gang.ranks).map(Rank) {
                if gang.ended.contains(&rank) {
                    continue;
                }
                if let Some(outcome) = self.recorded(TaskId { attempt: *attempt, rank }, gang.asked()) {
                    // A signal may be Slurm's, because a node fails: it says so in its next answer.
                    if outcome.signal.is_some() && !gang.stopped {
                        continue;
                    }
                    // The last end is told when Slurm has cleaned up, which is when the nodes are free.
                    if gang.ended.len() + 1 < usize::try_from(gang.ranks).unwrap_or(usize::MAX) {
                        gang.ended.push(rank);
                        events.push(exited(*attempt, rank, outcome));
                    } else {
                        waits = Waits::ForSlurm;
                    }
                }
            }
        }
        drop(table);
        for event in events {
            (self.open.events)(event);
        }
        waits
    }

    /// What has become of each gang by Slurm's answer, and what runs there that should not.
    fn compare(&self, jobs: &BTreeMap<String, Seen>) {
        let mut events = Vec::new();
        let mut table = self.table();
        let mut over = Vec::new();
        for (attempt, gang) in &mut table.gangs {
            let Some(number) = gang.job else { continue };
            let seen = jobs.get(&script::suffix(*attempt)).filter(|seen| seen.id == number);
            let runs = seen.is_some_and(|seen| seen.state == State::Runs);
            let waits = seen.is_some_and(|seen| seen.state == State::Waits);
            let missing = seen.is_none() && gang.since.elapsed() < MISSING;
            // One that came and went between two questions did run: its files say so.
            let ran = self.file(TaskId { attempt: *attempt, rank: Rank(0) }, "pid").exists();
            if !gang.started && (runs || ran) {
                gang.started = true;
                let pid = u32::try_from(number).unwrap_or(u32::MAX);
                let started = |rank| TaskEvent {
                    task: TaskId { attempt: *attempt, rank },
                    what: What::Started { pid, enforcement: enforcement() },
                };
                events.extend((0..gang.ranks).map(Rank).map(started));
            }
            if runs || waits || missing {
                // Whom a signal ended while Slurm has nothing to say against its job.
                if runs && gang.started && seen.is_some_and(|seen| !seen.lost) {
                    for rank in (0..gang.ranks).map(Rank) {
                        let last = gang.ended.len() + 1 >= usize::try_from(gang.ranks).unwrap_or(usize::MAX);
                        let task = TaskId { attempt: *attempt, rank };
                        if !last
                            && !gang.ended.contains(&rank)
                            && let Some(outcome) = self.recorded(task, gang.asked())
                        {
                            gang.ended.push(rank);
                            events.push(exited(*attempt, rank, outcome));
                        }
                    }
                }
                continue;
            }
            let ends = self.ends(*attempt, gang.ranks, seen, gang.asked());
            let news = ends.into_iter().filter(|(rank, _)| !gang.ended.contains(rank));
            events.extend(news.map(|(rank, outcome)| exited(*attempt, rank, outcome)));
            over.push(*attempt);
        }
        for attempt in over {
            table.gangs.remove(&attempt);
        }
        let strangers = if table.recovered { self.strangers(&mut table, jobs) } else { Vec::new() };
        drop(table);
        for event in events {
            (self.open.events)(event);
        }
        for number in strangers {
            tracing::warn!(number, "cancelling a Slurm job of this hall that the hall does not know");
            if let Err(error) = client::cancel(number, None) {
                tracing::warn!(number, %error, "it was not cancelled");
            }
        }
    }

    /// Jobs of this hall that no gang accounts for, old enough to be none of a start that is under way.
    fn strangers(&self, table: &mut Table, jobs: &BTreeMap<String, Seen>) -> Vec<u64> {
        let open = jobs.iter().filter(|(_, seen)| matches!(seen.state, State::Waits | State::Runs));
        let mut found = BTreeMap::new();
        for (name, seen) in open {
            let known = attempt_of(name).is_some_and(|attempt| {
                table.gangs.get(&attempt).is_some_and(|gang| gang.job.is_none_or(|job| job == seen.id))
            });
            if !known {
                let since = table.unknown.get(&seen.id).copied().unwrap_or_else(Instant::now);
                found.insert(seen.id, since);
            }
        }
        table.unknown = found;
        // A deposed server knows nothing of what its successor runs.
        if !(self.open.leads)() {
            return Vec::new();
        }
        table.unknown.iter().filter(|(_, since)| since.elapsed() >= UNKNOWN).map(|(number, _)| *number).collect()
    }

    /// Each rank's end, once Slurm says that the job is over or knows it no more.
    fn ends(&self, attempt: AttemptId, ranks: u32, seen: Option<&Seen>, asked: Asked) -> Vec<(Rank, Outcome)> {
        let of = |rank| {
            let task = TaskId { attempt, rank };
            // What a signal ended when Slurm took the job down is not the task's own fault.
            let own = |end: &Outcome| end.signal.is_none() || asked == Asked::Yes || seen.is_none_or(|seen| !seen.lost);
            (rank, self.recorded(task, asked).filter(own).unwrap_or_else(|| unrecorded(seen, asked)))
        };
        (0..ranks).map(Rank).map(of).collect()
    }

    /// The end that a rank's shell wrote.
    fn recorded(&self, task: TaskId, asked: Asked) -> Option<Outcome> {
        let text = fs::read_to_string(self.file(task, "exit")).ok()?;
        let status: i32 = text.trim().parse().ok()?;
        // A shell tells a signal by a code above 128.
        let signal = (status > 128 && status < 128 + 65).then_some(status - 128);
        let code = if signal.is_some() { None } else { Some(status) };
        let reason = match (asked, signal) {
            (Asked::Yes, Some(_)) => ExitReason::Killed,
            (Asked::Yes | Asked::No, _) => ExitReason::Exited,
        };
        Some(Outcome { code, signal, reason, message: String::new(), finished_at: now() })
    }
}

/// The end of a rank that left no record.
fn unrecorded(seen: Option<&Seen>, asked: Asked) -> Outcome {
    let (reason, message) = match (asked, seen) {
        (Asked::Yes, _) => (ExitReason::Killed, String::new()),
        (Asked::No, Some(seen)) if seen.state == State::Ended => {
            (ExitReason::Exited, format!("Slurm job {} ended as {} and left no exit code", seen.id, seen.word))
        }
        (Asked::No, Some(seen)) => (ExitReason::WardenLost, format!("Slurm job {} ended as {}", seen.id, seen.word)),
        (Asked::No, None) => (ExitReason::WardenLost, "Slurm does not know its job".to_owned()),
    };
    Outcome { code: None, signal: None, reason, message, finished_at: now() }
}

fn exited(attempt: AttemptId, rank: Rank, outcome: Outcome) -> TaskEvent {
    TaskEvent { task: TaskId { attempt, rank }, what: What::Exited(outcome) }
}

fn enforcement() -> Enforcement {
    let bound = Bound::EnforcedBy("Slurm, as its own configuration says".to_owned());
    Enforcement { memory: bound.clone(), processes: Bound::NotAsked, cores: bound }
}

fn attempt_of(suffix: &str) -> Option<AttemptId> {
    let (job, attempt) = suffix.split_once('.')?;
    Some(AttemptId { job: JobId(job.parse().ok()?), attempt: attempt.parse().ok()? })
}

/// A secret that the ranks of one attempt share.
fn token() -> Result<String, Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::doing("get random bytes", std::io::Error::other(error)))?;
    Ok(hex::encode(bytes))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| Error::os("write", path, error))
}
