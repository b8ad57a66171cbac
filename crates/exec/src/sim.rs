//! Runs nothing: each task lasts as long as it says, and ends as it says. A hall of thousands of nodes lives on a laptop so.
//!
//! A task says it by its environment, or by being `sleep SECONDS`:
//!
//! | variable | meaning | if absent |
//! | --- | --- | --- |
//! | `DH_SIM_TIME` | how long it runs, `"90 s"` | the seconds of `sleep`, else 1 s |
//! | `DH_SIM_START` | how long it takes to start | 0 |
//! | `DH_SIM_EXIT` | its exit code | 0 |
//! | `DH_SIM_FAULT` | `RANK@TIME`: this rank is killed so long after its start | never |
//! | `DH_SIM_FAULTS` | in how many attempts, from the first, that happens | 1 |
//!
//! Invariant: the same as for every executor, but for "at most once, ever": after a restart an attempt of before is gone.
//! Cost: one thread; O(log n) per event; no file but where a log would be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dh_core::{AttemptId, Rank, TaskId};
use dh_units::{Bytes, Seconds};

use crate::executor::{EventSink, Executor, Fate, Outcome, RankUsage, Recovered, Stop, TaskEvent, What};
use crate::layout::Layout;
use crate::record::{Bound, Enforcement, ExitReason, now};
use crate::{Error, GangSpec};

const TIME_DEFAULT: Duration = Duration::from_secs(1);

/// The longest simulated time, so that a sum of moments cannot run over.
const TIME_MAX: f64 = 1e9;

/// The signal of a simulated fault.
const KILLED: i32 = 9;

/// Simulates tasks.
pub struct SimExecutor {
    shared: Arc<Shared>,
    clockwork: Option<JoinHandle<()>>,
}

struct Shared {
    layout: Layout,
    events: EventSink,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// What happens when; the number orders what happens at once.
    due: BTreeMap<(Instant, u64), (TaskId, Next)>,
    number: u64,
    /// The ranks of each attempt that have not ended, with the moment of their start once they have.
    alive: BTreeMap<AttemptId, BTreeMap<Rank, Option<Instant>>>,
    used: BTreeSet<AttemptId>,
    closed: bool,
}

/// What happens to a task.
#[derive(Clone, Copy)]
enum Next {
    Start,
    End { code: Option<i32>, signal: Option<i32>, reason: ExitReason },
}

/// How the tasks of a gang behave.
struct Script {
    start: Duration,
    time: Duration,
    code: i32,
    fault: Option<(u32, Duration)>,
}

impl SimExecutor {
    /// Opens it; `state_dir` is only where logs would be.
    /// # Errors
    /// If its thread cannot be started.
    pub fn new(state_dir: &Path, events: EventSink) -> Result<Self, Error> {
        let layout = Layout::new(state_dir.to_owned());
        let shared = Shared { layout, events, table: Mutex::default(), changed: Condvar::new() };
        let shared = Arc::new(shared);
        let running = Arc::clone(&shared);
        let clockwork = std::thread::Builder::new()
            .name("dh-exec-sim".to_owned())
            .spawn(move || running.run())
            .map_err(|error| Error::doing("start a thread", error))?;
        Ok(Self { shared, clockwork: Some(clockwork) })
    }
}

impl Executor for SimExecutor {
    fn start(&self, gang: GangSpec) -> Result<(), Error> {
        gang.check()?;
        let script = Script::of(&gang)?;
        let mut table = self.shared.table();
        if !table.used.insert(gang.attempt) {
            return Err(Error::AlreadyStarted(gang.attempt));
        }
        let starts = Instant::now() + script.start;
        table.alive.insert(gang.attempt, gang.ranks.iter().map(|spec| (spec.rank, None)).collect());
        for spec in &gang.ranks {
            let task = TaskId { attempt: gang.attempt, rank: spec.rank };
            table.plan(starts, task, Next::Start);
            let fault = script.fault.filter(|(rank, _)| *rank == spec.rank.0);
            let limit = gang.limits.time.filter(|limit| *limit < script.time);
            let (time, end) = match (fault, limit) {
                (Some((_, after)), _) if after < script.time => {
                    (after, Next::End { code: None, signal: Some(KILLED), reason: ExitReason::Exited })
                }
                (_, Some(limit)) => {
                    (limit, Next::End { code: None, signal: Some(KILLED), reason: ExitReason::TimeLimit })
                }
                _ => (script.time, Next::End { code: Some(script.code), signal: None, reason: ExitReason::Exited }),
            };
            table.plan(starts + time, task, end);
        }
        drop(table);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn stop(&self, attempt: AttemptId, _how: Stop) -> Result<(), Error> {
        let end = Next::End { code: None, signal: Some(KILLED), reason: ExitReason::Killed };
        self.shared.end(attempt, None, end)
    }

    fn kill_rank(&self, task: TaskId) -> Result<(), Error> {
        let end = Next::End { code: None, signal: Some(KILLED), reason: ExitReason::Exited };
        self.shared.end(task.attempt, Some(task.rank), end).map_err(|_| Error::NotRunning(task))
    }

    fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        let mut table = self.shared.table();
        table.used.extend(known.iter().copied());
        // They were in the memory of a process that is gone.
        Ok(known.iter().map(|attempt| Recovered { attempt: *attempt, fate: Fate::Gone(Vec::new()) }).collect())
    }

