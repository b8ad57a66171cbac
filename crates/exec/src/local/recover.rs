//! After a crash of the server: what became of each rank, and the certainty that nothing of it runs any more.
//!
//! A warden holds the lock of its rank from before it exists until it ends, so a free lock means that the exit record
//! is final or that the warden was killed. Nothing here trusts a pid alone.

use std::time::{Duration, Instant};

use dh_core::limits::{GANG_RANKS_MAX, STOP_GRACE_MS};
use dh_core::{AttemptId, Rank, TaskId};
use rustix::process::Signal;

use super::{Shared, sweep, try_lock};
use crate::Error;
use crate::executor::{Fate, Outcome, Recovered};
use crate::layout::{Durability, open_append, read_json, read_last_json, write_json};
use crate::limits::WIND_DOWN_MS;
use crate::process::{Identity, marked};
use crate::record::{ExitReason, ExitRecord, GangRecord, ProcessRecord};

/// How often the locks of wardens that wind down are tried.
const POLL: Duration = Duration::from_millis(5);

impl Shared {
    pub(super) fn recover(&self, known: &[AttemptId]) -> Result<Vec<Recovered>, Error> {
        if let Some(running) = known.iter().find(|attempt| self.gangs().contains_key(attempt)) {
            return Err(Error::AlreadyStarted(*running));
        }
        // All wardens wind down at once, so one deadline serves all.
        let deadline = Instant::now() + Duration::from_millis(STOP_GRACE_MS + WIND_DOWN_MS);
        known.iter().map(|attempt| self.recover_attempt(*attempt, deadline)).collect()
    }

    fn recover_attempt(&self, attempt: AttemptId, deadline: Instant) -> Result<Recovered, Error> {
        let path = self.layout.gang_record(attempt);
        let Some(gang) = read_json::<GangRecord>(&path)? else {
            return Ok(Recovered { attempt, fate: Fate::Gone(Vec::new()) });
        };
        if gang.ranks > GANG_RANKS_MAX {
            return Err(Error::Corrupt { path, why: format!("a gang of {} ranks", gang.ranks) });
        }
        let outcomes = (0..gang.ranks).map(|rank| {
            let task = TaskId { attempt, rank: Rank(rank) };
            let mark = format!("{}.{rank}", gang.mark);
            Ok((Rank(rank), Outcome::from(self.recover_rank(task, &mark, deadline)?)))
        });
        Ok(Recovered { attempt, fate: Fate::Gone(outcomes.collect::<Result<_, Error>>()?) })
    }

    fn recover_rank(&self, task: TaskId, mark: &str, deadline: Instant) -> Result<ExitRecord, Error> {
        let files = self.layout.task(task);
        let never_started = !files.lock().exists();
        if !never_started {
            self.wait_for_warden(task, mark, deadline)?;
        }
        match read_json::<ExitRecord>(&files.exit()) {
            Ok(Some(record)) if record.task == task => return Ok(record),
            Ok(_) => {}
            // The task is as gone with a damaged record as without one.
            Err(error) => tracing::error!(%task, %error, "the exit record cannot be read"),
        }
        let left = sweep(mark);
        if !left.is_empty() {
            return Err(Error::StillRunning { attempt: task.attempt, pids: left });
        }
        let record = if never_started {
            let message = "its server went away before it was started";
            ExitRecord::without_status(task, ExitReason::LifelineLost, message)
        } else {
            let message = "it and its warden were killed when its server went away, or the machine stopped";
            ExitRecord::without_status(task, ExitReason::WardenLost, message)
        };
        write_json(&files.exit(), &record, Durability::Power)?;
        Ok(record)
    }

    /// Returns when the warden is gone; kills it at the deadline.
    fn wait_for_warden(&self, task: TaskId, mark: &str, deadline: Instant) -> Result<(), Error> {
        let files = self.layout.task(task);
        let path = files.lock();
        let lock = open_append(&path)?;
        let wait_until = |until: Instant| -> Result<bool, Error> {
            loop {
                if try_lock(&lock, &path)? {
                    return Ok(true);
                }
                if Instant::now() >= until {
                    return Ok(false);
                }
                std::thread::sleep(POLL);
            }
        };
        if wait_until(deadline)? {
            return Ok(());
        }
        // By its recorded name if it wrote one, else by the mark it was born with.
        let recorded = read_last_json::<ProcessRecord>(&files.processes()).unwrap_or_default();
        let holders: Vec<Identity> = match recorded {
            Some(record) => vec![record.warden],
            None => marked(mark),
        };
        for holder in &holders {
            if let Err(error) = holder.signal(Signal::KILL) {
                tracing::error!(%task, pid = holder.pid, %error, "a warden cannot be killed");
            }
        }
        if wait_until(Instant::now() + Duration::from_millis(WIND_DOWN_MS))? {
            return Ok(());
        }
        let alive = holders.into_iter().filter(Identity::is_alive).map(|holder| holder.pid);
        Err(Error::StillRunning { attempt: task.attempt, pids: alive.collect() })
    }
}