    fn usage(&self, attempt: AttemptId) -> Result<Vec<RankUsage>, Error> {
        let table = self.shared.table();
        let ranks = table.alive.get(&attempt).ok_or(Error::UnknownAttempt(attempt))?;
        let of = |(rank, started): (&Rank, &Option<Instant>)| {
            let cpu = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
            RankUsage { rank: *rank, cpu: Seconds(cpu), resident: Bytes(0), processes: u32::from(started.is_some()) }
        };
        Ok(ranks.iter().map(of).collect())
    }

    fn log_path(&self, task: TaskId) -> PathBuf {
        self.shared.layout.task(task).log()
    }

    fn running(&self) -> Vec<AttemptId> {
        self.shared.table().alive.keys().copied().collect()
    }
}

impl Drop for SimExecutor {
    fn drop(&mut self) {
        self.shared.table().closed = true;
        self.shared.changed.notify_one();
        if let Some(clockwork) = self.clockwork.take()
            && clockwork.join().is_err()
        {
            tracing::error!("the thread of simulated tasks had panicked");
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves the table as it was between two entries.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is left of an attempt, or one rank of it, at this moment.
    fn end(&self, attempt: AttemptId, only: Option<Rank>, end: Next) -> Result<(), Error> {
        let mut table = self.table();
        let Some(ranks) = table.alive.get(&attempt) else {
            let used = table.used.contains(&attempt) && only.is_none();
            return if used { Ok(()) } else { Err(Error::UnknownAttempt(attempt)) };
        };
        let ranks: Vec<Rank> = ranks.keys().copied().filter(|rank| only.is_none_or(|only| only == *rank)).collect();
        if ranks.is_empty() {
            return Err(Error::UnknownAttempt(attempt));
        }
        let moment = Instant::now();
        for rank in ranks {
            table.plan(moment, TaskId { attempt, rank }, end);
        }
        drop(table);
        self.changed.notify_one();
        Ok(())
    }

    /// Reports what is due, and sleeps until the next.
    fn run(&self) {
        let mut table = self.table();
        while !table.closed {
            let moment = Instant::now();
            let mut events = Vec::new();
            while let Some(entry) = table.due.first_entry().filter(|entry| entry.key().0 <= moment) {
                let (task, next) = entry.remove();
                events.extend(table.happen(task, next, moment));
            }
            if !events.is_empty() {
                // The sink may take a moment, and nobody needs to wait for it.
                drop(table);
                for event in events {
                    (self.events)(event);
                }
                table = self.table();
                continue;
            }
            let nap = table.due.keys().next().map_or(Duration::from_hours(1), |(at, _)| *at - moment);
            table = self.changed.wait_timeout(table, nap).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Table {
    fn plan(&mut self, at: Instant, task: TaskId, next: Next) {
        self.number += 1;
        self.due.insert((at, self.number), (task, next));
    }

    /// What is to be told of it; nothing if the task has ended before.
    fn happen(&mut self, task: TaskId, next: Next, moment: Instant) -> Option<TaskEvent> {
        let ranks = self.alive.get_mut(&task.attempt)?;
        let started = ranks.get_mut(&task.rank)?;
        let what = match next {
            Next::Start => {
                *started = Some(moment);
                let why = "tasks are simulated".to_owned();
                let bound = Bound::DeclaredOnly(why);
                let enforcement = Enforcement { memory: bound.clone(), processes: bound.clone(), cores: bound };
                What::Started { pid: 0, enforcement }
            }
            Next::End { code, signal, reason } => {
                ranks.remove(&task.rank);
                if ranks.is_empty() {
                    self.alive.remove(&task.attempt);
                }
                What::Exited(Outcome { code, signal, reason, message: String::new(), finished_at: now() })
            }
        };
        Some(TaskEvent { task, what })
    }
}

impl Script {
    fn of(gang: &GangSpec) -> Result<Self, Error> {
        let bad = |name: &str, text: &str| Error::Invalid {
            attempt: gang.attempt,
            why: format!("`{name}` is `{text}`, which a simulated task cannot read"),
        };
        let time = |text: &str| {
            let seconds: f64 = text.parse::<Seconds>().map(|time| time.0).or_else(|_| text.parse()).ok()?;
            (0.0..TIME_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
        };
        let read = |name: &str| {
            let text = gang.env.get(name);
            text.map(|text| time(text).ok_or_else(|| bad(name, text))).transpose()
        };
        let sleeps = match gang.command.as_slice() {
            [program, text] if program.rsplit('/').next() == Some("sleep") => time(text),
            _ => None,
        };
        let number = |name: &str, default: i32| {
            gang.env.get(name).map_or(Ok(default), |text| text.parse::<i32>().map_err(|_| bad(name, text)))
        };
        let attempts = number("DH_SIM_FAULTS", 1)?;
        let strikes = i64::from(gang.attempt.attempt) <= i64::from(attempts);
        let fault = gang.env.get("DH_SIM_FAULT").filter(|_| strikes).map(|text| {
            let parts = text.split_once('@').and_then(|(rank, after)| Some((rank.parse().ok()?, time(after)?)));
            parts.ok_or_else(|| bad("DH_SIM_FAULT", text))
        });
        Ok(Self {
            start: read("DH_SIM_START")?.unwrap_or_default(),
            time: read("DH_SIM_TIME")?.or(sleeps).unwrap_or(TIME_DEFAULT),
            code: number("DH_SIM_EXIT", 0)?,
            fault: fault.transpose()?,
        })
    }
}
